"""The state of running frames: plain records that the engine moves from state to state."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bb_ir.ids import PeerId
from bb_runtime._program import BlockInfo, DelayInfo, GatherInfo, RegionProgram
from bb_runtime.artifact import Edge

if TYPE_CHECKING:
    from bb_runtime._controllers import Controller
    from bb_runtime._deferred import Work
    from bb_runtime._peers import Peer
    from bb_runtime._slots import Grant, Plan
    from bb_runtime.steps import FrameId

__all__ = [
    "BlockState",
    "BoundRegion",
    "DelayState",
    "Dues",
    "Frame",
    "GatherState",
    "PeerParts",
    "ReturnAddress",
]

#: What became of an expected answer.
OPEN, ANSWERED, FAILED, CLOSED = range(4)
#: Where a frame is in its life.
NEW, QUEUED, LIVE, ENDED = range(4)


class _Nothing(dict[Any, Any]):
    """An empty dictionary that many frames share: most of them never have children or blocks."""

    def __setitem__(self, key: object, value: object) -> None:
        raise AssertionError(f"{key!r} was put into what all frames share")


#: In the place of a dictionary until something is put into it.
NOTHING: Final = _Nothing()
#: The values of a frame that has ended: none can be stored any more.
_NO_VALUES: Final[list[Any]] = []
_NOBODY: Final[frozenset[Any]] = frozenset()


class ReturnAddress(NamedTuple):
    """A frame that waits for answers, and what they have to bring back."""

    peer: PeerId
    frame: int
    incarnation: int
    grant: bytes = b""


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
        self.queue: list[Frame] = []


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


class Dues:
    """Until when the answers of single peers are waited for, where that is less than a gather is.

    Attributes:
        info: The gather, or one of several over the same answers.
        heap: Instant, order, and peer; those that have answered may still be in it.
        armed_ns: For when a timer is set; -1 for none.
        fired: Whether all gathers over the answers have fired.
    """

    __slots__ = ("armed_ns", "fired", "heap", "info", "number")

    def __init__(self, info: GatherInfo) -> None:
        self.info = info
        self.heap: list[tuple[int, int, PeerId]] = []
        self.number = 0
        self.armed_ns = -1
        self.fired = False

    def add(self, when_ns: int, peer: PeerId) -> None:
        """Remember until when a peer is waited for."""
        self.number += 1
        heapq.heappush(self.heap, (when_ns, self.number, peer))

    def state(self, now_ns: int) -> tuple[Any, ...]:
        """Return it as plain data; instants as what is left until them."""
        armed = None if self.armed_ns < 0 else self.armed_ns - now_ns
        return armed, self.fired, [(when - now_ns, peer) for when, _, peer in sorted(self.heap)]

    def load(self, state: tuple[Any, ...], now_ns: int) -> Dues:
        """Take over what `state` gave."""
        armed, fired, left = state
        self.armed_ns = -1 if armed is None else now_ns + int(armed)
        self.fired = bool(fired)
        for when, peer in left:
            self.add(now_ns + int(when), peer)
        return self


class PeerParts:
    """What a gather has of a peer that answers more than once.

    Attributes:
        arrived: Numbers of the child frames that reached the gather.
        lost: Whether one of its answers did not, so that it can never have answered.
        values: What is collected, by the number of the message that brought it.
    """

    __slots__ = ("arrived", "lost", "values")

    def __init__(self) -> None:
        self.arrived: set[int] = set()
        self.lost = False
        self.values: dict[int, Any] = {}


class GatherState:
    """One gather of one frame: who was asked, who answered."""

    __slots__ = (
        "answers", "asked", "dues", "failed", "fired", "info", "kept", "need", "parts", "pending",
    )  # fmt: skip

    def __init__(self, info: GatherInfo) -> None:
        self.info = info
        #: Peers asked, in order; `None` until the send ran.
        self.asked: tuple[PeerId, ...] | None = None
        self.need = 0
        #: Peers that may still answer.
        self.pending = 0
        self.answers: dict[PeerId, ReturnAddress | None] = {}
        self.kept: dict[PeerId, Any] = {}
        #: Where a peer answers more than once, what came of it so far.
        self.parts: dict[PeerId, PeerParts] = NOTHING
        #: Child frames that failed before they reached it, by the code of what failed.
        self.failed: dict[str, int] = NOTHING
        self.fired = False
        #: Until when single peers are waited for, if that is measured.
        self.dues: Dues | None = None

    def parts_of(self, peer: PeerId) -> PeerParts:
        """Return what came of a peer that answers more than once."""
        if self.parts is NOTHING:
            self.parts = {}
        found = self.parts.get(peer)
        if found is None:
            found = self.parts[peer] = PeerParts()
        return found

    def count_failed(self, code: str) -> None:
        """Note that a child frame failed before it reached the gather."""
        if self.failed is NOTHING:
            self.failed = {}
        self.failed[code] = self.failed.get(code, 0) + 1

    def reached_by(self, child: Frame) -> bool:
        """Whether a child frame has arrived."""
        peer = child.sender
        if peer is None or peer in self.answers:
            return peer is not None
        parts = self.parts.get(peer)
        return parts is not None and child.number in parts.arrived

    def counts_out(self, peer: PeerId) -> bool:
        """Note that an answer of a peer will not arrive; tells whether it is the first one."""
        if self.info.replies == 1:
            return True
        parts = self.parts_of(peer)
        before, parts.lost = parts.lost, True
        return not before


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
        "parts",
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
        self.children: dict[int, Frame] = NOTHING
        #: Stretches that have not run, and which of them wait for a gather.
        self.left = len(bound.runs)
        self.waiting: tuple[int, ...] = bound.start_later
        self.fired: frozenset[int] = _NOBODY
        self.gathers: dict[int, GatherState] = NOTHING
        #: Its blocks by their events; and for a turn, the block that it is one of.
        self.blocks: dict[int, BlockState] = NOTHING
        self.block: BlockState | None = None
        #: Its sleeps that have not woken, by their events.
        self.delays: dict[int, DelayState] = NOTHING
        #: What opens frames like this one: a block that started earlier.
        self.controller: Controller | None = None
        #: Work that was handed to the host and has not come back.
        self.works: dict[int, Work] = NOTHING
        #: Slots that it holds, by group of stretches.
        self.held: dict[int, Grant] = NOTHING
        #: Reply edge -> peer -> what became of its answer.
        self.expected: dict[str, dict[PeerId, int]] = NOTHING
        self.open_replies = 0
        self.sender: PeerId | None = None
        self.return_address: ReturnAddress | None = None
        #: Edges on which this frame's return address was answered.
        self.sent: frozenset[str] = _NOBODY
        #: Answers that this frame promised to the senders of its children, and those it sent.
        self.owed: tuple[tuple[ReturnAddress, Edge], ...] = ()
        self.paid: frozenset[tuple[ReturnAddress, str]] = _NOBODY
        #: Where peers answer more than once: how many answers of a peer on an edge are here, and
        #: how many were sent on an edge, or to an address.
        self.parts: dict[tuple[PeerId | ReturnAddress | None, str], int] = NOTHING
        #: Of its envelopes that ask for answers, the ids.
        self.messages: Sequence[int] = ()
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
                if self.bound.program.replies > 1:
                    parts.append(self.origin.to_bytes(8, "little"))
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

    def count_part(self, who: PeerId | ReturnAddress | None, edge: str) -> int:
        """Count one more answer of a peer, or to an address, and return how many there are."""
        if self.parts is NOTHING:
            self.parts = {}
        count = self.parts[who, edge] = self.parts.get((who, edge), 0) + 1
        return count

    def forget(self) -> None:
        """Drop what it held; the record itself may live on in a timer or a context."""
        self.values = _NO_VALUES
        self.return_address = None
        self.children = self.gathers = self.blocks = self.works = self.delays = NOTHING
        self.expected = self.parts = NOTHING
        self.block = None
        self.controller = None
        self.messages = self.owed = ()
        self.paid = self.sent = _NOBODY
