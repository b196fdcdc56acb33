"""The driver: bindings, stages, purity, and the same bytes every time."""

import inspect
import subprocess
import sys

import onnx
import pytest

from bb_compiler import Compiler
from bb_compiler.errors import BoundTwice
from bb_compiler.passes import CANONICAL
from bb_dsl import Module, slots
from bb_ir import keys, onnx_tools
from bb_ir.text import print_model
from bb_ir.types import tensor
from bb_roles.contracts import DataSource, Model

PROGRAM = """
from bb_compiler import Compiler
from bb_dsl import Module, slots

class Fit(Module):
    model = slots.Model()
    data = slots.DataSource()

    def body(self, g):
        self.model.load_params(g, g.input("start", "params"))
        g.output("metrics", self.model.fit(g, self.data.batches(g)))
        g.output("end", self.model.params(g))

class Program(Module):
    peer_class = "server"
    peers = slots.PeerSelector(of="client")
    model = slots.Model()
    aggregator = slots.Aggregator()
    backend = slots.Backend()

    def __init__(self):
        super().__init__()
        self.fit = Fit(model=self.model)

    def body(self, g):
        cohort = self.peers.sample(g, 8)
        received = g.net_out("weights", cohort, self.model.params(g))
        trained = self.fit(g, start=received)
        reply = g.net_out("update", g.sender(received), trained["end"], trained["metrics"])
        done = g.gather(self.aggregator.contribute(g, *reply), quorum=0.8, deadline="30s")
        averaged, _ = self.aggregator.aggregate(g, after=done)
        self.model.load_params(g, averaged)
        g.output("y", (g.input("x", "tensor(float32)[?,2]") * 2 - 1) @ g.constant([[1.0], [2.0]]))

    def bootstrap(self, g):
        g.net_out("hello", self.peers.current_view(g))
        self.fit.data.reset(g)

def artifact():
    compiler = Compiler()
    for slot, role, name in (
        ("fit.data", "data_source", "digits"), ("peers", "peer_selector", "static"),
        ("aggregator", "aggregator", "fedavg"), ("backend", "backend", "numpy"),
        ("model", "model", "mlp"),
    ):
        compiler.bind(slot, name, role=role)
    return compiler.compile(Program().build())
"""
PRINT = """
import hashlib
print(hashlib.sha256(artifact().SerializeToString(deterministic=True)).hexdigest())
"""


class AnyModel(Model):
    """Stands in a binding."""


class OtherModel(Model):
    """Stands in a binding."""


class AnyData(DataSource):
    """Stands in a binding."""


class Trains(Module):
    model = slots.Model()
    data = slots.DataSource()

    def body(self, g):
        self.model.fit(g, self.data.batches(g))


@pytest.fixture
def compiler():
    return Compiler().bind_model("model", AnyModel).bind_data_source("data", AnyData)


@pytest.fixture(scope="module")
def program():
    space = {"__name__": "program"}
    exec(PROGRAM, space)  # noqa: S102  # the text above, which another Python runs too
    return space


def test_artifact_is_a_model_of_onnx(program, tmp_path):
    artifact = program["artifact"]()

    onnx.checker.check_model(artifact, full_check=True)
    onnx.save(artifact, tmp_path / "a.onnx")
    assert onnx.load(tmp_path / "a.onnx") == artifact
    assert [f.name.partition("#")[0] for f in artifact.functions] == [
        "Program", "Program.client", "Program.bootstrap", "Program.bootstrap.client", "fused",
    ]  # fmt: skip
    assert artifact.opset_import[0].domain == ""
    assert artifact.ir_version == 11


def test_compiling_twice_gives_the_same_bytes(program):
    first, second = (program["artifact"]().SerializeToString() for _ in range(2))

    assert first == second


def test_bytes_do_not_depend_on_the_seed_of_hashes():
    digests = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM + PRINT],
            env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("0", "1", "12345")
    ]  # fmt: skip

    assert len(set(digests)) == 1


def test_model_is_left_as_it_is(compiler):
    model = Trains().build()
    before = model.SerializeToString(deterministic=True)

    compiler.compile(model)

    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("stage", CANONICAL, ids=lambda stage: stage.__name__)
def test_passes_are_pure(stage, program):
    model = program["Program"]().build()
    rows = [
        {"slot": slot, "role": role, "component": "any", "on": "", "depends": {}}
        for slot, role in (
            ("fit.data", "data_source"), ("model", "model"), ("peers", "peer_selector"),
            ("aggregator", "aggregator"), ("backend", "backend"),
        )
    ]  # fmt: skip
    import json

    onnx_tools.set_meta(model, keys.BINDINGS, json.dumps(rows))
    for earlier in CANONICAL[: CANONICAL.index(stage)]:
        model = earlier(model)
    before = model.SerializeToString(deterministic=True)

    once, again = stage(model), stage(model)

    assert model.SerializeToString(deterministic=True) == before
    assert once == again


def test_artifact_records_which_stages_ran(compiler):
    def note(model):
        result = onnx.ModelProto()
        result.CopyFrom(model)
        onnx_tools.set_meta(result, "org.other.note", "seen")
        return result

    compiler.insert_stage(note, after="verify_recording")
    artifact = compiler.compile(Trains().build())

    assert onnx_tools.get_meta(artifact, "org.other.note") == "seen"
    assert onnx_tools.meta_list(artifact, keys.STAGES)[:3] == [
        "verify_recording", "note", "inline_for_partition",
    ]  # fmt: skip
    assert compiler.stages[1] == "note"


def test_stages_may_be_objects(compiler):
    class Stage:
        def __call__(self, model):
            return model

    compiler.insert_stage(Stage(), before="stamp_passport")

    assert compiler.stages[-2:] == ("Stage", "stamp_passport")


def test_stage_may_be_left_out(compiler):
    compiler.without_stage("analyze_wire_edges")

    assert "analyze_wire_edges" not in compiler.stages
    assert onnx_tools.get_meta(compiler.compile(Trains().build()), keys.EDGES) == "[]"


def test_slot_is_bound_once():
    compiler = Compiler().bind_model("model", AnyModel)
    first = inspect.currentframe().f_lineno - 1

    with pytest.raises(BoundTwice) as caught:
        compiler.bind_model("model", OtherModel)

    assert "slot 'model' is bound to 'OtherModel', and to" in caught.value.found
    assert [place.line for place in caught.value.where] == [first + 4, first]
    with pytest.raises(BoundTwice, match="on class 'client'"):
        compiler.bind_model("model", OtherModel, on="client").bind_model(
            "model", AnyModel, on="client"
        )


def test_later_binding_of_a_slot_replaces_the_earlier_where_that_is_said(compiler):
    compiler.bind("model", OtherModel, replace=True)
    artifact = compiler.compile(Trains().build())

    assert ":OtherModel|" in print_model(artifact)
    assert ":AnyModel|" not in print_model(artifact)


def test_binding_for_a_class_stands_beside_the_one_for_all(compiler):
    artifact = compiler.bind_model("model", OtherModel, on="Trains").compile(Trains().build())

    assert ":OtherModel|" in print_model(artifact)


def test_compiler_may_compile_several_models(compiler):
    first = compiler.compile(Trains().build())

    assert compiler.compile(Trains().build()) == first


def test_names_of_targets_follow_their_content(compiler):
    class Other(Trains):
        def body(self, g):
            self.model.fit(g, self.data.batches(g, epochs=2))

    names = {
        compiler.compile(module.build()).functions[0].name.partition("#")[2]
        for module in (Trains(), Other(), Trains())
    }

    assert len(names) == 2


def test_bindings_do_not_change_the_program(compiler):
    first = compiler.compile(Trains().build())
    second = compiler.bind("model", OtherModel, replace=True).compile(Trains().build())

    assert first != second
    assert onnx_tools.get_meta(first, keys.PROGRAM) == onnx_tools.get_meta(second, keys.PROGRAM)
    assert [f.name for f in first.functions] == [f.name for f in second.functions]


def test_places_that_only_placement_needs_are_not_in_the_artifact(program):
    artifact = program["artifact"]()

    found = {e.key for f in artifact.functions for n in f.node for e in n.metadata_props}
    assert not found & {keys.AT, keys.ENTER}
    assert {keys.CLASS, keys.REGION, keys.PLACED, keys.SOURCE} <= found
    assert not {keys.BINDINGS, keys.RESOLVED} & set(onnx_tools.metadata(artifact))


def test_types_of_every_value_are_known(program):
    artifact = program["artifact"]()

    for function in artifact.functions:
        types = onnx_tools.types_of(function)
        made = [name for node in function.node for name in node.output]
        assert list(types) == [*function.input, *made]
    assert types_of_target(artifact, "Program")["y"] == tensor("float32", (None, 1))


def types_of_target(artifact, name):
    return next(
        onnx_tools.types_of(f) for f in artifact.functions if f.name.partition("#")[0] == name
    )
