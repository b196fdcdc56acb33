"""A peer may answer more than once: every answer is worked on, and the last one counts."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bb_dsl as bb
from bb_runtime.replay import replay
from bb_testing.programs import CountingModel, PartConfig, Stage, Wire

SECOND = 10**9
NUMBERS = {"data": {"value": 1.0}}


class Drawing(CountingModel):
    """Adds what it draws to what it loads."""

    def load_params(self, ctx, params) -> None:
        super().load_params(ctx, params)
        self.w = self.w + ctx.rng().integers(1 << 40)


class Streams(bb.Module):
    """Clients send what they have after each turn; the server folds it as it comes."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def __init__(
        self, turns: int = 3, *, clients: int = 2, retries: int = 0, **options: Any
    ) -> None:
        super().__init__()
        self.turns = turns
        self.clients = clients
        self.retries = retries
        self.options = options

    def body(self, g: bb.Graph) -> None:
        many = self.peers.sample(g, self.clients)
        got = g.net_out("ask", many, self.model.params(g), retries=self.retries)
        self.model.load_params(g, got)
        with g.loop(self.turns):
            metrics = self.model.fit(g, self.data.batches(g))
            part = g.net_out("part", g.sender(got), self.model.params(g), metrics, replies=3)
        folded = self.aggregator.contribute(g, *part)
        done = g.gather(part[0], **{"deadline": "10s", **self.options}, values=True)
        every = g.gather(folded, **{"deadline": "10s", **self.options})
        averaged, _ = self.aggregator.aggregate(g, after=every)
        g.output("average", averaged)
        g.output("values", done.values)
        g.output("count", done.count)
        g.output("missing", done.missing)


@pytest.fixture(scope="module")
def streams(compiled) -> Any:
    return compiled(Streams())


@pytest.fixture(scope="module")
def maybe(compiled) -> Any:
    return compiled(Streams(quorum=1, wait="all", on_short="continue"))


def values(stage: Stage) -> list[float]:
    [found] = stage.wire.outputs("values")
    return [float(one["w"][0]) for one in found]


def deliver_all(stage: Stage, picks: list[int]) -> None:
    """Deliver everything in the order that these numbers say."""
    for pick in picks:
        if not stage.wire.flying:
            return
        stage.wire.deliver(pick % len(stage.wire.flying))
    stage.wire.run()


def test_every_answer_is_folded_and_a_peer_counts_once(streams):
    stage = Stage(streams, clients=2, config=NUMBERS)
    stage.run()
    assert stage.wire.failures() == []
    assert stage.wire.outputs("count") == [2]
    assert stage.wire.outputs("missing") == [()]
    methods = stage.server.component("aggregator").methods
    assert methods.count("contribute") == 6
    assert len(values(stage)) == 6
    assert stage.server.live_frames == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(picks=st.lists(st.integers(0, 30), max_size=30))
def test_values_come_by_destination_and_then_as_they_were_sent(streams, picks):
    straight = Stage(streams, clients=2, config=NUMBERS)
    straight.run()
    stage = Stage(streams, clients=2, config=NUMBERS)
    stage.invoke()
    deliver_all(stage, picks)
    found = values(stage)
    assert found == values(straight)
    assert found[:3] == sorted(found[:3])
    assert found[0] < found[2], "a model that goes on learning"
    assert found[:3] == found[3:]


def test_quorum_counts_peers_not_answers(compiled):
    stage = Stage(compiled(Streams(quorum=1)), clients=2, config=NUMBERS)
    stage.invoke()
    for _ in range(2):
        stage.wire.deliver()  # both are asked
    first, second = (client.peer for client in stage.clients)
    parts = stage.wire.flying
    assert [one.source for one in parts] == [first] * 3 + [second] * 3
    for place in (0, 2, 0, 1):  # two of each
        stage.wire.deliver(place)
        assert stage.wire.outputs("count") == []
    stage.wire.deliver(0)
    assert stage.wire.outputs("count") == [1]
    assert len(values(stage)) == 3, "what one that has not answered sent is not collected"
    stage.wire.run()
    assert stage.server.counters["late"] == 1
    assert stage.server.live_frames == 0


def test_peer_whose_last_answer_is_lost_has_not_answered(maybe):
    stage = Stage(maybe, clients=2, config=NUMBERS)
    stage.invoke()
    for _ in range(2):
        stage.wire.deliver()
    stage.wire.lose(2)
    stage.wire.run()
    assert stage.wire.outputs("count") == []
    stage.wire.advance(10 * SECOND)
    stage.wire.run()
    assert stage.wire.outputs("count") == [1]
    assert stage.wire.outputs("missing") == [(stage.clients[0].peer,)]
    assert len(values(stage)) == 3
    # What came was folded nevertheless, as it came.
    assert stage.server.component("aggregator").methods.count("contribute") == 5


def test_entry_closes_with_the_last_answer(streams):
    stage = Stage(streams, clients=2, config=NUMBERS)
    stage.invoke()
    stage.wire.deliver()
    again = stage.wire.flying[1:4]
    for _ in range(4):
        stage.wire.deliver()
    [frame] = stage.server._engine.frames.values()
    assert sorted(frame.expected["part"].values()) == [0, 1]
    assert frame.open_replies == 1
    assert len(again) == 3


class Fewer(bb.Module):
    """Clients answer as often as they are told."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    own = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        turns = g.input("turns", "int64")
        got = g.net_out("ask", self.peers.sample(g, 2), turns)
        with g.loop(got):
            part = g.net_out("part", g.sender(got), self.model.params(g), replies=3)
        self.own.load_params(g, part)
        g.output("drawn", self.own.params(g))
        done = g.gather(part, quorum=2, on_short="continue", deadline="5s")
        g.output("count", done.count)


@pytest.fixture(scope="module")
def fewer(compiled) -> Any:
    return compiled(Fewer(), own=Drawing)


def test_peer_that_sends_fewer_has_not_answered_and_says_so_at_once(fewer):
    stage = Stage(fewer, clients=2)
    stage.run(turns=2)
    assert stage.wire.outputs("count") == [0]
    assert stage.server.counters == {"answer_failed": 1, "late": 3}, "one is enough to know"
    assert stage.server.live_frames == 0


def test_what_a_peer_sends_beyond_is_dropped(fewer):
    stage = Stage(fewer, clients=2)
    stage.run(turns=4)
    assert stage.wire.outputs("count") == [2]
    assert stage.server.counters == {"late": 2}
    assert stage.server.live_frames == 0


def test_each_answer_draws_for_itself_in_any_order(fewer):
    drawn = []
    for picks in ((), (5, 3, 1, 2)):
        stage = Stage(fewer, clients=2)
        stage.invoke(turns=3)
        for _ in range(2):
            stage.wire.deliver()
        deliver_all(stage, list(picks))
        found = [float(one["w"][0]) for one in stage.wire.outputs("drawn")]
        assert len(set(found)) == 6
        drawn.append(sorted(found))
    assert drawn[0] == drawn[1]


def test_answer_that_fails_here_fails_its_peer_once(compiled):
    stage = Stage(compiled(Streams(quorum=1, wait="all")), clients=2, config=NUMBERS)
    stage.server.component("aggregator").config = PartConfig(fail_in="contribute")
    stage.invoke()
    stage.wire.deliver()
    for _ in range(3):
        stage.wire.deliver(1)  # the other one is not asked yet
    [frame] = stage.server._engine.frames.values()
    pending = sorted(state.pending for state in frame.gathers.values())
    assert pending == [1, 1], "three of its answers failed, and it is one peer"
    stage.server.component("aggregator").config = PartConfig()
    stage.wire.run()
    assert stage.wire.outputs("count") == [1]
    assert stage.wire.outputs("missing") == [(stage.clients[0].peer,)]


def test_peer_that_is_blocked_in_between_has_not_answered(maybe):
    stage = Stage(maybe, clients=2, config=NUMBERS)
    stage.invoke()
    for _ in range(2):
        stage.wire.deliver()
    for _ in range(2):
        stage.wire.deliver()  # two of the first one
    stage.server.block_peer(stage.clients[0].peer)
    stage.wire.run()
    assert stage.wire.outputs("missing") == [(stage.clients[0].peer,)]
    assert stage.server.live_frames == 0


def test_answers_that_are_sent_again_count_once(compiled):
    stage = Stage(compiled(Streams(retries=2)), clients=2, config=NUMBERS)
    stage.invoke()
    for _ in range(40):
        if stage.wire.flying:
            stage.wire.deliver(keep=stage.wire.flying[0].ship.to == stage.server.peer)
        if len(stage.wire.flying) > 1:
            stage.wire.lose(0)
    for _ in range(20):
        stage.wire.run()
        stage.wire.advance(SECOND // 2)
    assert stage.wire.outputs("count") == [2]
    assert stage.server.component("aggregator").methods.count("contribute") == 6


@pytest.mark.parametrize("stop", range(9))
def test_snapshot_holds_what_came_so_far(streams, stop):
    straight, stage = (Stage(streams, clients=2, config=NUMBERS) for _ in range(2))
    for one in (straight, stage):
        one.invoke()
        for number in range(stop):
            one.wire.deliver(number % len(one.wire.flying))
    stage.restart()
    for one in (straight, stage):
        one.wire.run()
    assert values(stage) == values(straight)
    nodes = zip(stage.wire.nodes.values(), straight.wire.nodes.values(), strict=True)
    assert all(one.snapshot() == other.snapshot() for one, other in nodes)


def test_journal_replays(streams):
    log: list[bytes] = []
    stage = Stage(streams, clients=2, config=NUMBERS)
    stage.server = stage.makers[0](journal=log.append)
    stage.wire = Wire(stage.server, *stage.clients)
    stage.invoke()
    deliver_all(stage, [1, 3, 0, 2, 4])
    assert replay(log).node.snapshot() == stage.server.snapshot()
