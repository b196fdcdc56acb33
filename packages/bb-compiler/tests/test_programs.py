"""Programs that must compile, with the place at which each of their ops must stand.

Places are written by target, each region with its class on a line, `op(slot)` and `Send(edge)`.
"""

import json
from textwrap import dedent

import onnx
import pytest

from bb_compiler import Compiler
from bb_dsl import Module, slots
from bb_ir import keys, onnx_tools
from bb_ir.text import parse_model, print_model
from bb_ir.types import tensor


@pytest.fixture
def stands(compiled, places):
    """Return a function that compiles a Module and compares the places of all ops."""

    def compare(module, expected):
        artifact = compiled(module)
        onnx.checker.check_model(artifact)
        text = print_model(artifact)
        assert parse_model(text) == artifact
        assert print_model(parse_model(text)) == text
        assert places(artifact) == dedent(expected).strip()
        return artifact

    return compare


def edges(artifact):
    return {e["name"]: e for e in json.loads(onnx_tools.get_meta(artifact, keys.EDGES))}


def targets(artifact):
    return [function.name.partition("#")[0] for function in artifact.functions]


def rows(artifact):
    found = {}
    for key, value in onnx_tools.metadata(artifact).items():
        if key.startswith(keys.BINDING):
            target, _, slot = key.removeprefix(keys.BINDING).partition("/")
            component = value.split("|")[1].partition(":")[2] or value.split("|")[1]
            found[f"{target.partition('#')[0]}/{slot}"] = component
    return found


class FederatedAveraging(Module):
    peer_class = "server"
    peers = slots.PeerSelector(of="client")
    model = slots.Model()
    data = slots.DataSource()
    aggregator = slots.Aggregator()

    def body(self, g):
        cohort = self.peers.sample(g, 8)
        received = g.net_out("weights", cohort, self.model.params(g))
        self.model.load_params(g, received)
        metrics = self.model.fit(g, self.data.batches(g))
        reply = g.net_out("update", g.sender(received), self.model.params(g), metrics)
        folded = self.aggregator.contribute(g, *reply)
        done = g.gather(folded, quorum=0.8, deadline="30s", wait="all")
        averaged, summary = self.aggregator.aggregate(g, after=done)
        self.model.load_params(g, averaged)
        g.output("round", summary)


def test_federated_averaging(stands):
    artifact = stands(
        FederatedAveraging(),
        """
        FederatedAveraging
          server/main: Sample(peers), Params(model), Send(weights), Gather, Aggregate(aggregator),
              LoadParams(model), Output
          server/update: Receive(update), Contribute(aggregator)
        FederatedAveraging.client
          client/weights: Receive(weights), LoadParams(model), Batches(data), Fit(model), Sender,
              Params(model), Send(update)
        """,
    )

    assert targets(artifact) == ["FederatedAveraging", "FederatedAveraging.client"]
    assert edges(artifact)["update"]["answers"] == "weights"
    assert edges(artifact)["weights"]["deadline_ns"] == 30 * 10**9
    assert edges(artifact)["update"]["deadline_ns"] == 60 * 10**9


class Gossip(Module):
    neighbours = slots.PeerSelector()
    model = slots.Model()
    data = slots.DataSource()
    aggregator = slots.Aggregator()

    def body(self, g):
        self.model.fit(g, self.data.batches(g))
        theirs = g.net_out("push", self.neighbours.sample(g, 1), self.model.params(g))
        metrics = self.model.evaluate(g, self.data.batches(g))
        self.aggregator.contribute(g, theirs, metrics)
        self.aggregator.contribute(g, self.model.params(g), metrics)
        mixed, _ = self.aggregator.aggregate(g)
        self.model.load_params(g, mixed)


def test_gossip_on_one_class(stands):
    artifact = stands(
        Gossip(),
        """
        Gossip
          Gossip/main: Batches(data), Fit(model), Sample(neighbours), Params(model), Send(push)
          Gossip/push: Receive(push), Batches(data), Evaluate(model), Contribute(aggregator),
              Params(model), Contribute(aggregator), Aggregate(aggregator), LoadParams(model)
        """,
    )

    assert targets(artifact) == ["Gossip"]
    edge = edges(artifact)["push"]
    assert (edge["from"], edge["to"], edge["answered"]) == ("Gossip", "Gossip", False)
    assert "peers(Gossip) = peer_selector.Sample" in print_model(artifact)


class Hierarchy(Module):
    peer_class = "cloud"
    edges = slots.PeerSelector(of="edge")
    clients = slots.PeerSelector(of="client")
    model = slots.Model()
    data = slots.DataSource()
    at_edge = slots.Aggregator()
    at_cloud = slots.Aggregator()

    def body(self, g):
        down = g.net_out("down", self.edges.sample(g, 3), self.model.params(g))
        work = g.net_out("work", self.clients.sample(g, 8), down)
        self.model.load_params(g, work)
        metrics = self.model.fit(g, self.data.batches(g))
        back = g.net_out("back", g.sender(work), self.model.params(g), metrics)
        near = g.gather(self.at_edge.contribute(g, *back), quorum=0.5, deadline="20s")
        part, count = self.at_edge.aggregate(g, after=near)
        up = g.net_out("up", g.sender(down), part, count)
        far = g.gather(self.at_cloud.contribute(g, *up), deadline="1m")
        whole, summary = self.at_cloud.aggregate(g, after=far)
        self.model.load_params(g, whole)
        g.output("round", summary)


def test_fan_out_inside_fan_out(stands):
    artifact = stands(
        Hierarchy(),
        """
        Hierarchy
          cloud/main: Sample(edges), Params(model), Send(down), Gather, Aggregate(at_cloud),
              LoadParams(model), Output
          cloud/up: Receive(up), Contribute(at_cloud)
        Hierarchy.edge
          edge/down: Receive(down), Sample(clients), Send(work), Gather, Aggregate(at_edge),
              Sender, Send(up)
          edge/back: Receive(back), Contribute(at_edge)
        Hierarchy.client
          client/work: Receive(work), LoadParams(model), Batches(data), Fit(model), Sender,
              Params(model), Send(back)
        """,
    )

    assert targets(artifact) == ["Hierarchy", "Hierarchy.edge", "Hierarchy.client"]
    found = edges(artifact)
    assert [(e["name"], e["parent"], e["answers"]) for e in found.values()] == [
        ("up", "main", "down"),
        ("down", "", ""),
        ("back", "down", "work"),
        ("work", "", ""),
    ]


class TwoPhases(Module):
    peer_class = "server"
    peers = slots.PeerSelector(of="client")
    model = slots.Model()
    data = slots.DataSource()

    def body(self, g):
        asked = g.net_out("ask", self.peers.sample(g, 8))
        first = g.net_out("ready", g.sender(asked), self.model.evaluate(g, self.data.batches(g)))
        ready = g.gather(first, quorum=4, values=True)
        given = g.net_out("give", ready.senders, self.model.params(g))
        loaded = self.model.load_params(g, given)
        answer = g.net_out("confirm", g.sender(given), self.model.params(g, after=loaded))
        done = g.gather(answer)
        g.output("first", ready.values)
        g.output("second", done)
        g.net_out("thanks", done.missing)


def test_second_phase_talks_to_the_frames_that_answered(stands):
    artifact = stands(
        TwoPhases(),
        """
        TwoPhases
          server/main: Sample(peers), Send(ask), Gather, Params(model), Send(give), Gather,
              Output, Output, Send(thanks)
          server/ready: Receive(ready)
          server/confirm: Receive(confirm)
        TwoPhases.client
          client/ask: Receive(ask), Sender, Batches(data), Evaluate(model), Send(ready)
          client/give: Receive(give), LoadParams(model), Sender, Params(model), Send(confirm)
          client/thanks: Receive(thanks)
        """,
    )

    found = edges(artifact)
    assert [(n, e["parent"], e["answers"], e["to"]) for n, e in found.items()] == [
        ("ready", "main", "ask", "server"),
        ("confirm", "main", "give", "server"),
        ("ask", "", "", "client"),
        ("give", "ask", "ready", "client"),
        ("thanks", "", "", "client"),
    ]


class SplitLearning(Module):
    peer_class = "client"
    servers = slots.PeerSelector(of="server")
    front = slots.Model()
    back = slots.Model()
    data = slots.DataSource()
    backend = slots.Backend()

    def body(self, g):
        batch, labels = self.data.next_batch(g)
        cut = self.front.forward(g, batch)
        sent, targets = g.net_out("activations", self.servers.sample(g, 1), cut, labels)
        predicted = self.back.forward(g, sent)
        loss = self.back.compute_loss(g, predicted, targets)
        gradient = self.back.backward(g, (predicted - targets) * 2.0)
        returned, error = g.net_out("gradients", g.sender(sent), gradient, loss)
        stepped = self.front.backward(g, returned)
        done = g.gather(stepped)
        g.output("loss", error)
        g.output("steps", done)


def test_split_learning(stands):
    stands(
        SplitLearning(),
        """
        SplitLearning
          client/main: NextBatch(data), Forward(front), Sample(servers), Send(activations),
              Gather, Output
          client/gradients: Receive(gradients), Backward(front), Output
        SplitLearning.server
          server/activations: Receive(activations), Forward(back), ComputeLoss(back),
              Sub(backend), Constant(backend), Mul(backend), Backward(back), Sender,
              Send(gradients)
        """,
    )


class FederatedEvaluation(Module):
    peer_class = "server"
    peers = slots.PeerSelector(of="client")
    model = slots.Model()
    data = slots.DataSource()

    def body(self, g):
        received = g.net_out("weights", self.peers.current_view(g), self.model.params(g))
        loaded = self.model.load_params(g, received)
        metrics = self.model.evaluate(g, self.data.batches(g, after=loaded))
        reply = g.net_out("metrics", g.sender(received), metrics)
        done = g.gather(reply, quorum=0.5, on_short="continue", values=True)
        g.output("metrics", done.values)
        g.output("missing", done.missing)


def test_federated_evaluation(stands):
    artifact = stands(
        FederatedEvaluation(),
        """
        FederatedEvaluation
          server/main: CurrentView(peers), Params(model), Send(weights), Gather, Output, Output
          server/metrics: Receive(metrics)
        FederatedEvaluation.client
          client/weights: Receive(weights), LoadParams(model), Batches(data), Evaluate(model),
              Sender, Send(metrics)
        """,
    )

    assert "metrics: list(record)" in print_model(artifact)
    assert "missing: peers(client)" in print_model(artifact)


class Distillation(Module):
    teacher = slots.Model()
    student = slots.Model()
    data = slots.DataSource()
    backend = slots.Backend()

    def body(self, g):
        batch, _ = self.data.next_batch(g)
        wanted = self.teacher.forward(g, batch)
        given = self.student.forward(g, batch)
        self.student.backward(g, given - wanted)
        g.output("loss", self.student.compute_loss(g, given, wanted))


def test_two_models_of_one_role(stands):
    artifact = stands(
        Distillation(),
        """
        Distillation
          Distillation/main: NextBatch(data), Forward(teacher), Forward(student), Sub(backend),
              Backward(student), ComputeLoss(student), Output
        """,
    )

    assert set(rows(artifact)) == {
        f"Distillation/{slot}" for slot in ("teacher", "student", "data", "backend")
    }


class LocalTrainer(Module):
    model = slots.Model()
    data = slots.DataSource()

    def body(self, g):
        loaded = self.model.load_params(g, g.input("start", "params"))
        metrics = self.model.fit(g, self.data.batches(g, after=loaded))
        g.output("end", self.model.params(g))
        g.output("metrics", metrics)


class WithTrainer(Module):
    peer_class = "server"
    peers = slots.PeerSelector(of="client")
    model = slots.Model()
    aggregator = slots.Aggregator()

    def __init__(self):
        super().__init__()
        self.trainer = LocalTrainer(model=self.model)

    def body(self, g):
        received = g.net_out("weights", self.peers.sample(g, 8), self.model.params(g))
        trained = self.trainer(g, start=received)
        reply = g.net_out("update", g.sender(received), trained["end"], trained["metrics"])
        done = g.gather(self.aggregator.contribute(g, *reply))
        averaged, _ = self.aggregator.aggregate(g, after=done)
        again = self.trainer(g, start=averaged)
        g.output("params", again["end"])


def test_sub_module_trains_where_it_is_called(stands):
    artifact = stands(
        WithTrainer(),
        """
        WithTrainer
          server/main: Sample(peers), Params(model), Send(weights), Gather, Aggregate(aggregator),
              LoadParams(model), Batches(trainer.data), Fit(model), Params(model), Output
          server/update: Receive(update), Contribute(aggregator)
        WithTrainer.client
          client/weights: Receive(weights), LoadParams(model), Batches(trainer.data), Fit(model),
              Params(model), Sender, Send(update)
        """,
    )

    assert {"WithTrainer/model", "WithTrainer.client/model", "WithTrainer.client/trainer.data"} < (
        set(rows(artifact))
    )


class AskAround(Module):
    """A sub-module with edges of its own: it asks its caller's neighbours for their parameters."""

    neighbours = slots.PeerSelector()
    model = slots.Model()

    def body(self, g):
        asked = g.net_out("ask", self.neighbours.sample(g, 2))
        told = g.net_out("tell", g.sender(asked), self.model.params(g))
        g.output("all", g.gather(told, values=True).values)


class AsksTwice(Module):
    peer_class = "server"
    peers = slots.PeerSelector(of="client")

    def __init__(self):
        super().__init__()
        self.around = AskAround()

    def body(self, g):
        first = self.around(g)
        g.output("servers", first["all"])
        g.net_out("start", self.peers.current_view(g))
        second = self.around(g)
        g.output("clients", second["all"])


def test_sub_module_with_edges_called_on_two_classes(stands):
    artifact = stands(
        AsksTwice(),
        """
        AsksTwice
          server/main: Sample(around.neighbours), Send(around.ask), Gather, Output,
              CurrentView(peers), Send(start)
          server/around.ask: Receive(around.ask), Sender, Params(around.model), Send(around.tell)
          server/around.tell: Receive(around.tell)
        AsksTwice.client
          client/start: Receive(start), Sample(around.neighbours), Send(around~2.ask), Gather,
              Output
          client/around~2.ask: Receive(around~2.ask), Sender, Params(around.model),
              Send(around~2.tell)
          client/around~2.tell: Receive(around~2.tell)
        """,
    )

    found = edges(artifact)
    assert {name: (e["from"], e["to"]) for name, e in found.items()} == {
        "around.ask": ("server", "server"),
        "around.tell": ("server", "server"),
        "start": ("server", "client"),
        "around~2.ask": ("client", "client"),
        "around~2.tell": ("client", "client"),
    }
    assert list(artifact.functions[1].output) == ["clients"]


class Bootstrapped(Module):
    peer_class = "server"
    peers = slots.PeerSelector(of="client")
    model = slots.Model()
    data = slots.DataSource()

    def body(self, g):
        g.net_out("weights", self.peers.sample(g, 2), self.model.params(g))

    def bootstrap(self, g):
        g.net_out("hello", self.peers.current_view(g))
        self.data.reset(g)
        with g.at("server"):
            self.model.params(g)


class StartsClients(Bootstrapped):
    def bootstrap(self, g):
        self.model.params(g)
        with g.at("client"):
            self.data.reset(g)


def test_bootstrap_is_a_function_of_its_own(stands):
    artifact = stands(
        Bootstrapped(),
        """
        Bootstrapped
          server/main: Sample(peers), Params(model), Send(weights)
        Bootstrapped.client
          client/weights: Receive(weights)
        Bootstrapped.bootstrap
          server/main: CurrentView(peers), Send(hello), Params(model)
        Bootstrapped.bootstrap.client
          client/hello: Receive(hello), Reset(data)
        """,
    )

    assert targets(artifact) == [
        "Bootstrapped",
        "Bootstrapped.client",
        "Bootstrapped.bootstrap",
        "Bootstrapped.bootstrap.client",
    ]


def test_bootstrap_of_another_class(stands):
    artifact = stands(
        StartsClients(),
        """
        StartsClients
          server/main: Sample(peers), Params(model), Send(weights)
        StartsClients.client
          client/weights: Receive(weights)
        StartsClients.bootstrap
          server/main: Params(model)
        StartsClients.bootstrap.client
          client/main@client: Reset(data)
        """,
    )

    last = artifact.functions[-1]
    assert [r["opened_in"] for r in json.loads(onnx_tools.get_meta(last, keys.REGIONS))] == [""]


class AtPlaces(Module):
    peer_class = "server"
    peers = slots.PeerSelector(of="client")
    model = slots.Model()
    backend = slots.Backend()

    def body(self, g):
        cohort = self.peers.sample(g, 2)
        scale = g.input("scale", tensor("float32", ()))
        received = g.net_out("weights", cohort, scale)
        with g.at("server"):
            self.model.params(g)
        with g.at(cohort):
            self.model.params(g)
        self.model.params(g)
        g.output("scaled", received * 2 + 1)
        g.output("kept", scale * 3)


def test_blocks_place_and_leave_the_cursor_where_it_was(stands):
    stands(
        AtPlaces(),
        """
        AtPlaces
          server/main: Sample(peers), Send(weights), Params(model), Params(model),
              Constant(backend), Mul(backend), Output
        AtPlaces.client
          client/weights: Receive(weights), Params(model), Constant(backend), Mul(backend),
              Constant(backend), Add(backend), Output
        """,
    )


class ReadsItsParent(Module):
    peer_class = "server"
    peers = slots.PeerSelector(of="client")
    model = slots.Model()
    backend = slots.Backend()

    def body(self, g):
        weight = g.input("weight", tensor("float32", ()))
        asked = g.net_out("ask", self.peers.sample(g, 2), weight)
        answer = g.net_out("answer", g.sender(asked), asked * 2)
        scaled = answer * weight
        g.output("each", scaled)
        g.output("all", g.gather(scaled, values=True).values)


def test_reply_reads_values_of_its_round(stands):
    artifact = stands(
        ReadsItsParent(),
        """
        ReadsItsParent
          server/main: Sample(peers), Send(ask), Gather, Output
          server/answer: Receive(answer), Mul(backend), Output
        ReadsItsParent.client
          client/ask: Receive(ask), Sender, Constant(backend), Mul(backend), Send(answer)
        """,
    )

    assert "all: list(tensor(float32)[])" in print_model(artifact)


def test_binding_for_one_class_only(bind_all):
    model = FederatedAveraging().build()
    compiler = bind_all(model).bind_model("model", "mlp", on="client")

    artifact = compiler.compile(model)

    found = rows(artifact)
    assert found["FederatedAveraging/model"] == "AnyModel"
    assert found["FederatedAveraging.client/model"] == "mlp"


def test_class_bindings_alone_suffice(bind_all):
    model = FederatedAveraging().build()
    compiler = (
        Compiler().bind_model("model", "mlp", on="client").bind_model("model", "mlp", on="server")
    )
    for slot, role in (
        ("data", "data_source"),
        ("aggregator", "aggregator"),
        ("peers", "peer_selector"),
    ):
        name = {"data": "digits", "aggregator": "fedavg", "peers": "static"}[slot]
        compiler.bind(slot, name, role=role)

    assert rows(compiler.compile(model))["FederatedAveraging/model"] == "mlp"
