"""Part of pass 6: ops that components add to their roles must be those that the slots are used for.

The recorder wrote the schema of such an op onto its node; what the bound component offers stands
in its binding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx import ModelProto, NodeProto

from bb_compiler._placement_errors import lines_of
from bb_compiler.errors import ComponentOpMisfit, Findings
from bb_ir import keys, onnx_tools
from bb_ir.errors import closest
from bb_ir.ops import OpSchema, parse_schema

__all__ = ["check_own_ops"]


def check_own_ops(
    model: ModelProto, table: Mapping[str, Mapping[str, Mapping[str, Any]]], findings: Findings
) -> None:
    """Compare what slots are used for with what their components offer.

    Args:
        model: The recorded model.
        table: Class -> slot -> binding.
        findings: Where each misfit is told, once for all uses on one line.
    """
    for function in model.functions:
        for node in function.node:
            text = onnx_tools.get_meta(node, keys.SCHEMA)
            if not text:
                continue
            cls = onnx_tools.get_meta(node, keys.CLASS)
            row = table.get(cls, {}).get(onnx_tools.get_meta(node, keys.SLOT))
            if row is not None and row["ops"].get(node.op_type) != text:
                findings.add(_misfit(node, text, row))


def _misfit(node: NodeProto, text: str, row: Mapping[str, Any]) -> ComponentOpMisfit:
    offered = {name: parse_schema(name, form) for name, form in row["ops"].items()}
    slot, component, name = row["slot"], row["component"], node.op_type
    wanted = parse_schema(name, text)
    if name in offered:
        return ComponentOpMisfit(
            f"slot {slot!r} is used for {_shown(wanted)}, of which {component!r} has another form",
            expected=_shown(offered[name]),
            fix="declare the slot with the class that comes with the installed component",
            where=lines_of(node),
        )
    close = closest(name, list(offered))
    bind = f'bind_{row["role"]}("{slot}", "<component>") with a component that has it'
    return ComponentOpMisfit(
        f"slot {slot!r} is used for {wanted}, which {component!r} does not have",
        expected=", ".join(map(str, offered.values())) or "no op beside those of its role",
        fix=f"did you mean {close!r}?" if close else bind,
        where=lines_of(node),
    )


def _shown(schema: OpSchema) -> str:
    """Return all of a schema; its text shows neither the method nor what it does."""
    ends = ", closes the round" if schema.closes_round else ""
    return f"{schema} by method {schema.method}, {schema.effect}{ends}"
