"""Pass 5: the region of every op, and the rules that hold between regions."""

from __future__ import annotations

import dataclasses
import json

from onnx import FunctionProto, ModelProto, NodeProto

from bb_compiler._placement import Placement, place
from bb_compiler.errors import CompileError, DeadlineInversion, Findings
from bb_ir import keys, onnx_tools
from bb_ir.durations import format_duration


def infer_regions(model: ModelProto) -> ModelProto:
    """Stamp each op with its region, and each function with its regions.

    Raises:
        CompileError: A value leaves its fan-out without a gather, regions that no frame sees
            together meet in one op, or an inner gather may outlast an outer one.
    """
    result = ModelProto()
    result.CopyFrom(model)
    findings = Findings()
    for function in result.functions:
        placement = place(function)
        for problem in [*placement.region_problems, *_inversions(function, placement)]:
            findings.add(problem)
        for node, where in zip(function.node, placement.nodes, strict=True):
            onnx_tools.set_meta(node, keys.REGION, where.region)
        table = [dataclasses.asdict(region) for region in placement.regions.values()]
        onnx_tools.set_meta(function, keys.REGIONS, json.dumps(table))
    findings.done()
    return result


def _inversions(function: FunctionProto, placement: Placement) -> list[CompileError]:
    """Find gathers in a region whose own answer another gather awaits for a shorter time."""
    gathers = [
        (node, where.region)
        for node, where in zip(function.node, placement.nodes, strict=True)
        if node.op_type == keys.GATHER and _deadline(node)
    ]
    inner_of = {_gathered_edge(node, function, placement): node for node, _ in gathers}
    found: list[CompileError] = []
    for node, region in gathers:
        for edge, outer in inner_of.items():
            if placement.regions[edge].answers == region and _deadline(node) > _deadline(outer):
                found.append(_inversion(node, outer))
    return found


def _gathered_edge(node: NodeProto, function: FunctionProto, placement: Placement) -> str:
    for other, where in zip(function.node, placement.nodes, strict=True):
        if node.input[0] in other.output:
            opened = other.op_type == keys.SEND and other.domain == keys.WIRE
            return onnx_tools.get_meta(other, keys.EDGE) if opened else where.region
    return placement.nodes[0].region


def _deadline(node: NodeProto) -> int:
    return int(onnx_tools.attributes(node).get("deadline_ns", 0))


def _inversion(inner: NodeProto, outer: NodeProto) -> DeadlineInversion:
    lines = [onnx_tools.source_of(inner), onnx_tools.source_of(outer)]
    return DeadlineInversion(
        f"a gather may wait {format_duration(_deadline(inner))}, but the gather that waits for "
        f"it only {format_duration(_deadline(outer))}",
        fix="give the inner gather a shorter deadline than the outer one",
        where=tuple(line for line in lines if line is not None),
    )
