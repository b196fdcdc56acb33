"""How long answers may take where a program says `deadline="auto"`: by how long they took.

Each peer has an estimate for each edge that it answers on. It may take the mean of its answers and
four deviations more (Jacobson), at least twice the mean and `Options.auto_least_ns`; a peer whose
answers never take twice as long as its fastest one is so never given up. A peer that was given up
may take twice as long the next time, up to eight times, until an answer comes in time or late
(Karn): a late one is counted and dropped as ever, but says how long it took. A peer that has not
answered yet may take twice the longest of the last answers of all peers on the edge; while there
are few of these, what the program says is all there is. Nothing here makes a gather wait longer
than its program says.

A peer that was silent, and is left alone for that, is not waited for if there are enough others.
It is left alone for no less than it was waited for; then it is asked again, and gets the time that
it had before it fell silent.

All of it is a function of what came in, in its order, so that a replay does the same. Nothing is
drawn here, and edges without `auto` never come here.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from bb_runtime._estimates import LONGEST_NS, RoundTrip
from bb_runtime._frames import LIVE, OPEN, Dues, Frame, GatherState

if TYPE_CHECKING:
    from bb_runtime._engine import Engine
    from bb_runtime._letters import Letter
    from bb_runtime._peers import Peer
    from bb_runtime.artifact import Edge

__all__ = ["Pace", "Paces"]

#: So many of the last answers of an edge stand for peers that have not answered yet,
_RECENT = 64
#: and so few say nothing.
_ENOUGH = 8
#: So often the time of a peer that was given up doubles.
_MOST_DOUBLINGS = 3
#: So many answers of a peer are remembered that it was not waited for.
_MOST_MISSED = 8


class Pace:
    """How long one peer takes to answer on one edge.

    Attributes:
        trip: The estimate.
        missed: Frames that gave an answer up, and when they had asked.
    """

    __slots__ = ("missed", "trip")

    def __init__(self, trip: Iterable[int] = (), missed: Mapping[int, int] | None = None) -> None:
        self.trip = RoundTrip(*trip)
        self.missed = dict(missed or {})

    def state(self, now_ns: int) -> tuple[Any, ...]:
        """Return it as plain data; instants as what is past."""
        return self.trip.state(), {frame: at - now_ns for frame, at in self.missed.items()}

    @classmethod
    def load(cls, state: tuple[Any, ...], now_ns: int) -> Pace:
        """Return what `state` gave."""
        trip, missed = state
        found = {int(frame): now_ns + int(past) for frame, past in missed.items()}
        return cls([int(number) for number in trip], found)


class Paces:
    """Deadlines of the answers that one Node waits for.

    Attributes:
        recent: How long the last answers took, by edge; all edges whose answers may be overdue.
    """

    __slots__ = ("_engine", "recent")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        edges = engine.artifact.edges.values()
        self.recent: dict[str, deque[int]] = {
            edge.name: deque(maxlen=_RECENT) for edge in edges if edge.auto
        }

    # Waiting

    def watch(self, frame: Frame, edge: Edge) -> None:
        """Set the deadlines of the answers that a frame has just asked for."""
        engine = self._engine
        states = [state for state in frame.gathers.values() if state.info.edge == edge.name]
        if not states:
            return
        entries, records = frame.expected[edge.name], engine.peers.records
        asked = [records[peer] for peer, entry in entries.items() if entry == OPEN]
        self._skip_silent(frame, edge, states, asked)
        dues = states[0].dues = Dues(states[0].info)
        longest, usual = max(state.info.deadline_ns for state in states), self._usual_ns(edge.name)
        for record in asked:
            if record.waiting or entries[record.id] != OPEN:
                continue  # it is not asked, or not yet: see `shipped`
            wait = self._wait_ns(record, edge.name, usual)
            if wait < longest:
                dues.add(engine.now_ns + wait, record.id)
        self._arm(frame, dues)

    def shipped(self, letter: Letter) -> None:
        """Set the deadline of the answers to an envelope that waited until now."""
        frame, engine = letter.frame, self._engine
        if frame is None or frame.state != LIVE:
            return
        for edge in letter.replies:
            if not edge.auto or frame.expected.get(edge.name, {}).get(letter.peer) != OPEN:
                continue
            dues = _dues_of(frame, edge.name)
            if dues is not None:
                record = engine.peers.of(letter.peer)
                wait = self._wait_ns(record, edge.name, self._usual_ns(edge.name))
                if wait < dues.info.deadline_ns:
                    dues.add(engine.now_ns + wait, letter.peer)
                    self._arm(frame, dues)

    def due(self, frame: Frame, dues: Dues) -> None:
        """Give up the answers that are overdue."""
        engine, edge, heap = self._engine, dues.info.edge, dues.heap
        dues.armed_ns = -1
        entries = frame.expected.get(edge, {})
        while heap and (heap[0][0] <= engine.now_ns or entries.get(heap[0][2]) != OPEN):
            _, _, peer = heapq.heappop(heap)
            if entries.get(peer) == OPEN:
                self._missed(frame, edge, engine.peers.of(peer))
                engine.gathers.answer_failed(frame, edge, peer, "overdue")
        self._arm(frame, dues)

    def _arm(self, frame: Frame, dues: Dues) -> None:
        if not dues.heap:
            return
        earliest = dues.heap[0][0]
        if not 0 <= dues.armed_ns <= earliest:
            dues.armed_ns = earliest
            self._engine.timers.set(earliest, frame, dues)

    def _skip_silent(
        self, frame: Frame, edge: Edge, states: list[GatherState], asked: list[Peer]
    ) -> None:
        """Fail at once the answers of peers that are left alone, if the others are enough."""
        engine, now = self._engine, self._engine.now_ns
        silent = [
            record
            for record in asked
            if now < record.quiet_ns and record.failures and not record.holds and record.waiting
        ]
        # If they are not, all are waited for: else rounds that fail would follow each other without
        # any time passing.
        if not silent or len(asked) - len(silent) < max(map(_needed, states)):
            return
        for record in silent:
            # The next silence is counted from the next question on.
            record.asked_ns = -1
            engine.gathers.answer_failed(frame, edge.name, record.id, "suspected")
            engine.post.outbound.sift(record)

    # Estimates

    def _wait_ns(self, record: Peer, edge: str, usual_ns: int) -> int:
        """Return how long a peer may take; `usual_ns` is for one that has not answered yet."""
        options = self._engine.options
        pace = None if record.paces is None else record.paces.get(edge)
        wait, doublings = usual_ns, 0
        if pace is not None:
            trip = pace.trip
            if trip.count:
                wait = trip.mean_ns + max(4 * trip.deviation_ns, trip.mean_ns)
            # Whether one that was left alone is there again takes no longer to find out.
            if record.quiet_ns < 0:
                doublings = trip.doublings
        wait = max(wait, options.auto_least_ns) << doublings
        return min(wait, options.auto_most_ns) if options.auto_most_ns else wait

    def _usual_ns(self, edge: str) -> int:
        recent = self.recent[edge]
        return 2 * max(recent) if len(recent) >= _ENOUGH else _FOREVER_NS

    def answered(self, record: Peer, edge: str, taken_ns: int) -> None:
        """Take in how long an answer took that came in time."""
        if record.skip:
            return  # it was asked twice, or later than its frame believes
        self._pace(record, edge).trip.observe(taken_ns)
        self.recent[edge].append(taken_ns)

    def late(self, record: Peer, edge: str, frame: int) -> None:
        """Take in how long an answer took that was given up."""
        pace = None if record.paces is None else record.paces.get(edge)
        asked = None if pace is None else pace.missed.pop(frame, None)
        if asked is not None:
            self.answered(record, edge, self._engine.now_ns - asked)
            record.skip = False

    def _missed(self, frame: Frame, edge: str, record: Peer) -> None:
        pace, now = self._pace(record, edge), self._engine.now_ns
        pace.trip.timed_out(min(pace.trip.doublings + 1, _MOST_DOUBLINGS))
        while len(pace.missed) >= _MOST_MISSED:
            del pace.missed[next(iter(pace.missed))]
        asked = pace.missed[frame.number] = (frame.asked_at or {}).get(edge, now)
        if record.asked_ns < 0:
            return  # it gave a sign of life: it is slow, and not gone
        self._engine.peers.failed(record)
        record.asked_ns = -1
        if now < record.quiet_ns:
            # No less than was lost by waiting for it: else most rounds would wait for it again.
            record.quiet_ns = max(record.quiet_ns, now + min(now - asked, LONGEST_NS))

    def _pace(self, record: Peer, edge: str) -> Pace:
        if record.paces is None:
            record.paces = {}
        pace = record.paces.get(edge)
        if pace is None:
            pace = record.paces[edge] = Pace()
        return pace

    # Snapshots

    def state(self) -> dict[str, list[int]]:
        """Return what is known about edges as plain data; what is known of peers is theirs."""
        return {edge: list(recent) for edge, recent in self.recent.items()}

    def load(self, state: Mapping[str, Iterable[int]]) -> None:
        """Take over what `state` gave."""
        for edge, recent in self.recent.items():
            recent.clear()
            recent.extend(int(taken) for taken in state[edge])


#: How long peers may take that nothing is known about.
_FOREVER_NS = 2**62


def _needed(state: GatherState) -> int:
    """Return how many peers a gather has to wait for at least."""
    info = state.info
    return 1 if info.wait_all and not info.fail_short else max(state.need, 1)


def _dues_of(frame: Frame, edge: str) -> Dues | None:
    found = (state.dues for state in frame.gathers.values() if state.info.edge == edge)
    return next((dues for dues in found if dues is not None and not dues.fired), None)
