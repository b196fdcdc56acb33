"""The rule: parameters leave a Node only through a codec."""

from __future__ import annotations

from onnx import FunctionProto, ModelProto, NodeProto

from bb_ir import keys, onnx_tools
from bb_ir.errors import BytesAndBrainsError
from bb_ir.types import Type

_CODEC = keys.role_domain("codec")


class RawParameters(BytesAndBrainsError):
    """Parameters are sent as they are."""


def encoded_params(model: ModelProto) -> ModelProto:
    """Refuse a program that sends parameters which no codec encoded.

    Raises:
        RawParameters: An edge carries some.
    """
    for function in model.functions:
        _Rule(function).check()
    return model


class _Rule:
    """The rule, for the ops of one function."""

    def __init__(self, function: FunctionProto) -> None:
        self._nodes = function.node
        self._types = onnx_tools.types_of(function)
        self._makers = {name: node for node in function.node for name in node.output}

    def check(self) -> None:
        for node in self._nodes:
            if (node.domain, node.op_type) == (keys.WIRE, keys.SEND):
                self._check_send(node)

    def _check_send(self, send: NodeProto) -> None:
        for value in send.input[1:]:
            if not self._is_raw(value):
                continue
            raise RawParameters(
                f"edge {onnx_tools.get_meta(send, keys.EDGE)!r} carries raw parameters",
                expected="parameters that a codec encoded",
                fix="send self.codec.encode(g, params), and decode what arrives",
                where=tuple(filter(None, (onnx_tools.source_of(send),))),
            )

    def _is_raw(self, value: str) -> bool:
        type_, maker = self._types.get(value), self._makers.get(value)
        if type_ is None or not _holds_params(type_):
            return False
        if maker is None:  # an input of the program
            return True
        if maker.domain == _CODEC and maker.op_type == "Encode":
            return False
        if (maker.domain, maker.op_type) == (keys.WIRE, keys.SEND):
            return False  # it was looked at where it was sent first
        if maker.domain == keys.SYSCALL:  # a record, or the answers of a round
            return any(self._is_raw(name) for name in maker.input)
        return True


def _holds_params(type_: Type) -> bool:
    return type_.kind == "params" or any(_holds_params(inner) for _, inner in type_.items or ())
