"""The state of running frames: plain records that the engine moves from state to state."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bb_ir.ids import PeerId
from bb_runtime._program import BlockInfo, DelayInfo, GatherInfo, RegionProgram
from bb_runtime.artifact import Edge

if TYPE_CHECKING:
    from bb_runtime._controllers import Controller
    from bb_runtime._deferred import Work
    from bb_runtime._peers import Peer
    from bb_runtime._slots import Grant, Plan
    from bb_runtime.steps import FrameId

__all__ = ["BlockState", "BoundRegion", "DelayState", "Frame", "GatherState", "ReturnAddress"]

#: What became of an expected answer.
OPEN, ANSWERED, FAILED, CLOSED = range(4)
#: Where a frame is in its life.
NEW, QUEUED, LIVE, ENDED = range(4)


class ReturnAddress(NamedTuple):
    """A frame that waits for answers."""

    peer: PeerId
    frame: int
    incarnation: int


class BoundRegion:
    """A region of an installed target: its functions, and the frames that wait for a turn."""

    __slots__ = (
        "active", "bootstrap", "limit", "plans", "program", "queue", "runs", "skips",
        "start_later", "start_now", "works",
    )  # fmt: skip

    def __init__(
        self,
        program: RegionProgram,
        runs: Sequence[Callable[[Frame], None]],
        *,
        bootstrap: bool,
        plans: Sequence[Plan | None] | None = None,
        works: Mapping[int, Plan] | None = None,
    ) -> None:
        self.program = program
        self.runs = tuple(runs)
        self.bootstrap = bootstrap
        #: Per stretch what it must hold; `None` where nothing on this Node is ever held.
        self.plans = plans
        #: The same for pieces of deferred work, by their events.
        self.works: Mapping[int, Plan] = works or {}
        #: How many root frames run at a time, and whether those beyond are skipped.
        self.limit = 1
        self.skips = False
        #: Stretches that need no gather, and those that do.
        self.start_now = tuple(i for i, s in enumerate(program.stretches) if not s.needs)
        self.start_later = tuple(i for i, s in enumerate(program.stretches) if s.needs)
        self.active = 0
        self.queue: deque[Frame] = deque()


class BlockState:
    """One block of one frame whose turns are children of it."""

    __slots__ = (
        "bound", "fired", "frame", "info", "items", "kept", "number", "source", "stopped", "turns",
    )  # fmt: skip

    def __init__(
        self,
        info: BlockInfo,
        frame: Frame,
        bound: BoundRegion,
        items: Iterator[tuple[Any, ...]],
        source: tuple[Any, ...],
    ) -> None:
        self.info = info
        self.frame = frame
        self.bound = bound
        self.items = items
        #: What the items are made of, until the last turn has ended.
        self.source = source
        self.number = 0
        self.stopped = False
        #: Whether the last turn has ended.
        self.fired = False
        #: What the turns arrived with, by what takes it.
        self.kept: dict[str, list[Any]] = {}
        self.turns: Counter[str] = Counter()


class DelayState:
    """One sleep of one frame: what is passed on, and when."""

    __slots__ = ("fired", "info", "value", "when_ns")

    def __init__(self, info: DelayInfo, when_ns: int, value: Any) -> None:
        self.info = info
        self.when_ns = when_ns
        self.value = value
        self.fired = False


class GatherState:
    """One gather of one frame: who was asked, who answered."""

    __slots__ = ("answers", "asked", "fired", "info", "kept", "need", "pending")

    def __init__(self, info: GatherInfo) -> None:
        self.info = info
        #: Peers asked, in order; `None` until the send ran.
        self.asked: tuple[PeerId, ...] | None = None
        self.need = 0
        #: Peers that may still answer.
        self.pending = 0
        self.answers: dict[PeerId, ReturnAddress | None] = {}
        self.kept: dict[PeerId, Any] = {}
        self.fired = False


class Frame:
    """One run of a region."""

    __slots__ = (
        "account",
        "asked_at",
        "block",
        "blocks",
        "bound",
        "children",
        "controller",
        "deadline_ns",
        "delays",
        "expected",
        "fired",
        "gathers",
        "held",
        "id",
        "key",
        "left",
        "messages",
        "number",
        "open_replies",
        "origin",
        "owed",
        "paid",
        "parent",
        "payload",
        "return_address",
        "sender",
        "sent",
        "state",
        "touched",
        "unsent",
        "values",
        "waiting",
        "works",
    )

    def __init__(
        self, number: int, bound: BoundRegion, values: list[Any], deadline_ns: int, origin: int
    ) -> None:
        self.number = number
        #: What steps call it, once one does.
        self.id: FrameId | None = None
        self.bound = bound
        self.values = values
        self.deadline_ns = deadline_ns
        #: Tells frames of one region and sender apart; the frame's draws depend on it.
        self.origin = origin
        self.parent: Frame | None = None
        self.key = b""
        self.state = NEW
        #: Whether the engine will look at it before it goes on.
        self.touched = False
        self.children: dict[int, Frame] = {}
        #: Stretches that have not run, and which of them wait for a gather.
        self.left = len(bound.runs)
        self.waiting: tuple[int, ...] = bound.start_later
        self.fired: set[int] = set()
        self.gathers: dict[int, GatherState] = {}
        #: Its blocks by their events; and for a turn, the block that it is one of.
        self.blocks: dict[int, BlockState] = {}
        self.block: BlockState | None = None
        #: Its sleeps that have not woken, by their events.
        self.delays: dict[int, DelayState] = {}
        #: What opens frames like this one: a block that started earlier.
        self.controller: Controller | None = None
        #: Work that was handed to the host and has not come back.
        self.works: dict[int, Work] = {}
        #: Slots that it holds, by group of stretches.
        self.held: dict[int, Grant] = {}
        #: Reply edge -> peer -> what became of its answer.
        self.expected: dict[str, dict[PeerId, int]] = {}
        self.open_replies = 0
        self.sender: PeerId | None = None
        self.return_address: ReturnAddress | None = None
        #: Edges on which this frame's return address was answered.
        self.sent: set[str] = set()
        #: Answers that this frame promised to the senders of its children, and those it sent.
        self.owed: list[tuple[ReturnAddress, Edge]] = []
        self.paid: set[tuple[ReturnAddress, str]] = set()
        self.messages: list[int] = []
        self.payload = 0
        #: The peer that it is charged to.
        self.account: Peer | None = None
        #: When answers were asked for, by their edge.
        self.asked_at: dict[str, int] | None = None
        #: Envelopes of it that wait to be sent.
        self.unsent = 0

    @property
    def root(self) -> Frame:
        """The frame at the end of the line of parents: the round."""
        frame = self
        while frame.parent is not None:
            frame = frame.parent
        return frame

    @property
    def name(self) -> str:
        """Name of its region."""
        return self.bound.program.info.name

    def draw_key(self, peer: PeerId) -> bytes:
        """Return the key of its draws: a hash of what caused it, computed at the first draw."""
        if not self.key:
            own = self.sender.raw if self.sender else b""
            if self.parent is not None:
                parts = [b"child", self.parent.draw_key(peer)]
                own = own or self.origin.to_bytes(8, "little")
            elif self.sender is not None:
                parts = [b"message", self.origin.to_bytes(8, "little")]
            else:
                target = self.bound.program.target.short.encode()
                parts = [b"invoke", target, self.origin.to_bytes(8, "little")]
            digest = hashlib.blake2b(digest_size=32)
            for part in (*parts, self.name.encode(), own, peer.raw):
                digest.update(len(part).to_bytes(4, "little") + part)
            self.key = digest.digest()
        return self.key

    def forget(self) -> None:
        """Drop what it held; the record itself may live on in a timer or a context."""
        self.values = []
        self.children = {}
        self.gathers = {}
        self.block = None
        self.controller = None
        # Most frames have none of these, and looking is cheaper than making them anew. What was
        # held was given back.
        if self.blocks:
            self.blocks = {}
        if self.works:
            self.works = {}
        if self.delays:
            self.delays = {}
        self.expected = {}
        self.messages = []
        self.owed = []
        self.paid = set()
