"""The content hash of a function: what its name is stamped with and the program hash is made of.

Two functions have the same hash if and only if they say the same, whatever their values are
called and wherever they were written. SHA-256 runs over a canonical form:

* Values are numbered in the order in which they first appear: inputs, then the nodes in their
  order with inputs before outputs, then outputs. A graph inside an attribute sees the numbers of
  the values around it and gives its own the next free ones.
* Of a node count domain, op type, overload, ports, attributes sorted by name, and of its metadata
  slot, class, region and edge, and `after` and `order` with numbers instead of names, each as a
  set; and the schema of the op and the region that it opens, where it has one.
* Attributes count with their values. A tensor counts by element type, dimensions and its elements
  as little-endian bytes, whichever field holds them; where the data lies in another file, by the
  entries that say where.
* Of the function count its inputs and outputs in order, attributes, opset imports, the types of
  its values, and its metadata without source, documentation and hashes.
* Names of the function, of nodes, graphs and values, documentation, `at`, `scope`, `placed` and
  `source`, and the order of metadata, attributes, imports and type declarations do not count.

Everything is written with a mark and a length before it, so that no two forms run into one. The
form depends on nothing but the message: not on how protobuf serializes, nor on Python's hashes.
This module reads no files, and imports onnx only where it is given an ONNX message.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from bb_ir import keys
from bb_ir.errors import BytesAndBrainsError

if TYPE_CHECKING:
    from onnx import (
        AttributeProto,
        FunctionProto,
        GraphProto,
        NodeProto,
        SparseTensorProto,
        TensorProto,
        TypeProto,
        ValueInfoProto,
    )

__all__ = ["content_hash", "stable_name"]

#: Stands at the head of the canonical form; a change of the form changes it.
_FORM: Final = "bytesandbrains function form 1"
_NAME_DIGITS: Final = 16

#: Metadata of nodes that means something, and whether it is text or names of values.
_TEXT_KEYS: Final = (keys.SLOT, keys.CLASS, keys.REGION, keys.EDGE)
_VALUE_KEYS: Final = (keys.AFTER, keys.ORDER)
#: Metadata of functions that means nothing.
_IGNORED_KEYS: Final = (keys.SOURCE, keys.PREFIX + "doc")

#: Where ONNX keeps elements that are not raw, as what, and what they are, by element type.
_NARROW: Final = ("int32_data", "<i4", "<u1")
_TYPED_DATA: Final = {
    1: ("float_data", "<f4", "<f4"),  # float32
    4: ("int32_data", "<i4", "<u2"),  # uint16
    5: ("int32_data", "<i4", "<u2"),  # int16
    6: ("int32_data", "<i4", "<i4"),  # int32
    7: ("int64_data", "<i8", "<i8"),  # int64
    10: ("int32_data", "<i4", "<u2"),  # float16
    11: ("double_data", "<f8", "<f8"),  # float64
    12: ("uint64_data", "<u8", "<u4"),  # uint32
    13: ("uint64_data", "<u8", "<u8"),  # uint64
    14: ("float_data", "<f4", "<f4"),  # complex64, real and imaginary parts in turn
    15: ("double_data", "<f8", "<f8"),  # complex128
    16: ("int32_data", "<i4", "<u2"),  # bfloat16
}


def content_hash(function: FunctionProto) -> str:
    """Return the SHA-256 of a function's canonical form, as 64 hexadecimal digits.

    Raises:
        BytesAndBrainsError: An attribute has no type, so its value cannot be told.
    """
    out = _Form()
    out.text(_FORM)
    _function(out, function)
    return out.digest()


def stable_name(name: str, content: str) -> str:
    """Return the name of a function together with the first 16 digits of its content hash."""
    return f"{name}#{content[:_NAME_DIGITS]}"


class _Form:
    """A hash over marked values, each with its length, so that their borders count."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def digest(self) -> str:
        return self._hash.hexdigest()

    def data(self, value: bytes | memoryview, mark: bytes = b"b") -> None:
        self._hash.update(mark + len(value).to_bytes(8, "little"))
        self._hash.update(value)

    def text(self, value: str) -> None:
        self.data(value.encode("utf-8", "surrogatepass"), b"t")

    def number(self, value: int) -> None:
        self.data(str(value).encode(), b"n")

    def real(self, value: float) -> None:
        self.data(struct.pack("<f", value), b"f")

    def each(self, values: Iterable[Any], write: Callable[[Any], None]) -> None:
        """Write a list: how many there are, then each."""
        listed = list(values)
        self.data(str(len(listed)).encode(), b"l")
        for value in listed:
            write(value)

    def pairs(self, found: Iterable[tuple[str, str]]) -> None:
        """Write pairs of texts whose order means nothing."""
        self.each(itertools.chain.from_iterable(sorted(found)), self.text)


class _Values:
    """Numbers of values, by name; a graph inside a node sees those around it."""

    def __init__(self, numbers: dict[str, int], fresh: Iterator[int]) -> None:
        self._numbers = numbers
        self._fresh = fresh

    def inner(self) -> _Values:
        return _Values(dict(self._numbers), self._fresh)

    def number(self, name: str) -> int:
        """Return the number of a value, 0 for a port that is left empty."""
        if not name:
            return 0
        found = self._numbers.get(name)
        if found is None:
            found = self._numbers[name] = next(self._fresh)
        return found

    def define(self, name: str) -> int:
        """Return a fresh number for a value of this scope, even where an outer one has its name."""
        self._numbers.pop(name, None)
        return self.number(name)

    def known(self, name: str) -> bool:
        return name in self._numbers


def _function(out: _Form, function: FunctionProto) -> None:
    values = _Values({}, itertools.count(1))
    out.each((values.number(name) for name in function.input), out.number)
    out.each(sorted(function.attribute), out.text)
    out.each(_by_name(function.attribute_proto), lambda a: _attribute(out, a, values))
    imports = ((_domain(entry.domain), str(entry.version)) for entry in function.opset_import)
    out.pairs(imports)
    out.each(function.node, lambda node: _node(out, node, values))
    out.each((values.number(name) for name in function.output), out.number)
    _types(out, function.value_info, values)
    out.pairs(
        (entry.key, entry.value)
        for entry in function.metadata_props
        if entry.key not in _IGNORED_KEYS and not entry.key.startswith(keys.HASH)
    )


def _domain(domain: str) -> str:
    """Return the one name of a domain; that of ONNX itself has two."""
    return domain or keys.ONNX


def _by_name(attributes: Iterable[AttributeProto]) -> list[AttributeProto]:
    return sorted(attributes, key=lambda attribute: attribute.name)


def _node(out: _Form, node: NodeProto, values: _Values) -> None:
    out.text(_domain(node.domain))
    out.text(node.op_type)
    out.text(node.overload)
    out.each((values.number(name) for name in node.input), out.number)
    out.each(_by_name(node.attribute), lambda attribute: _attribute(out, attribute, values))
    out.each((values.number(name) for name in node.output), out.number)
    meta = {entry.key: entry.value for entry in node.metadata_props}
    for key in _TEXT_KEYS:
        out.text(meta.get(key, ""))
    for key in _VALUE_KEYS:
        out.each(_numbered(meta.get(key, ""), values), out.number)
    for key, mark in ((keys.SCHEMA, b"s"), (keys.OPENS, b"o")):
        if key in meta:
            out.data(meta[key].encode("utf-8", "surrogatepass"), mark)


def _numbered(names: str, values: _Values) -> list[int]:
    """Return the numbers of a comma-separated set of values, which has no order of its own."""
    listed = [name.strip() for name in names.split(",") if name.strip()]
    seen = sorted(values.number(name) for name in listed if values.known(name))
    return seen + [values.number(name) for name in listed if not values.known(name)]


def _types(out: _Form, infos: Iterable[ValueInfoProto], values: _Values) -> None:
    """Write the declared types of all values that appeared, in the order of their numbers."""
    known = [(values.number(info.name), info) for info in infos if values.known(info.name)]
    out.each(sorted(known, key=lambda entry: entry[0]), lambda entry: _typed(out, *entry))


def _typed(out: _Form, number: int, info: ValueInfoProto) -> None:
    out.number(number)
    _type(out, info.type)


def _type(out: _Form, proto: TypeProto) -> None:
    kind = proto.WhichOneof("value") or ""
    out.text(kind)
    out.text(proto.denotation)
    if kind in ("tensor_type", "sparse_tensor_type"):
        tensor = getattr(proto, kind)
        out.number(tensor.elem_type)
        out.number(tensor.HasField("shape"))
        out.each(tensor.shape.dim, lambda dim: _dim(out, dim))
    elif kind in ("sequence_type", "optional_type"):
        _type(out, getattr(proto, kind).elem_type)
    elif kind == "map_type":
        out.number(proto.map_type.key_type)
        _type(out, proto.map_type.value_type)
    elif kind == "opaque_type":
        out.text(proto.opaque_type.domain)
        out.text(proto.opaque_type.name)


def _dim(out: _Form, dim: Any) -> None:
    kind = dim.WhichOneof("value") or ""
    out.text(kind)
    out.text(dim.denotation)
    if kind:
        out.text(str(getattr(dim, kind)))


def _attribute(out: _Form, attribute: AttributeProto, values: _Values) -> None:
    from onnx import AttributeProto

    writers: dict[int, tuple[str, Callable[[Any], None]]] = {
        AttributeProto.FLOAT: ("f", out.real),
        AttributeProto.INT: ("i", out.number),
        AttributeProto.STRING: ("s", out.data),
        AttributeProto.TENSOR: ("t", lambda tensor: _tensor(out, tensor)),
        AttributeProto.GRAPH: ("g", lambda graph: _graph(out, graph, values.inner())),
        AttributeProto.SPARSE_TENSOR: ("sparse_tensor", lambda tensor: _sparse(out, tensor)),
        AttributeProto.TYPE_PROTO: ("tp", lambda proto: _type(out, proto)),
        AttributeProto.FLOATS: ("floats", out.real),
        AttributeProto.INTS: ("ints", out.number),
        AttributeProto.STRINGS: ("strings", out.data),
        AttributeProto.TENSORS: ("tensors", lambda tensor: _tensor(out, tensor)),
        AttributeProto.GRAPHS: ("graphs", lambda graph: _graph(out, graph, values.inner())),
        AttributeProto.SPARSE_TENSORS: ("sparse_tensors", lambda tensor: _sparse(out, tensor)),
        AttributeProto.TYPE_PROTOS: ("type_protos", lambda proto: _type(out, proto)),
    }
    out.text(attribute.name)
    out.number(attribute.type)
    out.text(attribute.ref_attr_name)
    if attribute.ref_attr_name:
        return
    if attribute.type not in writers:
        raise BytesAndBrainsError(
            f"The attribute {attribute.name!r} has no known type: {attribute.type}",
            expected="one of the types of ONNX attributes",
            fix="Make it with `onnx.helper.make_attribute`.",
        )
    field, write = writers[attribute.type]
    found = getattr(attribute, field)
    single = attribute.type < AttributeProto.FLOATS or attribute.type in (
        AttributeProto.SPARSE_TENSOR,
        AttributeProto.TYPE_PROTO,
    )
    out.each([found] if single else found, write)


def _graph(out: _Form, graph: GraphProto, values: _Values) -> None:
    out.each((values.define(info.name) for info in graph.input), out.number)
    out.each(graph.initializer, lambda tensor: _named_tensor(out, tensor, values))
    out.each(graph.sparse_initializer, lambda tensor: _named_sparse(out, tensor, values))
    out.each(graph.node, lambda node: _node(out, node, values))
    out.each((values.number(info.name) for info in graph.output), out.number)
    _types(out, [*graph.input, *graph.value_info, *graph.output], values)


def _named_tensor(out: _Form, tensor: TensorProto, values: _Values) -> None:
    out.number(values.number(tensor.name))
    _tensor(out, tensor)


def _named_sparse(out: _Form, tensor: SparseTensorProto, values: _Values) -> None:
    out.number(values.number(tensor.values.name))
    _sparse(out, tensor)


def _sparse(out: _Form, tensor: SparseTensorProto) -> None:
    out.each(tensor.dims, out.number)
    _tensor(out, tensor.values)
    _tensor(out, tensor.indices)


def _tensor(out: _Form, tensor: TensorProto) -> None:
    out.number(tensor.data_type)
    out.each(tensor.dims, out.number)
    if tensor.data_location == tensor.EXTERNAL:
        out.pairs((entry.key, entry.value) for entry in tensor.external_data)
    elif tensor.data_type == tensor.STRING:
        out.each(tensor.string_data, out.data)
    else:
        out.data(_elements(tensor))


def _elements(tensor: TensorProto) -> bytes:
    """Return the elements as little-endian bytes, as `raw_data` has them."""
    import numpy as np

    if tensor.HasField("raw_data"):
        return tensor.raw_data
    field, held, dtype = _TYPED_DATA.get(tensor.data_type, _NARROW)
    # Half floats and small integers stand in wider fields as the bits they are.
    return np.array(getattr(tensor, field), held).astype(dtype).tobytes()
