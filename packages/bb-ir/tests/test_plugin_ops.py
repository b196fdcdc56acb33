"""Ops of plugins: whose domain it is, what a call lacks, and what follows from its inputs."""

import pytest
from onnx import helper

from bb_ir import keys, onnx_tools
from bb_ir.errors import OpSchemaError
from bb_ir.framework_ops import Unfit
from bb_ir.ops import Attribute, OpSchema, Port
from bb_ir.plugin_ops import is_plugin_domain, misuse, plugin_schema, result_types
from bb_ir.types import ANY, list_of, record, scalar, tensor

JOIN = OpSchema(
    "Join",
    "join",
    (Port("a", tensor("float32", ("n", "d"))), Port("b", tensor("float32", ("m", "d")))),
    (Port("rows", tensor("float32", ("k", "d"))), Port("lengths", list_of(scalar("int64")))),
    (Attribute("k"), Attribute("how", "inner")),
)


@pytest.mark.parametrize("domain", ["acme", "acme.ops", "ai.bytesandbrains.acme", "ai.onnx.ml"])
def test_a_domain_of_its_own_is_a_plugins(domain):
    assert is_plugin_domain(domain)


@pytest.mark.parametrize(
    "domain", ["", "ai.onnx", keys.SYSCALL, keys.WIRE, keys.FUSED, keys.role_domain("model")]
)
def test_domains_that_have_a_meaning_are_no_plugins(domain):
    assert not is_plugin_domain(domain)


@pytest.mark.parametrize(
    ("inputs", "attributes", "wrong"),
    [
        (2, {"k": 3}, ""),
        (2, {"k": 3, "how": "outer"}, ""),
        (1, {"k": 3}, "1 inputs instead of 2"),
        (2, {"how": "outer"}, "no attribute 'k'"),
        (2, {"k": 3, "on": "id"}, "an attribute 'on', which it does not have"),
    ],
)
def test_what_is_wrong_with_a_call_is_told(inputs, attributes, wrong):
    assert misuse(JOIN, inputs, attributes) == wrong


def test_lengths_follow_from_inputs_and_attributes():
    given = (tensor("float32", (5, 3)), tensor("float32", (2, 3)))

    rows, lengths = result_types(JOIN, given, {"k": 4, "how": "inner"})

    assert rows == tensor("float32", (4, 3))
    assert lengths == list_of(scalar("int64"))


def test_what_is_not_known_yet_stays_open():
    rows, _ = result_types(JOIN, (ANY, ANY), {"k": True})

    assert rows == tensor("float32", ("k", None))


@pytest.mark.parametrize(
    ("given", "at", "expected"),
    [
        ((tensor("float64"), ANY), 0, "'a'"),
        ((ANY, record({"x": scalar("int64")})), 1, "'b'"),
        ((tensor("float32", (5, 3)), tensor("float32", (2, 4))), 1, "3]"),
    ],
)
def test_an_input_that_does_not_fit_is_named(given, at, expected):
    found = result_types(JOIN, given, {"k": 4})

    assert isinstance(found, Unfit)
    assert found.at == at
    assert expected in found.expected


def test_the_schema_of_a_node_is_read():
    node = helper.make_node("Join", ["a", "b"], ["rows", "lengths"], domain="acme")
    assert plugin_schema(node) is None

    onnx_tools.set_meta(node, keys.SCHEMA, JOIN.text())
    assert plugin_schema(node) == JOIN

    onnx_tools.set_meta(node, keys.SCHEMA, "[]")
    with pytest.raises(OpSchemaError):
        plugin_schema(node)
    node.domain = keys.SYSCALL
    assert plugin_schema(node) is None
