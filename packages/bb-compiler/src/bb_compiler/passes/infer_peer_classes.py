"""Pass 4: the home class of every op."""

from __future__ import annotations

from onnx import ModelProto

from bb_compiler._placement import place
from bb_compiler.errors import Findings
from bb_ir import keys, onnx_tools


def infer_peer_classes(model: ModelProto) -> ModelProto:
    """Stamp each op with the class of peers it runs on, and peers with their class.

    Raises:
        CompileError: Values of two classes meet without an edge, a class is not known, or the
            place of an op is ambiguous.
    """
    result = ModelProto()
    result.CopyFrom(model)
    findings = Findings()
    classes: tuple[str, ...] = ()
    for function in result.functions:
        placement = place(function, classes)
        classes = classes or placement.classes
        for problem in placement.class_problems:
            findings.add(problem)
        for node, where in zip(function.node, placement.nodes, strict=True):
            onnx_tools.set_meta(node, keys.CLASS, placement.regions[where.region].cls)
            onnx_tools.set_meta(node, keys.PLACED, where.how)
        types = onnx_tools.types_of(function) | placement.types
        onnx_tools.set_types(function, types.items())
    findings.done()
    return result
