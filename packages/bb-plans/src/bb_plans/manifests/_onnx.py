"""Where the initializers of an ONNX model lie, in its file or beside it.

Protobuf's own reader does not tell where in a file something was, so this one walks the encoding
(https://protobuf.dev/programming-guides/encoding/) down to the initializers and looks at nothing
else. What other fields hold, the tensors of attributes included, stays in runs of no tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from bb_plans.manifests._tensors import Tensor, damaged, placed

__all__ = ["External", "onnx_tensors"]

# Numbers of fields, from onnx.proto.
_GRAPH: Final = 7  # of ModelProto
_INITIALIZER: Final = 5  # of GraphProto
_KEY, _VALUE = 1, 2  # of StringStringEntryProto
_EXTERNAL: Final = 1

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

#: TensorProto.DataType, those of whole bytes.
_DTYPES: Final[Mapping[int, str]] = MappingProxyType({
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64",
    15: "complex128", 16: "bfloat16", 17: "float8_e4m3fn", 18: "float8_e4m3fnuz",
    19: "float8_e5m2", 20: "float8_e5m2fnuz", 24: "float8_e8m0fnu",
})  # fmt: skip


class External(NamedTuple):
    """A tensor whose bytes are in another file.

    Attributes:
        location: That file, as the model says it, relative to the model's folder.
        tensor: Where it lies there; a length of -1 stands for the rest of the file.
    """

    location: str
    tensor: Tensor


class _Field(NamedTuple):
    """A field of a message: `value` of a number, else the bytes from `begin` to `end`."""

    number: int
    wire: int
    value: int
    begin: int
    end: int


def onnx_tensors(path: str, data: memoryview) -> tuple[list[Tensor], list[External]]:
    """Return the initializers of the main graph: those in the file, and those beside it.

    Raises:
        ModelFileDamaged: The file ends within a field, is no protobuf message, or has an
            initializer of other bytes than its type and shape say.
    """
    inside: list[Tensor] = []
    beside: list[External] = []
    for graph in _messages(path, data, 0, len(data), _GRAPH):
        for initializer in _messages(path, data, graph.begin, graph.end, _INITIALIZER):
            found = _initializer(path, data, initializer)
            if isinstance(found, External):
                beside.append(found)
            elif found is not None:
                inside.append(found)
    return inside, beside


def _initializer(path: str, data: memoryview, message: _Field) -> Tensor | External | None:
    dims: list[int] = []
    facts: dict[str, str] = {}
    name, data_type, external = "", 0, False
    raw: _Field | None = None
    for field in _fields(path, data, message.begin, message.end):
        match field.number, field.wire:
            case 1, 0:  # dims, also packed
                dims.append(field.value)
            case 1, 2:
                dims += _packed(path, data, field)
            case 2, 0:  # data_type
                data_type = field.value
            case 8, 2:  # name
                name = _text(data, field)
            case 9, 2:  # raw_data
                raw = field
            case 13, 2:  # external_data
                facts |= _entry(path, data, field)
            case 14, 0:  # data_location
                external = field.value == _EXTERNAL
            case _:
                pass  # numbers in other fields stay what they are
    dtype, shape = _DTYPES.get(data_type, ""), tuple(dims)
    if external:
        offset, length = _number(path, facts, "offset", 0), _number(path, facts, "length", -1)
        return External(facts.get("location", ""), Tensor(offset, length, name, dtype, shape))
    if raw is None or raw.begin == raw.end:
        return None
    return placed(path, len(data), Tensor(raw.begin, raw.end - raw.begin, name, dtype, shape))


def _entry(path: str, data: memoryview, message: _Field) -> dict[str, str]:
    told = {
        field.number: _text(data, field)
        for field in _fields(path, data, message.begin, message.end)
        if field.wire == _BYTES
    }
    return {told.get(_KEY, ""): told.get(_VALUE, "")}


def _number(path: str, facts: Mapping[str, str], key: str, default: int) -> int:
    text = facts.get(key, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        damaged(path, f"the {key} of external data is {text[:40]!r}")
    return int(text)


def _text(data: memoryview, field: _Field) -> str:
    return bytes(data[field.begin : field.end][:4096]).decode("utf-8", "replace")


def _packed(path: str, data: memoryview, field: _Field) -> Iterator[int]:
    at = field.begin
    while at < field.end:
        value, at = _varint(path, data, at, field.end)
        yield value


def _messages(path: str, data: memoryview, begin: int, end: int, number: int) -> Iterator[_Field]:
    for field in _fields(path, data, begin, end):
        if field.number == number and field.wire == _BYTES:
            yield field


def _fields(path: str, data: memoryview, begin: int, end: int) -> Iterator[_Field]:
    at = begin
    while at < end:
        tag, at = _varint(path, data, at, end)
        number, wire, value, start = tag >> 3, tag & 7, 0, at
        if wire == _VARINT:
            value, at = _varint(path, data, at, end)
        elif wire == _BYTES:
            length, start = _varint(path, data, at, end)
            at = start + length
        elif wire in (_FIXED32, _FIXED64):
            at += 4 if wire == _FIXED32 else 8
        else:
            damaged(path, f"no ONNX model has a field of wire type {wire}, as at byte {start}")
        if not number or at > end:
            damaged(path, f"field {number} at byte {start} ends at {at}, past {end}")
        yield _Field(number, wire, value, start, at)


def _varint(path: str, data: memoryview, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            damaged(path, f"it is cut off at byte {at}")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    else:
        damaged(path, f"no number ends at byte {at}")
    return value, at
