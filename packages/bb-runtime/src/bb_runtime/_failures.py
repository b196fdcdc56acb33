"""What is known about an exception that came out of a stretch."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import bb_roles
from bb_ir.errors import BytesAndBrainsError, SourceLine
from bb_roles.fused import raised_at
from bb_runtime._program import Stretch
from bb_runtime._writing import FIRST_LINE
from bb_runtime.artifact import Op

__all__ = ["failed_op", "forget_traceback", "place_of", "trace_of"]

_HERE = str(Path(__file__).parent)
#: Bases that components inherit from.
_BASES = str(Path(bb_roles.__file__).parent)
#: A traceback is told from its innermost calls; recursion without end would fill a step.
_DEPTH = 40


def failed_op(stretch: Stretch, error: BaseException) -> Op:
    """Return the op that raised in a stretch, by the line of its code in the traceback.

    Of a call that stands for several tensor ops it is the one of them, unless their backend runs
    them in a way of its own.
    """
    trace = error.__traceback__
    # The outermost is this run's; an exception object that was raised before carries older ones.
    while trace is not None and trace.tb_frame.f_code.co_filename != stretch.name:
        trace = trace.tb_next
    line = FIRST_LINE if trace is None else trace.tb_lineno
    op = stretch.ops[max(0, min(line - FIRST_LINE, len(stretch.ops) - 1))]
    at = raised_at(trace) if op.inner else None
    return op if at is None else op.inner[min(at, len(op.inner) - 1)]


def place_of(error: BaseException) -> SourceLine | None:
    """Return the innermost line of a component that raised: where its author must look.

    What a component raises on purpose, an error of ours, says more than a line would.
    """
    if isinstance(error, BytesAndBrainsError):
        return None
    calls = (
        (call.f_code.co_filename, line) for call, line in traceback.walk_tb(error.__traceback__)
    )
    own = [(name, line) for name, line in calls if not name.startswith(("<bb ", _HERE))]
    if not own:
        return None
    # What its author wrote says more than a base of ours that calls it.
    own = [one for one in own if not one[0].startswith(_BASES)] or own
    # A component's own lines say more than those of the libraries that it calls.
    home = os.path.dirname(own[0][0])  # noqa: PTH120  # thirty times as fast, on text of Python's
    name, line = [one for one in own if os.path.dirname(one[0]) == home][-1]  # noqa: PTH120
    return SourceLine(name, line or 0)


def trace_of(error: BaseException) -> str:
    """Return the traceback of an error as text, with those that led to it."""
    return "".join(traceback.format_exception(error, limit=-_DEPTH))


def forget_traceback(error: BaseException) -> None:
    """Drop the tracebacks of an error and of those that led to it.

    They refer to the frames of the calls, and so to whatever these held.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = None
        waiting += (one.__cause__, one.__context__)
