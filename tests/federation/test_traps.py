"""Mistakes of earlier systems of this kind; each has a test that would fail on it."""

import ast
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bb_dsl as bb
import bb_runtime
from bb_ir.ids import PeerId
from bb_ir.types import tensor
from bb_ir.wire import PRELUDE_SIZE, Prelude, pack_prelude
from bb_runtime import Options, Refuse, errors, install, load_artifact, steps
from bb_testing.programs import CountingModel, Stage, Wire

SECOND = 10**9


class Round(bb.Module):
    """One round of averaging."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def __init__(self, n: int = 3) -> None:
        super().__init__()
        self.n = n

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("weights", self.peers.sample(g, self.n), self.model.params(g))
        self.model.load_params(g, got)
        metrics = self.model.fit(g, self.data.batches(g))
        reply = g.net_out("update", g.sender(got), self.model.params(g), metrics)
        done = g.gather(self.aggregator.contribute(g, *reply))
        averaged, _ = self.aggregator.aggregate(g, after=done)
        g.output("w", averaged)


class Joined(bb.Module):
    """Three values in one message, joined where they arrive."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    backend = bb.slots.Backend()

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", tensor("float64", (None,)))
        a, b, c = g.net_out("three", self.peers.sample(g, 1), x, x * 2.0, x * 3.0)
        g.output("sum", a + b + c)


class Fits(bb.Module):
    """One round on one Node."""

    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g: bb.Graph) -> None:
        with g.rounds(1):
            self.model.fit(g, self.data.batches(g))


class SlowModel(CountingModel):
    """Trains on the host's executor."""

    defers = ("fit",)

    def fit(self, ctx: Any, batches: Any) -> Any:
        return ctx.defer(lambda: {"examples": batches.examples, "loss": 0.0})


def test_edges_have_names_that_every_node_of_the_artifact_knows(compiled):
    artifact = compiled(Round())
    assert set(artifact.edges) == {"weights", "update"}
    server_side, client_side = (Stage(artifact, clients=n).server for n in (1, 2))
    assert server_side._engine.artifact.edges_by_id == client_side._engine.artifact.edges_by_id


def test_an_edge_is_found_on_a_node_that_read_the_artifact_elsewhere(compiled):
    from bb_compiler import Compiler
    from bb_testing.programs import CountingModel, FixedPeers, ListSource, SumAggregator

    compiler = Compiler()
    for slot, part in {"peers": FixedPeers, "model": CountingModel, "data": ListSource,
                       "aggregator": SumAggregator}.items():  # fmt: skip
        compiler.bind(slot, part)
    data = compiler.compile(Round(1).build()).SerializeToString()
    ids = [PeerId.from_seed(b"elsewhere", n) for n in range(2)]
    server = install(ids[0], [], load_artifact(data), ["Round"], {"peers": {"peers": ids[1:]}})
    client = install(ids[1], [], load_artifact(bytes(data)), ["Round.client"])
    wire = Wire(server, client)
    server.invoke("Round")
    wire.run()
    assert len(wire.outputs("w")) == 1


def test_one_envelope_opens_one_frame_and_its_values_meet(compiled):
    stage = Stage(compiled(Joined()), clients=1)
    stage.run(x=np.array([1.0, 2.0]))
    assert [y.tolist() for y in stage.wire.outputs("sum")] == [[6.0, 12.0]]
    assert len(stage.wire.ended(stage.peers[0])) == 1


def test_ops_without_inputs_start_with_their_frame(compiled):
    class NoInputs(bb.Module):
        peer_class = "server"
        peers = bb.slots.PeerSelector(of="client")
        model = bb.slots.Model()

        def body(self, g: bb.Graph) -> None:
            g.output("here", self.model.params(g))
            hello = g.net_out("hello", self.peers.sample(g, 1))
            with g.at(hello):
                g.output("there", self.model.params(g))

    stage = Stage(compiled(NoInputs()), clients=1)
    stage.run()
    assert len(stage.wire.outputs("here")) == 1
    assert len(stage.wire.outputs("there")) == 1


class Part(bb.Module):
    """Doubles and sends; called twice, with names of its own each time."""

    backend = bb.slots.Backend()

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", tensor("float64", (None,)))
        g.output("y", x + x)


class Twins(bb.Module):
    """Two sub-modules of one class, and a bootstrap with the names of the body."""

    peer_class = "server"

    def __init__(self) -> None:
        super().__init__()
        self.left = Part()
        self.right = Part()

    def bootstrap(self, g: bb.Graph) -> None:
        x = g.input("x", tensor("float64", (None,)))
        g.output("boot", self.left(g, x=x)["y"])

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", tensor("float64", (None,)))
        once = self.left(g, x=x)["y"]
        twice = self.left(g, x=once)["y"]
        g.output("y", self.right(g, x=twice)["y"])


def twins(compiled: Any) -> Wire:
    node = install(PeerId.from_seed(b"twins", 0), [], compiled(Twins()), ["Twins"])
    wire = Wire(node)
    node.invoke("Twins.bootstrap", {"x": np.array([10.0])})
    node.invoke("Twins", {"x": np.array([1.0])})
    wire.run()
    return wire


def test_ops_of_calls_and_bootstraps_run_once_and_after_their_inputs(compiled):
    wire = twins(compiled)
    [node] = wire.nodes.values()
    assert wire.failures() == []
    assert node.component("left.backend", target="Twins").runs.count("Add") == 1 + 2
    assert node.component("right.backend", target="Twins").runs == ["Add"]


def test_values_belong_to_a_frame_and_a_position_not_to_a_name(compiled):
    wire = twins(compiled)
    assert [v.tolist() for v in wire.outputs("boot")] == [[20.0]]
    assert [v.tolist() for v in wire.outputs("y")] == [[8.0]]


def test_two_calls_and_two_sub_modules_do_not_collide_in_names(compiled):
    artifact = compiled(Twins())
    slots = {row.slot for row in artifact.target("Twins").rows}
    assert slots == {"left.backend", "right.backend"}
    names = [name for op in artifact.target("Twins").ops for name in op.outputs]
    assert len(set(names)) == len(names)


def test_the_list_of_peers_is_not_payload(compiled):
    sizes = set()
    for clients in (2, 9):
        stage = Stage(compiled(Round(9)), clients=clients)
        stage.invoke()
        sizes.update(len(packet.ship.envelope.to_bytes()) for packet in stage.wire.flying)
    assert len(stage.server._engine.artifact.edges["weights"].ports) == 1
    assert len(sizes) == 1


def test_equal_messages_with_different_ids_are_two_messages(compiled):
    stage = Stage(compiled(Joined()), clients=1)
    for _ in range(2):
        stage.run(x=np.array([1.0]))
    assert len(stage.wire.outputs("sum")) == 2
    assert stage.clients[0].counters == {}


def test_deadlines_on_the_wire_are_relative(compiled):
    stage = Stage(compiled(Round()))
    stage.server.advance(10**18)
    stage.clients[0].advance(5)
    frame = stage.run()
    assert stage.end_of(frame).how == "done"


def test_bindings_are_per_slot(compiled):
    class Two(bb.Module):
        peer_class = "server"
        first = bb.slots.Model()
        second = bb.slots.Model()

        def body(self, g: bb.Graph) -> None:
            g.output("a", self.first.params(g))
            g.output("b", self.second.params(g))

    config = {"first": {"value": 1.0, "size": 1}, "second": {"value": 2.0, "size": 1}}
    stage = Stage(compiled(Two()), clients=0, config=config)
    stage.run()
    assert stage.wire.outputs("a")[0]["w"].tolist() == [1.0]
    assert stage.wire.outputs("b")[0]["w"].tolist() == [2.0]
    assert stage.server.component("first") is not stage.server.component("second")


def test_caps_are_checked_before_anything_is_parsed_or_allocated(compiled, monkeypatch):
    def never(*_: Any) -> None:
        raise AssertionError("too early")

    stage = Stage(compiled(Round()))
    monkeypatch.setattr("bb_runtime._admission.read_header", never)
    monkeypatch.setattr("bb_runtime._admission.allocate", never)
    for prelude in (Prelude(0, 1 << 30, 0, 0, 0), Prelude(0, 10, 1, 1 << 60, 0)):
        answer = stage.server.offer(pack_prelude(prelude), b"", stage.peers[0])
        assert isinstance(answer, Refuse)
    assert len(pack_prelude(prelude)) == PRELUDE_SIZE


def test_failed_and_late_frames_leave_nothing_behind(compiled):
    stage = Stage(compiled(Round()), each={0: {"model": {"fail_in": "fit"}}})
    for turn in range(6):
        stage.invoke()
        if turn % 2:
            stage.wire.flying.clear()
        stage.wire.run()
        stage.wire.advance(61 * SECOND)
    for node in stage.wire.nodes.values():
        engine = node._engine
        assert not engine.frames
        assert not engine.post.outgoing
        assert engine.payload_held == 0
        assert engine.timers.next() is None


@pytest.mark.parametrize("name", errors.__all__)
def test_every_declared_error_is_raised_somewhere(name):
    made = set()
    for path in Path(inspect.getfile(bb_runtime)).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                made.add(node.func.id)
    assert name in made or name == "InstallError", "an error that nothing raises"


def test_every_kind_of_step_is_emitted(compiled):
    stage = Stage(compiled(Round()), each={0: {"model": {"fail_in": "fit"}}})
    stage.invoke()
    kinds = {type(packet.ship).__name__ for packet in stage.wire.flying}
    stage.wire.run()
    del stage.wire.nodes[stage.peers[0]]
    other = Stage(compiled(Joined()), clients=1)
    other.run(x=np.array([1.0]))
    kinds |= {type(step).__name__ for _, step in stage.wire.steps + other.wire.steps}
    slow = Stage(compiled(Fits(), model=SlowModel))
    slow.invoke()
    kinds |= {type(step).__name__ for step in slow.wire.works}
    slow.wire.run()
    kinds |= {type(step).__name__ for _, step in slow.wire.steps}
    full = Stage(compiled(Round(2)), clients=2, options=Options(max_frames=2))
    full.invoke()
    full.wire.deliver()
    full.wire.deliver()
    answer, _ = full.wire.flying
    data = memoryview(answer.ship.envelope.head)
    lease = full.server.offer(data[:PRELUDE_SIZE], data[PRELUDE_SIZE:], answer.source)
    full.wire.deliver(1)  # there is no room for a third frame
    full.server.abandon(lease)
    kinds |= {type(step).__name__ for step in full.server.poll()}
    declared = {name for name in steps.__all__ if name not in ("FrameId", "Step")}
    assert kinds == declared
