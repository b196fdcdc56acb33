"""Digests of steps: equal digests, equal behaviour.

They cover kinds, names, codes, frames and the bytes of values and envelopes, not prose: a reworded
message, a moved line or another traceback changes none. Journals, replays and simulations compare
runs by them.

They are XXH3-128, which reads as fast as memory does. They tell runs apart that differ by chance
or by mistake, and are no proof against somebody who makes values to deceive them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from xxhash import xxh3_128, xxh3_128_digest

from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bb_runtime.steps import (
    BlockEnded,
    Closed,
    ComponentStuck,
    Deferred,
    Dropped,
    Emitted,
    FrameEnded,
    OpFailed,
    Readable,
    Ship,
)

__all__ = ["StepDigests", "code_of", "step_digest", "value_digest"]

#: Numbers of the kinds of steps; one that is not here is 0, and counts by all its fields.
_KINDS: dict[type[tuple[Any, ...]], int] = {
    Ship: 1, Emitted: 2, FrameEnded: 3, OpFailed: 4, BlockEnded: 5, Dropped: 6, Deferred: 7,
    Readable: 8, ComponentStuck: 9, Closed: 10,
}  # fmt: skip
_SHIP = bytes((_KINDS[Ship],))

#: Names of the kinds by number.
KIND_NAMES = {number: kind.__name__ for kind, number in _KINDS.items()}


def code_of(error: BaseException) -> str:
    """Return the stable name of an error: its code, or the name of its class."""
    return str(getattr(error, "code", type(error).__name__))


def step_digest(step: tuple[Any, ...]) -> bytes:
    """Return the digest of one step, 16 bytes."""
    return StepDigests().of(step)


class StepDigests:
    """Digests of steps that were reported together.

    A send to many peers gives as many steps that share their segments; these are read once. Make
    a new one for each list of steps, which keeps the segments alive meanwhile.
    """

    def __init__(self) -> None:
        self._segments: dict[int, bytes] = {}

    def of(self, step: tuple[Any, ...]) -> bytes:
        """Return the digest of one step, 16 bytes."""
        if type(step) is Ship:
            return self._shipped(step)
        return xxh3_128_digest(bytes((kind_of(step),)) + _facts(step))

    def _shipped(self, step: Ship) -> bytes:
        envelope = step.envelope
        segments, known = envelope.segments, b""
        if segments:
            found = self._segments.get(id(segments))
            known = found or _digest_of_all(segments)
            self._segments[id(segments)] = known
        return xxh3_128_digest(_SHIP + step.to.raw + envelope.head + known)


def _facts(step: tuple[Any, ...]) -> bytes:
    """Return what is to be compared of a step."""
    match step:
        case Emitted():
            return _words(step.target, step.name, *step.frame) + value_digest(step.value)
        case FrameEnded():
            target, region, (incarnation, number), how, reason = step
            return f"{target}\0{region}\0{incarnation}\0{number}\0{how}\0{reason}".encode()
        case OpFailed():
            return _words(step.target, step.op, step.slot, *step.frame, code_of(step.error))
        case BlockEnded():
            return _words(step.target, step.region, step.turns, step.failed, step.how)
        case Dropped():
            return _words(step.reason, step.edge) + _raw(step.peer)
        case Deferred():
            return _words(step.target, step.op, step.slot, *step.frame)
        case _:
            return _words(type(step).__name__) + value_digest(tuple(step))


def kind_of(step: tuple[Any, ...]) -> int:
    """Return the number of a step's kind."""
    return _KINDS.get(type(step), 0)


def value_digest(value: Any) -> bytes:
    """Return the digest of a value, 16 bytes; what has no bytes of its own counts by its type."""
    found = xxh3_128()
    _feed(found.update, value)
    return found.digest()


def _digest_of_all(parts: Sequence[memoryview]) -> bytes:
    if len(parts) == 1:
        return xxh3_128_digest(parts[0])
    found = xxh3_128()
    for part in parts:
        found.update(part)
    return found.digest()


def _words(*words: object) -> bytes:
    return "\0".join(map(str, words)).encode()


def _raw(peer: PeerId | None) -> bytes:
    return b"" if peer is None else peer.raw


def _feed(update: Callable[[bytes | memoryview], None], value: Any) -> None:
    if isinstance(value, str | int | float | bool | None):
        text = f"{type(value).__name__}:{value!r}".encode()
        update(b"%d:" % len(text) + text)
    elif isinstance(value, ParameterSet):
        update(b"p%d:" % value.nbytes)
        update(value.image)
    elif isinstance(value, bytes | bytearray | memoryview):
        data = memoryview(cast("bytes", value))
        update(b"b%d:" % data.nbytes)
        update(data if data.c_contiguous else data.tobytes())
    elif isinstance(value, PeerId):
        update(b"i%d:" % len(value.raw) + value.raw)
    elif isinstance(value, BaseException):
        update(b"e" + _words(code_of(value)) + b";")
    elif isinstance(value, Mapping):
        table = cast("Mapping[str, Any]", value)
        update(b"m%d" % len(table))
        for name in sorted(table, key=str):
            _feed(update, name)
            _feed(update, table[name])
    elif isinstance(value, list | tuple):
        items = cast("Sequence[object]", value)
        update(b"l%d" % len(items))
        for item in items:
            _feed(update, item)
    elif hasattr(value, "dtype") and hasattr(value, "__array__"):
        _feed_array(update, value)
    else:
        update(f"o{type(value).__qualname__};".encode())


def _feed_array(update: Callable[[bytes | memoryview], None], value: Any) -> None:
    import numpy as np

    array = np.ascontiguousarray(value)
    update(f"t{array.dtype.str}{np.shape(value)};".encode())
    if array.dtype.hasobject:
        update(repr(array.tolist()).encode())
    else:
        # Through bytes, since memory of numbers that Python does not know cannot be lent as such.
        update(array.reshape(-1).view(np.uint8).data)
