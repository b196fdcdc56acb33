"""The state of running frames: plain records that the engine moves from state to state."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from bb_ir.ids import PeerId
from bb_runtime._lower import GatherInfo, RegionProgram

__all__ = ["BoundRegion", "Frame", "GatherState", "ReturnAddress"]

OPEN, ANSWERED, FAILED, CLOSED = range(4)


class ReturnAddress(NamedTuple):
    """A frame that waits for answers."""

    peer: PeerId
    frame: int
    incarnation: int


class BoundRegion:
    """A region of an installed target: its functions, and the frames that wait for a turn."""

    __slots__ = ("active", "bootstrap", "program", "queue", "runs", "start_now")

    def __init__(
        self, program: RegionProgram, runs: Sequence[Callable[[Frame], None]], *, bootstrap: bool
    ) -> None:
        self.program = program
        self.runs = tuple(runs)
        self.bootstrap = bootstrap
        #: Stretches that need no gather.
        self.start_now = tuple(i for i, s in enumerate(program.stretches) if not s.needs)
        self.active = 0
        self.queue: deque[Frame] = deque()


class GatherState:
    """One gather of one frame: who was asked, who answered."""

    __slots__ = ("answers", "asked", "expires_ns", "fired", "info", "lost", "need")

    def __init__(self, info: GatherInfo) -> None:
        self.info = info
        #: Peers asked, in order; `None` until the send ran.
        self.asked: tuple[PeerId, ...] | None = None
        self.need = 0
        self.answers: dict[PeerId, tuple[ReturnAddress | None, Any]] = {}
        #: Peers whose answer will not come.
        self.lost = 0
        self.fired = False
        self.expires_ns = 0


class Frame:
    """One run of a region."""

    __slots__ = (
        "bound",
        "cause",
        "children",
        "deadline_ns",
        "ended",
        "expected",
        "fired",
        "gathers",
        "key",
        "messages",
        "number",
        "open_replies",
        "parent",
        "payload",
        "return_address",
        "sender",
        "sent",
        "todo",
        "values",
    )

    def __init__(
        self,
        number: int,
        bound: BoundRegion,
        values: list[Any],
        deadline_ns: int,
        cause: tuple[bytes, ...],
        parent: Frame | None = None,
    ) -> None:
        self.number = number
        self.bound = bound
        self.values = values
        self.deadline_ns = deadline_ns
        self.cause = cause
        self.parent = parent
        self.key = b""
        self.children: dict[int, Frame] = {}
        self.todo: list[int] = list(range(len(bound.runs)))
        self.fired: set[int] = set()
        self.gathers: dict[int, GatherState] = {}
        #: Reply edge -> peer -> what became of its answer.
        self.expected: dict[str, dict[PeerId, int]] = {}
        self.open_replies = 0
        self.return_address: ReturnAddress | None = None
        self.sender: PeerId | None = None
        self.sent: set[str] = set()
        self.messages: list[int] = []
        self.payload = 0
        self.ended = False

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
