"""What is known of types when a program is compiled: from configurations, around rounds, and
across the network, with the lines of both ends where they clash."""

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

import pytest

from bb_compiler import Compiler, SeveralErrors
from bb_compiler.errors import ComponentTypeMisfit, TypeMismatch
from bb_dsl import Module, slots
from bb_ir import keys, onnx_tools
from bb_ir.ids import PeerId
from bb_ir.types import tensor
from bb_roles.contracts import (
    Aggregator,
    Backend,
    Codec,
    DataSource,
    Index,
    Model,
    PeerSelector,
)
from bytesandbrains.programs import FederatedAveraging


class Mode(Enum):
    FAST = "fast"
    EXACT = "exact"


@dataclass(frozen=True)
class SizedConfig:
    """How wide, and some fields of other kinds."""

    width: int
    dtype: str = "float32"
    mode: Mode = Mode.FAST
    friends: tuple[PeerId, ...] = ()
    layers: Mapping[str, int] = field(default_factory=dict)


class Sized(Model):
    """Its parameters are as wide as it is told."""

    Config = SizedConfig

    @classmethod
    def value_types(cls, config):
        held = f"params(w:tensor({config.dtype})[{config.width}])"
        return {"Params.params": held, "LoadParams.params": held}


class Unsized(Model):
    """Says nothing of its types."""


class Adapters(Sized):
    """Loads all of a model, and gives a part of it."""

    @classmethod
    def value_types(cls, _):
        return {"Params.params": "params(a:tensor)", "LoadParams.params": "params(w:tensor)"}


class Folds(Aggregator):
    """Stands in a binding."""


class MixesWidths(Aggregator):
    """Folds updates of several widths, and gives the widest."""

    types: ClassVar = {"Contribute.params": "params", "Aggregate.params": "params"}


class AnyData(DataSource):
    """Stands in a binding."""


class AnyPeers(PeerSelector):
    """Stands in a binding."""


class AnyBackend(Backend):
    """Stands in a binding."""


class AnyIndex(Index):
    """Stands in a binding."""


class AnyCodec(Codec):
    """Stands in a binding."""


class Network(Model):
    """Has a type for each batch length."""

    types: ClassVar = {"Forward.x": "tensor[n,64]", "Forward.y": "tensor(float32)[n,10]"}


ANY = {
    "model": Unsized, "data": AnyData, "peers": AnyPeers, "aggregator": Folds,
    "backend": AnyBackend, "index": AnyIndex, "codec": AnyCodec,
}  # fmt: skip


def compile_with(module, *bindings):
    """Compile with stand-ins in all slots, then the bindings given as keywords of `bind`."""
    model = module.build()
    compiler = Compiler()
    for slot in json.loads(onnx_tools.get_meta(model, keys.SLOTS)):
        compiler.bind(slot, ANY[slot])
    for binding in bindings:
        compiler.bind(**binding, replace=True)
    return compiler.compile(model)


def bound(config, cls=Sized, **more):
    return {"slot": "model", "component": cls, "config": config, **more}


def results(artifact, op):
    """Return the types of the first result of all ops of a kind, in the order of the program."""
    return [
        str(onnx_tools.types_of(f)[node.output[0]])
        for f in artifact.functions
        for node in f.node
        if node.op_type == op
    ]


def beside_rows(artifact, key):
    """Return what stands beside the rows of the binding table, by target and slot."""
    meta = onnx_tools.metadata(artifact)
    found = {k.removeprefix(key): v for k, v in meta.items() if k.startswith(key)}
    return {re.sub("#[0-9a-f]+", "", place): json.loads(text) for place, text in found.items()}


def refused(module, *bindings):
    """Return the errors of a program that cannot be compiled."""
    with pytest.raises(TypeMismatch) as caught:
        raise one_of(module, *bindings)
    return caught.value


def one_of(module, *bindings):
    try:
        compile_with(module, *bindings)
    except SeveralErrors as error:
        return error.errors[0]
    except TypeMismatch as error:
        return error
    raise AssertionError("compiled")


def marked(module):
    """Return the lines of a Module marked `# (1)`, `# (2)`, ..., in that order."""
    lines, first = inspect.getsourcelines(type(module))
    found = {}
    for at, line in enumerate(lines):
        for mark in re.findall(r"\((\d)\)", line.partition("# ")[2]):
            found[int(mark)] = first + at
    return [found[n] for n in sorted(found)]


def lines(error):
    return [place.line for place in error.where]


class Round(Module):
    """Federated averaging, one line for each thing that can clash."""

    peer_class = "server"
    peers = slots.PeerSelector(of="client")
    model = slots.Model()
    data = slots.DataSource()
    aggregator = slots.Aggregator()

    def body(self, g):
        mine = self.model.params(g)  # (3)
        received = g.net_out("weights", self.peers.sample(g, 4), mine)  # (2)
        self.model.load_params(g, received)  # (1)
        metrics = self.model.fit(g, self.data.batches(g))
        reply = g.net_out("update", g.sender(received), self.model.params(g), metrics)
        done = g.gather(self.aggregator.contribute(g, *reply), quorum=0.8)
        averaged, _ = self.aggregator.aggregate(g, after=done)
        self.model.load_params(g, averaged)


WIDE = "params(w:tensor(float32)[8])"

# Configurations


def test_configuration_and_its_types_stand_beside_the_rows():
    artifact = compile_with(Round(), bound({"width": 8}))

    places = ["Round.client/model", "Round/model"]
    types = {"LoadParams.params": WIDE, "Params.params": WIDE}
    assert beside_rows(artifact, keys.CONFIG) == {place: {"width": 8} for place in places}
    assert beside_rows(artifact, keys.VALUE_TYPES) == dict.fromkeys(places, types)


def test_configuration_of_a_class_stands_beside_its_row_only():
    artifact = compile_with(Round(), bound({"width": 8}, on="client"))

    assert beside_rows(artifact, keys.CONFIG) == {"Round.client/model": {"width": 8}}


def test_without_a_configuration_nothing_stands_there():
    artifact = compile_with(Round(), {"slot": "model", "component": Sized})

    assert beside_rows(artifact, keys.CONFIG) == {}
    assert beside_rows(artifact, keys.VALUE_TYPES) == {}
    assert results(artifact, "Params") == ["params", "params"]


def test_instance_says_all_fields_as_plain_data():
    friend = PeerId.from_seed(b"types", 0)
    config = SizedConfig(8, mode=Mode.EXACT, friends=(friend,), layers={"b": 1, "a": 2})

    artifact = compile_with(Round(), bound(config))

    assert beside_rows(artifact, keys.CONFIG)["Round/model"] == {
        "width": 8,
        "dtype": "float32",
        "mode": "exact",
        "friends": [str(friend)],
        "layers": {"b": 1, "a": 2},
    }


def test_order_of_fields_does_not_matter_and_that_of_entries_is_kept():
    first = compile_with(Round(), bound({"width": 8, "layers": {"b": 1, "a": 2}}))
    second = compile_with(Round(), bound({"layers": {"b": 1, "a": 2}, "width": 8}))

    assert first.SerializeToString() == second.SerializeToString()
    layers = beside_rows(first, keys.CONFIG)["Round/model"]["layers"]
    assert list(layers) == ["b", "a"]


def test_field_that_is_missing_is_left_for_install_and_types_stay_unknown():
    artifact = compile_with(Round(), bound({"dtype": "float64"}))

    assert beside_rows(artifact, keys.CONFIG)["Round/model"] == {"dtype": "float64"}
    assert beside_rows(artifact, keys.VALUE_TYPES) == {}
    assert results(artifact, "Params") == ["params", "params"]


def test_no_field_at_all_is_a_configuration_too():
    compiler = Compiler().bind_model("model", "mlp", config={})

    artifact = compiler.compile(Gives().build())

    assert beside_rows(artifact, keys.CONFIG) == {"Gives/model": {}}
    assert "layers.0.weight:tensor(float32)[32,64]" in results(artifact, "Params")[0]


class Gives(Module):
    model = slots.Model()

    def body(self, g):
        g.output("params", self.model.params(g))


def test_component_is_imported_only_for_a_configuration():
    text = (
        "import sys; from bb_compiler import Compiler\n"
        "compiler = Compiler().bind_model('model', 'mlp')\n"
        "assert 'bb_model_mlp._mlp' not in sys.modules\n"
        "compiler.bind('model', 'mlp', role='model', config={}, replace=True)\n"
        "assert 'bb_model_mlp._mlp' in sys.modules\n"
    )

    subprocess.run([sys.executable, "-c", text], check=True)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (["params"], "returns ['params']"),
        ({"Params.params": 3}, "returns {'Params.params': 3}"),
        (KeyError("width"), "raises KeyError: 'width'"),
    ],
)
def test_component_whose_value_types_are_broken(answer, found, monkeypatch):
    def value_types(_):
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(Sized, "value_types", value_types)

    with pytest.raises(ComponentTypeMisfit) as caught:
        Compiler().bind_model("model", Sized, config={"width": 8})

    assert found in str(caught.value)
    assert "repair the component" in caught.value.fix


def test_component_that_declares_a_port_that_is_none(monkeypatch):
    monkeypatch.setattr(Sized, "types", {"Params.parms": "params"})

    with pytest.raises(ComponentTypeMisfit) as caught:
        compile_with(Gives(), {"slot": "model", "component": Sized})

    assert "declares a type of 'Params.parms'" in caught.value.found
    assert caught.value.fix == "did you mean 'Params.params'?"


# Around a round


@pytest.mark.parametrize("on", ["", "server", "client"])
def test_types_of_parameters_flow_around_the_round(on):
    known = bound({"width": 8}, on=on)

    artifact = compile_with(Round(), known)

    for op in ("Params", "Aggregate"):
        assert set(results(artifact, op)) == {WIDE}
    edges = json.loads(onnx_tools.get_meta(artifact, keys.EDGES))
    assert [edge["ports"][0][1] for edge in edges] == [WIDE, WIDE]


def test_all_that_the_ready_made_federation_sends_is_known_with_a_configured_network():
    program = FederatedAveraging(4, epochs=2, evaluate=True).build()
    compiler = Compiler().bind_aggregator("aggregator", "fedavg")
    compiler.bind_peer_selector("peers", "static").bind_data_source("data", "digits")
    compiler.bind_data_source("test", "digits")

    artifact = compiler.bind_model("model", "mlp", config={"layers": (64, 10)}).compile(program)

    held = "params(layers.0.weight:tensor(float32)[10,64],layers.0.bias:tensor(float32)[10])"
    edges = json.loads(onnx_tools.get_meta(artifact, keys.EDGES))
    assert {edge["name"]: [text for _, text in edge["ports"]] for edge in edges} == {
        "weights": [held],
        "update": [held, "record(examples:int64,loss:float64)"],
    }


def test_types_are_the_same_when_they_are_solved_again():
    first, second = (compile_with(Round(), bound({"width": 8}, on="client")) for _ in range(2))

    assert first == second


class TwoRounds(Module):
    """Two aggregations on one slot, of different parameters."""

    aggregator = slots.Aggregator()

    def body(self, g):
        metrics = g.input("metrics", "record")
        for name, width in (("one", 1), ("two", 2)):
            start = g.input(name, f"params(w:tensor(float32)[{width}])")
            folded = self.aggregator.contribute(g, start, metrics)
            averaged, _ = self.aggregator.aggregate(g, after=folded)
            g.output(f"mean_{name}", averaged)


def test_each_round_of_a_slot_has_its_own_parameters():
    artifact = compile_with(TwoRounds())

    found = results(artifact, "Aggregate")
    assert found == ["params(w:tensor(float32)[1])", "params(w:tensor(float32)[2])"]


class FoldsBothWays(Module):
    aggregator = slots.Aggregator()

    def body(self, g):
        metrics = g.input("metrics", "record")
        narrow, wide = g.input("narrow", "params(w:tensor[1])"), g.input("wide", WIDE)
        self.aggregator.contribute(g, narrow, metrics)  # (2)
        folded = self.aggregator.contribute(g, wide, metrics)  # (1)
        averaged, _ = self.aggregator.aggregate(g, after=folded)
        g.output("mean", averaged)


def test_updates_of_one_round_that_exclude_each_other():
    error = refused(FoldsBothWays())

    assert lines(error) == marked(FoldsBothWays())
    assert "Contribute is given 'wide'" in error.found
    assert "'w' is tensor(float32)[8], not tensor[1]" in error.found
    assert error.expected == "params(w:tensor[1]), as the other updates of the round"


def test_aggregator_that_declares_both_ports_may_mix():
    artifact = compile_with(FoldsBothWays(), {"slot": "aggregator", "component": MixesWidths})

    assert results(artifact, "Aggregate") == ["params"]


class AggregatesFirst(Module):
    """Gives what the last invocation folded, before it folds again."""

    aggregator = slots.Aggregator()

    def body(self, g):
        averaged, _ = self.aggregator.aggregate(g)
        g.output("mean", averaged)
        self.aggregator.contribute(g, g.input("start", WIDE), g.input("metrics", "record"))


def test_what_is_contributed_later_is_known_before():
    artifact = compile_with(AggregatesFirst())

    assert results(artifact, "Aggregate") == [WIDE]
    assert results(artifact, "Output") == [WIDE]


class LoadsThenGives(Module):
    model = slots.Model()

    def body(self, g):
        self.model.load_params(g, g.input("start", WIDE))  # (1) (2)
        g.output("end", self.model.params(g))


def test_model_gives_what_it_loaded():
    artifact = compile_with(LoadsThenGives())

    assert results(artifact, "Params") == [WIDE]


class LoadsTwice(Module):
    model = slots.Model()

    def body(self, g):
        self.model.load_params(g, g.input("one", WIDE))  # (2)
        self.model.load_params(g, g.input("two", "params(v:tensor)"))  # (1)


def test_model_that_loads_two_kinds_of_parameters():
    error = refused(LoadsTwice())

    assert lines(error) == marked(LoadsTwice())
    assert "lacks 'w'; has 'v' besides" in error.found
    assert error.expected == f"{WIDE}, as the other parameters of its slot"
    assert "on=<class>, config=..." in error.fix


class OnlyGives(Sized):
    """Declares what it gives, not what it takes."""

    @classmethod
    def value_types(cls, _):
        return {"Params.params": "params(v:tensor)"}


class LoadsAndGives(Module):
    model = slots.Model()

    def body(self, g):
        self.model.load_params(g, g.input("start", WIDE))  # (2)
        g.output("end", self.model.params(g))  # (1)


def test_model_that_gives_other_parameters_than_it_loaded():
    error = refused(LoadsAndGives(), bound({"width": 8}, OnlyGives))

    assert lines(error) == marked(LoadsAndGives())
    assert "Params of slot 'model' on class 'LoadsAndGives' gives params(v:tensor)" in error.found
    assert f"LoadParams was given {WIDE}" in error.found
    assert "one type of parameters in slot 'model'" in error.expected


def test_model_that_declares_both_ports_may_give_others():
    artifact = compile_with(LoadsAndGives(), bound({"width": 8}, Adapters))

    assert results(artifact, "Params") == ["params(a:tensor)"]


# Both ends of a clash


def test_client_whose_model_is_smaller_than_the_servers():
    error = refused(Round(), bound({"width": 8}), bound({"width": 4}, on="client"))

    assert lines(error) == marked(Round())
    for text in (
        "LoadParams is given 'weights",
        "made by Params of slot 'model' on class 'server'",
        "'w' is tensor(float32)[8], not tensor(float32)[4]",
        "params(w:tensor(float32)[4]) for 'params'",
        "in slot 'model' on class 'client' says",
        "self.model.load_params(g, received)",
        "mine = self.model.params(g)",
    ):
        assert text in str(error)


def test_client_whose_model_has_another_element_type():
    wide, double = {"width": 8}, {"width": 8, "dtype": "float64"}

    error = refused(Round(), bound(wide), bound(double, on="client"))

    assert "'w' is tensor(float32)[8], not tensor(float64)[8]" in error.found


class Asks(Module):
    """The server sends a batch; the client multiplies it, and answers."""

    peer_class = "server"
    peers = slots.PeerSelector(of="client")
    backend = slots.Backend()

    def body(self, g):
        x = g.input("x", tensor("float32", ("n", 64)))
        sent = g.net_out("batch", self.peers.sample(g, 1), x * 2.0)
        weights = g.constant([[0.5] * 10] * 64, "float32")
        g.net_out("answer", g.sender(sent), sent @ weights)


def test_symbolic_dimensions_survive_the_network():
    artifact = compile_with(Asks())

    edges = json.loads(onnx_tools.get_meta(artifact, keys.EDGES))
    carried = {edge["name"]: edge["ports"][0][1] for edge in edges}
    assert carried == {"batch": "tensor(float32)[n,64]", "answer": "tensor(float32)[n,10]"}


class Multiplies(Module):
    peer_class = "server"
    peers = slots.PeerSelector(of="client")
    backend = slots.Backend()

    def body(self, g):
        doubled = g.input("x", tensor("float32", (32, 64))) * 2.0  # (3)
        sent = g.net_out("batch", self.peers.sample(g, 1), doubled)  # (2)
        g.output("y", sent @ sent)  # (1)


def test_shapes_that_clash_on_the_other_side_name_where_the_value_was_made():
    error = refused(Multiplies())

    assert lines(error) == marked(Multiplies())
    assert "MatMul cannot take 'batch" in error.found
    assert "tensor(float32)[32,64]" in error.found


class Reports(Unsized):
    """Says what its metrics are."""

    types: ClassVar = {"Fit.metrics": "record(examples:int64,loss:float64)"}


class AsksForAnotherField(Module):
    model = slots.Model()
    data = slots.DataSource()

    def body(self, g):
        metrics = self.model.fit(g, self.data.batches(g))  # (2)
        g.output("y", metrics["lost"])  # (1)


def test_field_that_a_component_does_not_report():
    error = refused(AsksForAnotherField(), {"slot": "model", "component": Reports})

    assert lines(error) == marked(AsksForAnotherField())
    assert "is a record without a field 'lost'" in error.found
    assert error.expected == "one of examples, loss"
    assert error.fix == "did you mean 'loss'?"


# Within one op


class Searches(Module):
    index = slots.Index()

    def body(self, g):
        g.output("ids", self.index.add(g, g.input("vectors", "tensor(float32)[100,64]")))
        ids, far = self.index.search(g, g.input("queries", "tensor(float32)[b,64]"), k=3)
        g.output("near", ids)
        g.output("far", far)
        g.output("any", self.index.search(g, g.input("all", "tensor"), k=2)[0])


def test_index_gives_one_id_for_each_vector():
    artifact = compile_with(Searches())

    assert results(artifact, "Output") == [
        "tensor(int64)[100]",
        "tensor(int64)[b,3]",
        "tensor[b,3]",
        "tensor(int64)[?,2]",
    ]


class AddsOneVector(Module):
    index = slots.Index()

    def body(self, g):
        self.index.add(g, g.input("vector", "tensor(float32)[64]"))  # (1)


def test_index_is_given_vectors_not_one():
    error = refused(AddsOneVector())

    assert lines(error) == marked(AddsOneVector())
    assert error.expected == "tensor[n,d] for 'vectors'"


class Learns(Module):
    """Goes forward and back through a model."""

    model = slots.Model()

    def __init__(self, grad: str) -> None:
        super().__init__()
        self.grad = grad

    def body(self, g):
        y = self.model.forward(g, g.input("x", "tensor(float32)[32,64]"))  # (2)
        g.output("y", y)
        g.output("back", self.model.backward(g, g.input("grad", self.grad)))  # (1)


NETWORK = {"slot": "model", "component": Network}


def test_lengths_that_a_component_names_are_those_of_its_inputs():
    artifact = compile_with(Learns("tensor"), NETWORK)

    assert results(artifact, "Forward") == ["tensor(float32)[32,10]"]


def test_gradient_of_the_input_has_its_shape():
    artifact = compile_with(Learns("tensor"), NETWORK)

    assert results(artifact, "Backward") == ["tensor[32,64]"]


def test_gradient_of_another_shape_than_the_result():
    error = refused(Learns("tensor(float32)[32,11]"), NETWORK)

    assert lines(error) == marked(Learns("tensor"))
    assert error.expected == "a gradient of shape tensor[32,10], that of what Forward gave"


def test_input_that_the_component_rules_out_says_which_component():
    class Wide(Learns):
        def body(self, g):
            g.output("y", self.model.forward(g, g.input("x", "tensor[32,65]")))

    error = refused(Wide(""), NETWORK)

    assert error.expected.startswith("tensor[n,64] for 'x', as '")
    assert error.expected.endswith(":Network' in slot 'model' on class 'Wide' says")


class Recovers(Module):
    peer_class = "server"
    peers = slots.PeerSelector(of="client")
    codec = slots.Codec()

    def body(self, g):
        encoded = self.codec.encode(g, g.input("x", "tensor(float32)[8]"))
        sent = g.net_out("small", self.peers.sample(g, 1), encoded)
        g.output("y", self.codec.decode(g, sent))


class BytesCodec(Codec):
    """Encodes to bytes."""

    types: ClassVar = {"Encode.encoded": "bytes", "Decode.encoded": "bytes"}


class HalfCodec(Codec):
    """Encodes to bytes, and gives back less than it was given."""

    types: ClassVar = {**BytesCodec.types, "Decode.value": "tensor(float16)"}


@pytest.mark.parametrize(
    ("codec", "other", "found"),
    [
        (BytesCodec, None, "tensor(float32)[8]"),
        (HalfCodec, None, "tensor(float16)"),
        (BytesCodec, HalfCodec, "tensor(float16)"),
    ],
)
def test_decoded_value_is_like_the_one_that_was_encoded(codec, other, found):
    rows = [{"slot": "codec", "component": codec}]
    if other is not None:
        rows.append({"slot": "codec", "component": other, "on": "client"})

    artifact = compile_with(Recovers(), *rows)

    assert results(artifact, "Decode") == [found]
