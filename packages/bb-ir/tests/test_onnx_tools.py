"""The bridge to ONNX messages."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from onnx import FunctionProto, ModelProto, NodeProto, TypeProto, ValueInfoProto, helper

from bb_ir import keys, onnx_tools
from bb_ir.errors import SourceLine
from bb_ir.types import ANY, PARAMS, custom, list_of, parse_type, peers, record, scalar, tensor


def node(op="Add", inputs=("a", "b"), outputs=("c",), domain="", **meta):
    made = helper.make_node(op, list(inputs), list(outputs), domain=domain)
    for key, value in meta.items():
        onnx_tools.set_meta(made, key, value)
    return made


# Metadata


def test_metadata_is_set_replaced_and_removed():
    made = node()

    onnx_tools.set_meta(made, "a", "1")
    onnx_tools.set_meta(made, "b", "2")
    onnx_tools.set_meta(made, "a", "3")
    onnx_tools.set_meta(made, "b", "")
    onnx_tools.set_meta(made, "c", "")

    assert onnx_tools.metadata(made) == {"a": "3"}
    assert onnx_tools.get_meta(made, "b") == ""
    assert onnx_tools.get_meta(made, "b", "other") == "other"


def test_lists_in_metadata():
    made = node(a="x,y.1,z", b="")

    assert onnx_tools.meta_list(made, "a") == ["x", "y.1", "z"]
    assert onnx_tools.meta_list(made, "b") == []


def test_source_of_an_op():
    made = node()
    assert onnx_tools.source_of(made) is None

    onnx_tools.set_meta(made, keys.SOURCE, "a.py:3")

    assert onnx_tools.source_of(made) == SourceLine("a.py", 3)


# Attributes


def test_attributes_become_plain_values():
    array = np.arange(3, dtype=np.float32)
    made = helper.make_node(
        "X", [], ["y"], i=3, f=0.5, s="text", ints=[1, 2], floats=[0.5], strings=["a", "b"],
        t=onnx.numpy_helper.from_array(array),
    )  # fmt: skip

    found = onnx_tools.attributes(made)

    assert (found.pop("t") == array).all()
    assert found == {
        "i": 3, "f": 0.5, "s": "text", "ints": [1, 2], "floats": [0.5], "strings": ["a", "b"],
    }  # fmt: skip


# Types


TEXTS = [
    "tensor(float32)[?,64]", "tensor(float32)[n,2]", "tensor(float32)[]", "tensor(float32)",
    "tensor", "tensor[2,?]", "tensor(bfloat16)[2]", "tensor(string)[1]", "any", "params", "bytes",
    "params(w:tensor(float32)[2,3])", "peers(client)", "senders", "trigger", "int64", "string",
    "record(a:int64,b:list(any))", "local(batches)", "custom(acme.graph/1)",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_types_survive_onnx(text):
    value = parse_type(text)

    proto = onnx_tools.type_to_proto(value)

    assert onnx_tools.type_from_proto(TypeProto.FromString(proto.SerializeToString())) == value


def test_tensors_are_tensors_of_onnx():
    proto = onnx_tools.type_to_proto(tensor("float64", (None, 3, "n")))

    assert proto.tensor_type.elem_type == onnx.TensorProto.DOUBLE
    assert [dim.WhichOneof("value") for dim in proto.tensor_type.shape.dim] == [
        None, "dim_value", "dim_param",
    ]  # fmt: skip


@pytest.mark.parametrize("value", [PARAMS, tensor(), peers("client"), record(), list_of(ANY)])
def test_what_onnx_has_no_type_for_is_opaque_and_says_what_it_is(value):
    proto = onnx_tools.type_to_proto(value)

    assert proto.opaque_type.domain == keys.TYPE_DOMAIN
    assert proto.denotation == str(value)


@pytest.mark.parametrize(
    "proto",
    [
        TypeProto(),
        helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, [1])),
        TypeProto(opaque_type=TypeProto.Opaque(domain="other", name="tensor")),
    ],
)
def test_types_of_others_are_any(proto):
    assert onnx_tools.type_from_proto(proto) == ANY


def test_element_types_that_we_do_not_know_are_unknown():
    proto = helper.make_tensor_type_proto(onnx.TensorProto.COMPLEX64, [2])

    assert onnx_tools.type_from_proto(proto) == tensor("", (2,))


def test_declared_types_of_a_function():
    function = FunctionProto()

    onnx_tools.set_types(function, [("a", PARAMS), ("b", scalar("int64"))])
    onnx_tools.set_types(function, [("b", custom("x/1"))])

    assert onnx_tools.types_of(function) == {"b": custom("x/1")}


# Functions and models


def test_imports_are_those_of_the_ops():
    nodes = [node(), node(domain=keys.WIRE), node(domain="org.other")]

    assert {o.domain: o.version for o in onnx_tools.opsets(nodes)} == {
        "": 23, keys.MODULE: 1, keys.WIRE: 1, "org.other": 1,
    }  # fmt: skip


def test_domain_of_tensor_ops_has_two_names():
    assert onnx_tools.domain_of(node()) == onnx_tools.domain_of(node(domain=keys.ONNX)) == keys.ONNX
    assert onnx_tools.domain_of(node(domain=keys.WIRE)) == keys.WIRE


def test_nodes_are_set_with_the_declarations_that_fit_them():
    function = FunctionProto(input=["x"])
    onnx_tools.set_types(function, [("late", PARAMS), ("gone", PARAMS), ("x", ANY), ("c", PARAMS)])
    function.node.extend([node(outputs=["c"]), node(domain=keys.WIRE, outputs=["late"])])

    onnx_tools.set_nodes(function, reversed(function.node))

    assert [n.output[0] for n in function.node] == ["late", "c"]
    assert [info.name for info in function.value_info] == ["x", "late", "c"]
    assert keys.WIRE in {o.domain for o in function.opset_import}


def test_main_graph_calls_each_function_with_ports_once():
    function = FunctionProto(name="F#12", domain=keys.MODULE, input=["x"], output=["y"])
    onnx_tools.set_types(function, [("x", tensor("float32")), ("y", PARAMS)])
    onnx_tools.set_nodes(function, [node("Add", ["x", "x"], ["y"])])
    silent = FunctionProto(name="G#34", domain=keys.MODULE)
    onnx_tools.set_nodes(silent, [])
    model = ModelProto(functions=[function, silent], ir_version=11)
    model.graph.name = "F"
    model.opset_import.extend(onnx_tools.opsets(function.node))
    model.graph.node.append(NodeProto(op_type="Old"))

    onnx_tools.draw(model)

    assert [(n.op_type, n.name, *n.input, *n.output) for n in model.graph.node] == [
        ("F#12", "F", "F/x", "F/y")
    ]
    assert model.graph.input[0].type.denotation == "tensor(float32)", "the checker wants a shape"
    onnx.checker.check_model(model)


def test_value_info():
    assert onnx_tools.value_info("x", PARAMS) == ValueInfoProto(
        name="x", type=onnx_tools.type_to_proto(PARAMS)
    )


@given(...)
def test_metadata_takes_any_text(key: str, value: str):
    made = node()

    onnx_tools.set_meta(made, key, value)

    assert onnx_tools.get_meta(made, key) == value
