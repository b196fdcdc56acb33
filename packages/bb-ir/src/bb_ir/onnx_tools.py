"""Reading and writing the parts of ONNX messages that this project relies on.

Metadata, attributes as plain values, and the bridge between `bb_ir.types` and ONNX types. Nothing
here knows what a pass or an engine does with them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from onnx import (
    AttributeProto,
    FunctionProto,
    NodeProto,
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
    "get_meta",
    "meta_list",
    "metadata",
    "set_meta",
    "set_types",
    "source_of",
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
