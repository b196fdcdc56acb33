"""What configured components infer from the types of what they are given."""

import json
from dataclasses import dataclass

import pytest

from bb_compiler import Compiler
from bb_compiler.errors import ComponentTypeMisfit, TypeMismatch
from bb_compiler.explain import explain
from bb_compiler.passes import solve_types
from bb_dsl import Module, slots
from bb_ir import keys, onnx_tools
from bb_ir.types import ANY, list_of, params, record, tensor
from bb_roles.contracts import Aggregator, Codec, Component, DataSource, Model, PeerSelector
from bb_roles.errors import InputMisfit

METRICS = "record(examples:int64,loss:float64)"


@dataclass(frozen=True)
class HalvesConfig:
    """What it becomes."""

    dtype: str = "float16"


class Halves(Codec):
    """Turns tensors into those of another element type."""

    Config = HalvesConfig
    answer = None

    @classmethod
    def infer_types(cls, config, op, inputs):
        if isinstance(cls.answer, Exception):
            raise cls.answer
        if cls.answer is not None:
            return cls.answer
        if op == "Encode" and inputs[0].kind == "tensor":
            return {"encoded": tensor(config.dtype, inputs[0].shape)}
        return None


class Narrow(Halves):
    """Declares what it gives, too."""

    types = {"Encode.encoded": "tensor(float32)"}  # noqa: RUF012


class Means(Aggregator):
    """Gives the mean of every metric."""

    @classmethod
    def infer_types(cls, _, op, inputs):
        if op != "Aggregate":
            return None
        held, metrics = inputs
        assert held.kind == "params"
        fields = {name: of for name, of in metrics.items or () if of.kind == "float64"}
        return {"summary": record(fields)} if metrics.items else {}


class AnyModel(Model):
    """Stands in a binding."""


class AnyPeers(PeerSelector):
    """Stands in a binding."""


class Pairs(DataSource):
    """Knows its batches."""

    @classmethod
    def value_types(cls, _):
        x, y = "tensor(float32)[batch,4]", "tensor(int64)[batch]"
        return {"Batches.batches": f"local(batches,inputs:{x},targets:{y})"}


class Encodes(Module):
    codec = slots.Codec()

    def body(self, g):
        x = g.input("x", tensor("float32", ("n", 4)))
        g.output("y", self.codec.encode(g, x))


def compiled(module, **bound):
    compiler = Compiler()
    for slot, (cls, config) in bound.items():
        role = "backend" if isinstance(cls, str) else ""
        compiler.bind(slot, cls, role=role, config=config)
    return compiler.compile(module.build())


def types_of(artifact, op, at=0):
    return [
        str(onnx_tools.types_of(f)[node.output[at]])
        for f in artifact.functions
        for node in f.node
        if node.op_type == op
    ]


def noted(artifact, slot):
    meta = onnx_tools.metadata(artifact)
    found = {k: v for k, v in meta.items() if k.startswith(keys.INFERRED)}
    return [json.loads(text) for key, text in found.items() if key.endswith(f"/{slot}")]


def test_result_has_the_type_that_follows_from_the_input():
    artifact = compiled(Encodes(), codec=(Halves, {"dtype": "int8"}))

    assert types_of(artifact, "Encode") == ["tensor(int8)[n,4]"]
    pair = [["tensor(float32)[n,4]"], {"encoded": "tensor(int8)[n,4]"}]
    assert noted(artifact, "codec") == [{"Encode": [pair]}]


def test_without_a_configuration_nobody_is_asked(monkeypatch):
    monkeypatch.setattr(Halves, "answer", ValueError("not to be asked"))

    artifact = compiled(Encodes(), codec=(Halves, None))

    assert types_of(artifact, "Encode") == ["any"]
    assert noted(artifact, "codec") == []


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (KeyError("dtype"), "raises KeyError for Encode: 'dtype'"),
        (["encoded"], "returns ['encoded'] for Encode"),
        ({"encoded": "tensor"}, "returns {'encoded': 'tensor'} for Encode"),
        ({"value": tensor()}, "for Encode"),
    ],
)
def test_component_whose_inference_is_broken(answer, found, monkeypatch):
    monkeypatch.setattr(Halves, "answer", answer)

    with pytest.raises(ComponentTypeMisfit) as caught:
        compiled(Encodes(), codec=(Halves, {}))

    assert found in caught.value.found
    assert caught.value.fix == "repair the component"
    assert len(caught.value.where) == 1


def test_component_that_infers_another_type_than_it_declares():
    with pytest.raises(ComponentTypeMisfit) as caught:
        compiled(Encodes(), codec=(Narrow, {}))

    assert "gives Encode.encoded as tensor(float16)[n,4]" in caught.value.found
    assert caught.value.expected.startswith("a type within tensor(float32)")


class Round(Module):
    """Asks clients; their answers are folded."""

    peer_class = "server"
    peers = slots.PeerSelector(of="client")
    model = slots.Model()
    aggregator = slots.Aggregator()

    def __init__(self, *metrics):
        super().__init__()
        self.metrics = metrics

    def body(self, g):
        sent = g.net_out("down", self.peers.current_view(g), self.model.params(g))
        first = g.net_out("up", g.sender(sent), sent)
        folded = [
            self.aggregator.contribute(g, first, g.input(f"metrics_{i}", known))
            for i, known in enumerate(self.metrics)
        ]
        done = g.gather(folded[-1], quorum=1, deadline="1s")
        _, summary = self.aggregator.aggregate(g, after=done)
        g.output("summary", summary)


@pytest.mark.parametrize(
    ("metrics", "summary"),
    [
        ([METRICS], "record(loss:float64)"),
        ([METRICS, METRICS], "record(loss:float64)"),
        ([METRICS, "record(examples:int64,accuracy:float64)"], "record"),
        ([METRICS, "record"], "record"),
        (["record"], "record"),
    ],
)
def test_what_a_round_gives_follows_from_what_all_contribute(metrics, summary):
    bound = {"peers": (AnyPeers, None), "model": (AnyModel, None), "aggregator": (Means, {})}

    artifact = compiled(Round(*metrics), **bound)

    assert types_of(artifact, "Aggregate", 1) == [summary]


class EachBatch(Module):
    """Sends every batch."""

    peers = slots.PeerSelector(of="other")
    data = slots.DataSource()

    def body(self, g):
        with g.each(self.data.batches(g)) as (x, y):
            got = g.net_out("batch", self.peers.current_view(g), x, y)
            g.output("x", got[0])


def test_batches_tell_what_they_hold():
    artifact = compiled(EachBatch(), peers=(AnyPeers, None), data=(Pairs, {}))

    (edge,) = explain(artifact).edges
    assert [port.type for port in edge.ports] == [
        "tensor(float32)[batch,4]",
        "tensor(int64)[batch]",
    ]
    assert edge.bytes.formula == "16*batch + 8*batch"
    (known,) = explain(artifact, dims={"batch": 32}).edges
    assert known.bytes.values.exact == 32 * 24


class Picky(Model):
    """Takes inputs of another length."""

    @classmethod
    def infer_types(cls, _config, op, _inputs):
        if op in ("Fit", "Forward"):
            raise InputMisfit("it is too long", expected="3 numbers", fix="cut it")


class FitsFarAway(Module):
    """Trains on what a client cut out of its data."""

    peer_class = "server"
    peers = slots.PeerSelector(of="client")
    data = slots.DataSource()
    model = slots.Model()

    def body(self, g):
        asked = g.net_out("ask", self.peers.current_view(g))
        x, _ = self.data.next_batch(g, after=asked)
        sent = g.net_out("batch", g.sender(asked), x)
        g.output("y", self.model.forward(g, sent))


def test_input_that_a_component_does_not_take_names_both_components():
    with pytest.raises(TypeMismatch) as caught:
        compiled(FitsFarAway(), peers=(AnyPeers, None), data=(Pairs, {}), model=(Picky, {}))

    found = caught.value.found
    assert found.startswith("Forward is given 'batch'")
    assert "it is too long; slot 'model' is " in found
    assert "test_inferences:Picky' with {} and slot 'data' is " in found
    assert found.endswith("test_inferences:Pairs' with {}")
    assert (caught.value.expected, caught.value.fix) == ("3 numbers", "cut it")
    assert len(caught.value.where) == 3


def test_batches_that_tell_nothing_are_tensors():
    artifact = compiled(EachBatch(), peers=(AnyPeers, None), data=(Pairs, None))

    (edge,) = explain(artifact).edges
    assert [port.type for port in edge.ports] == ["tensor", "tensor"]


def test_solving_types_again_changes_nothing():
    """What is noted in a row is noted there only once."""
    steps = []

    def keep(model):
        steps.append(model)
        return model

    Compiler().bind("codec", Halves, config={}).insert_stage(keep, after="solve_types").compile(
        Encodes().build()
    )

    again = solve_types(steps[0])

    assert again.SerializeToString() == steps[0].SerializeToString()


def test_plain_component_infers_nothing():
    held = params({"w": tensor("float32", (8,))})

    assert Component.infer_types(None, "Aggregate", (held, list_of(ANY))) is None


class Mistyped(Module):
    """Hands on what was encoded as if it were whole numbers."""

    codec = slots.Codec()
    backend = slots.Backend()

    def body(self, g):
        x = g.input("x", tensor("float32", (4,)))
        small = self.codec.encode(g, x)
        g.output("y", self.backend.op(g, "Add", small, g.input("z", tensor("int64", (4,)))))


def test_mistake_is_found_behind_a_codec():
    with pytest.raises(TypeMismatch) as caught:
        compiled(Mistyped(), codec=(Halves, {}), backend=("numpy", None))

    assert "tensor(float16)[4]" in caught.value.found
