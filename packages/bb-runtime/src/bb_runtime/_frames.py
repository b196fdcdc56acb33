"""The state of running frames: plain records that the engine moves from state to state."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bb_ir.ids import PeerId
from bb_runtime._lower import GatherInfo, RegionProgram
from bb_runtime.artifact import Edge

__all__ = ["BoundRegion", "Frame", "GatherState", "ReturnAddress"]

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

    __slots__ = ("active", "bootstrap", "program", "queue", "runs", "start_later", "start_now")

    def __init__(
        self, program: RegionProgram, runs: Sequence[Callable[[Frame], None]], *, bootstrap: bool
    ) -> None:
        self.program = program
        self.runs = tuple(runs)
        self.bootstrap = bootstrap
        #: Stretches that need no gather, and those that do.
        self.start_now = tuple(i for i, s in enumerate(program.stretches) if not s.needs)
        self.start_later = tuple(i for i, s in enumerate(program.stretches) if s.needs)
        self.active = 0
        self.queue: deque[Frame] = deque()


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
        "bound",
        "children",
        "deadline_ns",
        "expected",
        "fired",
        "gathers",
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
        "values",
        "waiting",
    )

    def __init__(
        self, number: int, bound: BoundRegion, values: list[Any], deadline_ns: int, origin: int
    ) -> None:
        self.number = number
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
        self.expected = {}
        self.messages = []
        self.owed = []
        self.paid = set()
