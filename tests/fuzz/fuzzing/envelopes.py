"""Envelopes: whatever strangers and peers send to a Node in the middle of its work.

An input is a session: which world, then actions, each a byte that says what is done, four bytes
with the length of what follows, and that. What is done: an envelope comes whole from one of four
peers (0 to 3), time passes (4), an envelope is offered and its payload never comes (5), the Node
works for one op (6).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import cache
from random import Random
from typing import Any, NamedTuple

from bb_ir._proto.core_pb2 import Envelope, Value
from bb_ir.errors import BytesAndBrainsError
from bb_ir.wire import (
    ALIGNMENT,
    PRELUDE_SIZE,
    Ack,
    Failed,
    Later,
    Leaving,
    Prelude,
    Refused,
    Stale,
    build_envelope,
    pack_prelude,
)
from bb_runtime import FrameEnded, Lease, Node, OpFailed, Refuse
from fuzzing._mutate import change_items, change_message, change_text
from fuzzing._target import Finding, Target, Tweak
from fuzzing.parameters import change_image
from fuzzing.worlds import OPTIONS, SECOND, federation, ids, world

__all__ = ["CONTROLS", "ENVELOPES", "change_envelope", "header_of"]

_PASS, _OFFER, _WORK = 4, 5, 6
_SMALL = 4096


# --- reading ---------------------------------------------------------------------------------


class Action(NamedTuple):
    """What is done to the Node, with what."""

    kind: int
    body: bytes


def split(data: bytes) -> list[Action]:
    """Return the actions of a session; what makes no sense is cut off."""
    found: list[Action] = []
    at = 1
    while at + 5 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 5], "little")
        found.append(Action(data[at] % 7, data[at + 5 : at + 5 + size]))
        at += 5 + size
    return found


def joined(number: int, actions: list[Action]) -> bytes:
    """Return a session."""
    parts = [bytes((number % 256,))]
    for kind, body in actions:
        parts += (bytes((kind,)), len(body).to_bytes(4, "little"), body)
    return b"".join(parts)


def read(data: bytes) -> str:
    """Do what a session says, let all deadlines pass, and look at what is left."""
    node = world(data[0] if data else 0).node()
    told: list[str] = []
    for action in split(data)[:50]:
        told += _do(node, action)
    _drain(node)
    _check_nothing_held(node, exactly=True)
    for _ in range(15):  # a round that fails is followed by the next one
        if not _left(node):
            break
        node.advance(node.now_ns + 301 * SECOND)
        _drain(node)
    _check_nothing_held(node, exactly=False)
    return told[-1] if told else ""


def _do(node: Node, action: Action) -> Iterator[str]:
    kind, body = action
    if kind == _PASS:
        node.advance(node.now_ns + int.from_bytes(body[:8], "little") % (120 * SECOND))
    elif kind == _WORK:
        node.poll(1)
    elif kind == _OFFER:
        end = PRELUDE_SIZE + int.from_bytes(body[8:12], "little")
        answer = node.offer(body[:PRELUDE_SIZE], body[PRELUDE_SIZE:end], ids()[1])
        if isinstance(answer, Lease) and body[-1] % 2:
            node.abandon(answer)
        yield _word(answer)
    else:
        yield _word(node.receive_bytes(body, ids()[kind]))
    if kind != _WORK:
        yield from _drain(node)


def _word(answer: Any) -> str:
    """Return what a Node said to an envelope."""
    return answer.reason if isinstance(answer, Refuse) else type(answer).__name__


def _drain(node: Node) -> list[str]:
    """Let a Node work until it is quiet; return why frames failed."""
    found: list[str] = []
    for _ in range(200):
        steps = node.poll(200)
        if not steps:
            return found
        for step in steps:
            if isinstance(step, OpFailed) and not _may_fail(step):
                raise Finding(f"{step.op} of {step.component} failed: {step.error!r}\n{step.trace}")
            if isinstance(step, FrameEnded) and step.reason:
                found.append(step.reason)
    raise Finding("the Node never gets quiet")


def _may_fail(step: OpFailed) -> bool:
    """Whether an op may fail so: the parts of tests may as they like, the codec with its errors."""
    return step.slot not in ("", "codec") or isinstance(step.error, BytesAndBrainsError)


def _check_nothing_held(node: Node, *, exactly: bool) -> None:
    """Check that everything that was charged is still there, or was released."""
    engine = node._engine
    held = sum(frame.payload for frame in engine.frames.values())
    leased = sum(len(lease.buffer) for lease in node._admission.leases)
    if engine.payload_held != held + leased:
        raise Finding(f"{engine.payload_held} bytes are charged, {held} + {leased} are held")
    if engine.payload_held > OPTIONS.max_inbound_bytes or len(engine.frames) > OPTIONS.max_frames:
        raise Finding(f"{len(engine.frames)} frames hold {engine.payload_held} bytes")
    if not exactly and _left(node):
        raise Finding(f"after all deadlines there is left: {_left(node)}")


def _left(node: Node) -> str:
    """Say what must be gone when all deadlines have passed."""
    engine = node._engine
    # Frames of a clock are started again and again.
    infos = (frame.bound.program.info for frame in engine.frames.values())
    frames = [info.name for info in infos if info.kind != "every"]
    leases = node._admission.open_leases
    return f"{frames}, {leases} leases" if frames or leases or engine.payload_held else ""


# --- changing --------------------------------------------------------------------------------


def change(data: bytes, draw: Random, tweak: Tweak) -> bytes:
    """Change an action of a session, or put in an envelope that was really sent."""
    number = data[0] if data else 0
    actions = split(data)
    match draw.randrange(10):
        case 0:
            number = draw.randrange(3)
        case 1:
            at = draw.randrange(len(actions) + 1)
            actions.insert(at, draw.choice(split(draw.choice(_all_seeds()))))
        case 2:
            span = draw.choice((1, SECOND, 10 * SECOND, 60 * SECOND)).to_bytes(8, "little")
            actions.insert(draw.randrange(len(actions) + 1), Action(_PASS, span))
        case _:
            actions = change_items(actions, draw, lambda one: _changed(one, draw, tweak))
    return joined(number, actions)


def _changed(action: Action, draw: Random, tweak: Tweak) -> Action:
    kind, body = action
    if draw.randrange(8) == 0:
        return Action(draw.randrange(7), body)
    if kind in (_PASS, _WORK):
        return Action(kind, tweak(body))
    return Action(kind, change_envelope(body, draw, tweak))


def header_of(data: bytes) -> Envelope | None:
    """Return the header of an envelope, when it can be read."""
    length = int.from_bytes(data[8:12], "little")
    try:
        return Envelope.FromString(data[PRELUDE_SIZE : PRELUDE_SIZE + length])
    except Exception:  # noqa: BLE001  # whatever protobuf raises
        return None


def change_envelope(data: bytes, draw: Random, tweak: Tweak) -> bytes:
    """Change one thing in an envelope; prelude, header and payload fit together again, mostly."""
    message = header_of(data)
    if message is None or len(data) < PRELUDE_SIZE:
        return tweak(data)
    length = int.from_bytes(data[8:12], "little")
    payload = data[PRELUDE_SIZE + length :]
    match draw.randrange(8):
        case 0:
            return tweak(data[:PRELUDE_SIZE]) + data[PRELUDE_SIZE:]
        case 1:
            return _packed(data, tweak(data[PRELUDE_SIZE : PRELUDE_SIZE + length]), payload)
        case 2:
            return data[: PRELUDE_SIZE + length] + tweak(payload)
        case 3 | 4:
            change_message(message, draw, tweak)
            return _packed(data, message.SerializeToString(), payload)
        case _:
            return _with_other_fill(data, message, payload, draw, tweak)


def _with_other_fill(
    data: bytes, message: Envelope, payload: bytes, draw: Random, tweak: Tweak
) -> bytes:
    """Change one of the values, wherever it stands."""
    values: list[bytes] = []
    at = 0
    for fill in message.fills:
        end = at + fill.length
        values.append(payload[at:end] if fill.length else fill.inline)
        at = end + -end % ALIGNMENT
    if not values:
        change_message(message, draw, tweak)
        return _packed(data, message.SerializeToString(), payload)
    chosen = draw.randrange(len(values))
    fill = message.fills[chosen]
    if draw.randrange(4) == 0:
        change_message(fill, draw, tweak)
    else:
        values[chosen] = _other_value(values[chosen], draw, tweak)
    segments: list[bytes] = []
    for fill, value in zip(message.fills, values, strict=True):
        small = len(value) <= _SMALL
        fill.inline = value if small else b""
        fill.segment, fill.length = (0, 0) if small else (len(segments), len(value))
        segments += [] if small else [value + bytes(-len(value) % ALIGNMENT)]
    return _packed(data, message.SerializeToString(), b"".join(segments), len(segments))


def _other_value(value: bytes, draw: Random, tweak: Tweak) -> bytes:
    """Change a value; what looks like parameters or plain data stays such."""
    if value[8:9] == b"{":
        return change_image(value, draw, tweak)
    if value and draw.randrange(2):
        try:
            plain = Value.FromString(value)
        except Exception:  # noqa: BLE001  # whatever protobuf raises
            return tweak(value)
        change_message(plain, draw, tweak)
        return plain.SerializeToString()
    return change_text(value, draw, tweak) if draw.randrange(4) == 0 else tweak(value)


def _packed(data: bytes, header: bytes, payload: bytes, segments: int | None = None) -> bytes:
    """Return an envelope whose prelude fits header and payload."""
    flags, known = int.from_bytes(data[6:8], "little"), int.from_bytes(data[12:16], "little")
    count = known if segments is None else segments
    prelude = Prelude(flags, len(header), count, len(payload), zlib.crc32(header))
    return pack_prelude(prelude) + header + payload


# --- beginning -------------------------------------------------------------------------------


@cache
def _sessions() -> tuple[bytes, ...]:
    found: list[bytes] = []
    for number in range(3):
        this = world(number)
        actions = [
            Action(one.source, one.data)
            for one in federation(this.program)
            if one.to == this.number
        ]
        found += [joined(number, [one]) for one in actions]
        found.append(joined(number, actions[:6]))
        found.append(joined(number, [Action(_OFFER, actions[0].body), *actions[:2]]))
    return tuple(found)


@cache
def _controls() -> tuple[bytes, ...]:
    """Words on messages that were sent, and on frames that wait."""
    found: list[bytes] = []
    for number in range(3):
        this = world(number)
        node = this.node()
        edges = [edge.id for edge in node._engine.artifact.edges.values()]
        sent = [header_of(one.data) for one in federation(this.program) if one.source == 0]
        numbers = sorted({one.message_id for one in sent if one is not None})[:4]
        frames = sorted(node._engine.frames)[:3]
        controls = [Stale(1), Stale(2**64 - 1), Later(10**9), Leaving()]
        controls += [Ack(one, 1) for one in numbers]
        controls += [Refused("busy", one, 1) for one in numbers]
        controls += [Failed("OpFailed", frame, 1, edge) for frame in frames for edge in edges]
        program = node._engine.post.program
        actions = [
            Action(1, build_envelope(program, 0, 1, at + 1, control=one).to_bytes())
            for at, one in enumerate(controls)
        ]
        found += [joined(number, [one]) for one in actions]
    return tuple(found)


def _all_seeds() -> tuple[bytes, ...]:
    return _sessions() + _controls()


#: What is said of envelopes that passed all that is checked before one's place is looked for.
_TAKEN = frozenset({"", "Lease", "NoneType", "QuorumNotMet", "late", "unexpected"})
ENVELOPES = Target("envelopes", _sessions, change, read, longest=1 << 16, taken=_TAKEN)
CONTROLS = Target("controls", _controls, change, read, longest=1 << 12, taken=_TAKEN)
