"""Models as text: one line per op, to be read by people, compared in tests and parsed back.

    model Doubler
      @root = Doubler

    function Doubler(x: tensor(float32)[?]) -> (y)
      @phase = body
      constant.0: tensor(float32)[] = onnx.Constant(value=float32[]{2.0}) @slot=backend  # my.py:9
      mul.1: tensor(float32)[?] = onnx.Mul(x, constant.0) @slot=backend  # my.py:9
      y: tensor(float32)[?] = syscall.Output(mul.1, name="y")  # my.py:9

An op's line gives its results with their types, its domain (our own without their prefix) and
name, inputs and attributes, `_` for an input that is left out, `@` before metadata of ours, and
after `#` the user's line that recorded it. What is as it always is, is not printed: versions, the
producer, the imports that the ops need, a main graph that calls each function once. Metadata that
holds JSON is written out over several lines. What has no form here (a graph inside an attribute,
a type that is not ours) stands as `proto"<base64>"`.

Everything but documentation strings survives: `parse_model(print_model(m)) == m` without them.
Lines that begin with `#` are comments. ONNX has a text form too; it drops metadata and types of
functions, and misreads dotted names. This module decides nothing about what a model means.
"""

from __future__ import annotations

from onnx import ModelProto

from bb_ir._text_read import Reader
from bb_ir._text_write import lines_of

__all__ = ["parse_model", "print_model"]


def print_model(model: ModelProto) -> str:
    """Return a model as text; documentation strings are left out."""
    return "\n".join(lines_of(model)) + "\n"


def parse_model(text: str) -> ModelProto:
    """Read what `print_model` wrote, or what was written by hand in the same form.

    Raises:
        ModelTextError: The text is not a model; the error says in which line.
    """
    reader = Reader(text)
    try:
        return reader.model()
    except (AttributeError, OverflowError, RecursionError, TypeError, ValueError) as error:
        # Of JSON, numpy or protobuf.
        raise reader.wrong(f"a value that fits: {error}") from error
