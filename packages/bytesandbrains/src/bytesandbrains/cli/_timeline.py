"""What a replayed Node did, call by call: as lines for people and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bb_runtime.replay import Entry, Replay

__all__ = ["data_of", "lines_of", "quiet"]


def quiet(entry: Entry) -> bool:
    """Tell whether a call brought nothing: hosts tell of every envelope, and poll a lot."""
    return entry.call in ("poll", "sent") and not entry.steps and not entry.raised


def lines_of(replayed: Replay, entry: Entry) -> list[str]:
    """Return the lines that tell of one call and the steps that it brought."""
    raised = f"  raised {entry.raised}" if entry.raised else ""
    time = f"{entry.now_ns / 1e9:.3f}s"
    call = f"{entry.record:>6}  {time:>10}  {entry.call} {entry.about}".rstrip()
    lines = [call + raised]
    for step in map(replayed.tell, entry.steps):
        frame = f"  frame {step.frame.number}" if step.frame is not None else ""
        lines.append(f"{'':>20}{step.kind:<10}  {step.what}{frame}")
    return lines


def data_of(replayed: Replay, entry: Entry) -> dict[str, Any]:
    """Return the same as data."""
    steps = [
        {"kind": step.kind, "what": step.what, "op": step.op,
         "frame": step.frame and step.frame.number, "source": step.source and str(step.source)}
        for step in map(replayed.tell, entry.steps)
    ]  # fmt: skip
    return {
        "record": entry.record,
        "now_ns": entry.now_ns,
        "call": entry.call,
        "about": entry.about,
        "raised": entry.raised,
        "steps": steps,
    }
