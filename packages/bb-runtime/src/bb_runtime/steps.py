"""What a Node reports from `poll`. A step is plain data; the host decides what to do with it."""

from __future__ import annotations

from typing import Any, NamedTuple

from bb_ir.errors import SourceLine
from bb_ir.ids import PeerId
from bb_ir.wire import Built

__all__ = ["Dropped", "Emitted", "FrameEnded", "FrameId", "OpFailed", "Ship", "Step"]


class FrameId(NamedTuple):
    """Names a frame of one Node, for ever: incarnation of the Node and a counter."""

    incarnation: int
    number: int


class Ship(NamedTuple):
    """An envelope that the host shall carry to a peer."""

    to: PeerId
    envelope: Built
    message_id: int


class Emitted(NamedTuple):
    """A value that the program published with `g.output`."""

    target: str
    name: str
    value: Any
    frame: FrameId


class OpFailed(NamedTuple):
    """An op that failed, and with it its frame.

    Attributes:
        target: Target in which it stands.
        op: Op type.
        slot: Slot it ran on; empty for ops of the engine.
        component: What fills the slot.
        source: The user's line that recorded it.
        error: The exception.
        frame: The frame that failed.
        peer: The Node it happened on.
        place: The line of the component's own code that raised, when it is one.
        trace: The whole traceback, as text; the error itself carries none.
    """

    target: str
    op: str
    slot: str
    component: str
    source: SourceLine | None
    error: Exception
    frame: FrameId
    peer: PeerId
    place: SourceLine | None = None
    trace: str = ""


class FrameEnded(NamedTuple):
    """The end of a frame.

    Attributes:
        target: Target it ran.
        region: Region it ran.
        frame: The frame.
        how: `done`, `failed`, `cancelled` or `expired`.
        reason: Code of the error when it failed.
    """

    target: str
    region: str
    frame: FrameId
    how: str
    reason: str


class Dropped(NamedTuple):
    """An envelope or a frame that was refused.

    Attributes:
        reason: A stable code; the Node counts by it.
        peer: Where it came from.
        edge: Name of the edge, when it is known.
    """

    reason: str
    peer: PeerId | None
    edge: str


Step = Ship | Emitted | OpFailed | FrameEnded | Dropped
