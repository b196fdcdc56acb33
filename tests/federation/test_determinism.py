"""The same artifact, configuration, seed and inputs give the same steps; draws do not interfere."""

import os
import subprocess
import sys
from typing import Any

import numpy as np

import bb_dsl as bb
from bb_ir.ids import PeerId
from bb_runtime import Emitted, install
from bb_testing.programs import CountingModel, ListSource, Stage, SumAggregator


class Drawing(CountingModel):
    """Sets its parameters to two drawn numbers."""

    def params(self, ctx):
        self.w = np.array([ctx.rng().random(), ctx.rng().random()])
        return super().params(ctx)


class DrawingFold(SumAggregator):
    """Writes down what it draws for each sender."""

    def __init__(self, config, env) -> None:
        super().__init__(config, env)
        self.drawn: dict[Any, list[float]] = {}

    def contribute(self, ctx, params, metrics) -> None:
        super().contribute(ctx, params, metrics)
        self.drawn.setdefault(ctx.sender, []).append(float(ctx.rng().random()))


class Seen(ListSource):
    """Writes down what its context says."""

    def __init__(self, config, env) -> None:
        super().__init__(config, env)
        self.seen: list[Any] = []

    def batches(self, ctx, *, epochs=1):
        self.seen.append((ctx.peer, ctx.sender, ctx.round, ctx.now_ns))
        return super().batches(ctx, epochs=epochs)


class Round(bb.Module):
    """One round; `more` adds ops of other slots around those of the model."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    other = bb.slots.Model()
    data = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def __init__(self, *, more: bool = False, quorum: float = 1.0) -> None:
        super().__init__()
        self.more = more
        self.quorum = quorum

    def body(self, g: bb.Graph) -> None:
        if self.more:
            self.other.params(g)
        p = self.model.params(g)
        g.output("server", p)
        if self.more:
            g.output("other", self.other.params(g))
        got = g.net_out("weights", self.peers.sample(g, 3), p)
        if self.more:
            self.other.load_params(g, got)
            self.other.params(g)
        self.model.load_params(g, got)
        metrics = self.model.fit(g, self.data.batches(g))
        mine = self.model.params(g)
        g.output("client", mine)
        reply = g.net_out("update", g.sender(got), mine, metrics)
        folded = self.aggregator.contribute(g, *reply)
        done = g.gather(folded, quorum=self.quorum, wait="all", deadline="9s")
        averaged, _ = self.aggregator.aggregate(g, after=done)
        g.output("w", averaged)


PARTS = {"model": Drawing, "aggregator": DrawingFold}


def numbers(stage: Stage, name: str) -> list[list[float]]:
    return [value["w"].tolist() for value in stage.wire.outputs(name)]


def test_equal_runs_give_equal_steps(compiled):
    texts = set()
    for _ in range(2):
        stage = Stage(compiled(Round(), **PARTS), seed=7)
        for _ in range(3):
            stage.run()
        texts.add(repr(stage.wire.steps) + repr([numbers(stage, n) for n in ("client", "w")]))
    assert len(texts) == 1


def test_another_seed_gives_other_draws(compiled):
    drawn = []
    for seed in (1, 2):
        stage = Stage(compiled(Round(), **PARTS), seed=seed)
        stage.run()
        drawn.append(numbers(stage, "server"))
    assert drawn[0] != drawn[1]


def test_every_op_frame_peer_and_draw_has_numbers_of_its_own(compiled):
    stage = Stage(compiled(Round(), **PARTS))
    for _ in range(3):
        stage.run()
    drawn = [n for name in ("server", "client") for pair in numbers(stage, name) for n in pair]
    assert len(set(drawn)) == len(drawn) == 2 * (3 + 9)


def test_draws_do_not_depend_on_ops_of_other_slots(compiled):
    drawn = []
    for more in (False, True):
        stage = Stage(compiled(Round(more=more), **PARTS))
        stage.run()
        drawn.append((numbers(stage, "server"), numbers(stage, "client")))
    assert drawn[0] == drawn[1]


def test_draws_of_a_reply_depend_on_who_replied_and_not_on_when(compiled):
    drawn = []
    for order in [(0, 0, 0), (2, 1, 0)]:
        stage = Stage(compiled(Round(), **PARTS))
        stage.invoke()
        for _ in range(3):
            stage.wire.deliver()
        for at in order:
            stage.wire.deliver(at)
        drawn.append(stage.server.component("aggregator").drawn)
    assert drawn[0] == drawn[1]


def test_draws_of_later_rounds_do_not_depend_on_replies_that_were_lost(compiled):
    drawn = []
    for lost in (0, 1):
        stage = Stage(compiled(Round(quorum=0.5), **PARTS))
        stage.invoke()
        for _ in range(3):
            stage.wire.deliver()
        del stage.wire.flying[:lost]
        stage.wire.run()
        stage.wire.advance(9 * 10**9)
        stage.run()
        drawn.append(numbers(stage, "client")[3:])
    assert drawn[0] == drawn[1]


def test_a_context_says_where_and_when_an_op_runs(compiled):
    stage = Stage(compiled(Round(), data=Seen))
    stage.wire.advance(5)
    stage.run()
    [client, *_] = stage.clients
    [(peer, sender, round_, now)] = client.component("data").seen
    assert (peer, sender, now) == (client.peer, stage.server.peer, 5)
    assert round_.incarnation == 1


SCRIPT = """
import hashlib
from bb_compiler import Compiler
from bb_runtime import load_artifact
from bb_testing.programs import CountingModel, ListSource, Stage, SumAggregator
from bytesandbrains.programs import FederatedAveraging

compiler = Compiler()
compiler.bind_peer_selector("peers", "static").bind_model("model", CountingModel)
compiler.bind_data_source("data", ListSource).bind_aggregator("aggregator", SumAggregator)
model = compiler.compile(FederatedAveraging(3, quorum=0.5).build())
print(hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest())
stage = Stage(load_artifact(model), clients=5, seed=3)
for _ in range(3):
    stage.run()
print(stage.wire.steps)
"""


def test_nothing_depends_on_the_seed_of_hashes():
    printed = set()
    for seed in ("0", "1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=True
        )
        printed.add(done.stdout)
    assert len(printed) == 1
    assert "FrameEnded" in printed.pop()


def test_the_same_node_gives_the_same_bytes_on_the_wire(compiled):
    artifact = compiled(Round(), **PARTS)
    peers = [PeerId.from_seed(b"wire", n) for n in range(4)]
    sent = set()
    for _ in range(2):
        node = install(peers[0], [], artifact, ["Round"], {"peers": {"peers": peers[1:]}}, seed=4)
        node.invoke("Round")
        ships = [step for step in node.poll() if not isinstance(step, Emitted)]
        sent.add(b"".join(ship.envelope.to_bytes() for ship in ships))
    assert len(sent) == 1
