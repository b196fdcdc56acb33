"""The table of role ops is whole and fits the keys."""

from dataclasses import replace

import pytest
from onnx import FunctionProto, helper

from bb_ir import keys, onnx_tools
from bb_ir.errors import OpSchemaError
from bb_ir.hashing import content_hash
from bb_ir.ops import (
    ROLE_OPS,
    Attribute,
    OpSchema,
    Port,
    ops,
    parse_schema,
    role_op,
    schema_of,
)
from bb_ir.text import parse_model, print_model
from bb_ir.types import ANY, TRIGGER, peers, record, scalar, tensor

OPS = [(role, op) for role, ops in ROLE_OPS.items() for op in ops.values()]


def test_every_role_has_its_ops():
    assert set(ROLE_OPS) == set(keys.ROLES) - {"backend"}


@pytest.mark.parametrize(("role", "op"), OPS, ids=lambda v: getattr(v, "name", v))
def test_op_is_found_by_its_domain(role, op):
    assert role_op(keys.role_domain(role), op.name) is op
    assert role_op(keys.role_domain(role), op.name + "s") is None


@pytest.mark.parametrize(("role", "op"), OPS, ids=lambda v: getattr(v, "name", v))
def test_op_has_results_that_can_be_waited_for(role, op):
    assert op.results
    if not op.outputs:
        assert [port.type for port in op.results] == [TRIGGER]
    names = [port.name for port in (*op.inputs, *op.attributes)]
    assert len(set(names)) == len(names), "inputs and attributes are parameters of one method"
    assert op.effect in ("reads", "writes")


def test_tensor_ops_and_framework_ops_are_no_role_ops():
    assert role_op("", "Add") is None
    assert role_op(keys.ONNX, "Add") is None
    assert role_op(keys.WIRE, keys.SEND) is None


def test_domains_of_roles():
    assert keys.role_of("") == keys.role_of(keys.ONNX) == "backend"
    assert keys.role_of(keys.role_domain("data_source")) == "data_source"
    assert keys.role_of(keys.SYSCALL) == ""


def test_table_cannot_be_changed():
    with pytest.raises(TypeError):
        ROLE_OPS["model"] = {}
    with pytest.raises(TypeError):
        ROLE_OPS["model"]["Forward"] = None


GREET = OpSchema(
    "Greet",
    "greet",
    (Port("name", scalar("string")), Port("facts", record({"n": scalar("int64")}))),
    (Port("card", record({"peers": peers("guest")})), Port("x", tensor("float32", (None, "n")))),
    (Attribute("times", 2), Attribute("tone"), Attribute("rate", 0.5), Attribute("mood", "ä")),
    "reads",
    closes_round=True,
)


PROTOCOL = keys.role_domain("protocol")


def node(op="Greet", text="", domain=PROTOCOL):
    made = helper.make_node(op, [], ["out"], domain=domain)
    onnx_tools.set_meta(made, keys.SCHEMA, text)
    return made


@pytest.mark.parametrize("schema", [GREET, OpSchema("Ping", "ping")], ids=lambda s: s.name)
def test_schema_survives_its_text(schema):
    text = schema.text()

    assert parse_schema(schema.name, text) == schema
    assert schema_of(node(schema.name, text)) == schema
    assert "\n" not in text


def test_text_of_a_schema_leaves_out_what_is_usual():
    assert OpSchema("Ping", "ping").text() == '{"method":"ping"}'


def test_schema_reads_like_a_signature():
    assert str(GREET) == (
        "Greet(name: string, facts: record(n:int64), times=2, tone, rate=0.5, mood='ä') -> "
        "(card: record(peers:peers(guest)), x: tensor(float32)[?,n])"
    )


@pytest.mark.parametrize(("role", "op"), OPS, ids=lambda v: getattr(v, "name", v))
def test_schema_of_a_node_is_that_of_the_table(role, op):
    assert schema_of(node(op.name, domain=keys.role_domain(role))) is op


def test_nodes_of_no_role_have_no_schema():
    assert schema_of(node("Add", domain="")) is None
    assert schema_of(node("Send", domain=keys.WIRE)) is None
    assert schema_of(node("Greet")) is None


@pytest.mark.parametrize(
    ("op", "domain"),
    [("Forward", keys.role_domain("model")), ("Add", ""), ("Send", keys.WIRE),
     ("Greet", keys.role_domain("juggler"))],
)  # fmt: skip
def test_schema_where_none_belongs_counts_for_nothing(op, domain):
    assert schema_of(node(op, GREET.text(), domain)) is role_op(domain, op)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        '"method"',
        "{}",
        '{"method":7}',
        '{"method":"__class__"}',
        '{"method":"a.b"}',
        '{"method":"ping","inputs":[["a","strange"]]}',
        '{"method":"ping","inputs":[["a","int64"],["a","int64"]]}',
        '{"method":"ping","inputs":[["a"]]}',
        '{"method":"ping","inputs":7}',
        '{"method":"ping","attributes":[["a",[1]]]}',
        '{"method":"ping","attributes":[[]]}',
        '{"method":"ping","effect":"explodes"}',
        '{"method":"ping","closes_round":1}',
        '{"method":"ping","colour":"red"}',
        '{"method":"ping","inputs":[]}',  # the usual is left out
        '{"method": "ping"}',  # one spelling only, so that equal schemas are equal texts
        '{"method":"close","method":"ping"}',
        "[" * 100_000,
    ],
    ids=range(22),
)
def test_text_that_is_no_schema_is_refused(text):
    with pytest.raises(OpSchemaError, match="op 'Ping'"):
        parse_schema("Ping", text)


def test_ops_go_by_name_and_cannot_be_changed():
    made = ops(GREET, OpSchema("Ping", "ping"))

    assert list(made) == ["Greet", "Ping"]
    with pytest.raises(TypeError):
        made["Pong"] = GREET


@pytest.mark.parametrize(
    ("schemas", "found"),
    [
        ((GREET, GREET), "two ops are called 'Greet'"),
        ((OpSchema("no name", "ping"),), "'no name' cannot be a name"),
        ((OpSchema("Ping", "_ping"),), "'_ping' cannot be a name"),
        ((OpSchema("Ping", "ping", (Port("a", ANY),), (), (Attribute("a"),)),), "called 'a'"),
        ((OpSchema("Ping", "ping", (), (Port("a", ANY), Port("a", ANY))),), "two outputs"),
        ((OpSchema("Ping", "ping", effect="none"),), "its effect is 'none'"),
    ],
)
def test_ops_that_cannot_be_are_refused(schemas, found):
    with pytest.raises(OpSchemaError, match=found):
        ops(*schemas)


def test_schema_counts_in_the_content_hash_and_is_printed():
    def function(schema):
        made = FunctionProto(name="f", domain=keys.MODULE, output=["out"])
        onnx_tools.set_nodes(made, [node("Greet", schema.text())])
        return made

    one, other = function(GREET), function(replace(GREET, effect="writes"))
    model = helper.make_model(helper.make_graph([], "m", [], []), functions=[one])

    assert content_hash(one) != content_hash(other)
    assert "@schema=" in print_model(model)
    assert list(parse_model(print_model(model)).functions) == [one]
