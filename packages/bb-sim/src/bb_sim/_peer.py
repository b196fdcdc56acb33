"""One virtual peer: its Node once it has one, what waits for it, and its place in time."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from bb_ir.wire import Built
from bb_runtime import Deferred, Node, Referred, Ship
from bb_sim._digest import Chain
from bb_sim._events import NEVER
from bb_sim._liars import Deceit

__all__ = ["Given", "Letter", "Lost", "Peer", "SkewedClock", "edge_id"]

_BILLION = 10**9


class Letter(NamedTuple):
    """An envelope on its way.

    Attributes:
        source: Number of the peer that sent it.
        life: Which life of it.
        departs: When it leaves; a peer that stops before never sends it.
        round: The round that caused it.
        edge: Name of its edge; empty for words of the engine, `?` for garbage.
        envelope: What it says.
        ship: The sender's step, to report back.
    """

    source: int
    life: int
    departs: int
    round: int
    edge: str
    envelope: Built | Referred
    ship: Ship


class Lost(NamedTuple):
    """Word that nobody was there to take an envelope.

    Attributes:
        ship: The sender's step.
        round: The round that caused it.
        life: The only life of the sender that it is for.
    """

    ship: Ship
    round: int
    life: int


#: What is handed to a Node: what came to it, work that is done, or nothing but the time.
Given = Letter | Lost | Deferred | None


class SkewedClock:
    """A peer's own time: ahead by an offset, and running a little too fast or slow."""

    __slots__ = ("_drift", "_offset")

    def __init__(self, offset_ns: int, drift_ppb: int) -> None:
        self._offset = offset_ns
        self._drift = drift_ppb

    def shown(self, true_ns: int) -> int:
        """Return what the clock shows at a true time."""
        return true_ns + self._offset + true_ns * self._drift // _BILLION

    def reaches(self, shown_ns: int) -> int:
        """Return the first true time at which the clock shows as much."""
        true = (shown_ns - self._offset) * _BILLION // (_BILLION + self._drift)
        while self.shown(true) < shown_ns:
            true += 1
        return true


class Peer:
    """One virtual peer.

    Attributes:
        number: Its number in the population.
        life: How often it was started, its Node's incarnation.
        node: Its Node, once something came to it.
        round: The round that it works for.
        pending: What came at an instant and has not been looked at yet, with the earliest time at
            which anything that it causes can arrive anywhere.
        floor: That time of the input before.
        busy: Until when it works; what comes earlier waits in `backlog`.
        due: When its Node's next timer is.
        wake: When that is already planned to be looked at.
        invoke_at: When it is invoked next.
        sent: How many envelopes it sent, by receiver.
        free: From when on a link of limited bandwidth is free, by receiver.
        worked: How many pieces of work it did.
        always: How long each of its pieces of work takes; -1 where that differs.
        lead: How long after an input the first envelope that it causes can arrive, where that is
            always the same; -1 where it differs, `None` until it was looked up.
        run_at: When it is planned to be looked at, so that what it causes is not late.
        works: Deferred work, by when it is done.
        met: Peers that its Node was told of.
        held: Envelopes that its Node had no room for, by sender, in the order in which they came.
        readable: When its Node found room again, and for whose.
    """

    __slots__ = (
        "always", "backlog", "busy", "chain", "clock", "deceit", "due", "floor", "free", "held",
        "invoke_at", "lead", "life", "met", "node", "number", "pending", "readable", "round",
        "run_at", "sent", "slow", "wake", "worked", "works",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        life: int,
        clock: SkewedClock | None,
        deceit: Deceit | None,
        *,
        slow: bool,
        always: int,
    ) -> None:
        self.number = number
        self.life = life
        self.clock = clock
        self.deceit = deceit
        self.slow = slow
        self.always = always
        self.lead: int | None = None
        self.run_at = NEVER
        self.node: Node | None = None
        self.chain = Chain()
        self.round = 0
        self.pending: tuple[int, Letter | Lost, int] | None = None
        self.floor = 0
        self.busy = 0
        #: Made when they are needed, as a deque takes 600 bytes.
        self.backlog: deque[Letter | Lost] | None = None
        self.readable: deque[tuple[int, int]] | None = None
        self.free: dict[int, int] | None = None
        self.held: dict[int, deque[Letter]] | None = None
        self.works: list[tuple[int, int, Deferred]] | None = None
        self.due = NEVER
        self.wake = -1
        self.invoke_at = NEVER
        self.sent: dict[int, int] = {}
        self.worked = 0
        self.met: set[int] = set()

    def shown(self, true_ns: int) -> int:
        """Return what the peer's clock shows."""
        return true_ns if self.clock is None else self.clock.shown(true_ns)

    def note_due(self) -> int:
        """Return when its Node's next timer is, in true time."""
        shown = None if self.node is None else self.node.next_wakeup()
        if shown is None:
            self.due = NEVER
        else:
            self.due = shown if self.clock is None else self.clock.reaches(shown)
        return self.due

    def has_own(self, until: int) -> bool:
        """Whether something falls due on the peer itself up to an instant."""
        if self.due <= until or self.invoke_at <= until or self.readable:
            return True
        return bool(self.works and self.works[0][0] <= until)


def edge_id(head: bytes) -> int:
    """Return the id of an envelope's edge: it stands at a fixed place of what Nodes write."""
    if len(head) < 59 or head[50] != 0x11:  # the field's tag, after prelude and program
        return 0
    return int.from_bytes(head[51:59], "little")
