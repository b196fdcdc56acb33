"""The text form of models: what it looks like, and that nothing is lost."""

import re

import numpy as np
import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import (
    AttributeProto,
    FunctionProto,
    ModelProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from bb_ir import keys, onnx_tools
from bb_ir.errors import ModelTextError
from bb_ir.text import parse_model, print_model
from bb_ir.types import PARAMS, parse_type, tensor

WRITTEN = """\
model Doubler
  @root = Doubler
  @slots = {
    "backend": {"role": "backend"}
  }
  drawn

function Doubler#12(x: tensor(float32)[?], cohort: peers(client)) -> (y)
  @phase = body
  constant.0: tensor(float32)[] = onnx.Constant(value=float32[]{2.0}) @slot=backend  # my.py:9
  mul.1: tensor(float32)[?] = onnx.Mul(x, constant.0) @slot=backend @after=a,b  # my.py:9
  sent.2 = wire.Send(cohort, mul.1, deadline_ns=30, how="drop") @edge=sent
  done, _ = model.Fit(_, sent.2) @slot=model
  y: tensor(float32)[?] = syscall.Output(mul.1, name="y")
"""


def roundtrip(model):
    text = print_model(model)
    copy = parse_model(text)
    assert print_model(copy) == text
    assert copy == model
    return text


def one_op(*attributes, **fields):
    """Return a model of one function of one op."""
    node = onnx.NodeProto(op_type="Op", domain=keys.SYSCALL, output=["y"], **fields)
    node.attribute.extend(attributes)
    function = FunctionProto(name="F", domain=keys.MODULE)
    onnx_tools.set_nodes(function, [node])
    model = ModelProto(functions=[function], ir_version=11, producer_name="bytesandbrains")
    model.graph.name = "M"
    model.opset_import.extend(onnx_tools.opsets([node]))
    return model


def test_text_is_read_and_written_as_it_is():
    model = parse_model(WRITTEN)

    assert print_model(model) == WRITTEN
    function = model.functions[0]
    assert list(function.input) == ["x", "cohort"]
    assert [n.domain for n in function.node[:4]] == ["", "", keys.WIRE, keys.role_domain("model")]
    assert list(function.node[3].input) == ["", "sent.2"]
    assert list(function.node[3].output) == ["done", ""]
    assert onnx_tools.types_of(function)["x"] == parse_type("tensor(float32)[?]")
    assert onnx_tools.meta_list(function.node[1], keys.AFTER) == ["a", "b"]
    assert str(onnx_tools.source_of(function.node[0])) == "my.py:9"
    assert onnx_tools.attributes(function.node[2]) == {"deadline_ns": 30, "how": "drop"}
    assert model.graph.node[0].op_type == "Doubler#12"


def test_comments_empty_lines_and_spaces_mean_nothing():
    spaced = re.sub(r"\n(?=  [\w@]|function)", "\n\n# a comment\n  # and one more\n", WRITTEN)

    assert print_model(parse_model("\n# head\n" + spaced)) == WRITTEN


ATTRIBUTES = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(width=32, allow_nan=False),
    st.text(),
    st.binary(),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1),
    st.lists(st.floats(width=32, allow_nan=False), min_size=1),
    st.lists(st.text(), min_size=1),
)


@given(st.dictionaries(st.text(min_size=1), ATTRIBUTES, max_size=3))
def test_attributes_survive(values):
    roundtrip(one_op(*(helper.make_attribute(name, value) for name, value in values.items())))


@pytest.mark.parametrize(
    "kind", ["INTS", "FLOATS", "STRINGS", "TENSORS", "GRAPHS", "TENSOR", "GRAPH", "TYPE_PROTO"]
)
def test_empty_attributes_keep_their_kind(kind):
    roundtrip(one_op(AttributeProto(name="a", type=AttributeProto.AttributeType.Value(kind))))


@pytest.mark.parametrize(
    "array",
    [
        np.float32(2),
        np.array([1, 2, 3], np.int64),
        np.array([[0.1, 1e-30], [np.inf, -0.0]], np.float32),
        np.array([0.1, 1 / 3]),
        np.array([True, False]),
        np.zeros((0, 3), np.float32),
        np.array([1.5, 2], np.float16),
        np.array([255], np.uint8),
        np.array(["a", 'b"\n', "ü"], object),
        np.arange(1000, dtype=np.float32).reshape(10, 100),
    ],
    ids=str,
)
def test_tensors_survive(array):
    roundtrip(one_op(helper.make_attribute("value", numpy_helper.from_array(array))))


def test_small_tensors_can_be_read_and_large_ones_are_short():
    small = one_op(helper.make_attribute("v", numpy_helper.from_array(np.eye(2, dtype=np.float32))))
    large = one_op(helper.make_attribute("v", numpy_helper.from_array(np.zeros(300, np.float32))))

    assert "v=float32[2,2]{1.0, 0.0, 0.0, 1.0})" in roundtrip(small)
    assert 'v=float32[300]"AAAA' in roundtrip(large)


@pytest.mark.parametrize(
    "tensor",
    [
        TensorProto(data_type=TensorProto.FLOAT, dims=[2], float_data=[1, 2]),
        TensorProto(data_type=TensorProto.FLOAT, dims=[1], raw_data=b"\x01\x00\xc0\x7f", name="n"),
        TensorProto(data_type=TensorProto.BFLOAT16, dims=[1], raw_data=b"\x80\x3f"),
        TensorProto(data_type=TensorProto.COMPLEX64, dims=[1], raw_data=bytes(8)),
        TensorProto(data_type=TensorProto.FLOAT, dims=[3], raw_data=bytes(5)),
        TensorProto(data_type=TensorProto.FLOAT, dims=[-1], raw_data=bytes(8)),
        TensorProto(data_type=TensorProto.FLOAT, dims=[1 << 40, 1 << 40], raw_data=bytes(8)),
        TensorProto(
            data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL,
            external_data=[onnx.StringStringEntryProto(key="location", value="w.bin")],
        ),
    ],
)  # fmt: skip
def test_tensors_of_every_make_survive(tensor):
    roundtrip(one_op(AttributeProto(name="value", type=AttributeProto.TENSOR, t=tensor)))


def test_graphs_in_attributes_survive():
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "g", [], [])

    roundtrip(one_op(helper.make_attribute("then_branch", graph)))


def test_references_to_attributes_survive():
    roundtrip(one_op(AttributeProto(name="a", ref_attr_name="b", type=AttributeProto.INT)))


@given(st.lists(st.tuples(st.text(), st.text()), max_size=4), st.booleans())
def test_metadata_survives_in_its_order(entries, ours):
    model = one_op()
    for holder in (model, model.functions[0], model.functions[0].node[0]):
        for key, value in entries:
            holder.metadata_props.add(key=keys.PREFIX * ours + key, value=value)

    roundtrip(model)


@pytest.mark.parametrize("first", [True, False])
def test_source_survives_wherever_it_stands(first):
    model = one_op()
    props = model.functions[0].node[0].metadata_props
    order = [(keys.SOURCE, "a b.py:3"), (keys.SLOT, "x")] if first else [(keys.SLOT, "x")]
    for key, value in [*order, *([] if first else [(keys.SOURCE, "a.py:3")])]:
        props.add(key=key, value=value)

    roundtrip(model)


@pytest.mark.parametrize(
    "value",
    ["[]", "{}", '[1, "a", {"b": null}]', '{"a": [1.5, true]}', "[1,2]", "[nonsense", '{"a":1}'],
)
def test_json_in_metadata_survives(value):
    model = one_op()
    onnx_tools.set_meta(model, "ai.bytesandbrains.table", value)

    roundtrip(model)


def test_tables_are_written_a_row_a_line():
    model = one_op()
    onnx_tools.set_meta(model, keys.EDGES, '[{"name": "a"}, {"name": "b"}]')

    assert '  @edges = [\n    {"name": "a"},\n    {"name": "b"}\n  ]\n' in roundtrip(model)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4, unique=True))
@example(["type"])
@example(["domain"])
@example(["rest", "_"])
@example(["imports2"])
def test_names_survive(names):
    node = onnx.NodeProto(op_type=names[0], domain=names[-1], input=names, output=names)
    function = FunctionProto(name=names[0], domain=names[-1], input=names, output=names)
    onnx_tools.set_types(function, [(name, PARAMS) for name in names])
    onnx_tools.set_nodes(function, [node])
    model = ModelProto(functions=[function], ir_version=11, producer_name="bytesandbrains")
    model.graph.name = names[0]
    model.opset_import.extend(onnx_tools.opsets([node]))

    roundtrip(model)


@pytest.mark.parametrize(
    "infos",
    [
        [onnx_tools.value_info("elsewhere", PARAMS), onnx_tools.value_info("y", tensor())],
        [onnx_tools.value_info("y", PARAMS), onnx_tools.value_info("y", PARAMS)],
        [ValueInfoProto(name="y")],
        [ValueInfoProto(name="y", type=helper.make_sequence_type_proto(TypeProto()))],
        [ValueInfoProto(name="y", type=TypeProto(
            opaque_type=TypeProto.Opaque(domain=keys.TYPE_DOMAIN, name="no type at all")))],
    ],
)  # fmt: skip
def test_declarations_of_every_make_survive(infos):
    model = one_op()
    model.functions[0].value_info.extend(infos)

    roundtrip(model)


def test_fields_that_are_not_usual_survive():
    model = one_op(name="n", overload="o")
    model.ir_version, model.model_version = 9, 3
    model.producer_name, model.producer_version, model.domain = 'an"other', "1.2", "org.other"
    model.opset_import[0].version = 21
    model.opset_import.add(domain="org.other", version=2)
    function = model.functions[0]
    function.overload, function.domain = "f", "org.other"
    function.attribute.append("alpha")
    function.attribute_proto.add(name="beta", type=AttributeProto.INT, i=3)
    del function.opset_import[:]

    text = roundtrip(model)

    assert "imports onnx=21, module=1" in text


def test_main_graphs_of_every_make_survive():
    model = one_op()
    model.graph.node.add(op_type="F", domain=keys.MODULE, output=["y"])

    assert "  graph proto" in roundtrip(model)


def test_documentation_is_left_out():
    model = one_op(helper.make_attribute("a", 1))
    plain = print_model(model)
    model.doc_string = model.graph.doc_string = "why"
    model.functions[0].doc_string = "why"
    model.functions[0].node[0].doc_string = "why"
    model.functions[0].node[0].attribute[0].doc_string = "why"

    assert print_model(model) == plain


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, character 1"),
        ("function F() -> ()", "'model'"),
        ("model M\n  nonsense 3\n", "a field of the model"),
        ("model M\n  ir x\n", "JSON"),
        ("model M\n  graph 3\n", "'proto'"),
        ('model M\n  graph proto"!!"\n', "base64 of a GraphProto"),
        ("model M\nfunction F() -> (\n", "a name"),
        ("model M\nfunction F() -> ()\n  a = Op()\n", "a domain before the op's name"),
        ("model M\nfunction F() -> ()\n  a = other.Op()\n", "a domain before the op's name"),
        ("model M\nfunction F() -> ()\n  a = wire.Op(\n", "a name"),
        ("model M\nfunction F() -> ()\n  a: tensr = wire.Op()\n", "a type: 'tensr'"),
        (
            "model M\nfunction F() -> ()\n  a = wire.Op(b=x)\n",
            "a number, a text, a list or a tensor",
        ),
        ("model M\nfunction F() -> ()\n  a = wire.Op(b=float33[])\n", "an element type"),
        ('model M\nfunction F() -> ()\n  a = wire.Op(b="x)\n', "quotation marks"),
        ("model M\nfunction F() -> ()\n  a = wire.Op() nonsense\n", "'\\n'"),
        ("model M\n  @root = M extra\n", "'\\n'"),
        ("model M\nfunction F() -> ()\n  a = wire.Op() %nonsense=1\n", "a value that fits"),
        ("model M\nfunction F() -> ()\n  a = wire.Op(b=string[1]{3})\n", "a tensor of texts"),
        ("model M\n  @regions = " + "[" * 100_000 + "\n", "a value that fits"),
    ],
)
def test_text_that_is_no_model(text, message):
    with pytest.raises(ModelTextError) as caught:
        parse_model(text)

    assert message in str(caught.value)
    assert f"line {max(1, text.count(chr(10)))}" in str(caught.value)


@given(st.integers(0, len(WRITTEN)), st.text(max_size=3))
def test_damaged_text_is_a_model_or_a_typed_error(at, change):
    try:
        model = parse_model(WRITTEN[:at] + change + WRITTEN[at + 1 :])
    except ModelTextError:
        return
    roundtrip(model)
