"""Sleeps, draws, gates, metrics and lists, while programs run."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bb_dsl as bb
from bb_ir.types import ANY
from bb_runtime import Dropped, FrameEnded, Histogram, LocalBus, Metric, Node
from bb_runtime.errors import InvalidArtifact, OpError
from bb_runtime.metrics import BOUNDS
from bb_testing.programs import CountingModel, Stage

SECOND = 10**9


class Program(bb.Module):
    """Whatever a test records."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()
    backend = bb.slots.Backend()

    def __init__(self, record: Callable[[Any, bb.Graph], None]) -> None:
        super().__init__()
        self.record = record

    def body(self, g: bb.Graph) -> None:
        self.record(self, g)


class Slow(CountingModel):
    """Its `fit` is done elsewhere."""

    defers = ("fit",)

    def fit(self, ctx, batches):
        values = [inputs.sum() for inputs, _ in batches]
        return ctx.defer(sum, values, commit=lambda loss: {"loss": float(loss), "examples": 1})


@pytest.fixture
def stage(compiled):
    def make(record, *, parts=None, **options) -> Stage:
        return Stage(compiled(Program(record), **(parts or {})), **options)

    return make


def pass_time(stage: Stage, seconds: float) -> None:
    """Let time pass on all Nodes, and deliver what follows."""
    for node in stage.wire.nodes.values():
        node.advance(node.now_ns + int(seconds * SECOND))
    stage.wire.run()


def ends(stage: Stage) -> list[tuple[str, str, str]]:
    return [(end.region, end.how, end.reason) for end in stage.wire.ended()]


def metric(node: Node, name: str, **labels: str) -> Any:
    """Return the only value of a metric."""
    found = [m for m in node.metrics() if m.name == name and labels.items() <= m.labels.items()]
    assert len(found) == 1, found
    return found[0].value


# sleep


def test_a_sleep_passes_its_value_on_after_its_time(stage):
    def record(m, g):
        x = g.input("x", "int64")
        g.output("now", x)
        g.output("later", g.sleep("5s", x))

    s = stage(record, clients=0)
    s.run(x=7)
    assert s.wire.outputs("now") == [7]
    pass_time(s, 4.999)
    assert s.wire.outputs("later") == []
    assert s.server.waiting
    assert s.server.next_wakeup() == 5 * SECOND
    pass_time(s, 0.001)
    assert s.wire.outputs("later") == [7]
    assert ends(s) == [("main", "done", "")]
    assert s.server.next_wakeup() is None


def test_only_what_takes_the_result_waits(stage):
    def record(m, g):
        slept = g.sleep("1s", after=m.model.params(g))
        m.model.fit(g, m.data.batches(g))
        m.model.evaluate(g, m.data.batches(g))
        g.output("done", g.now(after=slept))

    s = stage(record, clients=0)
    s.run()
    assert s.server.component("model").methods == ["params", "fit", "evaluate"]
    pass_time(s, 1)
    assert s.wire.outputs("done") == [SECOND]


def test_time_begins_to_run_when_what_comes_before_is_done(stage):
    def record(m, g):
        first = g.sleep("1s", g.now())
        g.output("second", g.now(after=g.sleep("2s", after=first)))
        g.output("first", first)

    s = stage(record, clients=0)
    s.run()
    pass_time(s, 1)
    pass_time(s, 1.5)
    assert s.wire.outputs("second") == []
    pass_time(s, 0.5)
    assert (s.wire.outputs("first"), s.wire.outputs("second")) == ([0], [3 * SECOND])


def test_long_sleeps_lengthen_the_deadline_of_their_frame(stage):
    def record(m, g):
        g.output("end", g.now(after=g.sleep("10m", after=g.sleep("10m"))))

    s = stage(record, clients=0)
    s.server.invoke(s.main, {})
    LocalBus(s.server).run()
    assert s.server.now_ns == 1200 * SECOND
    assert metric(s.server, "bb_frames_ended_total", how="done") == 1


def test_a_sleep_ends_with_its_frame(stage):
    def record(m, g):
        cohort = m.peers.current_view(g)
        got = g.net_out("ask", cohort)
        answer = g.net_out("late", g.sender(got), g.sleep("3s", m.model.params(g)))
        done = g.gather(answer, deadline="2s", quorum=1, on_short="continue")
        g.output("count", done.count)

    s = stage(record, clients=2)
    s.run()
    pass_time(s, 2)
    assert s.wire.outputs("count") == [0]
    assert {end[:2] for end in ends(s)} == {("main", "done"), ("ask", "expired")}
    pass_time(s, 9)
    assert len(ends(s)) == 3
    for node in s.wire.nodes.values():
        assert node.live_frames == 0
        assert not len(node._engine.timers)


def test_a_value_that_sleeps_is_held_until_its_frame_has_ended_and_not_longer(stage):
    def record(m, g):
        g.output("sum", g.sleep("1s", g.input("x", "tensor(float32)")) + 1.0)

    s = stage(record, clients=0)
    s.invoke(x=np.ones(3, np.float32))
    (frame,) = s.server._engine.frames.values()
    (sleeping,) = frame.delays.values()
    assert (sleeping.when_ns, sleeping.fired) == (SECOND, False)
    assert sleeping.value is not None
    pass_time(s, 61)  # its deadline passes too, but later than it
    assert s.wire.outputs("sum")[0].tolist() == [2, 2, 2]
    assert not frame.delays


def test_a_return_address_sleeps_and_is_answered(stage):
    def record(m, g):
        got = g.net_out("ask", m.peers.current_view(g), g.scalar(1))
        to = g.gate(g.sleep("2s", g.sender(got)), after=got)
        done = g.gather(g.net_out("answer", to, got), values=True)
        g.output("values", done.values)

    s = stage(record, clients=3)
    s.run()
    assert s.wire.outputs("values") == []
    pass_time(s, 2)
    assert s.wire.outputs("values") == [[1, 1, 1]]


def test_turns_sleep_one_after_the_other(stage):
    def record(m, g):
        with g.loop(3) as turn:
            g.output("tick", g.record(turn=turn, at=g.now(after=g.sleep("1s", after=turn))))
        g.output("end", g.now(after=g.last(turn)))

    s = stage(record, clients=0)
    s.server.invoke(s.main, {})
    told = [e.step for e in LocalBus(s.server).run() if hasattr(e.step, "value")]
    assert [step.value for step in told] == [
        {"turn": 1, "at": SECOND}, {"turn": 2, "at": 2 * SECOND}, {"turn": 3, "at": 3 * SECOND},
        3 * SECOND,
    ]  # fmt: skip


def test_a_condition_may_sleep_and_what_follows_on_its_slot_waits(stage):
    def record(m, g):
        with g.when(g.input("flag", "bool")):
            m.model.load_params(g, g.sleep("1s", m.model.params(g)))
        g.output("w", m.model.params(g))

    s = stage(record, clients=0)
    s.run(flag=False)
    assert len(s.wire.outputs("w")) == 1
    s.run(flag=True)
    assert len(s.wire.outputs("w")) == 1
    pass_time(s, 1)
    assert len(s.wire.outputs("w")) == 2


def test_no_slot_is_held_during_a_sleep(stage):
    def record(m, g):
        metrics = m.model.fit(g, m.data.batches(g))
        m.model.load_params(g, g.sleep("5s", m.model.params(g), after=metrics))
        with g.every("1s"):
            g.output("tick", m.model.params(g))

    s = stage(record, clients=0, parts={"model": Slow})
    s.server.invoke(s.main, {})
    bus = LocalBus(s.server)
    bus.advance("3.5s")
    assert s.server._engine.slots.idle
    bus.advance("3s")
    assert metric(s.server, "bb_frames_ended_total", region="main", how="done") == 1


# gate, now, me


def test_a_gate_holds_a_message_back(stage):
    def record(m, g):
        cohort = m.peers.current_view(g)
        done = m.model.fit(g, m.data.batches(g))
        g.net_out("go", g.gate(cohort, after=g.sleep("1s", after=done)))
        g.output("told", g.now())

    s = stage(record, clients=2)
    s.run()
    assert [end.region for end in s.wire.ended()] == []
    pass_time(s, 1)
    assert sorted(end.region for end in s.wire.ended()) == ["go", "go", "main"]


def test_me_is_the_node_where_it_stands(stage):
    def record(m, g):
        got = g.net_out("ask", m.peers.current_view(g), g.me())
        back = g.net_out("answer", g.sender(got), g.me(), got)
        done = g.gather(back[0], values=True)
        g.output("who", done.values)
        g.output("asked", g.gather(back[1], values=True).values)
        g.output("rest", g.without(m.peers.current_view(g), done.values[0]))

    s = stage(record, clients=3)
    s.run()
    assert s.wire.outputs("who") == [[(peer,) for peer in s.peers]]
    assert s.wire.outputs("asked") == [[(s.server.peer,)] * 3]
    assert s.wire.outputs("rest") == [tuple(s.peers[1:])]


# random


def draws(stage: Callable[..., Stage], record: Callable[..., None], **options: Any) -> list[Any]:
    s = stage(record, clients=0, **options)
    s.run()
    s.run()
    assert not s.wire.failures()
    names = sorted({step.name for _, step in s.wire.steps if hasattr(step, "value")})
    return [s.wire.outputs(name) for name in names]


def test_draws_follow_from_seed_and_frame(stage):
    def record(m, g):
        g.output("a", g.random.uniform(2, 3))
        g.output("b", g.random.normal(100, 1))
        g.output("c", g.random.integers(-5, 5))

    a, b, c = draws(stage, record)
    assert all(2 <= x < 3 for x in a)
    assert all(90 < x < 110 for x in b)
    assert all(isinstance(x, int) and -5 <= x < 5 for x in c)
    assert len({*a}) == len({*b}) == 2  # each frame has its own
    assert [a, b, c] == draws(stage, record)
    assert [a, b, c] != draws(stage, record, seed=1)


def test_other_statements_and_their_order_change_no_draw(stage):
    def first(m, g):
        g.output("a", g.random.uniform())
        g.output("b", g.random.normal())
        g.output("c", g.random.integers(1000))
        g.output("d", g.random.uniform(name="mine"))

    def second(m, g):
        g.output("d", g.random.uniform(name="mine"))
        m.model.fit(g, m.data.batches(g))
        g.metric("other", g.random.integers(999), "gauge")
        g.output("c", g.random.integers(1000))
        g.output("b", g.random.normal())
        g.random.uniform(0, 2)
        g.output("a", g.random.uniform())

    assert draws(stage, first) == draws(stage, second)


def test_equal_draws_differ_and_named_ones_are_one_each(stage):
    def record(m, g):
        g.output("a", g.random.uniform())
        g.output("b", g.random.uniform())
        g.output("c", g.random.uniform(name="x"))
        g.output("d", g.random.uniform(name="y"))

    found = draws(stage, record)
    assert len({tuple(one) for one in found}) == 4


def test_each_client_and_each_turn_draws_for_itself(stage):
    def record(m, g):
        got = g.net_out("ask", m.peers.current_view(g))
        back = g.net_out("answer", g.sender(got), g.random.uniform())
        g.output("drawn", g.gather(back, values=True).values)
        with g.loop(3):
            g.output("turn", g.random.uniform())

    s = stage(record, clients=3)
    s.run()
    (drawn,) = s.wire.outputs("drawn")
    assert len({*drawn, *s.wire.outputs("turn")}) == 6


def test_choice_takes_each_once_and_at_most_all(stage):
    def record(m, g):
        values = g.input("values", "list(int64)")
        cohort = m.peers.current_view(g)
        g.output("some", g.random.choice(values, 3))
        g.output("all", g.random.choice(values))
        g.output("more", g.random.choice(values, 99))
        g.output("peers", g.random.choice(cohort, 2))
        got = g.net_out("ask", g.random.choice(cohort, 2))
        g.output("asked", g.gather(g.net_out("answer", g.sender(got))).count)

    s = stage(record, clients=5)
    values = list(range(20))
    s.run(values=values)
    (some,), (every,), (more,) = (s.wire.outputs(name) for name in ("some", "all", "more"))
    assert len(some) == len({*some}) == 3
    assert every != values
    assert sorted(every) == sorted(more) == values
    (peers,) = s.wire.outputs("peers")
    assert len({*peers}) == 2
    assert {*peers} <= {*s.peers}
    assert s.wire.outputs("asked") == [2]


# lists


def test_gathered_metrics_become_one_number(stage):
    def record(m, g):
        got = g.net_out("ask", m.peers.current_view(g))
        metrics = m.model.fit(g, m.data.batches(g))
        done = g.gather(g.net_out("answer", g.sender(got), metrics), values=True)
        g.output("examples", g.sum(done.values, "examples"))
        g.output("mean", g.mean(done.values, "loss", weight="examples"))
        g.output("all", g.concat(done.values, done.values))
        g.output("first", done.values[0])

    s = stage(record, clients=3)
    s.run()
    assert not s.wire.failures()
    (every,) = s.wire.outputs("all")
    assert s.wire.outputs("first") == [every[0]]
    losses, weights = [v["loss"] for v in every[:3]], [v["examples"] for v in every[:3]]
    assert s.wire.outputs("examples") == [float(sum(weights))]
    assert s.wire.outputs("mean") == [pytest.approx(np.average(losses, weights=weights))]


def test_an_empty_gather_has_no_mean_and_the_error_says_what_to_do(stage):
    def record(m, g):
        got = g.net_out("ask", m.peers.current_view(g))
        back = g.net_out("answer", g.sender(got), g.random.uniform())
        done = g.gather(back, values=True, on_short="continue")
        with g.when(g.length(done.values) > 0):
            g.output("some", g.mean(done.values))
        g.output("mean", g.mean(done.values))

    s = stage(record, config={"peers": {"peers": ()}})
    s.run()
    (failure,) = s.wire.failures()
    assert (failure.op, type(failure.error)) == ("Reduce", OpError)
    assert "g.length(values) > 0" in failure.error.fix
    assert s.wire.outputs("some") == []


# metrics


def test_metrics_of_a_program(stage):
    def record(m, g):
        x = g.input("x", ANY)
        g.metric("calls")
        g.metric("sum", x)
        g.metric("last", x, "gauge")
        g.metric("spread", x, "histogram")
        with g.when(g.input("more", "bool")):
            g.metric("seen", x, "gauge")
            g.metric("never", x, "histogram")

    s = stage(record, clients=0)
    assert metric(s.server, "calls") == 0
    for x in (1, 2.5, np.array([0.25])):
        s.run(x=x, more=False)
    mine = [m for m in s.server.metrics() if not m.name.startswith("bb_")]
    assert mine[:3] == [
        Metric("calls", "counter", {}, 3),
        Metric("last", "gauge", {}, 0.25),
        Metric("spread", "histogram", {}, mine[2].value),
    ]
    assert mine[3:] == [Metric("sum", "counter", {}, 3.75)]
    spread = mine[2].value
    assert isinstance(spread, Histogram)
    assert (spread.count, spread.total, spread.least, spread.most) == (3, 3.75, 0.25, 2.5)
    assert len(spread.buckets) == len(BOUNDS) + 1
    full = [BOUNDS[at] for at, count in enumerate(spread.buckets) if count]
    assert full == [0.5, 1.0, 5.0]


@pytest.mark.parametrize(("clients", "short"), [(2, 1), (3, 0), (4, 0)])
def test_a_sample_of_more_peers_than_there_are_is_reported_and_the_round_goes_on(
    stage, clients, short
):
    def body(m, g):
        cohort = m.peers.sample(g, 3)
        g.output("asked", g.length(cohort))
        m.model.load_params(g, g.net_out("push", cohort, m.model.params(g)))

    s = stage(body, clients=clients)
    s.run()
    told = Dropped("sample_short", None, "peers")
    assert s.wire.outputs("asked") == [min(clients, 3)]
    assert [step for _, step in s.wire.steps if isinstance(step, Dropped)] == [told] * short
    assert s.server.counters == {"sample_short": 1} if short else not s.server.counters


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, np.array(-math.inf)])
def test_a_number_that_a_counter_cannot_take_is_reported_and_the_frame_goes_on(stage, value):
    def record(m, g):
        x = g.input("x", ANY)
        g.metric("sum", x)
        g.metric("last", x, "gauge")
        g.output("done", x)

    s = stage(record, clients=0)
    s.run(x=value)
    assert len(s.wire.outputs("done")) == 1
    assert s.server.counters == {"metric_refused": 1}
    assert [step for _, step in s.wire.steps if isinstance(step, Dropped)] == [
        Dropped("metric_refused", None, "sum")
    ]
    assert metric(s.server, "sum") == 0
    assert metric(s.server, "last") == pytest.approx(float(value), nan_ok=True)


def test_histograms_take_negative_numbers_and_no_others(stage):
    def record(m, g):
        g.metric("spread", g.input("x", ANY), "histogram")

    s = stage(record, clients=0)
    for x in (-5, 0, 1e9, math.nan):
        s.run(x=x)
    spread = metric(s.server, "spread")
    assert (spread.count, spread.least, spread.most) == (3, -5, 1e9)
    assert (spread.buckets[0], spread.buckets[-1]) == (2, 1)
    assert s.server.counters == {"metric_refused": 1}


@pytest.mark.parametrize("value", ["1", None, True, np.ones(2), {"loss": 1.0}])
def test_what_is_no_number_fails_the_frame_that_measures_it(stage, value):
    def record(m, g):
        g.metric("sum", g.input("x", ANY))

    s = stage(record, clients=0)
    s.run(x=value)
    (failure,) = s.wire.failures()
    assert failure.op == "Metric"
    assert "metric 'sum' is given a" in failure.error.found


def test_each_node_measures_for_itself(stage):
    def record(m, g):
        got = g.net_out("ask", m.peers.current_view(g), g.scalar(2))
        g.metric("asked", got)
        g.output("count", g.gather(g.net_out("answer", g.sender(got))).count)

    s = stage(record, clients=2)
    s.run()
    assert [metric(node, "asked") for node in s.clients] == [2, 2]
    assert not [m for m in s.server.metrics() if m.name == "asked"]


def test_a_node_counts_frames_and_envelopes(stage):
    def record(m, g):
        got = g.net_out("ask", m.peers.current_view(g), m.model.params(g))
        g.output("count", g.gather(g.net_out("answer", g.sender(got), got)).count)

    s = stage(record, clients=2, config={"model": {"size": 1000}})
    s.run()
    s.run()
    server, client = s.server, s.clients[0]
    assert metric(server, "bb_frames_ended_total", region="main", how="done") == 2
    assert metric(server, "bb_frames_ended_total", region="answer", how="done") == 4
    assert metric(server, "bb_envelopes_total", edge="ask", direction="out") == 4
    assert metric(server, "bb_envelopes_total", edge="answer", direction="in") == 4
    sent = metric(server, "bb_envelope_bytes_total", edge="ask", direction="out")
    taken = metric(client, "bb_envelope_bytes_total", edge="ask", direction="in")
    assert sent == 2 * taken > 4 * 8000
    assert metric(server, "bb_frames_live") == 0
    assert metric(server, "bb_payload_bytes_held") == 0


def test_metrics_are_carried_over_as_plain_data(stage):
    def record(m, g):
        g.metric("calls")
        g.metric("spread", g.input("x", ANY), "histogram")

    s, other = stage(record, clients=0), stage(record, clients=0)
    s.run(x=3)
    engine = other.server._engine
    engine.metrics.load({**s.server._engine.metrics.state(), "odd": 1})
    assert other.server.metrics() == s.server.metrics()
    other.run(x=4)
    assert metric(other.server, "calls") == 2
    assert metric(s.server, "calls") == 1
    assert metric(s.server, "spread").count == 1


def test_metrics_that_were_tampered_with_are_not_taken(stage):
    def record(m, g):
        g.metric("spread", g.input("x", ANY), "histogram")

    s = stage(record, clients=0)
    s.run(x=3)
    metrics = s.server._engine.metrics
    state, before = metrics.state(), s.server.metrics()
    for odd in (
        {"numbers": {"spread": "3"}}, {"histograms": {"spread": [1, 2]}}, {"flows": {"e": [1]}},
        {"ended": [["a", "b", 3]]}, {"numbers": {"spread": True}},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"number|unpack"):
            metrics.load(state | odd)
    assert s.server.metrics() == before


def test_a_sleep_and_metrics_go_on_in_a_restored_node(stage):
    def record(m, g):
        x = g.input("x", "tensor(float64)")
        g.metric("begun")
        slept = g.sleep("5s", x)
        g.metric("ended", after=slept)
        g.output("later", slept)
        g.output("drawn", g.gate(g.random.uniform(), after=slept))

    s, other, never = (stage(record, clients=0) for _ in range(3))
    for one in (s, never):
        one.run(x=np.arange(3.0))
        pass_time(one, 2)
    data = s.server.snapshot()
    other.server.restore(data)
    pass_time(other, 2.999)
    assert other.wire.outputs("later") == []
    assert metric(other.server, "begun") == 1
    pass_time(other, 0.001)
    pass_time(never, 3)
    assert other.wire.outputs("later")[0].tolist() == [0, 1, 2]
    assert other.wire.outputs("drawn") == never.wire.outputs("drawn")
    assert other.server.metrics() == never.server.metrics()
    assert not other.server.waiting


def test_the_names_of_a_nodes_own_metrics_are_stable(stage):
    def record(m, g):
        g.output("w", m.model.params(g))

    s = stage(record, clients=0)
    s.run()
    assert [m.name for m in s.server.metrics()] == [
        "bb_frames_ended_total", "bb_frames_live", "bb_frames_queued", "bb_payload_bytes_held",
        "bb_works_open",
    ]  # fmt: skip


# publish


def test_an_event_that_nobody_hears_is_counted_and_told_once_per_topic(stage):
    def record(m, g):
        x = g.input("x", "int64")
        g.publish("lost", x)
        g.publish("gone", x)
        g.publish("gone", x)

    s = stage(record, clients=0)
    s.run(x=1)
    s.run(x=2)
    assert [step for _, step in s.wire.steps if isinstance(step, Dropped)] == [
        Dropped("event_unheard", None, "lost"), Dropped("event_unheard", None, "gone")
    ]  # fmt: skip
    assert s.server.counters == {
        "event_unheard": 2, "events_unheard.gone": 4, "events_unheard.lost": 2
    }  # fmt: skip
    assert all(step.how == "done" for _, step in s.wire.steps if isinstance(step, FrameEnded))


def test_an_event_that_is_heard_is_not_told(stage):
    def record(m, g):
        with g.on("loss") as event:
            g.output("heard", event)
        g.publish("loss", g.input("x", "int64"))

    s = stage(record, clients=0)
    s.run(x=1)
    assert s.wire.outputs("heard") == [1]
    assert s.server.counters == {}


# artifacts of strangers


def test_a_metric_of_two_kinds_is_refused(stage, compiled):
    def record(m, g):
        g.metric("one")
        g.metric("two", kind="gauge")

    artifact = compiled(Program(record))
    (target,) = artifact.targets.values()
    for op in target.ops:
        if op.name == "Metric":
            op.attributes["name"] = "one"
    with pytest.raises(InvalidArtifact, match="metric 'one' is a counter and a gauge"):
        Stage(artifact, clients=0)


@pytest.mark.parametrize(
    ("op", "attribute", "value"),
    [("Sleep", "duration_ns", 0), ("Sleep", "duration_ns", "5"), ("Metric", "kind", "summary"),
     ("Metric", "name", 3)],
)  # fmt: skip
def test_odd_attributes_are_refused_when_installed(compiled, op, attribute, value):
    def record(m, g):
        g.metric("one", after=g.sleep("1s"))

    artifact = compiled(Program(record))
    (target,) = artifact.targets.values()
    next(one for one in target.ops if one.name == op).attributes[attribute] = value
    with pytest.raises(InvalidArtifact, match=f"a {op} "):
        Stage(artifact, clients=0)
