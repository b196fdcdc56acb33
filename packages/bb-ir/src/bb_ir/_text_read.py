"""Reads models from text; `bb_ir.text` says how it looks."""

from __future__ import annotations

import base64
import json
import re
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    StringStringEntryProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from bb_ir import keys, onnx_tools
from bb_ir._text_grammar import (
    BLANK,
    DOMAINS,
    KEY,
    LEFT_OUT,
    NUMBER,
    PRODUCER,
    STRING,
    TENSOR_HEAD,
    VALUE,
    WORD,
)
from bb_ir.errors import ModelTextError, TypeTextError
from bb_ir.types import ONNX_DTYPES, Type, parse_type

__all__ = ["Reader"]

_M = TypeVar("_M", bound=Message)


class Reader:
    """Recursive descent; one method per thing that can stand in the text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def model(self) -> ModelProto:
        self.blank()
        self.need("model")
        model = ModelProto(ir_version=keys.IR_VERSION, producer_name=PRODUCER)
        self.space()
        model.graph.name = self.name()
        imports: list[Any] | None = None
        drawn = False
        while self.indented():
            if self.take("@"):
                model.metadata_props.append(self.entry())
                continue
            word = self.word()
            self.space()
            if word == "drawn":
                drawn = True
            elif word == "imports":
                imports = self.imports()
            elif word == "graph":
                model.graph.CopyFrom(self.proto(GraphProto))
            elif word in ("ir", "version"):
                setattr(model, {"ir": "ir_version"}.get(word, "model_version"), self.read_json())
            elif word in ("producer", "producer_version", "domain"):
                setattr(model, {"producer": "producer_name"}.get(word, word), self.read_json())
            else:
                raise self.wrong("a field of the model, or metadata after @")
        while not self.ended():
            model.functions.append(self.function())
        nodes = [node for function in model.functions for node in function.node]
        model.opset_import.extend(onnx_tools.opsets(nodes) if imports is None else imports)
        if drawn:
            onnx_tools.draw(model)
        return model

    def function(self) -> FunctionProto:
        self.need("function")
        function = FunctionProto(domain=keys.MODULE)
        self.space()
        name = self.name()
        infos: list[ValueInfoProto] = []
        self.need("(")
        inputs = self.values(infos, ")")
        self.need("->")
        self.space()
        self.need("(")
        outputs = self.values([], ")")
        imports: list[Any] | None = None
        while self.indented():
            if self.take("@"):
                function.metadata_props.append(self.entry())
            elif self.take("rest "):
                function.MergeFrom(self.proto(FunctionProto))
            elif self.take("domain "):
                function.domain = self.read_json()
            elif self.take("imports"):
                self.space()
                imports = self.imports()
            elif self.take("type "):
                infos.append(self.declaration())
            else:
                function.node.append(self.node(infos))
        function.name = name
        function.input.extend(inputs)
        function.output.extend(outputs)
        function.value_info.extend(infos)
        known = onnx_tools.opsets(function.node) if imports is None else imports
        function.opset_import.extend(known)
        return function

    def node(self, infos: list[ValueInfoProto]) -> NodeProto:
        node = NodeProto(output=self.values(infos, "="))
        self.space()
        node.domain, node.op_type = self.op()
        self.need("(")
        while not self.take(")"):
            if self.match(LEFT_OUT):
                node.input.append("")
            else:
                self.argument(node)
            self.space()
            if not self.take(","):
                self.need(")")
                break
            self.space()
        self.space()
        while self.take("%"):
            mark = self.word()
            self.need("=")
            setattr(node, mark, self.value())
            self.space()
        while self.take("@"):
            key = self.key()
            self.need("=")
            node.metadata_props.append(StringStringEntryProto(key=key, value=self.value()))
            self.space()
        if self.take("#"):
            self.space()
            source = StringStringEntryProto(key=keys.SOURCE, value=self.rest())
            entries = [source, *node.metadata_props]
            del node.metadata_props[:]
            node.metadata_props.extend(entries)
        return node

    def argument(self, node: NodeProto) -> None:
        """Read one input, or one attribute with its value."""
        name = self.name()
        if not self.take("="):
            node.input.append(name)
            return
        attribute = self.attribute(name)
        attribute.name = name
        node.attribute.append(attribute)

    def op(self) -> tuple[str, str]:
        """Return domain and name of an op."""
        if self.text.startswith('"', self.at):
            domain = self.string()
            self.need(".")
            return domain, self.name()
        start = self.at
        short, dot, name = self.word().partition(".")
        if not dot or short not in DOMAINS:
            self.at = start
            raise self.wrong(
                f"a domain before the op's name: {', '.join(DOMAINS)}, or any in quotes"
            )
        return DOMAINS[short], name or self.name()

    def values(self, infos: list[ValueInfoProto], end: str) -> list[str]:
        """Return names up to a mark; their types go to `infos`."""
        names: list[str] = []
        self.space()
        while not self.take(end):
            names.append("" if self.match(LEFT_OUT) else self.name())
            if self.take(":"):
                self.space()
                infos.append(onnx_tools.value_info(names[-1], self.value_type()))
            self.space()
            self.take(",")
            self.space()
        self.space()
        return names

    def declaration(self) -> ValueInfoProto:
        name = self.name()
        if self.take(":"):
            self.space()
            return onnx_tools.value_info(name, self.value_type())
        self.space()
        return self.proto(ValueInfoProto)

    def value_type(self) -> Type:
        start, depth = self.at, 0
        while self.at < len(self.text):
            mark = self.text[self.at]
            depth += (mark in "([") - (mark in ")]")
            if depth < 0 or (depth == 0 and mark in ", \n"):
                break
            self.at += 1
        try:
            return parse_type(self.text[start : self.at])
        except TypeTextError as error:
            raise self.wrong(f"a type: {error.found}") from error

    def attribute(self, name: str) -> AttributeProto:
        if self.take("proto"):
            return self.unpack(AttributeProto)
        if self.take("["):
            return _attribute(name, self.items("]"))
        for kind, number in (
            ("ints", AttributeProto.INTS),
            ("floats", AttributeProto.FLOATS),
            ("strings", AttributeProto.STRINGS),
        ):
            if self.take(f"{kind}[]"):
                return AttributeProto(type=number)
        dtype = self.match(TENSOR_HEAD)
        return _attribute(name, self.tensor(dtype) if dtype else self.scalar())

    def items(self, end: str) -> list[Any]:
        found: list[Any] = []
        while not self.take(end):
            found.append(self.scalar())
            self.space()
            self.take(",")
            self.space()
        return found

    def scalar(self) -> Any:
        if self.take("bytes"):
            return base64.b64decode(self.string())
        if self.text.startswith('"', self.at):
            return self.string().encode()
        for word, known in (("true", True), ("false", False)):
            if self.take(word):
                return known
        number = self.match(NUMBER)
        if not number:
            raise self.wrong("a number, a text, a list or a tensor")
        return int(number) if number.lstrip("-").isdecimal() else float(number)

    def tensor(self, dtype: str) -> TensorProto:
        if dtype not in ONNX_DTYPES:
            raise self.wrong(f"an element type before the dimensions, not {dtype!r}")
        self.need("[")
        dims = self.items("]")
        if not self.take("{"):
            raw = base64.b64decode(self.string())
            return TensorProto(dims=dims, data_type=ONNX_DTYPES[dtype], raw_data=raw)
        items = self.items("}")
        if dtype == "string":
            if not all(isinstance(item, bytes) for item in items):
                raise self.wrong("texts, as the elements of a tensor of texts")
            array = np.empty(len(items), dtype=object)
            array[:] = [item.decode() for item in items]
        else:
            array = np.array(items, dtype=dtype)
        return numpy_helper.from_array(array.reshape(dims))

    def imports(self) -> list[Any]:
        found: list[Any] = []
        while self.text[self.at : self.at + 1] not in ("\n", ""):
            name = self.name()
            self.need("=")
            found.append(helper.make_opsetid(DOMAINS.get(name, name), self.scalar()))
            self.take(",")
            self.space()
        return found

    def entry(self) -> StringStringEntryProto:
        key = self.key()
        self.need(" = ")
        if self.text[self.at : self.at + 1] in ("[", "{"):
            return StringStringEntryProto(key=key, value=json.dumps(self.read_json()))
        return StringStringEntryProto(key=key, value=self.value())

    # Words

    def name(self) -> str:
        return self.string() if self.text.startswith('"', self.at) else self.word()

    def word(self) -> str:
        found = self.match(WORD)
        if not found:
            raise self.wrong("a name")
        return found

    def key(self) -> str:
        if self.text.startswith('"', self.at):
            return self.string()
        return keys.PREFIX + self.match(KEY)

    def value(self) -> str:
        return self.string() if self.text.startswith('"', self.at) else self.match(VALUE)

    def string(self) -> str:
        found = self.match(STRING)
        if not found:
            raise self.wrong("a text between quotation marks")
        return str(json.loads(found))

    def read_json(self) -> Any:
        try:
            found, self.at = json.JSONDecoder().raw_decode(self.text, self.at)
        except ValueError as error:
            raise self.wrong("JSON") from error
        return found

    def proto(self, kind: type[_M]) -> _M:
        self.need("proto")
        return self.unpack(kind)

    def unpack(self, kind: type[_M]) -> _M:
        try:
            return kind.FromString(base64.b64decode(self.string(), validate=True))
        except (DecodeError, ValueError) as error:
            raise self.wrong(f"the base64 of a {kind.__name__}") from error

    def rest(self) -> str:
        end = self.text.find("\n", self.at)
        start, self.at = self.at, len(self.text) if end < 0 else end
        return self.text[start : self.at].rstrip()

    # Marks

    def match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return found.group()

    def take(self, mark: str) -> bool:
        if not self.text.startswith(mark, self.at):
            return False
        self.at += len(mark)
        return True

    def need(self, mark: str) -> None:
        if not self.take(mark):
            raise self.wrong(repr(mark))

    def space(self) -> None:
        while self.take(" "):
            pass

    def blank(self) -> None:
        """Skip empty lines and comments; stops before the first line of another kind."""
        while True:
            if not self.match(BLANK):
                return

    def indented(self) -> bool:
        """Go on to the next line of this part; false when the part has ended."""
        self.space()
        if self.at < len(self.text):
            self.need("\n")
        self.blank()
        if not self.take("  "):
            return False
        self.space()
        return True

    def ended(self) -> bool:
        self.blank()
        return not self.text[self.at :].strip()

    def wrong(self, expected: str) -> ModelTextError:
        line = self.text.count("\n", 0, self.at) + 1
        start = self.text.rfind("\n", 0, self.at) + 1
        rest = self.text[self.at :].partition("\n")[0][:40]
        return ModelTextError(
            f"line {line}, character {self.at - start + 1}: {rest!r}", expected=expected
        )


def _attribute(name: str, value: Any) -> AttributeProto:
    return helper.make_attribute(name, value)
