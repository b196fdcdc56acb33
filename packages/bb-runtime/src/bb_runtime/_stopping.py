"""Stops a Node before an op, to look at what its frame holds. Only replays do that."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from bb_ir.errors import SourceLine, did_you_mean
from bb_runtime._program import reads_of
from bb_runtime.errors import InvalidInput
from bb_runtime.steps import FrameId

if TYPE_CHECKING:
    from bb_runtime._engine import Engine
    from bb_runtime._frames import BoundRegion, Frame
    from bb_runtime.artifact import Op

__all__ = ["Stop", "Stopped", "stop_before"]


class Stopped(NamedTuple):
    """Where a replay stopped before an op.

    Attributes:
        record: Number of the record whose call the op runs in.
        op: The op, as `slot.Op` or `Op`.
        target: Target in which it stands.
        region: Its region.
        frame: The frame that runs it.
        source: The user's line that recorded it.
        inputs: What it is given, by name.
        values: What the frame holds, by name.
    """

    record: int
    op: str
    target: str
    region: str
    frame: FrameId
    source: SourceLine | None
    inputs: dict[str, Any]
    values: dict[str, Any]


class Stop(BaseException):
    """Passes through the Node when the op is reached; no component can catch it."""

    def __init__(self, op: Op, frame: Frame, given: tuple[Any, ...]) -> None:
        super().__init__(name_of(op))
        self.op = op
        self.frame = frame
        # The frame or the context come before what the op reads.
        self.given = given[len(given) - len(reads_of(op)) :]

    def stopped(self, record: int, engine: Engine) -> Stopped:
        """Return where it stopped."""
        op, frame = self.op, self.frame
        program = frame.bound.program
        held = zip(program.names, frame.values, strict=False)
        return Stopped(
            record=record,
            op=name_of(op),
            target=program.target.short,
            region=program.info.name,
            frame=engine.id_of(frame),
            source=op.source,
            inputs=dict(zip(reads_of(op), self.given, strict=False)),
            values={name: value for name, value in held if value is not None},
        )


def name_of(op: Op) -> str:
    """Return how an op is called: with its slot, if it has one."""
    return f"{op.slot}.{op.name}" if op.slot else op.name


def stop_before(engine: Engine, wanted: str) -> None:
    """Have a Node stop before every op of a name, `Op` or `slot.Op`.

    Raises:
        InvalidInput: No target of the Node has one.
    """
    seen: set[str] = set()
    found = False
    for bound in (*engine.mains.values(), *engine.regions.values()):
        for at, stretch in enumerate(bound.program.stretches):
            for number, op in enumerate(stretch.ops):
                names = {name for one in (op, *op.inner) for name in (one.name, name_of(one))}
                seen |= names
                if wanted in names:
                    found = _watch(bound, at, number, op) or found
    if not found:
        raise InvalidInput(
            f"no op {wanted!r} runs on this Node",
            expected=f"one of {', '.join(sorted(seen))}",
            fix=did_you_mean(wanted, seen),
        )


def _watch(bound: BoundRegion, stretch: int, number: int, op: Op) -> bool:
    """Put what stops in the place of an op's callable, in the function of its stretch."""
    run: Any = bound.runs[stretch]
    names: tuple[str, ...] = run.__code__.co_varnames[1 : run.__code__.co_argcount]
    name = f"k{number}"
    if name not in names:
        return False  # the frame itself answers it
    calls = dict(zip(names, run.__defaults__, strict=True)) | {name: _stopping(op)}
    run.__defaults__ = tuple(calls.values())
    return True


def _stopping(op: Op) -> Callable[..., Any]:
    def stop(*given: Any) -> Any:
        # The function of a stretch knows its frame as `f`.
        here = inspect.currentframe()
        assert here is not None  # CPython has frames, and so has whatever else we run on
        assert here.f_back is not None
        raise Stop(op, here.f_back.f_locals["f"], given)

    return stop
