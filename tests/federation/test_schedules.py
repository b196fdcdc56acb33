"""Whatever the network does, a round fires or fails exactly once and leaves nothing behind."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import bb_dsl as bb
from bb_ir.wire import build_envelope
from bb_runtime import FrameEnded
from bb_testing.programs import Stage

SECOND = 10**9
CLIENTS = 4


class Round(bb.Module):
    """One round of averaging, gathered in one of several ways."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("weights", self.peers.sample(g, CLIENTS), self.model.params(g))
        self.model.load_params(g, got)
        metrics = self.model.fit(g, self.data.batches(g))
        reply = g.net_out("update", g.sender(got), self.model.params(g), metrics)
        done = g.gather(self.aggregator.contribute(g, *reply), deadline="10s", **self.options)
        averaged, summary = self.aggregator.aggregate(g, after=done)
        g.output("w", averaged)
        g.output("summary", summary)


class Handshake(bb.Module):
    """Children of the round ask back before they count."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("ask", self.peers.sample(g, CLIENTS))
        told = g.net_out("tell", g.sender(got))
        back = g.net_out("confirm", g.sender(told))
        sure = g.gather(g.net_out("confirmed", g.sender(back)), deadline="4s")
        with g.at(told):
            one = self.model.params(g, after=sure.count)
        done = g.gather(one, quorum=0.5, deadline="10s")
        p = self.model.params(g, after=done.count)
        again = g.net_out("second", done.senders, p)
        g.output("count", g.gather(g.net_out("last", g.sender(again)), quorum=1).count)


PROGRAMS = {
    "all": Round,
    "quorum": lambda: Round(quorum=0.5),
    "wait": lambda: Round(quorum=0.5, wait="all"),
    "short": lambda: Round(wait="all", on_short="continue"),
    "late": lambda: Round(quorum=2, on_late="run"),
    "handshake": Handshake,
}
EACH = {n: {"data": {"value": float(2**n), "size": 1}} for n in range(CLIENTS)}


def left_over(stage: Stage) -> dict[str, int]:
    """Count what is still held for frames, on all Nodes."""
    left: Counter[str] = Counter()
    for node in stage.wire.nodes.values():
        engine = node._engine
        left["frames"] += len(engine.frames)
        left["outgoing"] += len(engine.post.outgoing)
        left["timers"] += len(engine.timers)
        left["payload"] += engine.payload_held
        for component in node._components.values():
            left["rounds"] += len(getattr(component, "rounds", ()))
        regions = (*engine.mains.values(), *engine.regions.values())
        left["queued"] += sum(len(bound.queue) for bound in regions)
        left["active"] += sum(bound.active for bound in regions)
    return {name: count for name, count in left.items() if count}


def check_ends(stage: Stage) -> None:
    """Every frame ended exactly once."""
    ends = Counter((peer, s.frame) for peer, s in stage.wire.steps if isinstance(s, FrameEnded))
    assert set(ends.values()) <= {1}


actions = st.lists(
    st.tuples(
        st.sampled_from(["deliver"] * 3 + ["copy", "lose", "time", "fail", "invoke"]),
        st.integers(0, 2**16),
    ),
    max_size=40,
)


@pytest.fixture(scope="session")
def artifacts(compiled):
    made = {name: compiled(make()) for name, make in PROGRAMS.items()}
    return lambda name: made[name]


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
)
@pytest.mark.parametrize("name", PROGRAMS)
@given(schedule=actions)
def test_any_schedule_ends_every_frame_once_and_leaves_nothing(artifacts, name, schedule):
    each = {} if name == "handshake" else EACH
    stage = Stage(artifacts(name), clients=CLIENTS, each=each)
    frames = [stage.invoke()]
    for action, number in schedule:
        flying = stage.wire.flying
        if action == "time":
            stage.wire.advance(number % 8 * SECOND)
        elif action == "invoke" and len(frames) < 4:
            frames.append(stage.invoke())
        elif not flying:
            continue
        elif action in ("deliver", "copy"):
            stage.wire.deliver(number % len(flying), keep=action == "copy")
        elif action == "lose":
            stage.wire.lose(number % len(flying))
        elif action == "fail":
            packet = stage.wire.lose(number % len(flying))
            stage.wire.nodes[packet.source].send_failed(packet.ship)
            stage.wire.poll()
    stage.wire.run()
    for _ in range(8):
        stage.wire.advance(60 * SECOND)
        stage.wire.run()
    assert left_over(stage) == {}
    check_ends(stage)
    hows = [stage.end_of(frame).how for frame in frames]
    published = len(stage.wire.outputs("count" if name == "handshake" else "summary"))
    assert published <= hows.count("done")
    assert set(hows) <= {"done", "failed", "expired"}
    if name not in ("handshake", "late"):
        assert published == hows.count("done")


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(order=st.permutations(range(CLIENTS)), copies=st.sets(st.integers(0, CLIENTS - 1)))
def test_the_result_is_the_same_for_any_order_and_duplication(artifacts, order, copies):
    stage = Stage(artifacts("all"), clients=CLIENTS, each=EACH)
    frame = stage.invoke()
    for _ in range(CLIENTS):
        stage.wire.deliver()
    replies = list(stage.wire.flying)
    stage.wire.flying.clear()
    for n in order:
        for _ in range(2 if n in copies else 1):
            data = replies[n].ship.envelope.to_bytes()
            stage.server.receive_bytes(data, replies[n].source)
            stage.wire.poll()
    assert stage.end_of(frame).how == "done"
    assert stage.wire.outputs("w")[0]["w"].tolist() == [3.75] * 3
    assert stage.server.component("aggregator").methods.count("contribute") == CLIENTS
    assert sum(stage.server.counters.values()) == len(copies)


@pytest.mark.parametrize("lost", range(CLIENTS + 1))
def test_the_quorum_alone_decides(compiled, lost):
    stage = Stage(compiled(Round(quorum=0.5)), clients=CLIENTS, each=EACH)
    frame = stage.invoke()
    for _ in range(CLIENTS):
        stage.wire.deliver()
    del stage.wire.flying[:lost]
    stage.wire.run()
    stage.wire.advance(10 * SECOND)
    assert stage.end_of(frame).how == ("done" if CLIENTS - lost >= 2 else "failed")


class Network(RuleBasedStateMachine):
    """A server and clients of which any may lose, double, delay, crash and come back."""

    artifact: Any = None

    @initialize()
    def start(self) -> None:
        self.stage = Stage(self.artifact, clients=CLIENTS, each=EACH)
        self.frames: list[Any] = []
        self.blocked: set[int] = set()
        self.incarnations = [1] * CLIENTS

    @rule()
    @precondition(lambda self: len(self.frames) < 5)
    def invoke(self) -> None:
        self.frames.append(self.stage.invoke())

    @rule(number=st.integers(0, 1000), keep=st.booleans())
    def deliver(self, number: int, keep: bool) -> None:
        if self.stage.wire.flying:
            self.stage.wire.deliver(number % len(self.stage.wire.flying), keep=keep)

    @rule(number=st.integers(0, 1000))
    def lose(self, number: int) -> None:
        if self.stage.wire.flying:
            self.stage.wire.lose(number % len(self.stage.wire.flying))

    @rule(seconds=st.integers(1, 20))
    def wait(self, seconds: int) -> None:
        self.stage.wire.advance(seconds * SECOND)

    @rule(client=st.integers(0, CLIENTS - 1))
    def block(self, client: int) -> None:
        self.stage.server.block_peer(self.stage.peers[client])
        self.stage.wire.poll()

    @rule(client=st.integers(0, CLIENTS - 1))
    def unblock(self, client: int) -> None:
        self.stage.server.authorize(self.stage.peers[client], "client")

    @rule(client=st.integers(0, CLIENTS - 1))
    def hear_of_a_restart(self, client: int) -> None:
        self.incarnations[client] += 1
        hello = build_envelope(
            bytes.fromhex(self.artifact.program)[:16], 1, self.incarnations[client], 1
        )
        self.stage.server.receive_bytes(hello.to_bytes(), self.stage.peers[client])
        self.stage.wire.poll()

    @invariant()
    def what_is_charged_is_held_by_frames(self) -> None:
        for node in self.stage.wire.nodes.values() if hasattr(self, "stage") else ():
            engine = node._engine
            regions = (*engine.mains.values(), *engine.regions.values())
            queued = [frame for bound in regions for frame in bound.queue]
            held = [*engine.frames.values(), *queued]
            assert engine.payload_held == sum(frame.payload for frame in held)

    @invariant()
    def open_replies_are_counted(self) -> None:
        if not hasattr(self, "stage"):
            return
        for frame in self.stage.server._engine.frames.values():
            entries = [e for edge in frame.expected.values() for e in edge.values()]
            assert frame.open_replies == entries.count(0)
            for state in frame.gathers.values():
                assert state.asked is None or 0 <= state.pending <= len(state.asked)

    def teardown(self) -> None:
        if not hasattr(self, "stage"):
            return
        self.stage.wire.run()
        for _ in range(len(self.frames) + 2):
            self.stage.wire.advance(60 * SECOND)
            self.stage.wire.run()
        assert left_over(self.stage) == {}
        check_ends(self.stage)
        for frame in self.frames:
            assert self.stage.end_of(frame).how in ("done", "failed", "expired")


@pytest.mark.parametrize("name", ["quorum", "wait", "late"])
def test_a_network_that_does_anything_leaves_nothing_behind(artifacts, name):
    from hypothesis.stateful import run_state_machine_as_test

    machine = type("Network_", (Network,), {"artifact": artifacts(name)})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=80, stateful_step_count=40, deadline=None)
    )
