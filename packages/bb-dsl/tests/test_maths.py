"""Operators on recorded values: what they write down, of which type, and what they refuse."""

import numpy as np
import pytest

from bb_dsl import BuildError, Module, slots
from bb_dsl.errors import BadOption, NoBackendInScope, NoValueYet, UnknownType
from bb_ir import keys, onnx_tools
from bb_ir.types import scalar, tensor

INT, FLOAT, BOOL, TEXT = (scalar(kind) for kind in ("int64", "float64", "bool", "string"))


class Program(Module):
    backend = slots.Backend()

    def __init__(self, body):
        super().__init__()
        self.record = body

    def body(self, g):
        self.record(g)


class Plain(Program):
    """Has no Backend."""

    backend = None


def result(calculation, *inputs, make=Plain):
    """Record a calculation of inputs of some types; return its type, and the last op."""
    found = []

    def body(g):
        found.append(calculation(*(g.input(f"x{at}", one) for at, one in enumerate(inputs))))
        g.output("y", found[0])

    function = make(body).build().functions[0]
    return found[0].type, function.node[-2]


@pytest.mark.parametrize(
    ("calculation", "inputs", "expected"),
    [
        (lambda a, b: a + b, [INT, INT], INT),
        (lambda a, b: a - b, [INT, FLOAT], FLOAT),
        (lambda a: a * 2, [INT], INT),
        (lambda a: 2 * a, [INT], INT),
        (lambda a: a * 0.5, [INT], FLOAT),
        (lambda a: a / 2, [INT], FLOAT),
        (lambda a: a % 2, [INT], INT),
        (lambda a: 7 % a, [INT], INT),
        (lambda a: a**2, [INT], FLOAT),
        (lambda a: -a, [INT], INT),
        (lambda a: -a, [FLOAT], FLOAT),
        (lambda a: a + "b", [TEXT], TEXT),
        (lambda a, b: a + b, [INT, "any"], FLOAT),
        (lambda a: a < 3, [INT], BOOL),
        (lambda a: a <= 3.5, [INT], BOOL),
        (lambda a, b: a > b, [FLOAT, INT], BOOL),
        (lambda a: 3 >= a, [INT], BOOL),  # noqa: SIM300  # a number on the left is what is tested
        (lambda a: a.equals(3), [INT], BOOL),
        (lambda a: a.equals("b"), [TEXT], BOOL),
        (lambda a: a.equals(True), [BOOL], BOOL),
        (lambda a: a.equals(3), ["any"], BOOL),
        (lambda a: a < 0.1, ["any"], BOOL),
        (lambda a, b: a & b, [BOOL, BOOL], BOOL),
        (lambda a: a | False, [BOOL], BOOL),
        (lambda a: ~a, [BOOL], BOOL),
        (lambda a: ~a, ["any"], BOOL),
    ],
)
def test_plain_values_need_no_backend(calculation, inputs, expected):
    known, op = result(calculation, *inputs)

    assert (op.op_type, known) == ("Calculate", expected)


@pytest.mark.parametrize(
    ("calculation", "inputs", "op_type", "dtype"),
    [
        (lambda a: a < 1.0, ["tensor(float32)"], "Less", "bool"),
        (lambda a, b: a.equals(b), ["tensor(int64)", "tensor(int64)"], "Equal", "bool"),
        (lambda a, b: a & b, ["tensor(bool)", "tensor(bool)"], "And", "bool"),
        (lambda a: ~a, ["tensor(bool)"], "Not", ""),
        (lambda a: a + 1, ["tensor(float32)"], "Add", "float32"),
        (lambda a: a % 2, ["tensor(int64)"], "Mod", "int64"),
        (lambda a: a + 1, ["any"], "Add", ""),
        (lambda a, b: a @ b, ["any", "any"], "MatMul", ""),
    ],
)
def test_tensors_go_to_the_backend(calculation, inputs, op_type, dtype):
    known, op = result(calculation, *inputs, make=Program)

    assert op.op_type == op_type
    assert known.kind == "tensor"
    assert known.dtype in (dtype, "bool")
    unknown = set(inputs) == {"any"} and op_type != "MatMul"
    with pytest.raises(UnknownType if unknown else NoBackendInScope):
        result(calculation, *inputs)


def test_number_stands_where_the_value_stands_that_it_is_used_with():
    def body(g):
        x = g.input("x", INT)
        g.output("y", x + 1)
        with g.at("elsewhere"):
            g.output("z", x + 1)

    nodes = Plain(body).build().functions[0].node

    places = [onnx_tools.get_meta(n, keys.AT) for n in nodes if n.op_type == "Scalar"]
    assert places == ["value:x", "class:elsewhere"]


def test_operands_keep_their_order():
    _, op = result(lambda a: 10 - a, INT)

    assert list(op.input) == ["scalar.1", "x0"]
    assert onnx_tools.attributes(op) == {"how": "subtract"}


@pytest.mark.parametrize(
    ("calculation", "inputs", "text"),
    [
        (lambda a: a < "b", [INT], "two numbers"),
        (lambda a: a + "b", [INT], "two numbers or two texts"),
        (lambda a: a + 1, [BOOL], "two numbers or two texts"),
        (lambda a: -a, [BOOL], "two numbers"),
        (lambda a: -a, [TEXT], "two numbers"),
        (lambda a: a.equals("b"), [INT], "two numbers, two texts or two truth values"),
        (lambda a: a & True, [INT], "two truth values"),
        (lambda a: a < "b", [TEXT], "two numbers"),
        (lambda a: ~a, [INT], "a truth value, or a tensor of them"),
        (lambda a: ~a, ["record"], "a truth value, or a tensor of them"),
        (lambda a: a < 1, ["record"], "read a field of it: value['name']"),
        (lambda a: a + a, ["params"], "a number, a truth value, a text or a tensor"),
        (lambda a, b: a * b, ["tensor(float32)", INT], "plain values on both"),
        (lambda a, b: a < b, [FLOAT, "tensor(float32)"], "plain values on both"),
        (lambda a, b: a @ b, [INT, INT], "tensors on both sides"),
    ],
)
def test_operands_that_do_not_fit(calculation, inputs, text):
    with pytest.raises(BuildError) as caught:
        result(calculation, *inputs, make=Program)

    assert type(caught.value) is BadOption
    assert text in str(caught.value)
    assert [place.file.rpartition("/")[2] for place in caught.value.where] == ["test_maths.py"]


@pytest.mark.parametrize("other", [3, 0.5, "b", True, np.float32(3), np.int64(3), np.ones(2)])
def test_equality_by_its_sign(other):
    with pytest.raises(NoValueYet, match=r"value.equals\(...\) records the comparison"):
        result(lambda a: a == other, "any")
    with pytest.raises(TypeError, match="cannot be compared"):
        result(lambda a: a != other, "any")
    with pytest.raises(TypeError, match="cannot be compared"):
        result(lambda a: other == a, "any")


@pytest.mark.parametrize(
    "use",
    [
        lambda a: a and a,
        lambda a: not a,
        lambda a: 1 < (a + 1) < 3,
        lambda a: 1 if a else 2,
    ],
)
def test_truth_of_a_value_while_recording(use):
    with pytest.raises(
        NoValueYet, match=r"(?s)has no truth value while a program is recorded.*`&`"
    ):
        result(use, INT)


def test_whole_numbers_of_a_program_have_64_bits():
    with pytest.raises(BadOption, match="64 bits"):
        result(lambda a: a + 2**63, INT)
    known, _ = result(lambda a: a + (2**63 - 1), INT)
    assert known == INT


def test_result_of_tensors_has_the_element_type_of_its_operands():
    known, _ = result(lambda a: 2 * a + 1, tensor("float64", (3,)), make=Program)

    assert known.dtype == "float64"


@pytest.mark.parametrize(
    "calculation",
    [
        lambda m: m["loss"] + 1,
        lambda m: 2 * m["loss"],
        lambda m: m["loss"] / m["best"],
        lambda m: -m["loss"],
    ],
)
@pytest.mark.parametrize("make", [Plain, Program])
def test_arithmetic_on_a_field_of_unknown_type(calculation, make):
    with pytest.raises(UnknownType) as caught:
        result(calculation, "record", make=make)

    assert "field 'loss' of 'x0', the type of which is not known" in str(caught.value)
    assert 'g.field(x0, "loss", "float64")' in caught.value.fix


def test_field_that_was_sent_is_named():
    class Sends(Plain):
        peers = slots.PeerSelector(of="client")

    def body(g):
        loss = g.input("metrics", "record")["loss"]
        there = g.net_out("loss", program.peers.sample(g, 1), g.me(), loss)[1]
        there * 2

    program = Sends(body)
    with pytest.raises(UnknownType, match="field 'loss' of 'metrics'"):
        program.build()


def test_field_of_a_type_that_is_said_is_a_number():
    def calculate(m):
        return m.graph.field(m, "loss", "float64") * 2 + m["count"]

    known, op = result(calculate, "record")

    assert (op.op_type, known) == ("Calculate", FLOAT)
