"""What a target is lowered to: plain data that all Nodes of an artifact share."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from types import CodeType
from typing import NamedTuple

from bb_ir import keys
from bb_ir.types import Type
from bb_runtime.artifact import Edge, Op, RegionInfo, Target

__all__ = [
    "ARRIVE",
    "NO_DEFERRING",
    "TAKE",
    "BlockInfo",
    "DeferInfo",
    "Deferring",
    "DelayInfo",
    "GatherInfo",
    "Lowered",
    "RegionProgram",
    "Stretch",
    "begins",
    "is_block",
    "is_gather",
    "is_last",
    "is_sleep",
    "reads_of",
]

#: The two halves of `g.last` and of a gather over a block.
ARRIVE, TAKE = "Arrive", "Take"


@dataclass(frozen=True, slots=True)
class GatherInfo:
    """One gather, as the frame that waits for it knows it."""

    index: int
    edge: str
    share: Fraction | None
    number: int
    wait_all: bool
    fail_short: bool
    keep_open: bool
    deadline_ns: int
    outs: tuple[int, int, int, int]
    op: Op
    replies: int = 1

    def need(self, expected: int) -> int:
        """How many answers it takes, of so many peers asked."""
        if self.share is None:
            return self.number
        exact = self.share * expected
        return max(1, -(-exact.numerator // exact.denominator))


@dataclass(frozen=True, slots=True)
class BlockInfo:
    """One block, as the frame that it stands in knows it.

    Attributes:
        index: Number of the event that its last turn has ended; -1 when nobody waits for that.
        op: The op.
        region: Region of its turns.
        peers: Whether its items are peers, which turns get as lists of one.
        captured: How many of its inputs are handed to the turns.
        item: Type of what its turns begin with.
    """

    index: int
    op: Op
    region: str
    peers: bool
    captured: int
    item: Type


class Deferring(NamedTuple):
    """What the components of a Node say of a target before it is lowered.

    Attributes:
        ops: Numbers of the ops that may defer their work.
        siblings: Slots whose components depend on others, and all slots that a call of them uses.
    """

    ops: frozenset[int] = frozenset()
    siblings: tuple[tuple[str, tuple[str, ...]], ...] = ()


#: Where no component defers its work.
NO_DEFERRING = Deferring()


@dataclass(frozen=True, slots=True)
class DeferInfo:
    """One op whose work may be done elsewhere: number of its event, positions of its results."""

    index: int
    op: Op
    outs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DelayInfo:
    """One sleep: number of its event, position of what it passes on, and how long it is."""

    index: int
    op: Op
    out: int
    duration_ns: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """A straight piece of a region.

    Attributes:
        needs: Events that must have happened: how many frames up, and their index.
        ops: Its ops in order; line n of the code is op n.
        code: The compiled factory of its function.
        name: File name of the code in tracebacks.
        cost: How many ops it counts as: a call that stands for several counts as all of them.
    """

    needs: tuple[tuple[int, int], ...]
    ops: tuple[Op, ...]
    code: CodeType
    name: str
    cost: int = 1


@dataclass
class RegionProgram:
    """One region of a target, lowered.

    Attributes:
        info: What the artifact says about it.
        target: Short name of the target.
        size: Positions in the list of a frame's values.
        inputs: Input name to position, for what an invocation gives.
        ports: Position of each value that the opening envelope or turn brings; -1 when nobody
            reads it.
        stretches: The pieces; one that waits for more stands after one that waits for less.
        together: Stretches by their numbers, in groups: those of one differ only in the deferred
            work of each other that they wait for, and keep their slots until the last has run.
        gathers: Gathers whose frame is of this region.
        owes: Edges that answer the one that opens this region, and whether a frame of it or of
            its children sends them; else its parent does, after a gather.
        waits: Whether its frames may have to wait for messages.
        names: Name of the value at each position.
        block: The block whose turns run it.
        delays: The sleeps that stand in it.
        replies: How many of its frames a peer that answers opens.
        ends: Of each way to end, under what its frames are counted; one for all Nodes.
    """

    info: RegionInfo
    target: Target
    size: int = 0
    inputs: dict[str, int] = field(default_factory=dict[str, int])
    ports: tuple[int, ...] = ()
    stretches: tuple[Stretch, ...] = ()
    together: tuple[tuple[int, ...], ...] = ()
    gathers: tuple[GatherInfo, ...] = ()
    owes: tuple[tuple[Edge, bool], ...] = ()
    waits: bool = False
    names: tuple[str, ...] = ()
    block: BlockInfo | None = None
    delays: tuple[DelayInfo, ...] = ()
    replies: int = 1
    ends: dict[str, tuple[str, str, str]] = field(default_factory=dict[str, tuple[str, str, str]])

    def ended(self, how: str) -> tuple[str, str, str]:
        """Return under what a frame that ended so is counted."""
        return self.ends.setdefault(how, (self.target.short, self.info.name, how))


@dataclass(frozen=True)
class Lowered:
    """One target.

    Attributes:
        target: The target.
        regions: Its regions by name.
        gathers: Number of each gather's event, by the identity of its op.
        blocks: Its blocks, by the identity of their ops.
        deferred: Ops whose work may be done elsewhere, by their identity.
        delays: Its sleeps, by the identity of their ops.
    """

    target: Target
    regions: dict[str, RegionProgram]
    gathers: dict[int, int]
    blocks: dict[int, BlockInfo]
    deferred: dict[int, DeferInfo]
    delays: dict[int, DelayInfo]


def is_gather(op: Op) -> bool:
    """Whether an op is the engine's gather; ONNX has one of the same name."""
    return op.name == keys.GATHER and op.domain == keys.SYSCALL


def is_block(op: Op) -> bool:
    """Whether an op opens the region of a block."""
    return op.domain == keys.SYSCALL and op.name in keys.BLOCKS


def is_last(op: Op) -> bool:
    """Whether an op takes the value of the last turn out of a block."""
    return op.name == keys.LAST and op.domain == keys.SYSCALL


def is_sleep(op: Op) -> bool:
    """Whether an op passes its value on after some time."""
    return op.name == keys.SLEEP and op.domain == keys.SYSCALL


def begins(op: Op) -> bool:
    """Whether an op stands for what opens its region; nothing runs for it."""
    receives = op.domain == keys.WIRE and op.name == keys.RECEIVE
    return receives or (op.domain == keys.SYSCALL and op.name == keys.TURN)


def reads_of(op: Op) -> tuple[str, ...]:
    """Return the values that an op is given; a return address belongs to the frame itself."""
    if op.domain == keys.WIRE and op.name == keys.SENDER:
        return ()
    return op.inputs[1:] if op.domain == keys.SYSCALL and op.name == keys.UNTIL else op.inputs
