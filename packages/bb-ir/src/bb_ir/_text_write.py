"""Writes models as text; `bb_ir.text` says how it looks."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    StringStringEntryProto,
    TensorProto,
    ValueInfoProto,
    numpy_helper,
)

from bb_ir import keys, onnx_tools
from bb_ir._text_grammar import KEY, MISLEADING, PRODUCER, SHORT_DOMAINS, VALUE, WORD
from bb_ir.errors import TypeTextError
from bb_ir.types import ONNX_DTYPES, Type

__all__ = ["lines_of"]

_M = TypeVar("_M", bound=Message)

_DTYPE_NAMES = {number: name for name, number in ONNX_DTYPES.items()}
#: Tensors of more elements are written as base64.
_MANY = 32


def lines_of(model: ModelProto) -> Iterator[str]:
    """Yield the lines of a model's text."""
    yield f"model {_quote(model.graph.name)}"
    nodes = [node for function in model.functions for node in function.node]
    for name, value, usual in (
        ("ir", model.ir_version, keys.IR_VERSION),
        ("producer", model.producer_name, PRODUCER),
        ("producer_version", model.producer_version, ""),
        ("domain", model.domain, ""),
        ("version", model.model_version, 0),
    ):
        if value != usual:
            yield f"  {name} {json.dumps(value)}"
    yield from _print_imports(model.opset_import, nodes)
    for entry in model.metadata_props:
        yield from _print_entry(entry)
    yield from _print_graph(model)
    for function in model.functions:
        yield ""
        yield from _print_function(function)


def _print_graph(model: ModelProto) -> Iterator[str]:
    graph = _without_docs(model.graph)
    if graph == GraphProto(name=graph.name):
        return
    drawn = ModelProto(functions=model.functions, graph=GraphProto(name=graph.name))
    onnx_tools.draw(drawn)
    if drawn.graph == graph:
        yield "  drawn"
    else:
        yield f"  graph {_proto(graph)}"


def _print_function(function: FunctionProto) -> Iterator[str]:
    types, apart = _types(function)
    inputs = ", ".join(_typed(name, types) for name in function.input)
    outputs = ", ".join(map(_quote, function.output))
    yield f"function {_quote(function.name)}({inputs}) -> ({outputs})"
    rest = _without_docs(function)
    for field in ("name", "domain", "input", "output", "node", "value_info", "opset_import"):
        rest.ClearField(field)
    del rest.metadata_props[:]
    if rest != FunctionProto():
        yield f"  rest {_proto(rest)}"
    if function.domain != keys.MODULE:
        yield f"  domain {json.dumps(function.domain)}"
    yield from _print_imports(function.opset_import, function.node)
    for entry in function.metadata_props:
        yield from _print_entry(entry)
    for info in apart:
        yield f"  type {_declaration(info)}"
    for node in function.node:
        yield f"  {_print_node(node, types)}"


def _types(function: FunctionProto) -> tuple[dict[str, Type], list[ValueInfoProto]]:
    """Return types to print beside their values, or declarations to print apart."""
    declared = [_without_docs(info) for info in function.value_info]
    known = {info.name: info for info in declared}
    made = dict.fromkeys((*function.input, *(v for node in function.node for v in node.output)))
    try:
        types = {
            name: onnx_tools.type_from_proto(known[name].type) for name in made if name in known
        }
    except TypeTextError:
        return {}, declared
    if declared == [onnx_tools.value_info(name, type_) for name, type_ in types.items()]:
        return types, []
    return {}, declared


def _declaration(info: ValueInfoProto) -> str:
    try:
        known = onnx_tools.type_from_proto(info.type)
    except TypeTextError:
        return f"{_quote(info.name)} {_proto(info)}"
    if onnx_tools.value_info(info.name, known) == info:
        return f"{_quote(info.name)}: {known}"
    return f"{_quote(info.name)} {_proto(info)}"


def _print_imports(imports: Iterable[Any], nodes: Iterable[NodeProto]) -> Iterator[str]:
    listed = list(imports)
    if listed != onnx_tools.opsets(nodes):
        names = [f"{SHORT_DOMAINS.get(o.domain) or _quote(o.domain)}={o.version}" for o in listed]
        yield f"  imports {', '.join(names)}".rstrip()


def _print_entry(entry: StringStringEntryProto) -> Iterator[str]:
    head = f"  @{_key(entry.key)} = "
    block = _block(entry.value)
    if block is None:
        bare = VALUE.fullmatch(entry.value) is not None
        yield head + (entry.value if bare else json.dumps(entry.value, ensure_ascii=False))
    else:
        yield head + block[0]
        yield from (f"  {line}" for line in block[1:])


def _block(value: str) -> list[str] | None:
    """Return JSON with one line per element, if that gives back the same text."""
    if not value.startswith(("[", "{")):
        return None
    try:
        found: Any = json.loads(value)
    except ValueError:
        return None
    if json.dumps(found) != value:
        return None
    if value[0] == "{":
        lines = [f"  {json.dumps(name)}: {json.dumps(found[name])}," for name in found]
    else:
        lines = [f"  {json.dumps(part)}," for part in found]
    if not lines:
        return [value]
    lines[-1] = lines[-1].removesuffix(",")
    return [value[0], *lines, value[-1]]


def _print_node(node: NodeProto, types: dict[str, Type]) -> str:
    outputs = ", ".join(_typed(name, types) for name in node.output)
    inputs = [_typed(name, {}) for name in node.input]
    inputs += [_print_attribute(attribute) for attribute in node.attribute]
    line = f"{outputs} = {_domain(node.domain)}{_quote(node.op_type)}({', '.join(inputs)})".lstrip()
    marks = [("name", node.name), ("overload", node.overload)]
    line += "".join(f" %{mark}={_value(text)}" for mark, text in marks if text)
    entries = list(node.metadata_props)
    source = ""
    if entries and entries[0].key == keys.SOURCE and VALUE.fullmatch(entries[0].value):
        source = f"  # {entries.pop(0).value}"
    return line + "".join(f" @{_key(e.key)}={_value(e.value)}" for e in entries) + source


def _print_attribute(attribute: AttributeProto) -> str:
    text = _attribute_value(attribute)
    if text is None:
        text = _proto(_without_docs(attribute))
    return f"{_quote(attribute.name)}={text}"


def _attribute_value(attribute: AttributeProto) -> str | None:
    if attribute.ref_attr_name:
        return None
    kinds: dict[int, Callable[[AttributeProto], str | None]] = {
        AttributeProto.INT: lambda a: str(a.i),
        AttributeProto.FLOAT: lambda a: _float(a.f),
        AttributeProto.STRING: lambda a: _bytes(a.s),
        AttributeProto.INTS: lambda a: _listed("ints", map(str, a.ints)),
        AttributeProto.FLOATS: lambda a: _listed("floats", map(_float, a.floats)),
        AttributeProto.STRINGS: lambda a: _listed("strings", map(_bytes, a.strings)),
        AttributeProto.TENSOR: lambda a: _print_tensor(a.t),
    }
    write = kinds.get(attribute.type)
    return None if write is None else write(attribute)


def _listed(kind: str, items: Iterable[str]) -> str:
    texts = list(items)
    return f"[{', '.join(texts)}]" if texts else f"{kind}[]"


def _float(value: float) -> str:
    text = str(np.float32(value))
    return text if any(mark in text for mark in ".ein") else f"{text}.0"


def _bytes(value: bytes) -> str:
    try:
        return json.dumps(value.decode(), ensure_ascii=False)
    except UnicodeDecodeError:
        return f'bytes"{base64.b64encode(value).decode()}"'


def _print_tensor(tensor: TensorProto) -> str | None:
    """Return a tensor's elements, or its bytes; `None` when neither gives back the same."""
    copy = _without_docs(tensor)
    dtype = _DTYPE_NAMES.get(copy.data_type, "")
    if not dtype or copy.data_location == TensorProto.EXTERNAL:
        return None
    head = f"{dtype}[{','.join(map(str, copy.dims))}]"
    raw = TensorProto(dims=copy.dims, data_type=copy.data_type, raw_data=copy.raw_data)
    if math.prod(copy.dims) <= _MANY and dtype not in ("float16", "bfloat16"):
        array = _array(copy)
        if array is not None and numpy_helper.from_array(array) == copy:
            return f"{head}{{{', '.join(map(_element, array.flatten()))}}}"
    return f'{head}"{base64.b64encode(copy.raw_data).decode()}"' if raw == copy else None


def _array(tensor: TensorProto) -> NDArray[Any] | None:
    """Return a tensor's elements; `None` when they are not as many as its dimensions say."""
    try:
        found: NDArray[Any] = numpy_helper.to_array(tensor)
    except (ValueError, TypeError):
        return None
    return found


def _element(value: Any) -> str:
    if isinstance(value, (str, bytes)):
        text = value if isinstance(value, str) else value.decode()
        return json.dumps(text, ensure_ascii=False)
    return str(value).lower()


def _typed(name: str, types: dict[str, Type]) -> str:
    """Return a name with its type, which is told where the value appears first."""
    if not name:
        return "_"  # a port that is left out
    known = types.pop(name, None)
    return _quote(name) if known is None else f"{_quote(name)}: {known}"


def _quote(text: str) -> str:
    """Return a name as it is, or between quotation marks when it would be misread."""
    bare = text != "_" and WORD.fullmatch(text) and not MISLEADING.fullmatch(text)
    return text if bare else json.dumps(text, ensure_ascii=False)


def _value(text: str) -> str:
    return text if VALUE.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _key(key: str) -> str:
    short = key.removeprefix(keys.PREFIX)
    if short != key and KEY.fullmatch(short):
        return short
    return json.dumps(key, ensure_ascii=False)


def _domain(domain: str) -> str:
    return SHORT_DOMAINS.get(domain, json.dumps(domain, ensure_ascii=False)) + "."


def _proto(message: Message) -> str:
    data = message.SerializeToString(deterministic=True)
    return f'proto"{base64.b64encode(data).decode()}"'


def _without_docs(message: _M) -> _M:
    copy = type(message)()
    copy.CopyFrom(message)
    copy.ClearField("doc_string")
    return copy
