"""Where the tensors of a safetensors image lie: its header, read and written.

Everything in a header that comes from outside is checked before it is believed, and nothing is
allocated in proportion to what it merely claims. Names here are part of `bb_ir.params`, which
explains the format; this module must not touch the data of an image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeGuard, cast, final

from bb_ir import types
from bb_ir.buffers import ALIGNMENT
from bb_ir.errors import ParameterSetError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MAX_HEADER_BYTES", "Layout", "bad_header", "read_layout"]

#: Longest header that is read, in bytes: enough for some forty thousand tensors.
MAX_HEADER_BYTES: Final = 4 << 20

#: Longest header whose layout is remembered, so that strangers cannot fill the memory.
_MAX_CACHED_HEADER: Final = 256 << 10
_LENGTH_BYTES: Final = 8
_MAX_RANK: Final = 32
_MAX_BYTES: Final = 1 << 62
_METADATA: Final = "__metadata__"
_ENTRY_KEYS: Final = {"dtype", "shape", "data_offsets"}

#: Our names of element types: those of safetensors and bytes per element.
_DTYPES: Final[Mapping[str, tuple[str, int]]] = {
    "float64": ("F64", 8), "int64": ("I64", 8), "uint64": ("U64", 8),
    "float32": ("F32", 4), "int32": ("I32", 4), "uint32": ("U32", 4),
    "float16": ("F16", 2), "bfloat16": ("BF16", 2), "int16": ("I16", 2), "uint16": ("U16", 2),
    "int8": ("I8", 1), "uint8": ("U8", 1), "bool": ("BOOL", 1),
}  # fmt: skip
_OUR_NAMES: Final[Mapping[str, str]] = {theirs: ours for ours, (theirs, _) in _DTYPES.items()}

#: Name, dtype and shape of one tensor.
_Entry = tuple[str, str, tuple[int, ...]]


@final
@dataclass(frozen=True, eq=False, repr=False)
class Layout:
    """Which tensors an image holds, and where; two layouts are equal if their headers are.

    Make one with `Layout.of`, or take that of a set.

    Attributes:
        names: Names of the tensors in the order of their data.
        dtypes: Element type of each.
        shapes: Shape of each.
        offsets: Where each one's data begins, counted from `data_offset`, in bytes.
        nbytes: Length of the whole image.
        header: The beginning of the image up to the data: length, JSON and padding.
        metadata: Free texts that the header carries.
    """

    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    offsets: tuple[int, ...]
    nbytes: int
    header: bytes
    metadata: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(
        cls,
        tensors: Mapping[str, tuple[str, tuple[int, ...]]],
        *,
        metadata: Mapping[str, str] | None = None,
    ) -> Layout:
        """Lay out tensors that are given as name to (dtype, shape).

        Raises:
            ParameterSetError: A name, dtype or shape cannot stand in a safetensors file.
        """
        entries = tuple((name, dtype, tuple(shape)) for name, (dtype, shape) in tensors.items())
        texts = tuple((metadata or {}).items())
        # A stranger may have chosen these texts, so what is long is not remembered.
        weight = sum(len(str(part)) for entry in (*entries, *texts) for part in entry[:2])
        known = _lay_out if weight <= _MAX_CACHED_HEADER else _lay_out.__wrapped__
        return known(entries, texts)

    @classmethod
    def from_header(cls, header: bytes) -> Layout:
        """Read a layout back from its `header`.

        Raises:
            ParameterSetError: The bytes are not exactly one valid header.
        """
        layout = read_layout(memoryview(header))
        if layout.header != header:
            bad_header(f"{len(header) - layout.data_offset} bytes follow it", "header")
        return layout

    @property
    def data_offset(self) -> int:
        """Where the data begins in the image."""
        return len(self.header)

    @cached_property
    def count(self) -> int:
        """Number of elements of all tensors."""
        return sum(count for _, count in self.runs.values())

    @cached_property
    def runs(self) -> Mapping[str, tuple[int, int]]:
        """Where the tensors of each dtype begin in the data, and how many elements they have.

        The beginning is negative when they do not lie together.
        """
        runs: dict[str, tuple[int, int]] = {}
        for dtype, shape, offset in zip(self.dtypes, self.shapes, self.offsets, strict=True):
            size = _DTYPES[dtype][1]
            added = _nbytes(dtype, shape) // size
            start, count = runs.get(dtype, (offset, 0))
            if count == 0:
                start = offset
            elif added and offset != start + count * size:
                start = -1
            runs[dtype] = (start, count + added)
        return runs

    @cached_property
    def type(self) -> types.Type:
        """The type of a set with this layout."""
        entries = zip(self.names, self.dtypes, self.shapes, strict=True)
        return types.params({name: types.tensor(dtype, shape) for name, dtype, shape in entries})

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return self.header == other.header if isinstance(other, Layout) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.header)

    def __repr__(self) -> str:
        return f"<Layout {self.type}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_read_header, (self.header,))

    def __contains__(self, name: object) -> bool:
        return name in self._index

    @cached_property
    def _index(self) -> Mapping[str, int]:
        return {name: at for at, name in enumerate(self.names)}

    def view(self, buffer: Any, name: str) -> NDArray[Any]:
        """Return the named tensor over an image; it is writable if the image is."""
        at = self._index.get(name)
        if at is None:
            raise KeyError(f"no tensor {name!r}; there are {', '.join(self.names) or 'none'}")
        shape = self.shapes[at]
        found = _vector(buffer, self.dtypes[at], len(self.header) + self.offsets[at], prod(shape))
        return found.reshape(shape)

    def flat(self, buffer: Any, dtype: str) -> NDArray[Any]:
        """Return all tensors of a dtype over an image as one vector."""
        start, count = self.runs.get(dtype, (0, 0))
        if start < 0:
            raise ParameterSetError(
                f"the {dtype} tensors of this set do not lie together",
                expected="tensors of one dtype in one piece, as this project writes them",
                fix="lay it out anew with ParameterSet.from_tensors(dict(params.items()))",
            )
        if dtype not in _DTYPES:
            raise _bad_dtype(dtype)
        return _vector(buffer, dtype, len(self.header) + start, count)


def read_layout(image: memoryview) -> Layout:
    """Find the layout of an image; looks at the length before anything else."""
    size = len(image)
    length = int.from_bytes(image[:_LENGTH_BYTES], "little")
    stop = _LENGTH_BYTES + length
    if size < _LENGTH_BYTES or stop > size:
        raise ParameterSetError(
            f"the image has {size} bytes, its header alone would need {stop}",
            expected="eight bytes with the length of the header, the header, and the data",
            fix="pass the whole bytes of a safetensors file",
            where="length",
        )
    if length > MAX_HEADER_BYTES:
        raise ParameterSetError(
            f"the header has {length} bytes",
            expected=f"at most {MAX_HEADER_BYTES}",
            fix="use fewer tensors, or shorter names",
            where="length",
        )
    header = bytes(image[:stop])
    return _read_header(header) if length <= _MAX_CACHED_HEADER else _parse_header(header)


@lru_cache(maxsize=64)
def _read_header(header: bytes) -> Layout:
    return _parse_header(header)


def _parse_header(header: bytes) -> Layout:
    """Check a header and work out the layout that it describes."""
    table = _load_json(header[_LENGTH_BYTES:])
    metadata = table.pop(_METADATA, {})
    if not _is_texts(metadata):
        bad_header("its __metadata__ is not a mapping of texts", "header")
    found = [(*_read_place(name, entry), _read_entry(name, entry)) for name, entry in table.items()]
    # The order of the data counts. Tensors without data have no place of their own there.
    found.sort(key=lambda one: one[:2])
    end = 0
    for start, stop, (name, dtype, shape) in found:
        if start != end:
            bad_header(
                f"the data begins at {start}, where {end} is the next free byte", _tensor(name)
            )
        if stop - start != _nbytes(dtype, shape):
            bad_header(
                f"the place has {stop - start} bytes; {dtype}{list(shape)} needs "
                f"{_nbytes(dtype, shape)}",
                _tensor(name),
            )
        end = stop
    entries = [entry for _, _, entry in found]
    return Layout(
        names=tuple(name for name, _, _ in entries),
        dtypes=tuple(dtype for _, dtype, _ in entries),
        shapes=tuple(shape for _, _, shape in entries),
        offsets=tuple(start for start, _, _ in found),
        nbytes=len(header) + end,
        header=header,
        metadata=tuple(metadata.items()),
    )


def _load_json(text: bytes) -> dict[str, Any]:
    if not text.startswith(b"{"):
        bad_header(f"it begins with {text[:8]!r}", "header")
    try:
        table = json.loads(
            text.decode("utf-8"), object_pairs_hook=_without_duplicates, parse_constant=_no_constant
        )
    except ParameterSetError:
        raise
    except (ValueError, RecursionError) as error:
        raise ParameterSetError(
            f"the header is not JSON: {error}"[:300],
            expected="a JSON object, padded with spaces",
            fix="check that the bytes are those of a safetensors file, unchanged",
            where="header",
        ) from error
    assert isinstance(table, dict), "a text that begins with a brace and is JSON is an object"
    return cast("dict[str, Any]", table)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        twice = _first_twice([name for name, _ in pairs])
        bad_header(f"the name {_short(twice)} stands twice", "header")
    return table


def _first_twice(names: list[str]) -> str:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    raise AssertionError("no name stands twice")


def _no_constant(text: str) -> NoReturn:
    bad_header(f"{text} is no JSON", "header")


def _is_texts(value: object) -> TypeGuard[dict[str, str]]:
    if type(value) is not dict:
        return False
    return all(type(text) is str for text in cast("dict[str, object]", value).values())


def _are_sizes(value: object) -> TypeGuard[list[int]]:
    if type(value) is not list:
        return False
    # A bool is an int to `isinstance`, not to this.
    numbers = cast("list[object]", value)
    return all(type(n) is int and 0 <= n < _MAX_BYTES for n in numbers)


def _read_place(name: str, entry: dict[str, Any]) -> tuple[int, int]:
    if type(entry) is not dict or set(entry) != _ENTRY_KEYS:
        bad_header("it is not described by dtype, shape and data_offsets alone", _tensor(name))
    place: object = entry["data_offsets"]
    if not _are_sizes(place) or len(place) != 2 or place[0] > place[1]:
        bad_header("its data_offsets are not [begin, end]", _tensor(name))
    return place[0], place[1]


def _read_entry(name: str, entry: dict[str, Any]) -> _Entry:
    dtype = _OUR_NAMES.get(entry["dtype"]) if type(entry["dtype"]) is str else None
    if dtype is None:
        bad_header(
            f"its dtype {_short(entry['dtype'])} is not one of {', '.join(_OUR_NAMES)}",
            _tensor(name),
        )
    shape: object = entry["shape"]
    if not _are_sizes(shape) or len(shape) > _MAX_RANK:
        bad_header(f"its shape is not a list of at most {_MAX_RANK} lengths", _tensor(name))
    _check_size(name, dtype, shape)
    return name, dtype, tuple(shape)


def _check_size(name: str, dtype: str, shape: tuple[int, ...] | list[int]) -> None:
    # Also a tensor without elements must have strides that fit a machine word.
    size = _DTYPES[dtype][1]
    for length in shape:
        size *= max(length, 1)
    if size >= _MAX_BYTES:
        bad_header(f"the shape {list(shape)} is too large for any memory", _tensor(name))


def _nbytes(dtype: str, shape: tuple[int, ...]) -> int:
    return _DTYPES[dtype][1] * prod(shape)


@lru_cache(maxsize=64)
def _lay_out(entries: tuple[_Entry, ...], metadata: tuple[tuple[str, str], ...]) -> Layout:
    """Write the header of a layout of our own and read it back."""
    for name, dtype, shape in entries:
        if type(name) is not str or name == _METADATA:
            raise ParameterSetError(
                f"{name!r} cannot be the name of a tensor",
                expected=f"a text other than {_METADATA!r}",
                fix="rename it",
            )
        if dtype not in _DTYPES:
            raise _bad_dtype(dtype, _tensor(name))
        _check_size(name, dtype, shape)
    table: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    end = 0
    for name, dtype, shape in _grouped(entries):
        start, end = end, end + _nbytes(dtype, shape)
        theirs = _DTYPES[dtype][0]
        table[name] = {"dtype": theirs, "shape": list(shape), "data_offsets": [start, end]}
    try:
        text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    except (UnicodeEncodeError, TypeError) as error:
        raise ParameterSetError(
            f"the header cannot be written: {error}",
            expected="names and metadata that are texts, and shapes that are integers",
            fix="rename the tensor that the message shows",
        ) from error
    text += b" " * (-(_LENGTH_BYTES + len(text)) % ALIGNMENT)
    if len(text) > MAX_HEADER_BYTES:
        raise ParameterSetError(
            f"the header would have {len(text)} bytes",
            expected=f"at most {MAX_HEADER_BYTES}",
            fix="use fewer tensors, shorter names, or less metadata",
        )
    return read_layout(memoryview(len(text).to_bytes(_LENGTH_BYTES, "little") + text))


def _grouped(entries: tuple[_Entry, ...]) -> list[_Entry]:
    """Order tensors: largest elements first, one dtype together, else as they came."""
    first: dict[str, int] = {}
    for at, (_, dtype, _) in enumerate(entries):
        first.setdefault(dtype, at)
    return sorted(entries, key=lambda entry: (-_DTYPES[entry[1]][1], first[entry[1]]))


def _bad_dtype(dtype: str, where: str = "") -> ParameterSetError:
    return ParameterSetError(
        f"{dtype} is not an element type of parameter sets",
        expected=f"one of {', '.join(_DTYPES)}",
        fix="convert the tensor with astype first",
        where=where or (),
    )


def bad_header(what: str, where: str) -> NoReturn:
    raise ParameterSetError(
        f"the header of the image is damaged: {what}",
        expected="a safetensors header whose tensors cover the data exactly, without holes",
        fix="check that the bytes are those of a safetensors file, unchanged",
        where=where,
    )


def _tensor(name: str) -> str:
    return f"tensor {_short(name)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _vector(buffer: Any, dtype: str, start: int, count: int) -> NDArray[Any]:
    import numpy as np

    # `frombuffer` keeps the memoryview as the array's base, so that a read-only one stays so and
    # a loan is seen. `np.ndarray(buffer=...)` would reach through to the writable array beneath.
    return np.frombuffer(buffer, _numpy_dtype(dtype), count, start)


@lru_cache(maxsize=64)
def _numpy_dtype(name: str) -> np.dtype[Any]:
    import numpy as np

    found: np.dtype[Any]
    if name == "bfloat16":
        import ml_dtypes  # comes with onnx; most programs never need it

        found = np.dtype(ml_dtypes.bfloat16)
    else:
        found = np.dtype(name).newbyteorder("<")
    return found
