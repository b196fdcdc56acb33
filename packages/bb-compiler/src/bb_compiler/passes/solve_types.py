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

from bb_compiler import _type_errors as errors
from bb_compiler._block_types import BlockTypes, Listeners, listeners
from bb_compiler._custom_types import absent_types, not_installed
from bb_compiler._inferences import Inferences
from bb_compiler._relations import Facts
from bb_compiler._role_types import RoleTypes
from bb_compiler._values import Rows, Values
from bb_compiler._wording import value_text
from bb_compiler.errors import Findings
from bb_ir import keys, onnx_tools
from bb_ir.framework_ops import Unfit, result_of
from bb_ir.ops import OpSchema, schema_of
from bb_ir.plugin_ops import plugin_schema, result_types
from bb_ir.types import ANY, TRIGGER, Type, list_of, record, tensor


def solve_types(model: ModelProto) -> ModelProto:
    """Narrow declared types by what ops give, and check what ops are given.

    Goes through all ops in their order, again while an op asked about values of which a later op
    told: parameters that come back at the end of a round are those with which it began. What
    configured components infer is noted in their rows.

    Raises:
        CompileError: An op is given a value of a type it cannot take, or a value that cannot
            cross the network is sent.
    """
    result = ModelProto()
    result.CopyFrom(model)
    rows, facts, listening = Rows(model), Facts(), listeners(model)
    inferences = Inferences(rows)
    again = True
    while again:
        findings = Findings()
        inferences.forget()
        for function in result.functions:
            solver = _Solver(
                function, rows, facts, findings, listening=listening, inferences=inferences
            )
            onnx_tools.set_types(function, solver.run().items())
        findings.done()
        again = facts.stale()
    for function in result.functions:
        onnx_tools.set_nodes(function, function.node)
    rows.note(result, inferences.noted)
    return result


class _Solver:
    """Goes through the ops of one function."""

    def __init__(
        self,
        function: FunctionProto,
        rows: Rows,
        facts: Facts,
        findings: Findings,
        *,
        listening: Listeners,
        inferences: Inferences,
    ) -> None:
        self.function = function
        self.findings = findings
        self.values = Values(function, findings)
        self.roles = RoleTypes(function, rows, facts, self.values, inferences)
        self.blocks = BlockTypes(function.node, self.values, listening)
        self.constants: dict[str, TensorProto] = {}
        #: Values about whose sending a complaint was made; what is said of them next follows.
        self.refused: set[str] = set()

    def run(self) -> dict[str, Type]:
        for node in self.function.node:
            schema = schema_of(node)
            if schema is not None:
                self.roles.solve(node, schema)
            elif onnx_tools.domain_of(node) == keys.ONNX:
                self._onnx(node)
            elif node.domain == keys.WIRE and node.op_type == keys.SEND:
                self._send(node)
            elif node.domain == keys.SYSCALL:
                self._syscall(node)
            elif (own := plugin_schema(node)) is not None:
                self._plugin_op(node, own)
        return self.values.types

    # Ops of the framework

    def _send(self, node: NodeProto) -> None:
        values = self.values
        if values.of(node.input[0]).kind not in ("peers", "senders"):
            self._unfit(node, 0, "peers or return addresses")
        for sent, arrived in zip(node.input[1:], node.output, strict=False):
            values.follow(node, arrived, values.trail(sent))
            if sent not in self.refused and self._is_sendable(node, sent, values.of(sent)):
                values.narrow(node, arrived, values.of(sent))
            else:
                values.types[arrived] = ANY
                self.refused.add(arrived)
        if len(node.input) == 1:
            values.types[node.output[0]] = TRIGGER

    def _is_sendable(self, node: NodeProto, sent: str, known: Type) -> bool:
        """Tell whether a value can cross the network, and complain if not."""
        if not known.sendable:
            maker, where = self.values.makers.get(sent), self.values.lines(node, sent)
            self.findings.add(errors.not_sendable(node, sent, known, maker, where))
        for name in absent_types(known):
            edge, where = onnx_tools.get_meta(node, keys.EDGE), self.values.lines(node, sent)
            value = value_text(sent, self.values.makers.get(sent), node)
            self.findings.add(not_installed(name, value, edge, where))
        return known.sendable

    def _syscall(self, node: NodeProto) -> None:
        values = self.values
        inputs = [values.of(name) for name in node.input]
        if node.op_type == keys.OUTPUT:
            values.types[node.output[0]] = inputs[0]
        elif node.op_type == "Record":
            names = onnx_tools.attributes(node)["names"]
            values.types[node.output[0]] = record(dict(zip(names, inputs, strict=True)))
        elif node.op_type == "Field":
            self._field(node, inputs[0])
        elif node.op_type == keys.GATHER and len(node.output) > 3:
            values.types[node.output[3]] = list_of(inputs[0])
        elif (found := result_of(node.op_type, inputs, onnx_tools.attributes(node))) is None:
            self.blocks.solve(node)
        elif isinstance(found, Unfit):
            self._unfit(node, found.at, found.expected)
        else:
            self._follow(node)
            values.narrow(node, node.output[0], found)

    def _follow(self, node: NodeProto) -> None:
        """Note where a value comes from that an op passes on."""
        if node.op_type in (keys.PASS_THROUGH, keys.SLEEP) and node.input:
            self.values.follow(node, node.output[0], self.values.trail(node.input[0]))

    def _field(self, node: NodeProto, known: Type) -> None:
        if known.kind not in ("record", "any"):
            self._unfit(node, 0, "a record")
            return
        name = onnx_tools.attributes(node)["name"]
        found = known.field(name) if known.kind == "record" else ANY
        if found is None:
            maker = self.values.makers.get(node.input[0])
            self.findings.add(errors.misnamed_field(node, known, maker))
        else:
            self.values.narrow(node, node.output[0], found)

    # Ops of plugins

    def _plugin_op(self, node: NodeProto, schema: OpSchema) -> None:
        given = [self.values.of(name) for name in node.input]
        found = result_types(schema, given, onnx_tools.attributes(node))
        if isinstance(found, Unfit):
            self._unfit(node, found.at, found.expected)
            return
        for name, known in zip(node.output, found, strict=True):
            self.values.narrow(node, name, known)

    # Ops of ONNX

    def _onnx(self, node: NodeProto) -> None:
        inputs = {name: self.values.of(name) for name in node.input if name}
        for name, known in inputs.items():
            if known.kind not in ("tensor", "any"):
                self._unfit(node, list(node.input).index(name), "a tensor")
                return
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                self.constants[node.output[0]] = attribute.t
        ready = all(t.kind == "tensor" and t.dtype for t in inputs.values())
        inferred = self._infer(node, inputs) if ready else {}
        for name in node.output:
            self.values.narrow(node, name, inferred.get(name) or tensor())

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
            where = self.values.lines(node, *inputs)
            self.findings.add(errors.no_inference(node, inputs, error, where))
            return {}
        return {name: onnx_tools.type_from_proto(proto) for name, proto in found.items()}

    def _unfit(self, node: NodeProto, at: int, expected: str) -> None:
        self.findings.add(errors.unfit(self.values.use(node, at), expected))
