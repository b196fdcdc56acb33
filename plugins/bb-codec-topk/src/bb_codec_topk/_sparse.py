"""The form of an encoded set, and what a stranger may have written into one.

An encoded set is a parameter set with the metadata of the original and four tensors, whose lengths
follow from the type of the original and the configuration:

    layout   uint8    compact JSON: {"codec":"topk/1","tensors":{"w":["float32",[3,2]]}}, with name,
                      dtype and shape of each tensor of the original, in order
    indices  int32, or int64 from 2^31 elements on: places of the entries in all float tensors laid
                      end to end in order, each row by row; strictly ascending
    values   float32, or float64 if the original has float64 tensors: the entries
    kept     uint8    the bytes of all other tensors in order

This module allocates nothing in proportion to what a layout claims, and chooses no entries.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import prod
from typing import Any, Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from bb_codec_topk.errors import SparseDamaged
from bb_ir.errors import ParameterSetError
from bb_ir.params import MAX_HEADER_BYTES, Layout, ParameterSet

__all__ = [
    "TENSORS",
    "Part",
    "canonical",
    "check_set",
    "checked_bools",
    "damaged",
    "encoded_layout",
    "float_count",
    "parts_of",
    "read_layout_text",
    "wide_dtype",
    "written",
]

_CODEC: Final = "topk/1"
_FLOATS: Final = ("float64", "float32", "float16", "bfloat16")
TENSORS: Final = ("layout", "indices", "values", "kept")
_INT32: Final = 1 << 31


class Part(NamedTuple):
    """Where a tensor lies: `place` in the floats laid end to end, or in the kept bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    place: slice
    #: Whether entries are chosen from it; else it is kept as it is.
    sparse: bool


def parts_of(layout: Layout) -> list[Part]:
    """Return where each tensor lies."""
    floats = kept = 0
    parts: list[Part] = []
    for name, dtype, shape in _described(layout):
        if dtype in _FLOATS:
            end = floats + prod(shape)
            parts.append(Part(name, dtype, shape, slice(floats, end), sparse=True))
            floats = end
        else:
            end = kept + prod(shape) * np.dtype(dtype).itemsize
            parts.append(Part(name, dtype, shape, slice(kept, end), sparse=False))
            kept = end
    return parts


def float_count(parts: Iterable[Part]) -> int:
    """Return the number of elements among which entries are chosen."""
    return max((part.place.stop for part in parts if part.sparse), default=0)


def wide_dtype(layout: Layout) -> str:
    """Return the dtype that holds every float of a set exactly."""
    return "float64" if "float64" in layout.dtypes else "float32"


def canonical(layout: Layout) -> Layout:
    """Return a layout as decoding makes it again; only one from elsewhere differs from that."""
    tensors = {name: (dtype, shape) for name, dtype, shape in _described(layout)}
    return Layout.of(tensors, metadata=dict(layout.metadata))


def written(layout: Layout) -> bytes:
    """Return what a set held, as text."""
    return _text({name: [dtype, list(shape)] for name, dtype, shape in _described(layout)})


def encoded_layout(layout: Layout, parts: list[Part], entries: int) -> Layout:
    """Return the layout of an encoded set with so many entries."""
    kept = max((part.place.stop for part in parts if not part.sparse), default=0)
    index = _index_dtype(float_count(parts))
    tensors = {
        "layout": ("uint8", (len(written(layout)),)),
        "indices": (index, (entries,)),
        "values": (wide_dtype(layout), (entries,)),
        "kept": ("uint8", (kept,)),
    }
    return Layout.of(tensors, metadata=dict(layout.metadata))


def read_layout_text(params: ParameterSet) -> Layout:
    """Return the layout of the original; believe nothing.

    Raises:
        SparseDamaged: It cannot be read, or is not spelled as it is written.
    """
    if set(params.names) != set(TENSORS):
        raise damaged(f"it has the tensors {', '.join(params.names)[:200] or 'none'}")
    _check_vector(params, "layout", "uint8")
    text = params["layout"].tobytes()
    if len(text) > MAX_HEADER_BYTES:
        raise damaged(f"its layout has {len(text)} bytes")
    try:
        told: Any = json.loads(text)
        codec, tensors = told["codec"], told["tensors"]
        same = _text(tensors) == text
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise damaged(f"its layout cannot be read: {type(error).__name__}") from error
    if codec != _CODEC:
        raise damaged(f"its layout names codec {codec!r:.40}")
    if not same or not isinstance(tensors, dict):
        raise damaged("its layout is spelled otherwise than it is written")
    entries = cast("dict[str, Any]", tensors)
    try:
        described = {name: _entry(entry) for name, entry in entries.items()}
        return Layout.of(described, metadata=dict(params.layout.metadata))
    except (ParameterSetError, ValueError, TypeError) as error:
        raise damaged(f"its layout cannot be read: {error!s:.200}") from error


def check_set(params: ParameterSet, layout: Layout, parts: list[Part]) -> None:
    """Compare dtypes and lengths with the layout, and see that each place is named once.

    Raises:
        SparseDamaged: They do not fit.
    """
    count = float_count(parts)
    kept = max((part.place.stop for part in parts if not part.sparse), default=0)
    _check_vector(params, "indices", _index_dtype(count))
    _check_vector(params, "values", wide_dtype(layout))
    _check_vector(params, "kept", "uint8")
    indices, values = params["indices"], params["values"]
    if indices.size != values.size:
        raise damaged(f"it has {indices.size} indices and {values.size} values")
    if params["kept"].size != kept:
        raise damaged(f"it keeps {params['kept'].size} bytes where its layout asks for {kept}")
    if indices.size and not (indices[0] >= 0 and indices[-1] < count):
        raise damaged(f"it has an index outside of its {count} numbers")
    if (indices[1:] <= indices[:-1]).any():
        raise damaged("its indices do not ascend")
    if not np.isfinite(values).all():
        raise damaged("it has a value that is not finite")


def damaged(found: str) -> SparseDamaged:
    """Return the error for a set that was not encoded like this."""
    return SparseDamaged(
        f"this set cannot be decoded: {found}",
        expected=f"what the codec {_CODEC} has encoded, unchanged",
        fix="decode what `encode` or `compress` returned, with a codec of the same name",
    )


def checked_bools(kept: NDArray[np.uint8], part: Part) -> NDArray[np.uint8]:
    """Return the bytes of a tensor that is kept as it is.

    Raises:
        SparseDamaged: It is of bools and holds other bytes than 0 and 1.
    """
    if part.dtype == "bool" and (kept > 1).any():
        raise damaged(f"tensor {part.name!r} is of bools and holds other bytes than 0 and 1")
    return kept


def _described(layout: Layout) -> Iterable[tuple[str, str, tuple[int, ...]]]:
    return zip(layout.names, layout.dtypes, layout.shapes, strict=True)


def _text(tensors: object) -> bytes:
    return json.dumps({"codec": _CODEC, "tensors": tensors}, separators=(",", ":")).encode()


def _index_dtype(count: int) -> str:
    return "int32" if count < _INT32 else "int64"


def _check_vector(params: ParameterSet, name: str, dtype: str) -> None:
    tensor = params[name]
    if tensor.ndim != 1 or tensor.dtype.name != dtype:
        raise damaged(f"its {name} are {tensor.dtype.name}{list(tensor.shape)}, not {dtype}")


def _entry(entry: Any) -> tuple[str, tuple[int, ...]]:
    """Return dtype and shape of one tensor as it was written."""
    dtype, shape = entry
    if type(dtype) is not str or any(type(length) is not int for length in shape):
        raise TypeError("a tensor is not described by its dtype and its shape")
    return dtype, tuple(shape)
