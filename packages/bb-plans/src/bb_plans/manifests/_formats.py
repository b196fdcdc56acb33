"""Headers of npy and safetensors files, read as a stranger's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from math import prod
from types import MappingProxyType
from typing import Any, Final, cast

import numpy as np

from bb_plans.manifests._tensors import ITEM_BYTES, Tensor, damaged, placed

__all__ = ["MAX_HEADER_BYTES", "npy_tensors", "safetensors_tensors"]

#: Longest header of a safetensors file, as its reference implementation has it.
MAX_HEADER_BYTES: Final = 100_000_000

_NPY_MAGIC: Final = b"\x93NUMPY"
_NPY_HEAD: Final = 1 << 16
_NPY_HEADER: Final = re.compile(
    rb"\{'descr': '(?P<dtype>[<|][a-z][0-9]{1,2})', 'fortran_order': (?P<by_column>True|False), "
    rb"'shape': \((?P<shape>|[0-9]{1,18}(?:, [0-9]{1,18})*,?)\), \}\s*"
)
_NPY_DTYPES: Final = {np.dtype(name).str: name for name in ITEM_BYTES if name in np.sctypeDict}
_DTYPES: Final[Mapping[str, str]] = MappingProxyType({
    "F64": "float64", "I64": "int64", "U64": "uint64", "C64": "complex64",
    "F32": "float32", "I32": "int32", "U32": "uint32",
    "F16": "float16", "BF16": "bfloat16", "I16": "int16", "U16": "uint16",
    "I8": "int8", "U8": "uint8", "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
})  # fmt: skip


def npy_tensors(path: str, data: memoryview) -> list[Tensor]:
    """Return the tensor of an npy file; none if its elements are in another order than spans'.

    Format: numpy.lib.format, versions 1.0 and 2.0. Files of big-endian, structured or object
    elements, those in column-major order, and those with another header are taken as they are.

    Raises:
        ModelFileDamaged: It is no npy file, or its header says more than there is.
    """
    magic, version = bytes(data[:6]), bytes(data[6:8])
    begin = 12 if version[:1] == b"\x02" else 10
    length = int.from_bytes(data[8:begin], "little")
    if magic != _NPY_MAGIC or begin + length > len(data):
        damaged(path, f"its header is said to have {length} bytes, and the file has {len(data)}")
    if version not in (b"\x01\x00", b"\x02\x00") or length > _NPY_HEAD:
        return []
    # As numpy writes it. Its reader would evaluate the text; what reads otherwise stays whole.
    found = _NPY_HEADER.fullmatch(bytes(data[begin : begin + length]))
    if found is None or found["dtype"].decode() not in _NPY_DTYPES:
        return []
    shape = tuple(int(one) for one in found["shape"].replace(b",", b" ").split())
    if found["by_column"] == b"True" and len(shape) > 1:
        return []
    dtype = _NPY_DTYPES[found["dtype"].decode()]
    tensor = Tensor(begin + length, prod(shape) * ITEM_BYTES[dtype], "", dtype, shape)
    return [placed(path, len(data), tensor)]


def safetensors_tensors(path: str, data: memoryview) -> list[Tensor]:
    """Return the tensors of a safetensors file.

    Format: eight bytes with the length of a JSON header, little-endian, the header, the data.

    Raises:
        ModelFileDamaged: The header is no such header, is longer than 100 MB, or describes tensors
            that are not in the file or share bytes.
    """
    size = len(data)
    length = int.from_bytes(data[:8], "little")
    begin = 8 + length
    if size < 8 or length > MAX_HEADER_BYTES or begin > size:
        damaged(path, f"its header is said to have {length} bytes, and the file has {size}")
    try:
        table: object = json.loads(bytes(data[8:begin]))
    except (ValueError, RecursionError) as error:
        damaged(path, f"its header is not JSON ({error})"[:200])
    if not isinstance(table, dict):
        damaged(path, "its header is no JSON object")
    named = cast("dict[str, Any]", table)
    found = [
        placed(path, size, _entry(path, begin, name, entry))
        for name, entry in named.items()
        if name != "__metadata__"
    ]
    found.sort()
    end = begin
    for tensor in found:
        if tensor.offset < end:
            damaged(path, f"tensor {tensor.name[:80]!r} begins at {tensor.offset}, before {end}")
        end = tensor.offset + tensor.length
    return found


def _entry(path: str, begin: int, name: str, entry: object) -> Tensor:
    told: dict[str, Any] = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
    place: Any = told.get("data_offsets")
    shape: Any = told.get("shape")
    dtype: Any = told.get("dtype")
    if not (_sizes(place) and _sizes(shape) and isinstance(dtype, str)) or len(place) != 2:
        damaged(path, f"tensor {name[:80]!r} is not described by dtype, shape and data_offsets")
    first, last = place
    return Tensor(begin + first, last - first, name, _DTYPES.get(dtype, ""), tuple(shape))


def _sizes(value: Any) -> bool:
    # A bool is an int to `isinstance`, not to this.
    return isinstance(value, list) and all(
        type(one) is int and 0 <= one < 1 << 62 for one in cast("list[object]", value)
    )
