"""Where a wait stands within another, an answer must bring back what its question handed out."""

from typing import Any

import pytest

import bb_dsl as bb
from bb_ir.ids import PeerId
from bb_ir.wire import DEFAULT_LIMITS as LIMITS
from bb_ir.wire import GRANT_SIZE, Failed, build_envelope, read_header, read_prelude
from bb_ir.wire import PRELUDE_SIZE as PRELUDE
from bb_runtime import Dropped, Options, install
from bb_runtime._grants import key_of
from bb_runtime.replay import replay
from bb_testing.programs import Wire

SERVER, LEAF, *HELPERS = (PeerId.from_seed(b"grants", n) for n in range(4))
SECRET = b"a secret of thirty-two bytes...."


class Relay(bb.Module):
    """The server asks a leaf, which asks two helpers, on two edges, before it answers."""

    peer_class = "server"
    leaves = bb.slots.PeerSelector(of="leaf")
    helpers = bb.slots.PeerSelector(of="helper")
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        asked = g.net_out("down", self.leaves.sample(g, 1), self.model.params(g))
        cohort = self.helpers.sample(g, 2)
        first = g.net_out("help", cohort, asked)
        second = g.net_out("more", cohort, asked)
        done = g.gather(g.net_out("up", g.sender(first), first))
        also = g.gather(g.net_out("too", g.sender(second), second))
        self.model.load_params(g, asked, after=(done.count, also.count))
        back = g.net_out("back", g.sender(asked), self.model.params(g))
        g.output("answers", g.gather(back).count)


class Talk(bb.Module):
    """The server asks; its client asks back before it answers."""

    peer_class = "server"
    clients = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        asked = g.net_out("ask", self.clients.sample(g, 1), self.model.params(g))
        question = g.net_out("which", g.sender(asked), asked)
        told = g.net_out("this", g.sender(question), question)
        g.gather(told)
        g.output("questions", g.gather(question).count)


@pytest.fixture(scope="module")
def relay(compiled):
    return compiled(Relay())


class Three:
    """Server, leaf and two helpers, with what the leaf has asked on its way."""

    def __init__(self, artifact: Any, *, secret: bytes | None = None, **leaf: Any) -> None:
        self.artifact = artifact
        config = {"leaves": {"peers": (LEAF,)}, "helpers": {"peers": tuple(HELPERS)}}
        server, leaves, helper = ("Relay", "Relay.leaf", "Relay.helper")
        self.server = install(SERVER, [], artifact, [server], config)
        self.leaf = install(LEAF, [], artifact, [leaves], config, secret=secret, **leaf)
        self.helpers = [install(peer, [], artifact, [helper], config) for peer in HELPERS]
        self.wire = Wire(self.server, self.leaf, *self.helpers)
        self.server.invoke("Relay")
        self.wire.poll()
        self.wire.deliver()

    def answers(self, source: PeerId) -> dict[str, bytes]:
        """Let a helper answer, and take its answers off the wire, by edge."""
        edges = self.artifact.edges_by_id
        questions = [p for p in self.wire.flying if p.ship.to == source]
        for packet in questions:
            self.wire.deliver(self.wire.flying.index(packet))
        own = [p for p in self.wire.flying if p.source == source]
        for packet in own:
            self.wire.flying.remove(packet)
        envelopes = [p.ship.envelope.to_bytes() for p in own]
        return {edges[head_of(data).edge].name: data for data in envelopes}


def head_of(data: bytes) -> Any:
    prelude = read_prelude(data, LIMITS)
    return read_header(prelude, data[PRELUDE : PRELUDE + prelude.header_length], LIMITS)


def forged(data: bytes, *, number: int = 900, **changes: Any) -> bytes:
    """Return an answer with another hop, under an id of its own."""
    head = head_of(data)
    [hop] = head.chain
    chain = [hop._replace(**changes)]
    fills = [(fill.inline, fill.codec, fill.shape) for fill in head.fills]
    return build_envelope(
        head.program, head.edge, head.incarnation, number, chain=chain, fills=fills
    ).to_bytes()


@pytest.fixture
def three(relay) -> Three:
    return Three(relay)


def test_only_questions_of_frames_that_are_waited_for_carry_grants(relay, compiled):
    granted = {name for name, edge in relay.edges.items() if edge.granted}
    assert granted == {"help", "more"}
    talk = compiled(Talk())
    assert {name for name, edge in talk.edges.items() if edge.granted} == {"which"}


def test_every_destination_and_edge_gets_a_grant_of_its_own(three):
    grants = {head_of(p.ship.envelope.to_bytes()).chain[-1].grant for p in three.wire.flying}
    assert len(grants) == 4
    assert {len(grant) for grant in grants} == {GRANT_SIZE}


def test_answers_with_their_grants_are_taken(three):
    three.wire.run()
    assert three.wire.outputs("answers") == [1]
    assert three.leaf.counters == {}


def test_question_back_and_its_answer(compiled):
    artifact = compiled(Talk())
    config = {"clients": {"peers": (LEAF,)}}
    nodes = [
        install(SERVER, [], artifact, ["Talk"], config),
        install(LEAF, [], artifact, ["Talk.client"], config),
    ]
    wire = Wire(*nodes)
    nodes[0].invoke("Talk")
    wire.run()
    assert wire.outputs("questions") == [1]
    assert [node.counters for node in nodes] == [{}, {}]


# Who has the wrong one


def refused(three: Three, data: bytes, source: PeerId) -> str:
    """Hand an envelope to the leaf; return why it is refused, which it must do in silence."""
    frames, before = three.leaf.live_frames, dict(three.leaf.counters)
    answer = three.leaf.receive_bytes(data, source)
    steps = three.leaf.poll()
    if answer is None:
        return ""
    edge = three.artifact.edges_by_id[head_of(data).edge].name
    assert steps == [Dropped(answer.reason, source, edge)]
    assert three.leaf.counters == {**before, answer.reason: 1}
    assert three.leaf.live_frames == frames
    return answer.reason


@pytest.mark.parametrize("grant", [b"", bytes(16), b"x" * 16])
def test_forged_grant_is_dropped(three, grant):
    answer = three.answers(HELPERS[0])["up"]
    assert refused(three, forged(answer, grant=grant), HELPERS[0]) == "bad_grant"
    assert refused(three, answer, HELPERS[0]) == "", "the right one still counts"


def test_grant_of_another_frame_is_dropped(three):
    answer = three.answers(HELPERS[0])["up"]
    frame = head_of(answer).chain[0].frame
    assert refused(three, forged(answer, frame=frame + 2), HELPERS[0]) == "bad_grant"


def test_grant_of_another_edge_is_dropped(three):
    answers = three.answers(HELPERS[0])
    other = head_of(answers["too"]).chain[0].grant
    assert refused(three, forged(answers["up"], grant=other), HELPERS[0]) == "bad_grant"


def test_grant_of_another_destination_is_dropped(three):
    theirs = head_of(three.answers(HELPERS[1])["up"]).chain[0].grant
    answer = three.answers(HELPERS[0])["up"]
    assert refused(three, forged(answer, grant=theirs), HELPERS[0]) == "bad_grant"


def test_who_was_not_asked_cannot_use_a_grant(three):
    answer = three.answers(HELPERS[0])["up"]
    assert refused(three, forged(answer), SERVER) == "bad_grant"


def test_grant_is_used_up_with_its_entry(three):
    answer = three.answers(HELPERS[0])["up"]
    assert refused(three, answer, HELPERS[0]) == ""
    assert refused(three, forged(answer, number=901), HELPERS[0]) == "late"


def test_grant_of_an_earlier_incarnation_is_of_an_unknown_frame(relay, three):
    answer = three.answers(HELPERS[0])["up"]
    again = Three(relay, incarnation=2)
    assert refused(again, answer, HELPERS[0]) == "unknown_frame"
    assert refused(again, forged(answer, incarnation=2), HELPERS[0]) == "bad_grant"


def test_word_of_failure_needs_the_grant_too(three):
    edge, hop = three.artifact.edges["up"], head_of(three.answers(HELPERS[0])["up"]).chain[0]

    def told(number: int, grant: bytes) -> bytes:
        control = Failed("x", hop.frame, hop.incarnation, edge.id, grant)
        program = bytes.fromhex(three.artifact.program)[:16]
        return build_envelope(program, 0, 1, number, control=control).to_bytes()

    answer = three.leaf.receive_bytes(told(900, b""), HELPERS[0])
    assert answer is not None
    assert answer.reason == "bad_grant"
    assert three.leaf.receive_bytes(told(901, hop.grant), HELPERS[0]) is None
    assert three.leaf.counters == {"bad_grant": 1, "answer_failed": 1}


def test_helper_that_refuses_brings_the_grant_back(three):
    three.helpers[0]._engine.options = Options(max_frames=0)
    three.wire.run()
    assert three.leaf.counters["answer_failed"] == 1
    assert "bad_grant" not in three.leaf.counters


# The secret


def grant_of(secret: bytes | None, relay: Any, **leaf: Any) -> bytes:
    packet = Three(relay, secret=secret, **leaf).wire.flying[0]
    return head_of(packet.ship.envelope.to_bytes()).chain[-1].grant


def test_grants_depend_on_the_secret_else_on_the_seed(relay):
    grants = [
        grant_of(None, relay),
        grant_of(None, relay, seed=1),
        grant_of(SECRET, relay),
        grant_of(SECRET, relay, incarnation=2),
        grant_of(SECRET[::-1], relay),
    ]
    assert len(set(grants)) == len(grants)
    assert grants[2] == grant_of(SECRET, relay, seed=1)
    assert grants[0] == grant_of(None, relay)


def test_node_goes_on_from_a_snapshot_without_its_secret(relay):
    three = Three(relay, secret=SECRET)
    data = three.leaf.snapshot()
    assert SECRET not in data
    config = {"leaves": {"peers": (LEAF,)}, "helpers": {"peers": tuple(HELPERS)}}
    again = install(LEAF, [], relay, ["Relay.leaf"], config, secret=b"another one" * 3)
    again.restore(data)
    assert again.snapshot() == data
    three.wire.nodes[LEAF] = again
    three.wire.run()
    assert three.wire.outputs("answers") == [1]


def test_new_incarnation_has_grants_of_its_own(relay):
    three = Three(relay, secret=SECRET)
    config = {"leaves": {"peers": (LEAF,)}, "helpers": {"peers": tuple(HELPERS)}}
    after = install(LEAF, [], relay, ["Relay.leaf"], config, secret=SECRET, incarnation=2)
    after.restore(three.leaf.snapshot(), clean=False)
    assert after._engine.grants.key == key_of(SECRET, LEAF, 2)


def test_snapshot_with_a_damaged_key_is_none():
    from bb_runtime._grants import key_from

    for stored in (None, b"short", "x" * 32):
        with pytest.raises(ValueError, match="no key"):
            key_from(stored)


def test_journal_is_replayed_without_the_secret(relay):
    records: list[bytes] = []
    three = Three(relay, secret=SECRET, journal=records.append)
    bad = forged(three.answers(HELPERS[0])["up"], grant=bytes(16))
    three.leaf.receive_bytes(bad, HELPERS[0])
    three.wire.run()
    assert three.leaf.counters == {"bad_grant": 1}
    assert SECRET not in b"".join(records)
    again = replay(records)
    assert again.node.counters == {"bad_grant": 1}
    assert again.node.snapshot() == three.leaf.snapshot()


# By reference, and later


def test_envelopes_by_reference_carry_grants_of_the_same_weight(relay):
    assert carried(relay, by_reference=True) == carried(relay, by_reference=False)


def carried(artifact: Any, *, by_reference: bool) -> list[int]:
    """Run the program, and return how long all headers were."""
    config = {"leaves": {"peers": (LEAF,)}, "helpers": {"peers": tuple(HELPERS)}}
    targets = {SERVER: "Relay", LEAF: "Relay.leaf"} | dict.fromkeys(HELPERS, "Relay.helper")
    nodes = [
        install(peer, [], artifact, [target], config, by_reference=by_reference)
        for peer, target in targets.items()
    ]
    Wire(*nodes)  # which authorizes them to each other
    by_peer = {node.peer: node for node in nodes}
    nodes[0].invoke("Relay")
    lengths: list[int] = []
    steps = [(node, step) for node in nodes for step in node.poll()]
    while steps:
        node, step = steps.pop(0)
        if hasattr(step, "envelope"):
            envelope, to = step.envelope, by_peer[step.to]
            lengths.append(envelope.head_length)
            assert len(envelope.head) == envelope.head_length
            if hasattr(envelope, "read"):
                assert to.take(envelope, node.peer) is None
            else:
                assert to.receive_bytes(envelope.to_bytes(), node.peer) is None
            steps += [(to, one) for one in to.poll()]
    assert all(node.counters == {} for node in nodes)
    return lengths
