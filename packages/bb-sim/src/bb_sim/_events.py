"""The queue of all that is still to happen, in the order in which it will.

Entries are ordered by their instant, then by what they are, to whom, from whom and which: nothing
depends on the order of creation.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bb_sim._peer import Letter, Lost

__all__ = ["ARRIVE", "FREE", "LOCAL", "MOVE", "NEVER", "RUN", "START", "Entry", "Events"]

#: What an entry is; of one instant, in this order. What was put off until then comes first: it
#: belongs to an earlier instant, and what it sends may arrive among all else that arrives now.
RUN: Final = 0
MOVE: Final = 1
START: Final = 2
LOCAL: Final = 3
ARRIVE: Final = 4
FREE: Final = 5
#: After all that can happen, in nanoseconds.
NEVER: Final = 1 << 80

#: Instant, kind, number of the peer, of the sender, of the envelope and of its copy, serial
#: number, and what arrives.
Entry = tuple[int, int, int, int, int, int, int, "Letter | Lost | None"]


class Events:
    """A queue in virtual time.

    Attributes:
        now_ns: The instant of the last entry that was taken out.
        heap: What is to come; its first entry is the next one.
        serial: How many entries there ever were.
    """

    __slots__ = ("heap", "now_ns", "serial")

    def __init__(self) -> None:
        self.now_ns = 0
        self.heap: list[Entry] = []
        self.serial = 0

    def push(  # noqa: PLR0917  # the fields of an entry, in their order
        self, when: int, kind: int, number: int, source: int = 0, count: int = 0, copy: int = 0,
        what: Letter | Lost | None = None,
    ) -> None:  # fmt: skip
        """Add what will happen at an instant, or now if that is past."""
        self.serial += 1  # decides only between entries that are alike
        if when < self.now_ns:
            assert kind != ARRIVE, "an envelope arrives in the past"
            when = self.now_ns
        heapq.heappush(self.heap, (when, kind, number, source, count, copy, self.serial, what))

    def pop(self) -> Entry:
        """Take out what is next."""
        entry = heapq.heappop(self.heap)
        self.now_ns = entry[0]
        return entry

    def replace(self, now_ns: int, serial: int, entries: list[Entry]) -> None:
        """Take over another queue, its entries in any order."""
        heapq.heapify(entries)
        self.now_ns, self.serial, self.heap = now_ns, serial, entries

    @property
    def next_ns(self) -> int:
        """When the next entry is; `NEVER` without one."""
        return self.heap[0][0] if self.heap else NEVER
