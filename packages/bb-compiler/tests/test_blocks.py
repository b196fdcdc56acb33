"""Programs with blocks that must compile, and where their ops stand."""

import json
import time
from textwrap import dedent

import onnx
import pytest

from bb_dsl import Module, slots
from bb_ir import keys, onnx_tools
from bb_ir.text import parse_model, print_model


class Program(Module):
    peer_class = "server"
    peers = slots.PeerSelector(of="client")
    model = slots.Model()
    data = slots.DataSource()
    aggregator = slots.Aggregator()

    def __init__(self, body):
        super().__init__()
        self.record = body

    def body(self, g):
        self.record(self, g)


@pytest.fixture
def stands(compiled, places):
    """Return a function that compiles a Module and compares the places of all ops."""

    def compare(module, expected):
        artifact = compiled(module)
        onnx.checker.check_model(artifact)
        assert parse_model(print_model(artifact)) == artifact
        assert places(artifact) == dedent(expected).strip()
        return artifact

    return compare


def test_rounds_of_averaging(stands):
    def body(self, g):
        with g.rounds(10):
            got = g.net_out("weights", self.peers.sample(g, 8), self.model.params(g))
            self.model.load_params(g, got)
            with g.each(self.data.batches(g)) as (inputs, labels):
                predicted = self.model.forward(g, inputs)
                self.model.compute_loss(g, predicted, labels)
                self.model.backward(g, predicted)
            metrics = self.model.evaluate(g, self.data.batches(g))
            reply = g.net_out("update", g.sender(got), self.model.params(g), metrics)
            done = g.gather(self.aggregator.contribute(g, *reply), quorum=0.8)
            averaged, summary = self.aggregator.aggregate(g, after=done)
            self.model.load_params(g, averaged)
            g.output("round", summary)

    stands(
        Program(body),
        """
        Program
          server/main: Rounds
          server/@rounds: Turn, Sample(peers), Params(model), Send(weights), Gather,
              Aggregate(aggregator), LoadParams(model), Output
          server/update: Receive(update), Contribute(aggregator)
        Program.client
          client/weights: Receive(weights), LoadParams(model), Batches(data), Each, Batches(data),
              Evaluate(model), Sender, Params(model), Send(update)
          client/@each: Turn, Forward(model), ComputeLoss(model), Backward(model)
        """,
    )


class Gossip(Module):
    peer_class = "peer"
    neighbours = slots.PeerSelector()
    model = slots.Model()
    data = slots.DataSource()
    aggregator = slots.Aggregator()

    def body(self, g):
        with g.every("5s", jitter="1s"):
            metrics = self.model.fit(g, self.data.batches(g))
            theirs = g.net_out("push", self.neighbours.sample(g, 1), self.model.params(g), metrics)
        self.aggregator.contribute(g, *theirs)
        mine = self.model.evaluate(g, self.data.batches(g))
        self.aggregator.contribute(g, self.model.params(g), mine)
        mixed, _ = self.aggregator.aggregate(g)
        self.model.load_params(g, mixed)


def test_gossip_goes_on_where_the_values_arrive(stands):
    stands(
        Gossip(),
        """
        Gossip
          peer/main: Every
          peer/@every: Turn, Batches(data), Fit(model), Sample(neighbours), Params(model),
              Send(push)
          peer/push: Receive(push), Contribute(aggregator), Batches(data), Evaluate(model),
              Params(model), Contribute(aggregator), Aggregate(aggregator), LoadParams(model)
        """,
    )


def test_blocks_under_at_give_the_cursor_back(stands):
    def body(self, g):
        n = g.input("n", "int64")
        g.net_out("ask", self.peers.sample(g, 2), n)
        with g.at("server"), g.loop(n):
            self.model.fit(g, self.data.batches(g))
            with g.at("server"):
                self.model.params(g)
        self.model.params(g)

    stands(
        Program(body),
        """
        Program
          server/main: Sample(peers), Send(ask), Loop
          server/@loop: Turn, Batches(data), Fit(model), Params(model)
        Program.client
          client/ask: Receive(ask), Params(model)
        """,
    )


def test_class_that_was_left_in_a_block_means_the_frame_around_it(stands):
    def body(self, g):
        n = g.input("n", "int64")
        g.net_out("ask", self.peers.sample(g, 2), n)
        with g.loop(3):
            self.model.params(g)
        g.output("more", n + 1)
        with g.at("client"):
            self.data.reset(g)

    stands(
        Program(body),
        """
        Program
          server/main: Sample(peers), Send(ask), Scalar, Calculate, Output
        Program.client
          client/ask: Receive(ask), Loop, Reset(data)
          client/@loop: Turn, Params(model)
        """,
    )


def test_gather_over_turns_that_asked(stands):
    def body(self, g):
        with g.each(self.peers.sample(g, 3)) as peer:
            got = g.net_out("ask", peer, g.scalar(1))
            count = g.gather(g.net_out("reply", g.sender(got), got)).count
            with g.when(count > 0):
                more = count + 1
            known = g.last(more, count)
        g.output("counts", g.gather(known, values=True).values)

    stands(
        Program(body),
        """
        Program
          server/main: Sample(peers), Each, Gather, Output
          server/@each: Turn, Scalar, Send(ask), Gather, Scalar, Calculate, When, Last
          server/reply: Receive(reply)
          server/@when: Turn, Scalar, Calculate
        Program.client
          client/ask: Receive(ask), Sender, Send(reply)
        """,
    )


def test_peers_that_are_handed_over_keep_their_class(compiled):
    def body(self, g):
        got = g.net_out("ask", self.peers.sample(g, 2), g.scalar(1))
        done = g.gather(g.net_out("reply", g.sender(got)), quorum=0.5)
        with g.rounds(2) as number, g.on("news"):
            g.net_out("again", done.missing, number)

    artifact = compiled(Program(body))

    edges = {e["name"]: e for e in json.loads(onnx_tools.get_meta(artifact, keys.EDGES))}
    assert edges["again"]["to"] == "client"


def test_names_of_values_inside_are_nobody_elses(compiled):
    def body(self, g):
        a, b = g.input("a", "params"), g.input("a@rounds", "params")
        with g.rounds(2):
            self.model.load_params(g, a)
        self.model.load_params(g, b)

    onnx.checker.check_model(compiled(Program(body)))


@pytest.mark.parametrize("kind", ["loop", "rounds"])
def test_blocks_may_stand_deep_in_blocks(compiled, kind):
    def body(self, g):
        start = self.model.params(g)

        def nest(depth):
            with getattr(g, kind)(2):
                self.model.load_params(g, start)
                if depth:
                    nest(depth - 1)

        nest(40)

    begun = time.perf_counter()
    artifact = compiled(Program(body))

    assert time.perf_counter() - begun < 20, "the time doubles with every block around"
    regions = json.loads(onnx_tools.get_meta(artifact.functions[0], keys.REGIONS))
    assert len(regions) == 42
    assert all(0 < region["deadline_ns"] < 2**63 for region in regions)
