"""A replay does again what a Node did, step for step, or says where it does something else."""

import dataclasses
from collections.abc import Callable
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bb_dsl as bb
from bb_ir.ids import PeerId
from bb_runtime import Deferred, Dropped, Emitted, FrameEnded, OpFailed, Options, Ship, install
from bb_runtime import journal as journals
from bb_runtime.digests import step_digest, value_digest
from bb_runtime.errors import (
    InvalidInput,
    JournalDamaged,
    NodeBroken,
    NotReplayable,
    ReplayDiverged,
    SnapshotError,
)
from bb_runtime.journal import Kind
from bb_runtime.replay import Replay, replay
from bb_testing import programs
from bb_testing.programs import CountingModel, PartConfig, Stage

SECOND = 10**9
PEERS = [PeerId.from_seed(b"replay", n) for n in range(3)]


class Round(bb.Module):
    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def body(self, g: bb.Graph) -> None:
        got = g.net_out("weights", self.peers.sample(g, 3), self.model.params(g))
        self.model.load_params(g, got)
        metrics = self.model.fit(g, self.data.batches(g))
        reply = g.net_out("update", g.sender(got), self.model.params(g), metrics)
        folded = self.aggregator.contribute(g, *reply)
        done = g.gather(folded, quorum=0.5, wait="all", deadline="10s")
        averaged, _ = self.aggregator.aggregate(g, after=done)
        self.model.load_params(g, averaged)
        g.output("w", averaged)


class Ticks(bb.Module):
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        with g.every("5s", jitter="1s"):
            g.output("tick", self.model.params(g))
        with g.on("news", "float64") as news:
            g.output("heard", news)


class Add(bb.Module):
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", "tensor(float64)[None]")
        y = self.model.forward(g, x)
        g.output("y", y)


@contextmanager
def recording():
    """Let all Nodes of a `Stage` write journals; yields them in the order of install."""
    made: list[list[bytes]] = []
    real: Callable[..., Any] = programs.install

    def install_(*args: Any, **kwargs: Any) -> Any:
        made.append([])
        return real(*args, **kwargs, journal=made[-1].append)

    programs.install = install_  # type: ignore[assignment]
    try:
        yield made
    finally:
        programs.install = real


@pytest.fixture(scope="session")
def round_artifact(compiled):
    return compiled(Round())


def node_of(artifact, log, name, config=None, **options):
    return install(PEERS[0], [], artifact, [name], config, journal=log.append, **options)


def kinds(log):
    return [record.kind.name for record in journals.records_of(log)]


def digests(node, replayed):
    """What a replayed Node is, to be compared with the recorded one."""
    return (
        replayed.node.peer == node.peer,
        replayed.node.now_ns == node.now_ns,
        replayed.node.counters == node.counters,
        replayed.node.live_frames == node.live_frames,
        replayed.node.next_wakeup() == node.next_wakeup(),
    )


def test_every_node_of_a_run_is_replayed_step_for_step(round_artifact):
    with recording() as logs:
        stage = Stage(round_artifact, seed=7, each={0: {"data": {"value": 2.0}}})
    for _ in range(3):
        stage.run()
    seen = [(peer, step) for peer, step in stage.wire.steps]

    for node, log in zip((stage.server, *stage.clients), logs, strict=True):
        steps: list[Any] = []
        done = replay(log, on_step=lambda _, step, into=steps: into.append(step))
        own = [step for step in steps if not isinstance(step, (Ship, Deferred))]
        assert [step_digest(s) for s in own] == [step_digest(s) for p, s in seen if p == node.peer]
        assert digests(node, done) == (True,) * 5
        assert done.steps == len(steps) > 3
        w = done.node.component("model").w.tolist()
        assert w == node.component("model").w.tolist()


#: Little room, so that envelopes wait on both sides, and a peer that nobody talks to.
TIGHT = Options(
    max_inbound_bytes=200,
    max_unsent_bytes=600,
    max_queued=1,
    allowed_peers=frozenset(PeerId.from_seed(b"stage", n) for n in (1, 2)),
)
actions = st.lists(
    st.tuples(
        st.sampled_from(["deliver"] * 4 + ["copy", "lose", "time", "fail", "invoke", "block"]),
        st.integers(0, 2**16),
    ),
    max_size=40,
)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize("options", [Options(), TIGHT], ids=["wide", "tight"])
@given(schedule=actions)
def test_whatever_the_network_did_is_replayed(round_artifact, options, schedule):
    with recording() as logs:
        stage = Stage(round_artifact, clients=3, seed=1, options=options)
    stage.invoke()
    wire = stage.wire
    for action, number in schedule:
        if action == "time":
            wire.advance(number % 8 * SECOND)
        elif action == "invoke":
            stage.invoke()
        elif action == "block":
            stage.server.block_peer(stage.peers[number % 3])
            stage.server.authorize(stage.peers[(number + 1) % 3], "client")
        elif not wire.flying:
            continue
        elif action in ("deliver", "copy"):
            wire.deliver(number % len(wire.flying), keep=action == "copy")
        elif action == "lose":
            wire.lose(number % len(wire.flying))
        else:
            packet = wire.lose(number % len(wire.flying))
            wire.nodes[packet.source].send_failed(packet.ship)
            wire.poll()

    for node, log in zip((stage.server, *stage.clients), logs, strict=True):
        assert digests(node, replay(log)) == (True,) * 5


def test_ticks_events_and_the_clock_are_replayed(compiled):
    log: list[bytes] = []
    node = node_of(compiled(Ticks()), log, "Ticks", seed=3, now_ns=SECOND)
    node.invoke("Ticks")
    node.poll()
    for _ in range(9):
        when = node.next_wakeup()
        node.advance(when)
        node.poll(1)
        node.publish("news", float(when))
        node.poll()
    with pytest.raises(InvalidInput):
        node.publish("news", "no number")

    done = replay(log)

    assert digests(node, done) == (True,) * 5
    assert done.node.now_ns > SECOND
    assert done.steps > 18


def test_budgets_of_polls_are_kept(round_artifact):
    with recording() as logs:
        stage = Stage(round_artifact)
    stage.server.invoke("Round")
    polled = 0
    while stage.server.poll(1) or stage.server.busy:
        polled += 1

    budgets = [journals.read_number(r) for r in journals.records_of(logs[0]) if r.kind == Kind.POLL]

    assert budgets == [1] * polled
    assert polled > 0
    assert replay(logs[0]).steps == 3


def test_polls_that_have_nothing_to_do_are_not_written(compiled):
    log: list[bytes] = []
    node = node_of(compiled(Add()), log, "Add")
    node.invoke("Add", {"x": np.zeros(1)})
    node.poll()
    written = len(log)

    assert [node.poll(), node.poll(7)] == [[], []]

    assert len(log) == written
    assert kinds(log).count("POLL") == 1
    assert replay(log).steps == 2


def test_a_journal_may_take_records_in_parts_and_payloads_without_a_copy(round_artifact):
    class Parts:
        def __init__(self):
            self.records = []
            self.views = 0

        def __call__(self, record):
            raise AssertionError("it takes parts")

        def write_parts(self, parts):
            self.views += any(isinstance(part, memoryview) for part in parts)
            self.records.append(b"".join(parts))

    made = []
    real = programs.install

    def install_(*args, **kwargs):
        made.append(Parts())
        return real(*args, **kwargs, journal=made[-1])

    programs.install = install_
    try:
        stage = Stage(round_artifact, config={"model": {"size": 10_000}})
    finally:
        programs.install = real
    stage.run()

    for sink in made:
        assert sink.views > 0
        assert replay(sink.records).steps > 0


def test_what_a_call_raised_is_raised_again(compiled):
    log: list[bytes] = []
    node = node_of(compiled(Add()), log, "Add")
    for inputs in ({"y": np.zeros(1)}, {"x": "text"}):
        with pytest.raises(InvalidInput):
            node.invoke("Add", inputs)
    with pytest.raises(SnapshotError):
        node.restore(b"nothing")
    node.invoke("Add", {"x": np.arange(2.0)})
    node.poll()

    entries = list(Replay(log))

    raised = [entry.raised for entry in entries]
    assert raised == ["InvalidInput", "InvalidInput", "SnapshotDamaged", "", ""]
    assert [step.value.tolist() for step in entries[-1].steps[:1]] == [[0.0, 1.0]]


class Breaking(CountingModel):
    """Fails, or is interrupted, when told so."""


def test_a_failure_of_a_component_is_replayed_with_its_code(compiled):
    log: list[bytes] = []
    artifact = compiled(Add(), model=Breaking)
    node = node_of(artifact, log, "Add", {"model": {"fail_in": "forward"}})
    node.invoke("Add", {"x": np.zeros(1)})
    node.poll()
    failed: list[Any] = []

    replay(log, on_step=lambda _, step: failed.append(step))

    assert [type(step) for step in failed] == [OpFailed, FrameEnded]
    assert failed[1].reason == "ValueError"


def test_an_interrupt_ends_the_replay_before_it(compiled):
    log: list[bytes] = []
    artifact = compiled(Add(), model=Breaking)
    node = node_of(artifact, log, "Add", {"model": {"interrupt_in": "forward"}})
    node.invoke("Add", {"x": np.zeros(1)})
    with pytest.raises(KeyboardInterrupt):
        node.poll()
    with pytest.raises(NodeBroken):
        node.poll()

    done = replay(log)

    assert done.interrupted
    assert done.node.live_frames == 1


def test_a_journal_that_ends_in_a_call_is_replayed_with_it(compiled):
    log: list[bytes] = []
    node = node_of(compiled(Add()), log, "Add")
    node.invoke("Add", {"x": np.zeros(1)})
    node.poll()
    assert kinds(log)[-2:] == ["POLL", "STEPS"]

    found: list[Any] = []
    done = replay(log[:-1], on_step=lambda _, step: found.append(step))

    assert len(found) == 2
    assert done.steps == 0, "nothing says what the Node reported"


# Deferred work


class Works(CountingModel):
    """Defers or asks a device, as its `size` says."""

    defers = ("forward",)

    def forward(self, ctx, x):
        if self.config.size == 0:
            self.handle = ctx.external(commit=self.commit)
            return self.handle
        return ctx.defer(self.work, x, commit=self.commit)

    @staticmethod
    def work(x):
        if x[0] < 0:
            raise ArithmeticError("negative")
        return {1: x + 1, 2: Opaque(x + 1)}.get(int(x[0]), x)

    def commit(self, value):
        self.w = self.w + 1
        return value.x if isinstance(value, Opaque) else value


@dataclasses.dataclass
class Opaque:
    """A value that no journal can hold."""

    x: Any


def worked(compiled, values, *, size=3):
    log: list[bytes] = []
    node = node_of(compiled(Add(), model=Works), log, "Add", {"model": {"size": size}})
    for value in values:
        node.invoke("Add", {"x": np.full(1, float(value))})
        for step in node.poll():
            if isinstance(step, Deferred):
                step.run()
        node.poll()
    return node, log


def outputs(log):
    found: list[Any] = []
    done = replay(log, on_step=lambda _, step: found.append(step))
    return done, [s.value.tolist() for s in found if isinstance(s, Emitted)]


def test_what_work_came_back_with_is_in_the_journal(compiled, monkeypatch):
    node, log = worked(compiled, [0, 1])
    monkeypatch.setattr(Works, "work", lambda _: pytest.fail("work is not done again"))

    done, emitted = outputs(log)

    assert emitted == [[0.0], [2.0]]
    assert digests(node, done) == (True,) * 5
    assert (
        done.node.component("model").w.tolist() == node.component("model").w.tolist() == [2.0] * 3
    )


def test_work_whose_value_cannot_be_written_is_done_again(compiled):
    node, log = worked(compiled, [2, 0])

    done, emitted = outputs(log)

    assert emitted == [[3.0], [0.0]]
    assert digests(node, done) == (True,) * 5


def test_work_that_failed_fails_again_with_its_code(compiled):
    _, log = worked(compiled, [-1, 0])
    found: list[Any] = []

    replay(log, on_step=lambda _, step: found.append(step))

    failed = [step for step in found if isinstance(step, OpFailed)]
    ends = [step.reason for step in found if isinstance(step, FrameEnded)]
    assert [str(step.error) for step in failed] == ["negative"]
    assert ends == ["ArithmeticError", ""]


def device(compiled, complete):
    log: list[bytes] = []
    node = node_of(compiled(Add(), model=Works), log, "Add", {"model": {"size": 0}})
    node.invoke("Add", {"x": np.zeros(1)})
    node.poll()
    complete(node.component("model").handle)
    node.poll()
    return node, log


def test_what_a_device_gave_comes_from_the_journal(compiled):
    node, log = device(compiled, lambda handle: handle.complete(np.full(2, 4.0)))

    done, emitted = outputs(log)

    assert emitted == [[4.0, 4.0]]
    assert digests(node, done) == (True,) * 5


def test_what_a_device_gave_and_nobody_can_write_is_named(compiled):
    _, log = device(compiled, lambda handle: handle.complete(Opaque(np.zeros(2))))

    with pytest.raises(NotReplayable, match="a device gave a Opaque before record"):
        replay(log)


def test_a_handle_that_was_lost_is_lost_in_the_replay_at_the_same_place(compiled):
    log: list[bytes] = []
    node = node_of(compiled(Add(), model=Works), log, "Add", {"model": {"size": 0}})
    node.invoke("Add", {"x": np.zeros(1)})
    node.poll()
    node.poll()
    del node.component("model").handle
    node.poll()

    entries = [entry for entry in Replay(log) if entry.steps]

    assert len(entries) == 1
    assert isinstance(entries[0].steps[0], OpFailed)
    assert "never answered" in str(entries[0].steps[0].error)


def test_completions_in_an_advance_are_replayed_there(compiled):
    log: list[bytes] = []
    node = node_of(compiled(Add(), model=Works), log, "Add", {"model": {"size": 3}})
    node.invoke("Add", {"x": np.zeros(1)})
    [work] = [step for step in node.poll() if isinstance(step, Deferred)]
    work.run()
    node.advance(SECOND)
    node.poll()

    assert kinds(log)[-4:] == ["CALL", "DONE", "POLL", "STEPS"]
    assert outputs(log)[1] == [[0.0]]


# What a journal lacks, and what goes otherwise


@dataclasses.dataclass(frozen=True)
class SecretConfig(PartConfig):
    token: str = dataclasses.field(default="", metadata={"secret": True})
    shift: object = None


class Guarded(CountingModel):
    """Has a secret, and adds to what it is given."""

    Config = SecretConfig

    def forward(self, ctx, x):
        return x + len(self.config.token)


@pytest.mark.parametrize("as_instance", [False, True])
def test_secrets_are_not_written_and_can_be_given(compiled, as_instance):
    log: list[bytes] = []
    config = {"token": "hunter22", "value": 2.0}
    given_ = SecretConfig(**config) if as_instance else config
    node = node_of(compiled(Add(), model=Guarded), log, "Add", {"model": given_})
    node.invoke("Add", {"x": np.zeros(1)})
    node.poll()

    assert b"hunter22" not in b"".join(log)
    with pytest.raises(NotReplayable, match="field 'token' of slot 'model' is a secret"):
        replay(log)
    done = replay(log, config={"model": {"token": "hunter22"}})
    assert done.node.component("model").config.value == 2.0


def test_options_and_sets_of_a_configuration_come_back(compiled):
    log: list[bytes] = []
    options = Options(allowed_peers=frozenset(PEERS), max_queued=7)
    node_of(compiled(Add(), model=Guarded), log, "Add", {"model": {"shift": {2, 1}}},
            options=options)  # fmt: skip
    [facts] = [journals.read_table(r) for r in journals.records_of(log) if r.kind == Kind.INSTALL]

    assert facts["config"]["model"]["shift"] == [1, 2]
    assert replay(log).node._engine.options == options


def test_configuration_that_cannot_be_written_is_named(compiled):
    log: list[bytes] = []
    node_of(compiled(Add(), model=Guarded), log, "Add", {"model": {"shift": len}})

    with pytest.raises(NotReplayable, match=r"field 'shift' of slot 'model' holds a builtin"):
        replay(log)


class Forgetful(CountingModel):
    """Gives something else in every process, as a clock would."""

    offset = 0.0

    def forward(self, ctx, x):
        return x + self.offset


def test_another_value_is_named_with_op_frame_and_line(compiled, monkeypatch):
    log: list[bytes] = []
    node = node_of(compiled(Add(), model=Forgetful), log, "Add")
    node.invoke("Add", {"x": np.zeros(1)})
    node.poll()
    monkeypatch.setattr(Forgetful, "offset", 1.0)

    with pytest.raises(ReplayDiverged, match="step 1 of record 4 is Emitted y of Add") as raised:
        replay(log)

    error = raised.value
    assert (error.record, error.op, error.frame.number) == (4, "Output", 2)
    assert error.expected == "Emitted of other content"
    assert error.where[0].file.endswith("test_replay.py")


def test_a_failure_instead_of_a_value_is_named(compiled, monkeypatch):
    log: list[bytes] = []
    node = node_of(compiled(Add(), model=Forgetful), log, "Add")
    node.invoke("Add", {"x": np.zeros(1)})
    node.poll()
    monkeypatch.setattr(Forgetful, "offset", "text")

    with pytest.raises(ReplayDiverged) as raised:
        replay(log)

    assert "OpFailed model.Forward" in raised.value.found
    assert (raised.value.op, raised.value.expected) == ("model.Forward", "Emitted")


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_fewer_and_more_steps_are_named(compiled, steps):
    log: list[bytes] = []
    node = node_of(compiled(Add()), log, "Add")
    node.invoke("Add", {"x": np.zeros(1)})
    node.poll()
    node.poll()
    records = list(journals.records_of(log))
    at = kinds(log).index("STEPS")
    told = bytes(records[at].body)
    forged = (told + told)[: steps * journals.STEP_BYTES]
    records[at] = records[at]._replace(body=memoryview(forged))

    with pytest.raises(ReplayDiverged, match=f"step {min(steps, 2) + 1} of record 4"):
        replay(records)


def test_an_envelope_that_is_answered_otherwise_is_named(round_artifact):
    with recording() as logs:
        stage = Stage(round_artifact)
    stage.run()
    records = list(journals.records_of(logs[0]))
    at = kinds(logs[0]).index("OFFER")
    offer = journals.read_offer(records[at])
    body = journals.write_offer(offer.prelude, offer.header, offer.source, "duplicate")
    records[at] = records[at]._replace(body=memoryview(body))

    with pytest.raises(ReplayDiverged, match=f"envelope of record {at + 1} is taken"):
        replay(records)


def changed(log, kind, change):
    records = list(journals.records_of(log))
    at = next(n for n, record in enumerate(records) if record.kind == kind)
    return [*records[:at], *change(records[at]), *records[at + 1 :]]


@pytest.mark.parametrize(
    ("kind", "change", "found"),
    [
        (Kind.INSTALL, lambda _: [], "does not say how its Node was made"),
        (Kind.ARTIFACT, lambda r: [r._replace(body=r.body[1:])], "record 2 .* artifact"),
        (Kind.OFFER, lambda _: [], "a lease that was not given out"),
        (Kind.RECEIVE, lambda r: [r, r], "a lease that was not given out"),
        (Kind.RECEIVE, lambda r: [r._replace(body=r.body[:-1])], "another length"),
        (Kind.CALL, lambda r: [r._replace(kind=Kind.STEPS)], "damaged"),
        (Kind.POLL, lambda r: [r._replace(kind=Kind.DONE)], "damaged"),
    ],
)
def test_records_that_make_no_sense_are_typed_errors(round_artifact, kind, change, found):
    with recording() as logs:
        stage = Stage(round_artifact, config={"model": {"size": 2000}})
    stage.run()

    with pytest.raises(JournalDamaged, match=found):
        replay(changed(logs[0], kind, change))


@pytest.mark.parametrize("name", ["_engine", "peer", "nothing", "__init__"])
def test_only_methods_of_nodes_are_called(compiled, name):
    log: list[bytes] = []
    node = node_of(compiled(Add()), log, "Add")
    node.invoke("Add", {"x": np.zeros(1)})
    body = memoryview(journals.write_value((name, (), {})))

    with pytest.raises(JournalDamaged, match="which no Node of this version has"):
        replay(changed(log, Kind.CALL, lambda r: [r._replace(body=body)]))


def test_an_empty_journal_is_damaged():
    with pytest.raises(JournalDamaged, match="how its Node was made"):
        replay([])


# Looking into it


def test_until_ends_after_a_record(round_artifact):
    with recording() as logs:
        stage = Stage(round_artifact)
    stage.run()

    found = list(Replay(logs[0], until=12))

    assert found[-1].record <= 12
    assert len(found) < len(list(Replay(logs[0])))


@pytest.mark.parametrize("op", ["Fit", "model.Fit"])
def test_a_replay_stops_before_an_op_and_shows_its_frame(round_artifact, op):
    with recording() as logs:
        stage = Stage(round_artifact)
    stage.run()

    stopping = Replay(logs[1], before=op)
    entries = list(stopping)

    stopped = stopping.stopped
    assert (stopped.op, stopped.target, stopped.frame.number) == ("model.Fit", "Round.client", 2)
    assert stopped.source.file.endswith("test_replay.py")
    assert [value.examples for value in stopped.inputs.values()] == [3]
    assert stopped.record == entries[-1].record + 1
    assert stopping.node.component("model").methods == ["load_params"]


def test_a_frame_s_values_are_shown_by_name(round_artifact):
    with recording() as logs:
        stage = Stage(round_artifact)
    stage.run()

    stopping = Replay(logs[0], before="Aggregate")
    list(stopping)

    assert stopping.stopped.op == "aggregator.Aggregate"
    assert stopping.stopped.region == "main"
    assert all(isinstance(name, str) for name in stopping.stopped.values)


def test_an_op_that_is_nowhere_is_an_error(round_artifact):
    with recording() as logs:
        Stage(round_artifact)

    with pytest.raises(InvalidInput, match="no op 'Fitt' runs on this Node") as raised:
        Replay(logs[1], before="Fitt")

    assert raised.value.fix == "did you mean 'Fit'?"


# The journal itself


def test_a_node_without_a_journal_is_an_ordinary_one(compiled):
    artifact = compiled(Add())

    assert type(install(PEERS[0], [], artifact, ["Add"])) is programs.Node
    assert type(node_of(artifact, [], "Add")) is not programs.Node


def test_a_node_outlives_its_journal(compiled):
    taken: list[bytes] = []

    def sink(record):
        if len(taken) == 4:
            raise OSError(28, "no space left on device")
        taken.append(record)

    node = install(PEERS[0], [], compiled(Add()), ["Add"], journal=sink)
    steps: list[Any] = []
    for _ in range(2):
        node.invoke("Add", {"x": np.zeros(1)})
        steps += node.poll()

    assert [s for s in steps if isinstance(s, Dropped)] == [
        Dropped("journal_stopped.OSError", None, "")
    ]
    assert node.counters == {"journal_stopped.OSError": 1}
    assert len([s for s in steps if isinstance(s, Emitted)]) == 2
    assert len(taken) == 4
    assert replay(taken).node.live_frames == 0


def test_every_call_is_written_or_known_to_change_nothing():
    from bb_runtime import _recording

    public = {
        name
        for name in dir(programs.Node)
        if callable(getattr(programs.Node, name)) and not name.startswith("_")
    }
    own = {name for name in vars(_recording.RecordedNode) if not name.startswith("_")}

    assert public >= _recording._NOT_WRITTEN
    assert own | _recording._NOT_WRITTEN >= public


def test_two_seeds_give_two_journals_and_equal_runs_equal_ones(compiled):
    def recorded(seed):
        log: list[bytes] = []
        node = node_of(compiled(Ticks()), log, "Ticks", seed=seed)
        node.invoke("Ticks")
        node.poll()
        node.advance(20 * SECOND)
        node.poll()
        return b"".join(log)

    assert recorded(1) == recorded(1) != recorded(2)


# Beginning anew


def wanting(log, every):
    """A journal that asks for a snapshot now and then."""

    def sink(record):
        log.append(record)
        return len(log) % every == 0

    return sink


def test_a_journal_that_goes_on_from_a_snapshot_is_replayed_from_there_alone(round_artifact):
    log: list[bytes] = []
    real = programs.install
    with recording():
        made = iter([wanting(log, 7)])
        programs.install = lambda *a, **k: real(  # type: ignore[assignment]
            *a, **k, journal=next(made, None)
        )
        stage = Stage(round_artifact, seed=2, each={1: {"data": {"value": 3.0}}})
    for _ in range(4):
        stage.run()
    stage.wire.advance(SECOND)
    starts = [at for at, kind in enumerate(kinds(log)) if kind == "INSTALL"]
    assert len(starts) > 3
    records = list(journals.records_of(log))

    whole = replay(log)

    for start in starts:
        part = replay(records[start:])
        assert digests(stage.server, part) == (True,) * 5
        assert part.node.component("model").w.tolist() == whole.node.component("model").w.tolist()


def test_work_in_progress_only_delays_a_snapshot(compiled):
    log: list[bytes] = []
    node = install(
        PEERS[0], [], compiled(Add(), model=Works), ["Add"], {"model": {"size": 3}},
        journal=wanting(log, 4),
    )  # fmt: skip
    node.invoke("Add", {"x": np.zeros(1)})
    [work] = [step for step in node.poll() if isinstance(step, Deferred)]
    for _ in range(5):
        node.poll()
    work.run()
    for _ in range(150):
        node.poll()
    node.invoke("Add", {"x": np.ones(1)})
    for step in node.poll():
        if isinstance(step, Deferred):
            step.run()
    node.poll()
    records = list(journals.records_of(log))
    start = max(at for at, record in enumerate(records) if record.kind == Kind.INSTALL)

    assert start > 0
    assert outputs(log)[1][-1] == [2.0]
    assert digests(node, replay(records[start:])) == (True,) * 5


# Digests


def test_digests_do_not_depend_on_prose():
    frame = programs.FrameId(1, 2)
    one, two = (
        OpFailed("T", "Fit", "model", "m", None, ValueError(text), frame, PEERS[0], None, text)
        for text in ("a", "b")
    )
    other = two._replace(error=TypeError("b"))

    assert step_digest(one) == step_digest(two) != step_digest(other)


VALUES = [
    1, 1.0, True, "1", b"1", None, [1], (1, 1), {"a": 1}, {"a": 2}, {"b": 1}, np.arange(3),
    np.arange(3.0), np.arange(3).reshape(3, 1), PEERS[0], PEERS[1],
]  # fmt: skip


def test_different_values_have_different_digests():
    assert len({value_digest(value) for value in VALUES}) == len(VALUES)
    assert value_digest({"a": 1, "b": 2}) == value_digest({"b": 2, "a": 1})


def test_texts_cannot_run_into_each_other():
    assert value_digest(["ab", "c"]) != value_digest(["a", "bc"])
    assert value_digest([b"ab", b"c"]) != value_digest([b"a", b"bc"])


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_body_that_was_changed_never_gives_another_error_than_a_typed_one(round_artifact, data):
    with recording() as logs:
        stage = Stage(round_artifact)
    stage.run()
    records = list(journals.records_of(logs[0]))
    at = data.draw(st.integers(2, len(records) - 1))
    body = bytearray(records[at].body)
    if body:
        body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    records[at] = records[at]._replace(body=memoryview(bytes(body)))
    with suppress(JournalDamaged, NotReplayable, ReplayDiverged):
        replay(records)


@pytest.mark.parametrize("counted", [0, 1 << 20])
def test_what_hosts_tell_of_envelopes_is_replayed_where_it_counts(round_artifact, counted):
    from bb_runtime import LocalBus

    with recording() as logs:
        stage = Stage(round_artifact, clients=2, options=Options(max_unsent_bytes=counted))
    stage.server.invoke("Round")
    LocalBus(stage.server, *stage.clients).run()

    assert ("SENT" in kinds(logs[0])) == bool(counted)
    for node, log in zip((stage.server, *stage.clients), logs, strict=True):
        assert digests(node, replay(log)) == (True,) * 5


def test_addresses_that_hosts_tell_are_replayed(round_artifact):
    from bb_ir.address import Address

    with recording() as logs:
        stage = Stage(round_artifact, clients=3)
    here = Address.parse("/ip4/127.0.0.1/tcp/4001")
    stage.server.add_peer(PEERS[0], [here, "/ip4/127.0.0.1/tcp/4002"])
    stage.server.invoke("Round")
    for step in stage.server.poll():
        assert isinstance(step, Ship)
        stage.server.sent(step, address=here)
        stage.server.send_failed(step, address=str(here))
    stage.server.poll()

    done = replay(logs[0])

    assert digests(stage.server, done) == (True,) * 5
    assert done.node.addresses_of(PEERS[0]) == stage.server.addresses_of(PEERS[0]) != ()


def test_an_interrupt_while_an_envelope_is_taken_in_ends_the_replay_there(round_artifact):
    with recording() as logs:
        stage = Stage(round_artifact, clients=1)
    stage.invoke()

    class Interrupted(type(stage.clients[0]._admission)):
        __slots__ = ()

        def receive(self, *_: Any) -> None:
            raise KeyboardInterrupt

    stage.clients[0]._admission.__class__ = Interrupted
    with pytest.raises(KeyboardInterrupt):
        stage.wire.deliver()

    assert kinds(logs[1])[-2:] == ["RECEIVE", "RAISED"]
    assert replay(logs[1]).interrupted
