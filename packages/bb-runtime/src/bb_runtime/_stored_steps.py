"""Steps that nobody has polled yet, as plain data and back.

What an exception was is lost: an op's failure comes back as an `OpError` that says the same, under
the code of the error that it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from bb_ir.errors import BytesAndBrainsError, SourceLine
from bb_ir.wire import Built
from bb_runtime._portable import Packer, Unwritable, unpack_bytes
from bb_runtime.errors import NotStorable, OpError
from bb_runtime.steps import (
    BlockEnded,
    Closed,
    ComponentStuck,
    Dropped,
    Emitted,
    FrameEnded,
    OpFailed,
    Readable,
    Ship,
    Step,
)

__all__ = ["pack_step", "size_of", "unpack_step"]

#: Steps whose fields a dump can hold as they are.
_PLAIN: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (BlockEnded, Closed, ComponentStuck, Dropped, FrameEnded, Readable)
}


def pack_step(step: Step, packer: Packer) -> tuple[Any, ...]:
    """Return a step as a dump can hold it.

    Raises:
        NotStorable: It holds a value that means nothing in another process.
    """
    kind = type(step).__name__
    if isinstance(step, Ship):
        to, envelope, number = step
        segments = [packer.buffer(one) for one in envelope.segments]
        return kind, to, envelope.head, segments, envelope.payload_length, number
    if isinstance(step, OpFailed):
        fields = step._replace(error=cast("Any", None), source=None, place=None)
        return kind, tuple(fields), _said(step.error), _place(step.source), _place(step.place)
    if isinstance(step, Emitted):
        return kind, step.target, step.name, _value(step, packer), step.frame
    return kind, *step


def _value(step: Emitted, packer: Packer) -> Any:
    try:
        return packer.pack(step.value)
    except Unwritable as error:
        raise NotStorable(
            f"the output {step.name!r} of {step.target}, which nobody has polled, is {error.what}",
            expected="arrays, parameters, peers and plain data",
            fix="call poll() before",
        ) from error


def unpack_step(packed: tuple[Any, ...], unpack: Callable[[Any], Any]) -> Step:
    """Return the step that `pack_step` was given, whose values `unpack` reads."""
    kind, *fields = packed
    if kind == "Ship":
        to, head, segments, length, number = fields
        views = tuple(memoryview(unpack_bytes(one)) for one in segments)
        return Ship(to, Built(unpack_bytes(head), views, length), number)
    if kind == "OpFailed":
        known, said, source, place = fields
        return OpFailed(*known)._replace(
            error=_error(said), source=_read_place(source), place=_read_place(place)
        )
    if kind == "Emitted":
        target, name, value, frame = fields
        return Emitted(target, name, unpack(value), frame)
    made: Step = _PLAIN[kind](*fields)
    return made


def size_of(packed: tuple[Any, ...]) -> int:
    """Return the bytes of the envelope that `pack_step` was given."""
    _, _, head, _, length, _ = packed
    return len(unpack_bytes(head)) + int(length)


def _said(error: Exception) -> dict[str, Any]:
    if not isinstance(error, BytesAndBrainsError):
        kind = type(error).__name__
        found = f"{kind}: {error}"
        return {"code": kind, "found": found, "expected": "", "fix": "", "where": []}
    return {
        "code": error.code, "found": error.found, "expected": error.expected, "fix": error.fix,
        "where": [_place(place) for place in error.where],
    }  # fmt: skip


def _error(said: dict[str, Any]) -> OpError:
    error = OpError(
        said["found"],
        expected=said["expected"],
        fix=said["fix"],
        where=tuple(map(_read_place, said["where"])),
    )
    vars(error)["code"] = said["code"]
    return error


def _place(place: SourceLine | str | None) -> Any:
    return (place.file, place.line) if isinstance(place, SourceLine) else place


def _read_place(place: Any) -> Any:
    if not isinstance(place, tuple):
        return place
    file, line = place  # pyright: ignore[reportUnknownVariableType]  # as `_place` made it
    return SourceLine(str(file), int(line))  # pyright: ignore[reportUnknownArgumentType]  # the same
