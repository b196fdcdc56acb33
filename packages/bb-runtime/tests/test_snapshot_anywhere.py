"""A federation that stops at any step and goes on in new Nodes does what one does that never stops.

Every Node's snapshot is the judge: it holds whatever decides what comes next, so after the same
events the bytes have to be the same.
"""

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import bb_dsl as bb
from bb_ir.types import list_of, scalar
from bb_runtime import Node
from bb_testing.programs import CountingModel, FixedPeers, Stage

SECOND = 10**9


def load(name: str) -> Any:
    """Import a module of tests that stands beside this one."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


blocks = load("test_block_schedules")


class Drawing(CountingModel):
    """Adds what it draws, twice per call."""

    def fit(self, ctx, batches) -> Mapping[str, Any]:
        metrics = super().fit(ctx, batches)
        self.w = self.w + ctx.rng().integers(1000) + ctx.rng().integers(1000)
        return metrics


class Picking(FixedPeers):
    """Draws a cohort, in any order."""

    def sample(self, ctx, *, n) -> Any:
        order = ctx.rng().permutation(len(self.config.peers))[:n]
        return [self.config.peers[at] for at in order]


class Averaging(bb.Module):
    """Rounds whose clients answer in two phases, with all that may be in flight meanwhile."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def body(self, g: bb.Graph) -> None:
        numbers = g.input("numbers", list_of(scalar("int64")))
        with g.rounds(3, width=2, on_fail="continue") as r:
            got = g.net_out("weights", self.peers.sample(g, 3), self.model.params(g), r, retries=1)
            self.model.load_params(g, got[0])
            with g.loop(2):
                metrics = self.model.fit(g, self.data.batches(g))
            metrics = g.last(metrics)
            reply = g.net_out("update", g.sender(got[0]), self.model.params(g), metrics)
            folded = self.aggregator.contribute(g, *reply)
            done = g.gather(folded, quorum=0.5, deadline="10s", wait="all")
            averaged, summary = self.aggregator.aggregate(g, after=done)
            self.model.load_params(g, averaged)
            told = g.net_out("told", done.senders, g.sleep("2s", averaged), retries=2)
            last = g.gather(g.net_out("thanks", g.sender(told)), quorum=1, values=False)
            with g.each(numbers) as number:
                got = g.net_out("one", self.peers.sample(g, 1), number)
                back = g.net_out("one-back", g.sender(got), got)
                g.gather(back, quorum=1, on_short="continue", deadline="3s")
            g.output("w", averaged)
            g.output("summary", summary)
            g.output("thanks", last.count)
        with g.every("4s", jitter="1s", overlap="parallel"):
            self.model.fit(g, self.data.batches(g))


def snapshots(stage: Stage) -> list[bytes]:
    return [node.snapshot() for node in stage.wire.nodes.values()]


def counters(stage: Stage) -> list[dict[str, int]]:
    return [node.counters for node in stage.wire.nodes.values()]


def live(stage: Stage, events: Any, stops: set[int], **inputs: Any) -> Stage:
    """Run a program, and stop and go on before the events that have these numbers."""
    stage.invoke(**inputs)
    for number, event in enumerate(events):
        if number in stops:
            stage.restart()
        if event[0] == "budget":
            stage.server.invoke(stage.main, inputs)
            steps(stage, stage.server, event[1], stops=number in stops)
        elif event[0] == "invoke":
            stage.invoke(**inputs)
        else:
            blocks.act(stage, [event])
    for number in range(3):
        if len(events) + number in stops:
            stage.restart()
        stage.wire.run()
        stage.wire.advance(30 * SECOND)
    stage.wire.run()
    return stage


def steps(stage: Stage, node: Node, budget: int, *, stops: bool) -> None:
    """Poll a Node a little, stop in the middle of its work, and poll all."""
    stage.wire.take(node, node.poll(max_ops=budget))
    if stops:
        stage.restart()
    stage.wire.poll()


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["deliver", "deliver", "lose", "double", "advance", "invoke", "jump", "block", "budget"]
        ),
        st.integers(0, 30),
    ),
    max_size=25,
)
STOPS = st.sets(st.integers(0, 28), min_size=1)
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]


def assert_same(stopped: Stage, never: Stage) -> None:
    assert blocks.told(stopped) == blocks.told(never)
    assert counters(stopped) == counters(never)
    assert snapshots(stopped) == snapshots(never)


@settings(max_examples=50, deadline=None, suppress_health_check=QUIET)
@given(statements=blocks.PROGRAMS, events=EVENTS, stops=STOPS, fails=st.sampled_from(["", "fit"]))
@example(
    statements=[("rounds", 3, [("ask", 1)]), ("skip", 1, [("ask_maybe", 0)])],
    events=[("lose", 0), ("invoke", 0), ("jump", 9), ("double", 1), ("budget", 2), ("jump", 0)],
    stops={0, 1, 2, 3, 4, 5},
    fails="",
)
def test_any_program_goes_on_as_if_it_had_never_stopped(compiled, statements, events, stops, fails):
    artifact = compiled(blocks.Program(statements), model=Drawing, peers=Picking)
    config = {"model": {"fail_in": fails}}
    stopped, never = (
        live(Stage(artifact, clients=2, config=config, seed=3), events, at)
        for at in (stops, set[int]())
    )
    assert_same(stopped, never)


@pytest.fixture(scope="session")
def averaging(compiled) -> Any:
    made = compiled(Averaging(), model=Drawing, peers=Picking)
    return lambda: made  # hypothesis would print all of it


@settings(max_examples=50, deadline=None, suppress_health_check=QUIET)
@given(events=EVENTS, stops=STOPS)
@example(events=[("deliver", 0)] * 25, stops=set(range(29)))
@example(events=[("deliver", n) for n in range(25)], stops=set(range(29)))
def test_averaging_goes_on_as_if_it_had_never_stopped(averaging, events, stops):
    each = {n: {"data": {"value": float(2**n), "size": 1}} for n in range(3)}
    stopped, never = (
        live(Stage(averaging(), clients=3, each=each, seed=5), events, at, numbers=[3, 1, 2])
        for at in (stops, set[int]())
    )
    assert_same(stopped, never)
    models = [[node.component("model") for node in s.wire.nodes.values()] for s in (stopped, never)]
    assert all(np.array_equal(a.w, b.w) for a, b in zip(*models, strict=True))
