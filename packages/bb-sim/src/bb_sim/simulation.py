"""The simulator: real Nodes in a virtual world.

Nodes do what they do everywhere; this module is what lies between them. It keeps one queue of
events in virtual time, and hands each Node its inputs in the order of their instants.

**It runs late.** An input is not looked at when it arrives, but when the Node's next input comes,
or when the earliest envelope that it could cause could arrive somewhere, whichever is first. Both
are known before the Node runs: delays and durations are draws that do not depend on what is sent.
So an answer is computed just before it is folded, its buffer goes back to the pool, and memory
does not grow with the number of peers. What a Node sends in answer to an input never arrives
before that time; with `late=False` every input is looked at once, and the results are the same.

How an input is handled:

1. `_arrive` finishes what the peer put off, then puts the input into its backlog if the peer is
   still at work, else puts it off (`_take`).
2. `_settle` looks at what was put off, and at timers and invocations that are due by now.
3. `_process` moves the Node's clock to the input's instant, hands it in, and polls.
4. `_give_out` carries what the Node wants sent into the world: links decide what becomes of it.

Peers are made when something comes to them first. All queue entries are ordered by their instant,
then by what they are, to whom, from whom and which: nothing depends on the order of creation.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping
from copy import deepcopy
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bb_ir import keys
from bb_ir.ids import PeerId
from bb_ir.wire import PRELUDE_SIZE, Built
from bb_runtime import (
    Artifact,
    BlockEnded,
    Deferred,
    Dropped,
    FrameEnded,
    Later,
    Lease,
    Node,
    Options,
    Readable,
    Refuse,
    Ship,
    load_artifact,
)
from bb_sim._digest import digest_of_run
from bb_sim._draws import Draws
from bb_sim._installing import Fields, Installer, counts_of, inputs_of, main_target
from bb_sim._liars import Deceit
from bb_sim._links import Links
from bb_sim._peer import Input, Kind, Letter, Peer, edge_id
from bb_sim._population import Population
from bb_sim._reading import duration
from bb_sim._recorder import Recorder
from bb_sim._timetable import Paces, Timetable, clock_of, clocks_of
from bb_sim.errors import BadScenario
from bb_sim.results import Result, Round, Span
from bb_sim.scenario import Liar, Scenario

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["Simulation", "peer_counts", "simulate"]

#: With so few possible receivers the earliest arrival is looked up, with more it is estimated.
_FEW = 4
#: After all that can happen, in nanoseconds.
_NEVER = 1 << 80


class _Event(IntEnum):
    """What the queue holds; of one instant, in this order."""

    MOVE = 0
    START = 1
    LOCAL = 2
    ARRIVE = 3
    FREE = 4
    RUN = 5


class Simulation:
    """A program, its peers and their world, in virtual time.

    Args:
        artifact: A compiled model, its bytes or its file.
        scenario: How many peers, which links and faults, for how long.
        config: Configuration by slot, or by `<class>.<slot>`. A function instead of a mapping is
            called with the peer's index in its class. A peer selector that is not told its peers
            gets all of the class it selects.
        options: Bounds of all Nodes.
        late: Whether Nodes run as late as possible, which needs less memory and changes nothing
            else.
        digest: Whether to compute the digest of all steps.

    Raises:
        InstallError: The artifact cannot be installed.
        BadScenario: The scenario does not fit the program, or itself.
    """

    def __init__(
        self,
        artifact: ModelProto | Artifact | bytes | str | Path,
        scenario: Scenario | None = None,
        *,
        config: Mapping[str, Fields] | None = None,
        options: Options | None = None,
        late: bool = True,
        digest: bool = True,
    ) -> None:
        self.artifact = load_artifact(artifact)
        self.scenario = scenario = scenario or Scenario()
        self.main = main_target(self.artifact, scenario.target)
        counts = peer_counts(self.artifact, scenario)
        draws = Draws(scenario.seed)
        self.population = Population.of(counts, scenario.seed)
        self.now_ns = 0
        self._draws = draws
        self._late = late
        self._digest = digest
        self._links = Links(scenario, self.population, draws)
        self._table = Timetable(scenario, self.population, draws)
        self._paces = Paces(scenario, self.population, draws)
        self._clocks = clocks_of(scenario, self.population)
        self._liars = self._find_liars()
        self._installer = Installer(
            self.artifact, self.population, config or {}, scenario.seed, options
        )
        self._installer.try_each()
        self._recorder = Recorder()
        self._until = duration(scenario.until, "until", least=1) if scenario.until else -1
        self._pause = duration(scenario.pause, "pause")
        if scenario.rounds is not None and scenario.rounds < 1:
            raise BadScenario(f"rounds is {scenario.rounds}", expected="at least 1")
        blocks = {r.name for r in self.main.regions if r.kind.capitalize() in keys.ROOT_BLOCKS}
        self._blocks = len(blocks)
        self._round_regions = blocks or {r.name for r in self.main.regions if not r.opened_in}
        self._rounds = scenario.rounds or (0 if blocks else 1)
        self._inputs = inputs_of(self.main, scenario.inputs, self.population)
        self._receivers = self._find_receivers()
        booted = {t.cls for t in self.artifact.targets.values() if t.phase == "bootstrap"}
        #: Of each class, whether its peers have something to do before anything comes to them.
        self._bootstraps = [cls in booted for cls in self.population.classes]
        self._queue: list[tuple[int, _Event, int, int, int, int, int, Any]] = []
        self._serial = 0
        self._peers: dict[int, Peer] = {}
        self._absent = set(self._table.absent)
        self._lives: dict[int, int] = {}
        self._installed: set[int] = set()
        #: Rounds that peers had begun when they stopped.
        self._reached: dict[int, int] = {}
        #: By when it is known that all rounds ended, however late Nodes run.
        self._end_ns = 0
        self._stopped: dict[tuple[int, int], int] = {}
        self._past: list[tuple[int, int, bytes]] = []
        members = self.population.members(self.main.cls)
        self._roots = set(members if scenario.start == "all" else members[:1])
        self._left = set(self._roots)
        self._ended: dict[int, int] = {}
        self._blocks_left: dict[int, int] = {}
        self._begin()

    # What there is to see

    @property
    def nodes(self) -> dict[str, Node]:
        """The Nodes that were needed so far and run, by name, such as `client[3]`."""
        name = self.population.name
        return {name(n): peer.node for n, peer in sorted(self._peers.items()) if peer.node}

    @property
    def kept_waiting(self) -> list[str]:
        """Names of peers whose Nodes had no room for envelopes that still wait."""
        return [self.population.name(n) for n, peer in sorted(self._peers.items()) if peer.held]

    @property
    def root(self) -> Node:
        """The Node that is invoked; the first of them."""
        peer = self._peer(min(self._roots))
        return peer.node or self._install(peer, self.now_ns)

    @property
    def done(self) -> bool:
        """Whether all rounds that were asked for came to an end."""
        return not self._left

    # Running

    def run(self) -> Result:
        """Run to the end of the last round, or of the time, and return what it brought."""
        for _ in self.rounds():
            pass
        return self.result()

    def rounds(self) -> Iterator[Round]:
        """Run, and give each round as it ends on all peers that were invoked.

        Raises:
            Exception: What a component raised that is no `Exception`, such as Ctrl-C; `result`
                still tells what was done.
        """
        told, going = 0, True
        while going and not self.done:
            going = self._next()
            while self._ended.get(told + 1, 0) >= len(self._roots):
                told += 1
                yield self._recorder.round(told)
        if self.done:
            self._finish()

    def _finish(self) -> None:
        """See to all that happens until the end is known: the same however late Nodes run."""
        end = self._end_ns if self._until < 0 else min(self._end_ns, self._until)
        while self._queue and self._queue[0][0] <= end:
            self._step()
        self._settle_all(end)

    def _settle_all(self, now: int) -> None:
        for number in sorted(self._peers):
            self._settle(self._peers[number], now)

    def drain(self, *, within: str = "1h") -> None:
        """Go on after the last round until nothing is on its way and no timer runs."""
        end = self.now_ns + duration(within, "within")
        while self._queue and self._queue[0][0] <= end:
            self._step()
        self._settle_all(self.now_ns)

    def result(self) -> Result:
        """Return what was done so far."""
        recorder = self._recorder
        numbers = sorted(n for n, one in recorder.rounds.items() if n and one.started_ns >= 0)
        end = max((one.ended_ns for one in recorder.rounds.values()), default=0)
        gaps = [
            Span(name, 0, *gap)
            for name, peer in recorder.shown.items()
            for gap in self._table.gaps(peer, end)
        ]
        return Result(
            complete=self.done,
            rounds=[deepcopy(recorder.rounds[n]) for n in numbers],
            peers={cls: self.population.count(cls) for cls in self.population.classes},
            installed=len(self._installed),
            seed=self.scenario.seed,
            virtual_ns=end,
            digest=self._digest_of_all() if self._digest else "",
            spans=[*recorder.spans, *gaps],
        )

    def close(self) -> None:
        """Close all Nodes."""
        for peer in self._peers.values():
            if peer.node is not None:
                peer.node.close()
                peer.node = None

    # Before the first event

    def _begin(self) -> None:
        for at, number, up in self._table.moves:
            self._push(at, _Event.MOVE, number, int(up))
        for number in range(len(self.population)) if True in self._bootstraps else ():
            if self._bootstraps[self.population.class_of[number]] and number not in self._absent:
                self._push(0, _Event.START, number)
        for number in sorted(self._roots):
            if number not in self._absent:
                self._plan(self._peer(number), 0)

    def _find_liars(self) -> dict[int, Liar]:
        found: dict[int, Liar] = {}
        for at, liar in enumerate(self.scenario.liars):
            place = f"[[liars]] number {at + 1}"
            for number in self.population.select(liar.peers, self._draws, place):
                found[number] = liar
        return found

    def _find_receivers(self) -> tuple[tuple[int, ...] | None, ...]:
        """Return to whom each class can send, where these are few, else `None`."""
        found: list[tuple[int, ...] | None] = []
        for cls in self.population.classes:
            edges = self.artifact.edges.values()
            classes = {e.target_class for e in edges if e.source_class == cls}
            classes |= {e.source_class for e in edges if e.target_class == cls}
            members = [n for one in sorted(classes) for n in self.population.members(one)]
            found.append(tuple(members) if len(members) <= _FEW else None)
        return tuple(found)

    # The queue

    def _push(  # noqa: PLR0917  # the fields of an entry, in their order
        self, when: int, event: _Event, number: int, source: int = 0, count: int = 0, copy: int = 0,
        what: Any = None,
    ) -> None:  # fmt: skip
        self._serial += 1  # decides only between entries that are alike
        assert event != _Event.ARRIVE or when >= self.now_ns, "an envelope arrives in the past"
        when = max(when, self.now_ns)
        heapq.heappush(self._queue, (when, event, number, source, count, copy, self._serial, what))

    def _next(self) -> bool:
        """Handle the next event; return false when there is none before the end."""
        if not self._queue:
            return False
        if 0 <= self._until < self._queue[0][0]:
            self.now_ns = self._until
            self._settle_all(self._until)
            return False
        self._step()
        return True

    def _step(self) -> None:
        when, event, number, source, _, _, _, what = heapq.heappop(self._queue)
        self.now_ns = when
        if event == _Event.ARRIVE:
            self._arrive(number, when, what)
        elif event == _Event.MOVE:
            self._move(number, when, up=bool(source))
        elif number in self._absent:
            return
        elif number in self._peers or event in (_Event.LOCAL, _Event.START):
            self._look(self._peer(number), when, event)

    def _look(self, peer: Peer, when: int, event: _Event) -> None:
        """See to a peer whose time has come: to run late, to run a timer, or to take the next."""
        self._settle(peer, when)
        if event == _Event.START and peer.node is None:
            self._install(peer, when)
            self._after(peer, when, Input(Kind.WAKE, None, 0), when, charged=False)
        if event == _Event.LOCAL and peer.wake <= when:
            peer.wake = -1  # the timer that it was for may have gone: there may be a later one
            self._plan_wake(peer)
        if event == _Event.FREE and peer.backlog:
            if peer.busy > when:
                self._push(peer.busy, _Event.FREE, peer.number)
                return
            self._take(peer, when, peer.backlog.popleft())
            if peer.backlog:
                self._push(max(when, peer.busy), _Event.FREE, peer.number)

    # Inputs

    def _arrive(self, number: int, when: int, given: Input) -> None:
        """Hand an input to a peer, or note that nobody is there."""
        what = given.what
        letter = what if isinstance(what, Letter) else None
        if letter is not None and self._was_stopped(letter):
            self._recorder.lost(letter.round, "sender_stopped")
            return
        if number in self._absent:
            if letter is not None:
                self._undeliverable(number, when, letter)
            return
        peer = self._peer(number)
        if given.life not in (0, peer.life):
            return
        self._settle(peer, when)
        if peer.busy > when:
            peer.backlog.append(given)
            if len(peer.backlog) == 1:
                self._push(peer.busy, _Event.FREE, number)
            return
        self._take(peer, when, given)

    def _take(self, peer: Peer, when: int, given: Input) -> None:
        """Look at an input now, or put it off until something could come of it."""
        floor = self._floor(peer, when)
        if not self._late or floor <= when:
            self._process(peer, when, given, floor)
            self._run_local(peer, when)
            return
        peer.pending = (when, given, floor)
        self._push(floor, _Event.RUN, peer.number)

    def _floor(self, peer: Peer, when: int) -> int:
        """Return when the first envelope that an input can cause can arrive at the earliest."""
        takes = self._paces.takes(peer.number, peer.worked, slow=peer.slow)
        receivers = self._receivers[self.population.class_of[peer.number]]
        if receivers is None:
            return when + takes + self._links.fastest
        soonest, number, sent = self._links.soonest, peer.number, peer.sent
        return when + takes + min((soonest(number, to, sent.get(to, 0)) for to in receivers),
                                  default=0)  # fmt: skip

    def _settle(self, peer: Peer, now: int) -> None:
        """Look at what was put off, and at what fell due on the peer itself."""
        if peer.pending is not None:
            (when, given, floor), peer.pending = peer.pending, None
            self._run_local(peer, when)
            self._process(peer, when, given, floor)
        self._run_local(peer, now)

    def _run_local(self, peer: Peer, until: int) -> None:
        """Run invocations, work that is done and timers up to an instant, one after the other."""
        while True:
            if peer.readable:
                self._offer_again(peer, *peer.readable.popleft())
                continue
            invoke, wake = peer.invoke_at, peer.next_wakeup()
            done = peer.works[0][0] if peer.works else None
            due = min((at for at in (wake, done) if at is not None), default=_NEVER)
            if 0 <= invoke <= min(due, until):
                peer.invoke_at = -1
                self._invoke(peer, invoke)
                continue
            if due > until:
                return
            given = Input(Kind.WAKE, None, peer.round)
            if due == done:
                given = Input(Kind.WORK, heapq.heappop(peer.works)[2], peer.round)
            self._process(peer, due, given, peer.floor)

    def _process(self, peer: Peer, when: int, given: Input, floor: int) -> None:
        """Hand an input to a Node at its instant, and see what comes of it."""
        node = peer.node or self._install(peer, when)
        node.advance(peer.shown(when))
        charged = False
        match given:
            case Input(Kind.ENVELOPE, Letter() as letter, _):
                if peer.number not in self._roots:
                    peer.round = letter.round
                charged = self._offer(peer, node, letter) and bool(letter.edge)
            case Input(Kind.LOST, Ship() as ship, _):
                node.send_failed(ship)
            case Input(Kind.WORK, Deferred() as work, _):
                work.run()
            case _:
                pass
        self._after(peer, when, given, floor, charged=charged)

    def _offer(self, peer: Peer, node: Node, letter: Letter) -> bool:
        """Offer an envelope to a Node; keep it, and all that follow it, if they are to wait."""
        waiting = peer.held.get(letter.source)
        if waiting is not None:
            waiting.append(letter)
            return False
        self._introduce(peer, node, letter.source)
        answer = deliver(node, letter.envelope, self.population.ids[letter.source])
        if isinstance(answer, Later):
            peer.held[letter.source] = deque([letter])
        return isinstance(answer, Lease)

    def _offer_again(self, peer: Peer, when: int, source: int) -> None:
        """Offer what was to wait, in the order in which it came."""
        for letter in peer.held.pop(source, ()):
            given = Input(Kind.ENVELOPE, letter, letter.round)
            self._process(peer, when, given, peer.floor)

    def _after(self, peer: Peer, when: int, given: Input, floor: int, *, charged: bool) -> None:
        """Take out what a Node reports of an input, and plan what comes next."""
        assert peer.node is not None
        steps = peer.node.poll()
        peer.floor = floor
        ships: list[tuple[Ship, int]] = []
        works: list[Deferred] = []
        recorder = self._recorder
        if self._digest:
            peer.chain.add(when, steps)
        for step in steps:
            if isinstance(step, Ship):
                ships.append((step, peer.round))
                continue
            if isinstance(step, Deferred):
                works.append(step)
                continue
            recorder.step(peer.round, step)
            if isinstance(step, Dropped):
                charged = False
            elif isinstance(step, Readable):
                peer.readable.append((when, self.population.numbers[step.peer]))
            elif isinstance(step, FrameEnded | BlockEnded) and peer.number in self._roots:
                self._ends(peer, when, step)
        if given.kind == Kind.WAKE:
            charged = bool(ships)
        elif charged and isinstance(given.what, Letter):
            self._count_answer(peer, given.what)
        self._pay(peer, when, works, ships, floor, charged=charged)
        self._plan_wake(peer)

    def _pay(
        self, peer: Peer, when: int, works: list[Deferred], ships: list[tuple[Ship, int]],
        floor: int, *, charged: bool,
    ) -> None:  # fmt: skip
        """Let time pass for what was done, then give out what is to be sent."""
        departs = when
        if charged and not works:
            departs += self._paces.takes(peer.number, peer.worked, slow=peer.slow)
            peer.worked += 1
            peer.busy = max(peer.busy, departs)
            self._note_work(peer, when, departs)
        for work in works:
            takes = self._paces.takes(peer.number, peer.worked, slow=peer.slow)
            peer.worked += 1
            self._note_work(peer, when, when + takes)
            heapq.heappush(peer.works, (when + takes, peer.worked, work))
            self._push(when + takes, _Event.LOCAL, peer.number)
        for ship, number in ships:
            self._give_out(peer, ship, departs, number, max(floor, departs))

    def _note_work(self, peer: Peer, start: int, end: int) -> None:
        if peer.number not in self._roots:
            name = self.population.name(peer.number)
            self._recorder.worked(peer.number, name, peer.round, start, end)

    def _plan_wake(self, peer: Peer) -> None:
        wake = peer.next_wakeup()
        if wake is not None and (peer.wake < self.now_ns or wake < peer.wake):
            peer.wake = wake
            self._push(wake, _Event.LOCAL, peer.number)

    def _count_answer(self, peer: Peer, letter: Letter) -> None:
        edge = self.artifact.edges.get(letter.edge)
        if edge is not None and edge.parent and peer.number in self._roots:
            self._recorder.round(letter.round).answered += 1

    # Rounds

    def _plan(self, peer: Peer, when: int) -> None:
        """Have a peer invoked at an instant."""
        peer.invoke_at = when
        self._push(when, _Event.LOCAL, peer.number)

    def _invoke(self, peer: Peer, when: int) -> None:
        node = peer.node or self._install(peer, when)
        floor = max(peer.floor, self._floor(peer, when))
        node.advance(peer.shown(when))
        peer.round += 1
        self._recorder.started(peer.round, when)
        self._blocks_left[peer.number] = self._blocks
        node.invoke(self.main.short, self._inputs)
        self._after(peer, when, Input(Kind.INVOKE, None, peer.round), floor, charged=True)

    def _ends(self, peer: Peer, when: int, step: FrameEnded | BlockEnded) -> None:
        """See whether a round ended on an invoked peer, and what follows."""
        if step.target != self.main.short or peer.number not in self._left:
            return
        if isinstance(step, BlockEnded):
            self._blocks_left[peer.number] -= 1
            if self._blocks_left[peer.number] <= 0:
                self._leave(peer.number, max(when, peer.floor))
        elif step.region in self._round_regions:
            self._end_round(peer, when, step.how)

    def _end_round(self, peer: Peer, when: int, how: str) -> None:
        self._recorder.ended(peer.round, when, how)
        self._ended[peer.round] = self._ended.get(peer.round, 0) + 1
        if self._rounds and peer.round >= self._rounds:
            self._leave(peer.number, max(when, peer.floor))
        elif self._blocks:
            peer.round += 1  # it starts with what it sends, if there is another one
        else:
            self._plan(peer, when + self._pause)

    # Envelopes

    def _give_out(self, peer: Peer, ship: Ship, departs: int, number: int, floor: int) -> None:
        """Carry an envelope into the world, or what a liar makes of it."""
        to = self.population.numbers.get(ship.to, -1)
        edge = self.artifact.edges_by_id.get(edge_id(ship.envelope.head))
        name = "" if edge is None else edge.name
        if edge is not None and peer.number in self._roots:
            self._recorder.started(number, departs)
            self._recorder.round(number).asked += edge.answered
        envelopes = [ship.envelope]
        if peer.deceit is not None:
            envelopes = peer.deceit.twist(ship.envelope, edge)
        for envelope in envelopes:
            self._recorder.sent(number, name, len(envelope.head) + envelope.payload_length)
            letter = Letter(peer.number, peer.life, departs, number, name, envelope, ship)
            self._carry(peer, to, letter, floor)

    def _carry(self, peer: Peer, to: int, letter: Letter, floor: int) -> None:
        """Ask the link what becomes of an envelope, and have it arrive when it does."""
        source = peer.number
        if to < 0:
            self._undeliverable(source, floor, letter)
            return
        count = peer.sent.get(to, 0)
        peer.sent[to] = count + 1
        if self._table.is_cut(source, to, letter.departs):
            self._recorder.lost(letter.round, "partition")
            return
        delays = self._links.delays(source, to, count)
        if not delays:
            self._recorder.lost(letter.round, "link")
            return
        leaves = self._leaves(peer, to, letter)
        given = Input(Kind.ENVELOPE, letter, letter.round)
        for copy, delay in enumerate(delays):
            when = max(floor, leaves + delay)
            self._push(when, _Event.ARRIVE, to, source, count, copy, given)

    def _leaves(self, peer: Peer, to: int, letter: Letter) -> int:
        """Return when an envelope has left through a link that others may hold."""
        wire = self._links.between(peer.number, to)
        if not wire.bandwidth:
            return letter.departs
        size = len(letter.envelope.head) + letter.envelope.payload_length
        start = max(letter.departs, peer.free.get(to, 0))
        peer.free[to] = start + size * 10**9 // wire.bandwidth
        return peer.free[to]

    def _undeliverable(self, number: int, when: int, letter: Letter) -> None:
        """Note that nobody is there, and tell the sender after the way back."""
        self._recorder.lost(letter.round, "nobody_there")
        if not self.scenario.tell_lost or (letter.source, letter.life) in self._stopped:
            return
        back = when + self._links.between(number, letter.source).latency
        given = Input(Kind.LOST, letter.ship, letter.round, letter.life)
        count = letter.ship.message_id
        self._push(back, _Event.ARRIVE, letter.source, -2, count, number, given)

    def _introduce(self, peer: Peer, node: Node, source: int) -> None:
        """Tell a Node, before it hears a peer first, of which class that one is."""
        if source not in peer.met:
            peer.met.add(source)
            cls = self.population.classes[self.population.class_of[source]]
            if cls in node.sources:
                node.authorize(self.population.ids[source], cls)

    # Lives

    def _peer(self, number: int) -> Peer:
        peer = self._peers.get(number)
        if peer is None:
            cls = self.population.classes[self.population.class_of[number]]
            liar = self._liars.get(number)
            peer = self._peers[number] = Peer(
                number,
                self._lives.get(number, 0) + 1,
                clock_of(number, self._clocks.get(cls), self._draws),
                None if liar is None else Deceit(liar, number, self._draws),
                slow=self._paces.is_slow(number),
            )
        return peer

    def _install(self, peer: Peer, when: int) -> Node:
        """Make a peer's Node, with fresh state, and start its bootstraps."""
        node = self._installer.install(peer.number, peer.life, peer.shown(when))
        peer.node = node
        self._installed.add(peer.number)
        node.run_bootstrap()
        return node

    def _move(self, number: int, when: int, *, up: bool) -> None:
        if up and number in self._absent:
            self._absent.discard(number)
            self._start(number, when)
        elif not up and number not in self._absent:
            self._stop(number, when)

    def _start(self, number: int, when: int) -> None:
        """Let a peer be there; one that is invoked goes on with the next round."""
        if self._bootstraps[self.population.class_of[number]]:
            self._push(when, _Event.START, number)
        if number in self._left:
            peer = self._peer(number)
            peer.round = self._reached.get(number, 0)
            self._plan(peer, when)

    def _stop(self, number: int, when: int) -> None:
        """Let a peer lose all that it holds."""
        self._absent.add(number)
        peer = self._peers.get(number)
        if peer is not None:
            self._settle(peer, when)
            self._past.append((number, peer.life, peer.chain.digest()))
            self._reached[number] = peer.round
            if peer.node is not None:
                peer.node.close()
            del self._peers[number]
        life = self._lives.get(number, 0) + 1
        self._lives[number] = life
        self._stopped[number, life] = when
        if number in self._left:
            self._stop_root(number, when, peer)

    def _stop_root(self, number: int, when: int, peer: Peer | None) -> None:
        if peer is not None and peer.round and peer.invoke_at < 0:
            self._recorder.ended(peer.round, when, "crashed")
            self._ended[peer.round] = self._ended.get(peer.round, 0) + 1
            if self._rounds and peer.round >= self._rounds:
                self._leave(number, when)
        if not any(
            move.peer == number and move.up and move.at > when for move in self._table.moves
        ):
            self._leave(number, when)

    def _leave(self, number: int, when: int) -> None:
        """Note that all rounds of a peer are over, and by when that is known."""
        self._left.discard(number)
        self._end_ns = max(self._end_ns, when)

    def _was_stopped(self, letter: Letter) -> bool:
        """Whether the sender stopped before an envelope left it."""
        stopped = self._stopped.get((letter.source, letter.life))
        return stopped is not None and stopped < letter.departs

    def _digest_of_all(self) -> str:
        now = [(n, peer.life, peer.chain.digest()) for n, peer in self._peers.items() if peer.node]
        return digest_of_run([*self._past, *now])


def peer_counts(artifact: Artifact, scenario: Scenario) -> dict[str, int]:
    """Return how many peers each class of a program has, the starting class first.

    Raises:
        InstallError: The target cannot be invoked.
        BadScenario: A class is unknown, or has no peers.
    """
    main = main_target(artifact, scenario.target)
    return counts_of(artifact, scenario.peers, main.cls)


def deliver(node: Node, envelope: Built, source: PeerId) -> Lease | Refuse | Later:
    """Hand an envelope to a Node as a network would; a lease means that it was taken.

    All envelopes of a simulation go through here.
    """
    head = memoryview(envelope.head)
    answer = node.offer(head[:PRELUDE_SIZE], head[PRELUDE_SIZE:], source)
    if not isinstance(answer, Lease):
        return answer
    if answer.buffer.nbytes != envelope.payload_length:
        node.abandon(answer)  # the rest of it never comes
        return Refuse("abandoned", 0, close=True)
    envelope.write_into(answer.buffer)
    node.receive(answer)
    return answer


def simulate(
    artifact: ModelProto | Artifact | bytes | str | Path,
    scenario: Scenario | None = None,
    *,
    config: Mapping[str, Fields] | None = None,
) -> Result:
    """Run a scenario to its end and return what it brought.

    Raises:
        InstallError: The artifact cannot be installed.
        BadScenario: The scenario does not fit the program, or itself.
    """
    simulation = Simulation(artifact, scenario, config=config)
    try:
        return simulation.run()
    finally:
        simulation.close()
