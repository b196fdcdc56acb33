"""Says where a Node runs that never comes to rest. It changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bb_runtime.errors import EndlessLoop

if TYPE_CHECKING:
    from bb_runtime._controllers import Controller
    from bb_runtime._engine import Engine
    from bb_runtime._frames import BlockState, Frame

__all__ = ["MOST_OPS", "endless_loop"]

#: So many ops in a row, without coming to rest, are taken for a loop without end.
MOST_OPS: Final = 10_000_000


def endless_loop(engine: Engine, ops: int) -> EndlessLoop:
    """Return what to raise about a Node that ran so many ops without coming to rest."""
    found = f"peer {engine.peer} ran {ops:,} ops, and is still not at rest"
    # Where nothing is ready, all waits for work which a host does at once.
    ready = engine.ready_stretches() or [(one, 0) for one in reversed(engine.frames.values())]
    if not ready:
        return EndlessLoop(found, fix="let what it does wait for something")
    frame, index = ready[0]
    program = frame.bound.program
    op = next(iter(program.stretches[index].ops), None)
    name = "of no name" if op is None else f"{op.slot}.{op.name}" if op.slot else op.name
    blocks = _blocks_around(frame)
    turns = [f"turn {b.number:,} of {b.info.op.name.lower()}" for b in blocks]
    inside = f", in {', in '.join(turns)}" if turns else ""
    lines = [one.info.op.source for one in reversed(blocks)]
    if op is not None and not lines:
        lines = [op.source]
    return EndlessLoop(
        f"{found}: next is op {name} in frame {frame.number} of {program.target.short}{inside}",
        expected="a program that waits, for messages or for time, or that ends",
        fix="end it with times= or until=, have it wait with g.sleep, or allow it more ops",
        where=tuple(dict.fromkeys(line for line in lines if line is not None)),
    )


def _blocks_around(frame: Frame) -> list[BlockState | Controller]:
    """Return the blocks whose turn a frame is part of, the innermost first."""
    found: list[BlockState | Controller] = []
    here: Frame | None = frame
    while here is not None:
        block = here.block or here.controller
        if block is not None:
            found.append(block)
        here = here.parent
    return found
