"""Edges with retries: whatever the wire loses, doubles or delays, a message runs once."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bb_dsl as bb
from bb_ir.ids import PeerId
from bb_ir.wire import (
    DEFAULT_LIMITS,
    PRELUDE_SIZE,
    Ack,
    EnvelopeHead,
    Refused,
    build_envelope,
    read_header,
    read_prelude,
)
from bb_runtime._frames import ReturnAddress
from bb_runtime._windows import Window
from bb_testing.programs import Packet, Stage

SECOND = 10**9


class Ask(bb.Module):
    """Asks clients for what they have; nothing else happens."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def __init__(self, retries: int = 3, answer: int | None = None) -> None:
        super().__init__()
        self.retries = retries
        self.answer = answer

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("ask", self.peers.sample(g, 2), self.model.params(g), retries=self.retries)
        done = self.model.load_params(g, got)
        back = g.net_out(
            "tell", g.sender(got), self.model.params(g, after=done), retries=self.answer
        )
        told = self.model.load_params(g, back)
        g.output("count", g.gather(told, on_short="continue").count)


class Push(bb.Module):
    """Sends something that nobody answers."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("push", self.peers.sample(g, 1), self.model.params(g), retries=2)
        self.model.load_params(g, got)


@pytest.fixture(scope="module")
def ask(compiled) -> Any:
    return compiled(Ask())


@pytest.fixture(scope="module")
def push(compiled) -> Any:
    return compiled(Push())


def head_of(packet: Packet) -> EnvelopeHead:
    data = memoryview(packet.ship.envelope.head)
    prelude = read_prelude(data[:PRELUDE_SIZE], DEFAULT_LIMITS)
    return read_header(prelude, data[PRELUDE_SIZE:], DEFAULT_LIMITS)


def flying(stage: Stage) -> list[str]:
    """Return what is on its way, in words."""
    names = {edge.id: name for name, edge in stage.server._engine.artifact.edges.items()}
    words: list[str] = []
    for packet in stage.wire.flying:
        head = head_of(packet)
        word = type(head.control).__name__ if head.control else names[head.edge]
        words.append(f"{word}!" if head.retry else word)
    return words


def lose(stage: Stage, word: str, *, times: int = 1) -> None:
    """Lose the next envelopes of a kind."""
    for _ in range(times):
        stage.wire.lose(flying(stage).index(word))


def folds(stage: Stage) -> int:
    return stage.server.component("model").methods.count("load_params")


def quiet(stage: Stage) -> bool:
    """Whether nothing is left anywhere."""
    return all(
        not node.live_frames
        and not node._engine.post.retries.open
        and not node._engine.post.unanswered.open
        and not node._engine.post.outgoing
        and not any(record.busy for record in node._engine.peers.records.values())
        and node._engine.payload_held == 0
        for node in (stage.server, *stage.clients)
    )


def pass_time(stage: Stage, *, seconds: float = 2.0) -> None:
    stage.wire.advance(int(seconds * SECOND))
    stage.wire.run()


# What gets lost


def test_without_losses_nothing_is_sent_again(ask):
    stage = Stage(ask, clients=2)
    frame = stage.run()
    assert stage.end_of(frame).how == "done"
    assert stage.wire.outputs("count") == [2]
    pass_time(stage, seconds=100)
    assert "retried" not in stage.server.counters
    assert quiet(stage)


def test_a_lost_question_is_asked_again_under_its_number(ask):
    stage = Stage(ask, clients=2)
    frame = stage.invoke()
    lost = head_of(stage.wire.flying[0])
    lose(stage, "ask")
    stage.wire.run()
    assert stage.server.live_frames == 1

    stage.wire.advance(2 * SECOND)
    assert flying(stage) == ["ask!"]
    again = head_of(stage.wire.flying[0])
    assert (again.message_id, again.incarnation) == (lost.message_id, lost.incarnation)
    assert again.remaining_ns < lost.remaining_ns - SECOND
    stage.wire.run()

    assert stage.end_of(frame).how == "done"
    assert stage.wire.outputs("count") == [2]
    assert folds(stage) == 2
    assert stage.server.counters["retried"] == 1
    assert quiet(stage)


def test_a_lost_answer_is_sent_again_and_folded_once(ask):
    stage = Stage(ask, clients=2)
    frame = stage.invoke()
    stage.wire.deliver()
    lose(stage, "tell")
    stage.wire.run()
    assert stage.server.live_frames == 1

    pass_time(stage)

    assert stage.end_of(frame).how == "done"
    assert folds(stage) == 2
    assert [c.component("model").methods.count("load_params") for c in stage.clients] == [1, 1]
    assert quiet(stage)


def test_a_lost_acknowledgement_costs_a_header_and_runs_nothing(ask):
    stage = Stage(ask, clients=2)
    frame = stage.invoke()
    stage.wire.deliver()
    lose(stage, "Ack")
    lose(stage, "tell")  # else it would be as good as one
    stage.wire.advance(2 * SECOND)
    assert sorted(flying(stage)).count("ask!") == 2
    stage.wire.run()
    pass_time(stage)

    assert stage.end_of(frame).how == "done"
    assert [c.component("model").methods.count("load_params") for c in stage.clients] == [1, 1]
    assert stage.clients[0].counters["duplicate"] == 1
    assert folds(stage) == 2
    assert quiet(stage)


def test_duplicates_and_reordering_change_nothing(ask):
    stage = Stage(ask, clients=2)
    frame = stage.invoke()
    while stage.wire.flying:
        stage.wire.deliver(-1, keep=True)
        stage.wire.deliver(-1 if len(stage.wire.flying) % 2 else 0)
    assert stage.end_of(frame).how == "done"
    assert folds(stage) == 2
    assert [c.component("model").methods.count("load_params") for c in stage.clients] == [1, 1]
    pass_time(stage, seconds=100)
    assert quiet(stage)


def test_an_answer_is_as_good_as_an_acknowledgement(ask):
    stage = Stage(ask, clients=2)
    stage.invoke()
    stage.wire.deliver()
    lose(stage, "Ack")
    stage.wire.run()
    stage.wire.advance(10 * SECOND)
    assert "retried" not in stage.server.counters


def test_a_message_that_nobody_answers_is_sent_again_too(push):
    stage = Stage(push, clients=1)
    frame = stage.invoke()
    lose(stage, "push")
    assert stage.end_of(frame).how == "done", "nobody waits for it"
    pass_time(stage)
    assert stage.clients[0].component("model").methods == ["load_params"]
    assert quiet(stage)


# Word that an answer will not come


def failing(artifact: Any, clients: int = 2) -> Stage:
    """A stage whose first client fails at what it is asked."""
    return Stage(artifact, clients=clients, each={0: {"model": {"fail_in": "load_params"}}})


def test_lost_word_that_an_answer_will_not_come_is_said_again(ask):
    stage = failing(ask)
    frame = stage.invoke()
    stage.wire.deliver()
    lose(stage, "Failed")
    stage.wire.run()
    assert "retried" not in stage.server.counters, "its question was acknowledged"
    assert stage.server.live_frames == 1

    stage.wire.advance(2 * SECOND)
    assert flying(stage) == ["Failed!"]
    stage.wire.run()

    assert stage.end_of(frame).how == "done"
    assert stage.wire.outputs("count") == [1]
    assert stage.server.counters["answer_failed"] == 1
    assert stage.clients[0].component("model").methods.count("load_params") == 1
    pass_time(stage, seconds=100)
    assert quiet(stage)


def test_who_heard_that_an_answer_will_not_come_drops_what_is_said_again(ask):
    stage = failing(ask)
    frame = stage.run()
    assert stage.end_of(frame).how == "done"
    counted = dict(stage.server.counters)

    said = 0
    for _ in range(100):
        stage.wire.advance(SECOND)
        said += flying(stage).count("Failed!")
        stage.wire.run()

    assert said == ask.edges["tell"].retries == 3
    assert stage.server.counters == {**counted, "duplicate": said}
    assert stage.clients[0].counters["retried"] == said
    assert quiet(stage)


def test_a_question_that_comes_again_is_told_at_once_that_its_frame_failed(ask):
    stage = failing(ask, clients=1)
    stage.invoke()
    stage.wire.deliver()
    lose(stage, "Failed")
    lose(stage, "Ack")
    client = stage.clients[0]
    before = client.next_wakeup()
    while flying(stage) != ["ask!"]:
        stage.wire.advance(SECOND // 100)
        stage.wire.flying = [p for p in stage.wire.flying if p.source != client.peer]
    stage.wire.deliver()

    assert sorted(flying(stage)) == ["Ack", "Failed!"]
    assert client.next_wakeup() > before, "it is said once less by itself"
    stage.wire.run()
    assert stage.server.counters["answer_failed"] == 1


def test_a_question_that_comes_again_while_it_is_worked_on_is_acknowledged(compiled):
    class Slow(Ask):
        def body(self, g: bb.Graph) -> None:
            got = g.net_out("ask", self.peers.sample(g, 1), self.model.params(g), retries=3)
            waited = g.sleep("8s", got)
            back = g.net_out("tell", g.sender(got), waited)
            g.output("count", g.gather(back, deadline="20s").count)

    stage = Stage(compiled(Slow()), clients=1)
    stage.invoke()
    stage.wire.deliver(keep=True)
    lose(stage, "Ack")
    stage.wire.deliver()
    assert flying(stage) == ["Ack"]


def test_an_edge_without_retries_says_it_once(compiled):
    stage = failing(compiled(Ask(answer=0)))
    stage.run()
    assert stage.server.counters["answer_failed"] == 1
    stage.wire.advance(60 * SECOND)
    assert not stage.wire.flying
    assert quiet(stage)


def test_what_is_said_again_survives_a_snapshot(ask):
    stage = failing(ask)
    frame = stage.invoke()
    stage.wire.deliver()
    lose(stage, "Failed")
    stage.wire.run()
    never = stage.clients[0].next_wakeup()

    stage.restart()

    assert stage.clients[0].next_wakeup() == never
    stage.wire.advance(2 * SECOND)
    assert flying(stage) == ["Failed!"]
    stage.wire.run()
    assert stage.end_of(frame).how == "done"
    assert stage.server.counters["answer_failed"] == 1


def test_a_crash_forgets_what_was_to_be_said(ask):
    stage = failing(ask)
    stage.invoke()
    stage.wire.deliver()
    data = stage.clients[0].snapshot()
    assert stage.clients[0]._engine.post.unanswered.open

    again = failing(ask).makers[1](incarnation=2)
    again.restore(data, clean=False)

    assert not again._engine.post.unanswered.open
    assert again.next_wakeup() is None


def test_few_words_are_kept_for_one_peer_and_for_all(ask):
    engine = Stage(ask, clients=1).clients[0]._engine
    words, edge = engine.post.unanswered, ask.edges["tell"]
    peers = [PeerId.from_seed(b"many", n) for n in range(40)]
    for frame in range(200):
        for peer in peers:
            engine.post.refuse(ReturnAddress(peer, frame, 1), edge, "failed")

    assert len(words.open) == 1024
    words.clear()
    for frame in range(200):
        engine.post.refuse(ReturnAddress(peers[0], frame, 1), edge, "failed")
    assert len(words.open) == 128


# When to give up


def test_what_is_never_acknowledged_is_given_up_and_reported(ask):
    stage = Stage(ask, clients=2)
    frame = stage.invoke()
    seen = 0
    for _ in range(60):
        while stage.wire.flying:
            lose(stage, flying(stage)[0])
            seen += 1
        stage.wire.advance(SECOND)
    assert seen == 2 * 4, "once and three times again, for each"
    assert stage.server.counters["unacknowledged"] == 1, "then its gather waits for nobody"
    assert stage.end_of(frame).how == "done", "its gather goes on with nobody"
    assert quiet(stage)


def test_waits_double_and_differ_by_the_jitter_of_the_seed(push):
    def instants(seed: int) -> list[int]:
        stage = Stage(push, clients=1, seed=seed)
        stage.invoke()
        found: list[int] = []
        for _ in range(100):
            while stage.wire.flying:
                lose(stage, flying(stage)[0])
                found.append(stage.server.now_ns)
            when = stage.server.next_wakeup()
            if when is None:
                return found
            stage.wire.advance(when - stage.server.now_ns)
        raise AssertionError(found)

    first, second, third = instants(0)
    assert first == 0
    assert SECOND <= second - first <= 1.5 * SECOND
    assert 2 * SECOND <= third - second <= 3 * SECOND
    assert instants(0) == [first, second, third]
    assert instants(1) != [first, second, third]


def test_nothing_is_sent_again_for_a_frame_that_has_ended(ask):
    stage = Stage(ask, clients=2)
    stage.invoke()
    stage.wire.flying.clear()
    stage.server._engine.end(next(iter(stage.server._engine.frames.values())), "cancelled", "test")
    stage.wire.advance(20 * SECOND)
    assert not stage.wire.flying
    assert quiet(stage)


def test_an_edge_may_do_without_for_its_answers(compiled):
    artifact = compiled(Ask(answer=0))
    assert (artifact.edges["ask"].retries, artifact.edges["tell"].retries) == (3, 0)
    stage = Stage(artifact, clients=2)
    stage.invoke()
    stage.wire.deliver()
    lose(stage, "tell")
    stage.wire.run()
    stage.wire.advance(20 * SECOND)
    assert not stage.wire.flying


def test_a_late_answer_is_not_sent_for_ever(ask):
    stage = Stage(ask, clients=2)
    stage.invoke()
    stage.wire.deliver()
    stage.wire.deliver(0)
    server = stage.server._engine
    server.end(next(f for f in server.frames.values() if f.parent is None), "cancelled", "test")
    stage.wire.run()
    assert stage.server.counters["late"] >= 1
    assert stage.clients[0].counters["refused.late"] == 1
    stage.wire.advance(20 * SECOND)
    assert not stage.wire.flying
    assert quiet(stage)


def test_an_undeliverable_message_is_tried_again(push):
    stage = Stage(push, clients=1)
    stage.invoke()
    [client] = stage.clients
    del stage.wire.nodes[client.peer]
    stage.wire.run()
    assert stage.server.counters == {"undeliverable": 1}
    stage.wire.nodes[client.peer] = client
    pass_time(stage)
    assert client.component("model").methods == ["load_params"]


def test_a_payload_that_breaks_off_comes_again(push):
    stage = Stage(push, clients=1, config={"model": {"size": 10_000}})
    stage.invoke()
    packet = stage.wire.flying.pop()
    [client] = stage.clients
    data = memoryview(packet.ship.envelope.head)
    lease = client.offer(data[:PRELUDE_SIZE], data[PRELUDE_SIZE:], stage.server.peer)
    client.abandon(lease)
    pass_time(stage)
    assert client.component("model").methods == ["load_params"]
    assert client.counters == {"abandoned": 1}


def test_of_two_leases_for_one_message_one_runs(push):
    stage = Stage(push, clients=1, config={"model": {"size": 10_000}})
    stage.invoke()
    [packet] = stage.wire.flying
    [client] = stage.clients
    data = memoryview(packet.ship.envelope.head)
    leases = [
        client.offer(data[:PRELUDE_SIZE], data[PRELUDE_SIZE:], stage.server.peer) for _ in "ab"
    ]
    for lease in leases:
        packet.ship.envelope.write_into(lease.buffer)
        client.receive(lease)
    stage.wire.run()
    assert client.component("model").methods == ["load_params"]
    assert client.counters["duplicate"] == 2, "the other lease, and the one on the wire"
    assert quiet(stage)


def test_a_server_that_asks_many_at_once_may_ask_the_first_again(ask):
    stage = Stage(ask, clients=2)
    stage.invoke()
    first = stage.wire.lose(0)
    stage.wire.run()
    record = stage.clients[0]._engine.peers.of(stage.server.peer)
    record.window = Window(1)
    record.window.mark(first.ship.message_id + 1000)
    pass_time(stage)
    assert stage.wire.outputs("count") == [2]


@pytest.mark.parametrize("word", [Ack, Refused])
def test_only_the_peer_itself_can_end_a_retry(ask, word):
    stage = Stage(ask, clients=2)
    stage.invoke()
    number = head_of(stage.wire.lose()).message_id
    control = Ack(number, 1) if word is Ack else Refused("late", number, 1)
    program = bytes.fromhex(ask.program)[:16]
    data = build_envelope(program, 0, incarnation=1, message_id=99, control=control).to_bytes()
    assert stage.server.receive_bytes(data, stage.peers[1]).reason == "late"
    old = Ack(number, 7) if word is Ack else Refused("late", number, 7)
    data = build_envelope(program, 0, incarnation=1, message_id=99, control=old).to_bytes()
    assert stage.server.receive_bytes(data, stage.peers[0]).reason == "unexpected"
    stage.wire.run()
    stage.wire.advance(2 * SECOND)
    assert flying(stage) == ["ask!"]


def test_what_was_not_acknowledged_survives_a_snapshot(ask):
    stage = Stage(ask, clients=2)
    stage.invoke()
    stage.wire.advance(SECOND // 2)
    stage.wire.flying.clear()
    again = Stage(ask, clients=2)
    again.server.restore(stage.server.snapshot())

    again.wire.advance(2 * SECOND)

    assert flying(again) == ["ask!", "ask!"]
    again.wire.run()
    assert again.wire.outputs("count") == [2]
    assert quiet(again)


def test_what_was_received_survives_a_snapshot(push):
    stage = Stage(push, clients=1)
    stage.invoke()
    [packet] = stage.wire.flying
    stage.wire.run()
    again = Stage(push, clients=1)
    again.clients[0].restore(stage.clients[0].snapshot())
    again.wire.flying.append(packet)
    again.wire.run()
    assert again.clients[0].counters == {"duplicate": 1}
    assert again.clients[0].component("model").methods == []


@given(st.lists(st.integers(1, 400), max_size=300))
def test_a_window_never_takes_an_id_of_an_edge_with_retries_twice(ids):
    window, taken = Window(1), set()
    for one in ids:
        why = window.check_received(one)
        if why:
            assert why == "too_old" or one in taken
            continue
        assert one not in taken
        window.mark_received(one)
        taken.add(one)
    assert Window(*window.state()).state() == window.state()
    assert len(window.received) <= 128


@settings(max_examples=60, deadline=None)
@given(data=st.data(), fails=st.booleans())
def test_whatever_the_wire_does_each_message_runs_at_most_once(ask, data, fails):
    stage = failing(ask) if fails else Stage(ask, clients=2)
    frame = stage.invoke()
    for _ in range(200):
        if not stage.wire.flying:
            if not stage.server.live_frames:
                break
            stage.wire.advance(SECOND)
            continue
        at = data.draw(st.integers(0, len(stage.wire.flying) - 1))
        what = data.draw(st.sampled_from(["deliver", "lose", "double", "wait"]))
        if what == "deliver":
            stage.wire.deliver(at)
        elif what == "double":
            stage.wire.deliver(at, keep=True)
        elif what == "lose":
            stage.wire.lose(at)
        else:
            stage.wire.advance(SECOND // 2)
    stage.wire.flying.clear()
    for _ in range(80):
        stage.wire.advance(SECOND)
        stage.wire.run()
    assert stage.end_of(frame).how in {"done", "expired"}
    assert folds(stage) <= 2
    for client in stage.clients:
        assert client.component("model").methods.count("load_params") <= 1
    for count in stage.wire.outputs("count"):
        assert count == folds(stage)
    assert quiet(stage)
