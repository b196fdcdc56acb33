"""Mistakes of earlier systems of this kind; each has a test that would fail on it.

Which one stands in `TESTS`. Each was tried: with the mistake made on purpose, its test fails.
"""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bb_dsl as bb
import bb_runtime
from bb_ir.ids import PeerId
from bb_ir.types import tensor
from bb_ir.values import Encoded
from bb_ir.wire import (
    DEFAULT_LIMITS,
    PRELUDE_SIZE,
    EnvelopeHead,
    Prelude,
    build_envelope,
    pack_prelude,
    read_header,
    read_prelude,
)
from bb_runtime import Lease, Options, Refuse, errors, install, load_artifact, steps
from bb_runtime.leftovers import leftovers
from bb_testing.programs import CountingModel, Packet, Stage, Wire

SECOND = 10**9
ROOT = Path(__file__).parents[2]

HERE = "tests/federation/test_traps.py"
NODE = "packages/bb-runtime/tests"
#: The mistakes, and the tests that would fail on them, as file and name.
TESTS = {
    "destinations named by ids that only the receiver knows": [
        (HERE, "test_edges_have_names_that_every_node_of_the_artifact_knows"),
        (HERE, "test_an_edge_is_found_on_a_node_that_read_the_artifact_elsewhere"),
    ],
    "values of one message started in separate runs, so joins never fire": [
        (HERE, "test_one_envelope_opens_one_frame_and_its_values_meet"),
    ],
    "ops without inputs never start": [
        (HERE, "test_ops_without_inputs_start_with_their_frame"),
    ],
    "calls and bootstraps run ops before their inputs exist, or twice": [
        (HERE, "test_ops_of_calls_and_bootstraps_run_once_and_after_their_inputs"),
        (HERE, "test_ops_of_frames_that_wait_run_once"),
    ],
    "value names looked up across graphs": [
        (HERE, "test_values_belong_to_a_frame_and_a_position_not_to_a_name"),
        (HERE, "test_frames_of_one_region_that_live_at_once_keep_their_values_apart"),
    ],
    "the peers list shipped as payload": [
        (HERE, "test_the_list_of_peers_is_not_payload"),
    ],
    "content-hash dedup that drops equal but distinct messages": [
        (HERE, "test_equal_messages_with_different_ids_are_two_messages"),
    ],
    "relative and absolute deadlines mixed": [
        (HERE, "test_deadlines_on_the_wire_are_relative"),
        (HERE, "test_what_is_left_of_a_deadline_counts_from_when_it_came"),
    ],
    "one component per role": [
        (HERE, "test_bindings_are_per_slot"),
    ],
    "two sub-modules, or two calls of one, colliding in names": [
        (HERE, "test_two_calls_and_two_sub_modules_do_not_collide_in_names"),
    ],
    "optimizer-like state lost, snapshot that cannot be resumed": [
        ("tests/federation/test_stopping.py", "test_training_goes_on_as_if_it_had_never_stopped"),
        (f"{NODE}/test_snapshot_anywhere.py",
         "test_any_program_goes_on_as_if_it_had_never_stopped"),
    ],
    "caps checked after parsing": [
        (HERE, "test_caps_are_checked_before_anything_is_parsed_or_allocated"),
    ],
    "wakeups lost between drain and wait": [
        (f"{NODE}/test_inbox.py", "test_what_came_in_before_arming_wakes_at_once"),
        (f"{NODE}/test_inbox.py", "test_what_wakes_is_there_when_the_callback_looks"),
        (f"{NODE}/test_inbox.py", "test_no_wakeup_is_lost_between_the_last_drain_and_the_sleep"),
    ],
    "failed or late frames that leak": [
        (HERE, "test_failed_and_late_frames_leave_nothing_behind"),
        ("tests/federation/test_soak.py", "test_three_hundred_rounds_leave_nothing_behind"),
    ],
    "declared but never raised errors, never emitted steps": [
        (HERE, "test_every_declared_error_is_raised_somewhere"),
        (HERE, "test_every_kind_of_step_is_emitted"),
        ("tests/errors/test_every_error.py", "test_every_error_class_has_one_program"),
        ("tests/federation/test_reasons.py", "test_every_reason_is_provoked"),
    ],
    "unstable type identity (language type names, hash seeds)": [
        ("tests/federation/test_determinism.py", "test_nothing_depends_on_the_seed_of_hashes"),
        ("tests/test_third_party_type.py",
         "test_the_classes_may_be_renamed_because_their_names_do_not_travel"),
    ],
    "demos whose components do nothing": [
        (HERE, "test_every_example_has_a_test_of_its_result"),
        ("tests/test_demo.py", "test_federation_reaches_what_is_promised"),
    ],
}  # fmt: skip


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


class Waits(bb.Module):
    """Sends a tensor to one client, which sleeps before it looks at it."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    backend = bb.slots.Backend()

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", tensor("float64", (None,)))
        got = g.net_out("send", self.peers.sample(g, 1), x, deadline="10s")
        slept = g.sleep("2s", got)
        g.output("sum", got + slept)


class Answers(bb.Module):
    """Asks clients for a tensor each, and sleeps over every answer."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    backend = bb.slots.Backend()

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", tensor("float64", (None,)))
        got = g.net_out("ask", self.peers.sample(g, 2), x)
        told = g.net_out("tell", g.sender(got), self.model.forward(g, got))
        g.output("sum", told + g.sleep("2s", told))


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


def test_frames_of_one_region_that_live_at_once_keep_their_values_apart(compiled):
    each = {number: {"model": {"value": number + 1.0}} for number in range(2)}
    stage = Stage(compiled(Answers()), clients=2, each=each)
    stage.run(x=np.array([10.0]))
    assert stage.server.live_frames == 1 + 2
    stage.wire.advance(2 * SECOND)
    assert [v.tolist() for v in stage.wire.outputs("sum")] == [[22.0], [24.0]]


def test_ops_of_frames_that_wait_run_once(compiled):
    stage = Stage(compiled(Round(1)), clients=1)
    stage.run()
    server = {slot: stage.server.component(slot) for slot in ("peers", "model", "aggregator")}
    client = {slot: stage.clients[0].component(slot) for slot in ("model", "data")}
    assert server["peers"].methods == ["sample"]
    assert server["model"].methods == ["params"]
    assert server["aggregator"].methods == ["contribute", "aggregate", "abandon"]
    assert client["model"].methods == ["load_params", "fit", "params"]
    assert client["data"].methods == ["batches"]


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
    frame = stage.invoke()
    for packet in stage.wire.flying:
        assert head_of(packet.ship.envelope.head).remaining_ns == 60 * SECOND
    stage.wire.run()
    assert stage.end_of(frame).how == "done"


def head_of(data: bytes) -> EnvelopeHead:
    """Return what a prelude and the header after it say."""
    prelude = read_prelude(data, DEFAULT_LIMITS)
    return read_header(prelude, data[PRELUDE_SIZE:], DEFAULT_LIMITS)


@pytest.mark.parametrize("now", [5, 10**18])
def test_what_is_left_of_a_deadline_counts_from_when_it_came(compiled, now):
    stage = Stage(compiled(Waits()), clients=1)
    [client] = stage.clients
    client.advance(now)
    stage.invoke(x=np.array([1.0]))
    [packet] = stage.wire.flying
    head = head_of(packet.ship.envelope.head)
    assert head.remaining_ns == 10 * SECOND
    ports = [Encoded(fill.inline, fill.codec, fill.shape) for fill in head.fills]
    late = build_envelope(
        head.program, head.edge, head.incarnation, head.message_id, remaining_ns=SECOND,
        fills=ports,
    )  # fmt: skip
    assert client.receive_bytes(late.to_bytes(), stage.server.peer) is None
    client.poll()
    client.advance(now + SECOND - 1)
    assert client.live_frames == 1
    client.advance(now + SECOND)
    [end] = [step for step in client.poll() if isinstance(step, steps.FrameEnded)]
    assert end.how == "expired"


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
    large = {"size": 2_000}  # its parameters are payload, and charged to who sends them
    each = {0: {"model": {**large, "fail_in": "fit"}}}
    stage = Stage(compiled(Round()), config={"model": large}, each=each)
    for turn in range(9):
        stage.invoke()
        if turn % 3 == 1:
            stage.wire.flying.clear()
        if turn % 3 == 2:
            broken_off(stage, stage.wire.lose())
            damaged(stage, stage.wire.lose())
        stage.wire.run()
        stage.wire.advance(61 * SECOND)
    assert [leftovers(node) for node in stage.wire.nodes.values()] == [{}] * 4


def broken_off(stage: Stage, packet: Packet) -> None:
    """Offer an envelope whose payload never comes."""
    [receiver] = [node for node in stage.clients if node.peer == packet.ship.to]
    head = packet.ship.envelope.head
    lease = receiver.offer(head[:PRELUDE_SIZE], head[PRELUDE_SIZE:], packet.source)
    assert isinstance(lease, Lease)
    assert len(lease.buffer) > 10_000
    receiver.abandon(lease)


def damaged(stage: Stage, packet: Packet) -> None:
    """Hand in an envelope whose payload is no value of its port."""
    [receiver] = [node for node in stage.clients if node.peer == packet.ship.to]
    built = packet.ship.envelope
    receiver.receive_bytes(built.head + bytes(built.payload_length), packet.source)
    assert receiver.counters["bad_value"]


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
    hung = Stage(compiled(Fits(), model=SlowModel))
    hung.invoke()
    hung.wire.advance(2 * 3600 * 10**9)
    hung.server.close()
    hung.wire.poll()
    kinds |= {type(step).__name__ for _, step in hung.wire.steps}
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


def test_every_example_has_a_test_of_its_result():
    tested = (ROOT / "tests/test_examples.py").read_text(encoding="utf-8")
    examples = [path.stem for path in (ROOT / "docs/examples").glob("*.py")]
    assert len(examples) > 10
    assert [name for name in examples if not re.search(rf'"{name}(\.py)?"', tested)] == []


@pytest.mark.parametrize("mistake", TESTS)
def test_every_mistake_has_a_test(mistake):
    for file, name in TESTS[mistake]:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in names, f"{file} has no test of: {mistake}"
