"""Pass 17: what leaves the compiler is a valid ONNX model that can be installed."""

from __future__ import annotations

import json

import onnx
from onnx import FunctionProto, ModelProto, checker, helper

from bb_compiler.errors import ArtifactInvalid, Findings
from bb_ir import keys, onnx_tools
from bb_ir.types import ANY


def verify_artifact(model: ModelProto) -> ModelProto:
    """Draw the main graph and check the whole.

    Raises:
        ArtifactInvalid: A value dangles, a slot has no row, or ONNX objects.
    """
    result = ModelProto()
    result.CopyFrom(model)
    findings = Findings()
    table = json.loads(onnx_tools.get_meta(model, keys.RESOLVED, "{}"))
    for function in result.functions:
        _check_function(function, table, findings)
    findings.done()
    _draw(result)
    try:
        checker.check_model(result)
    except checker.ValidationError as error:
        raise ArtifactInvalid(
            f"the ONNX checker refuses the artifact: {error}", fix="report this as a defect"
        ) from error
    return result


def _check_function(
    function: FunctionProto, table: dict[str, dict[str, object]], findings: Findings
) -> None:
    known = set(function.input)
    rows = table.get(onnx_tools.get_meta(function, keys.CLASS), {})
    for node in function.node:
        reads = [n for n in node.input if n] + onnx_tools.meta_list(node, keys.AFTER)
        dangling = [name for name in reads if name not in known]
        if dangling:
            findings.add(ArtifactInvalid(f"{function.name}: {dangling[0]!r} is never given"))
        slot = onnx_tools.get_meta(node, keys.SLOT)
        if slot and slot not in rows:
            findings.add(ArtifactInvalid(f"{function.name}: slot {slot!r} has no component"))
        known.update(node.output)
    findings_out = [name for name in function.output if name not in known]
    for name in findings_out:
        findings.add(ArtifactInvalid(f"{function.name}: output {name!r} is never given"))


def _draw(model: ModelProto) -> None:
    """Let the main graph call each target once, so that viewers have something to show."""
    graph = model.graph
    del graph.node[:], graph.input[:], graph.output[:]
    for function in model.functions:
        short = function.name.partition("#")[0]
        types = onnx_tools.types_of(function)
        inputs = [f"{short}/{name}" for name in function.input]
        outputs = [f"{short}/{name}" for name in function.output]
        if not inputs and not outputs:
            continue
        graph.node.append(
            helper.make_node(function.name, inputs, outputs, name=short, domain=keys.MODULE)
        )
        for names, ports, declared in (
            (inputs, function.input, graph.input),
            (outputs, function.output, graph.output),
        ):
            declared.extend(
                onnx_tools.value_info(name, types.get(port, ANY))
                for name, port in zip(names, ports, strict=True)
            )
    del model.opset_import[:]
    domains = {o.domain: o for f in model.functions for o in f.opset_import}
    domains[keys.MODULE] = helper.make_opsetid(keys.MODULE, keys.OWN_OPSET)
    domains[keys.ONNX] = helper.make_opsetid("", keys.OPSET)
    model.opset_import.extend(domains[name] for name in sorted(domains))
    model.producer_name = "bytesandbrains"
    model.ir_version = min(keys.IR_VERSION, int(onnx.IR_VERSION))
