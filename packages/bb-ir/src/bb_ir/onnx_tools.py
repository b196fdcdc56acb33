"""Reading and writing the parts of ONNX messages that this project relies on.

Metadata, attributes as plain values, and the bridge between `bb_ir.types` and ONNX types. Nothing
here knows what a pass or an engine does with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from onnx import (
    AttributeProto,
    FunctionProto,
    ModelProto,
    NodeProto,
    OperatorSetIdProto,
    StringStringEntryProto,
    TypeProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from bb_ir import keys
from bb_ir.errors import SourceLine
from bb_ir.types import ANY, ONNX_DTYPES, Dim, Type, parse_type, tensor

__all__ = [
    "attributes",
    "check_texts",
    "domain_of",
    "draw",
    "get_meta",
    "meta_list",
    "metadata",
    "opsets",
    "set_meta",
    "set_nodes",
    "set_types",
    "source_of",
    "targets",
    "type_from_proto",
    "type_to_proto",
    "types_of",
    "value_info",
]

_DTYPE_NAMES = {number: name for name, number in ONNX_DTYPES.items()}


class HasMetadata(Protocol):
    """Any ONNX message with `metadata_props`."""

    @property
    def metadata_props(self) -> Any:
        """The repeated entries."""
        ...


def metadata(holder: HasMetadata) -> dict[str, str]:
    """Return all metadata of a message."""
    return {entry.key: entry.value for entry in holder.metadata_props}


def check_texts(model: ModelProto) -> None:
    """Check that all names and metadata of a model's functions are texts.

    Raises:
        ValueError: One is no UTF-8; a message hands it out as bytes.
    """
    _check_texts(_texts_of(model))
    for function in model.functions:
        _check_texts((function.name, function.domain, *function.input, *function.output))
        _check_texts(_texts_of(function))
        for node in function.node:
            _check_texts((node.op_type, node.domain, node.name, *node.input, *node.output))
            _check_texts(_texts_of(node))
            _check_texts(attribute.name for attribute in node.attribute)


def _texts_of(holder: HasMetadata) -> Iterator[object]:
    for entry in holder.metadata_props:
        yield entry.key
        yield entry.value


def _check_texts(values: Iterable[object]) -> None:
    for value in values:
        if type(value) is not str:
            raise ValueError(f"{value!r:.80} is no text")


def get_meta(holder: HasMetadata, key: str, default: str = "") -> str:
    """Return one metadata value."""
    for entry in holder.metadata_props:
        if entry.key == key:
            return str(entry.value)
    return default


def set_meta(holder: HasMetadata, key: str, value: str) -> None:
    """Write one metadata value, replacing an earlier one; an empty text removes it."""
    props = holder.metadata_props
    for at, entry in enumerate(props):
        if entry.key == key:
            if value:
                entry.value = value
            else:
                del props[at]
            return
    if value:
        props.append(StringStringEntryProto(key=key, value=value))


def meta_list(holder: HasMetadata, key: str) -> list[str]:
    """Return a comma-separated metadata value as a list."""
    text = get_meta(holder, key)
    return text.split(",") if text else []


def source_of(node: NodeProto) -> SourceLine | None:
    """Return the user's line that recorded an op."""
    text = get_meta(node, keys.SOURCE)
    return SourceLine.parse(text) if text else None


def attributes(node: NodeProto) -> dict[str, Any]:
    """Return an op's attributes as plain values; tensors become arrays, texts become `str`."""
    return {attribute.name: _plain(attribute) for attribute in node.attribute}


def _plain(attribute: AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if attribute.type == AttributeProto.STRING:
        return value.decode()
    if attribute.type == AttributeProto.STRINGS:
        return [text.decode() for text in value]
    if attribute.type == AttributeProto.TENSOR:
        return numpy_helper.to_array(value)
    if attribute.type in (AttributeProto.INTS, AttributeProto.FLOATS):
        return list(value)
    return value


def type_to_proto(value: Type) -> TypeProto:
    """Return the ONNX type; what ONNX has no type for becomes an opaque type with our text."""
    if value.kind == "tensor" and value.dtype:
        return helper.make_tensor_type_proto(
            ONNX_DTYPES[value.dtype], None if value.shape is None else list(value.shape)
        )
    return _opaque(value)


def _opaque(value: Type) -> TypeProto:
    opaque = TypeProto.Opaque(domain=keys.TYPE_DOMAIN, name=str(value))
    return TypeProto(opaque_type=opaque, denotation=str(value))


def type_from_proto(proto: TypeProto) -> Type:
    """Return our type of an ONNX type; `any` for one that we do not know."""
    if proto.WhichOneof("value") == "opaque_type" and proto.opaque_type.domain == keys.TYPE_DOMAIN:
        return parse_type(proto.opaque_type.name)
    if proto.WhichOneof("value") != "tensor_type":
        return ANY
    dtype = _DTYPE_NAMES.get(proto.tensor_type.elem_type, "")
    if not proto.tensor_type.HasField("shape"):
        return tensor(dtype)
    dims = proto.tensor_type.shape.dim
    return tensor(dtype, tuple(_dim(d.WhichOneof("value"), d) for d in dims))


def _dim(kind: str | None, dim: Any) -> Dim:
    if kind is None:
        return None
    return int(dim.dim_value) if kind == "dim_value" else str(dim.dim_param)


def opsets(nodes: Iterable[NodeProto]) -> list[OperatorSetIdProto]:
    """Return the imports that a function with these nodes needs, sorted by domain.

    Tensor ops are written with the empty domain: the checker of ONNX takes `ai.onnx`, its other
    name, for one that it does not know.
    """
    domains = {node.domain for node in nodes} | {"", keys.MODULE}
    versions = {"": keys.OPSET, keys.ONNX: keys.OPSET}
    return [helper.make_opsetid(d, versions.get(d, keys.OWN_OPSET)) for d in sorted(domains)]


def domain_of(node: NodeProto) -> str:
    """Return an op's domain, `ai.onnx` for the empty one."""
    return node.domain or keys.ONNX


def set_nodes(function: FunctionProto, nodes: Iterable[NodeProto]) -> None:
    """Give a function other nodes, with the imports and the type declarations that fit them.

    Types that were declared are kept, in the order in which the values are made.
    """
    known = {info.name: info for info in function.value_info}
    kept = FunctionProto(node=nodes)  # copies, so that nodes of the function itself may be given
    del function.node[:], function.value_info[:], function.opset_import[:]
    function.node.extend(kept.node)
    made = dict.fromkeys((*function.input, *(v for node in kept.node for v in node.output)))
    function.value_info.extend(known[name] for name in made if name in known)
    function.opset_import.extend(opsets(kept.node))


def targets(model: ModelProto) -> list[FunctionProto]:
    """Return the functions that are programs of their own, not tensor ops made into one call."""
    return [function for function in model.functions if function.domain != keys.FUSED]


def draw(model: ModelProto) -> None:
    """Let the main graph call each target once, so that viewers have something to show."""
    graph = model.graph
    del graph.node[:], graph.input[:], graph.output[:]
    for function in targets(model):
        short = function.name.partition("#")[0]
        types = types_of(function)
        inputs = [f"{short}/{name}" for name in function.input]
        outputs = [f"{short}/{name}" for name in function.output]
        if not inputs and not outputs:
            continue
        graph.node.append(
            helper.make_node(function.name, inputs, outputs, name=short, domain=keys.MODULE)
        )
        graph.input.extend(_port(n, types, p) for n, p in zip(inputs, function.input, strict=True))
        graph.output.extend(
            _port(n, types, p) for n, p in zip(outputs, function.output, strict=True)
        )


def _port(name: str, types: dict[str, Type], port: str) -> ValueInfoProto:
    """Return the declaration of a graph's port, which may not lack a shape."""
    known = types.get(port, ANY)
    if known.kind == "tensor" and known.shape is None:
        return ValueInfoProto(name=name, type=_opaque(known))
    return value_info(name, known)


def value_info(name: str, value: Type) -> ValueInfoProto:
    """Return the declaration of a value."""
    return ValueInfoProto(name=name, type=type_to_proto(value))


def types_of(function: FunctionProto) -> dict[str, Type]:
    """Return the declared types of a function's values."""
    return {info.name: type_from_proto(info.type) for info in function.value_info}


def set_types(function: FunctionProto, types: Iterable[tuple[str, Type]]) -> None:
    """Declare the types of values, replacing all earlier declarations."""
    del function.value_info[:]
    function.value_info.extend(value_info(name, value) for name, value in types)
