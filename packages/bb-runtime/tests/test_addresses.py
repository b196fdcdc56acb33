"""Where peers can be reached: who may say so, for how long, and what is tried first."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bb_dsl as bb
from bb_ir.address import Address
from bb_ir.errors import AddressError
from bb_ir.ids import KeyPair, PeerId
from bb_runtime import install
from bb_runtime.addresses import AddressBook, sign_addresses
from bb_runtime.errors import AddressRefused
from bb_runtime.replay import replay
from bb_testing.programs import Stage

KEYS = KeyPair.derive(b"addresses", 0)
PEER = KEYS.peer_id
OTHER = KeyPair.derive(b"addresses", 1).peer_id
SECOND = 10**9


def at(number: int) -> str:
    return f"/ip4/10.0.0.{number}/tcp/4001"


def texts(book: AddressBook, peer: PeerId = PEER, now: int = 0) -> list[str]:
    return [str(address) for address in book.addresses(peer, now)]


@pytest.fixture
def book() -> AddressBook:
    return AddressBook()


def test_addresses_come_in_the_order_in_which_they_were_given(book):
    book.add(PEER, [at(2), Address.parse(at(1)), at(2)], 0)
    assert texts(book) == [at(2), at(1)]
    assert texts(book, OTHER) == []


def test_what_works_is_tried_first_and_what_fails_last(book):
    book.add(PEER, [at(1), at(2), at(3)], 0)
    book.failed(PEER, Address.parse(at(1)))
    book.worked(PEER, Address.parse(at(3)))
    assert texts(book) == [at(3), at(2), at(1)]
    book.add(PEER, [at(1)], 0)
    assert texts(book) == [at(3), at(2), at(1)], "saying it again does not make it better"
    for _ in range(3):
        book.failed(PEER, Address.parse(at(3)))
    assert texts(book) == [at(2), at(1), at(3)]


def test_who_is_not_known_has_no_score(book):
    book.worked(PEER, Address.parse(at(1)))
    book.failed(PEER, Address.parse(at(1)))
    assert texts(book) == []


def test_addresses_expire(book):
    book.add(PEER, [at(1)], 0, 10 * SECOND)
    book.add(PEER, [at(2)], 0)
    assert texts(book, now=10 * SECOND - 1) == [at(1), at(2)]
    assert texts(book, now=10 * SECOND) == [at(2)]


@pytest.mark.parametrize("start", [0, 5])
def test_a_peer_has_at_most_eight(book, start):
    book.add(PEER, [at(n) for n in range(start)], 0)
    with pytest.raises(AddressRefused, match="at most 8"):
        book.add(PEER, [at(n) for n in range(start, 9)], 0)
    assert len(texts(book)) == start


def test_an_address_of_another_peer_is_refused(book):
    with pytest.raises(AddressRefused, match="another peer"):
        book.add(PEER, [f"{at(1)}/p2p/{OTHER}"], 0)
    book.add(PEER, [f"{at(1)}/p2p/{PEER}"], 0)
    with pytest.raises(AddressError):
        book.add(PEER, ["10.0.0.1:4001"], 0)


# Records


def test_a_peer_may_say_itself_where_it_is(book):
    assert book.take(sign_addresses(KEYS, [at(1), at(2)], sequence=1), 0) == PEER
    assert texts(book) == [at(1), at(2)]


def test_a_newer_record_takes_the_place_of_the_last_and_an_older_is_refused(book):
    book.take(sign_addresses(KEYS, [at(1), at(2)], sequence=7), 0)
    book.worked(PEER, Address.parse(at(2)))
    book.add(PEER, [at(9)], 0)
    book.take(sign_addresses(KEYS, [at(2), at(3)], sequence=8), 0)
    assert texts(book) == [at(2), at(9), at(3)], "it keeps its score, the operator's stay"
    for sequence in (7, 8):
        with pytest.raises(AddressRefused, match="no newer"):
            book.take(sign_addresses(KEYS, [at(1)], sequence=sequence), 0)
    book.take(sign_addresses(KEYS, [], sequence=9), 0)
    assert texts(book) == [at(9)]


def test_records_expire(book):
    book.take(sign_addresses(KEYS, [at(1)], sequence=1, valid="1m"), 5 * SECOND)
    assert texts(book, now=64 * SECOND) == [at(1)]
    assert texts(book, now=65 * SECOND) == []
    with pytest.raises(AddressRefused, match="no newer"):
        book.take(sign_addresses(KEYS, [at(1)], sequence=1), 65 * SECOND)


def test_signed_addresses_make_room_for_those_of_the_operator(book):
    book.take(sign_addresses(KEYS, [at(n) for n in range(8)], sequence=1), 0)
    book.failed(PEER, Address.parse(at(4)))
    book.add(PEER, [at(20)], 0)
    assert len(texts(book)) == 8
    assert at(4) not in texts(book)


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_record_that_was_changed_is_refused(place, flip):
    data = bytearray(sign_addresses(KEYS, [at(1), at(2)], sequence=5))
    data[place % len(data)] ^= flip
    book = AddressBook()
    with pytest.raises(AddressRefused):
        book.take(bytes(data), 0)
    assert texts(book) == []


@given(st.binary(max_size=300))
def test_bytes_that_are_no_record_are_refused(data):
    with pytest.raises(AddressRefused):
        AddressBook().take(data, 0)


def test_a_record_is_not_signed_with_what_cannot_be_read():
    with pytest.raises(AddressRefused, match="at most 8"):
        sign_addresses(KEYS, [at(n) for n in range(9)], sequence=1)
    with pytest.raises(AddressRefused, match="sequence"):
        sign_addresses(KEYS, [], sequence=-1)


# Hints


def test_hints_are_tried_last_and_not_for_long(book):
    book.hint(OTHER, PEER, [at(5), at(1)], 0)
    book.add(PEER, [at(1)], 0)
    assert texts(book) == [at(1), at(5)]
    assert texts(book, now=600 * SECOND) == [at(1)]


def test_one_that_hints_a_lot_displaces_only_its_own(book):
    book.hint(OTHER, PEER, [at(1)], 0)
    for number in range(100):
        book.hint(PEER, PeerId.from_seed(b"flood", number), [at(2)], 0)
    assert texts(book) == [at(1)]
    assert len(book._hints[PEER]) == 16
    for number in range(1000):
        book.hint(PeerId.from_seed(b"hinters", number), PEER, [at(3)], 0)
    assert len(book._hints) == 256


# State


def test_what_is_stored_comes_back(book):
    book.add(PEER, [at(1), at(2)], 0, 60 * SECOND)
    book.take(sign_addresses(KEYS, [at(3)], sequence=4), 0)
    book.worked(PEER, Address.parse(at(2)))
    book.hint(PEER, OTHER, [at(5)], 0)
    again = AddressBook()
    again.load(book.state(10 * SECOND), 100 * SECOND)
    assert texts(again, now=100 * SECOND) == texts(book)
    assert texts(again, OTHER, 100 * SECOND) == [at(5)]
    assert texts(again, now=150 * SECOND) == [at(3)], "what was left of a minute has passed"
    with pytest.raises(AddressRefused, match="no newer"):
        again.take(sign_addresses(KEYS, [at(3)], sequence=4), 0)


def test_the_number_of_peers_is_bounded(book, monkeypatch):
    monkeypatch.setattr("bb_runtime.addresses._MOST_PEERS", 1)
    book.add(PEER, [at(1)], 0)
    with pytest.raises(AddressRefused, match="peers already"):
        book.add(OTHER, [at(1)], 0)
    book.forget(PEER)
    book.add(OTHER, [at(1)], 0)


def test_the_numbers_of_old_records_are_bounded(book, monkeypatch):
    monkeypatch.setattr("bb_runtime.addresses._MOST_SEQUENCES", 3)
    keys = [KeyPair.derive(b"many", number) for number in range(5)]
    for number, one in enumerate(keys):
        book.take(sign_addresses(one, [at(number)], sequence=7), 0)
        if number:
            book.forget(one.peer_id)
    assert [peer for peer, _ in book.state(0)["sequences"]] == [
        one.peer_id for one in (keys[0], *keys[3:])
    ]


# Where others see us


def seen(book: AddressBook, now: int = 0) -> list[str]:
    return [str(address) for address in book.observed(now)]


WITNESSES = [PeerId.from_seed(b"witness", number) for number in range(70)]


def test_our_own_address_counts_when_three_agree(book):
    for witness in WITNESSES[:2]:
        book.observe(PEER, witness, at(9), 0)
    book.observe(PEER, WITNESSES[0], at(9), 0)
    assert seen(book) == []
    book.observe(PEER, WITNESSES[2], at(8), 0)
    assert seen(book) == []
    book.observe(PEER, WITNESSES[3], at(9), 0)
    assert seen(book) == [at(9)]


def test_who_sees_us_elsewhere_says_so_once(book):
    for witness in WITNESSES[:3]:
        book.observe(PEER, witness, at(9), 0)
    book.observe(PEER, WITNESSES[0], at(8), 0)
    assert seen(book) == []


def test_what_most_say_comes_first(book):
    for number, witness in enumerate(WITNESSES[:7]):
        book.observe(PEER, witness, at(8) if number < 3 else at(9), 0)
    assert seen(book) == [at(9), at(8)]


def test_what_was_seen_counts_for_an_hour(book):
    for number, witness in enumerate(WITNESSES[:3]):
        book.observe(PEER, witness, at(9), number)
    assert seen(book, 3600 * SECOND - 1) == [at(9)]
    assert seen(book, 3600 * SECOND) == []


def test_witnesses_are_bounded(book):
    for witness in WITNESSES:
        book.observe(PEER, witness, at(9), 0)
    assert len(book.state(0)["observed"]) == 64


def test_nobody_sees_us_as_another_peer(book):
    with pytest.raises(AddressRefused, match="one of another peer"):
        book.observe(PEER, OTHER, f"{at(9)}/p2p/{OTHER}", 0)
    with pytest.raises(AddressError):
        book.observe(PEER, OTHER, "here", 0)


def test_what_was_seen_is_in_a_snapshot(book):
    for witness in WITNESSES[:3]:
        book.observe(PEER, witness, at(9), 10)
    again = AddressBook()
    again.load(book.state(20), 1020)
    assert again.state(1020) == book.state(20)
    assert seen(again, 1020) == [at(9)]
    again.forget(WITNESSES[0])
    assert seen(again, 1020) == []


def test_only_peers_that_are_authorized_tell_a_node_where_it_is(compiled: Any):
    records: list[bytes] = []
    node = install(PEER, [], compiled(Push()), ["Push.client"], journal=records.append)
    assert not node.add_observation(WITNESSES[0], at(9))
    for witness in WITNESSES[:3]:
        node.authorize(witness, "server")
        assert node.add_observation(witness, Address.parse(at(9)))
    assert list(map(str, node.observed)) == [at(9)]
    again = replay(records).node
    assert again.observed == node.observed
    assert again.snapshot() == node.snapshot()


class Push(bb.Module):
    """Sends something that nobody answers."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("push", self.peers.sample(g, 1), self.model.params(g))
        self.model.load_params(g, got)


def test_a_node_keeps_one(compiled: Any):
    stage = Stage(compiled(Push()), clients=1)
    stage.invoke()
    node, [ship] = stage.server, [packet.ship for packet in stage.wire.flying]
    peer = ship.to
    node.add_peer(peer, [at(1), at(2)], valid="1h")
    node.add_hint(OTHER, peer, [at(3)])
    node.send_failed(ship, address=at(1))
    node.sent(ship, address=at(2))
    assert list(map(str, node.addresses_of(peer))) == [at(2), at(1), at(3)]
    assert node.add_record(sign_addresses(KEYS, [at(7)], sequence=1)) == PEER
    assert list(map(str, node.addresses_of(PEER))) == [at(7)]
