"""The life of frames: in line, on time, ended once, nothing left behind."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bb_dsl as bb
import bb_roles
from bb_ir.types import tensor
from bb_ir.wire import Hop, build_envelope
from bb_runtime import Dropped, Emitted, FrameEnded, Options
from bb_runtime._failures import place_of
from bb_runtime.errors import NodeBroken, OpError
from bb_testing.programs import CountingModel, Stage

SECOND = 10**9


class Ask(bb.Module):
    """Asks clients and waits for all; the deadline of a round is that of its frame."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    aggregator = bb.slots.Aggregator()
    data = bb.slots.DataSource()

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("weights", self.peers.sample(g, 3), self.model.params(g))
        self.model.load_params(g, got)
        metrics = self.model.fit(g, self.data.batches(g))
        reply = g.net_out("update", g.sender(got), self.model.params(g), metrics)
        done = g.gather(self.aggregator.contribute(g, *reply))
        averaged, _ = self.aggregator.aggregate(g, after=done)
        g.output("w", averaged)


class Local(bb.Module):
    """Two pieces of work without messages."""

    peer_class = "server"
    model = bb.slots.Model()
    aggregator = bb.slots.Aggregator()
    data = bb.slots.DataSource()

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", tensor("float64", (None,)))
        y = self.model.forward(g, x)
        g.output("y", y)
        metrics = self.model.fit(g, self.data.batches(g))
        self.aggregator.contribute(g, self.model.params(g), metrics)


def is_clean(stage: Stage) -> bool:
    """Nothing is left of any frame."""
    return all(
        not engine.frames
        and not engine.post.outgoing
        and len(engine.timers) == 0
        and engine.payload_held == 0
        and not engine.busy
        for engine in (node._engine for node in stage.wire.nodes.values())
    )


# In line


def test_one_root_frame_of_a_region_runs_at_a_time(compiled):
    stage = Stage(compiled(Ask()))
    stage.invoke()
    stage.invoke()
    assert stage.server.live_frames == 1
    assert len(stage.wire.flying) == 3


def test_frames_that_wait_start_in_the_order_in_which_they_came(compiled):
    stage = Stage(compiled(Ask()))
    frames = [stage.invoke() for _ in range(3)]
    stage.wire.run()
    ends = [end.frame for end in stage.wire.ended(stage.server.peer) if end.region == "main"]
    assert ends == frames
    assert len(stage.wire.outputs("w")) == 3
    assert is_clean(stage)


def test_rounds_that_wait_do_not_mix(compiled):
    stage = Stage(compiled(Ask()), config={"data": {"value": 1.0, "size": 1}})
    for _ in range(3):
        stage.invoke()
    stage.wire.run()
    assert [w["w"][0] for w in stage.wire.outputs("w")] == [1.0, 1.0, 1.0]


def test_a_frame_beyond_the_bound_of_the_line_is_reported_and_ended(compiled):
    stage = Stage(compiled(Ask()), options=Options(max_queued=1))
    stage.invoke()
    stage.invoke()
    third = stage.invoke()
    assert stage.end_of(third)[3:] == ("cancelled", "queue_full")
    assert [s.reason for _, s in stage.wire.steps if isinstance(s, Dropped)] == ["queue_full"]
    assert stage.server.counters["queue_full"] == 1


def test_an_envelope_beyond_the_bound_is_answered_as_failed(compiled):
    stage = Stage(compiled(Nested()), clients=1)
    [client] = stage.clients
    client._engine.options = Options(max_queued=0)
    stage.invoke()
    stage.wire.deliver()  # the client's frame waits for an answer to its own question
    stage.server.block_peer(client.peer)  # which ends the round, but not that frame
    stage.server.authorize(client.peer, "client")
    frame = stage.run()
    assert client.counters["queue_full"] == 1
    assert stage.end_of(frame).reason == "QuorumNotMet"


class Nested(bb.Module):
    """The client's frame waits for an answer of the server before it answers."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("ask", self.peers.sample(g, 1))
        back = g.net_out("tell", g.sender(got))
        again = g.net_out("confirm", g.sender(back))
        with g.at(again):
            p = self.model.params(g)
        final = g.net_out("final", g.sender(again), p)
        sure = g.gather(final)
        with g.at(back):
            one = self.model.params(g, after=sure.count)
        g.output("count", g.gather(one).count)


def test_a_frame_in_line_expires_at_its_own_deadline(compiled):
    artifact = compiled(Nested())
    stage = Stage(artifact, clients=1)
    [client] = stage.clients
    stage.invoke()
    stage.wire.deliver()
    urgent = build_envelope(
        bytes.fromhex(artifact.program)[:16],
        artifact.edges["ask"].id,
        incarnation=1,
        message_id=99,
        remaining_ns=5 * SECOND,
        chain=[Hop(98, 1, stage.server.peer.raw)],
    )
    client.receive_bytes(urgent.to_bytes(), stage.server.peer)
    client.advance(5 * SECOND)
    stage.wire.poll()
    assert [end.how for end in stage.wire.ended(client.peer)] == ["expired"]
    assert client.live_frames == 1
    assert stage.wire.flying[-1].ship.to == stage.server.peer, "it is told that no answer comes"


def test_a_frame_whose_deadline_passes_in_line_never_runs(compiled):
    stage = Stage(compiled(Ask()))
    frames = [stage.invoke(), stage.invoke()]
    stage.server.advance(60 * SECOND)
    stage.wire.poll()
    assert [stage.end_of(frame).how for frame in frames] == ["expired", "expired"]
    assert stage.server.component("model").methods == ["params"]


def test_very_many_frames_in_line_are_no_problem(compiled):
    stage = Stage(compiled(Ask()), options=Options(max_queued=5_000))
    for _ in range(3_000):
        stage.server.invoke("Ask")
    stage.server.advance(60 * SECOND)
    stage.server.advance(120 * SECOND)
    stage.wire.flying.clear()
    stage.wire.poll()
    stage.wire.flying.clear()
    assert len(stage.wire.ended(stage.server.peer)) == 3_000
    assert is_clean(stage)


# On time


def test_the_deadline_of_a_frame_ends_it_and_its_children(compiled):
    stage = Stage(compiled(Nested()), clients=1)
    frame = stage.invoke()
    stage.wire.deliver()
    stage.wire.deliver()  # the child of the server is open and asks back
    assert stage.server.live_frames == 2
    stage.server.advance(60 * SECOND)
    stage.wire.poll()
    ends = stage.wire.ended(stage.server.peer)
    assert [(end.region, end.how) for end in ends] == [("tell", "cancelled"), ("main", "expired")]
    assert stage.end_of(frame).reason == "DeadlineExceeded"


def test_a_message_carries_what_is_left_of_the_deadline(compiled):
    stage = Stage(compiled(Nested()), clients=1)
    stage.invoke()
    stage.server.advance(20 * SECOND)
    stage.wire.deliver()
    assert stage.clients[0].next_wakeup() == 60 * SECOND  # relative: its own clock stands at 0


def test_nothing_is_sent_once_the_deadline_has_passed(compiled):
    stage = Stage(compiled(Ask()))
    frame = stage.server.invoke("Ask")
    stage.server._engine.now_ns = 60 * SECOND
    stage.wire.poll()
    assert stage.wire.flying == []
    assert "nothing is left of the frame's deadline" in str(stage.wire.failures()[0].error)
    assert stage.end_of(frame).reason == "OpError"


def test_clocks_do_not_go_back(compiled):
    stage = Stage(compiled(Ask()))
    stage.server.advance(5)
    stage.server.advance(3)
    assert stage.server.now_ns == 5
    assert stage.server.counters["clock_backwards"] == 1


def test_what_came_in_runs_before_a_jump_of_the_clock(compiled):
    stage = Stage(compiled(Local()), clients=0)
    frame = stage.server.invoke("Local", {"x": np.ones(1)})
    stage.server.advance(3600 * SECOND)
    stage.wire.poll()
    assert stage.end_of(frame).how == "done"


def test_what_a_deadline_sets_free_runs_at_that_instant(compiled):
    class Chained(Ask):
        def body(self, g: bb.Graph) -> None:
            cohort = self.peers.sample(g, 3)
            first = g.gather(
                g.net_out("tell_a", g.sender(g.net_out("ask_a", cohort))),
                deadline="10s",
                on_short="continue",
            )
            with g.at(first.count):
                p = self.model.params(g, after=first.count)
            second = g.gather(
                g.net_out("tell_b", g.sender(g.net_out("ask_b", cohort, p))),
                deadline="10s",
                on_short="continue",
            )
            g.output("count", second.count)

    stage = Stage(compiled(Chained()))
    frame = stage.invoke()
    stage.wire.flying.clear()
    stage.server.advance(30 * SECOND)
    stage.wire.poll()
    assert stage.wire.outputs("count") == [0]
    assert stage.end_of(frame).how == "done"


def test_equal_instants_fall_due_in_the_order_of_creation(compiled):
    stage = Stage(compiled(Ask()))
    first = stage.server.invoke("Ask")
    second = stage.server.invoke("Ask")
    stage.server.advance(60 * SECOND)
    stage.wire.poll()
    mains = [end.frame for end in stage.wire.ended(stage.server.peer) if end.region == "main"]
    assert mains == [first, second]


def test_a_frame_that_never_waits_needs_no_waking(compiled):
    stage = Stage(compiled(Local()), clients=0)
    stage.server.invoke("Local", {"x": np.ones(1)})
    assert stage.server.next_wakeup() == stage.server.now_ns, "it is to be polled"
    stage.wire.poll()
    assert stage.server.next_wakeup() is None


# Failures


def test_a_failed_op_fails_its_frame_alone(compiled):
    stage = Stage(compiled(Local(), model=FailsOnce), clients=0)
    first = stage.invoke(x=np.ones(1))
    second = stage.invoke(x=np.ones(1))
    assert stage.end_of(first)[3:] == ("failed", "ValueError")
    assert stage.end_of(second).how == "done"
    assert len(stage.wire.failures()) == 1


class Slips(CountingModel):
    """A model with a mistake two calls deep."""

    def fit(self, ctx: Any, batches: Any) -> Any:
        return self._train(batches)

    def _train(self, batches: Any) -> Any:
        return np.asarray(batches).no_such_method()


def test_a_failure_names_the_component_s_own_line_and_carries_its_traceback(compiled):
    stage = Stage(compiled(Ask(), model=Slips), clients=3)

    stage.invoke()
    stage.wire.run()

    failed = next(step for step in stage.wire.failures() if step.op == "Fit")
    assert failed.place is not None
    assert failed.place.file == __file__
    assert "no_such_method" in Path(__file__).read_text().splitlines()[failed.place.line - 1]
    assert "in _train" in failed.trace
    assert failed.error.__traceback__ is None


def test_the_line_of_a_failure_is_the_author_s_where_a_base_of_ours_calls_it():
    def fold() -> None:
        raise ValueError("mine")

    space: dict[str, Any] = {"fold": fold}
    home = Path(bb_roles.__file__).parent / "collecting" / "_rounds.py"
    exec(compile("def aggregate():\n    fold()\n", str(home), "exec"), space)  # noqa: S102
    with pytest.raises(ValueError, match="mine") as caught:
        space["aggregate"]()

    error = caught.value
    assert error.__traceback__ is not None
    place = place_of(error.with_traceback(error.__traceback__.tb_next))  # without this test's line

    assert place is not None
    assert place.file == __file__


class FailsOnce(CountingModel):
    """Fails at its first forward."""

    def forward(self, ctx, x):
        super().forward(ctx, x)
        if self.methods.count("forward") == 1:
            raise ValueError("once")
        return x


def test_the_error_of_this_project_gives_its_code_as_the_reason(compiled):
    stage = Stage(compiled(Local(), model=RaisesOurs), clients=0)
    frame = stage.invoke(x=np.ones(1))
    assert stage.end_of(frame).reason == "OpError"


class RaisesOurs(CountingModel):
    """Fails with an error of the project."""

    def forward(self, ctx, x):
        raise OpError("no")


def test_a_failed_round_is_abandoned_by_the_components_it_changed(compiled):
    stage = Stage(compiled(Local()), clients=0, config={"aggregator": {"fail_in": "contribute"}})
    frame = stage.invoke(x=np.ones(1))
    assert stage.server.component("aggregator").calls[-1] == ("abandon", frame, None)
    assert stage.server.component("model").methods[-1] == "abandon"
    assert stage.server.component("data").methods[-1] == "abandon"


def test_an_aggregator_is_told_when_a_round_ends_without_aggregate(compiled):
    stage = Stage(compiled(Local()), clients=0)
    stage.invoke(x=np.ones(1))
    aggregator = stage.server.component("aggregator")
    assert aggregator.methods == ["contribute", "abandon"]
    assert aggregator.rounds == {}
    assert "abandon" not in stage.server.component("model").methods


def test_replies_belong_to_the_round_of_the_frame_that_asked(compiled):
    stage = Stage(compiled(Ask()))
    frame = stage.run()
    calls = stage.server.component("aggregator").calls
    assert [call.method for call in calls] == ["contribute"] * 3 + ["aggregate", "abandon"]
    assert {call.round for call in calls} == {frame}
    assert [call.sender for call in calls[:3]] == stage.peers


def test_a_component_that_fails_to_abandon_is_counted(compiled):
    stage = Stage(compiled(Local()), clients=0, config={"aggregator": {"fail_in": "abandon"}})
    frame = stage.invoke(x=np.ones(1))
    assert stage.end_of(frame).how == "done"
    assert stage.server.counters == {"abandon_failed.ValueError": 1}


@pytest.mark.parametrize("call", ["poll", "invoke", "advance"])
def test_what_is_no_exception_passes_through_and_breaks_the_node(compiled, call):
    stage = Stage(compiled(Local()), clients=0, config={"model": {"interrupt_in": "forward"}})
    stage.server.invoke("Local", {"x": np.ones(1)})
    with pytest.raises(KeyboardInterrupt):
        stage.server.poll()
    arguments: dict[str, tuple[Any, ...]] = {"invoke": ("Local", {}), "advance": (1,)}
    with pytest.raises(NodeBroken, match="install a new Node"):
        getattr(stage.server, call)(*arguments.get(call, ()))


# Budgets


def test_a_budget_of_ops_stops_between_pieces_and_goes_on_later(compiled):
    stage = Stage(compiled(Ask()))
    stage.server.invoke("Ask")
    assert stage.server.poll(0) == []
    assert stage.server.busy
    steps = stage.server.poll(1)
    assert [type(step).__name__ for step in steps] == ["Ship"] * 3
    assert not stage.server.busy
    assert stage.server.poll() == []


def test_frames_of_different_causes_take_turns_under_a_budget(compiled):
    stage = Stage(compiled(Ask()))
    for _ in range(2):
        stage.invoke()
        for _ in range(3):
            stage.wire.deliver()
        replies = [(p.ship.envelope.to_bytes(), p.source) for p in stage.wire.flying]
        stage.wire.flying.clear()
        for data, source in replies:
            stage.server.receive_bytes(data, source)
        rest = []
        while steps := stage.server.poll(1):
            rest.append(steps)
        assert len(rest) >= 3
        ends = [step for steps in rest for step in steps if isinstance(step, FrameEnded)]
        assert [end.region for end in ends] == ["update", "update", "update", "main"]


# Nothing left behind


@pytest.mark.parametrize("config", [{}, {"aggregator": {"fail_in": "aggregate"}}])
def test_nothing_is_left_of_a_round(compiled, config):
    stage = Stage(compiled(Ask()), config=config)
    for _ in range(3):
        stage.run()
    assert is_clean(stage)


def test_an_ended_frame_holds_no_values(compiled):
    stage = Stage(compiled(Ask()))
    stage.invoke()
    [frame] = stage.server._engine.frames.values()
    stage.wire.run()
    assert (frame.values, frame.gathers, frame.expected, frame.children) == ([], {}, {}, {})


# What crosses the edge of a frame


def test_published_arrays_cannot_be_written(compiled):
    stage = Stage(compiled(Local()), clients=0)
    stage.invoke(x=np.ones(2))
    [y] = stage.wire.outputs("y")
    with pytest.raises(ValueError, match="read-only"):
        y[0] = 5.0
    with pytest.raises(ValueError, match="WRITEABLE"):
        y.flags.writeable = True


def test_given_arrays_cannot_be_written_by_ops(compiled):
    stage = Stage(compiled(Local(), model=WritesItsInput), clients=0)
    x = np.ones(2)
    frame = stage.invoke(x=x)
    assert stage.end_of(frame).how == "failed"
    assert x.tolist() == [1.0, 1.0]
    assert x.flags.writeable


class WritesItsInput(CountingModel):
    """Breaks the rule that values are immutable."""

    def forward(self, ctx, x):
        x[0] = 9.0
        return x


def test_received_arrays_cannot_be_written(compiled):
    class Sends(bb.Module):
        peer_class = "server"
        peers = bb.slots.PeerSelector(of="client")
        model = bb.slots.Model()
        data = bb.slots.DataSource()

        def body(self, g: bb.Graph) -> None:
            batch, _ = self.data.next_batch(g)
            got = g.net_out("batch", self.peers.sample(g, 1), batch)
            self.model.forward(g, got)

    artifact = compiled(Sends(), model=WritesItsInput)
    stage = Stage(artifact, clients=1, config={"data": {"size": 999}})
    stage.run()
    assert "read-only" in str(stage.wire.failures()[0].error)


def test_outputs_are_published_in_order_with_their_frame(compiled):
    stage = Stage(compiled(Local()), clients=0)
    frames = [stage.invoke(x=np.ones(1)) for _ in range(2)]
    emitted = [s for _, s in stage.wire.steps if isinstance(s, Emitted)]
    assert [(s.name, s.frame) for s in emitted] == [("y", frames[0]), ("y", frames[1])]
