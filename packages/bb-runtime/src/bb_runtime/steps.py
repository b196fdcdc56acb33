"""What a Node reports from `poll`. A step is plain data; the host decides what to do with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from bb_ir.errors import SourceLine
from bb_ir.ids import PeerId
from bb_ir.wire import Built
from bb_runtime.references import Referred

__all__ = [
    "BlockEnded",
    "Closed",
    "ComponentStuck",
    "Deferred",
    "Dropped",
    "Emitted",
    "FrameEnded",
    "FrameId",
    "OpFailed",
    "Readable",
    "Ship",
    "Step",
]


class FrameId(NamedTuple):
    """Names a frame of one Node, for ever: incarnation of the Node and a counter."""

    incarnation: int
    number: int


class Ship(NamedTuple):
    """An envelope that the host shall carry to a peer."""

    to: PeerId
    envelope: Built | Referred
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
        how: `done`, `failed`, `cancelled`, `expired`, or `interrupted` when its Node was restored
            after a crash.
        reason: Code of the error when it failed.
    """

    target: str
    region: str
    frame: FrameId
    how: str
    reason: str


class BlockEnded(NamedTuple):
    """The end of a `rounds`, `every` or `on` block.

    Attributes:
        target: Target in which it stands.
        region: Region of its frames.
        turns: How many frames it started.
        failed: How many of them did not end `done`.
        how: `done` when all rounds were made, `stopped` by `until`, or because it was started anew,
            `failed` when a round failed and that ends the block.
    """

    target: str
    region: str
    turns: int
    failed: int
    how: str


class Deferred(NamedTuple):
    """Work that the host shall do on an executor of its own, in any thread.

    `run()` does it and puts its result into the Node's inbox; it may be called once, at any time,
    and does nothing when the work is not wanted any more.

    Attributes:
        target: Target of the op.
        op: Op type.
        slot: Slot of the component that asks for it.
        frame: The frame that waits for it.
        run: What to call.
    """

    target: str
    op: str
    slot: str
    frame: FrameId
    run: Callable[[], None]


class Dropped(NamedTuple):
    """An envelope, a tick, an event, a number or a frame that was refused.

    Attributes:
        reason: A stable code; the Node counts by it.
        peer: Where it came from.
        edge: Name of the edge, when it is known; of the block of a tick or an event, of the topic
            of an event that nobody listens to (`event_unheard`, told once per topic), of a metric
            (`metric_refused`), of a slot of which a sample wants more peers than it knows
            (`sample_short`; the round goes on with those).
    """

    reason: str
    peer: PeerId | None
    edge: str


class Readable(NamedTuple):
    """The host may read from a peer again, of which an envelope was to come later.

    It offers that envelope again, then those that came after it.
    """

    peer: PeerId


class ComponentStuck(NamedTuple):
    """Deferred work that nobody wants any more and that does not come back, or that did at last.

    From the one to the other, ops of its component fail at once.

    Attributes:
        target: Target of the op whose work it is.
        op: Op type.
        slot: Slot of the component.
        component: What fills the slot.
        frame: The frame that waited for it, and has ended.
        waited_ns: For how long nobody has wanted it.
        stuck: Whether it has not come back; false once the component can be used again.
    """

    target: str
    op: str
    slot: str
    component: str
    frame: FrameId
    waited_ns: int
    stuck: bool


class Closed(NamedTuple):
    """The end of a Node: the last step that it ever reports.

    Attributes:
        finished: Frames that came to their own end, `done`, since it was told to close.
        failed: Frames that failed or passed their deadlines meanwhile.
        cancelled: Frames that it ended: those in line, and those in flight when the time was over.
        dropped: What it refused or dropped meanwhile.
        works: Pieces of deferred work that had not come back.
    """

    finished: int
    failed: int
    cancelled: int
    dropped: int
    works: int


Step = (
    Ship
    | Emitted
    | OpFailed
    | FrameEnded
    | BlockEnded
    | Deferred
    | Dropped
    | Readable
    | ComponentStuck
    | Closed
)
