"""How errors call values and regions: by what a user wrote, not by what the recorder numbered.

Every module that words errors of the compiler takes these; nothing here decides what is wrong.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from onnx import NodeProto

from bb_ir import keys, onnx_tools

if TYPE_CHECKING:
    from bb_compiler._placement import Region

__all__ = ["label_of", "starts", "value_text", "where_it_stands"]

#: What the recorder puts behind the hint that a value is named by.
_NUMBER = re.compile(r"\.\d+\Z")


def label_of(name: str, maker: NodeProto | None = None) -> str:
    """Return the readable part of a value's name, such as `metrics` of `metrics.4`.

    Args:
        name: The name in the recording.
        maker: The op that gives the value; it knows the sub-module whose name stands in front.
    """
    scope = "" if maker is None else onnx_tools.get_meta(maker, keys.SCOPE)
    own = name.partition("@")[0]  # what a block's frames are handed keeps its name in front
    own = own.removeprefix(f"{scope}.") if scope else own
    return _NUMBER.sub("", own) or name


def value_text(name: str, maker: NodeProto | None = None, reader: NodeProto | None = None) -> str:
    """Return a value as an error names it: `'metrics' (line 12)`.

    Args:
        name: The name in the recording.
        maker: The op that gives the value, if one does.
        reader: The op that the error is about; the file is named when it is another one.
    """
    label = repr(label_of(name, maker))
    line = None if maker is None else onnx_tools.source_of(maker)
    if line is None:
        return label
    own = None if reader is None else onnx_tools.source_of(reader)
    place = f"line {line.line}" if own is None or own.file == line.file else str(line)
    return f"{label} ({place})"


def where_it_stands(region: Region) -> str:
    """Return a region with its class, and what starts it."""
    return f"class {region.cls!r} (region {region.name!r}, {starts(region)})"


def starts(region: Region) -> str:
    """Say what a region is, in the words of the program: what starts a frame of it."""
    if region.kind and region.parent:
        return f"a turn of the {region.kind} block"
    if region.kind:
        return f"started by the {region.kind} block"
    if region.parent:
        return f"which starts when a reply {region.name!r} arrives"
    if region.opened_in:
        return f"which starts when {region.name!r} arrives"
    return "which an invocation starts"
