"""Deferred work, and what is held for it, as plain data and back.

What is stored of work that a frame waits for is what its op was given. Work that nobody waits for
any more is not stored: in a Node that goes on it counts as come back, so what it used is free.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from bb_ir.ids import PeerId
from bb_roles.contracts import Component
from bb_runtime._frames import ENDED, LIVE, NOTHING, BoundRegion, Frame
from bb_runtime._portable import Packer, Unwritable
from bb_runtime._program import reads_of
from bb_runtime._slots import Grant
from bb_runtime.errors import NodeBusy

if TYPE_CHECKING:
    from bb_runtime._deferred import Work
    from bb_runtime._engine import Engine

__all__ = [
    "busy", "named", "pack_abandoned", "pack_held", "pack_works", "unpack_abandoned",
    "unpack_held", "unpack_line", "unpack_works",
]  # fmt: skip

#: So many ops are named that a Node is busy with.
_NAMED: Final = 5

Frames = Mapping[int, Frame]


def busy(what: str, works: Sequence[Work], why: str, fix: str) -> NodeBusy:
    """Return the error of a Node that cannot be written down, or restored, because of its work."""
    ops = [work.info.op for work in works if work.info is not None]
    more = f" and {len(ops) - _NAMED} more" if len(ops) > _NAMED else ""
    names = ", ".join(f"{op.name} of slot {op.slot!r}" for op in ops[:_NAMED]) + more
    return NodeBusy(
        f"the Node cannot be {what} while {why}: {names or 'of frames that have ended'}",
        expected="no such work in progress",
        fix=fix,
        where=tuple(op.source for op in ops[:_NAMED] if op.source is not None),
    )


_WAIT: Final = "call pause(), then poll() until what was deferred has come back"


def pack_works(engine: Engine, packer: Packer) -> list[tuple[Any, ...]]:
    """Return the ops whose work frames wait for, and what they were given.

    Raises:
        NodeBusy: They cannot be called again elsewhere.
    """
    works = engine.works.under_way()
    devices = [work for work in works if not work.again]
    if devices:
        raise busy("written down", devices, "devices are at work that may not be asked twice",
                   f"{_WAIT}, or declare the component restartable")  # fmt: skip
    return [_work(work, packer) for work in works]


def _work(work: Work, packer: Packer) -> tuple[Any, ...]:
    assert work.frame is not None  # a frame waits for it
    assert work.info is not None
    try:
        return work.frame.number, work.info.index, packer.pack(work.given)
    except Unwritable as error:
        why = f"work is under way that was given {error.what}"
        raise busy("written down", [work], why, _WAIT) from error


def unpack_works(
    engine: Engine, frames: Frames, rows: Iterable[Any], unpack: Callable[[Any], Any]
) -> list[tuple[Frame, int, tuple[Any, ...]]]:
    """Return frames, the events that they wait for, and what the ops are to be given.

    Raises:
        ValueError: No op can wait so.
        LookupError: There is no such op, or no such frame.
    """
    found: dict[tuple[int, int], tuple[Any, ...]] = {}
    for number, event, held in rows:
        frame, given = frames[number], tuple[Any, ...](unpack(held))
        op = engine.works.op_of(frame, event)
        if frame.state != LIVE or (number, event) in found:
            raise ValueError(f"work {event} of frame {number}")
        if len(given) != len(reads_of(op)):
            raise ValueError(f"{len(given)} inputs of {op.name}")
        found[number, event] = given
    return [(frames[number], event, values) for (number, event), values in found.items()]


# What is held


def pack_held(frame: Frame) -> list[tuple[int, dict[int, int]]]:
    """Return the groups of stretches for which a frame holds components, and how often still."""
    return [(number, dict(grant.left)) for number, grant in frame.held.items()]


def unpack_held(frames: Iterable[Frame], tables: Iterable[Any]) -> None:
    """Have frames hold what they held.

    Raises:
        ValueError: They held what they never need, or what somebody else held.
    """
    alone: Counter[int] = Counter()
    shared: Counter[int] = Counter()
    for frame, packed in zip(frames, tables, strict=True):
        for number, left in packed:
            if frame.held is NOTHING:
                frame.held = {}
            grant = frame.held[int(number)] = _grant(frame.bound, int(number), left)
            for one in grant.left:
                (alone if grant.group.wants[one] else shared)[one] += 1
    if any(count > 1 or shared[one] for one, count in alone.items()):
        raise ValueError("a component is held twice")


def _grant(bound: BoundRegion, number: int, left: Mapping[Any, Any]) -> Grant:
    groups = {plan.group.number: plan.group for plan in bound.plans or () if plan is not None}
    grant = Grant(groups[number])
    uses = {int(one): int(count) for one, count in left.items()}
    if not uses or any(not 0 < n <= grant.left[one] for one, n in uses.items()):
        raise ValueError(f"uses {uses} of group {number}")
    grant.left = Counter(uses)
    return grant


def unpack_line(stretches: Sequence[tuple[Frame, int]]) -> list[tuple[Frame, int]]:
    """Return stretches that stand in line for components.

    Raises:
        ValueError: One of them needs none.
    """
    for frame, index in stretches:
        plans = frame.bound.plans
        if plans is None or plans[index] is None:
            raise ValueError(f"stretch {index} of {frame.name!r} in line")
    return list(stretches)


# Rounds that are over


def pack_abandoned(
    engine: Engine, components: Sequence[Component], regions: Mapping[int, int]
) -> list[tuple[Any, ...]]:
    """Return which components are still to be told that rounds are over."""
    places = {id(component): place for place, component in enumerate(components)}
    return [
        (places[id(component)], frame.number, regions[id(frame.bound)], frame.origin, frame.sender)
        for component, frame in engine.abandoning()
    ]


def unpack_abandoned(
    engine: Engine, components: Sequence[Component], packed: Any
) -> tuple[Component, Frame]:
    """Return a component and what it has to know of a frame that has ended."""
    row: tuple[int, int, int, int, Any] = packed
    place, number, region, origin, sender = row
    frame = Frame(int(number), engine.bounds[region], [], 0, int(origin))
    frame.state = ENDED
    if sender is not None and not isinstance(sender, PeerId):
        raise TypeError(f"{type(sender).__name__} instead of a peer")
    frame.sender = sender
    return components[place], frame


def named(works: Sequence[Work]) -> NodeBusy:
    """Return the error of a Node that is to be restored while work is under way."""
    return busy("restored", works, "work is under way", _WAIT)
