"""Instants at which something about a peer is looked at again; frames have `_timers`."""

from __future__ import annotations

import heapq
from typing import Protocol

__all__ = ["Alarms"]

_SLACK = 256


class _Alarmed(Protocol):
    """What has an alarm; it matters as long as `alarm_ns` is the instant it was set for."""

    alarm_ns: int


class Alarms:
    """Alarms of one Node; equal instants ring in the order in which they were set."""

    __slots__ = ("_limit", "_number", "heap")

    def __init__(self) -> None:
        #: The first of these is the earliest; it may matter no more.
        self.heap: list[tuple[int, int, _Alarmed]] = []
        self._number = 0
        self._limit = _SLACK

    def set(self, when_ns: int, what: _Alarmed) -> None:
        """Set an alarm; `what.alarm_ns` says the same instant."""
        self._number += 1
        heapq.heappush(self.heap, (when_ns, self._number, what))
        if len(self.heap) > self._limit:
            # Those that do not matter any more would otherwise stay until their instant.
            self.heap = [one for one in self.heap if one[2].alarm_ns == one[0]]
            heapq.heapify(self.heap)
            self._limit = _SLACK + 2 * len(self.heap)

    def ahead(self) -> list[tuple[int, object]]:
        """Return what still matters, in the order in which it rings."""
        found = sorted((*one[:2], one[2]) for one in self.heap if one[2].alarm_ns == one[0])
        return [(when, what) for when, _, what in found]

    def clear(self) -> None:
        """Forget all."""
        self.heap.clear()

    def next(self) -> int | None:
        """Return the earliest instant that still matters."""
        while self.heap and self.heap[0][2].alarm_ns != self.heap[0][0]:
            heapq.heappop(self.heap)
        return self.heap[0][0] if self.heap else None

    def pop(self) -> _Alarmed:
        """Take the earliest out; `next` has just returned its instant."""
        what = heapq.heappop(self.heap)[2]
        what.alarm_ns = -1
        return what
