"""A gather fires once, when enough peers answered, or falls short."""

from typing import Any

import pytest

import bb_dsl as bb
from bb_ir.ids import PeerId
from bb_ir.wire import build_envelope
from bb_runtime import Dropped, Emitted, FrameEnded, LocalBus, OpFailed, Options, install
from bb_runtime._lower import lowered
from bb_runtime.errors import QuorumNotMet
from bb_testing.programs import Stage, Wire

SECOND = 10**9


class Poll(bb.Module):
    """Asks some clients for their parameters."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    aggregator = bb.slots.Aggregator()

    def __init__(self, n: int = 3, *, publish: bool = True, **options: Any) -> None:
        super().__init__()
        self.n = n
        self.publish = publish
        self.options = options

    def body(self, g: bb.Graph) -> None:
        asked = g.net_out("ask", self.peers.sample(g, self.n))
        with g.at(asked):
            mine = self.model.params(g)
        told = g.net_out("tell", g.sender(asked), mine)
        done = g.gather(told, values=True, **self.options)
        if self.publish:
            g.output("count", done.count)
            g.output("missing", done.missing)
            g.output("values", done.values)


class Round(bb.Module):
    """Folds the parameters of some clients."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def __init__(self, n: int = 3, **options: Any) -> None:
        super().__init__()
        self.n = n
        self.options = options

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("weights", self.peers.sample(g, self.n), self.model.params(g))
        self.model.load_params(g, got)
        metrics = self.model.fit(g, self.data.batches(g))
        reply = g.net_out("update", g.sender(got), self.model.params(g), metrics)
        folded = self.aggregator.contribute(g, *reply)
        done = g.gather(folded, **self.options)
        averaged, summary = self.aggregator.aggregate(g, after=done)
        g.output("w", averaged)
        g.output("summary", summary)


def asked(stage: Stage) -> Any:
    """Invoke, and let all questions arrive: the answers are on their way."""
    frame = stage.invoke()
    for _ in range(len(stage.wire.flying)):
        stage.wire.deliver()
    return frame


def dropped(stage: Stage) -> list[str]:
    return [s.reason for _, s in stage.wire.steps if isinstance(s, Dropped)]


# How many it takes


@pytest.mark.parametrize(
    ("quorum", "peers", "need"),
    [
        (1.0, 7, 7),
        (0.8, 10, 8),
        (0.8, 8, 7),
        (0.29, 100, 29),  # 0.29 * 100 is 28.999999999999996 in binary
        (0.07, 100, 7),  # and 0.07 * 100 is 7.000000000000001
        (0.01, 3, 1),
        (0.5, 1, 1),
        (2, 10, 2),
        (2, 1, 2),
    ],
)
def test_a_quorum_is_exact(compiled, quorum, peers, need):
    artifact = compiled(Poll(quorum=quorum))
    [info] = lowered(artifact, artifact.target("Poll")).regions["main"].gathers
    assert info.need(peers) == need


def test_it_fires_when_all_answered(compiled):
    stage = Stage(compiled(Poll()))
    frame = asked(stage)
    for _ in range(2):
        stage.wire.deliver()
    assert stage.wire.outputs("count") == []
    stage.wire.deliver()
    assert stage.wire.outputs("count") == [3]
    assert stage.end_of(frame).how == "done"


def test_it_fires_at_its_quorum(compiled):
    stage = Stage(compiled(Poll(quorum=2)))
    frame = asked(stage)
    stage.wire.deliver()
    assert stage.wire.outputs("count") == []
    stage.wire.deliver()
    assert stage.wire.outputs("count") == [2]
    assert stage.end_of(frame).how == "done"


def test_it_fires_once(compiled):
    stage = Stage(compiled(Poll(quorum=1)))
    stage.run()
    assert stage.wire.outputs("count") == [1]


def test_values_come_in_the_order_of_the_destinations(compiled):
    each = {n: {"model": {"value": float(n), "size": 1}} for n in range(3)}
    stage = Stage(compiled(Poll()), each=each)
    asked(stage)
    stage.wire.flying.reverse()
    stage.wire.run()
    [values] = stage.wire.outputs("values")
    assert [value["w"].tolist() for value in values] == [[0.0], [1.0], [2.0]]


def test_missing_are_those_that_did_not_answer(compiled):
    stage = Stage(compiled(Poll(quorum=1)))
    asked(stage)
    stage.wire.deliver(1)
    assert stage.wire.outputs("missing") == [(stage.peers[0], stage.peers[2])]


def test_the_same_sum_comes_out_in_any_order_of_arrival(compiled):
    each = {n: {"data": {"value": float(n), "size": 2}} for n in range(3)}
    results = []
    for order in [(0, 0, 0), (2, 1, 0), (1, 1, 0)]:
        stage = Stage(compiled(Round()), each=each)
        asked(stage)
        for at in order:
            stage.wire.deliver(at)
        results.append(stage.wire.outputs("w")[0].to_bytes())
    assert len(set(results)) == 1


# Waiting for all


def test_waiting_for_all_goes_on_after_the_quorum(compiled):
    stage = Stage(compiled(Poll(quorum=1, wait="all", deadline="10s")))
    asked(stage)
    stage.wire.deliver()
    assert stage.wire.outputs("count") == []
    stage.wire.run()
    assert stage.wire.outputs("count") == [3]


def test_waiting_for_all_ends_at_the_deadline_when_the_quorum_is_met(compiled):
    stage = Stage(compiled(Poll(quorum=1, wait="all", deadline="10s")))
    asked(stage)
    stage.wire.deliver()
    stage.wire.advance(10 * SECOND - 1)
    assert stage.wire.outputs("count") == []
    stage.wire.advance(1)
    assert stage.wire.outputs("count") == [1]


def test_waiting_for_all_ends_when_the_rest_failed(compiled):
    stage = Stage(compiled(Poll(quorum=2, wait="all")), each={1: {"model": {"fail_in": "params"}}})
    stage.run()
    assert stage.wire.outputs("count") == [2]


def test_waiting_for_all_fails_at_once_when_the_quorum_cannot_be_met(compiled):
    stage = Stage(compiled(Poll(quorum=3, wait="all")), each={0: {"model": {"fail_in": "params"}}})
    frame = asked(stage)
    stage.wire.deliver()
    assert stage.end_of(frame).reason == "QuorumNotMet"


def test_waiting_for_all_and_going_on_short_takes_whoever_can_answer(compiled):
    stage = Stage(
        compiled(Poll(wait="all", on_short="continue")),
        each={0: {"model": {"fail_in": "params"}}},
    )
    asked(stage)
    stage.wire.deliver()
    assert stage.wire.outputs("count") == []
    stage.wire.run()
    assert stage.wire.outputs("count") == [2]


# Falling short


def test_it_falls_short_at_its_deadline_and_not_before(compiled):
    stage = Stage(compiled(Poll(deadline="5s")))
    frame = asked(stage)
    stage.wire.deliver()
    stage.wire.advance(5 * SECOND - 1)
    assert stage.wire.failures() == []
    stage.wire.advance(1)
    [failure] = stage.wire.failures()
    assert isinstance(failure.error, QuorumNotMet)
    assert failure.op == "Gather"
    assert failure.source.file.endswith("test_gather.py")
    assert "1 of 3 peers answered on edge 'tell' at its deadline" in str(failure.error)
    assert "at least 3" in str(failure.error)
    assert stage.end_of(frame)[3:] == ("failed", "QuorumNotMet")


def test_it_is_told_how_to_wake_for_the_deadline(compiled):
    stage = Stage(compiled(Poll(deadline="5s")))
    asked(stage)
    assert stage.server.next_wakeup() == 5 * SECOND


def test_without_a_deadline_it_waits_as_long_as_its_frame(compiled):
    stage = Stage(compiled(Poll()))
    frame = asked(stage)
    stage.wire.advance(60 * SECOND)
    assert stage.end_of(frame)[3:] == ("expired", "DeadlineExceeded")
    assert stage.server.live_frames == 0


def test_going_on_short_gives_what_came_until_the_deadline(compiled):
    stage = Stage(compiled(Poll(deadline="5s", on_short="continue")))
    frame = asked(stage)
    stage.wire.deliver(2)
    stage.wire.advance(5 * SECOND)
    assert stage.wire.outputs("count") == [1]
    assert stage.wire.outputs("missing") == [(stage.peers[0], stage.peers[1])]
    assert stage.end_of(frame).how == "done"


def test_it_falls_short_even_when_nothing_waits_for_it(compiled):
    stage = Stage(compiled(Poll(publish=False)), each={0: {"model": {"fail_in": "params"}}})
    frame = stage.run()
    assert stage.end_of(frame).reason == "QuorumNotMet"


def test_it_fires_when_nothing_waits_for_it(compiled):
    stage = Stage(compiled(Poll(publish=False)))
    frame = stage.run()
    assert stage.end_of(frame).how == "done"


def test_nobody_asked_falls_short_at_once(compiled):
    stage = Stage(compiled(Poll()), config={"peers": {"peers": ()}})
    frame = stage.invoke()
    assert stage.end_of(frame).reason == "QuorumNotMet"
    assert "nobody was asked" in str(stage.wire.failures()[0].error)


def test_nobody_asked_goes_on_with_nothing_when_told_so(compiled):
    stage = Stage(compiled(Poll(on_short="continue")), config={"peers": {"peers": ()}})
    frame = stage.invoke()
    assert stage.wire.outputs("count") == [0]
    assert stage.wire.outputs("values") == [[]]
    assert stage.end_of(frame).how == "done"


def test_a_number_above_the_peers_asked_falls_short_at_once(compiled):
    stage = Stage(compiled(Poll(n=4, quorum=4)))
    frame = stage.invoke()
    assert stage.end_of(frame).reason == "QuorumNotMet"
    text = str(stage.wire.failures()[0].error)
    assert "4 answers are wanted and 3 peers were asked on edge 'tell'" in text


# Answers that do not come


def test_a_failed_client_op_is_reported_and_counted_at_once(compiled):
    stage = Stage(compiled(Round()), each={1: {"model": {"fail_in": "fit"}}})
    frame = stage.run()
    assert [failure.op for failure in stage.wire.failures()] == ["Fit", "Gather"]
    assert stage.end_of(frame).reason == "QuorumNotMet"
    assert stage.server.counters["answer_failed"] == 1
    assert stage.server.now_ns == 0, "nobody had to wait for a deadline"


def test_a_failed_client_does_not_matter_when_the_quorum_is_met(compiled):
    stage = Stage(compiled(Round(quorum=0.6)), each={0: {"model": {"fail_in": "fit"}}})
    frame = stage.run()
    assert stage.wire.outputs("summary") == [{"count": 2, "examples": 2}]
    assert stage.end_of(frame).how == "done"


def test_a_failed_fold_counts_as_an_answer_that_did_not_come(compiled):
    stage = Stage(
        compiled(Round(quorum=0.1, on_short="continue")),
        config={"aggregator": {"fail_in": "contribute"}},
    )
    stage.run()
    ends = [end for end in stage.wire.ended(stage.server.peer) if end.region == "update"]
    assert [end.how for end in ends] == ["failed"] * 3


def test_an_undeliverable_question_is_an_answer_that_will_not_come(compiled):
    stage = Stage(compiled(Poll()))
    del stage.wire.nodes[stage.peers[1]]
    frame = stage.run()
    assert stage.end_of(frame).reason == "QuorumNotMet"
    assert stage.server.counters["undeliverable"] == 1


def test_a_blocked_peer_fails_what_it_owes(compiled):
    stage = Stage(compiled(Poll()))
    frame = asked(stage)
    stage.server.block_peer(stage.peers[0])
    stage.wire.poll()
    assert stage.end_of(frame).reason == "QuorumNotMet"
    assert stage.server.counters["blocked"] == 1


def test_a_blocked_peer_is_not_asked(compiled):
    stage = Stage(compiled(Poll(quorum=2)))
    stage.server.block_peer(stage.peers[0])
    frame = stage.run()
    assert stage.clients[0].counters == {}
    assert stage.wire.outputs("missing") == [(stage.peers[0],)]
    assert stage.end_of(frame).how == "done"


def test_a_restarted_peer_fails_what_it_owed(compiled):
    artifact = compiled(Poll())
    stage = Stage(artifact)
    stage.run()
    frame = asked(stage)
    program = bytes.fromhex(artifact.program)[:16]
    hello = build_envelope(program, 1, incarnation=2, message_id=1)
    stage.server.receive_bytes(hello.to_bytes(), stage.peers[0])
    stage.wire.poll()
    assert stage.end_of(frame).reason == "QuorumNotMet"
    assert stage.server.counters["restarted"] == 1


def test_the_first_answer_of_a_restarted_peer_counts(compiled):
    artifact = compiled(Poll(quorum=2))
    stage = Stage(artifact)
    stage.run()
    bus = LocalBus(stage.server, *stage.clients[1:])
    again = install(stage.peers[0], [], artifact, ["Poll.client"], incarnation=2)
    bus.add(again)
    frame = stage.server.invoke(stage.main)
    ends = [e.step for e in bus.run() if isinstance(e.step, FrameEnded)]
    assert {e.how for e in ends if e.frame == frame} == {"done"}
    assert stage.server.counters.get("restarted", 0) == 0


def test_a_peer_that_cannot_be_asked_as_its_line_is_full_is_not_waited_for(compiled):
    options = Options(max_unsent_bytes=1, max_queued=1)
    stage = Stage(compiled(Poll(n=1)), clients=1, options=options)
    stage.server._engine.mains[stage.main].limit = 9
    frames = [stage.server.invoke(stage.main) for _ in range(3)]
    stage.wire.poll()
    assert stage.server.counters["unsent_full"] == 1
    assert stage.end_of(frames[2]).reason == "QuorumNotMet"


# Late answers, and the region that closes


def test_a_late_reply_is_counted_and_dropped_before_any_op_runs(compiled):
    stage = Stage(compiled(Round(quorum=1)))
    asked(stage)
    stage.wire.deliver()
    contributed = stage.server.component("aggregator").methods.count("contribute")
    stage.wire.run()
    assert contributed == 1
    assert stage.server.component("aggregator").methods.count("contribute") == 1
    assert dropped(stage) == ["late", "late"]
    assert stage.server.counters["late"] == 2


def test_of_replies_that_came_together_those_beyond_the_quorum_never_run(compiled):
    stage = Stage(compiled(Round(quorum=1)))
    frame = asked(stage)
    for packet in stage.wire.flying:
        stage.server.receive_bytes(packet.ship.envelope.to_bytes(), packet.source)
    stage.wire.poll()
    assert stage.server.component("aggregator").methods.count("contribute") == 1
    assert stage.end_of(frame).how == "done"
    ends = [end for end in stage.wire.ended(stage.server.peer) if end.region == "update"]
    assert sorted(end.how for end in ends) == ["cancelled", "cancelled", "done"]


def test_a_gather_that_fires_cancels_what_has_not_arrived(compiled):
    stage = Stage(compiled(Handshake(quorum=1)))
    asked(stage)
    for _ in range(3):
        stage.wire.deliver()  # all children are open and ask back
    assert stage.server.live_frames == 4
    stage.wire.deliver()  # the first client is asked
    stage.wire.deliver(2)  # and confirms
    ends = [end for end in stage.wire.ended(stage.server.peer) if end.region == "tell"]
    assert sorted((end.how, end.reason) for end in ends) == [
        ("cancelled", "GatherClosed"),
        ("cancelled", "GatherClosed"),
        ("done", ""),
    ]
    stage.wire.run()
    assert all(node.live_frames == 0 for node in stage.wire.nodes.values())


class Handshake(bb.Module):
    """Each child asks its client back before it counts."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("ask", self.peers.sample(g, 3))
        told = g.net_out("tell", g.sender(got))
        back = g.net_out("confirm", g.sender(told))
        final = g.net_out("confirmed", g.sender(back))
        sure = g.gather(final)
        with g.at(told):
            one = self.model.params(g, after=sure.count)
        g.output("count", g.gather(one, **self.options).count)


def test_children_that_wait_for_their_own_answers_count_when_these_came(compiled):
    stage = Stage(compiled(Handshake()))
    frame = stage.run()
    assert stage.wire.outputs("count") == [3]
    assert stage.end_of(frame).how == "done"
    assert all(node.live_frames == 0 for node in stage.wire.nodes.values())
    assert all(node.counters == {} for node in stage.wire.nodes.values())


def test_with_on_late_run_late_replies_still_run(compiled):
    stage = Stage(compiled(Round(quorum=1, on_late="run")))
    frame = stage.run()
    assert stage.server.component("aggregator").methods.count("contribute") == 3
    assert stage.server.counters == {}
    assert stage.end_of(frame).how == "done"


def test_with_on_late_run_a_frame_that_did_its_work_ends_done_at_its_deadline(compiled):
    stage = Stage(compiled(Round(quorum=1, on_late="run")))
    frame = asked(stage)
    stage.wire.deliver()
    assert stage.server.live_frames == 1
    stage.wire.advance(60 * SECOND)
    assert stage.end_of(frame).how == "done"


def test_a_region_stays_open_until_all_gathers_over_it_have_fired(compiled):
    class Two(Poll):
        def body(self, g: bb.Graph) -> None:
            asked_ = g.net_out("ask", self.peers.sample(g, 3))
            with g.at(asked_):
                mine = self.model.params(g)
            told = g.net_out("tell", g.sender(asked_), mine)
            g.output("first", g.gather(told, quorum=1).count)
            g.output("all", g.gather(told, quorum=3).count)

    stage = Stage(compiled(Two()))
    frame = stage.run()
    assert stage.wire.outputs("first") == [1]
    assert stage.wire.outputs("all") == [3]
    assert stage.end_of(frame).how == "done"


# A second phase


class TwoPhases(bb.Module):
    """Those who answered get a second message, in the frames in which they answered."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def __init__(self, quorum: float = 1.0) -> None:
        super().__init__()
        self.quorum = quorum

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("ask", self.peers.sample(g, 3))
        with g.at(got):
            mine = self.model.params(g)
            kept, _ = self.data.next_batch(g)
        told = g.net_out("tell", g.sender(got), mine)
        done = g.gather(told, quorum=self.quorum)
        with g.at(done.count):
            p = self.model.params(g, after=done.count)
        again = g.net_out("second", done.senders, p)
        with g.at(again):
            self.model.load_params(g, again)
            self.model.forward(g, kept)
        last = g.net_out("last", g.sender(again), kept)
        g.output("count", g.gather(last, quorum=1, wait="all").count)


def test_a_second_phase_reaches_the_frames_that_answered(compiled):
    stage = Stage(compiled(TwoPhases()), config={"model": {"value": 3.0}})
    frame = stage.run()
    assert stage.wire.failures() == []
    assert stage.wire.outputs("count") == [3]
    assert stage.end_of(frame).how == "done"
    for client in stage.clients:
        assert client.component("model").methods == ["params", "load_params", "forward"]
        assert client.component("data").methods == ["next_batch"]
        assert client.counters == {}
        assert client.live_frames == 0


def test_frames_that_are_not_chosen_for_the_second_phase_end_at_their_deadline(compiled):
    stage = Stage(compiled(TwoPhases(quorum=2)))
    frame = stage.run()
    assert stage.wire.outputs("count") == [2]
    assert stage.end_of(frame).how == "done"
    assert [client.live_frames for client in stage.clients] == [0, 0, 1]
    stage.wire.advance(60 * SECOND)
    assert [client.live_frames for client in stage.clients] == [0, 0, 0]


def test_frames_that_answered_are_told_when_no_second_phase_comes(compiled):
    stage = Stage(compiled(TwoPhases()), each={2: {"model": {"fail_in": "params"}}})
    frame = stage.run()
    assert stage.end_of(frame).reason == "QuorumNotMet"
    assert [client.live_frames for client in stage.clients] == [0, 0, 0]
    assert [client.counters.get("answer_failed", 0) for client in stage.clients] == [1, 1, 0]


class Deep(bb.Module):
    """The second phase of the outermost round is owed by frames two levels further in."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("ask", self.peers.sample(g, 2))
        told = g.net_out("tell", g.sender(got))
        inner = g.net_out("inner", g.sender(told))
        back = g.net_out("back", g.sender(inner))
        sure = g.gather(back)
        with g.at(told):
            one = self.model.params(g, after=sure.count)
        done = g.gather(one)
        with g.at(done.count):
            p = self.model.params(g, after=done.count)
        last = g.net_out("last", done.senders, p)
        with g.at(last):
            self.model.load_params(g, last)


def test_what_is_owed_is_kept_through_nested_frames(compiled):
    stage = Stage(compiled(Deep()), clients=2)
    frame = stage.run()
    assert stage.end_of(frame).how == "done"
    assert [client.component("model").methods for client in stage.clients] == [["load_params"]] * 2
    assert all(node.counters == {} for node in stage.wire.nodes.values())


class Sideways(bb.Module):
    """The second phase is sent from a frame of another question."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("ask", self.peers.sample(g, 2))
        done = g.gather(g.net_out("tell", g.sender(got)))
        with g.at(done.count):
            p = self.model.params(g, after=done.count)
        other = g.net_out("other", self.peers.sample(g, 1), p)
        reply = g.net_out("reply", g.sender(other), other)
        last = g.net_out("last", done.senders, reply)
        with g.at(last):
            self.model.load_params(g, last)


def test_a_second_phase_may_be_sent_from_a_frame_of_another_question(compiled):
    stage = Stage(compiled(Sideways()), clients=2)
    frame = stage.run()
    assert stage.wire.failures() == []
    assert stage.end_of(frame).how == "done"
    assert [client.component("model").methods for client in stage.clients] == [["load_params"]] * 2
    assert all(node.counters == {} for node in stage.wire.nodes.values())


class Unopened(bb.Module):
    """The middle answers from the frames of its leaves, if it has any."""

    peer_class = "server"
    middle = bb.slots.PeerSelector(of="middle")
    leaves = bb.slots.PeerSelector(of="leaf")

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("down", self.middle.sample(g, 1))
        with g.at(got):
            under = self.leaves.sample(g, 1)
        answer = g.net_out("up", g.sender(g.net_out("deeper", under)))
        with g.at(answer):
            again = self.leaves.current_view(g, after=answer)
        back = g.net_out("back", g.sender(got), again)
        g.output("count", g.gather(back).count)


def test_an_answer_that_no_frame_is_left_to_send_is_reported(compiled):
    artifact = compiled(Unopened())
    peers = [PeerId.from_seed(b"unopened", n) for n in range(2)]
    server = install(peers[0], [], artifact, ["Unopened"], {"middle": {"peers": peers[1:]}})
    middle = install(peers[1], [], artifact, ["Unopened.middle"], {"leaves": {"peers": ()}})
    wire = Wire(server, middle)
    server.invoke("Unopened")
    wire.run()
    assert [end.reason for end in wire.ended(server.peer)] == ["QuorumNotMet"]
    assert [end.how for end in wire.ended(middle.peer)] == ["done"]


# What is told


def test_each_reply_and_each_round_ends_exactly_once(compiled):
    stage = Stage(compiled(Round()))
    for _ in range(3):
        stage.run()
    ends = [(peer, s.frame) for peer, s in stage.wire.steps if isinstance(s, FrameEnded)]
    assert len(ends) == len(set(ends)) == 3 * (3 + 3 + 1)


def test_outputs_come_from_the_frame_of_the_round(compiled):
    stage = Stage(compiled(Round()))
    frame = stage.run()
    emitted = [s for _, s in stage.wire.steps if isinstance(s, Emitted)]
    assert {step.frame for step in emitted} == {frame}
    assert {step.target for step in emitted} == {"Round"}


# What came and was of no use


def test_answers_on_which_ops_failed_are_told_apart_from_missing_ones(compiled):
    stage = Stage(
        compiled(Round(wait="all", quorum=2)), config={"aggregator": {"fail_in": "contribute"}}
    )
    frame = stage.run()

    error = stage.wire.failures()[-1].error
    assert isinstance(error, QuorumNotMet)
    assert "2 more came, and ops of this Node failed on them: 2 ValueError" in error.found
    assert error.fix == "put right what raised ValueError"
    assert stage.end_of(frame).reason == "QuorumNotMet"


def test_where_too_few_came_at_all_both_are_told(compiled):
    stage = Stage(
        compiled(Round(quorum=2, deadline="5s")),
        config={"aggregator": {"fail_in": "contribute"}},
    )
    asked(stage)
    stage.wire.deliver(2)
    stage.wire.advance(5 * SECOND)

    error = stage.wire.failures()[-1].error
    assert "at its deadline; 1 more came" in error.found
    assert error.fix.startswith("put right what raised ValueError; then lower the quorum")


def test_failures_outlive_a_snapshot(compiled):
    stage = Stage(
        compiled(Round(quorum=2, deadline="5s")), config={"aggregator": {"fail_in": "contribute"}}
    )
    asked(stage)
    stage.wire.deliver(2)
    again = stage.makers[0]()
    again.restore(stage.server.snapshot())
    again.advance(again.now_ns + 5 * SECOND)

    [error] = [step.error for step in again.poll() if isinstance(step, OpFailed)]
    assert "1 more came, and ops of this Node failed on them: 1 ValueError" in error.found
