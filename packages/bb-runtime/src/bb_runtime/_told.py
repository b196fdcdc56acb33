"""What steps are about, in words: for timelines and for errors that compare runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from bb_ir import keys
from bb_ir.errors import SourceLine
from bb_ir.wire import PRELUDE_SIZE, Failed, WireLimits, read_header, read_prelude
from bb_runtime.artifact import Artifact, Op
from bb_runtime.digests import code_of
from bb_runtime.steps import (
    BlockEnded,
    Closed,
    ComponentStuck,
    Deferred,
    Dropped,
    Emitted,
    FrameEnded,
    FrameId,
    OpFailed,
    Readable,
    Ship,
)

__all__ = ["NO_LIMITS", "Told", "told"]

#: An envelope of our own is known to be good; how long it may be is no question here.
NO_LIMITS = WireLimits(header=1 << 30, segments=1 << 20, payload=1 << 62)


class Told(NamedTuple):
    """What a step is about.

    Attributes:
        kind: Name of its class.
        what: What happened, in a few words.
        op: The op that it is about, as `slot.Op` or `Op`; empty when it is about none.
        frame: The frame that it is about, if one.
        source: The user's line of that op.
    """

    kind: str
    what: str
    op: str
    frame: FrameId | None
    source: SourceLine | None


def told(step: tuple[Any, ...], artifact: Artifact) -> Told:
    """Say what a step is about."""
    match step:
        case Ship():
            return _shipped(step, artifact)
        case Emitted():
            op = _found(artifact, step.target, name=keys.OUTPUT, output=step.name)
            return _about(step, f"{step.name} of {step.target}", op, step.frame)
        case OpFailed():
            name = f"{step.slot}.{step.op}" if step.slot else step.op
            why = getattr(step.error, "found", step.error)
            what = f"{name} of {step.target}: {code_of(step.error)}: {why}"
            return Told("OpFailed", what, name, step.frame, step.source)
        case FrameEnded():
            why = f": {step.reason}" if step.reason else ""
            op = _found(artifact, step.target, opens=step.region)
            return _about(step, f"{step.how} {step.target}/{step.region}{why}", op, step.frame)
        case BlockEnded():
            op = _found(artifact, step.target, opens=step.region)
            what = f"{step.how} {step.region} after {step.turns} turns, {step.failed} failed"
            return _about(step, what, op, None)
        case Deferred():
            op = _found(artifact, step.target, name=step.op, slot=step.slot)
            return _about(step, f"work of {step.target}", op, step.frame)
        case Dropped():
            by = f" from {step.peer}" if step.peer is not None else ""
            on = f" on {step.edge}" if step.edge else ""
            return _about(step, f"{step.reason}{on}{by}", None, None)
        case Readable():
            return _about(step, f"peer {step.peer}", None, None)
        case ComponentStuck():
            op = _found(artifact, step.target, name=step.op, slot=step.slot)
            how = "stuck" if step.stuck else "usable again"
            return _about(step, f"{step.component} of slot {step.slot!r} {how}", op, step.frame)
        case Closed():
            what = f"{step.finished} frames done, {step.cancelled} cancelled"
            return _about(step, what, None, None)
        case _:
            return _about(step, "", None, None)


def _about(step: tuple[Any, ...], what: str, op: Op | None, frame: FrameId | None) -> Told:
    name = "" if op is None else f"{op.slot}.{op.name}" if op.slot else op.name
    return Told(type(step).__name__, what, name, frame, None if op is None else op.source)


def _shipped(step: Ship, artifact: Artifact) -> Told:
    data = memoryview(step.envelope.head)
    prelude, header = data[:PRELUDE_SIZE], data[PRELUDE_SIZE:]
    head = read_header(read_prelude(prelude, NO_LIMITS), header, NO_LIMITS)
    size = len(step.envelope.head) + step.envelope.payload_length
    if isinstance(head.control, Failed):
        edge = artifact.edges_by_id.get(head.control.edge)
        name = f"no {edge.name}: {head.control.reason}" if edge else "an answer that will not come"
    else:
        edge = artifact.edges_by_id.get(head.edge)
        name = edge.name if edge else "?"
    sends = (op for op in _ops(artifact) if edge and (op.edge, op.name) == (edge.name, keys.SEND))
    return _about(step, f"{name} to {step.to}, {size:,} bytes", next(sends, None), None)


def _ops(artifact: Artifact) -> Iterable[Op]:
    return (op for target in artifact.targets.values() for op in target.ops)


def _found(
    artifact: Artifact, target: str, *, name: str = "", slot: str = "", opens: str = "",
    output: str = "",
) -> Op | None:  # fmt: skip
    """Return the first op of a target of which all that is said holds."""
    for one in artifact.targets.values():
        if one.short != target:
            continue
        for op in one.ops:
            own = (op.name, op.slot, op.opens, str(op.attributes.get("name")))
            wanted = (name, slot, opens, output)
            if all(one in ("", has) for one, has in zip(wanted, own, strict=True)):
                return op
    return None
