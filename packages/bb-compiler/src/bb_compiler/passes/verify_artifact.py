"""Pass 17: what leaves the compiler is a valid ONNX model that can be installed."""

from __future__ import annotations

import json

from onnx import FunctionProto, ModelProto, checker

from bb_compiler.errors import ArtifactInvalid, Findings
from bb_ir import keys, onnx_tools


def verify_artifact(model: ModelProto) -> ModelProto:
    """Draw the main graph and check the whole.

    Raises:
        ArtifactInvalid: A value dangles, a slot has no row, or ONNX objects.
    """
    result = ModelProto()
    result.CopyFrom(model)
    findings = Findings()
    table = json.loads(onnx_tools.get_meta(model, keys.RESOLVED, "{}"))
    fused = {f.name: f for f in result.functions if f.domain == keys.FUSED}
    for function in result.functions:
        _check_function(function, table, findings)
        _check_calls(function, fused, findings)
    findings.done()
    onnx_tools.draw(result)
    del result.opset_import[:]
    result.opset_import.extend(onnx_tools.opsets(n for f in result.functions for n in f.node))
    result.producer_name, result.ir_version = "bytesandbrains", keys.IR_VERSION
    try:
        checker.check_model(result)  # pyright: ignore[reportUnknownMemberType]  # of onnx
    except checker.ValidationError as error:
        raise ArtifactInvalid(
            f"the ONNX checker refuses the artifact: {error}", fix="report this as a defect"
        ) from error
    return result


def _invalid(found: str) -> ArtifactInvalid:
    return ArtifactInvalid(
        found,
        fix="look at the stages that you inserted; where there are none, report this as a defect",
    )


def _check_function(
    function: FunctionProto, table: dict[str, dict[str, object]], findings: Findings
) -> None:
    known = set(function.input)
    rows = table.get(onnx_tools.get_meta(function, keys.CLASS), {})
    for node in function.node:
        reads = [n for n in node.input if n] + onnx_tools.meta_list(node, keys.AFTER)
        dangling = [name for name in reads if name not in known]
        if dangling:
            findings.add(_invalid(f"{function.name}: {dangling[0]!r} is never given"))
        slot = onnx_tools.get_meta(node, keys.SLOT)
        if slot and slot not in rows:
            findings.add(_invalid(f"{function.name}: slot {slot!r} has no component"))
        known.update(node.output)
    for name in function.output:
        if name not in known:
            findings.add(_invalid(f"{function.name}: output {name!r} is never given"))


def _check_calls(
    function: FunctionProto, fused: dict[str, FunctionProto], findings: Findings
) -> None:
    for node in function.node:
        if node.domain != keys.FUSED:
            continue
        called = fused.get(node.op_type)
        if called is None:
            findings.add(_invalid(f"{function.name}: there is no function {node.op_type}"))
        elif (len(called.input), len(called.output)) != (len(node.input), len(node.output)):
            findings.add(_invalid(f"{function.name}: {node.op_type} is called with other ports"))
