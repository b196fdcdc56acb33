"""What is in an artifact, for people and tools: as data, and as a page with a drawing.

`explain` reads a compiled model and works out what it sends; `trace` also runs the stages and says
what each one changed. Nothing here changes a model, reads a file or prints.
"""

from __future__ import annotations

from bb_compiler._sizes import Counters, EdgeBytes, Span
from bb_compiler.explain._changes import trace
from bb_compiler.explain._envelopes import envelope_bytes
from bb_compiler.explain._explanation import Explanation
from bb_compiler.explain._info import (
    Binding,
    EdgeInfo,
    OpInfo,
    PortInfo,
    RegionInfo,
    StageInfo,
    TargetInfo,
    Traffic,
)
from bb_compiler.explain._read import NotAnArtifact, WrongAssumption, explain

__all__ = [
    "Binding",
    "Counters",
    "EdgeBytes",
    "EdgeInfo",
    "Explanation",
    "NotAnArtifact",
    "OpInfo",
    "PortInfo",
    "RegionInfo",
    "Span",
    "StageInfo",
    "TargetInfo",
    "Traffic",
    "WrongAssumption",
    "envelope_bytes",
    "explain",
    "trace",
]
