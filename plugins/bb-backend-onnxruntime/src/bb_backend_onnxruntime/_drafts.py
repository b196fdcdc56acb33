"""Nodes on their way to a model: what is known of them before the dtypes of their inputs are.

A draft becomes an ONNX model once per choice of dtypes. Shapes are never written into a model, so
one session serves all of them. Nothing here may know ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from onnx import (
    AttributeProto,
    ModelProto,
    NodeProto,
    ValueInfoProto,
    defs,
    helper,
    numpy_helper,
    shape_inference,
)

from bb_backend_onnxruntime.errors import DtypeUnsupported, OpRefused
from bb_roles.fused import FusedGraph

__all__ = [
    "IR_VERSION",
    "NUMBERS",
    "OPSET",
    "Draft",
    "Signature",
    "declared",
    "node_of",
    "schema_of",
]

OPSET: Final = 23
IR_VERSION: Final = 11

#: The dtype of each input in order, `None` for one that is left out.
Signature: TypeAlias = tuple["np.dtype[Any] | None", ...]

#: The dtypes that pass between numpy and ONNX Runtime without a copy, by `TensorProto.DataType`.
NUMBERS: Final[Mapping[np.dtype[Any], int]] = {
    np.dtype(name): number
    for name, number in {
        "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7,
        "bool": 9, "float16": 10, "float64": 11, "uint32": 12, "uint64": 13,
    }.items()
}  # fmt: skip
_DTYPES: Final = {number: dtype for dtype, number in NUMBERS.items()}


@dataclass(frozen=True, eq=False)
class Draft:
    """Nodes that run together.

    Attributes:
        about: What they are, for messages.
        inputs: Names of what they are given, in order.
        outputs: Names of what they return, in order.
        nodes: The nodes, each after those whose values it reads.
    """

    about: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[NodeProto, ...]

    @staticmethod
    def of_op(node: NodeProto, count: int, outputs: int) -> Draft:
        """Return the draft of one op with so many inputs, left out ones among them."""
        inputs = tuple(f"x{at}" for at in range(count))
        names = tuple(f"y{at}" for at in range(outputs))
        whole = NodeProto()
        whole.CopyFrom(node)
        whole.input.extend(inputs)
        whole.output.extend(names)
        return Draft(f"op {node.op_type}", inputs, names, (whole,))

    @staticmethod
    def of_graph(graph: FusedGraph) -> Draft:
        """Return the draft of ops that the compiler fused."""
        nodes = tuple(graph.function.node)
        about = f"graph {graph.name} of {len(nodes)} ops"
        return Draft(about, graph.inputs, graph.outputs, nodes)

    def model(self, given: Signature) -> bytes:
        """Return the serialized model for inputs of these dtypes; left out ones leave the nodes.

        Raises:
            DtypeUnsupported: ONNX Runtime does not take arrays of such a dtype.
        """
        return self._proto(given).SerializeToString(deterministic=True)

    def kinds(self, given: Signature) -> Mapping[str, int]:
        """Return the element types of all values that are known, by name.

        Raises:
            DtypeUnsupported: As `model` does.
        """
        graph = shape_inference.infer_shapes(self._proto(given)).graph
        infos = (*graph.input, *graph.value_info, *graph.output)
        return {info.name: info.type.tensor_type.elem_type for info in infos}

    def _proto(self, given: Signature) -> ModelProto:
        pairs = zip(self.inputs, given, strict=True)
        types = {name: _number(dtype, self.about) for name, dtype in pairs if dtype is not None}
        absent = set(self.inputs) - set(types)
        graph = helper.make_graph(
            [_without(node, absent) for node in self.nodes],
            "g",
            [helper.make_tensor_value_info(name, number, None) for name, number in types.items()],
            [ValueInfoProto(name=name) for name in dict.fromkeys(self.outputs)],
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)


def declared(graph: FusedGraph) -> Signature | None:
    """Return the dtypes of a graph's inputs, or None if the program does not say all of them.

    Raises:
        DtypeUnsupported: One of them is no tensor of a dtype that ONNX Runtime takes.
    """
    infos = {info.name: info.type for info in graph.function.value_info}
    types = [infos.get(name) for name in graph.inputs]
    found: list[np.dtype[Any]] = []
    for name, kind in zip(graph.inputs, types, strict=True):
        number = 0 if kind is None else kind.tensor_type.elem_type
        if number == 0:
            return None
        if number not in _DTYPES:
            raise _unsupported(f"number {number} of TensorProto", f"input {name} of {graph.name}")
        found.append(_DTYPES[number])
    return tuple(found)


def schema_of(op_type: str) -> defs.OpSchema | None:
    """Return the schema of an op of `ai.onnx` at opset 23, or None if there is none."""
    try:
        schema = defs.get_schema(op_type, OPSET, "")
    except defs.SchemaError:
        return None
    return None if schema.deprecated else schema


def node_of(schema: defs.OpSchema, attributes: Mapping[str, Any], outputs: int) -> NodeProto:
    """Return a node without inputs and outputs, its attributes checked.

    Raises:
        OpRefused: An attribute is unknown, missing or of another type, or the op cannot have so
            many outputs.
    """
    name, known = schema.name, schema.attributes
    for attribute in attributes:
        if attribute not in known:
            raise OpRefused(
                f"{name} has no attribute {attribute!r}",
                expected=f"attributes of {name} in ONNX opset {OPSET}: "
                f"{', '.join(sorted(known)) or 'none at all'}",
                fix="remove it; older opsets had attributes, such as axes, that are inputs now",
            )
    missing = sorted(n for n, a in known.items() if a.required and n not in attributes)
    if missing:
        raise OpRefused(
            f"{name} lacks its attribute {missing[0]!r}",
            expected="a value: the standard gives it no default",
            fix=f"set {missing[0]!r} where the op is recorded",
        )
    if not schema.min_output <= outputs <= schema.max_output:
        raise OpRefused(
            f"{name} was asked for {outputs} outputs",
            expected=f"{schema.min_output} to {schema.max_output}",
            fix="record the op with the outputs that the standard gives it",
        )
    node = NodeProto(op_type=name)
    node.attribute.extend(_attribute(schema, n, attributes[n]) for n in sorted(attributes))
    return node


def _attribute(schema: defs.OpSchema, name: str, value: Any) -> AttributeProto:
    kind: str = getattr(schema.attributes[name].type, "name")  # noqa: B009  # untyped
    try:
        if kind == "TENSOR":
            return helper.make_attribute(name, numpy_helper.from_array(np.asarray(value)))
        if kind == "FLOAT":
            value = float(value)
        elif kind == "FLOATS":
            value = [float(item) for item in value]
        number = AttributeProto.AttributeType.Value(kind)
        return helper.make_attribute(name, value, attr_type=number)
    except (TypeError, ValueError) as error:
        raise OpRefused(
            f"the attribute {name!r} of {schema.name} is {value!r}",
            expected=f"a value of ONNX's kind {kind}",
            fix=f"correct {name!r} where the op is recorded",
        ) from error


def _without(node: NodeProto, absent: set[str]) -> NodeProto:
    """Return a node that does not read some values, and has nothing of ours on it."""
    inputs: Sequence[str] = ["" if name in absent else name for name in node.input]
    plain = helper.make_node(node.op_type, inputs, list(node.output))
    plain.attribute.extend(node.attribute)
    return plain


def _number(dtype: np.dtype[Any], about: str) -> int:
    number = NUMBERS.get(dtype)
    if number is None:
        raise _unsupported(str(dtype), about)
    return number


def _unsupported(dtype: str, about: str) -> DtypeUnsupported:
    return DtypeUnsupported(
        f"{about} is given a tensor of dtype {dtype}",
        expected=f"one of {', '.join(sorted(known.name for known in NUMBERS))}",
        fix="cast before the op, or bind another backend",
    )
