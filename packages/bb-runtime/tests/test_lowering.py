"""A region becomes straight pieces of Python: what runs, in which order, and what is kept."""

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bb_dsl as bb
from bb_ir.ids import PeerId
from bb_ir.types import tensor
from bb_runtime import FrameId, install
from bb_runtime._failures import failed_op
from bb_runtime._lower import lowered
from bb_testing.programs import CountingModel, ListSource, Stage, Wire


class Maths(bb.Module):
    """One input, some tensor ops."""

    peer_class = "server"
    backend = bb.slots.Backend()
    model = bb.slots.Model()

    def __init__(self, record: Any) -> None:
        super().__init__()
        self.record = record

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", tensor("float64", (None,)))
        self.record(self, g, x)


def result_of(compiled, record, x=(1.0, 2.0), **parts) -> tuple[Any, Stage]:
    stage = Stage(compiled(Maths(record), **parts), clients=0)
    stage.run(x=np.array(x))
    assert stage.wire.failures() == []
    return stage.wire.outputs("y")[0], stage


# What runs


def test_ops_run_in_the_order_of_recording(compiled):
    def record(m, g, x):
        g.output("y", -(x + x) * x - x)

    _, stage = result_of(compiled, record)
    assert stage.server.component("backend").runs == ["Add", "Neg", "Mul", "Sub"]


def test_every_op_of_a_diamond_runs_once(compiled):
    def record(m, g, x):
        top = x + x
        g.output("y", top * x - top)

    y, stage = result_of(compiled, record)
    assert y.tolist() == [0.0, 4.0]
    assert sorted(stage.server.component("backend").runs) == ["Add", "Mul", "Sub"]


def test_an_input_read_twice_by_one_op_is_given_twice(compiled):
    y, _ = result_of(compiled, lambda _, g, x: g.output("y", x * x))
    assert y.tolist() == [1.0, 4.0]


def test_all_outputs_of_an_op_are_given(compiled):
    def record(m, g, x):
        low, high = m.backend.op(g, "Split", x, outputs=2, num_outputs=2)
        g.output("y", high - low)

    y, _ = result_of(compiled, record)
    assert y.tolist() == [1.0]


def test_outputs_that_nobody_reads_are_dropped(compiled):
    def record(m, g, x):
        _, high = m.backend.op(g, "Split", x, outputs=2, num_outputs=2)
        _ = x + x
        g.output("y", high)

    y, stage = result_of(compiled, record)
    assert y.tolist() == [2.0]
    assert stage.server.component("backend").runs == ["Split", "Add"]


def test_an_optional_input_that_is_left_out_is_none(compiled):
    def record(m, g, x):
        high = g.constant(1.5, "float64")
        g.output("y", m.backend.op(g, "Clip", x, None, high))

    y, _ = result_of(compiled, record)
    assert y.tolist() == [1.0, 1.5]


def test_the_gather_of_onnx_is_not_the_gather_of_the_engine(compiled):
    def record(m, g, x):
        g.output("y", m.backend.op(g, "Gather", x, g.constant([1, 0, 1], "int64"), axis=0))

    y, _ = result_of(compiled, record)
    assert y.tolist() == [2.0, 1.0, 2.0]


def test_an_input_that_nobody_reads_is_taken_all_the_same(compiled):
    y, _ = result_of(compiled, lambda _, g, __: g.output("y", g.constant([7.0], "float64")))
    assert y.tolist() == [7.0]


def test_ops_of_one_slot_run_in_the_order_of_recording(compiled):
    def record(m, g, x):
        m.model.forward(g, x)
        m.model.backward(g, x)
        g.output("y", m.model.forward(g, x))
        m.model.params(g)

    y, stage = result_of(compiled, record)
    assert stage.server.component("model").methods == ["forward", "backward", "forward", "params"]
    assert y.tolist() == [-2.0, -1.0]


def test_after_makes_an_op_wait_for_a_value_it_does_not_read(compiled):
    class Ordered(bb.Module):
        peer_class = "server"
        first = bb.slots.Model()
        second = bb.slots.Model()

        def body(self, g: bb.Graph) -> None:
            x = g.input("x", tensor("float64", (None,)))
            done = self.second.backward(g, x)
            loaded = self.first.load_params(g, self.second.params(g), after=done)
            g.output("y", self.first.params(g, after=loaded))

    stage = Stage(compiled(Ordered()), clients=0)
    stage.run(x=np.array([1.0]))
    assert stage.wire.outputs("y")[0]["w"].tolist() == [-1.0, -1.0, -1.0]


class Twice(bb.Module):
    """Adds its input to itself."""

    backend = bb.slots.Backend()

    def body(self, g: bb.Graph) -> None:
        g.output("out", g.input("x", tensor("float64", (None,))) * 2.0)


def test_a_sub_module_that_is_called_twice_runs_twice(compiled):
    class Caller(bb.Module):
        peer_class = "server"

        def __init__(self) -> None:
            super().__init__()
            self.part = Twice()

        def body(self, g: bb.Graph) -> None:
            x = g.input("x", tensor("float64", (None,)))
            once = self.part(g, x=x)["out"]
            g.output("y", self.part(g, x=once)["out"])

    stage = Stage(compiled(Caller()), clients=0)
    stage.run(x=np.array([1.0, 3.0]))
    assert stage.wire.outputs("y")[0].tolist() == [4.0, 12.0]
    assert stage.server.component("part.backend").runs.count("Mul") == 2


# What is kept


class WatchedModel(CountingModel):
    """Writes down which of its results are still alive when its parameters are asked for."""

    def __init__(self, config, env) -> None:
        super().__init__(config, env)
        self.results: list[Any] = []
        self.alive: list[list[bool]] = []

    def forward(self, ctx, x):
        out = super().forward(ctx, x)
        self.results.append(weakref.ref(out))
        return out

    def params(self, ctx):
        self.alive.append([ref() is not None for ref in self.results])
        return super().params(ctx)


def test_a_value_is_dropped_after_its_last_reader(compiled):
    def record(m, g, x):
        first = m.model.forward(g, x)
        m.model.params(g)
        second = m.model.forward(g, first)
        m.model.params(g)
        g.output("y", m.model.forward(g, second))
        m.model.params(g)

    _, stage = result_of(compiled, record, model=WatchedModel)
    alive = stage.server.component("model").alive
    assert alive[0] == [True]
    assert alive[1] == [False, True]
    assert alive[2][:2] == [False, False]


def test_a_value_that_nobody_reads_is_dropped_at_once(compiled):
    def record(m, g, x):
        m.model.forward(g, x)
        m.model.params(g)
        g.output("y", x)

    _, stage = result_of(compiled, record, model=WatchedModel)
    assert stage.server.component("model").alive == [[False]]


class KeepsAcross(bb.Module):
    """Reads a value before and after a gather."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    other = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", tensor("float64", (None,)))
        kept = self.model.forward(g, x)
        self.other.backward(g, kept)
        asked = g.net_out("ask", self.peers.sample(g, 1))
        told = g.net_out("tell", g.sender(asked))
        done = g.gather(told)
        used = self.other.forward(g, kept)
        last = self.model.params(g, after=[used, done.count])
        g.output("w", last)


def test_a_value_read_by_several_pieces_is_dropped_after_the_last_of_them(compiled):
    artifact = compiled(KeepsAcross(), model=WatchedModel)
    stage = Stage(artifact, clients=1)
    stage.run(x=np.array([1.0]))
    assert stage.server.component("model").alive == [[False]]


def test_a_received_value_does_not_live_on_because_its_sender_is_asked_for(compiled):
    class Forwards(bb.Module):
        peer_class = "server"
        peers = bb.slots.PeerSelector(of="client")
        model = bb.slots.Model()

        def body(self, g: bb.Graph) -> None:
            got = g.net_out("weights", self.peers.sample(g, 1), self.model.params(g))
            self.model.load_params(g, got)
            g.net_out("tell", g.sender(got))

    artifact = compiled(Forwards())
    program = lowered(artifact, artifact.target("Forwards.client")).regions["weights"]
    lines = [op.name for op in program.stretches[0].ops]
    assert lines.index("LoadParams") < lines.index("Sender")
    assert program.ports == (0,)


# What is reported


class Faulty(bb.Module):
    """Three ops of which any may fail."""

    peer_class = "server"
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g: bb.Graph) -> None:
        batch, _ = self.data.next_batch(g)
        self.model.forward(g, batch)
        self.model.fit(g, self.data.batches(g))


@pytest.mark.parametrize(
    ("slot", "method", "op"),
    [
        ("data", "next_batch", "NextBatch"),
        ("model", "forward", "Forward"),
        ("data", "batches", "Batches"),
        ("model", "fit", "Fit"),
    ],
)
def test_a_failure_names_the_op_and_the_users_line(compiled, slot, method, op):
    stage = Stage(compiled(Faulty()), clients=0, config={slot: {"fail_in": method}})
    frame = stage.run()
    [failure] = stage.wire.failures()
    line = Path(__file__).read_text(encoding="utf-8").splitlines()[failure.source.line - 1]
    assert (failure.op, failure.slot, failure.target) == (op, slot, "Faulty")
    assert failure.source.file.endswith("test_lowering.py")
    assert f"self.{slot}.{method}(g" in line
    assert failure.frame == frame
    assert failure.peer == stage.server.peer
    assert "programs:" in failure.component
    assert str(failure.error) == f"{method} was told to fail"


KEPT = ValueError("always the same object")


class RaisesKept(CountingModel):
    """Raises one exception object again and again, from different ops."""

    def forward(self, ctx, x):
        raise KEPT

    def fit(self, ctx, batches):
        try:
            self.forward(ctx, None)
        except ValueError as error:
            raise error from RuntimeError("because")


def test_an_exception_object_that_is_raised_again_is_put_to_the_right_op(compiled):
    class Two(bb.Module):
        peer_class = "server"
        model = bb.slots.Model()
        data = bb.slots.DataSource()

        def body(self, g: bb.Graph) -> None:
            batches = self.data.batches(g)
            self.model.params(g)
            self.model.fit(g, batches)

    stage = Stage(compiled(Two(), model=RaisesKept), clients=0)
    stage.run()
    stage.run()
    assert [failure.op for failure in stage.wire.failures()] == ["Fit", "Fit"]


def test_the_error_of_a_failed_op_refers_to_no_frames(compiled):
    stage = Stage(compiled(Faulty(), model=RaisesKept), clients=0)
    stage.run()
    [failure] = stage.wire.failures()
    assert failure.error.__traceback__ is None


def test_an_error_without_a_line_is_put_to_the_first_op(compiled):
    artifact = compiled(Faulty())
    program = lowered(artifact, artifact.target("Faulty")).regions["main"]
    assert failed_op(program.stretches[0], ValueError()).name == "NextBatch"


def test_a_component_that_returns_too_few_results_fails_its_own_op(compiled):
    class Short(bb.Module):
        peer_class = "server"
        data = bb.slots.DataSource()

        def body(self, g: bb.Graph) -> None:
            x, y = self.data.next_batch(g)
            g.output("x", x)
            g.output("y", y)

    stage = Stage(compiled(Short(), data=OneResult), clients=0)
    stage.run()
    assert [failure.op for failure in stage.wire.failures()] == ["NextBatch"]


class OneResult(ListSource):
    """Returns one result where two are declared."""

    def next_batch(self, ctx):
        return (super().next_batch(ctx)[0],)


# Pieces and gathers


class TwoFanOuts(bb.Module):
    """Two questions at once; what waits for both is recorded before what waits for one."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    both = bb.slots.Model()
    one = bb.slots.Model()
    backend = bb.slots.Backend()

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", tensor("float64", (None,)))
        cohort = self.peers.sample(g, 1)
        first = g.gather(g.net_out("tell_a", g.sender(g.net_out("ask_a", cohort))))
        second = g.gather(g.net_out("tell_b", g.sender(g.net_out("ask_b", cohort))))
        start = self.both.params(g, after=[first.count, second.count])
        loaded = self.one.load_params(g, start, after=first.count)
        with g.at(first.count):
            of_one = self.one.forward(g, x, after=first.count)
        g.output("y", of_one + x)
        g.output("done", self.one.params(g, after=[loaded, second.count]))


@pytest.mark.parametrize("order", [("tell_a", "tell_b"), ("tell_b", "tell_a")])
def test_pieces_run_whichever_gather_fires_first(compiled, order):
    stage = Stage(compiled(TwoFanOuts()), clients=1)
    frame = stage.invoke(x=np.array([1.0]))
    stage.wire.deliver()
    stage.wire.deliver()
    if order == ("tell_b", "tell_a"):
        stage.wire.flying.reverse()
    stage.wire.run()
    assert stage.wire.failures() == []
    assert stage.end_of(frame).how == "done"
    assert stage.wire.outputs("y")[0].tolist() == [2.0]


def test_gathers_that_fire_together_start_each_piece_once(compiled):
    stage = Stage(compiled(TwoFanOuts()), clients=1)
    frame = stage.invoke(x=np.array([1.0]))
    stage.wire.deliver()
    stage.wire.deliver()
    for packet in reversed(stage.wire.flying):
        stage.server.receive_bytes(packet.ship.envelope.to_bytes(), packet.source)
    stage.wire.flying.clear()
    stage.wire.poll()
    assert stage.end_of(frame).how == "done"
    assert stage.server.component("both").methods == ["params"]


class ReadsLater(bb.Module):
    """What waits for both gathers begins before, and then reads, what waits for one."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    other = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        cohort = self.peers.sample(g, 1)
        first = g.gather(g.net_out("tell_a", g.sender(g.net_out("ask_a", cohort))))
        second = g.gather(g.net_out("tell_b", g.sender(g.net_out("ask_b", cohort))))
        early = self.model.params(g, after=[first.count, second.count])
        of_one = self.other.params(g, after=first.count)
        self.model.load_params(g, of_one, after=early)
        g.output("w", self.model.params(g))


def test_a_piece_that_reads_another_runs_after_it_when_both_become_ready_at_once(compiled):
    stage = Stage(compiled(ReadsLater()), clients=1, config={"other": {"value": 5.0}})
    frame = stage.invoke()
    stage.wire.deliver()
    stage.wire.deliver()
    for packet in reversed(stage.wire.flying):
        stage.server.receive_bytes(packet.ship.envelope.to_bytes(), packet.source)
    stage.wire.flying.clear()
    stage.wire.poll()
    assert stage.wire.failures() == []
    assert stage.end_of(frame).how == "done"
    assert stage.wire.outputs("w")[0]["w"].tolist() == [5.0, 5.0, 5.0]


class Closure(bb.Module):
    """Each reply is added to a value of the round."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    backend = bb.slots.Backend()
    data = bb.slots.DataSource()

    def body(self, g: bb.Graph) -> None:
        base = g.input("base", tensor("float64", (None, 1)))
        asked = g.net_out("ask", self.peers.sample(g, 2))
        with g.at(asked):
            mine, _ = self.data.next_batch(g)
        got = g.net_out("tell", g.sender(asked), mine)
        done = g.gather(got + base, values=True)
        g.output("all", done.values)


def test_a_child_frame_reads_values_of_its_parent(compiled):
    each = {0: {"data": {"value": 1.0, "size": 1}}, 1: {"data": {"value": 2.0, "size": 1}}}
    stage = Stage(compiled(Closure()), clients=2, each=each)
    stage.run(base=np.array([[10.0]]))
    [values] = stage.wire.outputs("all")
    assert [value.tolist() for value in values] == [[[11.0]], [[12.0]]]


class LateChild(bb.Module):
    """The replies of a second question need the result of the first one's gather."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    other = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        cohort = self.peers.sample(g, 2)
        first = g.gather(g.net_out("tell_a", g.sender(g.net_out("ask_a", cohort))))
        with g.at(first.count):
            p = self.model.params(g, after=first.count)
        told = g.net_out("tell_b", g.sender(g.net_out("ask_b", cohort, p)))
        read = self.other.params(g, after=[told, first.count])
        done = g.gather(read)
        g.output("count", done.count)


def test_a_child_that_opens_after_a_gather_it_needs_runs(compiled):
    stage = Stage(compiled(LateChild()), clients=2)
    frame = stage.run()
    assert stage.wire.outputs("count") == [2]
    assert stage.end_of(frame).how == "done"


class Tree(bb.Module):
    """A fan-out inside a fan-out: server, regions, leaves."""

    peer_class = "server"
    regions = bb.slots.PeerSelector(of="region")
    leaves = bb.slots.PeerSelector(of="leaf")
    aggregator = bb.slots.Aggregator()
    inner = bb.slots.Aggregator()
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("down", self.regions.sample(g, 2), self.model.params(g))
        with g.at(got):
            under = self.leaves.sample(g, 2)
        at_leaf = g.net_out("deeper", under, got)
        self.model.load_params(g, at_leaf)
        metrics = self.model.fit(g, self.data.batches(g))
        up = g.net_out("up", g.sender(at_leaf), self.model.params(g), metrics)
        folded = g.gather(self.inner.contribute(g, *up), wait="all")
        part, summary = self.inner.aggregate(g, after=folded)
        back = g.net_out("back", g.sender(got), part, summary)
        done = g.gather(self.aggregator.contribute(g, *back), wait="all")
        whole, _ = self.aggregator.aggregate(g, after=done)
        g.output("w", whole)


def test_a_fan_out_runs_inside_a_fan_out(compiled):
    artifact = compiled(Tree())
    ids = [PeerId.from_seed(b"tree", n) for n in range(7)]
    server = install(ids[0], [], artifact, ["Tree"], {"regions": {"peers": ids[1:3]}})
    regions = [
        install(ids[1 + n], [], artifact, ["Tree.region"], {"leaves": {"peers": ids[a:b]}})
        for n, (a, b) in enumerate([(3, 5), (5, 7)])
    ]
    data = [{"data": {"value": float(n + 1), "size": 1}} for n in range(4)]
    leaves = [install(ids[3 + n], [], artifact, ["Tree.leaf"], data[n]) for n in range(4)]
    wire = Wire(server, *regions, *leaves)
    frame = server.invoke("Tree")
    wire.run()
    assert wire.failures() == []
    assert wire.outputs("w")[0]["w"].tolist() == [2.5, 2.5, 2.5]
    assert [end.how for end in wire.ended(server.peer) if end.frame == frame] == ["done"]
    assert all(node.live_frames == 0 for node in wire.nodes.values())


class Relay(bb.Module):
    """The answer to the server is sent from the frame in which a leaf answered."""

    peer_class = "server"
    middle = bb.slots.PeerSelector(of="middle")
    leaves = bb.slots.PeerSelector(of="leaf")
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("down", self.middle.sample(g, 1))
        with g.at(got):
            under = self.leaves.sample(g, 1)
        asked = g.net_out("deeper", under)
        with g.at(asked):
            p = self.model.params(g)
        answer = g.net_out("up", g.sender(asked), p)
        back = g.net_out("back", g.sender(got), answer)
        g.output("values", g.gather(back, values=True).values)


def test_a_return_address_of_a_parent_frame_is_found(compiled):
    artifact = compiled(Relay())
    ids = [PeerId.from_seed(b"relay", n) for n in range(3)]
    server = install(ids[0], [], artifact, ["Relay"], {"middle": {"peers": ids[1:2]}})
    middle = install(ids[1], [], artifact, ["Relay.middle"], {"leaves": {"peers": ids[2:]}})
    leaf = install(ids[2], [], artifact, ["Relay.leaf"], {"model": {"value": 4.0, "size": 1}})
    wire = Wire(server, middle, leaf)
    server.invoke("Relay")
    wire.run()
    assert wire.failures() == []
    assert [p["w"].tolist() for p in wire.outputs("values")[0]] == [[4.0]]
    assert server.counters == {}, "the middle frame answered, so it must not report a failure"


def test_lowering_happens_once_for_all_nodes(compiled):
    artifact = compiled(Closure())
    first = lowered(artifact, artifact.target("Closure"))
    assert lowered(artifact, artifact.target("Closure")) is first


def test_frame_ids_are_never_reused(compiled):
    stage = Stage(compiled(Closure()), clients=2, config={"data": {"size": 1}})
    frames = [stage.run(base=np.array([[1.0]])) for _ in range(3)]
    ids = [end.frame for end in stage.wire.ended(stage.server.peer)]
    assert len(set(ids)) == len(ids)
    assert set(frames) <= set(ids)
    assert all(isinstance(frame, FrameId) for frame in frames)


# Blocks


class Looped(bb.Module):
    """Ops before, in, beside and after a block."""

    peer_class = "server"
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g: bb.Graph) -> None:
        n = g.input("n", "int64")
        self.model.params(g)
        with g.loop(n) as turn:
            metrics = self.model.fit(g, self.data.batches(g))
            with g.when(turn > 1):
                g.output("inside", turn * n)
        self.data.reset(g)
        self.model.params(g)
        g.output("beside", n + 1)
        g.output("last", g.last(metrics))


def stretches_of(artifact: Any, name: str, region: str) -> list[tuple[Any, list[str]]]:
    program = lowered(artifact, artifact.target(name)).regions[region]
    return [(stretch.needs, [op.name for op in stretch.ops]) for stretch in program.stretches]


def test_a_block_cuts_what_waits_for_it_off_and_nothing_else(compiled):
    artifact = compiled(Looped())
    (first, own), (second, waiting) = stretches_of(artifact, "Looped", "main")
    assert first == ()
    assert second == ((0, 0),)
    assert own[:2] == ["Params", "Loop"]
    assert "Output" in own, "what needs nothing of the block does not wait for it"
    assert {"Params", "Reset", "Take", "Output"} == set(waiting)
    ((needs, turn),) = stretches_of(artifact, "Looped", "@loop")
    assert needs == ()
    assert "Arrive" in turn
    assert "Turn" not in turn


def test_ops_on_a_slot_that_turns_use_run_after_the_last_turn(compiled):
    stage = Stage(compiled(Looped()), clients=0)
    stage.run(n=3)
    assert stage.wire.outputs("beside") == [4]
    assert stage.wire.outputs("inside") == [6, 9]
    assert stage.server.component("model").methods == ["params", "fit", "fit", "fit", "params"]
    assert stage.server.component("data").methods == ["batches"] * 3 + ["reset"]


def test_turns_read_the_values_of_all_frames_around_them(compiled):
    class Deep(bb.Module):
        peer_class = "server"
        model = bb.slots.Model()

        def body(self, g: bb.Graph) -> None:
            n = g.input("n", "int64")
            m = n + 1
            self.model.params(g)
            with g.loop(2, name="a") as a, g.loop(2, name="b") as b:
                c = a * 10 + b
                with g.when(b > 1):
                    g.output("sum", n + m + a + b + c)

    stage = Stage(compiled(Deep()), clients=0)
    stage.run(n=100)
    assert stage.wire.outputs("sum") == [201 + 1 + 2 + 12, 201 + 2 + 2 + 22]


def test_ports_of_a_turn_that_nobody_reads_get_no_position(compiled):
    artifact = compiled(Looped())
    programs = lowered(artifact, artifact.target("Looped")).regions
    assert programs["@when"].ports == (-1,)
    assert programs["@when"].size == 0
    assert programs["@loop"].ports == (0,)
