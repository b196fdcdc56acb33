"""Whatever a program's blocks are, and whatever happens to its envelopes and clocks, frames end."""

from collections import Counter
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import bb_dsl as bb
from bb_runtime import BlockEnded, Dropped, Emitted, FrameEnded, OpFailed
from bb_testing.programs import Stage

SECOND = 10**9

#: Statements of a program: a kind, a number, and for blocks what stands inside.
SIMPLE = st.tuples(
    st.sampled_from(["fit", "out", "ask", "ask_maybe", "publish", "sleep", "late"]),
    st.integers(0, 3),
)
NESTED = st.recursive(
    st.lists(SIMPLE, min_size=1, max_size=3),
    lambda inside: st.lists(
        st.one_of(
            SIMPLE,
            st.tuples(st.sampled_from(["loop", "when", "until"]), st.integers(0, 3), inside),
        ),
        min_size=1,
        max_size=3,
    ),
    max_leaves=6,
)
PROGRAMS = st.lists(
    st.one_of(
        SIMPLE,
        st.tuples(
            st.sampled_from(
                ["loop", "when", "rounds", "continue", "skip", "queue", "parallel", "on"]
            ),
            st.integers(0, 3),
            NESTED,
        ),
    ),
    min_size=1,
    max_size=3,
)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(
            ["deliver", "lose", "double", "advance", "invoke", "publish", "jump", "block"]
        ),
        st.integers(0, 30),
    ),
    max_size=25,
)


class Program(bb.Module):
    """What a list of statements says."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def __init__(self, statements: Any) -> None:
        super().__init__()
        self.statements = statements

    def body(self, g: bb.Graph) -> None:
        self.names = 0
        self.topic = "event"
        # Whatever else is recorded, both classes are there and every slot is used.
        self.ask(g, "start", 1)
        self.model.fit(g, self.data.batches(g))
        self.record(g, self.statements, g.scalar(1))

    def record(self, g: bb.Graph, statements: Any, here: Any) -> None:
        for kind, number, *inside in statements:
            self.names += 1
            name = f"n{self.names}"
            if kind == "fit":
                self.model.fit(g, self.data.batches(g))
            elif kind == "out":
                g.output(name, here + number)
            elif kind == "publish":
                g.publish(self.topic, here + number)
            elif kind == "sleep":
                g.output(name, g.sleep(f"{number + 1}s", here))
            elif kind == "late":
                later = g.sleep(f"{number + 1}s", self.model.params(g))
                self.model.load_params(g, later)
            elif kind in ("ask", "ask_maybe"):
                g.output(name, self.ask(g, name, number, maybe=kind == "ask_maybe"))
            elif kind == "when":
                with g.when(g.scalar(number > 1)):
                    self.record(g, inside[0], here)
            else:
                with self.block(g, kind, number, name) as turn:
                    if kind == "until":
                        turn.until(turn >= number)
                    before = self.topic
                    if kind == "on":
                        self.topic = "echo"  # what hears itself never ends
                    self.record(g, inside[0], turn)
                    self.topic = before

    def block(self, g: bb.Graph, kind: str, number: int, name: str) -> Any:
        if kind == "loop":
            return g.loop(g.scalar(number), name=name)
        if kind == "until":
            return g.loop(name=name)
        if kind == "on":
            return g.on("event", "int64", name=name)
        if kind in ("rounds", "continue"):
            fails = "stop" if kind == "rounds" else "continue"
            return g.rounds(g.scalar(number), width=number or 1, on_fail=fails, name=name)
        return g.every("4s", jitter="1s", overlap=kind, name=name)

    def ask(self, g: bb.Graph, name: str, number: int, *, maybe: bool = False) -> Any:
        got = g.net_out(f"{name}-ask", self.peers.current_view(g), g.scalar(number))
        if maybe:
            with g.when(got > 1):
                back = g.net_out(f"{name}-answer", g.sender(got), got)
        else:
            back = g.net_out(f"{name}-answer", g.sender(got), got)
        return g.gather(back, quorum=0.5, deadline="10s", on_short="continue").count


def act(stage: Stage, events: Any) -> None:
    wire = stage.wire
    for event, number in events:
        if event == "invoke":
            stage.invoke()
        elif event == "publish":
            stage.server.publish("event", number)
            wire.poll()
        elif event == "advance":
            wire.advance(number * SECOND // 2)
        elif event == "jump":
            stage.server.advance(max(0, stage.server.now_ns + (number - 5) * 20 * SECOND))
            wire.poll()
        elif event == "block" and number > 25:
            stage.server.block_peer(stage.peers[0])
            wire.poll()
        elif wire.flying and event in ("deliver", "double"):
            wire.deliver(number % len(wire.flying), keep=event == "double")
        elif wire.flying and event == "lose":
            wire.lose(number % len(wire.flying))


def watched(stage: Stage) -> Counter[tuple[Any, ...]]:
    """Count how often each stretch of each frame runs."""
    runs: Counter[tuple[Any, ...]] = Counter()
    for peer, node in stage.wire.nodes.items():
        engine = node._engine

        class Counting(type(engine)):
            __slots__ = ()

            def _run_stretch(self, frame, index, *, peer=peer):
                runs[peer, frame.number, index] += 1
                super()._run_stretch(frame, index)

        engine.__class__ = Counting
    return runs


def told(stage: Stage) -> list[tuple[Any, ...]]:
    """Return all steps as plain data."""
    found: list[tuple[Any, ...]] = []
    for peer, step in stage.wire.steps:
        plain = step[:5] if not isinstance(step, OpFailed) else (step.op, step.frame, step.slot)
        found.append((str(peer), type(step).__name__, *map(repr, plain)))
    return found


def assert_consistent(stage: Stage, runs: Counter[tuple[Any, ...]]) -> None:
    assert not runs or set(runs.values()) == {1}
    for peer, node in stage.wire.nodes.items():
        engine = node._engine
        steps = [step for source, step in stage.wire.steps if source == peer]
        ends = Counter(step.frame for step in steps if isinstance(step, FrameEnded))
        assert set(ends.values()) <= {1}
        started = {(engine.incarnation, number) for source, number, _ in runs if source == peer}
        assert started <= ends.keys()
        failed = Counter(step.frame for step in steps if isinstance(step, OpFailed))
        assert set(failed.values()) <= {1}
        how = {step.frame: step.how for step in steps if isinstance(step, FrameEnded)}
        assert {how[frame] for frame in failed} <= {"failed"}
        assert {step.frame for step in steps if isinstance(step, Emitted)} <= ends.keys()
        counted = Counter(step.reason for step in steps if isinstance(step, Dropped))
        silent = {"ticks_missed", "clock_backwards"}
        told = {k: v for k, v in engine.counters.items() if not k.startswith("events_unheard.")}
        assert counted == {k: v for k, v in told.items() if k not in silent}
        assert node.live_frames == 0
        assert not node.waiting
        assert engine.payload_held == 0
        assert not engine.post.outgoing
        for bound in (*engine.mains.values(), *engine.regions.values()):
            assert bound.active == 0
            assert not bound.queue
        blocks = Counter(step.region for step in steps if isinstance(step, BlockEnded))
        for step in steps:
            if isinstance(step, BlockEnded):
                assert 0 <= step.failed <= step.turns
        for info in (one.program.info for one in engine.regions.values()):
            if info.kind == "rounds":
                mains = [s for s in steps if isinstance(s, FrameEnded) and s.region == "main"]
                assert blocks[info.name] <= len(mains)


def run(artifact: Any, events: Any, config: Any) -> tuple[Stage, Counter[tuple[Any, ...]]]:
    stage = Stage(artifact, clients=2, config=config, seed=3)
    runs = watched(stage)
    stage.invoke()
    act(stage, events)
    for _ in range(4):  # what waits in vain ends at its deadline, and rounds go on after it
        stage.wire.run()
        stage.wire.advance(3600 * 20 * SECOND)
    running, _ = stage.server._engine.controllers.started()
    for block in running.values():
        block.stop()  # the frame of the last tick may sleep, and at its end comes the next
    stage.wire.run()
    stage.wire.advance(3600 * SECOND)
    stage.wire.run()
    return stage, runs


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(statements=PROGRAMS, events=EVENTS, fails=st.sampled_from(["", "", "fit"]))
@example(
    statements=[("rounds", 3, [("ask", 1)]), ("skip", 1, [("ask_maybe", 0)])],
    events=[("lose", 0), ("invoke", 0), ("jump", 9), ("double", 1), ("jump", 0)],
    fails="",
)
@example(
    statements=[("queue", 1, [("loop", 2, [("ask", 2), ("fit", 0)])]), ("on", 0, [("out", 1)])],
    events=[("jump", 9), ("publish", 2), ("lose", 1), ("jump", 30), ("invoke", 0)],
    fails="fit",
)
def test_every_frame_ends_once_whatever_happens(compiled, statements, events, fails):
    if not any(kind == "on" for kind, *_ in statements):
        events = [event for event in events if event[0] != "publish"]
    artifact = compiled(Program(statements))
    config = {"model": {"fail_in": fails}}
    stage, runs = run(artifact, events, config)
    assert_consistent(stage, runs)
    again, _ = run(artifact, events, config)
    assert told(again) == told(stage)
