"""An edge takes no longer payloads than the program was compiled for, on either side."""

import json
from typing import Any

import numpy as np
import pytest

import bb_dsl as bb
from bb_ir import keys
from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bb_ir.types import PARAMS, tensor
from bb_ir.values import Encoded, encode_value
from bb_ir.wire import Hop, WireLimits, build_envelope
from bb_runtime import Options, load_artifact
from bb_runtime.errors import InvalidArtifact
from bb_testing.programs import Stage

STRANGER = PeerId.from_seed(b"stranger", 0)
LIMIT = 4096
#: 80 kB on the wire.
BIG = ParameterSet.from_tensors({"w": np.zeros(10_000)})
#: A sender's limits with which nothing longer than 100 bytes stands in the header.
SMALL_HEADER = WireLimits(header=200)


class Asks(bb.Module):
    """Asks clients for their parameters, of which few bytes are expected."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def __init__(self, max_bytes: int | None = LIMIT) -> None:
        super().__init__()
        self.max_bytes = max_bytes

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("ask", self.peers.sample(g, 2), self.model.params(g), max_bytes=1 << 16)
        told = g.net_out("tell", g.sender(got), got, max_bytes=self.max_bytes)
        g.output("count", g.gather(told).count)


class Pushes(bb.Module):
    """Sends what is known to the byte, and a word without any."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")

    def body(self, g: bb.Graph) -> None:
        to = self.peers.current_view(g)
        x = g.input("x", tensor("uint8", (160,)))
        g.output("seen", g.net_out("push", to, x))
        g.output("done", g.net_out("word", to))


@pytest.fixture(scope="module")
def asks(compiled) -> Any:
    return compiled(Asks())


@pytest.fixture(scope="module")
def pushes(compiled) -> Any:
    return compiled(Pushes())


def forge(artifact: Any, edge: str, *fills: Encoded, **facts: Any) -> bytes:
    program = bytes.fromhex(artifact.program)[:16]
    given = {"incarnation": 1, "message_id": 1, "fills": fills, **facts}
    return build_envelope(program, artifact.edges[edge].id, **given).to_bytes()


def waiting(artifact: Any) -> tuple[Stage, Any]:
    """Return a server that waits for two answers, and its frame."""
    stage = Stage(artifact, clients=2)
    return stage, stage.invoke()


def answer(stage: Stage, frame: Any, artifact: Any, params: ParameterSet) -> bytes:
    chain = [Hop(frame.number, 1, stage.server.peer.raw)]
    return forge(artifact, "tell", encode_value(params, PARAMS), chain=chain)


# What comes in


def test_an_answer_beyond_the_limit_is_refused_before_anything_is_allocated(asks, monkeypatch):
    stage, frame = waiting(asks)
    monkeypatch.setattr("bb_runtime._admission.allocate", None)  # calling it would raise

    refused = stage.server.receive_bytes(answer(stage, frame, asks, BIG), stage.peers[0])

    assert (refused.reason, refused.close) == ("too_large", False)
    assert refused.skip > 80_000
    assert stage.server.counters == {"too_large": 1, "answer_failed": 1}
    assert stage.server._engine.payload_held == 0
    assert stage.server.live_frames == 0, "its gather needed both"
    stage.wire.poll()
    assert stage.end_of(frame).reason == "QuorumNotMet"


def test_the_limit_itself_is_taken(asks):
    stage, frame = waiting(asks)
    payload = ParameterSet.from_tensors({"w": np.zeros(LIMIT // 8 - 16)})
    data = answer(stage, frame, asks, payload)
    size = payload.image.nbytes

    assert size + -size % 64 == LIMIT
    assert stage.server.receive_bytes(data, stage.peers[0]) is None


def test_a_question_beyond_the_limit_is_refused_and_its_sender_told(asks):
    stage, frame = waiting(asks)
    client = stage.clients[0]
    chain = [Hop(frame.number, 1, stage.server.peer.raw)]
    data = forge(asks, "ask", encode_value(BIG, PARAMS), chain=chain, message_id=9)

    assert client.receive_bytes(data, stage.server.peer).reason == "too_large"

    steps = client.poll()
    assert [step.reason for step in steps if hasattr(step, "reason")] == ["too_large"]
    (told,) = [step for step in steps if hasattr(step, "envelope")]
    assert told.to == stage.server.peer
    assert stage.server.receive_bytes(told.envelope.to_bytes(), client.peer) is None
    assert stage.server.counters["answer_failed"] == 1


def test_a_stranger_learns_nothing_about_limits(asks):
    stage, frame = waiting(asks)
    chain = [Hop(frame.number, 1, stage.server.peer.raw)]
    data = forge(asks, "ask", encode_value(BIG, PARAMS), chain=chain, message_id=9)
    client = stage.clients[0]

    assert client.receive_bytes(data, STRANGER).reason == "not_authorized"
    assert not [step for step in client.poll() if hasattr(step, "envelope")]


def test_a_refused_message_may_come_again_when_it_is_shorter(asks):
    stage, frame = waiting(asks)
    small = ParameterSet.from_tensors({"w": np.zeros(3)})
    client = stage.clients[0]
    chain = [Hop(frame.number, 1, stage.server.peer.raw)]
    data = forge(asks, "ask", encode_value(BIG, PARAMS), chain=chain, message_id=9)
    assert client.receive_bytes(data, stage.server.peer).reason == "too_large"

    again = forge(asks, "ask", encode_value(small, PARAMS), chain=chain, message_id=9)

    assert client.receive_bytes(again, stage.server.peer) is None


def test_limit_of_a_node_holds_beside_that_of_the_edge(compiled):
    artifact = compiled(Asks(max_bytes=1 << 40))
    stage = Stage(artifact, clients=2, options=Options(max_envelope_bytes=50_000))
    frame = stage.invoke()

    refused = stage.server.receive_bytes(answer(stage, frame, artifact, BIG), stage.peers[0])

    assert refused.reason == "payload_too_long"


def test_edge_whose_types_leave_it_open_has_the_limit_of_the_node(compiled):
    artifact = compiled(Asks(max_bytes=None))
    stage, frame = waiting(artifact)

    assert artifact.edges["tell"].max_payload == 0
    assert stage.server.receive_bytes(answer(stage, frame, artifact, BIG), stage.peers[0]) is None


# What types allow


def test_value_of_its_type_fits_however_its_sender_packs_it(pushes):
    stage = Stage(pushes, clients=1)
    fill = encode_value(np.zeros(160, np.uint8), tensor("uint8", (160,)))
    packed = forge(pushes, "push", fill, limits=SMALL_HEADER)
    inline = forge(pushes, "push", fill, message_id=2)

    assert pushes.edges["push"].max_payload == 192
    assert len(packed) > len(inline), "one of them has a payload"
    assert stage.clients[0].receive_bytes(packed, stage.server.peer) is None
    assert stage.clients[0].receive_bytes(inline, stage.server.peer) is None


@pytest.mark.parametrize("edge", ["push", "word"])
def test_more_than_the_types_allow_is_refused(pushes, edge):
    stage = Stage(pushes, clients=1)
    fills = [Encoded(bytes(193), codec=2, shape=(193,))] if edge == "push" else []
    fills = fills or [Encoded(bytes(5000), codec=0, shape=())]
    data = forge(pushes, edge, *fills, limits=SMALL_HEADER)

    refused = stage.clients[0].receive_bytes(data, stage.server.peer)

    assert refused.reason == ("too_large" if edge == "push" else "bad_shape")
    assert stage.clients[0]._engine.payload_held == 0


def test_nobody_waits_for_what_no_edge_answers(pushes):
    stage = Stage(pushes, clients=1)
    fill = Encoded(bytes(1 << 20), codec=2, shape=(1 << 20,))

    stage.clients[0].receive_bytes(forge(pushes, "push", fill), stage.server.peer)

    assert stage.clients[0].counters == {"too_large": 1}
    assert [step.reason for step in stage.clients[0].poll()] == ["too_large"]


# What is sent


def test_a_value_beyond_the_limit_is_not_sent(asks):
    stage = Stage(asks, clients=2, config={"model": {"size": 10_000}})
    frame = stage.invoke()

    (failed,) = stage.wire.failures()
    assert failed.op == "Send"
    told = str(failed.error)
    assert "edge 'ask' has a payload of 80,128 bytes" in told
    assert "at most 65,536 bytes" in told
    assert "g.net_out('ask', ..., max_bytes=...)" in told
    assert not stage.wire.flying
    assert stage.end_of(frame).how == "failed"


def test_an_answer_that_may_not_be_sent_ends_the_wait_for_it(asks):
    stage = Stage(asks, clients=2, config={"model": {"size": 1000}})
    frame = stage.run()

    assert stage.end_of(frame).reason == "QuorumNotMet"
    assert all(not node.live_frames for node in (stage.server, *stage.clients))


# What an artifact says


def with_limit(compiled_model: Any, limit: Any) -> Any:
    for entry in compiled_model.metadata_props:
        if entry.key == keys.EDGES:
            rows = json.loads(entry.value)
            for row in rows:
                row.pop("max_payload")
                if limit is not None:
                    row["max_payload"] = limit
            entry.value = json.dumps(rows)
    return compiled_model


@pytest.fixture
def model() -> Any:
    from bb_compiler import Compiler
    from bb_testing.programs import FixedPeers

    return Compiler().bind("peers", FixedPeers).compile(Pushes().build())


@pytest.mark.parametrize("limit", [-1, "64", 1.5, True, [1], {}])
def test_a_limit_that_is_none_is_refused(model, limit):
    with pytest.raises(InvalidArtifact, match="max_payload"):
        load_artifact(with_limit(model, limit))


def test_an_edge_without_the_entry_has_the_limit_of_the_node(model):
    assert load_artifact(with_limit(model, None)).edges["push"].max_payload == 0
