"""Pass 1: the structure of what was recorded; catches models that `Module.build` did not make."""

from __future__ import annotations

from onnx import FunctionProto, ModelProto, NodeProto

from bb_compiler.errors import Findings, MalformedRecording, UnknownOp
from bb_ir import keys, onnx_tools
from bb_ir.ops import ROLE_OPS, role_op

ENGINE_OPS = {
    keys.WIRE: {keys.SEND, keys.SENDER, keys.RECEIVE},
    keys.SYSCALL: {keys.GATHER, keys.OUTPUT},
}


def verify_recording(model: ModelProto) -> ModelProto:
    """Check values, calls, edges and ops of every function; changes nothing."""
    findings = Findings()
    names = {function.name for function in model.functions}
    for function in model.functions:
        _check_values(function, findings)
        for node in function.node:
            _check_op(node, names, findings)
    if not onnx_tools.get_meta(model, keys.ROOT) or not model.functions:
        findings.add(
            MalformedRecording(
                "the model was not recorded by Module.build()",
                fix="compile what MyModule().build() returned",
            )
        )
    findings.done()
    return model


def _check_values(function: FunctionProto, findings: Findings) -> None:
    known = set(function.input)
    for node in function.node:
        reads = [name for name in node.input if name] + onnx_tools.meta_list(node, keys.AFTER)
        for name in reads:
            if name not in known:
                findings.add(_malformed(node, f"{node.op_type} reads {name!r} before it exists"))
        for name in node.output:
            if name in known:
                findings.add(_malformed(node, f"{node.op_type} gives {name!r} a second time"))
            known.add(name)
    for name in function.output:
        if name not in known:
            findings.add(MalformedRecording(f"{function.name} never gives its output {name!r}"))


def _check_op(node: NodeProto, functions: set[str], findings: Findings) -> None:
    if node.domain == keys.MODULE:
        if node.op_type not in functions:
            findings.add(_malformed(node, f"a call of {node.op_type!r}, which is not recorded"))
        return
    role = keys.role_of(node.domain)
    if role and not onnx_tools.get_meta(node, keys.SLOT):
        findings.add(_malformed(node, f"{node.op_type} of role {role!r} names no slot"))
    known_role = role in ROLE_OPS and role_op(node.domain, node.op_type) is None
    known_engine = node.domain in ENGINE_OPS and node.op_type not in ENGINE_OPS[node.domain]
    if known_role or (known_engine and node.domain == keys.WIRE):
        findings.add(
            UnknownOp(
                f"{node.domain} has no op {node.op_type!r}",
                expected=", ".join(sorted(ROLE_OPS.get(role, ENGINE_OPS.get(node.domain, ())))),
                where=_where(node),
            )
        )


def _malformed(node: NodeProto, found: str) -> MalformedRecording:
    return MalformedRecording(found, where=_where(node))


def _where(node: NodeProto) -> tuple[str, ...]:
    source = onnx_tools.get_meta(node, keys.SOURCE)
    return (source,) if source else ()
