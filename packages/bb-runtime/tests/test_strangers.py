"""A class may be open to all; then all strangers together take no more than one peer may."""

from typing import Any

import numpy as np
import pytest

import bb_dsl as bb
from bb_ir.ids import PeerId
from bb_ir.types import tensor
from bb_ir.values import encode_value
from bb_ir.wire import PRELUDE_SIZE, Ack, Hop, build_envelope
from bb_runtime import Dropped, Options, Refuse, Ship, install
from bb_runtime._admission import Lease
from bb_runtime.errors import InvalidTrust
from bb_runtime.replay import replay

SERVER, CLIENT, OWN = (PeerId.from_seed(b"open", n) for n in range(3))
STRANGERS = [PeerId(b"\x00\x24\x08\x01\x12\x20" + n.to_bytes(32, "big")) for n in range(10_000)]
SECOND = 10**9
TYPE = tensor("float64", (None,))


class Asks(bb.Module):
    """Clients send tensors to the server; it answers those of `ask`, and never those of `tell`."""

    peer_class = "client"
    servers = bb.slots.PeerSelector(of="server")
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", TYPE)
        cohort = self.servers.sample(g, 1)
        got = g.net_out("ask", cohort, x, retries=2)
        y = self.model.forward(g, got)
        g.gather(g.net_out("answer", g.sender(got), y))
        told = g.net_out("tell", cohort, x)
        self.model.forward(g, told)


@pytest.fixture(scope="module")
def asks(compiled):
    return compiled(Asks())


def server(artifact: Any, *, open_to: str = "client", **options: Any) -> Any:
    given = Options(open_classes=frozenset({open_to} if open_to else ()), **options)
    return install(SERVER, [], artifact, ["Asks.server"], options=given)


def envelope(artifact: Any, edge: str = "tell", *, number: int = 1, size: int = 3) -> bytes:
    chain = [Hop(2, 1, OWN.raw)] if edge == "ask" else []
    fill = encode_value(np.ones(size), TYPE)
    return build_envelope(
        bytes.fromhex(artifact.program)[:16], artifact.edges[edge].id, 1, number, chain=chain,
        fills=[fill], remaining_ns=10 * SECOND,
    ).to_bytes()  # fmt: skip


def offer(node: Any, data: bytes, source: PeerId) -> Any:
    end = PRELUDE_SIZE + int.from_bytes(data[8:12], "little")
    return node.offer(data[:PRELUDE_SIZE], data[PRELUDE_SIZE:end], source)


def account(node: Any) -> tuple[int, int]:
    common = node._engine.strangers.account
    return common.frames, common.held


# Who may come in


def test_stranger_may_act_as_an_open_class(asks):
    node = server(asks)
    assert node.receive_bytes(envelope(asks, "ask"), STRANGERS[0]) is None
    steps = node.poll()
    shipped = [step for step in steps if isinstance(step, Ship)]
    assert [step.to for step in shipped] == [STRANGERS[0]] * 2, "an acknowledgement and an answer"
    assert account(node) == (0, 0)


def test_no_class_is_open_unless_it_is_said(asks):
    node = server(asks, open_to="")
    assert node.receive_bytes(envelope(asks), STRANGERS[0]) == Refuse("not_authorized", 0, False)


def test_answers_are_open_to_nobody(asks):
    node = install(
        CLIENT, [], asks, ["Asks"], {"servers": {"peers": (SERVER,)}},
        options=Options(open_classes=frozenset({"client"})),
    )  # fmt: skip
    frame = node.invoke("Asks", {"x": np.ones(3)})
    node.poll()
    data = build_envelope(
        bytes.fromhex(asks.program)[:16], asks.edges["answer"].id, 1, 1,
        chain=[Hop(frame.number, 1, CLIENT.raw)], fills=[encode_value(np.ones(3), TYPE)],
    ).to_bytes()  # fmt: skip
    assert node.receive_bytes(data, STRANGERS[0]).reason == "unexpected"


@pytest.mark.parametrize("name", ["clients", "server", ""])
def test_open_class_must_be_one_that_sends_something(asks, name):
    given = Options(open_classes=frozenset({name}))
    with pytest.raises(InvalidTrust, match="open_classes") as caught:
        install(SERVER, [], asks, ["Asks.server"], options=given)
    assert caught.value.expected == "classes of client"


def test_who_is_blocked_is_no_stranger(asks):
    node = server(asks)
    node.block_peer(STRANGERS[0])
    assert node.receive_bytes(envelope(asks), STRANGERS[0]).reason == "blocked"


# One share


def test_ten_thousand_strangers_take_no_more_than_one_share(asks):
    options: dict[str, Any] = {"max_frames": 400, "max_inbound_bytes": 1_000_000}
    node = server(asks, max_strangers=100, **options)
    node.authorize(CLIENT, "client")
    data = envelope(asks, size=600)  # 4,800 bytes of payload
    answers = [offer(node, data, one) for one in STRANGERS]
    leases = [one for one in answers if isinstance(one, Lease)]
    held = sum(len(one.buffer) for one in leases)
    assert held <= 125_000 < held + 4_800 + 64, "an eighth of the bytes"
    assert len(leases) == len(node.peers()) == 26
    assert {one for one in answers if isinstance(one, Refuse)} == {
        Refuse("busy", len(leases[0].buffer), False)
    }
    assert node.counters == {"busy": len(STRANGERS) - len(leases)}
    assert {type(step) for step in node.poll()} == {Dropped}, "and none of them is answered"
    assert isinstance(offer(node, data, CLIENT), Lease), "others have their own shares"
    for lease in leases:
        node.abandon(lease)
    assert account(node) == (0, 0)


def test_strangers_share_the_frames_too(asks):
    node = server(asks, max_frames=80)
    leases = [offer(node, envelope(asks), one) for one in STRANGERS[:11]]
    assert [isinstance(one, Lease) for one in leases] == [True] * 10 + [False]
    assert account(node)[0] == 10
    node.advance(31 * SECOND)  # nobody filled them
    assert account(node) == (0, 0)
    assert isinstance(offer(node, envelope(asks, number=2), STRANGERS[10]), Lease)


def test_one_stranger_alone_takes_no_more_than_the_share(asks):
    node = server(asks, max_inbound_bytes=1_000)
    assert offer(node, envelope(asks, size=1_000), STRANGERS[0]).reason == "busy"


def test_share_is_given_back_when_the_frame_ends(asks):
    node = server(asks)
    node.receive_bytes(envelope(asks, size=1_000), STRANGERS[0])
    assert account(node) == (1, 8_000)
    node.poll()
    assert account(node) == (0, 0)


def test_strangers_that_never_acknowledge_do_not_pile_up_answers(asks):
    node = server(asks)
    reasons = []
    for number in range(1, 8):
        answer = node.receive_bytes(envelope(asks, "ask", number=number), STRANGERS[0])
        reasons.append("" if answer is None else answer.reason)
        node.poll()
    assert reasons == [""] * 4 + ["busy"] * 3
    [letter, *_] = node._engine.post.retries.open
    ack = build_envelope(
        bytes.fromhex(asks.program)[:16], 0, 1, 90, control=Ack(letter, 1)
    ).to_bytes()
    assert node.receive_bytes(ack, STRANGERS[0]) is None
    assert node.receive_bytes(envelope(asks, "ask", number=91), STRANGERS[0]) is None


def test_strangers_share_what_a_host_has_not_sent(asks):
    node = server(asks, max_unsent_bytes=2_000)
    for one in STRANGERS[:5]:
        node.receive_bytes(envelope(asks, "ask"), one)
    steps = [step for step in node.poll() if isinstance(step, Ship)]
    answers = [s for s in steps if s.message_id in node._engine.post.retries.open]
    assert len(answers) == 1, "an eighth is 250 bytes: one may always go"
    assert node.sent(answers[0])
    more = [s for s in node.poll() if isinstance(s, Ship)]
    assert len(more) == 1


# What is remembered


def test_records_of_strangers_are_bounded(asks):
    node = server(asks, max_strangers=50)
    node.authorize(CLIENT, "client")
    node.receive_bytes(envelope(asks), CLIENT)
    for one in STRANGERS:
        assert node.receive_bytes(envelope(asks), one) is None
        node.poll()
    assert {row.peer for row in node.peers()} == {CLIENT, *STRANGERS[-50:]}
    assert len(node._engine.strangers.records) == 50


def test_who_was_heard_last_is_remembered(asks):
    node = server(asks, max_strangers=2)
    first, second, third = STRANGERS[:3]
    for one, number in ((first, 1), (second, 1), (first, 2), (third, 1)):
        assert node.receive_bytes(envelope(asks, number=number), one) is None
        node.poll()
    assert {row.peer for row in node.peers()} == {first, third}
    assert node.receive_bytes(envelope(asks, number=2), first).reason == "duplicate"


def test_strangers_whose_frames_run_are_not_forgotten(asks):
    node = server(asks, max_strangers=2)
    for one in STRANGERS[:2]:
        assert node.receive_bytes(envelope(asks), one) is None
    assert node.receive_bytes(envelope(asks), STRANGERS[2]).reason == "busy"
    node.poll()
    assert node.receive_bytes(envelope(asks, number=2), STRANGERS[2]) is None


def test_idle_strangers_are_forgotten(asks):
    node = server(asks)
    node.receive_bytes(envelope(asks), STRANGERS[0])
    node.poll()
    node.advance(2 * max(edge.deadline_ns for edge in asks.edges.values()))
    assert node.peers() == ()
    assert node._engine.strangers.records == {}


def test_stranger_that_is_authorized_is_one_no_more(asks):
    node = server(asks)
    lease = offer(node, envelope(asks, size=1_000), STRANGERS[0])
    assert account(node) == (1, 8_000)
    node.authorize(STRANGERS[0], "client")
    assert account(node) == (0, 0)
    [record] = node._engine.peers.records.values()
    assert (record.frames, record.held) == (1, 8_000)
    node.abandon(lease)
    assert (record.frames, record.held) == (0, 0)
    assert account(node) == (0, 0)


# Going on, and doing it again


def test_strangers_are_in_a_snapshot(asks):
    node = server(asks, max_strangers=3)
    for number, one in enumerate((0, 1, 2, 0)):
        node.poll()
        assert node.receive_bytes(envelope(asks, number=1 + number), STRANGERS[one]) is None
    data = node.snapshot()
    again = server(asks, max_strangers=3)
    again.restore(data)
    assert again.snapshot() == data
    assert account(again) == account(node) != (0, 0)
    assert list(again._engine.strangers.records) == list(node._engine.strangers.records)
    for one in (node, again):
        one.poll()
    assert account(again) == account(node) == (0, 0)


def test_journal_with_strangers_is_replayed(asks):
    records: list[bytes] = []
    options = Options(open_classes=frozenset({"client"}), max_strangers=2, max_frames=16)
    node = install(SERVER, [], asks, ["Asks.server"], options=options, journal=records.append)
    for number, one in enumerate(STRANGERS[:6]):
        node.receive_bytes(envelope(asks), one)
        if number % 3 == 2:
            node.poll()
    assert node.counters["busy"] == 2
    assert replay(records).node.snapshot() == node.snapshot()
