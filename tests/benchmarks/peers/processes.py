"""What a process and all that it started cost: CPU seconds and memory, as Linux counts them.

Runs in the environments of the peers, so it needs the standard library only, and nothing of ours.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

__all__ = ["cpu_of_others", "descendants", "held_bytes", "own_peak_bytes"]

_PROC = Path("/proc")
_TICK = os.sysconf("SC_CLK_TCK")


def cpu_of_others() -> float:
    """Return the CPU seconds of all processes that this one has started, alive or not."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    alive = sum(_ticks(pid) for pid in descendants(os.getpid())) / _TICK
    return ended.ru_utime + ended.ru_stime + alive


def descendants(root: int) -> list[int]:
    """Return the ids of all processes that one has started, and of theirs, which live."""
    children: dict[int, list[int]] = {}
    for path in _PROC.glob("[0-9]*"):
        if fields := _stat(int(path.name)):
            children.setdefault(int(fields[1]), []).append(int(path.name))
    found: list[int] = []
    left = [root]
    while left:
        mine = children.get(left.pop(), [])
        found += mine
        left += mine
    return found


def held_bytes(root: int) -> int:
    """Return the memory that a process and all that it started hold now.

    What several of them share counts once, by halves and thirds (the proportional set size).
    """
    return sum(_held(pid) for pid in [root, *descendants(root)])


def own_peak_bytes() -> int:
    """Return the most that this process alone ever held, as the kernel saw it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _stat(pid: int) -> list[str]:
    """Return what the kernel tells of a process, after its name; nothing when it has ended."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _ticks(pid: int) -> int:
    """Return the CPU time of a process and of those of its children that it has seen end."""
    return sum(map(int, _stat(pid)[11:15]))


def _held(pid: int) -> int:
    with contextlib.suppress(OSError):
        return sum(_shares(pid))
    return 0


def _shares(pid: int) -> Iterator[int]:
    for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            yield int(line.split()[1]) * 1024
