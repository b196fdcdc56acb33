"""Who there is: classes, numbers, identities, and the names that a scenario gives to peers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from bb_ir.errors import did_you_mean
from bb_ir.ids import PeerId
from bb_sim._draws import Draws, Purpose, below
from bb_sim.errors import UnknownPeers

__all__ = ["Population"]

_NAME = re.compile(
    r"\s*(?P<cls>[A-Za-z_]\w*)\s*"
    r"(\[\s*((?P<one>\d{1,9})|(?P<low>\d{0,9})\s*:\s*(?P<high>\d{0,9})"
    r"|(?P<part>\d{1,9}(\.\d{1,9})?)\s*%)\s*\])?\s*"
)
_SHA2_256 = b"\x12\x20"


@dataclass(frozen=True)
class Population:
    """All peers, numbered through: first those of the first class, then those of the next.

    Attributes:
        classes: Classes in order.
        first: Number of the first peer of each class, and last of all the number of all peers.
        ids: Identity of each.
        numbers: Number of each identity.
        class_of: Of each peer the place of its class in `classes`.
    """

    classes: tuple[str, ...]
    first: tuple[int, ...]
    ids: tuple[PeerId, ...]
    numbers: Mapping[PeerId, int]
    class_of: tuple[int, ...]

    @classmethod
    def of(cls, counts: Mapping[str, int], seed: int) -> Population:
        """Make the peers of a seed."""
        first = [0]
        for count in counts.values():
            first.append(first[-1] + count)
        ids = tuple(_identity(seed, number) for number in range(first[-1]))
        numbers = {one: number for number, one in enumerate(ids)}
        class_of = tuple(at for at, count in enumerate(counts.values()) for _ in range(count))
        return cls(tuple(counts), tuple(first), ids, numbers, class_of)

    def __len__(self) -> int:
        return self.first[-1]

    def members(self, cls: str) -> range:
        """Return the numbers of a class."""
        at = self.classes.index(cls)
        return range(self.first[at], self.first[at + 1])

    def count(self, cls: str) -> int:
        """Return how many peers a class has."""
        return len(self.members(cls))

    def place(self, number: int) -> tuple[str, int]:
        """Return the class of a peer, and which of it it is."""
        at = self.class_of[number]
        return self.classes[at], number - self.first[at]

    def name(self, number: int) -> str:
        """Return how people name a peer: `server`, `client[3]`."""
        cls, index = self.place(number)
        return cls if self.count(cls) == 1 else f"{cls}[{index}]"

    def select(self, text: str, draws: Draws, place: str) -> tuple[int, ...]:
        """Return the numbers of the peers that a text names, in order.

        Raises:
            UnknownPeers: There are none of that name.
        """
        found: set[int] = set()
        for part in text.split(","):
            found.update(self._select(part, draws, place))
        return tuple(sorted(found))

    def _select(self, text: str, draws: Draws, place: str) -> list[int]:
        told = _NAME.fullmatch(text)
        if told is None:
            raise UnknownPeers(
                f"{place} names the peers {text!r}",
                expected="such as client, client[3], client[0:10] or client[10%]",
            )
        cls = told["cls"]
        if cls not in self.classes:
            raise UnknownPeers(
                f"{place} names the class {cls!r}",
                expected=f"a class of {', '.join(self.classes)}",
                fix=did_you_mean(cls, self.classes),
            )
        members = self.members(cls)
        if told["part"]:
            return _part(members, float(told["part"]) / 100, draws)
        if told["one"]:
            chosen = members[int(told["one"]) : int(told["one"]) + 1]
        elif told["low"] is not None:
            low, high = told["low"], told["high"]
            chosen = members[int(low or 0) : int(high) if high else None]
        else:
            chosen = members
        if not chosen:
            raise UnknownPeers(
                f"{place} names {text.strip()}, of which there are none",
                expected=f"numbers from 0 to {len(members) - 1}",
            )
        return list(chosen)


def _part(members: range, share: float, draws: Draws) -> list[int]:
    """Draw a share of the members, at least one."""
    wanted = min(len(members), max(1, round(share * len(members))))
    left = list(members)
    return [
        left.pop(below(draws.at(Purpose.MEMBERS, members.start, 0, n)[0], len(left)))
        for n in range(wanted)
    ]


def _identity(seed: int, number: int) -> PeerId:
    """Return a hash of seed and number: simulated peers sign nothing, so they need no keys."""
    return PeerId(_SHA2_256 + hashlib.sha256(f"bb.sim.peer\0{seed}\0{number}".encode()).digest())
