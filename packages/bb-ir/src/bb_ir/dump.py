"""Plain state as bytes and back: what snapshots, journals and checkpoints of a Node are made of.

Unlike the values of an envelope, whose types both sides know, a dump says itself what it holds:

- nothing, truth values, whole numbers of any size, floats bit by bit, texts, bytes
- lists, tuples and dictionaries of these, in their order
- arrays of the element types of `bb_ir.types`, and parameter sets, as raw bytes at multiples of 64
- ids of peers, and named tuples whose kinds the caller names

An object that occurs several times is written once and is one object again afterwards; that keeps
the parameters that a hundred frames share from being written a hundred times. What is read is
checked against its checksum first, and every length before anything is allocated. Nothing is ever
unpickled.

    magic `BBD1` | version u16 | reserved u16 | CRC-32 of all that follows u32 | length of the
    outline u64 | outline, JSON | padding to 64 | segments, each padded to 64

This module does no I/O.
"""

from __future__ import annotations

import base64
import json
import math
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from bb_ir.errors import DumpError, IdError, ParameterSetError
from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bb_ir.types import ONNX_DTYPES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Kinds", "dump", "load"]

#: Named tuples by the name under which they are written.
Kinds = Mapping[str, type[tuple[Any, ...]]]

_MAGIC: Final = b"BBD1"
_VERSION: Final = 1
_HEAD: Final = struct.Struct("<4sHHIQ")
_ALIGN: Final = 64
_SAFE: Final = 2**53
_DEPTH: Final = 100
_NO_KINDS: Final[Kinds] = MappingProxyType({})


def dump(value: Any, *, kinds: Kinds = _NO_KINDS) -> bytes:
    """Return a value as bytes.

    Args:
        value: What to write.
        kinds: Named tuples that it may hold, by name.

    Raises:
        DumpError: The value holds something that cannot be written; the error says where.
    """
    writer = _Writer({kind: name for name, kind in kinds.items()})
    tree = writer.node(value, "value", 0)
    outline = {"value": tree, "segments": writer.outlines}
    text = json.dumps(outline, separators=(",", ":"), allow_nan=False).encode()
    parts: list[memoryview | bytes] = [text, bytes(-(_HEAD.size + len(text)) % _ALIGN)]
    for segment in writer.segments:
        parts += (segment, bytes(-len(segment) % _ALIGN))
    length = len(text).to_bytes(8, "little")
    check = zlib.crc32(length)
    for part in parts:
        check = zlib.crc32(part, check)
    # Joined once: states are as large as models.
    return b"".join((_HEAD.pack(_MAGIC, _VERSION, 0, check, len(text)), *parts))


def load(data: bytes | memoryview, *, kinds: Kinds = _NO_KINDS) -> Any:
    """Return the value that `dump` wrote; arrays are read-only.

    Raises:
        DumpError: The bytes are no dump, are damaged, or name a kind that is not given.
    """
    view = memoryview(data).cast("B").toreadonly()
    outline, segments = _split(view)
    try:
        return _Reader(kinds, segments, outline["segments"]).node(outline["value"], 0)
    except (KeyError, ValueError, TypeError, IndexError, RecursionError, OverflowError) as error:
        raise DumpError(
            f"the outline of the dump says nothing sensible ({type(error).__name__})",
            expected="what dump() wrote",
        ) from error


def _split(view: memoryview) -> tuple[dict[str, Any], memoryview]:
    """Return the outline and the segments of a dump that is whole."""
    if len(view) < _HEAD.size or bytes(view[:4]) != _MAGIC:
        raise DumpError(f"{len(view)} bytes that begin otherwise", expected=f"a dump: {_MAGIC!r}")
    _, version, reserved, check, length = _HEAD.unpack_from(view)
    if version != _VERSION:
        raise DumpError(f"a dump of version {version}", expected=f"version {_VERSION}")
    if reserved:
        raise DumpError(f"the dump is damaged: its reserved bytes are {reserved:#x}", expected="0")
    if zlib.crc32(view[12:]) != check:
        raise DumpError("the dump is damaged: its checksum differs", fix="take an older one")
    if length > len(view) - _HEAD.size:
        raise DumpError("the dump breaks off in its outline")
    end = _HEAD.size + length
    try:
        outline = json.loads(bytes(view[_HEAD.size : end]))
    except (ValueError, RecursionError) as error:
        raise DumpError("the outline of the dump is no JSON") from error
    if not isinstance(outline, dict):
        raise DumpError("the outline of the dump is no object")
    return cast("dict[str, Any]", outline), view[end + -end % _ALIGN :]


class _Writer:
    def __init__(self, kinds: Mapping[type, str]) -> None:
        self._kinds = kinds
        self._known: dict[int, int] = {}
        #: Keeps what was written alive, so that no two have one identity.
        self._held: list[Any] = []
        self.segments: list[memoryview | bytes] = []
        self.outlines: list[list[Any]] = []
        self._end = 0

    def node(self, given: Any, where: str, depth: int) -> Any:
        value = given  # what the checkers learn below of one name they forget of the other
        if depth > _DEPTH:
            raise DumpError(f"{where.partition('[')[0]} is nested more than {_DEPTH} deep")
        if value is None or value is True or value is False or type(value) is str:
            return value
        if type(value) is int:
            return value if -_SAFE < value < _SAFE else {"i": str(value)}
        if type(value) is float:
            return value if math.isfinite(value) and value else {"f": value.hex()}
        if isinstance(value, PeerId):
            return {"id": value.raw.hex()}
        if isinstance(value, (bytes, bytearray, memoryview)):
            return {"b": base64.b64encode(given).decode()}
        if type(value) in self._kinds:
            items = self._items(given, where, depth)
            return {"k": self._kinds[type(value)], "v": items}
        if type(value) is tuple:
            return {"t": self._items(given, where, depth)}
        if type(value) is list:
            return self._items(given, where, depth)
        if type(value) is dict:
            return {"d": [self._pair(k, v, where, depth) for k, v in given.items()]}
        if isinstance(value, ParameterSet):
            return {"p": self._segment(value, lambda: (value.image, "", ()))}
        return self._array(value, where)

    def _items(self, values: Sequence[Any], where: str, depth: int) -> list[Any]:
        return [self.node(v, f"{where}[{at}]", depth + 1) for at, v in enumerate(values)]

    def _pair(self, key: Any, value: Any, where: str, depth: int) -> list[Any]:
        here = f"{where}[{key!r}]"
        return [self.node(key, here, depth + 1), self.node(value, here, depth + 1)]

    def _array(self, value: Any, where: str) -> Any:
        dtype = getattr(value, "dtype", None)
        if dtype is None or dtype.name not in ONNX_DTYPES:
            raise DumpError(
                f"{where} is a {type(value).__name__}" + (f" of {dtype}" if dtype else ""),
                expected="plain data, arrays, parameter sets and peers",
                fix="save what it stands for: numbers, texts, lists, dictionaries and arrays",
            )

        def raw() -> tuple[memoryview, str, tuple[int, ...]]:
            import numpy as np

            array: NDArray[Any] = np.asarray(value, order="C")
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            return little.reshape(-1).view(np.uint8).data, array.dtype.name, array.shape

        scalar = not hasattr(value, "__setitem__")
        return {"s" if scalar else "a": self._segment(value, raw)}

    def _segment(
        self, value: Any, raw: Callable[[], tuple[memoryview, str, tuple[int, ...]]]
    ) -> int:
        known = self._known.get(id(value))
        if known is not None:
            return known
        data, dtype, shape = raw()
        index = self._known[id(value)] = len(self.segments)
        self._held.append(value)
        self.segments.append(data)
        self.outlines.append([self._end, data.nbytes, dtype, list(shape)])
        self._end += data.nbytes + -data.nbytes % _ALIGN
        return index


class _Reader:
    def __init__(self, kinds: Kinds, segments: memoryview, outlines: list[list[Any]]) -> None:
        self._kinds = kinds
        self._segments = segments
        self._outlines = outlines
        self._made: dict[tuple[str, int], Any] = {}

    def node(self, node: Any, depth: int) -> Any:
        if depth > 2 * _DEPTH:
            raise DumpError(f"the dump is nested more than {_DEPTH} deep")
        if isinstance(node, list):
            return self._list(cast("Any", node), depth)
        if not isinstance(node, dict):
            return node
        marks = cast("dict[str, Any]", node)
        for mark in marks:
            return self._marked(mark, marks, depth)
        raise DumpError("the dump holds a value without a kind")

    def _list(self, items: list[Any], depth: int) -> list[Any]:
        return [self.node(one, depth + 1) for one in items]

    def _marked(self, mark: str, node: dict[str, Any], depth: int) -> Any:
        held = node[mark]
        if mark == "t":
            return tuple(self.node(held, depth))
        if mark == "d":
            return {self.node(k, depth + 1): self.node(v, depth + 1) for k, v in held}
        if mark == "k":
            return self._kind(held, self.node(node["v"], depth))
        if mark in ("p", "a", "s"):
            return self._raw(mark, held)
        return _PLAIN[mark](held)

    def _kind(self, name: str, items: list[Any]) -> Any:
        kind = self._kinds.get(name)
        if kind is None:
            raise DumpError(f"the dump holds a {name!r}", expected=", ".join(self._kinds) or "none")
        return kind(*items)

    def _raw(self, mark: str, index: int) -> Any:
        if (mark, index) not in self._made:
            self._made[mark, index] = self._make(mark, index)
        return self._made[mark, index]

    def _make(self, mark: str, index: int) -> Any:
        start, length, dtype, shape = self._outlines[index]
        if min(start, length) < 0 or start + length > len(self._segments):
            raise DumpError("the dump breaks off in a tensor")
        data = self._segments[start : start + length]
        if mark == "p":
            try:
                return ParameterSet.from_image(data)
            except ParameterSetError as error:
                raise DumpError(f"a parameter set of the dump is damaged: {error.found}") from error
        if dtype not in ONNX_DTYPES or dtype == "string":
            raise DumpError(f"the dump holds an array of {dtype!r}")
        import numpy as np

        array = np.frombuffer(data, _dtype(dtype)).reshape([int(dim) for dim in shape])
        return array[()] if mark == "s" else array


def _dtype(name: str) -> np.dtype[Any]:
    import numpy as np

    if name == "bfloat16":
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return found
    little: np.dtype[Any] = np.dtype(name).newbyteorder("<")
    return little


def _peer(text: str) -> PeerId:
    try:
        return PeerId(bytes.fromhex(text))
    except IdError as error:
        raise DumpError(f"a peer of the dump is no id: {error.found}") from error


_PLAIN: Final[Mapping[str, Callable[[str], Any]]] = MappingProxyType(
    {"i": int, "f": float.fromhex, "b": lambda text: base64.b64decode(text, validate=True),
     "id": _peer}
)  # fmt: skip
