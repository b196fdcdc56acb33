"""What is known about an exception that came out of a stretch."""

from __future__ import annotations

from bb_runtime._lower import FIRST_LINE, Stretch
from bb_runtime.artifact import Op

__all__ = ["failed_op", "forget_traceback"]


def failed_op(stretch: Stretch, error: BaseException) -> Op:
    """Return the op of a stretch that raised, by the line of its code in the traceback."""
    trace = error.__traceback__
    line = FIRST_LINE
    # The outermost is this run's; an exception object that was raised before carries older ones.
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == stretch.name:
            line = trace.tb_lineno
            break
        trace = trace.tb_next
    return stretch.ops[max(0, min(line - FIRST_LINE, len(stretch.ops) - 1))]


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
