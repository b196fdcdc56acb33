"""What type checkers know of a recorded program. Nothing here runs: mypy and pyright read it."""

from __future__ import annotations

from typing import Any, assert_type

from onnx import ModelProto

from bb_compiler import Compiler
from bb_compiler.compiler import Compiler as SameCompiler
from bb_dsl import Gathered, Graph, Module, Output, slots
from bb_dsl._blocks import Turn
from bb_dsl.slots import (
    AggregatorHandle,
    BackendHandle,
    CodecHandle,
    DataSourceHandle,
    IndexHandle,
    ModelHandle,
    PeerSelectorHandle,
    ProtocolHandle,
    Slot,
    SlotHandle,
)
from bb_ir.types import Type, tensor


class Program(Module):
    """One slot of each kind."""

    peer_class = "server"
    aggregator = slots.Aggregator()
    backend = slots.Backend()
    codec = slots.Codec()
    data = slots.DataSource()
    index = slots.Index()
    model = slots.Model()
    peers = slots.PeerSelector(of="client")
    protocol = slots.Protocol()

    def __init__(self, epochs: int, **handed_in: SlotHandle) -> None:
        super().__init__(**handed_in)
        self.epochs = epochs

    def body(self, g: Graph) -> None:
        """Record a bit of everything."""
        self.handles()
        self.values(g)
        self.blocks(g)
        self.network(g)

    def handles(self) -> None:
        """Slots are handles on an instance, and slots on the class."""
        assert_type(self.aggregator, AggregatorHandle)
        assert_type(self.backend, BackendHandle)
        assert_type(self.codec, CodecHandle)
        assert_type(self.data, DataSourceHandle)
        assert_type(self.index, IndexHandle)
        assert_type(self.model, ModelHandle)
        assert_type(self.peers, PeerSelectorHandle)
        assert_type(self.protocol, ProtocolHandle)
        assert_type(Program.model, Slot[ModelHandle])
        assert_type(self.slots_of("model"), list[SlotHandle])

    def values(self, g: Graph) -> None:
        """Every op gives an Output, or as many as it has results."""
        x = g.input("x", tensor("float32", (None, 64)))
        assert_type(x, Output)
        assert_type(x.type, Type)
        assert_type(g.input("y", "params"), Output)
        assert_type(g.peers("whom", of="client"), Output)
        assert_type(g.constant(3.0), Output)
        assert_type(g.record(loss=x), Output)
        assert_type(x["loss"], Output)
        assert_type(1 + x * 2 - x @ x / 3, Output)
        assert_type(-(x**2), Output)
        assert_type(self.model.forward(g, x), Output)
        assert_type(self.model.params(g, after=[x, x]), Output)
        assert_type(self.model.fit(g, self.data.batches(g, epochs=self.epochs)), Output)
        assert_type(self.data.next_batch(g), tuple[Output, Output])
        assert_type(self.index.search(g, x, 3), tuple[Output, Output])
        assert_type(self.aggregator.aggregate(g, after=x), tuple[Output, Output])
        assert_type(self.backend.relu(g, x), Output)
        assert_type(self.backend.op(g, "TopK", x, x, outputs=2), Any)
        assert_type(g.output("z", x), None)

    def blocks(self, g: Graph) -> None:
        """A block gives the number of the turn, the item, the event, or nothing."""
        x, n = g.input("a"), g.input("n", "int64")
        with g.rounds(n, width=2, on_fail="continue") as number:
            assert_type(number, Turn)
            number.until(number >= n)
        with g.loop(3, deadline="5m") as turn:
            assert_type(turn, Turn)
            assert_type(turn + 1, Output)
        with g.every("5s", jitter="1s", overlap="parallel") as tick:
            assert_type(tick, Turn)
        with g.on("news", "int64", overlap="skip") as event:
            assert_type(event, Output)
            assert_type(g.publish("more", event), Output)
        with g.when((n % 2).equals(0) & ~(n > 3)) as nothing:
            assert_type(nothing, None)
        with g.each(self.data.batches(g)) as (inputs, labels):
            assert_type(inputs, Any)
            assert_type(labels, Any)
        assert_type(g.last(turn, x), Output)

    def network(self, g: Graph) -> None:
        """`net_out` gives as many values as it sends, and a trigger for none."""
        cohort = self.peers.sample(g, 8)
        assert_type(cohort, Output)
        assert_type(g.net_out("none", cohort), Output)
        received = g.net_out("one", cohort, self.model.params(g))
        assert_type(received, Output)
        assert_type(g.net_out("two", cohort, received, received), tuple[Output, Output])
        three = g.net_out("three", cohort, received, received, received, deadline="30s")
        assert_type(three, tuple[Output, Output, Output])
        assert_type(g.sender(received), Output)
        reply = g.net_out("reply", g.sender(received), received, received)
        folded = self.aggregator.contribute(g, *reply)
        done = g.gather(folded, quorum=0.8, deadline="30s", wait="all", values=True)
        assert_type(done, Gathered)
        assert_type(done.count, Output)
        assert_type(done.missing, Output)
        assert_type(done.senders, Output)
        assert_type(done.values, Output)
        with g.at(received), g.at("client"):
            assert_type(self.model.params(g), Output)


class Whole(Module):
    """A Module with a part."""

    model = slots.Model()

    def __init__(self) -> None:
        super().__init__()
        self.part = Program(3, model=self.model)

    def body(self, g: Graph) -> None:
        """Call the part."""
        results = self.part(g, x=g.input("x"))
        assert_type(results, dict[str, Output])
        assert_type(results["z"], Output)


def compile_it() -> None:
    """A compiler is built by chained calls."""
    recorded = Whole().build()
    assert_type(recorded, ModelProto)
    compiler = Compiler().bind_model("model", "mlp").bind("data", "digits", role="data_source")
    assert_type(compiler, SameCompiler)
    assert_type(compiler.without_stage("solve_types").stages, tuple[str, ...])
    assert_type(compiler.compile(recorded), ModelProto)


def mistakes(g: Graph, module: Program, x: Output) -> None:
    """What a checker finds before anything is recorded."""
    for _ in x:  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues, reportAttributeAccessIssue, reportUnknownVariableType]
        pass
    module.model.load_params(g, 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    module.model = 3  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    g.gather(x, wait="al")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    g.net_out(x, "sent")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    for _ in g.loop(3):  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues, reportAttributeAccessIssue, reportUnknownVariableType]
        pass
    g.rounds(3, on_fail="go")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with g.on("news") as event:
        event.until(x)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    module.aggregator.aggregate(g)[2]  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
