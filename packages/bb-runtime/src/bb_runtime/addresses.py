"""Where peers can be reached: an address book, and the records in which peers say it themselves.

An address comes from the operator, or from the peer's own record, which it signed with the key
that its id is made of; a later record takes the place of an earlier one. What third parties say
are hints: kept apart, few for each who says so, not for long, and tried last. Where others see us
concerns nobody's address but our own, and only counts when three of them agree.

Nothing here opens a connection. A host asks for a peer's addresses in the order in which to try
them, and says of each whether it worked.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from bb_ir.address import Address
from bb_ir.durations import parse_duration
from bb_ir.errors import AddressError, IdError
from bb_ir.ids import KeyPair, PeerId, verify_signature
from bb_runtime.errors import AddressRefused

__all__ = ["MAX_ADDRESSES", "AddressBook", "AddressRecord", "sign_addresses"]

#: Most addresses of one peer.
MAX_ADDRESSES: Final = 8
#: Most peers with addresses.
_MOST_PEERS: Final = 16_384
#: Most hints of one peer about others, how many peers give hints, and how long a hint is kept.
_MOST_HINTS: Final = 16
_MOST_HINTERS: Final = 256
_HINT_NS: Final = 600 * 10**9
#: Of so many peers that have no addresses any more the last record's number is remembered.
_MOST_SEQUENCES: Final = 2 * _MOST_PEERS
#: How many peers say where they see us, for how long that counts, and how many have to agree.
_MOST_OBSERVERS: Final = 64
_OBSERVED_NS: Final = 3600 * 10**9
_AGREEING: Final = 3

_MAGIC: Final = b"bb.addresses.1\0"
_HEAD: Final = struct.Struct("<QQB")  # sequence number, how long it is valid, count
_SIGNATURE: Final = 64
_MOST_BYTES: Final = 1 << 14
_LONGEST_NS: Final = 2**62

#: Score of an address that was never tried; good ones rise towards 1, each failure halves.
_UNTRIED: Final = 0.5


class AddressRecord(NamedTuple):
    """What a peer says and signed about itself.

    Attributes:
        peer: Who says it.
        sequence: Larger in every record of the same peer.
        valid_ns: How long it holds from when it is taken in.
        addresses: Where the peer can be reached.
    """

    peer: PeerId
    sequence: int
    valid_ns: int
    addresses: tuple[Address, ...]


def sign_addresses(
    keys: KeyPair, addresses: Sequence[Address | str], *, sequence: int, valid: str = "1h"
) -> bytes:
    """Return the record in which a peer says where it can be reached.

    Args:
        keys: Of the peer.
        addresses: At most eight; none says that it cannot be reached any more.
        sequence: Larger than in every record before, such as the time in seconds.
        valid: How long the record holds, from when somebody takes it in.

    Raises:
        AddressRefused: There are too many addresses, or the sequence number is none.
    """
    peer = keys.peer_id
    read = _read_all(peer, addresses)
    if not 0 <= sequence < 1 << 64:
        raise AddressRefused(f"the sequence number {sequence}", expected="0 to 2**64 - 1")
    body = _body(AddressRecord(peer, sequence, parse_duration(valid), read))
    return body + keys.sign(_MAGIC + body)


def read_record(data: bytes) -> AddressRecord:
    """Read a record that somebody signed, and check that it was the peer itself.

    Raises:
        AddressRefused: It is no record, or its signature is not that of its peer.
    """
    if len(data) > _MOST_BYTES or len(data) <= _SIGNATURE:
        raise _no_record(f"{len(data)} bytes")
    body, signature = data[:-_SIGNATURE], data[-_SIGNATURE:]
    try:
        record = _record_of(body)
    except (AddressError, IdError, struct.error, IndexError) as error:
        raise _no_record(str(error)) from error
    key = record.peer.public_key()
    if key is None or not verify_signature(key, _MAGIC + body, signature=signature):
        raise AddressRefused(
            f"a record of {record.peer} was not signed by it",
            expected="what sign_addresses returned, unchanged",
            fix="take the record from the peer itself",
        )
    return record


def _body(record: AddressRecord) -> bytes:
    parts = [record.peer.raw, *(address.to_bytes() for address in record.addresses)]
    head = _HEAD.pack(record.sequence, min(record.valid_ns, _LONGEST_NS), len(record.addresses))
    return head + b"".join(len(part).to_bytes(2, "little") + part for part in parts)


def _record_of(body: bytes) -> AddressRecord:
    sequence, valid_ns, count = _HEAD.unpack_from(body)
    if count > MAX_ADDRESSES:
        raise _no_record(f"{count} addresses")
    at = _HEAD.size
    parts: list[bytes] = []
    for _ in range(1 + count):
        end = at + 2 + int.from_bytes(body[at : at + 2], "little")
        parts.append(body[at + 2 : end])
        at = end
    peer = PeerId(parts[0])
    found = AddressRecord(peer, sequence, valid_ns, _read_all(peer, map(Address, parts[1:])))
    if _body(found) != body:
        raise _no_record("lengths that do not add up")
    return found


def _no_record(found: str) -> AddressRefused:
    return AddressRefused(
        f"what should be a record of addresses has {found}",
        expected="what sign_addresses returned",
    )


def _read_all(peer: PeerId, addresses: Iterable[Address | str]) -> tuple[Address, ...]:
    given = [one if isinstance(one, Address) else Address.parse(one) for one in addresses]
    read = tuple(dict.fromkeys(given))
    if len(read) > MAX_ADDRESSES:
        raise AddressRefused(
            f"{len(read)} addresses for {peer}",
            expected=f"at most {MAX_ADDRESSES}",
            fix="leave out those that are least likely to work",
        )
    for address in read:
        if address.peer not in (None, peer):
            raise AddressRefused(
                f"the address {address} is one of another peer",
                expected=f"one of {peer}, or one that names no peer",
            )
    return read


@dataclass(slots=True)
class _Known:
    """One address of one peer."""

    signed: bool
    until_ns: int
    score: float = _UNTRIED


class AddressBook:
    """Addresses of peers, with how well they worked; instants are the Node's own time."""

    __slots__ = ("_hints", "_observed", "_peers", "_sequences")

    def __init__(self) -> None:
        self._peers: dict[PeerId, dict[Address, _Known]] = {}
        #: Sequence number of the last record of a peer.
        self._sequences: dict[PeerId, int] = {}
        #: Who said so -> (of whom, where) -> until when it is kept.
        self._hints: dict[PeerId, dict[tuple[PeerId, Address], int]] = {}
        #: Who said so last -> where it sees us, until when that counts.
        self._observed: dict[PeerId, tuple[Address, int]] = {}

    def add(
        self, peer: PeerId, addresses: Iterable[Address | str], now_ns: int, valid_ns: int = 0
    ) -> None:
        """Take in what the operator says; addresses that are known keep their score.

        Args:
            peer: Whose addresses they are.
            addresses: Where it can be reached.
            now_ns: The Node's time.
            valid_ns: How long they hold; for ever when 0.

        Raises:
            AddressRefused: They are too many with those that the operator gave before, of another
                peer, or of one peer too many.
            AddressError: One of them is no address.
        """
        read = _read_all(peer, addresses)
        self._expire(peer, now_ns)
        known = self._peers.get(peer, {})
        own = [a for a, one in known.items() if not one.signed and a not in read]
        if len(own) + len(read) > MAX_ADDRESSES:
            raise AddressRefused(
                f"{len(own) + len(read)} addresses for {peer}", expected=f"at most {MAX_ADDRESSES}"
            )
        known = self._room_for(peer)
        until = now_ns + valid_ns if valid_ns else _LONGEST_NS
        for address in read:
            score = known[address].score if address in known else _UNTRIED
            known[address] = _Known(signed=False, until_ns=until, score=score)
        self._trim(known)

    def take(self, data: bytes, now_ns: int) -> PeerId:
        """Take in a peer's own record in place of the last one; returns the peer.

        Raises:
            AddressRefused: It is no record, not signed by its peer, or no newer than the last.
        """
        record = read_record(data)
        peer, last = record.peer, self._sequences.get(record.peer, -1)
        if record.sequence <= last:
            raise AddressRefused(
                f"record {record.sequence} of {peer} is no newer than record {last}",
                fix="ask the peer for its latest record",
            )
        known = self._room_for(peer)
        before = {address: one.score for address, one in known.items()}
        for address in [a for a, one in known.items() if one.signed]:
            del known[address]
        for address in record.addresses:
            if address not in known:  # what the operator said stays
                until = min(now_ns + record.valid_ns, _LONGEST_NS)
                score = before.get(address, _UNTRIED)
                known[address] = _Known(signed=True, until_ns=until, score=score)
        self._trim(known)
        self._sequences.pop(peer, None)
        self._sequences[peer] = record.sequence
        if len(self._sequences) > _MOST_SEQUENCES:
            gone = next(one for one in self._sequences if one not in self._peers)
            del self._sequences[gone]
        return peer

    def hint(
        self, source: PeerId, peer: PeerId, addresses: Iterable[Address | str], now_ns: int
    ) -> None:
        """Note what one peer says about another.

        Raises:
            AddressRefused: There are too many, or they are of another peer.
            AddressError: One of them is no address.
        """
        read = _read_all(peer, addresses)
        said = self._hints.pop(source, {})
        while len(self._hints) >= _MOST_HINTERS:
            del self._hints[next(iter(self._hints))]
        self._hints[source] = said
        for address in read:
            said.pop((peer, address), None)
            said[peer, address] = now_ns + _HINT_NS
        while len(said) > _MOST_HINTS:
            del said[next(iter(said))]

    def observe(self, own: PeerId, source: PeerId, address: Address | str, now_ns: int) -> None:
        """Note where a peer sees us; what it said before counts no more.

        Raises:
            AddressRefused: It is an address of another peer.
            AddressError: It is no address.
        """
        [read] = _read_all(own, [address])
        self._observed.pop(source, None)
        while len(self._observed) >= _MOST_OBSERVERS:
            del self._observed[next(iter(self._observed))]
        self._observed[source] = read, now_ns + _OBSERVED_NS

    def observed(self, now_ns: int) -> tuple[Address, ...]:
        """Return where enough peers see us, what most of them say first."""
        said = Counter(address for address, until in self._observed.values() if until > now_ns)
        agreed = [address for address, count in said.most_common() if count >= _AGREEING]
        return tuple(agreed[:MAX_ADDRESSES])

    def addresses(self, peer: PeerId, now_ns: int) -> tuple[Address, ...]:
        """Return the addresses of a peer, those that work best first and hints last."""
        self._expire(peer, now_ns)
        known = self._peers.get(peer, {})
        # Sorting keeps the order of those that are equally good.
        best = sorted(known, key=lambda address: -known[address].score)
        hints = (
            address
            for said in self._hints.values()
            for (of, address), until in said.items()
            if of == peer and until > now_ns
        )
        more = MAX_ADDRESSES - len(best)
        return (*best, *[a for a in dict.fromkeys(hints) if a not in known][:more])

    def worked(self, peer: PeerId, address: Address) -> None:
        """Note that a peer was reached at an address."""
        known = self._peers.get(peer, {}).get(address)
        if known is not None:
            known.score += (1 - known.score) / 4

    def failed(self, peer: PeerId, address: Address) -> None:
        """Note that a peer was not reached at an address."""
        known = self._peers.get(peer, {}).get(address)
        if known is not None:
            known.score /= 2

    def forget(self, peer: PeerId) -> None:
        """Forget the addresses of a peer, and what it said about others and about us.

        Its sequence number stays, so that no old record of it comes back.
        """
        self._peers.pop(peer, None)
        self._hints.pop(peer, None)
        self._observed.pop(peer, None)

    # Snapshots

    def state(self, now_ns: int) -> dict[str, Any]:
        """Return it as plain data; instants as what is left."""
        return {
            "peers": [
                (peer, [(str(a), k.signed, k.until_ns - now_ns, k.score)
                        for a, k in known.items()])
                for peer, known in self._peers.items()
            ],
            "sequences": list(self._sequences.items()),
            "hints": [
                (source, [(peer, str(a), until - now_ns) for (peer, a), until in said.items()])
                for source, said in self._hints.items()
            ],
            "observed": [
                (source, str(address), until - now_ns)
                for source, (address, until) in self._observed.items()
            ],
        }  # fmt: skip

    def load(self, state: Mapping[str, Any], now_ns: int) -> None:
        """Take over what `state` gave; what was known before is forgotten."""
        self._peers = {
            peer: {
                Address.parse(text): _Known(bool(signed), now_ns + int(left), float(score))
                for text, signed, left, score in known
            }
            for peer, known in state["peers"]
        }
        self._sequences = dict(state["sequences"])
        self._hints = {
            source: {(peer, Address.parse(text)): now_ns + int(left) for peer, text, left in said}
            for source, said in state["hints"]
        }
        self._observed = {
            source: (Address.parse(text), now_ns + int(left))
            for source, text, left in state["observed"]
        }

    def _room_for(self, peer: PeerId) -> dict[Address, _Known]:
        if peer not in self._peers and len(self._peers) >= _MOST_PEERS:
            raise AddressRefused(
                f"there are addresses of {len(self._peers):,} peers already",
                expected=f"at most {_MOST_PEERS:,}",
                fix="forget peers that are gone",
            )
        return self._peers.setdefault(peer, {})

    @staticmethod
    def _trim(known: dict[Address, _Known]) -> None:
        """Let the least good signed addresses go when there are too many."""
        signed = [address for address, one in known.items() if one.signed]
        worst = sorted(signed, key=lambda address: known[address].score)
        for address in worst[: max(0, len(known) - MAX_ADDRESSES)]:
            del known[address]

    def _expire(self, peer: PeerId, now_ns: int) -> None:
        known = self._peers.get(peer)
        if known is None:
            return
        for address in [a for a, one in known.items() if one.until_ns <= now_ns]:
            del known[address]
        if not known:
            del self._peers[peer]
