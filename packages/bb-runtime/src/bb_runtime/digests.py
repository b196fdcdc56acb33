"""Digests of steps: equal digests, equal behaviour.

They cover kinds, names, codes, frames and the bytes of values and envelopes, not prose: a reworded
message, a moved line or another traceback changes none. Journals, replays and simulations compare
runs by them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bb_runtime.steps import (
    BlockEnded,
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
    Readable: 8,
}  # fmt: skip

#: Names of the kinds by number.
KIND_NAMES = {number: kind.__name__ for kind, number in _KINDS.items()}


def code_of(error: BaseException) -> str:
    """Return the stable name of an error: its code, or the name of its class."""
    return str(getattr(error, "code", type(error).__name__))


def step_digest(step: tuple[Any, ...]) -> bytes:
    """Return the SHA-256 of one step."""
    return StepDigests().of(step)


class StepDigests:
    """Digests of steps that were reported together.

    A send to many peers gives as many steps that share their segments; these are read once. Make
    a new one for each list of steps, which keeps the segments alive meanwhile.
    """

    def __init__(self) -> None:
        self._segments: dict[int, bytes] = {}

    def of(self, step: tuple[Any, ...]) -> bytes:
        """Return the SHA-256 of one step."""
        return hashlib.sha256(bytes((kind_of(step),)) + self._facts(step)).digest()

    def _facts(self, step: tuple[Any, ...]) -> bytes:
        """Return what is to be compared of a step."""
        match step:
            case Ship():
                return b"".join((_raw(step.to), step.envelope.head, self._payload(step)))
            case Emitted():
                return _words(step.target, step.name, *step.frame) + value_digest(step.value)
            case FrameEnded():
                return _words(step.target, step.region, *step.frame, step.how, step.reason)
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

    def _payload(self, step: Ship) -> bytes:
        segments = step.envelope.segments
        known = self._segments.get(id(segments))
        if known is None:
            known = self._segments[id(segments)] = _digest_of_all(segments) if segments else b""
        return known


def kind_of(step: tuple[Any, ...]) -> int:
    """Return the number of a step's kind."""
    return _KINDS.get(type(step), 0)


def value_digest(value: Any) -> bytes:
    """Return the SHA-256 of a value; what has no bytes of its own counts by its type."""
    found = hashlib.sha256()
    _feed(found.update, value)
    return found.digest()


def _digest_of_all(parts: Iterable[memoryview]) -> bytes:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.digest()


def _words(*words: object) -> bytes:
    return "\0".join(map(str, words)).encode()


def _raw(peer: PeerId | None) -> bytes:
    return b"" if peer is None else peer.raw


def _feed(update: Callable[[bytes], None], value: Any) -> None:
    if isinstance(value, str | int | float | bool | None):
        text = f"{type(value).__name__}:{value!r}".encode()
        update(b"%d:" % len(text) + text)
    elif isinstance(value, ParameterSet):
        update(b"p" + value.digest().encode())
    elif isinstance(value, bytes | bytearray | memoryview):
        data = bytes(cast("bytes", value))
        update(b"b%d:" % len(data) + data)
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


def _feed_array(update: Callable[[bytes], None], value: Any) -> None:
    import numpy as np

    array = np.ascontiguousarray(value)
    update(f"t{array.dtype.str}{np.shape(value)};".encode())
    update(array.tobytes() if array.dtype.hasobject is False else repr(array.tolist()).encode())
