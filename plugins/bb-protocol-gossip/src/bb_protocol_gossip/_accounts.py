"""What a Node remembers of its exchanges, so that each of them happens once.

Whoever begins an exchange numbers it, and has at most one open with each peer: what was not
confirmed is sent again under its number, as it was. Whoever takes part knows the last number of
each peer. So an exchange happens once, however often its messages are lost, doubled or late.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from bb_ir.ids import PeerId
from bb_protocol_gossip.errors import InvalidMessage, TooManyPeers

__all__ = ["Accounts", "Open", "Seen", "number_of", "weight_of"]

_LARGEST: Final = (1 << 63) - 1


class Open(NamedTuple):
    """An exchange that was begun here and is not confirmed.

    Attributes:
        sequence: Its number.
        weight: The weight that was given away; 0 for a question.
        value: What was sent.
    """

    sequence: int
    weight: float
    value: Any


class Seen(NamedTuple):
    """The last exchange that a peer began with this Node.

    Attributes:
        sequence: Its number.
        answer: What was answered; `None` for a part of a sum.
    """

    sequence: int
    answer: Any


@dataclass
class Accounts:
    """Exchanges by peer.

    Attributes:
        room: Most peers that may begin exchanges with this Node.
        sequence: The last number that was given.
        opened: What was begun here and is not confirmed; what was sent last stands last.
        seen: The last exchange of each peer.
        again: Whether what is not confirmed has its turn. It alternates with what is new, so that
            a peer that is gone holds up nobody else.
    """

    room: int
    sequence: int = 0
    opened: dict[PeerId, Open] = field(default_factory=dict[PeerId, Open])
    seen: dict[PeerId, Seen] = field(default_factory=dict[PeerId, Seen])
    again: bool = False

    def whose_turn(self, drawn: PeerId) -> PeerId:
        """Return with whom to exchange: who was drawn, or who has not confirmed for longest."""
        if self.opened and self.again and drawn not in self.opened:
            return next(iter(self.opened))
        return drawn

    def repeat(self, peer: PeerId) -> Open:
        """Note that what is not confirmed is sent again."""
        self.again = False
        begun = self.opened[peer] = self.opened.pop(peer)
        return begun

    def begin(self, peer: PeerId, now_ns: int, weight: float, value: Any) -> Open:
        """Note a new exchange with a peer."""
        # The time, where it can be: a Node that lost its state must not use a number twice.
        self.sequence = max(self.sequence + 1, now_ns)
        self.again = True
        begun = self.opened[peer] = Open(self.sequence, weight, value)
        return begun

    def check_room(self, peer: PeerId) -> None:
        """Refuse a peer too many.

        Raises:
            TooManyPeers: There are `room` others.
        """
        if peer in self.seen or len(self.seen) < self.room:
            return
        raise TooManyPeers(
            f"{peer} begins an exchange, and there were {self.room} other peers",
            fix="raise max_peers of gossip, or let peers gossip with fewer neighbours",
        )

    def ended(self, peer: PeerId, sequence: int) -> Open | None:
        """Return the exchange that a receipt ends; `None` if it ended before.

        Raises:
            InvalidMessage: No such number was ever given.
        """
        if sequence > self.sequence:
            raise InvalidMessage(
                f"the receipt of {peer} is for exchange {sequence}",
                expected=f"at most {self.sequence}, the last one of this Node",
            )
        begun = self.opened.get(peer)
        return begun if begun is not None and begun.sequence == sequence else None


def number_of(what: str, fields: Mapping[str, Any]) -> int:
    """Return the number of an exchange from a note or a receipt."""
    value = fields.get("sequence")
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LARGEST:
        return value
    raise InvalidMessage(f"{what} says sequence={value!r}", expected="a whole number of 1 or more")


def weight_of(what: str, fields: Mapping[str, Any], most: int) -> float:
    """Return the weight of a part: more than 0, and no more than all peers have together."""
    value = fields.get("weight")
    if isinstance(value, float) and math.isfinite(value) and 0 < value <= most:
        return value
    raise InvalidMessage(
        f"{what} says weight={value!r}",
        expected=f"a number above 0 and up to {most}, the max_peers of this Node",
    )
