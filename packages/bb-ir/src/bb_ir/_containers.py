"""Lists and records that hold more than plain data: tensors, parameters, bytes, peers and such.

The type says all about the shape of the bytes, so no names and no kinds travel:

    4 bytes      length of the head, little-endian
    head         in the order of the type: for a list the number of its items; for any other value
                 its length, and for a tensor then codec, number of dimensions and dimensions
    body         the values in the same order

Numbers of the head are varints. The body and, within it, each tensor, parameter set, bytes and
plugin's value start at multiples of 64 bytes, all others where the one before ended. A part of the
type that holds plain data only is one value, written as `bb_ir._plain` does.

Writing gathers everything into one buffer, which copies each value once: what is large and stands
alone is sent through a port of its own, and then not copied. Reading copies nothing large: tensors
and parameter sets are views of the buffer. How single values are written and read is handed in.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, cast

from bb_ir._plain import MAX_PLAIN_BYTES, names_of, unlike, wrong
from bb_ir._varint import decode_varint, encode_varint
from bb_ir.errors import WireError
from bb_ir.types import Type

__all__ = ["MAX_VALUES", "Read", "Write", "is_plain", "read_container", "write_container"]

#: Most values in one list or record that holds more than plain data, lists counted too.
MAX_VALUES: Final = 1 << 16

_ALIGNMENT: Final = 64
_LENGTH: Final = struct.Struct("<I")
_ALIGNED: Final = frozenset({"tensor", "params", "bytes", "custom"})
_PLAIN: Final = frozenset({"int64", "float64", "bool", "string", "trigger", "any"})

#: Returns data, codec and shape of one value.
Write = Callable[[object, Type], tuple[bytes | memoryview, int, tuple[int, ...]]]
#: Returns one value of a type, codec, data and shape.
Read = Callable[[Type, int, memoryview, tuple[int, ...]], Any]


def is_plain(declared: Type) -> bool:
    """Say whether a type holds plain data only; what it leaves open is plain data too."""
    if declared.kind not in ("list", "record"):
        return declared.kind in _PLAIN
    for _, item in declared.items or ():  # noqa: SIM110  # asked for every record that is sent
        if not is_plain(item):
            return False
    return True


class _Plan(NamedTuple):
    """A type taken apart once: `items` of a list or record, `None` for a value."""

    type: Type
    items: tuple[tuple[str, Any], ...] | None


@lru_cache(maxsize=1024)
def _plan(declared: Type) -> _Plan:
    if declared.kind not in ("list", "record") or is_plain(declared):
        return _Plan(declared, None)
    return _Plan(declared, tuple((name, _plan(item)) for name, item in declared.items or ()))


# --- writing ---------------------------------------------------------------------------------


def write_container(value: object, declared: Type, write: Write) -> bytes:
    """Return the bytes of a list or record.

    Raises:
        WireError: It, or a value in it, is not of the declared type, or there are too many.
    """
    writer = _Writer(write)
    writer.put(value, _plan(declared), "The value")
    head = writer.head
    if len(head) > MAX_PLAIN_BYTES:
        raise _too_many(f"{len(head)} bytes to describe what it holds", declared)
    padding = bytes(-(_LENGTH.size + len(head)) % _ALIGNMENT)
    return b"".join((_LENGTH.pack(len(head)), head, padding, *writer.body))


class _Writer:
    def __init__(self, write: Write) -> None:
        self.write = write
        self.head = bytearray()
        self.body: list[bytes | memoryview] = []
        self.at = 0
        self.count = 0

    def put(self, value: object, plan: _Plan, path: str) -> None:
        if plan.type.kind == "record" and plan.items is not None:
            self.record(value, plan, path)
            return
        self.count += 1
        if self.count > MAX_VALUES:
            raise _too_many(f"more than {MAX_VALUES} values", plan.type)
        if plan.items is None:
            self.one(value, plan.type, path)
            return
        if not isinstance(value, (list, tuple)):
            raise wrong(value, plan.type, path)
        found = cast("list[object]", value)
        self.head += encode_varint(len(found))
        for index, item in enumerate(found):
            self.put(item, plan.items[0][1], f"{path}[{index}]")

    def record(self, value: object, plan: _Plan, path: str) -> None:
        if not isinstance(value, Mapping):
            raise wrong(value, plan.type, path)
        found = cast("Mapping[str, object]", value)
        names_of(found, plan.type, path)
        for name, item in plan.items or ():
            self.put(found[name], item, f"{path}.{name}")

    def one(self, value: object, declared: Type, path: str) -> None:
        try:
            data, codec, shape = self.write(value, declared)
        except WireError as error:
            raise WireError(
                f"{path}: {error.found}", expected=error.expected, fix=error.fix
            ) from error
        self.head += encode_varint(len(data))
        if declared.kind == "tensor":
            for number in (codec, len(shape), *shape):
                self.head += encode_varint(number)
        if declared.kind in _ALIGNED and (padding := -self.at % _ALIGNMENT):
            self.body.append(bytes(padding))
            self.at += padding
        self.body.append(data)
        self.at += len(data)


def _too_many(found: str, declared: Type) -> WireError:
    return WireError(
        f"The {declared.kind} takes {found}",
        expected=f"at most {MAX_VALUES} values, described in {MAX_PLAIN_BYTES} bytes",
        fix="Send many small values as one tensor, or in several messages.",
    )


# --- reading ---------------------------------------------------------------------------------


def read_container(data: memoryview, declared: Type, read: Read) -> Any:
    """Return the list or record; a list as a list, a record as a dictionary.

    Raises:
        WireError: The bytes are no list or record of the declared type.
    """
    if len(data) < _LENGTH.size:
        raise unlike(declared, f"There are {len(data)} bytes")
    size = _LENGTH.unpack_from(data)[0]
    if size > MAX_PLAIN_BYTES:
        raise _too_many(f"{size} bytes to describe what it holds", declared)
    end = _LENGTH.size + size
    start = end + -end % _ALIGNMENT
    if start > len(data):
        raise unlike(declared, f"It breaks off: there are {len(data)} of {start} bytes")
    reader = _Reader(declared, bytes(data[_LENGTH.size : end]), data[start:], read)
    value = reader.take(_plan(declared))
    if reader.head_at != size or reader.at != len(reader.body):
        raise unlike(declared, "It goes on after its last value")
    return value


class _Reader:
    def __init__(self, declared: Type, head: bytes, body: memoryview, read: Read) -> None:
        self.declared = declared
        self.head = head
        self.head_at = 0
        self.body = body
        self.at = 0
        self.read = read
        self.count = 0

    def number(self) -> int:
        try:
            number, self.head_at = decode_varint(self.head, self.head_at)
        except ValueError as error:
            raise unlike(self.declared, f"A number in its head is none: {error}") from error
        return number

    def take(self, plan: _Plan) -> Any:
        if plan.type.kind == "record" and plan.items is not None:
            return {name: self.take(item) for name, item in plan.items}
        self.count += 1
        if self.count > MAX_VALUES:
            raise _too_many(f"more than {MAX_VALUES} values", self.declared)
        return self.one(plan.type) if plan.items is None else self.list(plan.items[0][1])

    def list(self, item: _Plan) -> list[Any]:
        length = self.number()
        # Each item takes a byte of the head at least, so nothing is made for a mere claim.
        if length > len(self.head) - self.head_at:
            raise unlike(self.declared, f"A list of {length} items breaks off")
        return [self.take(item) for _ in range(length)]

    def one(self, declared: Type) -> Any:
        length, codec, shape = self.number(), 0, tuple[int, ...]()
        if declared.kind == "tensor":
            codec, rank = self.number(), self.number()
            if rank > len(self.head) - self.head_at:
                raise unlike(declared, f"A shape of {rank} dimensions breaks off")
            shape = tuple(self.number() for _ in range(rank))
        if declared.kind in _ALIGNED:
            self.at += -self.at % _ALIGNMENT
        end = self.at + length
        if end > len(self.body):
            raise unlike(declared, f"A value of {length} bytes breaks off")
        data = self.body[self.at : end]
        self.at = end
        return self.read(declared, codec, data, shape)
