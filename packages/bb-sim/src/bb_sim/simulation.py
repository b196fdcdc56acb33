"""The simulator: real Nodes in a virtual world.

Nodes do what they do everywhere; this package is what lies between them. It keeps one queue of
events in virtual time (`_events`), and hands each Node its inputs in the order of their instants
(`_inputs`). What Nodes want sent is carried by `_mail`, peers come and go in `_lives`, and
`_rounds` says who is invoked and when all is over.

**It runs late.** An input is not looked at when it arrives, but when the Node's next input comes,
or when the earliest envelope that it could cause could arrive somewhere, whichever is first. Both
are known before the Node runs: delays and durations are draws that do not depend on what is sent.
So an answer is computed just before it is folded, its buffer goes back to the pool, and memory
does not grow with the number of peers. What a Node sends in answer to an input never arrives
before that time; with `late=False` every input is looked at once, and the results are the same.

**Values go by reference.** A Node hands out the values themselves, and its receiver gets what it
would have read from their bytes; what these would weigh is counted. With `by_reference=False`, and
wherever somebody looks at bytes, such as a liar, envelopes are written and read; the results are
the same.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

from bb_runtime import Artifact, Node, Options, SnapshotError, load_artifact
from bb_runtime.exchanges import MOST_ENVELOPES, Exchanges
from bb_sim._attackers import Attackers
from bb_sim._checkpoint import Parts, read, write
from bb_sim._digest import digest_of_run
from bb_sim._draws import Draws
from bb_sim._events import ARRIVE, FREE, LOCAL, MOVE, NEVER, START, Entry, Events
from bb_sim._inputs import Inputs
from bb_sim._installing import Fields, Installer, components_of, counts_of, main_target
from bb_sim._journals import Journal, Journals
from bb_sim._links import Links
from bb_sim._lives import Lives
from bb_sim._mail import Mail
from bb_sim._peer import Letter
from bb_sim._population import Population
from bb_sim._reading import check, duration
from bb_sim._recorder import Recorder
from bb_sim._rounds import Rounds
from bb_sim._timetable import Paces, Timetable
from bb_sim._world import World
from bb_sim.errors import NoCheckpointNow
from bb_sim.results import Result, Round, Span
from bb_sim.scenario import Scenario

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["Simulation", "peer_counts", "simulate"]

_FIX = "give the links a latency, have them wait with g.sleep, or end it by a condition"


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
        by_reference: Whether Nodes hand on values instead of their bytes, which is faster and
            changes nothing else.
        journal: Makes the journal of a Node when it is made: is given the peer's name, such as
            `client[3]`, and which life of it begins, and returns what `install` takes. Whoever
            makes journals closes them.
        journal_peers: Whose Nodes write one, such as `server,client[0:3]`; the first honest
            peer of each class when empty. Attackers cannot.

    Raises:
        InstallError: The artifact cannot be installed.
        BadScenario: The scenario does not fit the program, or itself.
        UnknownPeers: There are no peers of the name of those that write journals.
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
        by_reference: bool = True,
        journal: Journal | None = None,
        journal_peers: str = "",
    ) -> None:
        self.artifact = load_artifact(artifact)
        self.scenario = scenario = scenario or Scenario()
        check(scenario, "scenario")
        self.main = main_target(self.artifact, scenario.target)
        self.population = Population.of(peer_counts(self.artifact, scenario), scenario.seed)
        self._digest = digest
        self._world = world = self._make_world()
        self._rounds = Rounds(world)
        self._attackers = attackers = Attackers(world, self._rounds.roots)
        installer = Installer(
            self.artifact, self.population, config or {}, scenario.seed, options,
            attackers=attackers, by_reference=by_reference,
        )  # fmt: skip
        installer.try_each()
        if journal is not None:
            installer.journals = Journals(
                journal, journal_peers, self.population, world.draws, attackers.numbers
            )
        self._lives = Lives(world, installer)
        self._inputs = Inputs(
            world, self._lives, self._rounds, Mail(world, self._lives, self._rounds), late=late,
            digest=digest,
        )  # fmt: skip
        self._parts = Parts(world, self._lives, self._rounds)
        self._exchanges = Exchanges(MOST_ENVELOPES, _FIX)
        #: How many rounds `rounds` gave.
        self._told = 0
        self._stopping = False
        self._until = duration(scenario.until, "until", least=1) if scenario.until else -1
        self._begin()

    # What there is to see

    @property
    def now_ns(self) -> int:
        """Virtual time, in nanoseconds."""
        return self._world.events.now_ns

    @property
    def nodes(self) -> dict[str, Node]:
        """The Nodes that were needed so far and run, by name, such as `client[3]`."""
        name, peers = self.population.name, self._lives.peers
        return {name(n): peer.node for n, peer in sorted(peers.items()) if peer.node}

    @property
    def kept_waiting(self) -> list[str]:
        """Names of peers whose Nodes had no room for envelopes that still wait."""
        peers = self._lives.peers
        return [self.population.name(n) for n, peer in sorted(peers.items()) if peer.held]

    @property
    def in_flight(self) -> int:
        """How many envelopes are on their way, and words that one could not be delivered."""
        return sum(entry[1] == ARRIVE for entry in self._world.events.heap)

    @property
    def root(self) -> Node:
        """The Node that is invoked; the first of them."""
        peer = self._lives.peer(min(self._rounds.roots))
        return self._lives.node(peer, self.now_ns)

    @property
    def rounds_told(self) -> int:
        """How many rounds `rounds` gave so far, those before a checkpoint included."""
        return self._told

    @property
    def done(self) -> bool:
        """Whether all rounds that were asked for came to an end."""
        return not self._rounds.left

    # Running

    def run(self) -> Result:
        """Run to the end of the last round, or of the time, and return what it brought."""
        for _ in self.rounds():
            pass
        return self.result()

    def rounds(self) -> Iterator[Round]:
        """Run, and give each round as it ends on all peers that were invoked.

        Raises:
            EndlessExchange: Nodes send each other envelopes without end, all at one instant.
            Exception: What a component raised that is no `Exception`, such as Ctrl-C; `result`
                still tells what was done.
        """
        rounds, going, ends = self._rounds, True, -1
        most = self.scenario.rounds or NEVER
        self._stopping = False
        while going and rounds.left and not self._stopping:
            going = self.step()
            if rounds.ends == ends:
                continue
            ends = rounds.ends
            if self.scenario.rounds is not None:  # else there may be no end of rounds, either
                self._exchanges.rest()
            while self._told < most and rounds.ended.get(self._told + 1, 0) >= len(rounds.roots):
                self._told += 1
                yield self._world.recorder.round(self._told)
        if not rounds.left:
            self._finish()

    def stop(self) -> None:
        """Let `rounds` end before the next event; a signal handler may call it."""
        self._stopping = True

    def step(self) -> bool:
        """Handle what happens next; return false when there is nothing before the end."""
        events = self._world.events
        if not self._rounds.left:
            self._rounds.let_go()
        if not events.heap:
            return False
        if 0 <= self._until < events.next_ns:
            events.now_ns = self._until
            self._settle_all(self._until)
            return False
        self._handle_next()
        return True

    def drain(self, *, within: str = "1h") -> None:
        """Go on after the last round until nothing is on its way and no timer runs.

        What is left then is no place from which more rounds go on as if nothing had happened.
        """
        self._rounds.let_go()
        events = self._world.events
        end = self.now_ns + duration(within, "within")
        while events.next_ns <= end:
            self._handle_next()
        self._settle_all(self.now_ns)

    @property
    def traces(self) -> dict[str, str]:
        """The traceback of the first failure of each code, for people who look for a mistake.

        It tells of what was simulated in this process, not of what a checkpoint brought, and names
        files of this machine, so no `Result` holds it.
        """
        return dict(self._world.recorder.traces)

    def result(self) -> Result:
        """Return what was done so far."""
        recorder, scenario = self._world.recorder, self.scenario
        # A program with rounds of its own may have begun more of them than were asked for.
        most = scenario.rounds or NEVER
        asked = {n: one for n, one in recorder.rounds.items() if n <= most}
        numbers = sorted(n for n, one in asked.items() if n and one.started_ns >= 0)
        end = max((0, *(one.ended_ns for one in asked.values())))
        shown = [(peer, self.population.name(peer)) for peer in sorted(recorder.spans)]
        spans = [span for peer, _ in shown for span in sorted(recorder.spans[peer])]
        gaps = [
            Span(name, 0, *gap) for peer, name in shown for gap in self._world.table.gaps(peer, end)
        ]
        return Result(
            complete=self.done,
            rounds=[deepcopy(recorder.rounds[n]) for n in numbers],
            peers={cls: self.population.count(cls) for cls in self.population.classes},
            installed=len(self._lives.installed),
            seed=scenario.seed,
            virtual_ns=end,
            digest=digest_of_run(self._lives.chains()) if self._digest else "",
            spans=[*spans, *gaps],
            attack="" if scenario.attack is None else scenario.attack.kind,
            attackers=[self.population.name(n) for n in sorted(self._attackers.numbers)],
            program=self.main.short,
            components=components_of(self.artifact),
        )

    # Stopping and going on

    def checkpoint(self) -> bytes:
        """Return the whole simulation as bytes, from which `resume` goes on; nothing is changed.

        Raises:
            NoCheckpointNow: A Node cannot be written down at this instant.
        """
        self._settle_all(self.now_ns)
        try:
            return write(self._parts, self._told)
        except SnapshotError as error:
            raise NoCheckpointNow(
                f"a Node cannot be written down now: {error.found}",
                expected="an instant at which all can",
                fix="go on, and ask again later",
            ) from error

    def resume(self, data: bytes | memoryview) -> None:
        """Go on from a checkpoint, in a simulation that was just made and did nothing yet.

        It has to be of the same program, components, configuration and scenario; `rounds` and
        `until` may differ. With more rounds than it was taken with, all goes on as if they had
        been asked for at once; where several peers wait for their invocations (`start` is
        `"all"`, and the program has no rounds of its own) only up to its last round, as those that
        are done first do not begin another one while others still work.

        Raises:
            BadCheckpoint: It is damaged or of something else; make the simulation anew.
        """
        self._told = read(self._parts, data)

    def close(self) -> None:
        """Close all Nodes."""
        self._lives.close()

    # Inside

    def _make_world(self) -> World:
        scenario, population = self.scenario, self.population
        draws = Draws(scenario.seed)
        return World(
            self.artifact, self.main, scenario, population, draws,
            Links(scenario, population, draws),
            Timetable(scenario, population, draws),
            Paces(scenario, population, draws),
            Events(),
            Recorder(population.name),
        )  # fmt: skip

    def _begin(self) -> None:
        """Plan what happens by itself."""
        lives, events = self._lives, self._world.events
        for at, number, up in self._world.table.moves:
            events.push(at, MOVE, number, int(up))
        for number in range(len(self.population)) if True in lives.bootstraps else ():
            if lives.has_bootstrap(number) and number not in lives.absent:
                events.push(0, START, number)
        for number in sorted(self._rounds.roots):
            if number not in lives.absent:
                self._rounds.plan(lives.peer(number), 0)

    def _handle_next(self) -> None:
        events = self._world.events
        if events.heap[0][0] != events.now_ns:
            self._exchanges.rest()
        elif self._exchanges.one_more():
            self._note_next()
        when, kind, number, source, _, _, _, what = heapq.heappop(events.heap)
        events.now_ns = when
        lives = self._lives
        if what is not None:
            self._inputs.arrive(number, when, what)
        elif kind == MOVE:
            self._move(number, when, up=bool(source))
        elif number in lives.absent:
            return
        elif number in lives.peers or kind in (LOCAL, START):
            self._inputs.look(lives.peer(number), when, kind)

    def _note_next(self) -> None:
        """Note from whom to whom the next envelope is.

        Raises:
            EndlessExchange: There were too many at one instant.
        """
        number, given = (entry := self._world.events.heap[0])[2], entry[7]
        name = self.population.name
        edge, source = (given.edge, name(given.source)) if isinstance(given, Letter) else ("", "")
        self._exchanges.note(self.artifact, (edge, source, name(number)))

    def _move(self, number: int, when: int, *, up: bool) -> None:
        lives, rounds = self._lives, self._rounds
        if up and number in lives.absent:
            lives.absent.discard(number)
            if lives.has_bootstrap(number) or number in lives.kept:
                self._world.events.push(when, START, number)
            if number in self._rounds.left or (rounds.goes_on and number in rounds.roots):
                self._rounds.came_back(lives.peer(number), when, restored=number in lives.kept)
        elif not up and number not in lives.absent:
            peer = lives.peers.get(number)
            if peer is not None:
                self._inputs.settle(peer, when)
            if rounds.leaves_alone(number, when):
                self._world.events.push(when, MOVE, number, int(up))
                return
            lives.stop(number, when)
            self._rounds.stopped(number, when, peer)

    def _finish(self) -> None:
        """See to all that happens until the end is known: the same however late Nodes run.

        And to nothing on which another round would have had a bearing: not to what comes to a
        peer after its next invocation would have come, nor to what that could have sent by then.
        """
        rounds, heap = self._rounds, self._world.events.heap
        fastest, aside = self._world.links.fastest, list[Entry]()
        end, last = rounds.end_ns, ARRIVE
        if 0 <= self._until < end:
            end, last = self._until, FREE + 1
        while heap and heap[0][:2] < (end, last):
            when, kind, number = heap[0][:3]
            if number in rounds.roots and rounds.stops_at < NEVER:
                if kind in {ARRIVE, FREE}:  # an answer to it may leave right then
                    end = min(end, max(when, rounds.stops_at) + fastest)
                elif kind == MOVE and when >= rounds.stops_at:
                    end = when
                    break
                if when >= rounds.stops_at:
                    aside.append(heapq.heappop(heap))
                    continue
            self._handle_next()
        for entry in aside:
            heapq.heappush(heap, entry)
        self._settle_all(end)

    def _settle_all(self, now: int) -> None:
        peers = self._lives.peers
        for number in sorted(peers):
            self._inputs.settle(peers[number], now)


def peer_counts(artifact: Artifact, scenario: Scenario) -> dict[str, int]:
    """Return how many peers each class of a program has, the starting class first.

    Raises:
        InstallError: The target cannot be invoked.
        BadScenario: A class is unknown, or has no peers.
    """
    main = main_target(artifact, scenario.target)
    return counts_of(artifact, scenario.peers, main.cls)


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
