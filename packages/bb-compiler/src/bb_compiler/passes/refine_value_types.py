"""Pass 8: what the bound components say about the types of their values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from onnx import ModelProto, NodeProto

from bb_compiler._placement_errors import lines_of
from bb_compiler._relations import lengths_of
from bb_compiler.errors import ComponentTypeMisfit, Findings
from bb_ir import keys, onnx_tools
from bb_ir.errors import TypeTextError, closest
from bb_ir.ops import ROLE_OPS, Port, parse_schema, schema_of
from bb_ir.type_texts import brief
from bb_ir.types import ANY, Type, meet, parse_type


def refine_value_types(model: ModelProto) -> ModelProto:
    """Narrow the ports of role ops to what the components of their slots declare.

    Results are narrowed in place; what an op takes is noted on it, for `solve_types` to check. A
    length that an input decides is left to that pass too.

    Raises:
        ComponentTypeMisfit: A component declares a type that its role rules out, or one of an op
            or a port that does not exist.
    """
    result = ModelProto()
    result.CopyFrom(model)
    findings = Findings()
    table: dict[str, dict[str, Any]] = json.loads(onnx_tools.get_meta(model, keys.RESOLVED, "{}"))
    for rows in table.values():
        for row in rows.values():
            _check_places(row, findings)
    for function in result.functions:
        types = onnx_tools.types_of(function)
        for node in function.node:
            slot = onnx_tools.get_meta(node, keys.SLOT)
            row = table.get(onnx_tools.get_meta(node, keys.CLASS), {}).get(slot, {})
            if row.get("types"):
                _refine(node, row, types, findings)
        onnx_tools.set_types(function, types.items())
    findings.done()
    return result


def _check_places(row: Mapping[str, Any], findings: Findings) -> None:
    """Check that the ops and ports exist of which a component declares types."""
    declared: dict[str, str] = row.get("types", {})
    if not declared:
        return
    own: dict[str, str] = row.get("ops", {})
    schemas = [parse_schema(name, text) for name, text in own.items()]
    schemas += ROLE_OPS[row["role"]].values() if row["role"] in ROLE_OPS else ()
    known = [
        f"{schema.name}.{port.name}"
        for schema in schemas
        for port in (*schema.inputs, *schema.results)
    ]
    for place in declared:
        if place not in known:
            close = closest(place, known)
            findings.add(
                ComponentTypeMisfit(
                    f"{row['component']!r} declares a type of {place!r}, which role "
                    f"{row['role']} does not have",
                    expected=", ".join(known) if len(known) < 20 else "",
                    fix=f"did you mean {close!r}?" if close else "remove it",
                )
            )


def _refine(
    node: NodeProto,
    row: dict[str, Any],
    types: dict[str, Type],
    findings: Findings,
) -> None:
    schema = schema_of(node)
    if schema is None:
        return
    takes = [_declared(node, port, row, findings) for port in schema.inputs]
    if any(known != port.type for known, port in zip(takes, schema.inputs, strict=True)):
        onnx_tools.set_meta(node, keys.TAKES, ";".join(str(known) for known in takes))
    lengths = lengths_of(node)
    for taken in takes:
        lengths.learn(taken, ANY)
    for port, name in zip(schema.results, node.output, strict=False):
        known = lengths.result(_declared(node, port, row, findings))
        types[name] = meet(types.get(name, known), known) or known


def _declared(node: NodeProto, port: Port, row: dict[str, Any], findings: Findings) -> Type:
    """Return the type of a port as the component declares it, else as the role does."""
    text = row["types"].get(f"{node.op_type}.{port.name}", "")
    if not text:
        return port.type
    try:
        found = parse_type(text)
        met, text = meet(port.type, found), brief(found)
    except TypeTextError as error:
        met, text = None, f"{text} ({error.found})"
    if met is None:
        findings.add(
            ComponentTypeMisfit(
                f"{row['component']!r} declares {node.op_type}.{port.name} as {text}",
                expected=f"a type within {port.type}, which role {row['role']} says",
                fix="correct the `types` of the component",
                where=lines_of(node),
            )
        )
        return port.type
    return met
