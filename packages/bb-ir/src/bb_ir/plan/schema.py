"""Where the schema of plans lies, for programs in other languages."""

from __future__ import annotations

from pathlib import Path

import bb_ir

__all__ = ["proto_path"]


def proto_path() -> Path:
    """Return the file `plan.proto` of this installation, from which protoc makes code.

    Beside it lies `bb_plan.hpp`, which reads plans in C++.
    """
    return Path(bb_ir.__file__).with_name("_proto") / "plan.proto"
