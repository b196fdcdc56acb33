"""Pass 1: the structure of what was recorded; catches models that `Module.build` did not make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onnx import FunctionProto, ModelProto, NodeProto, defs

from bb_compiler._blocks import is_block, is_turn
from bb_compiler._placement_errors import lines_of
from bb_compiler._renaming import used_names
from bb_compiler.errors import CompileError, Findings, MalformedRecording, NothingWaits, UnknownOp
from bb_ir import keys, onnx_tools
from bb_ir.errors import OpSchemaError, closest
from bb_ir.framework_ops import FRAMEWORK_OPS, framework_op
from bb_ir.ops import ROLE_OPS, OpSchema, schema_of
from bb_ir.plugin_ops import is_plugin_domain, misuse, plugin_schema

#: Ops of the framework that recordings may hold, with calls of sub-modules beside them.
_SYSCALLS = [op.name for op in FRAMEWORK_OPS.values() if op.domain == keys.SYSCALL]


def verify_recording(model: ModelProto) -> ModelProto:
    """Check values, calls, edges and ops of every function; changes nothing.

    Raises:
        CompileError: The model is none that `Module.build` made, or uses an op that does not
            exist.
    """
    if onnx_tools.get_meta(model, keys.COMPILED):
        raise MalformedRecording(
            "the model is compiled already", fix="compile what MyModule().build() returned"
        )
    if not onnx_tools.get_meta(model, keys.ROOT) or not model.functions:
        raise MalformedRecording(
            "the model was not recorded by Module.build()",
            fix="compile what MyModule().build() returned",
        )
    findings = Findings()
    _check_calls(model, findings)
    for function in model.functions:
        _check_values(function, findings)
        _check_blocks(function, findings)
        _check_sleeps(function, findings)
        for node in function.node:
            _check_op(node, findings)
    findings.done()
    return model


def _check_calls(model: ModelProto, findings: Findings) -> None:
    """Check that calls fit the functions they name, and lead to no function twice in a row."""
    functions = {function.name: function for function in model.functions}
    if len(functions) < len(model.functions):
        findings.add(MalformedRecording("two functions have one name"))
    calls: dict[str, set[str]] = {name: set() for name in functions}
    for function in model.functions:
        for node in (node for node in function.node if node.domain == keys.MODULE):
            called = functions.get(node.op_type)
            if called is None:
                findings.add(_malformed(node, f"a call of {node.op_type!r}, which is not recorded"))
                continue
            if len(node.input) != len(called.input):
                findings.add(_malformed(node, f"a call of {node.op_type!r} with other inputs"))
            calls[function.name].add(node.op_type)
    done: set[str] = set()
    while ready := [name for name in calls if name not in done and calls[name] <= done]:
        done.update(ready)
    if len(done) < len(calls) and all(c <= functions.keys() for c in calls.values()):
        circle = ", ".join(sorted(calls.keys() - done))
        findings.add(MalformedRecording(f"functions call each other in a circle: {circle}"))


def _check_values(function: FunctionProto, findings: Findings) -> None:
    known = set(function.input)
    edges: set[str] = set()
    for node in function.node:
        reads = [name for name in node.input if name] + onnx_tools.meta_list(node, keys.AFTER)
        for name in reads:
            if name not in known:
                findings.add(_malformed(node, f"{node.op_type} reads {name!r} before it exists"))
        for name in node.output:
            if name in known:
                findings.add(_malformed(node, f"{node.op_type} gives {name!r} a second time"))
            known.add(name)
        edge = onnx_tools.get_meta(node, keys.EDGE)
        if edge in edges:
            findings.add(_malformed(node, f"edge {edge!r} is sent a second time"))
        edges.update(filter(None, [edge]))
    for name in function.output:
        if name not in known:
            findings.add(MalformedRecording(f"{function.name} never gives its output {name!r}"))


def _check_blocks(function: FunctionProto, findings: Findings) -> None:
    """Check that each block is followed by its turn, and that ops stand in blocks that exist."""
    opened, begun = {""}, ""
    for node, after in zip(function.node, [*function.node[1:], None], strict=False):
        block = onnx_tools.get_meta(node, keys.OPENS)
        if is_turn(node) and not block == begun == onnx_tools.get_meta(node, keys.BLOCK):
            findings.add(_malformed(node, "a turn that does not begin its block"))
        begun = block if is_block(node) else ""
        if onnx_tools.get_meta(node, keys.BLOCK) not in opened:
            findings.add(_malformed(node, f"{node.op_type} stands in a block that has not begun"))
        if is_block(node):
            if block in opened:
                findings.add(_malformed(node, f"block {block!r} is opened a second time"))
            opened.add(block)
            if after is None or not is_turn(after, block):
                call = f"g.{node.op_type.lower()}(...)"
                findings.add(
                    MalformedRecording(
                        f"{call} opens a block that holds nothing",
                        fix=f"with {call}:",
                        where=lines_of(node),
                    )
                )


def _check_sleeps(function: FunctionProto, findings: Findings) -> None:
    """Check that something takes what each sleep passes on: nothing else waits for it."""
    used = {name for node in function.node for name in used_names(node)}
    for node in function.node:
        sleeps = node.domain == keys.SYSCALL and node.op_type == keys.SLEEP
        if sleeps and not used.intersection(node.output):
            passes = "the value that it passes on" if node.input else "its trigger"
            findings.add(
                NothingWaits(
                    f"g.sleep(...), and nothing takes {passes}",
                    expected="an op that takes the result; others do not wait",
                    fix="use what it returns: g.net_out(name, peers, g.sleep('5s', value)), or "
                    "after=g.sleep('5s')",
                    where=lines_of(node),
                )
            )


def _check_op(node: NodeProto, findings: Findings) -> None:
    domain = onnx_tools.domain_of(node)
    role = keys.role_of(domain)
    if role and not onnx_tools.get_meta(node, keys.SLOT):
        findings.add(_malformed(node, f"{node.op_type} of role {role!r} names no slot"))
    if role in ROLE_OPS:
        _check_schema(node, ROLE_OPS[role], findings)
    elif is_plugin_domain(domain):
        _check_plugin_op(node, findings)
    elif onnx_tools.get_meta(node, keys.SCHEMA):
        findings.add(_own_schema(node))
    elif domain == keys.ONNX:
        _check_onnx(node, findings)
    elif domain == keys.WIRE:
        _check_wire(node, findings)
    elif domain == keys.SYSCALL and node.op_type == keys.GATHER and len(node.output) < 3:
        findings.add(_malformed(node, "a gather without count, missing and senders"))
    elif domain == keys.SYSCALL and (is_block(node) or is_turn(node)):
        if not onnx_tools.get_meta(node, keys.OPENS) or not node.output:
            findings.add(_malformed(node, f"{node.op_type} without a region or a result"))
    elif domain == keys.SYSCALL:
        _check_framework(node, findings)


def _check_framework(node: NodeProto, findings: Findings) -> None:
    """Check an op of the framework by its row in the table."""
    op = framework_op(keys.SYSCALL, node.op_type)
    if op is None:
        findings.add(_unknown(node, _SYSCALLS))
        return
    least, most = op.inputs
    count = len(node.input)
    if count < least or (most is not None and count > most):
        findings.add(_malformed(node, f"{node.op_type} with {count} inputs"))
    given = {attribute.name for attribute in node.attribute}
    missing = [name for name in op.required if name not in given]
    if missing:
        findings.add(_malformed(node, f"{node.op_type} without {' and '.join(missing)}"))
    if len(node.output) == 0:
        findings.add(_malformed(node, f"{node.op_type} without a result"))


def _check_schema(node: NodeProto, known: Mapping[str, OpSchema], findings: Findings) -> None:
    if node.op_type in known and onnx_tools.get_meta(node, keys.SCHEMA):
        findings.add(_own_schema(node))
        return
    try:
        schema = schema_of(node)
    except OpSchemaError as error:
        findings.add(_malformed(node, error.found))
        return
    if schema is None:
        findings.add(_unknown(node, known))


def _check_plugin_op(node: NodeProto, findings: Findings) -> None:
    """Check an op of a plugin by the schema on its node; without one nothing is known of it."""
    try:
        schema = plugin_schema(node)
    except OpSchemaError as error:
        findings.add(_malformed(node, error.found))
        return
    if schema is None:
        return
    wrong = misuse(schema, len(node.input), {attribute.name for attribute in node.attribute})
    if not wrong and len(node.output) != len(schema.results):
        wrong = f"{len(node.output)} outputs instead of {len(schema.results)}"
    if wrong:
        findings.add(_malformed(node, f"{node.op_type} with {wrong}"))


def _check_wire(node: NodeProto, findings: Findings) -> None:
    if node.op_type not in (keys.SEND, keys.SENDER):
        findings.add(_unknown(node, (keys.SEND, keys.SENDER)))
    elif not node.input:
        findings.add(_malformed(node, f"{node.op_type} without inputs"))
    elif node.op_type == keys.SEND:
        if not onnx_tools.get_meta(node, keys.EDGE):
            findings.add(_malformed(node, "a send without the name of an edge"))
        if len(node.output) != max(1, len(node.input) - 1):
            findings.add(_malformed(node, "a send that gives other values than it is given"))


def _check_onnx(node: NodeProto, findings: Findings) -> None:
    if not defs.has(node.op_type, keys.OPSET, ""):
        known = {s.name for s in defs.get_all_schemas() if s.domain == ""}
        findings.add(_unknown(node, sorted(known)))
        return
    schema = defs.get_schema(node.op_type, keys.OPSET, "")
    for what, count, low, high in (
        ("inputs", len(node.input), schema.min_input, schema.max_input),
        ("outputs", len(node.output), schema.min_output, schema.max_output),
    ):
        if not low <= count <= high:
            findings.add(
                UnknownOp(
                    f"ONNX has no {node.op_type} with {count} {what}",
                    expected=_range(low, high, what),
                    where=lines_of(node),
                )
            )


def _range(low: int, high: int, what: str) -> str:
    if low == high:
        return f"{low} {what}"
    return f"{low} to {high} {what}" if high < 2**31 - 1 else f"at least {low} {what}"


def _unknown(node: NodeProto, known: Iterable[str]) -> CompileError:
    listed = list(known)
    close = closest(node.op_type, listed)
    domain = onnx_tools.domain_of(node)
    return UnknownOp(
        f"{domain} has no op {node.op_type!r}"
        + (f" in opset {keys.OPSET}" if domain == keys.ONNX else ""),
        expected=", ".join(listed) if len(listed) < 20 else "",
        fix=f"did you mean {close!r}?" if close else "",
        where=lines_of(node),
    )


def _own_schema(node: NodeProto) -> MalformedRecording:
    domain = onnx_tools.domain_of(node)
    return MalformedRecording(
        f"{node.op_type} of {domain} carries a schema of its own",
        expected="one on ops that a component or a plugin adds, and on no other",
        where=lines_of(node),
    )


def _malformed(node: NodeProto, found: str) -> MalformedRecording:
    return MalformedRecording(found, where=lines_of(node))
