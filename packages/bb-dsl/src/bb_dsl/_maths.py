"""Operators on recorded values: tensors go to the Backend in scope, plain numbers need none.

A value whose type is not known counts as a tensor in arithmetic, where there is a Backend, and as a
plain value in comparisons. A field of a record is a number more often than not, so arithmetic asks
for its type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from bb_dsl._source import user_line
from bb_dsl.errors import BadOption, UnknownType
from bb_ir import keys, onnx_tools
from bb_ir.types import SCALARS, Type, scalar, tensor

if TYPE_CHECKING:
    from onnx import NodeProto

    from bb_dsl._output import Output

__all__ = ["COMPARISONS", "binary", "negation", "negative"]

#: How it is called -> the ONNX op.
COMPARISONS = {
    "equal": "Equal",
    "less": "Less",
    "less_or_equal": "LessOrEqual",
    "greater": "Greater",
    "greater_or_equal": "GreaterOrEqual",
}
_LOGIC = {"and": "And", "or": "Or"}
_ARITHMETIC = {
    "add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div", "modulo": "Mod",
    "power": "Pow", "matmul": "MatMul",
}  # fmt: skip
_ONNX = COMPARISONS | _LOGIC | _ARITHMETIC
_EXPECTED = {
    "equal": "two numbers, two texts or two truth values",
    "add": "two numbers or two texts",
}


def binary(how: str, a: Output | float | str, b: Output | float | str) -> Output:
    """Record an operator with two operands, one of which is a recorded value."""
    values = [cast("Output", value) for value in (a, b) if _recorded(value)]
    graph = values[0].graph
    kinds = {value.type.kind for value in values}
    odd = next((v for v in values if v.type.kind not in ("tensor", "any", *SCALARS)), None)
    if odd is not None:
        raise BadOption(
            f"{how} of {odd!r}",
            expected="a number, a truth value, a text or a tensor",
            fix="read a field of it: value['name']" if odd.type.kind == "record" else "",
            where=user_line(),
        )
    plain = kinds <= {*SCALARS, "any"} and (kinds != {"any"} or how not in _ARITHMETIC)
    if not plain or how == "matmul":
        _check_tensors(how, values)
        _check_known(how, values)
        made = graph.tensor_op(_ONNX[how], cast("Any", a), cast("Any", b))
        if how not in _ARITHMETIC:
            made.type = graph.types[made.name] = tensor("bool")
        return made
    operands = [
        graph.own(v) if _recorded(v) else graph.scalar_for(values[0], cast("Any", v))
        for v in (a, b)
    ]
    return graph.calculate(how, operands, _result(how, operands))


def _recorded(value: object) -> bool:
    return hasattr(value, "graph")


def negation(value: Output) -> Output:
    """Record the opposite of a truth value."""
    if value.type.kind in ("bool", "any"):
        return value.graph.calculate("not", [value.graph.own(value)], scalar("bool"))
    if value.type.kind != "tensor":
        raise BadOption(
            f"not of {value!r}", expected="a truth value, or a tensor of them", where=user_line()
        )
    return value.graph.tensor_op("Not", value)


def negative(value: Output) -> Output:
    """Record the negative of a number or a tensor."""
    if value.type.kind in SCALARS:
        return binary("multiply", value, -1)
    _check_known("the negative", [value])
    return value.graph.tensor_op("Neg", value)


def _check_known(how: str, values: list[Output]) -> None:
    """Check that of values whose type is not known something says that they are tensors."""
    if {value.type.kind for value in values} != {"any"}:
        return
    number = how != "matmul"
    for value in values:
        graph, maker = value.graph, _origin(value)
        field = maker is not None and maker.op_type == "Field"
        if not field and (graph.has_backend() or not number):
            continue
        what = repr(value.label)
        kind = "float64" if number else "tensor(float32)"
        fix = f'say the type where it is made: g.input("{value.label}", "{kind}")'
        if field and maker is not None:
            name = onnx_tools.attributes(maker)["name"]
            record = maker.input[0].rpartition(".")[0] or maker.input[0]
            what = f"field {name!r} of {record!r}"
            fix = f'g.field({record}, "{name}", "{kind}") says what it is'
        raise UnknownType(
            f"{how} of {what}, the type of which is not known",
            expected="a number, or a tensor for a Backend",
            fix=fix,
            where=tuple(dict.fromkeys((user_line(), *graph.lines_of(value)))),
        )


def _origin(value: Output) -> NodeProto | None:
    """Return the op that made a value, where it was sent from; `None` for an input."""
    graph = value.graph
    maker = graph.maker_of(value.name)
    name = value.name
    while maker is not None and maker.domain == keys.WIRE and maker.op_type == keys.SEND:
        at = list(maker.output).index(name)
        if at + 1 >= len(maker.input):
            return maker
        name = maker.input[at + 1]
        maker = graph.maker_of(name)
    return maker


def _check_tensors(how: str, values: list[Output]) -> None:
    """Check that no plain number stands beside a tensor: a Backend takes tensors only."""
    odd = next((value for value in values if value.type.kind in SCALARS), None)
    if odd is not None:
        tensors = [value for value in values if value is not odd]
        beside = f" beside {tensors[0]!r}" if tensors else ""
        raise BadOption(
            f"{how} of {odd!r}{beside}",
            expected="tensors on both sides, or plain values on both",
            fix="a number known while recording can stand there as it is, others are declared as "
            "tensors: g.input(name, 'tensor(float32)')",
            where=user_line(),
        )


def _result(how: str, operands: list[Output]) -> Type:
    unknown = any(value.type.kind == "any" for value in operands)
    kinds = {value.type.kind for value in operands} - {"any"}
    wanted = {"bool"} if how in _LOGIC else {"int64", "float64"}
    text = how in ("equal", "add") and kinds == {"string"}
    truth = how == "equal" and kinds == {"bool"}
    if not (kinds <= wanted or text or truth):
        raise BadOption(
            f"{how} of {operands[0]!r} and {operands[1]!r}",
            expected=_EXPECTED.get(how, "two truth values" if how in _LOGIC else "two numbers"),
            where=user_line(),
        )
    if how in COMPARISONS or how in _LOGIC:
        return scalar("bool")
    if text:
        return scalar("string")
    whole = kinds == {"int64"} and not unknown and how not in ("divide", "power")
    return scalar("int64" if whole else "float64")
