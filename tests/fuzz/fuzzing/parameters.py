"""Parameter sets as safetensors files, what the codecs make of them, and values of every type."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from random import Random
from typing import Any

import numpy as np

from bb_codec_quantize._quantize import Quantize, QuantizeConfig
from bb_ir._proto.core_pb2 import Value
from bb_ir.errors import WireError
from bb_ir.params import Layout, ParameterSet
from bb_ir.types import Type, custom
from bb_ir.values import ValueCodec, decode_value, encode_value
from bb_testing.context import FakeContext, environment
from fuzzing._mutate import change_json, change_message
from fuzzing._target import Finding, Target, Tweak
from fuzzing.worlds import VALUES, ids

__all__ = ["PARAMETERS", "VALUES_OF_TYPES", "change_image"]

_WORD = 8


# --- parameter sets --------------------------------------------------------------------------


def read_image(data: bytes) -> str:
    """Read a parameter set and all that is in it; decode it, if a codec made it."""
    found = ParameterSet.from_image(data)
    for name, tensor in found.items():
        if tensor.shape != found.layout.shapes[found.names.index(name)]:
            raise Finding(f"{name} has the shape {tensor.shape}")
    if found.image != data or Layout.from_header(found.layout.header) != found.layout:
        raise Finding("what was read is not what was there")
    str(found.layout.type)
    if set(found.names) == {"layout", "scales", "codes", "kept"}:
        decoded = _codec().decode(FakeContext(), found)
        return "" if decoded.nbytes <= 4096 + 16 * len(data) else "far larger than what came"
    found.flat("float32")
    return ""


@cache
def _codec(to: Any = "int8", per: Any = "tensor") -> Quantize:
    return Quantize(QuantizeConfig(to=to, per=per), environment(slot="codec"))


def change_image(data: bytes, draw: Random, tweak: Tweak) -> bytes:
    """Change header or data of an image; its length of the header fits again."""
    length = int.from_bytes(data[:_WORD], "little")
    header, rest = data[_WORD : _WORD + length], data[_WORD + length :]
    match draw.randrange(8):
        case 0:
            return tweak(data)
        case 1 | 2:
            return data[: _WORD + length] + tweak(rest)
        case 3:
            header = tweak(header)
        case 4:
            header, rest = _with_codec_layout(header, rest, draw, tweak)
        case _:
            header = change_json(header, draw, tweak)
    header += b" " * (-(_WORD + len(header)) % 64)
    return len(header).to_bytes(_WORD, "little") + header + rest


def _with_codec_layout(
    header: bytes, rest: bytes, draw: Random, tweak: Tweak
) -> tuple[bytes, bytes]:
    """Change the JSON that the quantizing codec keeps as a tensor, and where all others lie."""
    try:
        table = json.loads(header)
        start, end = table["layout"]["data_offsets"]
        changed = change_json(rest[start:end], draw, tweak)
        by = len(changed) - (end - start)
        for name, entry in table.items():
            entry["data_offsets"] = [at + by if at >= end else at for at in entry["data_offsets"]]
            if name == "layout":
                entry["shape"] = [len(changed)]
        return json.dumps(table).encode(), rest[:start] + changed + rest[end:]
    except (ValueError, LookupError, TypeError, AttributeError):
        return header, tweak(rest)


def _sets() -> list[ParameterSet]:
    draw = np.random.default_rng(0)
    plain = {"w": draw.normal(size=(3, 4)).astype("f4"), "b": np.zeros(4, "f4")}
    many = {f"layer.{n}": np.full((2, n), n, dtype) for n, dtype in enumerate(("f8", "i2", "u1"))}
    return [
        ParameterSet.from_tensors(plain),
        ParameterSet.from_tensors({**plain, **many, "on": np.array([True, False])}),
        ParameterSet.from_tensors({"x": np.float64(3)}, metadata={"format": "pt"}),
        ParameterSet.from_tensors({}),
    ]


@cache
def _images() -> tuple[bytes, ...]:
    plain = [one.to_bytes() for one in _sets()]
    small = []
    for to, per in (("int8", "tensor"), ("int4", "channel"), ("bfloat16", "tensor")):
        codec = _codec(to, per)
        small += [codec.encode(FakeContext(), one).to_bytes() for one in _sets()]
    return (*plain, *small)


# --- values ----------------------------------------------------------------------------------


def _pair(data: memoryview) -> tuple[int, ...]:
    if len(data) != 2:
        raise WireError(f"{len(data)} bytes instead of 2")
    return tuple(data)


#: Two numbers, as a plugin might send them.
_PAIR = ValueCodec("fuzz.pair/1", lambda value: type(value) is tuple, bytes, _pair, 16)
_CODECS = {_PAIR.name: _PAIR}


@cache
def _types() -> tuple[Type, ...]:
    ids()
    return (*(type_ for type_, _ in VALUES.values()), custom(_PAIR.name))


def read_value(data: bytes) -> str:
    """Decode a value: its type, element type, number of dimensions, dimensions, and bytes."""
    if len(data) < 3:
        return "short"
    type_, codec, rank = _types()[data[0] % len(_types())], data[1], data[2] % 12
    at = 3 + 8 * rank
    shape = tuple(int.from_bytes(data[3 + 8 * n : 11 + 8 * n], "little") for n in range(rank))
    value = decode_value(type_, codec, data[at:], shape, _CODECS)
    again = encode_value(value, type_, _CODECS)
    # Plain data may have been written in another way than ours; it must stay what it is.
    twice = decode_value(type_, again.codec, again.data, again.shape, _CODECS)
    if bytes(encode_value(twice, type_, _CODECS).data) != bytes(again.data):
        raise Finding(f"a value of {type_} is not what it was when it is sent on")
    return ""


def change_value(data: bytes, draw: Random, tweak: Tweak) -> bytes:
    """Change type, shape or bytes of a value."""
    rank = data[2] % 12 if len(data) > 2 else 0
    at = 3 + 8 * rank
    head, body = data[:at], data[at:]
    match draw.randrange(6):
        case 0:
            return tweak(head) + body
        case 1:
            return bytes((draw.randrange(256),)) + data[1:]
        case 2 if body[8:9] == b"{":
            return head + change_image(body, draw, tweak)
        case 3 | 4:
            try:
                plain = Value.FromString(body)
            except Exception:  # noqa: BLE001  # whatever protobuf raises
                return head + tweak(body)
            change_message(plain, draw, tweak)
            return head + plain.SerializeToString()
        case _:
            return head + tweak(body)


@cache
def _values() -> Sequence[bytes]:
    ids()
    found: list[bytes] = []
    for number, (type_, value) in enumerate((*VALUES.values(), (custom(_PAIR.name), (1, 2)))):
        data, codec, shape = encode_value(value, type_, _CODECS)
        dims = b"".join(length.to_bytes(8, "little") for length in shape)
        found.append(bytes((number, codec, len(shape))) + dims + bytes(data))
    return tuple(found)


PARAMETERS = Target("parameters", _images, change_image, read_image)
VALUES_OF_TYPES = Target("values", _values, change_value, read_value)
