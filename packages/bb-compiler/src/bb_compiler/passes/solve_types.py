"""Pass 9: the type of every value, across the network."""

from __future__ import annotations

from onnx import (
    FunctionProto,
    ModelProto,
    NodeProto,
    TensorProto,
    checker,
    defs,
    helper,
    shape_inference,
)

from bb_compiler._placement_errors import lines_of
from bb_compiler.errors import Findings, NotSendable, TypeMismatch
from bb_ir import keys, onnx_tools
from bb_ir.errors import SourceLine
from bb_ir.ops import OpSchema, role_op
from bb_ir.types import ANY, TRIGGER, Type, list_of, meet, parse_type, record, scalar, tensor


def solve_types(model: ModelProto) -> ModelProto:
    """Narrow declared types by what ops give, and check what ops are given.

    Raises:
        CompileError: An op is given a value of a type it cannot take, or a value that cannot
            cross the network is sent.
    """
    result = ModelProto()
    result.CopyFrom(model)
    findings = Findings()
    for function in result.functions:
        solver = _Solver(function, findings)
        onnx_tools.set_types(function, solver.run().items())
        onnx_tools.set_nodes(function, function.node)
    findings.done()
    return result


class _Solver:
    def __init__(self, function: FunctionProto, findings: Findings) -> None:
        self.function = function
        self.findings = findings
        self.types = onnx_tools.types_of(function)
        self.makers = {name: node for node in function.node for name in node.output}
        self.constants: dict[str, TensorProto] = {}

    def run(self) -> dict[str, Type]:
        for node in self.function.node:
            schema = role_op(node.domain, node.op_type)
            if schema is not None:
                self._role(node, schema)
            elif onnx_tools.domain_of(node) == keys.ONNX:
                self._onnx(node)
            elif node.domain == keys.WIRE and node.op_type == keys.SEND:
                self._send(node)
            elif node.domain == keys.SYSCALL:
                self._syscall(node)
        return self.types

    def _of(self, name: str) -> Type:
        return self.types.get(name, ANY)

    def _narrow(self, node: NodeProto, name: str, known: Type) -> None:
        """Note what is known about a result beside what was declared of it."""
        met = meet(self._of(name), known)
        if met is None:
            self.findings.add(
                TypeMismatch(
                    f"{node.op_type} gives {name!r} as {known}, but it is used as {self._of(name)}",
                    expected=f"a use as {known}",
                    where=lines_of(node),
                )
            )
        else:
            self.types[name] = met

    # Ops of the framework

    def _send(self, node: NodeProto) -> None:
        to = self._of(node.input[0])
        if to.kind not in ("peers", "senders"):
            self._mismatch(node, 0, node.input[0], "peers or return addresses")
        for sent, arrived in zip(node.input[1:], node.output, strict=False):
            known = self._of(sent)
            if known.sendable:
                self._narrow(node, arrived, known)
            else:
                self._not_sendable(node, sent, known)
        if len(node.input) == 1:
            self.types[node.output[0]] = TRIGGER

    def _syscall(self, node: NodeProto) -> None:
        attributes = onnx_tools.attributes(node)
        inputs = [self._of(name) for name in node.input]
        if node.op_type == keys.OUTPUT:
            self.types[node.output[0]] = inputs[0]
        elif node.op_type == "Record":
            self.types[node.output[0]] = record(dict(zip(attributes["names"], inputs, strict=True)))
        elif node.op_type == "Field":
            found = inputs[0].field(attributes["name"]) if inputs[0].kind == "record" else ANY
            self._narrow(node, node.output[0], found or ANY)
        elif node.op_type == keys.GATHER and len(node.output) > 3:
            self.types[node.output[3]] = list_of(inputs[0])

    # Ops of roles

    def _role(self, node: NodeProto, schema: OpSchema) -> None:
        text = onnx_tools.get_meta(node, keys.TAKES)
        takes = map(parse_type, text.split(";")) if text else (p.type for p in schema.inputs)
        for at, (port, taken, name) in enumerate(
            zip(schema.inputs, takes, node.input, strict=False)
        ):
            if meet(taken, self._of(name)) is None:
                self._mismatch(node, at, name, f"{taken} for {port.name!r}")
        if len(node.input) != len(schema.inputs) or len(node.output) != len(schema.results):
            self.findings.add(
                TypeMismatch(
                    f"{node.op_type} has {len(node.input)} inputs and {len(node.output)} outputs",
                    expected=f"{len(schema.inputs)} and {len(schema.results)}",
                    where=lines_of(node),
                )
            )
            return
        for port, name in zip(schema.results, node.output, strict=True):
            self._narrow(node, name, port.type)
        if node.op_type == "Contribute":
            self._check_weight(node)

    def _check_weight(self, node: NodeProto) -> None:
        metrics = self._of(node.input[1])
        if metrics.kind != "record":
            return
        examples = metrics.field("examples")
        if examples is None or meet(examples, scalar("int64")) is None:
            self._mismatch(
                node, 1, node.input[1], "a record with examples:int64, the weight of the update"
            )

    # Ops of ONNX

    def _onnx(self, node: NodeProto) -> None:
        inputs = {name: self._of(name) for name in node.input if name}
        for name, known in inputs.items():
            if known.kind not in ("tensor", "any"):
                self._mismatch(node, list(node.input).index(name), name, "a tensor")
                return
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                self.constants[node.output[0]] = attribute.t
        ready = all(t.kind == "tensor" and t.dtype for t in inputs.values())
        inferred = self._infer(node, inputs) if ready else {}
        for name in node.output:
            self._narrow(node, name, inferred.get(name) or tensor())

    def _infer(self, node: NodeProto, inputs: dict[str, Type]) -> dict[str, Type]:
        """Ask ONNX for the types of an op's outputs."""
        try:
            schema = defs.get_schema(node.op_type, keys.OPSET, "")
            found = shape_inference.infer_node_outputs(
                schema,
                node,
                {name: onnx_tools.type_to_proto(known) for name, known in inputs.items()},
                {name: self.constants[name] for name in inputs if name in self.constants},
                opset_imports=[helper.make_opsetid("", keys.OPSET)],
            )
        except (shape_inference.InferenceError, checker.ValidationError) as error:
            given = ", ".join(f"{name!r}: {known}" for name, known in inputs.items())
            why = str(error).splitlines()[-1].partition("] ")[2] or str(error)
            self.findings.add(
                TypeMismatch(
                    f"{node.op_type} cannot take {given}: {why}",
                    expected=f"element types and shapes that ONNX allows for {node.op_type}",
                    fix="self.backend.op(g, 'Cast', x, to=...) changes an element type, "
                    "self.backend.reshape(g, x, shape) a shape",
                    where=self._lines(node, *inputs),
                )
            )
            return {}
        return {name: onnx_tools.type_from_proto(proto) for name, proto in found.items()}

    # Complaints

    def _mismatch(self, node: NodeProto, at: int, name: str, expected: str) -> None:
        self.findings.add(
            TypeMismatch(
                f"{node.op_type} is given {name!r} of type {self._of(name)} as its "
                f"{_ORDINALS.get(at, f'{at + 1}th')} input",
                expected=expected,
                where=self._lines(node, name),
            )
        )

    def _not_sendable(self, node: NodeProto, name: str, known: Type) -> None:
        why, fix = _unsendable(known)
        maker = self.makers.get(name)
        if known.kind == "any" and maker is not None and maker.op_type == "Field":
            field = onnx_tools.attributes(maker)["name"]
            fix = f'say its type: g.field(record, "{field}", "float64")'
        self.findings.add(
            NotSendable(
                f"{name!r} of type {known} cannot cross edge "
                f"{onnx_tools.get_meta(node, keys.EDGE)!r}: {why}",
                expected="tensors, parameters, metrics, numbers, texts, bytes or peers",
                fix=fix,
                where=self._lines(node, name),
            )
        )

    def _lines(self, node: NodeProto, *names: str) -> tuple[SourceLine, ...]:
        return lines_of(node, *(self.makers.get(name) for name in names))


_ORDINALS = {0: "first", 1: "second", 2: "third"}


def _unsendable(known: Type) -> tuple[str, str]:
    """Return why a value cannot cross the network, and what to do instead."""
    if known.kind == "any":
        return "its type is not known", 'declare it: g.input("name", type)'
    if known.kind == "senders":
        return (
            "return addresses mean something on the Node that received them only",
            "send to them: g.net_out(name, g.sender(received), value)",
        )
    if known.kind == "local":
        return "it makes sense on its own Node only", "make it on the Node that needs it"
    return "a part of it is of unknown type, or makes sense on its own Node only", (
        "send its parts that can travel"
    )
