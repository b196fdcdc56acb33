"""Ops that plugins add: ops of no slot, carried out by a pure function.

Their domain is the plugin's. The recorder writes the schema of such an op onto its node, so that
recorder, compiler and runtime need not import the plugin to know what goes in and comes out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from bb_ir import keys
from bb_ir.framework_ops import Unfit
from bb_ir.lengths import Lengths
from bb_ir.ops import OpSchema, parse_schema
from bb_ir.type_texts import brief
from bb_ir.types import Type, meet

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = ["is_plugin_domain", "misuse", "plugin_schema", "result_types"]

_OURS: Final = frozenset({keys.SYSCALL, keys.WIRE, keys.MODULE, keys.FUSED})


def is_plugin_domain(domain: str) -> bool:
    """Tell whether a plugin may have an op domain: it is none of ONNX, of a role, or of ours."""
    return domain not in _OURS and not keys.role_of(domain)


def plugin_schema(node: NodeProto) -> OpSchema | None:
    """Return the schema of an op that a plugin adds; `None` for other ops, and without one.

    Raises:
        OpSchemaError: The node carries a schema that cannot be read.
    """
    if not is_plugin_domain(node.domain):
        return None
    text = next((e.value for e in node.metadata_props if e.key == keys.SCHEMA), None)
    return None if text is None else parse_schema(node.op_type, text)


def misuse(schema: OpSchema, inputs: int, attributes: Collection[str]) -> str:
    """Return what is wrong with the inputs and attributes of a call; an empty text if nothing is.

    Args:
        schema: The op.
        inputs: How many inputs it is given.
        attributes: Names of the attributes that it is given.
    """
    known = {a.name for a in schema.attributes}
    missing = [a.name for a in schema.attributes if a.default is None and a.name not in attributes]
    odd = sorted(name for name in attributes if name not in known)
    if inputs != len(schema.inputs):
        return f"{inputs} inputs instead of {len(schema.inputs)}"
    if missing:
        return f"no attribute {missing[0]!r}"
    return f"an attribute {odd[0]!r}, which it does not have" if odd else ""


def result_types(
    schema: OpSchema, given: Sequence[Type], attributes: Mapping[str, Any]
) -> tuple[Type, ...] | Unfit:
    """Return the types of an op's results.

    Args:
        schema: The op.
        given: Types of its inputs, as far as they are known; as many as it has.
        attributes: Its attributes.

    Returns:
        A type for each result, with lengths that follow from those of the inputs; or which input
        does not fit.
    """
    whole = {name: one for name, one in attributes.items() if type(one) is int}
    lengths = Lengths(whole)
    for at, (port, known) in enumerate(zip(schema.inputs, given, strict=True)):
        wanted = lengths.fill(port.type)
        lengths.learn(port.type, known)
        if meet(wanted, known) is None:
            return Unfit(at, f"{brief(wanted)} for {port.name!r}")
    return tuple(lengths.result(port.type) for port in schema.results)
