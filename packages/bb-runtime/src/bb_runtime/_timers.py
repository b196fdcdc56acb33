"""Instants at which something falls due: a heap in which what no longer matters does not pile up.

Nothing here knows the time; the engine says how late it is.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, TypeAlias

from bb_runtime._frames import ENDED, BlockState, DelayState, Dues, Frame, GatherState

if TYPE_CHECKING:
    from bb_runtime._controllers import Every

__all__ = ["Timers"]

_SLACK = 256

#: Of a frame, its gather, the peers of one, its block or sleep, or `None` for its own deadline; of
#: no frame, the block whose tick it is.
What: TypeAlias = "GatherState | Dues | BlockState | DelayState | Every | None"
#: Instant, order of creation, and what falls due.
Timer = tuple[int, int, "Frame | None", What]


def _matters(timer: Timer) -> bool:
    _, _, frame, what = timer
    if frame is None:
        return not getattr(what, "stopped", False)
    return frame.state != ENDED and not getattr(what, "fired", False)


class Timers:
    """Deadlines and ticks; equal instants fall due in the order of creation."""

    __slots__ = ("_limit", "_number", "heap")

    def __init__(self) -> None:
        #: The first of these is the earliest; it may matter no more.
        self.heap: list[Timer] = []
        self._number = 0
        self._limit = _SLACK

    def __len__(self) -> int:
        return sum(map(_matters, self.heap))

    def set(
        self,
        when_ns: int,
        frame: Frame,
        state: GatherState | Dues | BlockState | DelayState | None = None,
    ) -> None:
        """Remember the deadline of a frame, or of a gather or block of it, or when a sleep ends."""
        self._push(when_ns, frame, state)

    def tick(self, when_ns: int, block: Every) -> None:
        """Remember the next tick of a block."""
        self._push(when_ns, None, block)

    def _push(self, when_ns: int, frame: Frame | None, what: What) -> None:
        self._number += 1
        heapq.heappush(self.heap, (when_ns, self._number, frame, what))
        if len(self.heap) > self._limit:
            # Those of ended frames would otherwise stay until their instant.
            self.heap = [timer for timer in self.heap if _matters(timer)]
            heapq.heapify(self.heap)
            self._limit = _SLACK + 2 * len(self.heap)

    def ahead(self) -> list[tuple[int, Frame | None, What]]:
        """Return what still matters, in the order in which it falls due."""
        found = sorted(filter(_matters, self.heap), key=lambda timer: timer[:2])
        return [(when, frame, what) for when, _, frame, what in found]

    def replace(self, ahead: list[tuple[int, Frame | None, What]]) -> None:
        """Forget all, and remember what `ahead` has returned."""
        self.clear()
        for timer in ahead:
            self._push(*timer)

    def clear(self) -> None:
        """Forget all."""
        self.heap.clear()

    def next(self) -> int | None:
        """Return the earliest instant that still matters."""
        while self.heap and not _matters(self.heap[0]):
            heapq.heappop(self.heap)
        return self.heap[0][0] if self.heap else None

    def pop(self) -> tuple[int, Frame | None, What]:
        """Take the earliest out; `next` has just returned its instant."""
        when, _, frame, what = heapq.heappop(self.heap)
        return when, frame, what
