"""Ops that plugins add: recorded with their schema, checked by the compiler, run by the Node."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

import bytesandbrains as bb
from bb_dsl import op_function
from bb_dsl.errors import BadOption, MissingGraph
from bb_ir import keys, onnx_tools
from bb_ir.ops import Attribute, OpSchema, Port, ops
from bb_ir.text import parse_model, print_model
from bb_ir.types import list_of, scalar, tensor
from bb_roles.errors import PluginError
from bb_roles.registry import plugin_spec
from bb_runtime.errors import UnresolvedOp

X = Port("x", tensor("float32", ("n", "d")))
OPS = ops(
    OpSchema(
        "Split",
        "split",
        (X,),
        (Port("head", tensor("float32", ("k", "d"))), Port("rows", scalar("int64"))),
        (Attribute("k", 2),),
    ),
    OpSchema("Pi", "pi", (), (Port("pi", scalar("float64")),)),
)
PLUGIN = """
from bb_ir.ops import Attribute, OpSchema, Port, ops
from bb_ir.types import scalar, tensor
from bb_roles import OpsSpec, hookimpl

def split(x, *, k):
    return x[:k], len(x)

def pi():
    return 3.25

X = Port("x", tensor("float32", ("n", "d")))
OPS = ops(
    OpSchema("Split", "split", (X,), (Port("head", tensor("float32", ("k", "d"))),
             Port("rows", scalar("int64"))), (Attribute("k", 2),)),
    OpSchema("Pi", "pi", (), (Port("pi", scalar("{pi}")),)),
)

@hookimpl
def bb_ops():
    paths = {{"Split": __name__ + ":split", "Pi": __name__ + ":pi"}}
    return OpsSpec("{domain}", paths, schemas={schemas})
"""


def plugin(pi="float64", domain="acme.ops", schemas="OPS"):
    return PLUGIN.format(pi=pi, domain=domain, schemas=schemas)


@op_function
def split(g, x, **attributes):
    return g.plugin_op("acme.ops", OPS["Split"], [x], attributes)


class Splitting(bb.Module):
    peer_class = "here"

    def __init__(self, shape=(3, 4), dtype="float32", **attributes):
        super().__init__()
        self.x, self.attributes = bb.tensor(dtype, shape), attributes

    def body(self, g):
        head, rows = split(g, g.input("x", self.x), **self.attributes)
        pi = g.plugin_op("acme.ops", OPS["Pi"], [], {})[0]
        self.seen = [one.type for one in (head, rows, pi)]
        g.output("head", head)
        g.output("sum", pi + rows)


def compiled(*args, **attributes):
    return bb.Compiler().compile(Splitting(*args, **attributes).build())


def ops_of(model):
    return {node.op_type: node for function in model.functions for node in function.node}


def test_types_of_results_follow_from_those_of_inputs():
    module = Splitting(k=2)
    module.build()

    assert module.seen == [tensor("float32", (2, 4)), scalar("int64"), scalar("float64")]


def test_a_name_that_inputs_leave_open_is_a_length_that_nobody_knows():
    module = Splitting(shape=None)
    module.build()

    assert module.seen[0] == tensor("float32", ("k", None))


def test_a_program_runs_them(bb_install):
    bb_install("op.acme.ops", plugin())
    x = np.arange(12, dtype=np.float32).reshape(3, 4)

    outputs = bb.LocalFederation(compiled(k=1)).run({"x": x})

    assert outputs["head"].tolist() == x[:1].tolist()
    assert outputs["sum"] == 6.25


def test_the_compiler_fills_in_defaults_before_it_infers(bb_install):
    bb_install("op.acme.ops", plugin())
    artifact = compiled()

    assert onnx_tools.attributes(ops_of(artifact)["Split"]) == {"k": 2}
    (function,) = artifact.functions
    assert tensor("float32", (2, 4)) in onnx_tools.types_of(function).values()


def test_errors_and_artifacts_name_the_line_of_the_program():
    recorded = ops_of(Splitting().build())["Split"]

    line = onnx_tools.source_of(recorded)
    assert line is not None
    assert Path(line.file).name == "test_plugin_ops.py"
    text = Path(__file__).read_text().splitlines()[line.line - 1]
    assert "split(g, g.input(" in text


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (lambda g, _: g.plugin_op("acme", OPS["Split"], [], {}), "0 inputs instead of 1"),
        (lambda g, x: split(g, x, j=2), "an attribute 'j', which it does not have"),
        (lambda g, _: split(g, g.length(g.me())), "Split is given"),
        (lambda g, _: g.plugin_op(keys.SYSCALL, OPS["Pi"], [], {}), "in domain"),
        (lambda g, _: g.plugin_op("", OPS["Pi"], [], {}), "in domain"),
        (lambda g, _: g.plugin_op(keys.role_domain("model"), OPS["Pi"], [], {}), "in domain"),
    ],
)
def test_what_an_op_cannot_take_is_refused_while_it_is_recorded(record, found):
    class Wrong(bb.Module):
        peer_class = "here"

        def body(self, g):
            record(g, g.input("x", X.type))

    with pytest.raises(BadOption, match=found):
        Wrong().build()


def test_a_missing_attribute_is_named():
    wanted = OpSchema("Take", "take", (), (Port("all", list_of(X.type)),), (Attribute("k"),))

    class Wrong(bb.Module):
        peer_class = "here"

        def body(self, g):
            g.plugin_op("acme.ops", wanted, [], {})

    with pytest.raises(BadOption, match="no attribute 'k'"):
        Wrong().build()


def test_a_function_that_is_called_without_the_graph_says_so():
    class Wrong(bb.Module):
        peer_class = "here"

        def body(self, g):
            split(g.input("x", X.type))

    with pytest.raises(MissingGraph, match="the first argument of split is g"):
        Wrong().build()


# What arrives at the compiler may have been written by anybody.


def test_types_are_checked_again_when_all_of_them_are_known():
    recorded = Splitting().build()
    for function in recorded.functions:
        onnx_tools.set_types(function, {"x": tensor("float64", (3, 4))}.items())

    with pytest.raises(bb.CompileError, match=r"Split is given .*float64"):
        bb.Compiler().compile(recorded)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda node: node.input.append("x"), "Split with 2 inputs instead of 1"),
        (lambda node: node.output.pop(), "Split with 1 outputs instead of 2"),
        (lambda node: node.attribute.append(helper.make_attribute("j", 1)), "an attribute 'j'"),
        (lambda node: onnx_tools.set_meta(node, keys.SCHEMA, "{"), "cannot be read"),
    ],
)
def test_a_damaged_recording_is_refused(damage, found):
    recorded = Splitting().build()
    damage(ops_of(recorded)["Split"])

    with pytest.raises(bb.CompileError, match=found):
        bb.Compiler().compile(recorded)


def test_programs_with_them_can_be_written_as_text():
    recorded = Splitting().build()

    assert parse_model(print_model(recorded)) == recorded


def test_a_schema_is_part_of_the_program():
    other = Splitting().build()
    changed = replace(OPS["Split"], attributes=(Attribute("k", 1),))
    onnx_tools.set_meta(ops_of(other)["Split"], keys.SCHEMA, changed.text())

    def program(model):
        return onnx_tools.get_meta(bb.Compiler().compile(model), keys.PROGRAM)

    assert program(Splitting().build()) == program(Splitting().build()) != program(other)


# What is installed where a program runs.


def test_a_node_without_the_plugin_says_which_one():
    with pytest.raises(UnresolvedOp, match=r"no plugin provides op\.acme\.ops"):
        bb.LocalFederation(compiled())


def test_another_op_of_the_same_name_is_not_run(bb_install):
    bb_install("op.acme.ops", plugin(pi="int64"))

    with pytest.raises(UnresolvedOp, match=r"recorded as Pi\(\) -> \(pi: float64\)"):
        bb.LocalFederation(compiled())


def test_a_plugin_need_not_declare_schemas(bb_install):
    bb_install("op.acme.ops", plugin(schemas={}))

    x = np.zeros((3, 4), np.float32)
    assert bb.LocalFederation(compiled()).run({"x": x})["sum"] == 6.25


@pytest.mark.parametrize(
    ("domain", "schemas", "found"),
    [
        ("ai.bytesandbrains.wire", "OPS", "not free"),
        ("ai.bytesandbrains.role.model", "OPS", "not free"),
        ("acme.ops", '{"Spilt": OPS["Split"]}', "a schema of 'Split' under 'Spilt'"),
        ("acme.ops", '{"Pi": OpSchema("Pi", "pi")}', "op Pi gives nothing"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(bb_install, domain, schemas, found):
    point = f"op.{domain.removeprefix(keys.PREFIX)}"
    bb_install(point, plugin(domain=domain, schemas=schemas))

    with pytest.raises(PluginError, match=found):
        plugin_spec(point)
