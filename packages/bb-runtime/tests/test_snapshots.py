"""What a snapshot holds and refuses, and what becomes of a Node that is given one."""

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bb_dsl as bb
from bb_ir.dump import dump
from bb_ir.dump import load as load_dump
from bb_ir.ids import PeerId
from bb_ir.types import ANY, list_of, peers, scalar, tensor
from bb_roles import State
from bb_runtime import BlockEnded, Node, Options, Refuse, Ship
from bb_runtime._portable import KINDS
from bb_runtime.errors import (
    NodeBroken,
    NodeBusy,
    NotStorable,
    SnapshotDamaged,
    SnapshotError,
    SnapshotForeign,
    SnapshotNewer,
)
from bb_testing.programs import CountingModel, ListSource, Stage, SumAggregator

SECOND = 10**9


class Program(bb.Module):
    """Whatever a test records."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def __init__(self, record: Callable[[Any, bb.Graph], None]) -> None:
        super().__init__()
        self.record = record

    def body(self, g: bb.Graph) -> None:
        self.record(self, g)


class Streams(ListSource):
    """A source whose batches cannot be stored."""

    def batches(self, ctx, *, epochs=1) -> Any:
        return replace(super().batches(ctx, epochs=epochs), recipe=None)


class Later(CountingModel):
    """Defers `fit`."""

    defers = ("fit",)

    def fit(self, ctx, batches) -> Any:
        self._called("fit", ctx)
        total = sum(float(np.sum(x)) for x, _ in batches)

        def commit(value: float) -> dict[str, Any]:
            self.w = self.w + value
            return {"examples": batches.examples, "loss": value}

        return ctx.defer(lambda: total, commit=commit)


@pytest.fixture
def stage(compiled):
    def make(record, *, parts=None, **options) -> Stage:
        return Stage(compiled(Program(record), **(parts or {})), **options)

    return make


def fit(m: Any, g: bb.Graph) -> Any:
    return m.model.fit(g, m.data.batches(g))


def ask(m: Any, g: bb.Graph, name: str, value: Any, **options: Any) -> Any:
    """One exchange with all clients."""
    got = g.net_out(name, m.peers.current_view(g), value)
    return g.gather(g.net_out(f"{name}-back", g.sender(got), got), **options)


def average(m: Any, g: bb.Graph) -> None:
    got = g.net_out("weights", m.peers.current_view(g), m.model.params(g))
    m.model.load_params(g, got)
    metrics = fit(m, g)
    reply = g.net_out("update", g.sender(got), m.model.params(g), metrics)
    done = g.gather(m.aggregator.contribute(g, *reply), deadline="10s")
    averaged, _ = m.aggregator.aggregate(g, after=done)
    g.output("w", averaged)


def again(node: Node, stage: Stage, **options: Any) -> Node:
    """Install the first Node of a stage once more."""
    make = stage.makers[list(stage.wire.nodes).index(node.peer)]
    return make(**options)


ONES = {"data": {"value": 1.0, "size": 1}}


# What goes on


@pytest.mark.parametrize(
    ("type_", "items"),
    [
        (list_of(scalar("int64")), [4, 5, 6]),
        (list_of(scalar("string")), ["a", "b"]),
        (peers("client"), (PeerId.from_seed(1), PeerId.from_seed(2))),
        (tensor("float32", (3, 2)), np.arange(6, dtype=np.float32).reshape(3, 2)),
    ],
    ids=str,
)
def test_a_block_over_items_goes_on_with_the_next_one(stage, type_, items):
    def record(m, g):
        with g.each(g.input("items", type_)) as item:
            g.output("item", item)
            ask(m, g, "wait", g.scalar(1))

    s = stage(record, clients=1)
    s.invoke(items=items)
    for _ in items:
        s.restart()
        s.wire.deliver()
        s.restart()
        s.wire.deliver()
    found = s.wire.outputs("item")
    want = [(one,) for one in items] if type_.kind == "peers" else list(items)
    assert [np.asarray(one).tolist() if type_.kind == "tensor" else one for one in found] == [
        np.asarray(one).tolist() if type_.kind == "tensor" else one for one in want
    ]
    assert s.server.live_frames == 0


def test_what_a_loop_hands_over_and_gathers_collect_is_kept(stage):
    def record(m, g):
        with g.loop(3) as turn:
            done = ask(m, g, "wait", turn, values=True)
        g.output("all", g.gather(done.values, values=True).values)
        g.output("last", g.last(done.count))

    s = stage(record, clients=2)
    s.invoke()
    while s.wire.flying:
        s.restart()
        s.wire.deliver(-1)
    assert s.wire.outputs("all") == [[[1, 1], [2, 2], [3, 3]]]
    assert s.wire.outputs("last") == [2]


def test_steps_that_nobody_polled_are_kept(stage):
    def record(m, g):
        g.output("out", g.input("x", ANY))
        fit(m, g)

    s = stage(
        record, clients=0, config={"model": {"fail_in": "fit"}}, options=Options(max_queued=1)
    )
    s.server.invoke(s.main, {"x": {"a": np.arange(3), "b": [b"z" * 999, (None, True, 1.5)]}})
    s.server.advance(1)  # runs, and reports nothing
    for _ in range(3):
        s.server.invoke(s.main, {"x": 1})
    before = s.server.snapshot()
    s.restart()
    assert s.server.snapshot() == before
    emitted, failed, ended, *more = s.server.poll()
    assert emitted.value["a"].tolist() == [0, 1, 2]
    assert emitted.value["b"] == [b"z" * 999, (None, True, 1.5)]
    assert failed.error.code == "ValueError"
    assert str(failed.error) == "ValueError: fit was told to fail"
    assert failed.source.line > 0
    assert failed.trace.startswith("Traceback")
    assert failed.place.file.endswith("programs.py")
    assert (ended.how, ended.reason) == ("failed", "ValueError")
    assert [step.reason for step in more[:2]] == ["queue_full", "queue_full"]


def test_envelopes_that_nobody_polled_are_kept_and_share_their_payload(stage):
    def record(m, g):
        g.net_out("weights", m.peers.current_view(g), m.model.params(g))

    s = stage(record, clients=3, config={"model": {"size": 100_000}})
    s.server.invoke(s.main, {})
    s.server.advance(1)
    data = s.server.snapshot()
    assert len(data) < 3 * 800_000, "payloads are written once, beside the component's own state"
    s.restart()
    ships = [step for step in s.server.poll() if isinstance(step, Ship)]
    assert [ship.to for ship in ships] == s.peers
    assert {len(ship.envelope.to_bytes()) > 800_000 for ship in ships} == {True}
    for ship in ships:
        assert s.wire.nodes[ship.to].receive_bytes(ship.envelope.to_bytes(), s.server.peer) is None


def test_nothing_of_the_old_node_is_kept_alive(stage):
    def record(m, g):
        p = m.model.params(g)
        g.output("p", p, after=ask(m, g, "wait", g.scalar(1)).count)

    s = stage(record, clients=1, config={"model": {"size": 10_000}})
    s.invoke()
    old = s.server
    (frame,) = old._engine.frames.values()
    held = next(value for value in frame.values if hasattr(value, "image"))
    data = old.snapshot()
    new = again(old, s)
    new.restore(data)
    (frame,) = new._engine.frames.values()
    mine = next(value for value in frame.values if hasattr(value, "image"))
    assert mine == held
    assert not np.shares_memory(mine["w"], held["w"])
    model = new.component("model")
    assert model.w.flags.writeable
    assert not np.shares_memory(model.w, np.frombuffer(data, np.uint8))


def test_a_clock_that_was_never_moved_is_taken_over_and_another_one_is_kept(stage):
    def record(m, g):
        g.output("count", ask(m, g, "wait", g.scalar(1), deadline="10s", on_short="continue").count)
        with g.every("4s"):
            g.output("tick", g.scalar(1))

    s = stage(record, clients=1)
    s.wire.advance(100 * SECOND)
    s.invoke()
    s.server.advance(103 * SECOND)
    data = s.server.snapshot()
    for start, now in ((0, 103), (7, 7), (500, 500)):
        node = again(s.server, s, now_ns=start * SECOND)
        node.restore(data)
        assert node.now_ns == now * SECOND
        assert node.next_wakeup() == (now + 1) * SECOND, "the tick is a second away"
        node.advance((now + 1) * SECOND)
        node.advance((now + 6) * SECOND)
        assert [step.name for step in node.poll() if hasattr(step, "name")] == ["tick", "tick"]
        node.advance((now + 7) * SECOND)
        assert [step.name for step in node.poll() if hasattr(step, "name")] == ["count"]


def test_duplicates_are_known_after_a_restart(stage):
    s = stage(average, config=ONES)
    s.invoke()
    s.wire.deliver(keep=True)
    s.restart()
    s.wire.deliver()
    assert s.clients[0].counters == {"duplicate": 1}


def test_peers_that_were_blocked_stay_blocked(stage):
    s = stage(average, config=ONES)
    s.server.block_peer(s.peers[0])
    s.restart()
    s.invoke()
    assert [packet.ship.to for packet in s.wire.flying] == s.peers[1:]


# Deferred work


def test_a_node_whose_work_was_given_what_cannot_be_written_names_it(stage):
    s = stage(average, parts={"model": Later, "data": Streams}, config=ONES)
    s.invoke()
    s.wire.deliver()
    node = s.clients[0]
    with pytest.raises(NodeBusy, match="given a Batches: Fit of slot 'model'") as caught:
        node.snapshot()
    assert caught.value.where[0].file.endswith("test_snapshots.py")
    with pytest.raises(NodeBusy, match="cannot be restored"):
        node.restore(s.server.snapshot())
    s.wire.run()
    assert s.wire.outputs("w")[0]["w"].tolist() == [1.0] * 3


@pytest.mark.parametrize("restarts", [False, True])
def test_a_paused_node_finishes_its_work_and_begins_nothing(stage, restarts):
    def record(m, g):
        with g.on("go", overlap="parallel"):
            got = g.net_out("wait", m.peers.current_view(g))
            done = g.gather(g.net_out("waited", g.sender(got)))
            p = m.model.params(g, after=done)
            g.output("loss", m.model.fit(g, m.data.batches(g, after=p))["loss"])
            g.output("w", m.model.params(g))

    s = stage(record, parts={"model": Later, "data": Streams}, clients=1, config=ONES)
    s.invoke()
    for _ in range(2):
        s.server.publish("go")
        s.wire.poll()
    s.wire.deliver(0)
    s.wire.deliver(1)  # the answer of the first
    assert [work.op for work in s.wire.works] == ["Fit"]
    s.server.pause()
    s.server.publish("go")
    s.wire.deliver(0)
    s.wire.deliver(0)  # that of the second: its work does not begin
    assert [work.op for work in s.wire.works] == ["Fit"]
    assert s.server.live_frames == 2
    assert not s.server.waiting
    with pytest.raises(NodeBusy):
        s.server.snapshot()
    s.wire.do()
    assert s.wire.outputs("loss") == [1.0]
    assert s.server.live_frames == 1, "the third waits in line"
    assert not s.wire.works
    s.wire.steps.clear()
    s.restart() if restarts else s.server.resume()
    s.wire.run()
    assert s.wire.outputs("loss") == [1.0, 1.0]
    assert [p["w"].tolist() for p in s.wire.outputs("w")] == [[2.0] * 3, [3.0] * 3]
    assert s.server.live_frames == 0


def test_a_paused_node_lets_frames_wait_and_resume_lets_them_go(stage):
    def record(m, g):
        g.output("out", g.input("x", "int64"))

    s = stage(record, clients=0)
    s.server.resume()  # does nothing
    s.server.pause()
    for x in range(3):
        s.invoke(x=x)
    assert s.server.poll() == []
    assert not s.server.waiting
    s.server.resume()
    s.wire.run()
    assert s.wire.outputs("out") == [0, 1, 2]


def test_frames_in_line_of_a_paused_node_pass_their_deadlines(stage):
    def record(m, g):
        g.output("out", g.input("x", "int64"))

    s = stage(record, clients=0)
    s.server.pause()
    s.invoke(x=1)
    s.wire.advance(61 * SECOND)
    assert [end.how for end in s.wire.ended()] == ["expired"]


def test_a_half_received_envelope_keeps_a_node_busy(stage):
    s = stage(average, config=ONES)
    s.invoke()
    data = s.wire.flying[0].ship.envelope.to_bytes()
    length = int.from_bytes(data[8:12], "little")
    node = s.clients[0]
    lease = node.offer(data[:32], data[32 : 32 + length], s.server.peer)
    assert not isinstance(lease, Refuse)
    with pytest.raises(NodeBusy, match="1 envelopes are half received"):
        node.snapshot()
    node.abandon(lease)
    node.abandon(lease)
    assert node.snapshot()


# What cannot be written


def test_a_block_in_the_middle_of_batches_is_named(stage):
    def record(m, g):
        with g.each(m.data.batches(g)):
            ask(m, g, "wait", g.scalar(1))

    s = stage(record, clients=1, parts={"data": Streams})
    assert s.server.snapshot()
    s.invoke()
    with pytest.raises(NotStorable, match="each block that is in turn 1 goes over a Batches") as e:
        s.server.snapshot()
    assert e.value.where[0].file.endswith("test_snapshots.py")
    assert "between rounds" in e.value.fix
    s.wire.run()
    assert s.server.snapshot()


def test_batches_that_are_still_read_are_named_and_others_are_left_out(stage):
    def record(m, g):
        batches = m.data.batches(g)
        for name in ("a", "b"):
            done = ask(m, g, name, g.scalar(1))
            m.model.evaluate(g, batches, after=done)
        ask(m, g, "c", g.scalar(1))

    s = stage(record, clients=1, parts={"data": Streams})
    s.invoke()
    what = "goes on with what Batches of slot 'data' gave, a Batches"
    with pytest.raises(NotStorable, match=what) as caught:
        s.server.snapshot()
    assert caught.value.where[0].file.endswith("test_snapshots.py")
    for at in (0, 0, -1):
        s.wire.deliver(at)
    with pytest.raises(NotStorable, match=what):
        s.server.snapshot()
    s.wire.deliver(-1)
    assert s.server.component("model").methods == ["evaluate"] * 2, "it was read for the last time"
    assert s.server.live_frames == 1
    s.restart()
    s.wire.run()
    assert s.wire.ended()[-1].how == "done"


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (object(), "an? object"),
        (iter([1]), "an iterator"),
        (np.array([object()]), "ndarray of obj"),
    ],
)
def test_an_input_that_means_nothing_elsewhere_is_named(stage, value, what):
    def record(m, g):
        x = g.input("x", ANY)
        done = ask(m, g, "wait", g.scalar(1))
        g.output("out", m.model.forward(g, x, after=done))

    s = stage(record, clients=1)
    s.invoke(x=value)
    with pytest.raises(NotStorable, match=f"its input 'x', .*{what}"):
        s.server.snapshot()


def test_an_output_that_nobody_polled_is_named(stage):
    s = stage(lambda _, g: g.output("out", g.input("x", ANY)), clients=0)
    s.server.invoke(s.main, {"x": object()})
    s.server.advance(1)
    with pytest.raises(NotStorable, match="the output 'out' of Program, which nobody has polled"):
        s.server.snapshot()
    s.server.poll()
    assert s.server.snapshot()


class Saving(CountingModel):
    """Saves and takes what a test says."""

    state: Any = State()
    refuses = False

    def save(self) -> Any:
        if isinstance(self.state, Exception):
            raise self.state
        return self.state

    def load(self, state) -> None:
        if self.refuses:
            raise ValueError("not mine")


@pytest.mark.parametrize(
    ("state", "error", "what"),
    [
        (ValueError("no"), SnapshotError, "cannot save its state: ValueError: no"),
        (State({}, {"x": {1, 2}}), NotStorable, "holds a set"),
        (State({"x": np.array(["a"])}), NotStorable, "holds a ndarray of <U1"),
        (State({}, {"x": open}), NotStorable, "builtin_function_or_method"),
    ],
)
def test_a_component_that_cannot_be_saved_is_named(stage, monkeypatch, state, error, what):
    s = stage(average, parts={"model": Saving})
    monkeypatch.setattr(Saving, "state", state)
    with pytest.raises(error, match="'Program/model'") as caught:
        s.server.snapshot()
    assert "Saving" in str(caught.value)
    assert what in str(caught.value)


def test_a_broken_node_is_neither_written_nor_restored(stage):
    s = stage(average, config={"model": {"interrupt_in": "params"}})
    data = s.server.snapshot()
    with pytest.raises(KeyboardInterrupt):
        s.invoke()
    with pytest.raises(NodeBroken):
        s.server.snapshot()
    with pytest.raises(NodeBroken):
        s.server.restore(data)


# Damaged and foreign


@pytest.fixture
def flying(stage) -> Stage:
    """A federation in the middle of a round."""
    s = stage(average, config=ONES)
    s.invoke()
    for _ in range(4):
        s.wire.deliver()
    return s


def test_whatever_is_damaged_changes_nothing(flying):
    node = flying.server
    data = node.snapshot()
    places = range(40, len(data), 13)
    for place in [*range(40), *places]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        with pytest.raises((SnapshotDamaged, SnapshotNewer)):
            node.restore(bytes(damaged))
    for length in [*range(100), *places]:
        with pytest.raises(SnapshotDamaged):
            node.restore(memoryview(data)[:length])
    with pytest.raises(SnapshotDamaged):
        node.restore(data + b"\0")
    assert node.snapshot() == data
    flying.wire.run()
    assert len(flying.wire.outputs("w")) == 1


@pytest.mark.parametrize("given", ["path.snapshot", 5, None, b"", bytes(1000), dump([1, 2])])
def test_what_is_no_snapshot_is_refused(flying, given):
    data = flying.server.snapshot()
    with pytest.raises(SnapshotDamaged):
        flying.server.restore(given)
    assert flying.server.snapshot() == data


def test_snapshots_of_newer_versions_are_refused(flying):
    data = flying.server.snapshot()
    table = load_dump(data, kinds=KINDS)
    with pytest.raises(SnapshotNewer, match="version 2"):
        flying.server.restore(dump({**table, "format": 2}, kinds=KINDS))
    later = bytearray(data)
    later[4] = 2
    with pytest.raises(SnapshotNewer, match="dump of version 2"):
        flying.server.restore(later)
    assert flying.server.snapshot() == data


class Other(CountingModel):
    """A model of another class."""


def test_a_snapshot_of_another_node_is_refused(compiled, stage, flying):
    data = flying.server.snapshot()
    client = flying.clients[0]

    def other(m, g):
        average(m, g)
        g.output("more", g.scalar(1))

    targets = stage(other).server, client, flying.clients[1]
    for node, why in zip(
        targets, ("another program", "other targets", "other targets"), strict=True
    ):
        before = node.snapshot()
        with pytest.raises(SnapshotForeign, match=why):
            node.restore(data)
        assert node.snapshot() == before
    with pytest.raises(SnapshotForeign, match="another peer"):
        client.restore(flying.clients[1].snapshot())
    with pytest.raises(SnapshotForeign, match="another seed"):
        again(flying.server, flying, seed=1).restore(data)
    with pytest.raises(
        SnapshotForeign, match=r"other components: .*CountingModel in Program/model"
    ):
        stage(average, parts={"model": Other}).server.restore(data)


def test_a_program_that_is_laid_out_in_another_way_is_refused(flying):
    table = load_dump(flying.server.snapshot(), kinds=KINDS)
    with pytest.raises(SnapshotForeign, match="lays the program out in another way"):
        flying.server.restore(dump({**table, "layout": "00"}, kinds=KINDS))


def leaves(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(tree, dict):
        found += [one for key in tree for one in leaves(tree[key], (*path, key))]
    elif isinstance(tree, (list, tuple)):
        found += [one for at, item in enumerate(tree) for one in leaves(item, (*path, at))]
    return found


def changed(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    key, *rest = path
    if isinstance(tree, dict):
        return {**tree, key: changed(tree[key], tuple(rest), value)}
    items = list(tree)
    items[key] = changed(items[key], tuple(rest), value)
    if isinstance(tree, list):
        return items
    return type(tree)(*items) if hasattr(tree, "_fields") else tuple(items)


JUNK = st.one_of(
    st.none(), st.integers(-(2**70), 2**70), st.text(max_size=3), st.binary(max_size=3),
    st.just([]), st.just({}), st.just(()), st.just([[]]), st.floats(),
    st.just(np.arange(3)), st.just(PeerId.from_seed(9)),
)  # fmt: skip


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(number=st.integers(0, 2**20), junk=JUNK)
def test_sound_bytes_that_say_nonsense_are_taken_or_refused_as_a_whole(flying, number, junk):
    data = flying.server.snapshot()
    table = load_dump(data, kinds=KINDS)
    paths = leaves(table)
    node = again(flying.server, flying)
    fresh = node.snapshot()
    try:
        node.restore(dump(changed(table, paths[number % len(paths)], junk), kinds=KINDS))
    except SnapshotError:
        assert node.snapshot() == fresh


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=200), magic=st.booleans())
def test_any_bytes_are_refused(flying, data, magic):
    before = flying.server.snapshot()
    with pytest.raises(SnapshotError):
        flying.server.restore(b"BBD1\1\0\0\0" + data if magic else data)
    assert flying.server.snapshot() == before


def test_components_get_back_what_they_had_when_one_refuses(stage, monkeypatch):
    s = stage(average, config=ONES, parts={"aggregator": Refusing})
    s.run()
    data = s.server.snapshot()
    node = again(s.server, s)
    node.component("model").w = np.full(3, 7.0)
    before = node.snapshot()
    monkeypatch.setattr(Refusing, "refuses", True)
    with pytest.raises(
        SnapshotError, match="aggregator' does not take its state: ValueError: not m"
    ):
        node.restore(data)
    assert node.component("model").w.tolist() == [7.0] * 3
    assert node.snapshot() == before


class Refusing(SumAggregator):
    """Takes back what it had, and nothing else when told so."""

    refuses = False

    def save(self) -> State:
        return State({}, {"mine": id(self)})

    def load(self, state) -> None:
        if self.refuses and state.data["mine"] != id(self):
            raise ValueError("not mine")


# After a crash


def crashed(stage: Stage, data: bytes, **options: Any) -> Node:
    """Put a Node in the place of the first, as after a crash."""
    node = again(stage.server, stage, incarnation=2, **options)
    node.restore(data, clean=False)
    stage.server = stage.wire.nodes[node.peer] = node
    stage.wire.poll()
    return node


def test_frames_end_interrupted_and_components_return(stage):
    s = stage(average, config={**ONES, "model": {"value": 5.0}})
    frame = s.invoke()
    queued = s.invoke()
    for _ in range(4):
        s.wire.deliver()
    data = s.server.snapshot()
    s.server.component("model").w = np.zeros(3)
    s.wire.deliver()
    node = crashed(s, data)
    ended = [e for e in s.wire.ended(node.peer) if e.how != "done"]
    assert [(e.frame, e.how, e.reason) for e in ended] == [
        (queued, "interrupted", "Interrupted"),
        (frame, "interrupted", "Interrupted"),
    ]
    assert node.live_frames == 0
    assert not node.waiting
    assert node.next_wakeup() is None
    assert node.component("model").w.tolist() == [5.0] * 3
    assert node.component("aggregator").rounds == {}
    assert node.component("aggregator").methods == ["abandon"]
    s.wire.run()
    assert set(node.counters) == {"unknown_frame"}, "answers to what it asked before"
    s.wire.steps.clear()
    new = s.run()
    assert new.incarnation == 2
    assert [p["w"].tolist() for p in s.wire.outputs("w")] == [[6.0] * 3]


def test_whoever_waits_for_a_node_that_crashed_hears_of_it(stage):
    s = stage(average, config=ONES)
    frame = s.invoke()
    client = s.clients[0]
    source, ship = s.wire.flying.pop(0)
    assert client.receive_bytes(ship.envelope.to_bytes(), source) is None
    data = client.snapshot()  # its frame is open, and nothing has run
    node = again(client, s, incarnation=2)
    node.restore(data, clean=False)
    s.clients[0] = s.wire.nodes[node.peer] = node
    s.wire.run()
    assert s.end_of(frame).how == "failed"
    assert s.server.counters["answer_failed"] == 1


def test_ticks_and_events_return_after_a_crash_and_rounds_count_theirs_as_failed(stage):
    def record(m, g):
        with g.every("4s", overlap="parallel"):
            g.output("tick", g.scalar(1))
            ask(m, g, "tick", g.scalar(1))
        with g.on("go"):
            g.output("event", g.scalar(1))
        with g.rounds(2, name="stops"):
            ask(m, g, "a", g.scalar(1))
        with g.rounds(3, name="continues", on_fail="continue") as r:
            g.output("round", r)
            ask(m, g, "b", g.scalar(1))

    s = stage(record, clients=1)
    s.invoke()
    s.wire.advance(5 * SECOND)
    s.wire.flying.clear()
    data = s.server.snapshot()
    s.wire.steps.clear()
    node = crashed(s, data, now_ns=50 * SECOND)
    ended = [step for _, step in s.wire.steps if isinstance(step, BlockEnded)]
    assert [(e.region, e.turns, e.failed, e.how) for e in ended] == [("@stops", 1, 1, "failed")]
    assert s.wire.outputs("round") == [2]
    s.wire.run()
    assert s.wire.outputs("round") == [2, 3]
    s.server.publish("go")
    for client in s.clients:
        client.advance(50 * SECOND)
    s.wire.advance(3 * SECOND)
    s.wire.run()
    assert s.wire.outputs("event") == [1]
    assert s.wire.outputs("tick") == [1], "three seconds were left until the next one"
    assert node.live_frames == 0


def test_steps_that_were_polled_before_a_crash_are_not_told_twice(stage):
    s = stage(lambda _, g: g.output("x", g.scalar(1)), clients=0)
    s.server.invoke(s.main, {})
    s.server.advance(1)
    data = s.server.snapshot()
    assert len(s.server.poll()) == 2
    crashed(s, data)
    assert s.wire.steps == []


@pytest.mark.parametrize("incarnation", [1, 2])
def test_a_node_that_crashed_needs_a_larger_incarnation(stage, incarnation):
    s = stage(average)
    data = again(s.server, s, incarnation=2).snapshot()
    node = again(s.server, s, incarnation=incarnation)
    before = node.snapshot()
    with pytest.raises(
        SnapshotError, match=f"the incarnation {incarnation}, and the snapshot 2"
    ) as e:
        node.restore(data, clean=False)
    assert "incarnation=3" in e.value.fix
    assert node.snapshot() == before
    node.restore(data)
    assert node.invoke(s.main).incarnation == 2, "a Node that was stopped goes on as itself"


def test_a_used_node_forgets_what_it_was(stage):
    s = stage(average, config=ONES)
    fresh = s.server.snapshot()
    s.invoke()
    s.wire.deliver()
    s.server.restore(fresh)
    assert s.server.live_frames == 0
    assert s.server.next_wakeup() is None
    assert s.server.snapshot() == fresh


# Everything is thought of


#: Per part of a Node: what its snapshot holds, what install gives it, and what is nothing between
#: two calls of a Node that may be written.
KNOWN = {
    "Engine": {
        "written": "counters frames incarnation now_ns ordinals payload_held steps contexts "
        "_children _live _parked _ready _roots _bootstraps ending handed",
        "given": "accepted artifact components mains options peer pool regions seed_key",
        "parts": "timers gathers post blocks controllers works slots inbox alarms delays metrics "
        "peers pressure addresses grants strangers paces turns order",
        "nothing": "broken ops_run paused _touched _vacant",
    },
    "Admission": {
        "written": "authorized",
        "given": "engine _limits controls",
        "nothing": "leases",
    },
    "Controllers": {"written": "_running _topics", "given": "_engine"},
    "Delays": {"given": "_engine"},
    "Gathers": {"written": "blocked gone", "given": "_engine"},
    "Grants": {"written": "key", "given": "asked"},
    "Metrics": {"written": "numbers histograms flows ended", "given": "kinds"},
    # How many are held back follows from those of each peer.
    "Order": {"written": "held", "given": "_engine open drop"},
    "Outbound": {"written": "unsent_bytes _waiting", "given": "_engine"},
    "Paces": {"written": "recent", "given": "_engine"},
    "Peers": {"written": "records sweep_ns _skewed", "given": "_engine _idle_ns"},
    "Post": {
        "written": "messages outgoing",
        "given": "program codecs answering limits _engine by_reference",
        "parts": "outbound retries unanswered",
    },
    "Pressure": {
        "written": "paused",
        "given": "_engine _options _few _little",
        "nothing": "pending leases",
    },
    "Retries": {"written": "open", "given": "_engine"},
    "Slots": {
        "written": "_line _alone _shared _later",
        "given": "numbers",
        # A Node with a component that is stuck is not written.
        "nothing": "_queues _freed _arrivals stuck",
    },
    "Strangers": {"written": "_account records", "given": "_engine"},
    "Timers": {"written": "heap", "nothing": "_number _limit"},
    # How many there are for one follows from those that there are.
    "Unanswered": {"written": "open _for_one", "given": "_engine"},
    "Works": {
        "written": "open",
        "given": "_engine _inbox _ops _contexts",
        # Work that nobody wants counts as come back.
        "nothing": "_made _begun quarantine",
    },
    # What alarms are set for says itself when they ring.
    "Alarms": {"nothing": "heap _number _limit"},
}


def attributes_of(part):
    slots = (getattr(cls, "__slots__", ()) for cls in type(part).__mro__)
    return {*getattr(part, "__dict__", ()), *chain.from_iterable(slots)}


def test_whoever_adds_state_to_a_node_decides_whether_it_is_written(stage):
    s = stage(average)
    engine = s.server._engine
    post = engine.post
    parts = [engine, s.server._admission, post.outbound, post.retries, post.unanswered]
    parts += [getattr(engine, name.lower()) for name in KNOWN if hasattr(engine, name.lower())]
    assert {type(part).__name__ for part in parts} == set(KNOWN)
    for part in parts:
        name = type(part).__name__
        known = {one for names in KNOWN[name].values() for one in names.split()}
        assert attributes_of(part) - known == set(), f"write it in _snapshot.py, or list it: {name}"


def test_whoever_adds_state_to_a_frame_decides_whether_it_is_written(flying):
    (frame, *_) = flying.server._engine.frames.values()
    written = set(load_dump(flying.server.snapshot(), kinds=KINDS)["engine"]["frames"][0])
    other_names = {"bound": "region", "deadline_ns": "left_ns", "state": "queued"}
    made = {"id", "key", "touched", "children", "open_replies", "works", "unsent"}
    slots = {other_names.get(name, name) for name in type(frame).__slots__} - made
    assert slots == written
