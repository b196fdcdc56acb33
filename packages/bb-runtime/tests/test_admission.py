"""What comes in is checked before anything is allocated, and nothing stays charged."""

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bb_dsl as bb
from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bb_ir.types import PARAMS, tensor
from bb_ir.values import Encoded, encode_value
from bb_ir.wire import DEFAULT_LIMITS as LIMITS
from bb_ir.wire import PRELUDE_SIZE, Ack, Failed, Hop, build_envelope, pack_prelude, read_prelude
from bb_runtime import Options, Readable
from bb_runtime._admission import Lease, Refuse
from bb_runtime._windows import Window
from bb_testing.programs import Stage

STRANGER = PeerId.from_seed(b"stranger", 0)


class Poll(bb.Module):
    """Asks one client for its parameters."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("ask", self.peers.sample(g, 2), self.model.params(g))
        told = g.net_out("tell", g.sender(got), got)
        g.output("count", g.gather(told).count)


class Pushes(bb.Module):
    """Sends a tensor that nobody answers."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", tensor("float64", (None,)))
        got = g.net_out("push", self.peers.sample(g, 1), x)
        self.model.forward(g, got)


BIG = {"model": {"size": 10_000}}


class Bench:
    """A server that waits for two answers, and what is needed to forge them."""

    def __init__(self, artifact: Any, options: Options | None = None) -> None:
        self.artifact = artifact
        self.stage = Stage(artifact, clients=2, config=BIG, options=options)
        self.frame = self.stage.invoke()
        self.node = self.stage.server
        self.peer = self.stage.peers[0]
        self.params = ParameterSet.from_tensors({"w": np.zeros(10_000)})

    def forge(self, **changes: Any) -> bytes:
        """Build an answer of the first client, with some things changed."""
        facts: dict[str, Any] = {
            "program": bytes.fromhex(self.artifact.program)[:16],
            "edge": self.artifact.edges["tell"].id,
            "incarnation": 1,
            "message_id": 1,
            "chain": [Hop(self.frame.number, 1, self.node.peer.raw)],
            "fills": [encode_value(self.params, PARAMS)],
        }
        return build_envelope(**{**facts, **changes}).to_bytes()

    def give(self, data: bytes, source: PeerId | None = None) -> str:
        """Return why it was refused."""
        answer = self.node.receive_bytes(data, source or self.peer)
        return "" if answer is None else answer.reason

    @property
    def held(self) -> int:
        return self.node._engine.payload_held


@pytest.fixture(scope="module")
def artifact(compiled):
    return compiled(Poll())


@pytest.fixture
def bench(artifact) -> Bench:
    return Bench(artifact)


def offer(bench: Bench, data: bytes) -> Lease | Refuse:
    length = int.from_bytes(data[8:12], "little")
    end = PRELUDE_SIZE + length
    return bench.node.offer(data[:PRELUDE_SIZE], data[PRELUDE_SIZE:end], bench.peer)


# What is taken


def test_an_expected_answer_is_taken(bench):
    assert bench.give(bench.forge()) == ""
    assert bench.held > 0


def test_what_a_message_brings_is_charged_from_the_offer_to_the_end_of_its_frame(bench):
    data = bench.forge()
    lease = offer(bench, data)
    size = len(lease.buffer)
    assert bench.held == size > 80_000
    lease.buffer[:] = data[-size:]
    bench.node.receive(lease)
    assert bench.held == size
    bench.node.poll()
    assert bench.held == 0


def test_a_lease_is_used_once(bench):
    data = bench.forge()
    lease = offer(bench, data)
    lease.buffer[:] = data[-len(lease.buffer) :]
    bench.node.receive(lease)
    bench.node.receive(lease)
    bench.node.abandon(lease)
    bench.node.poll()
    assert bench.held == 0
    assert bench.node.counters == {}


def test_an_abandoned_lease_fails_the_answer_it_was_for(bench):
    lease = offer(bench, bench.forge())
    bench.node.abandon(lease)
    bench.node.abandon(lease)
    assert bench.held == 0
    assert bench.node.counters == {"abandoned": 1, "answer_failed": 1}
    assert bench.stage.server.live_frames == 0, "both had to answer"


def test_a_lease_whose_frame_ended_meanwhile_is_late(artifact):
    bench = Bench(artifact, Options(lease_ns=90 * 10**9))
    lease = offer(bench, bench.forge())
    bench.node.advance(60 * 10**9)
    bench.node.receive(lease)
    assert bench.node.counters == {"late": 1}
    assert bench.held == 0


def test_of_two_leases_for_one_answer_the_first_counts(bench):
    first, second = (offer(bench, bench.forge(message_id=n)) for n in (1, 2))
    data = bench.forge()
    for lease in (first, second):
        lease.buffer[:] = data[-len(lease.buffer) :]
        bench.node.receive(lease)
    assert bench.node.counters == {"late": 1}


# What is refused at the header


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"program": bytes(16)}, "version_skew"),
        ({"edge": 7}, "unknown_edge"),
        ({"chain": []}, "bad_shape"),
        ({"fills": []}, "bad_shape"),
        ({"fills": [Encoded(b"x"), Encoded(b"y")]}, "bad_shape"),
        ({"chain": [Hop(2, 1, b"p"), Hop(2, 1, b"p")]}, "bad_shape"),
        ({"chain": [Hop(2, 7, b"p")]}, "unknown_frame"),
        ({"chain": [Hop(999, 1, b"p")]}, "late"),
    ],
)
def test_a_wrong_header_is_refused(bench, changes, reason):
    assert bench.give(bench.forge(**changes)) == reason
    assert bench.node.counters[reason] == 1
    assert bench.held == 0
    assert bench.node.live_frames == 1


def test_an_edge_of_another_target_is_unknown_here(bench):
    ask = bench.artifact.edges["ask"].id
    assert bench.give(bench.forge(edge=ask)) == "unknown_edge"


def test_an_answer_of_a_peer_that_was_not_asked_is_refused(bench):
    assert bench.give(bench.forge(), STRANGER) == "unexpected"


def test_an_answer_to_a_question_that_was_not_asked_yet_is_refused(compiled):
    artifact = compiled(TwoAsks())
    stage = Stage(artifact, clients=1)
    frame = stage.invoke()
    early = build_envelope(
        bytes.fromhex(artifact.program)[:16],
        artifact.edges["tell_b"].id,
        incarnation=1,
        message_id=1,
        chain=[Hop(frame.number, 1, stage.server.peer.raw)],
    )
    answer = stage.server.receive_bytes(early.to_bytes(), stage.peers[0])
    assert answer.reason == "unexpected"


class TwoAsks(bb.Module):
    """Asks a second time after the first answer."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        cohort = self.peers.sample(g, 1)
        done = g.gather(g.net_out("tell_a", g.sender(g.net_out("ask_a", cohort))))
        p = self.model.params(g, after=done.count)
        g.gather(g.net_out("tell_b", g.sender(g.net_out("ask_b", cohort, p))))


def test_a_second_answer_is_refused(bench):
    assert bench.give(bench.forge(message_id=1)) == ""
    assert bench.give(bench.forge(message_id=2)) == "late"


def test_who_lacks_the_class_of_an_edge_is_refused(artifact):
    bench = Bench(artifact)
    client = bench.stage.clients[0]
    question = bench.stage.wire.flying[0].ship.envelope.to_bytes()
    assert client.receive_bytes(question, STRANGER).reason == "not_authorized"
    assert client.live_frames == 0


def test_authorization_can_be_taken_back(artifact):
    bench = Bench(artifact)
    client = bench.stage.clients[0]
    question = bench.stage.wire.flying[0].ship.envelope.to_bytes()
    client.block_peer(bench.node.peer)
    assert client.receive_bytes(question, bench.node.peer).reason == "blocked"
    client.authorize(bench.node.peer, "server")
    assert client.receive_bytes(question, bench.node.peer) is None


def test_nothing_is_remembered_about_strangers(bench):
    for n in range(20):
        bench.give(bench.forge(), PeerId.from_seed(b"strangers", n))
    assert bench.node._engine.peers.records.keys() == set(bench.stage.peers), "it asked them"


# Duplicates and restarts


def test_a_duplicate_is_dropped_by_peer_and_id(bench):
    data = bench.forge()
    assert bench.give(data) == ""
    assert bench.give(data) == "duplicate"


def test_equal_but_distinct_messages_are_both_taken(compiled):
    stage = Stage(compiled(Pushes()), clients=1)
    for _ in range(2):
        stage.run(x=np.ones(3))
    assert stage.clients[0].component("model").methods == ["forward", "forward"]


def test_one_id_of_two_peers_is_no_duplicate(bench):
    assert bench.give(bench.forge()) == ""
    assert bench.give(bench.forge(), bench.stage.peers[1]) == ""
    bench.stage.wire.poll()
    assert bench.stage.wire.outputs("count") == [2]


def test_a_refused_message_may_come_again(artifact):
    bench = Bench(artifact)
    client = bench.stage.clients[0]
    question = bench.stage.wire.flying[0].ship.envelope.to_bytes()
    client._engine.options = Options(max_frames=0)
    assert client.receive_bytes(question, bench.node.peer).reason == "busy"
    client._engine.options = Options()
    assert client.receive_bytes(question, bench.node.peer) is None


def test_an_older_incarnation_of_a_peer_is_stale(bench):
    assert bench.give(bench.forge(incarnation=5)) == ""
    assert bench.give(bench.forge(incarnation=4, message_id=9)) == "stale"


def test_a_newer_incarnation_starts_a_new_window(compiled):
    artifact = compiled(Pushes())
    stage = Stage(artifact, clients=1)
    stage.invoke(x=np.ones(2))
    data = stage.wire.flying.pop().ship.envelope.to_bytes()
    [client] = stage.clients
    fill = encode_value(np.ones(2), tensor("float64"))
    anew = build_envelope(
        bytes.fromhex(artifact.program)[:16], artifact.edges["push"].id, 2, 1, fills=[fill]
    )
    assert client.receive_bytes(data, stage.server.peer) is None
    assert client.receive_bytes(anew.to_bytes(), stage.server.peer) is None
    assert client.receive_bytes(anew.to_bytes(), stage.server.peer).reason == "duplicate"
    assert client.receive_bytes(data, stage.server.peer).reason == "stale"


def test_what_a_newer_incarnation_sends_counts_even_if_it_is_refused(compiled):
    artifact = compiled(Pushes())
    stage = Stage(artifact, clients=1)
    stage.invoke(x=np.ones(2))
    stage.invoke(x=np.ones(2))
    first, late = (packet.ship.envelope.to_bytes() for packet in stage.wire.flying)
    [client] = stage.clients
    bare = build_envelope(bytes.fromhex(artifact.program)[:16], artifact.edges["push"].id, 2, 1)
    assert client.receive_bytes(first, stage.server.peer) is None
    assert client.receive_bytes(bare.to_bytes(), stage.server.peer).reason == "bad_shape"
    assert client.receive_bytes(late, stage.server.peer).reason == "stale"


@given(st.lists(st.integers(0, 700), max_size=60))
def test_a_window_says_duplicate_or_too_old_exactly_when_it_is(ids):
    window = Window(1)
    seen: set[int] = set()
    highest = 0
    for one in ids:
        expected = ""
        if one <= highest - 256:
            expected = "too_old"
        elif one in seen:
            expected = "duplicate"
        assert window.check(one) == expected
        if not expected:
            window.mark(one)
            seen.add(one)
            highest = max(highest, one)


# Bounds


def test_beyond_the_quota_nothing_is_allocated(artifact):
    bench = Bench(artifact, Options(max_inbound_bytes=100_000))
    first = offer(bench, bench.forge(message_id=1))
    assert isinstance(first, Lease)
    held = bench.held
    second = bench.give(bench.forge(message_id=1), bench.stage.peers[1])
    assert second == "busy"
    assert bench.held == held
    assert bench.node.counters == {"later": 1}
    bench.node.abandon(first)
    assert Readable(bench.stage.peers[1]) in bench.node.poll()


def test_memory_that_cannot_be_had_is_a_refusal(bench, monkeypatch):
    def none_left(*_):
        raise MemoryError

    monkeypatch.setattr("bb_runtime._admission.allocate", none_left)
    assert bench.give(bench.forge()) == "busy"
    assert bench.held == 0


def test_a_busy_client_tells_the_server_at_once(artifact):
    bench = Bench(artifact)
    bench.stage.clients[0]._engine.options = Options(max_frames=0)
    bench.stage.wire.run()
    assert bench.stage.end_of(bench.frame).reason == "QuorumNotMet"


def test_a_payload_beyond_the_limit_is_refused_by_its_prelude(artifact):
    bench = Bench(artifact, Options(max_envelope_bytes=50_000))
    answer = bench.node.receive_bytes(bench.forge(), bench.peer)
    assert answer.reason == "payload_too_long"
    assert answer.skip > 80_000
    assert not answer.close


def test_the_senders_limit_is_the_nodes_own(artifact):
    bench = Bench(artifact, Options(max_envelope_bytes=50_000))
    [failure] = bench.stage.wire.failures()
    assert failure.op == "Send"
    assert bench.stage.end_of(bench.frame).reason == "WireError"


# Damaged values


def test_a_value_that_does_not_decode_fails_the_answer(bench):
    data = bytearray(bench.forge())
    data[-80_000 - 64 + 8] ^= 0xFF  # in the header of the safetensors image
    assert bench.give(bytes(data)) == ""
    assert bench.node.counters["bad_value"] == 1
    assert bench.held == 0
    assert bench.node.live_frames == 0, "the gather needed both"


def test_a_value_that_does_not_decode_and_that_nobody_waits_for_is_counted(compiled):
    artifact = compiled(Pushes())
    stage = Stage(artifact, clients=1)
    short = Encoded(bytes(8), codec=11, shape=(2,))  # two float64 are 16 bytes
    data = build_envelope(
        bytes.fromhex(artifact.program)[:16], artifact.edges["push"].id, 1, 1, fills=[short]
    )
    assert stage.clients[0].receive_bytes(data.to_bytes(), stage.server.peer) is None
    assert stage.clients[0].counters == {"bad_value": 1}
    assert [step.reason for step in stage.clients[0].poll()] == ["bad_value"]


def test_another_program_on_a_peer_is_no_restart(bench):
    assert bench.give(bench.forge()) == ""
    assert bench.give(bench.forge(program=bytes(16), incarnation=2)) == "version_skew"
    assert bench.give(bench.forge()) == "duplicate"


def test_a_client_that_cannot_decode_says_so(artifact):
    bench = Bench(artifact)
    packet = bench.stage.wire.flying.pop(0)
    data = bytearray(packet.ship.envelope.to_bytes())
    data[-80_000 - 64 + 8] ^= 0xFF
    bench.stage.clients[0].receive_bytes(bytes(data), packet.source)
    bench.stage.wire.run()
    assert bench.stage.clients[0].counters == {"bad_value": 1}
    assert bench.stage.end_of(bench.frame).reason == "QuorumNotMet"


def test_a_truncated_payload_is_given_up(bench):
    answer = bench.node.receive_bytes(bench.forge()[:-1], bench.peer)
    assert (answer.reason, answer.close) == ("truncated", True)
    assert bench.held == 0


# Word of failure


def test_word_of_failure_fails_the_entry_of_its_source(bench):
    control = Failed("ValueError", bench.frame.number, 1, bench.artifact.edges["tell"].id)
    assert bench.give(bench.forge(edge=0, chain=[], fills=[], control=control)) == ""
    assert bench.node.counters == {"answer_failed": 1}
    assert bench.node.live_frames == 0


@pytest.mark.parametrize(
    ("facts", "source", "reason"),
    [
        ({"frame": 999}, None, "late"),
        ({"incarnation": 9}, None, "unknown_frame"),
        ({"edge": 9}, None, "unknown_edge"),
        ({}, STRANGER, "unexpected"),
    ],
)
def test_word_of_failure_must_be_expected(bench, facts, source, reason):
    edge = bench.artifact.edges["tell"].id
    control = Failed(
        **{"reason": "x", "frame": bench.frame.number, "incarnation": 1, "edge": edge, **facts}
    )
    data = bench.forge(edge=0, chain=[], fills=[], control=control)
    assert bench.give(data, source) == reason
    assert bench.node.live_frames == 1


def test_word_on_a_message_that_nobody_wonders_about_is_late(bench):
    data = bench.forge(edge=0, chain=[], fills=[], control=Ack(1, 1))
    assert bench.give(data) == "late"


def test_word_of_a_peer_that_was_never_sent_anything_is_refused(bench):
    data = bench.forge(edge=0, chain=[], fills=[], control=Ack(1, 1))
    assert bench.give(data, STRANGER) == "unexpected"


def test_abandoning_a_control_message_is_harmless(bench):
    control = Failed("x", bench.frame.number, 1, bench.artifact.edges["tell"].id)
    lease = offer(bench, bench.forge(edge=0, chain=[], fills=[], control=control))
    bench.node.abandon(lease)
    assert bench.held == 0


def test_a_message_below_the_window_is_too_old(bench):
    assert bench.give(bench.forge(message_id=1_000)) == ""
    assert bench.give(bench.forge(message_id=1)) == "too_old"


# Anything at all

fuzzed = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)


def check_sound(node) -> None:
    engine = node._engine
    node.poll()
    assert engine.payload_held == sum(frame.payload for frame in engine.frames.values())


@fuzzed
@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused(shared, data):
    assert isinstance(shared.node.receive_bytes(data, shared.peer), Refuse)
    check_sound(shared.node)


@fuzzed
@given(cut=st.integers(0, 400))
def test_any_truncation_is_refused(shared, cut):
    data = shared.forge(message_id=77)
    answer = shared.node.receive_bytes(data[:cut], shared.peer)
    assert isinstance(answer, Refuse)
    check_sound(shared.node)


@fuzzed
@given(
    at=st.integers(0, 600),
    flip=st.integers(1, 255),
    heal=st.booleans(),
    message_id=st.integers(1, 2**40),
)
def test_any_damage_gives_an_answer_and_leaves_nothing_charged(
    artifact, at, flip, heal, message_id
):
    bench = Bench(artifact)
    data = bytearray(bench.forge(message_id=message_id))
    data[at] ^= flip
    if heal:
        data = mended(data)
    bench.give(bytes(data))
    check_sound(bench.node)


def mended(data: bytearray) -> bytearray:
    """Give a damaged header the CRC that fits it, so that what is inside is looked at."""
    try:
        prelude = read_prelude(data, LIMITS)
    except Exception:  # noqa: BLE001  # the damage is in the prelude
        return data
    header = data[PRELUDE_SIZE : PRELUDE_SIZE + prelude.header_length]
    data[:PRELUDE_SIZE] = pack_prelude(prelude._replace(header_crc=zlib.crc32(header)))
    return data


@pytest.fixture(scope="module")
def shared(artifact) -> Bench:
    return Bench(artifact)
