"""Pass 9: the type of every value, across the network."""

from __future__ import annotations

from onnx import FunctionProto, ModelProto, NodeProto, defs, helper, shape_inference

from bb_compiler.errors import Findings, NotSendable, TypeMismatch
from bb_ir import keys, onnx_tools
from bb_ir.errors import SourceLine
from bb_ir.ops import role_op
from bb_ir.types import ANY, TRIGGER, Type, meet, record, scalar, tensor


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
    findings.done()
    return result


_COUNTED = record({"examples": scalar("int64")})


class _Solver:
    def __init__(self, function: FunctionProto, findings: Findings) -> None:
        self.function = function
        self.findings = findings
        self.types = onnx_tools.types_of(function)
        self.makers = {name: node for node in function.node for name in node.output}

    def run(self) -> dict[str, Type]:
        for node in self.function.node:
            if node.domain == keys.WIRE and node.op_type == keys.SEND:
                self._send(node)
            elif node.domain == keys.ONNX:
                self._onnx(node)
            elif node.op_type == keys.OUTPUT and node.domain == keys.SYSCALL:
                self.types[node.output[0]] = self._of(node.input[0])
            else:
                self._role(node)
        return self.types

    def _of(self, name: str) -> Type:
        return self.types.get(name, ANY)

    def _send(self, node: NodeProto) -> None:
        to = self._of(node.input[0])
        if to.kind not in ("peers", "senders"):
            self._mismatch(node, 0, node.input[0], "peers or return addresses")
        for sent, arrived in zip(node.input[1:], node.output, strict=False):
            type_ = self._of(sent)
            self.types[arrived] = type_
            if not type_.sendable:
                self._not_sendable(node, sent, type_)
        if len(node.input) == 1:
            self.types[node.output[0]] = TRIGGER

    def _role(self, node: NodeProto) -> None:
        schema = role_op(node.domain, node.op_type)
        if schema is None:
            return
        for at, (port, name) in enumerate(zip(schema.inputs, node.input, strict=False)):
            if meet(port.type, self._of(name)) is None:
                self._mismatch(node, at, name, f"{port.type} for {port.name!r}")
        for port, name in zip(schema.results, node.output, strict=True):
            self.types[name] = meet(self._of(name), port.type) or port.type
        if node.op_type == "Contribute":
            self._check_weight(node)

    def _check_weight(self, node: NodeProto) -> None:
        metrics = self._of(node.input[1])
        examples = metrics.field("examples")
        if examples is None or meet(examples, scalar("int64")) is None:
            self._mismatch(node, 1, node.input[1], "a record with examples:int64, the weight")

    def _onnx(self, node: NodeProto) -> None:
        inputs = {name: self._of(name) for name in node.input if name}
        for at, (name, type_) in enumerate(inputs.items()):
            if type_.kind not in ("tensor", "any"):
                self._mismatch(node, at, name, "a tensor")
                return
        known = all(type_.kind == "tensor" and type_.dtype for type_ in inputs.values())
        inferred = self._infer(node, inputs) if known else {}
        for name in node.output:
            self.types[name] = inferred.get(name) or tensor()

    def _infer(self, node: NodeProto, inputs: dict[str, Type]) -> dict[str, Type]:
        """Ask ONNX for the types of an op's outputs."""
        try:
            schema = defs.get_schema(node.op_type, keys.OPSET, "")
            protos = {name: onnx_tools.type_to_proto(type_) for name, type_ in inputs.items()}
            found = shape_inference.infer_node_outputs(
                schema, node, protos, opset_imports=[helper.make_opsetid("", keys.OPSET)]
            )
        except (defs.SchemaError, shape_inference.InferenceError) as error:
            self.findings.add(
                TypeMismatch(
                    f"{node.op_type} cannot take "
                    f"{', '.join(f'{name}: {type_}' for name, type_ in inputs.items())}",
                    expected=str(error).splitlines()[-1].strip(),
                    where=self._lines(node, *inputs),
                )
            )
            return {}
        return {name: onnx_tools.type_from_proto(proto) for name, proto in found.items()}

    def _mismatch(self, node: NodeProto, at: int, name: str, expected: str) -> None:
        self.findings.add(
            TypeMismatch(
                f"{node.op_type} is given {name!r}, a {self._of(name)}, as input {at + 1}",
                expected=expected,
                where=self._lines(node, name),
            )
        )

    def _not_sendable(self, node: NodeProto, name: str, type_: Type) -> None:
        why = {
            "any": "its type is not known, so no codec can be chosen",
            "senders": "return addresses belong to the Node that received them",
        }.get(type_.kind, "it makes sense on its own Node only")
        fix = "declare it: g.input(name, type)" if type_.kind == "any" else "send what it yields"
        self.findings.add(
            NotSendable(
                f"{name!r} ({type_}) cannot cross edge {onnx_tools.get_meta(node, keys.EDGE)!r}: "
                f"{why}",
                fix=fix,
                where=self._lines(node, name),
            )
        )

    def _lines(self, node: NodeProto, *names: str) -> tuple[SourceLine, ...]:
        nodes = [node, *(self.makers[name] for name in names if name in self.makers)]
        found = (onnx_tools.source_of(one) for one in nodes)
        return tuple(dict.fromkeys(line for line in found if line is not None))
