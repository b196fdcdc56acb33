"""Values that go from Node to Node within one process: what would arrive, without its bytes.

A host that runs many Nodes may hand their values over as they are. What a receiver then gets is
what it would read from an envelope: of the declared type, checked on the way out, records as new
dictionaries of plain numbers, tensors read-only. And what the envelope would weigh is known
without writing it: `header_size` and `payload_of` count what `bb_ir.wire` writes, byte for byte.

This module must not know of programs, frames or peers' tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final, NamedTuple

from bb_ir._containers import is_plain
from bb_ir._framing import ALIGNMENT, INLINE_LIMIT, Hop
from bb_ir.params import Layout, ParameterSet
from bb_ir.types import Type
from bb_ir.values import NO_CODECS, Codecs, decode_value, encode_value

__all__ = ["Crossed", "crosser", "header_size", "hop_size", "own_size", "payload_of"]

#: Beyond this, `_size_of` leaves a number to the general way.
_INT64: Final = 1 << 63


class Crossed(NamedTuple):
    """A value as its receiver will have it, and what its fill would weigh.

    Attributes:
        value: The value.
        size: Bytes of the value, encoded.
        codec: As `Encoded` has it.
        shape: As `Encoded` has it.
    """

    value: Any
    size: int
    codec: int = 0
    shape: tuple[int, ...] = ()


Crosser = Callable[[Any], Crossed]

_TRIGGER: Final = Crossed(None, 0)


def crosser(declared: Type, codecs: Codecs = NO_CODECS) -> Crosser:
    """Return what takes values of a port to the other side.

    What it returns raises `WireError` for the values that `encode_value` refuses, and else gives
    the value that `decode_value` would; parameter sets and the memory of tensors are not copied.
    """

    def by_bytes(value: Any) -> Crossed:
        data, codec, shape = encode_value(value, declared, codecs)
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        return Crossed(decode_value(declared, codec, data, shape, codecs), size, codec, shape)

    if declared.kind == "params":
        return _params_crosser(by_bytes)
    if declared.kind == "trigger":
        return lambda _: _TRIGGER
    if declared.kind == "record" and is_plain(declared):
        return _record_crosser(declared, by_bytes)
    return by_bytes


def _params_crosser(by_bytes: Crosser) -> Crosser:
    """Take parameter sets over as they are; a layout is held against the type once."""
    known: Layout | None = None  # the last one that was held against the type

    def cross(value: Any) -> Crossed:
        nonlocal known
        if type(value) is not ParameterSet or value.layout is not known:
            by_bytes(value)
            known = value.layout
        return Crossed(value, value.layout.nbytes)

    return cross


def _record_crosser(declared: Type, by_bytes: Crosser) -> Crosser:
    """Take records of plain Python numbers and texts over as new ones, all others by bytes."""
    names = None if declared.items is None else tuple(name for name, _ in declared.items)
    kinds = {name: of.kind for name, of in declared.items or ()}

    def cross(value: Any) -> Crossed:
        if type(value) is not dict:  # pyright: ignore[reportUnknownArgumentType]  # of anything
            return by_bytes(value)
        fields: dict[Any, Any] = value  # pyright: ignore[reportUnknownVariableType]  # of any
        if names is not None and tuple(fields) != names:
            return by_bytes(value)
        size = 0
        for name, one in fields.items():
            weight = _size_of(one, kinds.get(name, "any"))
            if weight < 0 or type(name) is not str or not name.isascii():
                return by_bytes(value)
            size += _field_size(len(name), weight)
        return Crossed(dict(fields), _framed(size)) if size < INLINE_LIMIT else by_bytes(value)

    return cross


@lru_cache(maxsize=1024)
def _field_size(name: int, value: int) -> int:
    return _framed((_framed(name) if name else 0) + _framed(value))


def _size_of(value: Any, kind: str) -> int:
    """Return the bytes of a number or text as plain data; -1 for what is not that simple."""
    found = type(value)  # pyright: ignore[reportUnknownVariableType]  # of anything
    if found is float and kind in ("any", "float64"):
        return 9
    if found is int and -_INT64 <= value < _INT64:
        if kind == "int64":
            return 9
        if kind == "any":
            return 11 if value < 0 else 1 + _varint(value)
    if found is bool and kind in ("any", "bool"):
        return 2
    if found is str and kind in ("any", "string") and value.isascii():
        return _framed(len(value))
    return -1


# --- weights ---------------------------------------------------------------------------------


def _varint(number: int) -> int:
    """Return how many bytes protobuf writes a number from 0 to 2**64 - 1 in."""
    return 1 if number < 128 else (number.bit_length() + 6) // 7


def _framed(size: int) -> int:
    """Return the bytes of a field of so many bytes, its tag below 16 and its length included."""
    return 1 + _varint(size) + size


def hop_size(hop: Hop) -> int:
    """Return what a hop adds to a header."""
    frame, incarnation, peer, grant = hop
    return _hop_size(bool(frame), incarnation, len(peer), len(grant))


@lru_cache(maxsize=1024)
def _hop_size(frame: bool, incarnation: int, peer: int, grant: int) -> int:  # noqa: FBT001  # a key
    size = 9 if frame else 0
    size += 1 + _varint(incarnation) if incarnation else 0
    size += _framed(peer) if peer else 0
    size += _framed(grant) if grant else 0
    return _framed(size)


def own_size(message_id: int, remaining_ns: int, after: int = 0) -> int:
    """Return what a header spends on the parts that differ by receiver, the hop left out."""
    size = (1 + _varint(message_id) if message_id else 0) + 1 + _varint(remaining_ns)
    return size + 1 + _varint(after) if after else size


def payload_of(fills: Iterable[Crossed], budget: int) -> tuple[int, int, int]:
    """Return the payload's length, its count of segments, and what fills add to the header.

    Args:
        fills: The values, in the order of their ports.
        budget: How many bytes of values may stand in the header, `limits.header // 2`.
    """
    return _payload_of(tuple([fill[1:] for fill in fills]), budget)


# Most of what a program sends has always the same size.
@lru_cache(maxsize=1024)
def _payload_of(
    fills: tuple[tuple[int, int, tuple[int, ...]], ...], budget: int
) -> tuple[int, int, int]:
    payload = segments = header = 0
    for size, codec, shape in fills:
        fill = 0
        if size <= INLINE_LIMIT and size <= budget:
            budget -= size
            fill += _framed(size) if size else 0
        else:
            fill += (1 + _varint(segments) if segments else 0) + 1 + _varint(size)
            segments += 1
            payload += size + -size % ALIGNMENT
        fill += 1 + _varint(codec) if codec else 0
        fill += _framed(sum(map(_varint, shape))) if shape else 0
        header += _framed(fill)
    return payload, segments, header


@lru_cache(maxsize=1024)
def header_size(program: bytes, edge: int, incarnation: int) -> int:
    """Return the bytes of a header without hops, fills and what differs by receiver."""
    size = _framed(len(program)) + (9 if edge else 0)
    return size + (1 + _varint(incarnation) if incarnation else 0)
