"""Compiled programs, as ONNX and in the text form of models."""

from __future__ import annotations

import contextlib
from functools import cache
from random import Random

from bb_compiler.explain import explain
from bb_ir.errors import BytesAndBrainsError, ModelTextError
from bb_ir.text import parse_model, print_model
from bb_runtime import install, load_artifact
from fuzzing._mutate import bytes_of, change_json, change_message, change_text
from fuzzing._target import Finding, Target, Tweak
from fuzzing.worlds import artifact, ids, model

__all__ = ["ARTIFACTS", "TEXTS_OF_MODELS"]


# --- artifacts -------------------------------------------------------------------------------


@cache
def allowed() -> frozenset[str]:
    """Return the components that the programs bind: a change must not import others."""
    rows = [
        row
        for name in ("Everything", "Blocks")
        for target in artifact(name).targets.values()
        for row in target.rows
    ]
    return frozenset(f"{row.role}.{row.component}" for row in rows) | {"type.fuzz.pair.1"}


def read_artifact(data: bytes) -> str:
    """Explain an artifact, then read it and install all of its targets."""
    with contextlib.suppress(BytesAndBrainsError):
        _explain(data)
    found = load_artifact(data)
    repr(found)
    found._repr_html_()
    for target in list(found.targets.values()):
        config = {"peers": {"peers": ids()[1:3]}} if "client" not in target.short else {}
        node = install(ids()[0], [], found, [target.name], config, allow=allowed())
        node.next_wakeup()
        node.close()
    return ""


def _explain(data: bytes) -> None:
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    try:
        found = ModelProto.FromString(data)
    except DecodeError:
        return  # `bb explain` says so before
    told = explain(found)
    str(told)
    told.to_dict()
    told.to_html()


@cache
def _models() -> tuple[bytes, ...]:
    return tuple(model(name) for name in ("Everything", "Blocks"))


def change_artifact(data: bytes, draw: Random, tweak: Tweak) -> bytes:
    """Change a field of a model, or a table in its metadata."""
    from onnx import ModelProto

    if draw.randrange(12) == 0:
        return tweak(data)
    try:
        found = ModelProto.FromString(data)
    except Exception:  # noqa: BLE001  # whatever protobuf raises
        return tweak(data)
    holders = [found, *found.functions, *(node for f in found.functions for node in f.node)]
    entries = [entry for one in holders for entry in one.metadata_props]
    if draw.randrange(2) and entries:
        # The tables of the model are few among the metadata of all ops.
        few = list(found.metadata_props)
        entry = draw.choice(few if few and draw.randrange(2) else entries)
        old = entry.value if isinstance(entry.value, bytes) else entry.value.encode()
        text = change_json(old, draw, tweak) if old[:1] in (b"[", b"{") else tweak(old)
        entry.value = text.decode(errors="replace")
    else:
        change_message(found, draw, tweak)
    return found.SerializeToString()


# --- texts -----------------------------------------------------------------------------------


def read_model_text(data: bytes) -> str:
    """Read a model and write it again."""
    found = parse_model(data.decode("utf-8", errors="replace"))
    text = print_model(found)
    try:
        again = parse_model(text)
    except ModelTextError as error:
        raise Finding(f"what was written cannot be read: {error}\n{text}") from error
    if again.SerializeToString(deterministic=True) != found.SerializeToString(deterministic=True):
        raise Finding(f"what was written is read as something else:\n{text}")
    return ""


_SMALL = """\
model Doubler
  @root = Doubler
  @slots = {"backend": {"role": "backend"}}

function Doubler(x: tensor(float32)[?]) -> (y)
  @phase = body
  constant.0: tensor(float32)[] = onnx.Constant(value=float32[]{2.0}) @slot=backend  # my.py:9
  mul.1: tensor(float32)[?] = onnx.Mul(x, constant.0) @slot=backend @after=constant.0
  _, z: params = onnx.Split(mul.1, _, axis=-1, names=["a", "b"], f=[0.5, inf], e=ints[])
  t: list(int64) = "other.domain".Odd(t=int64[2,1]{1, 2}, s=string[1]{"x"})
  u: tensor = "other.domain".Odd(r=float32[2]"AACAPwAAAEA=")
  y: tensor(float32)[?] = syscall.Output(mul.1, name="y", text=bytes"AAE=")  # my.py:9
"""


@cache
def _texts() -> tuple[bytes, ...]:
    from onnx import ModelProto

    printed = [print_model(ModelProto.FromString(data)) for data in _models()]
    parts = [part for text in printed for part in text.split("\n\n")]
    heads = [text.split("\n\n")[0] for text in printed]
    whole = [f"{heads[0]}\n\n{part}" for part in parts if part.startswith("function")]
    small = print_model(parse_model(_SMALL))
    return tuple(bytes_of(one) for one in (small, *sorted(whole, key=len)[:4], *printed))


def change_model_text(data: bytes, draw: Random, tweak: Tweak) -> bytes:
    """Change a word, a mark or a line."""
    return change_text(data, draw, tweak, _WORDS, draw.choice(_texts()[:3]))


_WORDS = (
    b"model", b"function", b"drawn", b"imports", b"graph", b"ir", b"version", b"producer", b"rest",
    b"domain", b"type", b"proto", b"onnx.", b"syscall.", b"wire.", b"module.", b"fused.", b"_",
    b"true", b"false", b"inf", b"nan", b"bytes", b"ints[]", b"floats[]", b"strings[]", b"float32[]",
    b"string[1]", b"bool[2]", b"float16[1]", b"bfloat16[1]", b"uint64[1]", b"%name=", b"@root",
    b"->", b"=", b"(", b")", b"{", b"}", b"[", b"]", b",", b":", b"#", b'"', b"\n  ", b"\n\n",
    b'""', b"\\", b"\\u0000",
)  # fmt: skip

ARTIFACTS = Target(
    "artifacts", _models, change_artifact, read_artifact, base=16 << 20, longest=1 << 16
)
TEXTS_OF_MODELS = Target("texts", _texts, change_model_text, read_model_text, base=8 << 20)
