"""Answers that are given up by how long they took before: `deadline="auto"`."""

from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import bb_dsl as bb
from bb_ir.wire import DEFAULT_LIMITS, PRELUDE_SIZE, read_header, read_prelude
from bb_runtime import Dropped, Emitted, LocalBus, Options
from bb_runtime._estimates import RoundTrip, Silence
from bb_runtime.digests import step_digest
from bb_runtime.replay import replay
from bb_testing import programs
from bb_testing.programs import Packet, Stage

SECOND = 10**9
BOUND = 30 * SECOND


class Ask(bb.Module):
    """Asks clients for what they have, and waits no longer than they usually take."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def __init__(
        self,
        deadline: str = "auto, at most 30s",
        *,
        asked: int = 3,
        quorum: float = 0.1,
        retries: int = 0,
        twice: bool = False,
    ) -> None:
        super().__init__()
        self.deadline = deadline
        self.asked = asked
        self.quorum = quorum
        self.retries = retries
        self.twice = twice

    def body(self, g: bb.Graph) -> None:
        cohort = self.peers.sample(g, self.asked)
        got = g.net_out("ask", cohort, self.model.params(g), retries=self.retries)
        back = g.net_out("tell", g.sender(got), self.model.params(g))
        told = self.model.load_params(g, back)
        done = g.gather(told, quorum=self.quorum, deadline=self.deadline, wait="all")
        g.output("count", done.count)
        if self.twice:
            g.output("some", g.gather(told, quorum=1, deadline=self.deadline).count)


@pytest.fixture(scope="module")
def ask(compiled) -> Any:
    return compiled(Ask())


def is_word(packet: Packet) -> bool:
    """Whether an envelope is a word of engines to each other."""
    data = memoryview(packet.ship.envelope.head)
    prelude = read_prelude(data[:PRELUDE_SIZE], DEFAULT_LIMITS)
    return read_header(prelude, data[PRELUDE_SIZE:], DEFAULT_LIMITS).control is not None


class World:
    """A stage whose clients answer when a test says so."""

    def __init__(self, artifact: Any, clients: int = 3, **more: Any) -> None:
        self.stage = Stage(artifact, clients=clients, **more)
        self.server = self.stage.server
        #: Answers on their way: when they arrive, and their order.
        self.coming: list[tuple[int, int, Packet]] = []
        self.number = 0

    def round(self, *delays: float | None) -> tuple[int, float]:
        """Run a round; returns how many answered, and how long it took in seconds.

        Client n answers so many seconds after it was asked; `None` hears nothing.
        """
        stage = self.stage
        begun, published = self.server.now_ns, len(stage.wire.outputs("count"))
        frame = stage.invoke()
        self.carry(delays)
        while not any(end.frame == frame for end in stage.wire.ended(self.server.peer)):
            self.next(delays)
        counts = stage.wire.outputs("count")[published:]
        return (counts[0] if counts else -1), (self.server.now_ns - begun) / SECOND

    def next(self, delays: Sequence[float | None]) -> None:
        """Go on to the next instant at which something happens."""
        wakeup = self.stage.server.next_wakeup()
        arrivals = [when for when, _, _ in self.coming]
        assert wakeup is not None or arrivals, "nothing happens any more"
        self.until(min(arrivals + [wakeup] * (wakeup is not None)))
        self.carry(delays)

    def until(self, when: int) -> None:
        """Move the clocks; what arrives at that instant comes after what falls due then."""
        self.stage.wire.advance(max(0, when - self.stage.server.now_ns))
        due = sorted(one for one in self.coming if one[0] <= when)
        self.coming = [one for one in self.coming if one[0] > when]
        for _, _, packet in due:
            self.stage.wire.flying.append(packet)
            self.stage.wire.deliver(-1)

    def carry(self, delays: Sequence[float | None]) -> None:
        """Hand questions over at once, and let what clients send take its time."""
        wire, stage = self.stage.wire, self.stage
        while wire.flying:
            packet = wire.lose()
            asks = packet.source == stage.server.peer
            delay = delays[stage.peers.index(packet.ship.to if asks else packet.source)]
            if delay is None:
                continue
            if asks or is_word(packet):
                wire.flying.append(packet)
                wire.deliver(-1)
                continue
            self.number += 1
            when = stage.server.now_ns + int(delay * SECOND)
            self.coming.append((when, self.number, packet))

    def wait(self, seconds: float) -> None:
        """Let time pass between two rounds."""
        end = self.server.now_ns + int(seconds * SECOND)
        for when, _, _ in sorted(self.coming):
            if when <= end:
                self.until(when)
        self.until(end)

    def dropped(self, reason: str) -> int:
        """Return how often an answer was lost for a reason."""
        return sum(
            isinstance(step, Dropped) and step.reason == reason for _, step in self.stage.wire.steps
        )

    def restart(self) -> None:
        """Write all down and go on with new Nodes."""
        self.stage.restart()
        self.server = self.stage.server


def trained(artifact: Any, rounds: int = 4, **more: Any) -> World:
    """Return a world in which everybody took two seconds so far."""
    world = World(artifact, **more)
    for _ in range(rounds):
        assert world.round(2, 2, 2) == (3, 2)
    return world


@pytest.fixture(scope="module")
def make_world(ask) -> Any:
    """What properties make their worlds with; its name is short."""

    def make() -> World:
        return World(ask)

    return make


# What is given up, and when


def test_nothing_is_given_up_before_anything_was_measured(ask):
    world = World(ask)
    assert world.round(2, 29, None) == (2, 30)
    assert world.dropped("overdue") == 0


def test_peer_that_falls_silent_costs_twice_its_usual_time(ask):
    world = trained(ask)
    count, took = world.round(2, 2, None)
    # mean 2 s, deviation 1 s of the first answer, three quarters of it left after each other one
    assert count == 2
    assert took == pytest.approx(2 + max(4 * 0.75**3, 2), abs=0.01)
    assert world.dropped("overdue") == 1


def test_on_a_bus_time_passes_no_longer_than_answers_usually_take(compiled):
    class Slow(Ask):
        def body(self, g: bb.Graph) -> None:
            cohort = self.peers.sample(g, 3)
            got = g.net_out("ask", cohort, self.model.params(g))
            back = g.net_out("tell", g.sender(got), g.sleep("2s", got))
            done = g.gather(back, quorum=0.1, deadline=self.deadline, wait="all")
            g.output("count", done.count)

    stage = Stage(compiled(Slow()))
    bus, server = LocalBus(stage.server, *stage.clients), stage.server
    for _ in range(4):
        server.invoke("Slow", {})
        bus.run()
    assert server.now_ns == 8 * SECOND
    stage.clients[1].block_peer(server.peer)  # it takes nothing more, and says nothing

    server.invoke("Slow", {})
    early = bus.advance("3s")
    late = bus.advance("1500ms")

    assert not any(isinstance(event.step, Emitted) for event in early)
    assert [event.step.value for event in late if isinstance(event.step, Emitted)] == [2]
    assert Dropped("overdue", stage.peers[1], "tell") in [event.step for event in late]


def test_gather_falls_short_early_when_too_few_can_come(compiled):
    world = trained(compiled(Ask(quorum=1.0)))
    count, took = world.round(2, None, 2)
    assert (count, took) == (-1, pytest.approx(4, abs=0.01))
    [failure] = world.stage.wire.failures()
    assert failure.error.code == "QuorumNotMet"


def test_without_auto_the_whole_deadline_is_waited(compiled):
    world = trained(compiled(Ask("30s")))
    assert world.round(2, 2, None) == (2, 30)
    assert world.server._engine.paces.recent == {}
    assert all(record.paces is None for record in world.server._engine.peers.records.values())


def test_bound_is_what_the_send_says_where_the_gather_says_none(compiled):
    class Bounded(Ask):
        def body(self, g: bb.Graph) -> None:
            cohort = self.peers.sample(g, 3)
            got = g.net_out("ask", cohort, self.model.params(g), deadline="7s")
            back = g.net_out("tell", g.sender(got), self.model.params(g))
            g.output("count", g.gather(back, quorum=0.1, deadline="auto", wait="all").count)

    artifact = compiled(Bounded())
    assert artifact.edges["ask"].deadline_ns == 7 * SECOND
    world = World(artifact)
    assert world.round(1, None, 1) == (2, 7)


def test_bound_is_a_minute_where_nobody_says_one_and_the_frame_outlasts_it(compiled):
    world = World(compiled(Ask("auto")))
    assert world.round(1, None, 1) == (2, 60)


def test_several_gathers_over_the_same_answers_measure_together(compiled):
    world = trained(compiled(Ask(twice=True)))
    world.round(2, None, 2)
    assert world.dropped("overdue") == 1
    assert world.stage.wire.outputs("some")[-1] == 1


def test_peer_that_never_answered_gets_twice_the_longest_of_the_others(ask):
    world = World(ask, clients=3)
    for delay in (1, 2, 3, 4):  # eight answers
        world.round(delay, delay, None)
        world.wait(50)
    world.server._engine.peers.records.pop(world.stage.peers[2], None)
    assert world.round(1, 1, None) == (2, 8)


def test_few_answers_say_nothing_about_others(ask):
    world = World(ask)
    for _ in range(3):  # six answers
        assert world.round(1, 1, None) == (2, 30)
        world.wait(50)
    assert world.dropped("overdue") == 0


def test_quick_peers_get_the_floor(compiled, ask):
    world = World(ask)
    for _ in range(3):
        assert world.round(0, 0, 0) == (3, 0)
    assert world.round(0, 0, None) == (2, 1)

    world = World(ask, options=Options(auto_least_ns=5 * SECOND))
    for _ in range(3):
        world.round(0, 0, 0)
    assert world.round(0, 0, None) == (2, 5)


def test_no_peer_gets_more_than_the_ceiling(ask):
    world = World(ask, options=Options(auto_most_ns=3 * SECOND))
    assert world.round(2, 2, None) == (2, 3), "even before anything is known"


# Misses


def test_late_answer_is_counted_late_and_says_how_long_it_took(ask):
    world = trained(ask)
    assert world.round(2, 2, 10)[0] == 2
    assert world.dropped("late") == 0
    world.wait(20)
    assert (world.dropped("overdue"), world.dropped("late")) == (1, 1)
    assert world.round(2, 2, 10) == (3, 10), "it is known to be slow now"
    assert world.server.peers()[0].failures == 0


def test_a_miss_doubles_the_time_until_an_answer_comes(ask):
    world = World(ask, options=Options(suspect_after=100, suspect_phi=1e9))
    for _ in range(5):
        world.round(1, 1, 1)
    times = [world.round(1, 1, None)[1] for _ in range(5)]
    assert times == [2, 4, 8, 16, 16]
    assert world.round(1, 1, 1) == (3, 1)
    assert world.round(1, 1, None) == (2, 2)


def test_peer_that_stays_silent_is_skipped_and_asked_again_now_and_then(ask):
    world = trained(ask, options=Options(suspect_phi=1e9))
    times = [round(world.round(2, 2, None)[1]) for _ in range(60)]
    assert world.dropped("suspected") > 40, "left alone"
    assert times.count(2) == world.dropped("suspected"), "and then the others are all there are"
    probes = [took for took in times if took > 2]
    assert len(probes) >= 6
    assert max(probes[3:]) == 4, "asked again, it gets no more than its usual time"
    assert world.round(2, 2, 2)[0] + world.round(2, 2, 2)[0] >= 4
    world.wait(100)
    assert world.round(2, 2, 2) == (3, 2), "back as if nothing had been"
    assert world.server.live_frames == 0


def test_odd_silence_skips_a_peer_at_the_first_miss(ask):
    world = trained(ask)
    world.wait(100)
    row = world.server._engine.peers.records[world.stage.peers[2]]
    row.asked_ns = world.server.now_ns - 40 * SECOND  # somebody else waits for it
    assert world.round(2, 2, 2) == (2, 2)
    assert world.dropped("suspected") == 1
    assert not row.waiting, "nor is it asked later on"
    world.wait(5)
    assert world.round(2, 2, 2) == (3, 2)


def test_peers_are_waited_for_when_too_few_others_are_left(compiled):
    world = trained(compiled(Ask(quorum=3)))
    for _ in range(8):
        count, took = world.round(None, None, None)
        assert count == -1
        assert took > 0, "rounds that fail do not follow each other in no time"
    assert world.dropped("suspected") == 0


def test_question_that_waits_here_is_not_held_against_its_peer(compiled):
    artifact = compiled(Ask())
    world = trained(artifact, options=Options(max_unsent_bytes=1))
    server, stage = world.server, world.stage
    begun = server.now_ns
    frame = stage.invoke()  # one question is out, and nobody says that it was sent
    held = stage.wire.lose()
    assert not stage.wire.flying
    stage.wire.advance(5 * SECOND)
    assert world.dropped("overdue") == 1, "of the one that was asked"
    server.sent(held.ship)
    stage.wire.poll()
    while not any(end.frame == frame for end in stage.wire.ended(server.peer)):
        world.carry((2, 2, 2))
        world.next((2, 2, 2))
    assert stage.wire.outputs("count")[-1] == 2
    assert server.now_ns - begun == 7 * SECOND, "counted from when they were asked"
    assert world.dropped("overdue") == 1


# Edges with retries


def test_question_that_was_asked_again_says_nothing_about_time(compiled):
    world = World(compiled(Ask(retries=5)))
    stage, engine = world.stage, world.server._engine
    for _ in range(3):
        world.round(2, 2, 2)
    paces = [engine.peers.records[peer].paces["tell"].trip for peer in stage.peers]
    assert [trip.count for trip in paces] == [3, 3, 3]

    stage.invoke()
    stage.wire.lose(0)  # the first question to the first client
    while stage.server.live_frames:
        world.carry((2, 2, 2))
        world.next((2, 2, 2))
    assert stage.wire.outputs("count")[-1] == 3
    assert [trip.count for trip in paces] == [3, 4, 4]


@pytest.mark.parametrize(("deadline", "copies"), [("auto, at most 30s", 2), ("30s", 4)])
def test_silence_ends_retries_at_the_instant_at_which_it_is_too_odd(compiled, deadline, copies):
    world = World(compiled(Ask(deadline, retries=3)))
    stage, server = world.stage, world.server
    for _ in range(4):
        world.round(9, 9, 9)
    record = server._engine.peers.records[stage.peers[2]]
    # It acknowledges at once what it is asked, however long it takes to answer.
    record.acks, record.silence = RoundTrip(9, SECOND, 0), Silence(9, float(SECOND), 0.0)
    begun = server.now_ns

    stage.invoke()
    while not world.dropped("unacknowledged"):
        world.carry((9, 9, None))
        world.next((9, 9, None))

    odd = record.silence.odd_after(server._engine.options.suspect_phi)
    assert 2 * SECOND < odd < 3 * SECOND
    assert server.counters["retried"] == copies - 1
    assert (server.now_ns - begun == odd) == (copies == 2)


# Properties


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_steady_peers_are_never_cut_off(make_world, data):
    """No answer is given up as long as each peer takes less than twice its shortest time."""
    world = make_world()
    usual = data.draw(st.lists(st.floats(0.01, 14), min_size=3, max_size=3))
    for _ in range(data.draw(st.integers(1, 12))):
        delays = [one * data.draw(st.floats(1, 1.999)) for one in usual]
        count, took = world.round(*delays)
        assert count == 3
        assert took == pytest.approx(max(delays), abs=1e-6)
    assert world.dropped("overdue") == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.none() | st.floats(0, 100)] * 3), min_size=1, max_size=12))
@example([(None, None, None)] * 6)
@example([(1, 1, 1)] * 4 + [(1, 1, None)] * 8 + [(1, 1, 1)] * 3)
def test_no_round_takes_longer_than_its_program_says(make_world, rounds):
    world = make_world()
    for delays in rounds:
        count, took = world.round(*delays)
        assert took <= 30
        assert count <= sum(delay is not None and delay <= took + 1e-6 for delay in delays)
    world.wait(1000)
    assert world.server.live_frames == 0
    assert world.server._engine.post.outgoing == {}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(*[st.none() | st.floats(0, 40)] * 3), min_size=2, max_size=8),
    st.sets(st.integers(0, 60)),
)
def test_stopping_anywhere_changes_nothing(make_world, rounds, stops):
    straight, stopped = make_world(), make_world()

    def live(world: World, stops: set[int]) -> list[Any]:
        events, real = [0], world.next

        def next_(delays: Any) -> None:
            if events[0] in stops:
                world.restart()
            events[0] += 1
            real(delays)

        world.next = next_  # type: ignore[method-assign]
        found = [world.round(*delays) for delays in rounds]
        world.restart()
        return [*found, world.stage.server.snapshot(), world.server.counters]

    assert live(stopped, stops) == live(straight, set())


@contextmanager
def recording():
    """Let the first Node of a `Stage` write a journal."""
    made: list[list[bytes]] = []
    real: Any = programs.install

    def install_(*args: Any, **kwargs: Any) -> Any:
        made.append([])
        return real(*args, **kwargs, journal=made[-1].append)

    programs.install = install_  # type: ignore[assignment]
    try:
        yield made
    finally:
        programs.install = real


def test_replay_gives_up_the_same_answers(ask):
    with recording() as logs:
        world = World(ask)
    for delays in [(2, 2, 2)] * 4 + [(2, None, 9)] * 6 + [(2, 2, 2)] * 2:
        world.round(*delays)
        world.wait(1)
    assert world.dropped("overdue") > 2
    assert world.dropped("late") > 1
    steps: list[Any] = []

    done = replay(logs[0], on_step=lambda _, step: steps.append(step_digest(step)))

    assert done.node.counters == world.server.counters
    assert done.node.snapshot() == world.server.snapshot()
    own = [step_digest(s) for peer, s in world.stage.wire.steps if peer == world.server.peer]
    assert [one for one in steps if one in set(own)] == own
