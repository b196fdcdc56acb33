"""The content hash: what counts, what does not, and that it stays what it was."""

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, FunctionProto, TensorProto, helper, numpy_helper

from bb_ir import keys
from bb_ir.errors import BytesAndBrainsError
from bb_ir.hashing import content_hash, stable_name
from bb_ir.onnx_tools import set_meta, value_info
from bb_ir.types import PARAMS, parse_type, peers

HALF = numpy_helper.from_array(np.array([0.5, 1.5], np.float32), "half")


def function() -> FunctionProto:
    """A function with a bit of everything that a hash covers."""
    made = helper.make_function(
        keys.MODULE,
        "Train",
        ["x", "w"],
        ["loss", "done"],
        [
            helper.make_node("Constant", [], ["half"], value=HALF),
            helper.make_node("MatMul", ["x", "w"], ["y"]),
            helper.make_node("Clip", ["y", "", "half"], ["z"]),
            helper.make_node("ReduceMean", ["z"], ["loss"], keepdims=0, axes=[0, 1]),
            helper.make_node(
                "Fit", ["z"], ["done"], domain=keys.ROLE + "model", mode="fast", rate=0.5
            ),
        ],
        [helper.make_opsetid("", 23), helper.make_opsetid(keys.ROLE + "model", 1)],
        attributes=["size"],
        attribute_protos=[helper.make_attribute("depth", 2)],
        value_info=[
            value_info("x", parse_type("tensor(float32)[n,?]")),
            value_info("w", PARAMS),
            value_info("z", peers("client")),
        ],
    )
    for index, node in enumerate(made.node):
        set_meta(node, keys.SOURCE, f"train.py:{index}")
        set_meta(node, keys.CLASS, "client")
    set_meta(made.node[4], keys.SLOT, "model")
    set_meta(made.node[4], keys.REGION, "r1")
    set_meta(made.node[4], keys.EDGE, "e1")
    set_meta(made.node[4], keys.AFTER, "y,loss")
    set_meta(made.node[4], keys.ORDER, "half")
    set_meta(made, keys.PHASE, "body")
    set_meta(made, keys.SLOTS, '{"model":"model"}')
    return made


def graph(name: str = "branch", inner: str = "inner", outer: str = "y") -> onnx.GraphProto:
    node = helper.make_node("Relu", [outer], [inner])
    return helper.make_graph([node], name, [], [helper.make_empty_tensor_value_info(inner)])


def with_if(*branches: onnx.GraphProto, outer: str = "y") -> FunctionProto:
    node = helper.make_node("If", ["c"], ["r"], then_branch=branches[0], else_branch=branches[1])
    return helper.make_function(
        keys.MODULE, "F", ["c", outer], ["r"], [node], [helper.make_opsetid("", 23)]
    )


def changed(change) -> str:
    made = function()
    change(made)
    return content_hash(made)


def meta(key: str, value: str):
    return lambda f: set_meta(f.node[4], key, value)


def renamed(made: FunctionProto, names: dict[str, str]) -> FunctionProto:
    def new(name: str) -> str:
        return names.get(name, name)

    result = FunctionProto()
    result.CopyFrom(made)
    result.input[:] = map(new, made.input)
    result.output[:] = map(new, made.output)
    for info in result.value_info:
        info.name = new(info.name)
    for node in result.node:
        node.input[:] = map(new, node.input)
        node.output[:] = map(new, node.output)
        for entry in node.metadata_props:
            if entry.key in {keys.AFTER, keys.ORDER}:
                entry.value = ",".join(sorted(map(new, entry.value.split(","))))
    return result


# --- what does not count ---------------------------------------------------------------------


@given(st.permutations(["x", "w", "half", "y", "z", "loss", "done", "other", "more"]))
def test_names_of_values_do_not_count(names):
    old = ["x", "w", "half", "y", "z", "loss", "done"]

    other = renamed(function(), dict(zip(old, names, strict=False)))

    assert content_hash(other) == content_hash(function())


def reverse_metadata(made: FunctionProto) -> None:
    for holder in (made, *made.node):
        entries = list(holder.metadata_props)[::-1]
        del holder.metadata_props[:]
        holder.metadata_props.extend(entries)


def reverse_attributes(made: FunctionProto) -> None:
    for node in made.node:
        entries = list(node.attribute)[::-1]
        del node.attribute[:]
        node.attribute.extend(entries)


def name_onnx_in_full(made: FunctionProto) -> None:
    made.opset_import[0].domain = keys.ONNX
    made.node[0].domain = keys.ONNX


def reverse_declarations(made: FunctionProto) -> None:
    for field in (made.value_info, made.opset_import):
        entries = list(field)[::-1]
        del field[:]
        field.extend(entries)


@pytest.mark.parametrize(
    "change",
    [
        meta(keys.SOURCE, "other.py:9"),
        meta(keys.AT, "class:server"),
        meta(keys.SCOPE, "a.b"),
        meta(keys.PLACED, "cursor"),
        meta(keys.AFTER, "loss,y"),
        meta("somebody.else", "note"),
        lambda f: setattr(f.node[0], "name", "node"),
        lambda f: setattr(f.node[0], "doc_string", "doc"),
        lambda f: setattr(f.node[0].attribute[0], "doc_string", "doc"),
        lambda f: setattr(f.node[0].attribute[0].t, "name", "other"),
        lambda f: setattr(f, "doc_string", "doc"),
        lambda f: setattr(f, "name", "Train#0123456789abcdef"),
        lambda f: set_meta(f, keys.SOURCE, "other.py:9"),
        lambda f: set_meta(f, keys.HASH + "Train", "abc"),
        lambda f: f.value_info.append(value_info("gone", PARAMS)),
        reverse_metadata,
        reverse_attributes,
        reverse_declarations,
        name_onnx_in_full,
    ],
)
def test_what_means_nothing_does_not_count(change):
    assert changed(change) == content_hash(function())


def test_names_inside_graphs_do_not_count():
    plain = with_if(graph(), graph())
    other = with_if(graph("a", "p", "q"), graph("b", "s", "q"), outer="q")

    assert content_hash(other) == content_hash(plain)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15])
def test_how_a_tensor_is_stored_does_not_count(number):
    array = np.array([1, 0, 1], helper.tensor_dtype_to_np_dtype(number))
    typed = helper.make_tensor("t", number, [3], array)
    raw = numpy_helper.from_array(array)

    assert not typed.HasField("raw_data")
    assert hash_of(typed) == hash_of(raw)


@pytest.mark.parametrize(
    ("number", "count", "held", "raw"),
    [
        (TensorProto.BFLOAT16, 1, [0x3FC0], b"\xc0\x3f"),
        (TensorProto.FLOAT8E5M2, 2, [0x38, 0xFF], b"\x38\xff"),
        (TensorProto.INT4, 3, [0x21, 0x0F], b"\x21\x0f"),
    ],
)
def test_narrow_elements_are_the_bits_they_are(number, count, held, raw):
    typed = TensorProto(data_type=number, dims=[count], int32_data=held)

    assert hash_of(typed) == hash_of(TensorProto(data_type=number, dims=[count], raw_data=raw))


def test_negative_elements_are_stored_alike():
    for name in ("int8", "int16", "int32", "int64", "float16", "float32", "float64"):
        array = np.array([-1, -2], name)
        typed = helper.make_tensor("t", helper.np_dtype_to_tensor_dtype(array.dtype), [2], array)

        assert hash_of(typed) == hash_of(numpy_helper.from_array(array))


def hash_of(value, **attributes) -> str:
    node = helper.make_node("Constant", [], ["c"], value=value, **attributes)
    return content_hash(helper.make_function(keys.MODULE, "F", [], ["c"], [node], []))


# --- what counts -----------------------------------------------------------------------------


def swap_inputs(made: FunctionProto) -> None:
    made.input[:] = list(made.input)[::-1]


def swap_outputs(made: FunctionProto) -> None:
    made.output[:] = list(made.output)[::-1]


def swap_ports(made: FunctionProto) -> None:
    made.node[1].input[:] = ["w", "x"]


def swap_nodes(made: FunctionProto) -> None:
    nodes = list(made.node)
    del made.node[:]
    made.node.extend([nodes[1], nodes[0], *nodes[2:]])


def other_element(made: FunctionProto) -> None:
    made.node[0].attribute[0].t.CopyFrom(numpy_helper.from_array(np.array([0.5, 1.25], np.float32)))


def other_shape(made: FunctionProto) -> None:
    made.node[0].attribute[0].t.dims[:] = [1, 2]


def other_attribute(field, value):
    def change(made: FunctionProto) -> None:
        for attribute in (a for node in made.node for a in node.attribute):
            if attribute.name == field:
                attribute.CopyFrom(helper.make_attribute(field, value))

    return change


def other_type(index: int, text: str):
    return lambda f: f.value_info[index].CopyFrom(
        value_info(f.value_info[index].name, parse_type(text))
    )


CHANGES = {
    "nothing": FunctionProto.SerializeToString,
    "inputs": swap_inputs,
    "outputs": swap_outputs,
    "one output": lambda f: f.output.pop(),
    "ports": swap_ports,
    "a port": lambda f: f.node[2].input.__setitem__(1, "half"),
    "left out port": lambda f: f.node[2].input.pop(1),
    "a wire": lambda f: f.node[3].input.__setitem__(0, "y"),
    "order of nodes": swap_nodes,
    "a node": lambda f: f.node.pop(1),
    "op type": lambda f: setattr(f.node[1], "op_type", "Gemm"),
    "domain": lambda f: setattr(f.node[1], "domain", "other"),
    "overload": lambda f: setattr(f.node[1], "overload", "other"),
    "element": other_element,
    "dims": other_shape,
    "int attribute": other_attribute("keepdims", 1),
    "ints attribute": other_attribute("axes", [1, 0]),
    "fewer ints": other_attribute("axes", [0]),
    "text attribute": other_attribute("mode", "slow"),
    "float attribute": other_attribute("rate", 0.25),
    "kind of attribute": other_attribute("rate", 1),
    "no attribute": lambda f: f.node[4].attribute.pop(),
    "reference": lambda f: setattr(f.node[4].attribute[0], "ref_attr_name", "size"),
    "slot": meta(keys.SLOT, "other"),
    "no slot": meta(keys.SLOT, ""),
    "class": meta(keys.CLASS, "server"),
    "region": meta(keys.REGION, "r2"),
    "edge": meta(keys.EDGE, "e2"),
    "after": meta(keys.AFTER, "y"),
    "other after": meta(keys.AFTER, "y,z"),
    "order": meta(keys.ORDER, "y"),
    "no order": meta(keys.ORDER, ""),
    "element type": other_type(0, "tensor(float64)[n,?]"),
    "known dim": other_type(0, "tensor(float32)[n,3]"),
    "named dim": other_type(0, "tensor(float32)[n,m]"),
    "rank": other_type(0, "tensor(float32)[n]"),
    "unknown rank": other_type(0, "tensor(float32)"),
    "opaque type": other_type(2, "peers(server)"),
    "undeclared type": lambda f: f.value_info.pop(),
    "opset": lambda f: setattr(f.opset_import[0], "version", 22),
    "attribute name": lambda f: f.attribute.append("more"),
    "attribute default": lambda f: setattr(f.attribute_proto[0], "i", 3),
    "phase": lambda f: set_meta(f, keys.PHASE, "bootstrap"),
    "slots": lambda f: set_meta(f, keys.SLOTS, "{}"),
    "function's other metadata": lambda f: set_meta(f, "somebody.else", "note"),
}


def test_everything_else_counts():
    found: dict[str, str] = {}

    for what, change in CHANGES.items():
        digest = changed(change)
        assert digest not in found, f"{what} has the hash of {found[digest]}"
        found[digest] = what


TENSOR = numpy_helper.from_array(np.zeros(2, np.int64), "t")
SPARSE = helper.make_sparse_tensor(HALF, TENSOR, [4])
TYPES = [
    helper.make_tensor_type_proto(1, None),
    helper.make_sparse_tensor_type_proto(1, None),
    helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, [2])),
    helper.make_optional_type_proto(helper.make_tensor_type_proto(1, [2])),
    helper.make_map_type_proto(7, helper.make_tensor_type_proto(1, [2])),
    onnx.TypeProto(denotation="x"),
]
ATTRIBUTES = [
    [TENSOR, HALF], [TENSOR], [HALF, HALF], SPARSE, [SPARSE], [SPARSE, SPARSE], *TYPES, TYPES,
    TYPES[:2], graph(), [graph()], [graph(), graph()], graph(outer=""), "a", ["a"], ["a", "b"],
    ["ab"], 1, [1], 1.0, [1.0], -0.0, 0.0, float("inf"),
    helper.make_tensor("t", TensorProto.STRING, [2], [b"a", b"b"]),
    helper.make_tensor("t", TensorProto.STRING, [2], [b"ab", b""]),
]  # fmt: skip


def test_all_kinds_of_attributes_count():
    made = [helper.make_attribute("value", value) for value in ATTRIBUTES]
    kinds = {attribute.type for attribute in made}

    digests = set()
    for attribute in made:
        node = helper.make_node("Op", [], ["c"])
        node.attribute.append(attribute)
        digests.add(content_hash(helper.make_function("d", "F", [], ["c"], [node], [])))

    assert kinds == set(range(1, 15))
    assert len(digests) == len(ATTRIBUTES)


def test_where_external_data_lies_counts():
    digests = set()
    for location in ("a.bin", "b.bin"):
        tensor = TensorProto(data_type=1, dims=[2], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=location)
        digests.add(hash_of(tensor))

    assert len(digests) == 2


def test_wires_inside_graphs_count():
    loop = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["c"])],
        "body",
        [helper.make_empty_tensor_value_info(name) for name in "ab"],
        [helper.make_empty_tensor_value_info("c")],
        [numpy_helper.from_array(np.zeros(2), "k")],
    )
    same, other, other_initializer = (onnx.GraphProto() for _ in range(3))
    for made in (same, other, other_initializer):
        made.CopyFrom(loop)
    same.name = "renamed"
    other.node[0].input[:] = ["b", "a"]
    other_initializer.initializer[0].CopyFrom(numpy_helper.from_array(np.ones(2), "k"))
    other_initializer.sparse_initializer.append(SPARSE)

    hashes = [content_hash(with_if(g, g)) for g in (loop, same, other, other_initializer)]

    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_an_inner_input_hides_an_outer_value():
    def body(name: str) -> onnx.GraphProto:
        return helper.make_graph(
            [helper.make_node("Relu", [name], ["r1"])],
            "body",
            [helper.make_empty_tensor_value_info(name)],
            [helper.make_empty_tensor_value_info("r1")],
        )

    hiding, renamed_input = body("y"), body("p")
    capturing = body("p")
    capturing.node[0].input[:] = ["y"]

    assert content_hash(with_if(hiding, hiding)) == content_hash(
        with_if(renamed_input, renamed_input)
    )
    assert content_hash(with_if(hiding, hiding)) != content_hash(with_if(capturing, capturing))


def test_an_attribute_without_a_type_is_an_error():
    made = function()
    made.node[1].attribute.append(AttributeProto(name="odd"))

    with pytest.raises(BytesAndBrainsError, match="'odd' has no known type"):
        content_hash(made)


# --- the digest ------------------------------------------------------------------------------


def test_the_form_is_what_it_was():
    assert content_hash(function()) == (
        "b3a6b9d3a3cc30744365715e5eec59875c6f10f95807d9a21f9bdec6f16f6bb7"
    )


def test_other_hash_seeds_give_the_same_hash():
    code = "import sys, bb_ir.hashing as h, onnx; f = onnx.FunctionProto();"
    code += "f.ParseFromString(sys.stdin.buffer.read()); print(h.content_hash(f))"
    data = function().SerializeToString()

    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            input=data,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            check=True,
        ).stdout.decode().strip()
        for seed in range(3)
    }  # fmt: skip

    assert found == {content_hash(function())}


def test_a_function_read_back_has_the_same_hash():
    again = FunctionProto.FromString(function().SerializeToString())

    assert content_hash(again) == content_hash(function())


def test_a_stable_name_ends_in_sixteen_digits():
    digest = content_hash(function())

    assert len(digest) == 64
    assert stable_name("Train", digest) == f"Train#{digest[:16]}"


def test_importing_it_does_not_import_onnx():
    code = "import sys, bb_ir.hashing; print({'numpy', 'onnx'} & set(sys.modules))"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "set()"
