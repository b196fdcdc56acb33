"""What liars do to the envelopes that their honest Node gives out.

A liar changes bytes, never who sent them: the source of an envelope is what the channel says, and
no simulated peer can change that. What comes out is carried like any envelope, whether or not it
is one.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from bb_ir.errors import BytesAndBrainsError
from bb_ir.params import ParameterSet
from bb_ir.types import Type
from bb_ir.values import Encoded, decode_value, encode_value
from bb_ir.wire import (
    DEFAULT_LIMITS,
    PRELUDE_SIZE,
    Built,
    EnvelopeHead,
    build_envelope,
    fill_data,
    read_header,
    read_prelude,
)
from bb_runtime import Referred
from bb_runtime.artifact import Edge
from bb_sim._draws import Draws, Purpose, below, chance
from bb_sim.scenario import Liar

__all__ = ["Deceit"]

#: Far above any id that an honest Node reaches in a simulation.
_FRESH = 1 << 40
_CRC = slice(24, 28)

Twist = Callable[[Any], Any]


class Deceit:
    """One liar: a peer, and what it does to what it sends."""

    def __init__(self, liar: Liar, number: int, draws: Draws) -> None:
        self._liar = liar
        self._number = number
        self._draws = draws
        self._said = 0
        self._before: Built | Referred | None = None

    @property
    def state(self) -> tuple[int, Built | Referred | None]:
        """How many envelopes it saw, and the last of them."""
        return self._said, self._before

    @state.setter
    def state(self, state: tuple[int, Built | Referred | None]) -> None:
        self._said, self._before = state

    def twist(self, envelope: Built | Referred, edge: Edge | None) -> list[Built | Referred]:
        """Return what is sent in the place of an envelope; words of the engine are left alone."""
        if edge is None:
            return [envelope]
        self._said += 1
        draws = self._draws.at(Purpose.LIE, self._number, 0, self._said)
        before, self._before = self._before, envelope
        if not chance(draws[0], self._liar.share):
            return [envelope]
        match self._liar.kind:
            case "silence":
                return []
            case "replay":
                return [envelope] if before is None else [envelope, before]
            case "flood":
                return [envelope, *(_again(envelope, n) for n in range(self._liar.times))]
            case "garbage":
                return [_garbage(envelope, draws)]
            case "truncate":
                return [_truncated(envelope)]
            case _:
                return [_respelled(envelope, edge, self._spoiler(draws[1]))]

    def _spoiler(self, draw: int) -> Twist:
        scale = self._liar.scale

        def noise(array: Any) -> Any:
            generator: Any = np.random.Generator(np.random.Philox(key=draw))
            return generator.normal(scale=scale, size=array.shape)

        kinds: dict[str, Twist] = {
            "nan": lambda array: np.full_like(array, np.nan),
            "huge": lambda array: np.full_like(array, 1e30),
            "flip": lambda array: array * -scale,
            "noise": noise,
            "shape": lambda array: np.concatenate([array.reshape(-1), array.reshape(-1)]),
        }
        return kinds[self._liar.kind]


def _head_of(envelope: Built | Referred) -> EnvelopeHead:
    head = memoryview(envelope.head)
    return read_header(read_prelude(head, DEFAULT_LIMITS), head[PRELUDE_SIZE:], DEFAULT_LIMITS)


def _built(head: EnvelopeHead, fills: list[Encoded], message_id: int) -> Built:
    return build_envelope(
        head.program, head.edge, head.incarnation, message_id, remaining_ns=head.remaining_ns,
        in_reply_to=head.in_reply_to, chain=head.chain, fills=fills, after=head.after,
    )  # fmt: skip


def _fills(envelope: Built | Referred, head: EnvelopeHead) -> list[Encoded]:
    payload = memoryview(b"".join(envelope.payload_parts()))
    parts = fill_data(head, payload)
    return [Encoded(p, f.codec, f.shape) for p, f in zip(parts, head.fills, strict=True)]


def _again(envelope: Built | Referred, number: int) -> Built:
    head = _head_of(envelope)
    return _built(head, _fills(envelope, head), head.message_id + _FRESH + number)


def _respelled(envelope: Built | Referred, edge: Edge, twist: Twist) -> Built:
    """Return the envelope with other tensors in it; one without tensors stays as it is."""
    head = _head_of(envelope)
    fills = _fills(envelope, head)
    types = (type_ for _, type_ in edge.ports)
    spoiled = [_spoiled(fill, type_, twist) for fill, type_ in zip(fills, types, strict=True)]
    return _built(head, spoiled, head.message_id)


def _spoiled(fill: Encoded, type_: Type, twist: Twist) -> Encoded:
    if type_.kind not in ("params", "tensor"):
        return fill
    try:
        value = decode_value(type_, fill.codec, memoryview(fill.data), fill.shape)
    except BytesAndBrainsError:
        return fill
    with np.errstate(all="ignore"):  # an infinity is what a liar may want
        if isinstance(value, ParameterSet):
            lies = {name: _like(array, twist(array)) for name, array in value.items()}
            return Encoded(ParameterSet.from_tensors(lies).image)
        lie = _like(value, twist(value))
    told = encode_value(lie, Type("tensor", dtype=type_.dtype))
    return Encoded(told.data, told.codec, told.shape)


def _like(array: Any, lie: Any) -> Any:
    whole = np.issubdtype(array.dtype, np.integer) or array.dtype == bool
    return np.ascontiguousarray(np.nan_to_num(lie) if whole else lie).astype(array.dtype)


def _truncated(envelope: Built | Referred) -> Built:
    """Leave the end out: of the payload, or of the header where there is none."""
    if not envelope.segments:
        return Built(envelope.head[:-8], (), 0)
    return Built(envelope.head, envelope.segments[:-1], 0)


def _garbage(envelope: Built | Referred, draws: tuple[int, ...]) -> Built:
    """Return random bytes, or a header that is damaged and has the right checksum."""
    noise = hashlib.shake_128(repr(draws).encode()).digest(len(envelope.head))
    kind = below(draws[2], 3)
    if kind == 0:
        return Built(noise, (), 0)
    if kind == 1:
        return Built(envelope.head[:PRELUDE_SIZE] + noise[PRELUDE_SIZE:], (), 0)
    head = bytearray(envelope.head)
    for draw in draws[3:6]:
        head[PRELUDE_SIZE + below(draw, len(head) - PRELUDE_SIZE)] ^= 1 + draw % 255
    head[_CRC] = zlib.crc32(head[PRELUDE_SIZE:]).to_bytes(4, "little")
    return Built(bytes(head), envelope.segments, envelope.payload_length)
