"""Peers that nobody authorized, and that may send all the same because a class is open.

All of them together have what one authorized peer has: one share of frames, of bytes that came in
and of bytes that a host has not sent. What finds no room in it is refused as `busy`, and not
answered: to remember who is to come later would be one more thing that strangers can fill. Of so
many strangers a record is kept (`Options.max_strangers`); the one that was idle longest makes room
for the next, and with it goes what was known of its messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from bb_ir.ids import PeerId
from bb_runtime._peers import Peer
from bb_runtime._pressure import share_of

if TYPE_CHECKING:
    from bb_runtime._engine import Engine

__all__ = ["Strangers"]

#: So many answers may wait for one stranger: to be sent, or until it says that they came. They
#: outlive their frames, so that the share of frames does not bound them.
_MOST_LETTERS: Final = 4


class Strangers:
    """The strangers of one Node.

    Attributes:
        records: Those that are remembered; the one that was heard last is the last.
    """

    __slots__ = ("_account", "_engine", "records")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._account: Peer | None = None
        self.records: dict[PeerId, Peer] = {}

    @property
    def account(self) -> Peer:
        """What all of them are charged for together."""
        if self._account is None:  # most Nodes never have a stranger
            self._account = Peer(self._engine.peer)
        return self._account

    def full(self, record: Peer | None, length: int) -> bool:
        """Tell whether an envelope finds no room in what strangers may take."""
        options, account = self._engine.options, self.account
        if account.frames >= max(1, share_of(options.max_frames, options)):
            return True
        if account.held + length > share_of(options.max_inbound_bytes, options):
            return True
        if record is not None and len(record.retrying) + len(record.waiting) >= _MOST_LETTERS:
            return True
        known = record is not None and record.group is not None
        return not known and self._crowded and self._idle() is None

    def join(self, record: Peer) -> None:
        """Count a peer as a stranger: one of its envelopes was admitted as such."""
        self.records.pop(record.id, None)
        if record.group is None:
            idle = self._idle() if self._crowded else None
            if idle is not None:
                self.leave(idle.id)
                self._engine.peers.records.pop(idle.id, None)
            record.group = self.account
            self._charge(record, 1)
            self._engine.turns.regroup()
        self.records[record.id] = record

    def leave(self, peer: PeerId) -> None:
        """Count a peer as a stranger no more; it is charged for itself from now on."""
        record = self.records.pop(peer, None)
        if record is not None:
            self._charge(record, -1)
            record.group = None
            self._engine.turns.regroup()

    def load(self, peers: Iterable[PeerId]) -> None:
        """Let others be strangers; their records are there already."""
        self.records.clear()
        self._account = None
        for peer in peers:
            self.join(self._engine.peers.of(peer))

    def _charge(self, record: Peer, sign: int) -> None:
        account = self.account
        account.frames += sign * record.frames
        account.held += sign * record.held
        account.unsent_bytes += sign * record.unsent_bytes

    @property
    def _crowded(self) -> bool:
        return len(self.records) >= self._engine.options.max_strangers

    def _idle(self) -> Peer | None:
        """Return the stranger that was idle longest, if any is."""
        return next((record for record in self.records.values() if not record.busy), None)
