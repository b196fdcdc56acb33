"""What a Node is told about peers, and tells about them: a part of `Node`.

It decides nothing about envelopes; admission, the address book and the records of peers do.
"""

from __future__ import annotations

from collections.abc import Sequence

from bb_ir.address import Address
from bb_ir.durations import parse_duration
from bb_ir.ids import PeerId
from bb_runtime._admission import Admission
from bb_runtime._engine import Engine
from bb_runtime._peers import PeerInfo
from bb_runtime.errors import InvalidInput, NodeBroken, NodeClosed

__all__ = ["PeersOfNode"]


class PeersOfNode:
    """What operators and hosts say about peers, as long as the Node has not come to its end."""

    _engine: Engine
    _admission: Admission

    @property
    def peer(self) -> PeerId:
        """Its identity."""
        return self._engine.peer

    @property
    def now_ns(self) -> int:
        """The Node's time."""
        return self._engine.now_ns

    @property
    def closed(self) -> bool:
        """Whether the Node has come to its end, and can only be polled for its last steps."""
        ending = self._engine.ending
        return ending is not None and ending.over

    def authorize(self, peer: PeerId, peer_class: str) -> None:
        """Let a peer act as a class: only then are its envelopes taken.

        It ends a block, and one that had left counts as there again.

        Raises:
            NodeClosed: The Node has come to its end; the same holds for all that is said of peers.
            InvalidInput: It is no `PeerId`; the same holds for all of them.
        """
        self._check_there(peer)
        self._engine.gathers.unblock(peer)
        self._engine.gathers.gone.pop(peer, None)
        self._engine.strangers.leave(peer)
        self._admission.authorized.setdefault(peer_class, set()).add(peer)

    def block_peer(self, peer: PeerId) -> None:
        """Take all classes from a peer, its open answers too, and send it nothing more.

        `authorize` ends the block.
        """
        self._check_there(peer)
        for members in self._admission.authorized.values():
            members.discard(peer)
        self._engine.gathers.blocked |= {peer}
        self._engine.gathers.peer_lost(peer, "blocked")

    def unblock(self, peer: PeerId) -> None:
        """End the block of a peer, which may act as no class until it is authorized again."""
        self._check_there(peer)
        self._engine.gathers.unblock(peer)

    def add_peer(
        self, peer: PeerId, addresses: Sequence[Address | str], *, valid: str = ""
    ) -> None:
        """Say where a peer can be reached, as its operator or ours knows.

        Args:
            peer: The peer.
            addresses: At most eight, with those that were said before.
            valid: How long that holds, such as `"1h"`; for ever when empty.

        Raises:
            AddressRefused: They are too many, or of another peer.
            AddressError: One of them is no address.
            ValueError: `valid` is no duration.
        """
        self._check_there(peer)
        valid_ns = parse_duration(valid) if valid else 0
        self._engine.gathers.gone.pop(peer, None)
        self._engine.addresses.add(peer, addresses, self.now_ns, valid_ns)

    def add_record(self, record: bytes) -> PeerId:
        """Take in a record in which a peer itself says where it is, as `sign_addresses` makes it.

        Returns:
            The peer.

        Raises:
            AddressRefused: It is no record, not signed by its peer, or not newer than the last.
        """
        self._check_there()
        return self._engine.addresses.take(record, self.now_ns)

    def add_hint(self, source: PeerId, peer: PeerId, addresses: Sequence[Address | str]) -> None:
        """Note where one peer says that another is; kept for ten minutes, and tried last.

        Raises:
            AddressRefused: They are too many, or of another peer.
            AddressError: One of them is no address.
        """
        self._check_there(source, peer)
        self._engine.addresses.hint(source, peer, addresses, self.now_ns)

    def add_observation(self, source: PeerId, address: Address | str) -> bool:
        """Note where a peer sees this Node; it counts for an hour.

        Returns:
            Whether it counts: only what peers say counts that are authorized for some class.

        Raises:
            AddressRefused: It is an address of another peer.
            AddressError: It is no address.
        """
        self._check_there(source)
        known = self._admission.is_authorized(source)
        if known:
            self._engine.addresses.observe(self.peer, source, address, self.now_ns)
        return known

    @property
    def observed(self) -> tuple[Address, ...]:
        """Where this Node is seen, as far as three peers agree; what most say comes first."""
        return self._engine.addresses.observed(self.now_ns)

    def addresses_of(self, peer: PeerId) -> tuple[Address, ...]:
        """Return where a peer may be reached, in the order in which to try."""
        return self._engine.addresses.addresses(peer, self.now_ns)

    def peers(self) -> tuple[PeerInfo, ...]:
        """Return what is known about the peers that this Node talked to, in their order."""
        return self._engine.peers.table()

    # Whether it may still be used

    def _check_sound(self) -> None:
        if self._engine.broken:
            raise NodeBroken(
                f"{self!r} was interrupted in the middle of an op",
                expected="a Node whose ops ended or raised an Exception",
                fix="install a new Node",
            )

    def _check_open(self) -> None:
        self._check_sound()
        if self._engine.ending is not None:
            raise NodeClosed(
                f"{self!r} {'is closed' if self.closed else 'closes'}",
                expected="a Node that was not told to close",
                fix="install a new one, with a larger incarnation if it is the same peer",
            )

    def _check_there(self, *peers: object) -> None:
        if self.closed:
            self._check_open()
        for peer in peers:
            if not isinstance(peer, PeerId):
                raise InvalidInput(
                    f"{peer!r} is a {type(peer).__name__} and no peer",
                    expected="a PeerId",
                    fix="read the text of one with PeerId.parse(text)",
                )
