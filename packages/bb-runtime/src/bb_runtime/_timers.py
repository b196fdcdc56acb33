"""Instants at which something falls due: a heap in which what no longer matters does not pile up.

Nothing here knows the time; the engine says how late it is.
"""

from __future__ import annotations

import heapq

from bb_runtime._frames import ENDED, Frame, GatherState

__all__ = ["Timers"]

_SLACK = 256

#: (instant, order of creation, frame, its gather or `None` for its own deadline)
Timer = tuple[int, int, Frame, GatherState | None]


def _matters(timer: Timer) -> bool:
    _, _, frame, state = timer
    return frame.state != ENDED and (state is None or not state.fired)


class Timers:
    """Deadlines of frames and gathers; equal instants fall due in the order of creation."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._number = 0
        self._limit = _SLACK

    def __len__(self) -> int:
        return sum(map(_matters, self._heap))

    def set(self, when_ns: int, frame: Frame, state: GatherState | None = None) -> None:
        """Remember an instant."""
        self._number += 1
        heapq.heappush(self._heap, (when_ns, self._number, frame, state))
        if len(self._heap) > self._limit:
            # Those of ended frames would otherwise stay until their instant.
            self._heap = [timer for timer in self._heap if _matters(timer)]
            heapq.heapify(self._heap)
            self._limit = _SLACK + 2 * len(self._heap)

    def next(self) -> int | None:
        """Return the earliest instant that still matters."""
        while self._heap and not _matters(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self) -> tuple[int, Frame, GatherState | None]:
        """Take the earliest out; `next` has just returned its instant."""
        when, _, frame, state = heapq.heappop(self._heap)
        return when, frame, state
