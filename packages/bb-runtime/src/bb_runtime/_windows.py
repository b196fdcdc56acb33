"""Which messages of one peer came before."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

__all__ = ["Window"]

_WINDOW = 256
_BITS = (1 << _WINDOW) - 1
#: Of edges with retries, so many ids are known that need not be near each other.
_MOST_RECEIVED = 128
#: Shared by all that have received none.
_NONE_YET: Final[list[int]] = []


class Window:
    """Message ids seen from one incarnation of a peer.

    Ids of messages that are sent once are known as the highest, and a bit for each of the 256
    below. What is sent again may be far below the highest, as ids are counted over all peers: of
    edges with retries the last 128 ids are known one by one, from when they were received.
    """

    __slots__ = ("bits", "highest", "incarnation", "received", "too_low")

    def __init__(
        self,
        incarnation: int,
        highest: int = 0,
        bits: int = 0,
        received: Sequence[int] = (),
        too_low: int = -1,
    ) -> None:
        self.incarnation = incarnation
        self.highest = highest
        self.bits = bits
        #: In ascending order.
        self.received = list(received) if received else _NONE_YET
        #: Ids up to this one may have been received.
        self.too_low = too_low

    def check(self, message_id: int) -> str:
        """Return why an id is refused, or an empty text."""
        behind = self.highest - message_id
        if behind < 0:
            return ""
        if behind >= _WINDOW:
            return "too_old"
        return "duplicate" if self.bits >> behind & 1 else ""

    def mark(self, message_id: int) -> None:
        """Remember an id that was admitted."""
        ahead = message_id - self.highest
        if ahead > 0:
            self.bits = (self.bits << ahead | 1) & _BITS if ahead < _WINDOW else 1
            self.highest = message_id
        else:
            self.bits |= 1 << -ahead

    def check_received(self, message_id: int) -> str:
        """Return why an id of an edge with retries is refused, or an empty text."""
        if message_id <= self.too_low:
            return "too_old"
        at = bisect_left(self.received, message_id)
        known = at < len(self.received) and self.received[at] == message_id
        return "duplicate" if known else ""

    def mark_received(self, message_id: int) -> None:
        """Remember an id of an edge with retries."""
        if self.received is _NONE_YET:
            self.received = []
        self.received.insert(bisect_left(self.received, message_id), message_id)
        if len(self.received) > _MOST_RECEIVED:
            self.too_low = self.received.pop(0)

    def state(self) -> tuple[int, int, int, tuple[int, ...], int]:
        """Return it as plain data: the arguments that make it again."""
        return self.incarnation, self.highest, self.bits, tuple(self.received), self.too_low
