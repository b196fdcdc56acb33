"""Methods that return another number of values than their op gives.

The line of a stretch unpacks what a method returned, so that a right one costs nothing more; what
Python says of a wrong one names neither the method nor what it should have returned.
"""

from __future__ import annotations

import re

from bb_runtime._program import Stretch
from bb_runtime.artifact import Op, Target
from bb_runtime.errors import OpError

__all__ = ["misreturned", "wrong_results"]

#: What Python says when a line unpacks too many values, too few, or what is no sequence.
_UNPACKING = re.compile(
    r"(?P<many>too many values to unpack)|(?P<few>not enough values to unpack)"
    r"|cannot unpack non-iterable (?P<type>\S+) object"
)
_GOT = re.compile(r"got (\d+)\)")


def misreturned(stretch: Stretch, op: Op, error: Exception, target: Target) -> OpError | None:
    """Return what to say of an op whose method returned no such tuple as it should; else `None`.

    Args:
        stretch: The stretch that raised.
        op: The op on whose line it did.
        error: What Python raised.
        target: Where the op stands.
    """
    if op.schema is None or len(op.outputs) < 2 or not isinstance(error, (ValueError, TypeError)):
        return None
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    # What the method itself raises comes from a frame further in.
    if trace is None or trace.tb_frame.f_code.co_filename != stretch.name:
        return None
    said = _UNPACKING.match(str(error))
    if said is None:
        return None
    count = _GOT.search(str(error))
    if said["type"]:
        returned = said["type"]
    elif count is not None:
        returned = _values(int(count[1]))
    else:
        returned = f"more than {len(op.outputs)} values"
    component = next((row.component for row in target.rows if row.slot == op.slot), "")
    told = wrong_results(op, returned, component)
    told.__cause__ = error
    return told


def wrong_results(op: Op, returned: str | int, component: str = "") -> OpError:
    """Return the error of an op whose method did not return its results.

    Args:
        op: The op.
        returned: What it returned instead, in words, or how many values.
        component: What fills its slot; may be empty.
    """
    told = _values(returned) if isinstance(returned, int) else returned
    schema = op.schema
    ports = () if schema is None else schema.results
    names = ", ".join(port.name for port in ports)
    what = ", ".join(f"{port.name}: {port.type}" for port in ports)
    by = f" ({component})" if component else ""
    method = op.name if schema is None else schema.method
    return OpError(
        f"{op.name} of slot {op.slot!r}{by} returned {told}",
        expected=f"{len(op.outputs)} values: ({what})",
        fix=f"end its method {method!r} with `return {names}`",
    )


def _values(count: int) -> str:
    return f"{count} value{'s' * (count != 1)}"
