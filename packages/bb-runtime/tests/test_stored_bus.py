"""A whole bus that is stopped between any two events, and what becomes of Nodes restored alone."""

import importlib.util
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bb_dsl as bb
from bb_ir.dump import dump
from bb_ir.dump import load as load_dump
from bb_ir.ids import PeerId
from bb_runtime import LocalBus, Options
from bb_runtime._portable import KINDS
from bb_runtime.errors import (
    NotStorable,
    SnapshotDamaged,
    SnapshotError,
    SnapshotForeign,
    SnapshotNewer,
)
from bb_runtime.snapshots import read_snapshot
from bb_testing.programs import CountingModel, Stage

QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


def load(name: str) -> Any:
    """Import a module of tests that stands beside this one."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


single = load("test_snapshots")


class Averaging(bb.Module):
    """Rounds, two at a time."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def body(self, g: bb.Graph) -> None:
        with g.rounds(3, width=2) as number:
            got = g.net_out("weights", self.peers.current_view(g), self.model.params(g))
            self.model.load_params(g, got)
            metrics = self.model.fit(g, self.data.batches(g))
            g.output("loss", metrics["loss"])
            reply = g.net_out("update", g.sender(got), self.model.params(g), metrics)
            done = g.gather(self.aggregator.contribute(g, *reply), deadline="10s")
            averaged, _ = self.aggregator.aggregate(g, after=done)
            self.model.load_params(g, averaged)
            g.output("number", number)
            g.output("w", averaged)


class Odd(CountingModel):
    """Refuses to load a state that is odd."""

    def load(self, state) -> None:
        if state.tensors["w"][0] == 7.0:
            raise ValueError("seven")
        super().load(state)


@pytest.fixture(scope="session")
def averaging(compiled) -> Any:
    artifact = compiled(Averaging(), model=Odd)
    each = {n: {"data": {"value": float(2**n), "size": 1}} for n in range(3)}

    def make(**options: Any) -> Stage:
        return Stage(artifact, clients=3, each=each, seed=5, **options)

    return make


def bus_of(stage: Stage) -> LocalBus:
    return LocalBus(stage.server, *stage.clients)


def told(events: Any) -> list[str]:
    return [repr((event.peer, event.step)) for event in events]


@pytest.mark.parametrize("options", [None, Options(max_unsent_bytes=1)], ids=["", "bounded"])
def test_a_bus_goes_on_between_any_two_events(averaging, options):
    stage = averaging(options=options)
    stage.server.invoke(stage.main, {})
    bus = bus_of(stage)
    want = told(bus.events())
    after = bus.snapshot()
    assert len(want) > 30
    for stop in range(len(want)):
        stage = averaging(options=options)
        stage.server.invoke(stage.main, {})
        old = bus_of(stage)
        events = old.events()
        before = told(next(events) for _ in range(stop))
        data = old.snapshot()
        assert old.snapshot() == data
        new = bus_of(averaging(options=options))
        new.restore(data)
        assert new.snapshot() == data
        assert before + told(new.events()) == want
        assert new.snapshot() == after


def test_envelopes_that_are_to_come_later_are_kept(compiled):
    def record(m, g):
        with g.on("go", overlap="parallel"):
            got = g.net_out("push", m.peers.current_view(g), m.model.params(g))
            m.model.load_params(g, g.sleep("1s", got))

    artifact = compiled(single.Program(record))

    def start() -> LocalBus:
        stage = Stage(artifact, clients=1, config={"model": {"size": 10_000}})
        stage.clients[0]._engine.options = Options(max_inbound_bytes=90_000)
        return LocalBus(stage.server, *stage.clients)

    buses = start(), start()
    for bus in buses:
        bus.nodes[0].invoke("Program")
        bus.run(time=False)
        for _ in range(4):
            bus.nodes[0].publish("go")
        bus.run(time=False)
        assert sum(map(len, bus._kept.values())) == 3
    never, stopped = buses
    new = start()
    new.restore(stopped.snapshot())
    assert told(new.run()) == told(never.run())
    assert new.snapshot() == never.snapshot()
    assert new.nodes[1].component("model").methods == ["load_params"] * 4


def test_a_run_that_was_not_gone_through_to_its_end_goes_on(averaging):
    stage = averaging()
    stage.server.invoke(stage.main, {})
    want = told(bus_of(stage).run())
    stage = averaging()
    stage.server.invoke(stage.main, {})
    bus = bus_of(stage)
    first = told(event for event, _ in zip(bus.events(), range(7), strict=False))
    assert len(first) == 7
    # What was asked for beyond the seventh event was given to nobody.
    rest = told(bus.run())
    assert first == want[:7]
    assert rest[-5:] == want[-5:]
    assert len(first) + len(rest) in (len(want), len(want) - 1)


def test_a_note_is_kept_with_it(averaging):
    bus = bus_of(averaging())
    note = {"round": 7, "at": [1.5, None, "x"], "params": np.arange(3)}
    found = bus_of(averaging()).restore(bus.snapshot(note))
    assert found["params"].tolist() == [0, 1, 2]
    assert {**found, "params": 0} == {**note, "params": 0}
    assert bus.restore(bus.snapshot()) is None
    with pytest.raises(NotStorable, match="the note is or holds a object"):
        bus.snapshot([object()])


# All or nothing


@pytest.fixture
def stopped(averaging) -> Any:
    stage = averaging()
    stage.server.invoke(stage.main, {})
    bus = bus_of(stage)
    for _ in zip(bus.events(), range(9), strict=False):
        pass
    return bus


def test_nodes_that_are_missing_or_too_many_are_named(averaging, stopped):
    data = stopped.snapshot()
    stage = averaging()
    fewer = LocalBus(stage.server, *stage.clients[:2])
    before = fewer.snapshot()
    with pytest.raises(SnapshotForeign, match=f"it lacks {stage.clients[2].peer}"):
        fewer.restore(data)
    assert fewer.snapshot() == before
    with pytest.raises(SnapshotForeign, match=f"it has {stage.clients[2].peer} besides"):
        bus_of(stage).restore(before)


def test_snapshots_of_nodes_and_of_buses_are_told_apart(averaging, stopped):
    stage = averaging()
    with pytest.raises(SnapshotForeign, match="of a whole bus") as caught:
        stage.server.restore(stopped.snapshot())
    assert "load_federation" in caught.value.fix
    with pytest.raises(SnapshotForeign, match="of a whole Node"):
        bus_of(stage).restore(stage.server.snapshot())


def test_another_program_is_refused_and_the_node_is_named(averaging, stopped, compiled):
    other = compiled(single.Program(single.average))
    stage = Stage(other, clients=3)
    bus = bus_of(stage)
    before = bus.snapshot()
    with pytest.raises(SnapshotForeign, match=r"Node .* of Program.*: .*of another program"):
        bus.restore(stopped.snapshot())
    assert bus.snapshot() == before


def test_all_nodes_are_as_they_were_when_one_component_refuses(averaging):
    stage = averaging()
    stage.clients[2].component("model").w[:] = 7.0
    data = bus_of(stage).snapshot()
    bus = bus_of(averaging())
    bus.nodes[0].component("model").w[:] = 3.0
    before = bus.snapshot()
    with pytest.raises(SnapshotError, match=r"Node .* does not take its state: ValueError: seven"):
        bus.restore(data)
    assert bus.snapshot() == before


def test_whatever_is_damaged_changes_nothing(averaging, stopped):
    data = stopped.snapshot()
    bus = bus_of(averaging())
    before = bus.snapshot()
    for place in [*range(24), *range(24, len(data), 97)]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        with pytest.raises((SnapshotDamaged, SnapshotNewer)):
            bus.restore(bytes(damaged))
        with pytest.raises((SnapshotDamaged, SnapshotNewer)):
            read_snapshot(bytes(damaged))
    for length in [*range(24), *range(24, len(data), 997)]:
        with pytest.raises(SnapshotDamaged):
            bus.restore(memoryview(data)[:length])
    table = load_dump(data, kinds=KINDS)
    with pytest.raises(SnapshotNewer, match="version 2"):
        bus.restore(dump({**table, "bus": 2}, kinds=KINDS))
    assert bus.snapshot() == before


@settings(max_examples=300, deadline=None, suppress_health_check=QUIET)
@given(number=st.integers(0, 2**20), junk=single.JUNK)
def test_sound_bytes_that_say_nonsense_are_taken_or_refused_as_a_whole(
    averaging, stopped, number, junk
):
    table = load_dump(stopped.snapshot(), kinds=KINDS)
    paths = single.leaves(table)
    bus = bus_of(averaging())
    before = bus.snapshot()
    bad = dump(single.changed(table, paths[number % len(paths)], junk), kinds=KINDS)
    try:
        bus.restore(bad)
    except SnapshotError:
        assert bus.snapshot() == before
    with suppress(SnapshotError):
        read_snapshot(bad)


def test_what_a_node_that_left_has_sent_cannot_be_written(averaging):
    stage = averaging()
    stage.server.invoke(stage.main, {})
    bus = bus_of(stage)
    events = bus.events()
    next(events)
    if all(node.peer != stage.server.peer for node, _ in bus._stack):
        pytest.fail("envelopes of the server are on their way")
    bus.remove(stage.server.peer)
    with pytest.raises(NotStorable, match="which has left the bus"):
        bus.snapshot()


# What is in it


def test_a_snapshot_tells_what_is_in_it(averaging, stopped):
    data = stopped.snapshot()
    found = read_snapshot(data)
    assert (found.kind, found.version, found.size) == ("bus", 1, len(data))
    assert [node.peer for node in found.nodes] == [node.peer for node in stopped.nodes]
    server, client, *_ = found.nodes
    assert server.targets == ("Averaging#" + server.targets[0].partition("#")[2],)
    assert sum(server.frames.values()) == 2
    assert all(name.startswith("Averaging/@") for name in server.frames)
    assert found.flying > 0
    assert found.flying_size > 100 * found.flying
    (model,) = [one for one in client.components if "Odd" in one.component]
    assert (model.tensors, model.size) == (1, 24)
    alone = read_snapshot(averaging().server.snapshot())
    assert (alone.kind, len(alone.nodes), alone.flying) == ("node", 1, 0)
    assert alone.nodes[0].frames == {}


# A Node that comes back twice, or too late


def test_a_second_clean_restore_is_taken_for_a_repetition(averaging):
    """Its envelopes bear numbers that the others have seen: all of them are dropped."""
    stage = averaging()
    data = stage.server.snapshot()
    stage.run()
    assert len(stage.wire.outputs("w")) == 3
    stage.wire.steps.clear()
    node = stage.makers[0]()
    node.restore(data)
    stage.server = stage.wire.nodes[node.peer] = node
    stage.run()
    assert stage.wire.outputs("w") == []
    assert all(client.counters["duplicate"] == 2 for client in stage.clients)
    stage.wire.advance(20 * 10**9)
    assert {end.how for end in stage.wire.ended(node.peer)} == {"failed", "done"}


def test_a_clean_restore_behind_a_new_start_is_stale(averaging):
    """The others have heard a larger incarnation, and answer that this one is over."""
    stage = averaging()
    data = stage.server.snapshot()
    crashed = stage.makers[0](incarnation=2)
    crashed.restore(data, clean=False)
    stage.server = stage.wire.nodes[crashed.peer] = crashed
    stage.run()
    assert len(stage.wire.outputs("w")) == 3
    stage.wire.steps.clear()
    late = stage.makers[0]()
    late.restore(data)
    stage.server = stage.wire.nodes[late.peer] = late
    stage.run()
    assert stage.wire.outputs("w") == []
    assert all(client.counters["stale"] > 0 for client in stage.clients)
    assert {end.how for end in stage.wire.ended(late.peer)} >= {"failed"}


def test_peers_are_no_part_of_a_note(averaging):
    bus = bus_of(averaging())
    assert bus.restore(bus.snapshot(PeerId.from_seed(1))) == PeerId.from_seed(1)
