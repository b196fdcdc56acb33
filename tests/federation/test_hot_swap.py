"""Hot swaps in whole federations: no answer is mixed, who was away catches up, epochs fence."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import bytesandbrains as bb
from bb_ir.params import ParameterSet
from bb_plans.files import Files
from bb_sim import Crash, Link, Scenario, Simulation

LAYERS = [64, 16, 10]
INPUTS = "tensor(float32)[?,64]"


def compiled(program, **bindings):
    compiler = bb.Compiler().bind_protocol("swap", "swap")
    compiler.bind_peer_selector("replicas", "static")
    compiler.bind_model("model", "mlp", config={"layers": LAYERS})
    for slot, (role, name) in bindings.items():
        getattr(compiler, f"bind_{role}")(slot, name)
    return compiler.compile(program.build())


def served():
    return compiled(
        bb.programs.ServedAveraging(3, INPUTS, quorum=0.5, deadline="5s", swap_deadline="5s"),
        peers=("peer_selector", "static"),
        data=("data_source", "digits"),
        aggregator=("aggregator", "fedavg"),
    )


def part(index):
    return {"split": "train", "partition": "iid", "clients": 3, "client": index}


@pytest.fixture
def federation():
    return bb.LocalFederation(served(), nodes={"client": 3, "replica": 2}, config={"data": part})


def emitted(events, name):
    return [e.step.value for e in events if isinstance(e.step, bb.Emitted) and e.step.name == name]


def test_every_answer_is_that_of_one_version(federation):
    """Requests come at every step of three rounds; each is answered by the old or the new model."""
    replica = federation.nodes["replica"][0]
    images = np.random.default_rng(1).random((5, 64)).astype(np.float32)
    federation.run()
    models, answers = {}, []
    for _ in range(3):
        for event in federation.events():
            if isinstance(event.step, bb.OpFailed):
                raise event.step.error
            if event.peer != replica.peer:
                replica.publish("request", images)
            elif isinstance(event.step, bb.Emitted):
                answers.append((event.step.name, event.step.value))
        root = replica.component("swap").held(None)["root"]
        models[root] = replica.component("model").forward(None, images).tobytes()

    given = [value.tobytes() for name, value in answers if name == "answer"]
    roots = [value["root"] for name, value in answers if name == "version"]
    assert len(given) == len(roots) > 50
    assert len(models) == 3
    known = [(one, root) for one, root in zip(given, roots, strict=True) if root in models]
    assert {root for _, root in known} == set(models)
    assert all(models[root] == one for one, root in known)


def test_replicas_serve_what_the_server_has(federation):
    for epoch in (1, 2):
        out = federation.run()
        assert out["decision"]["epoch"] == epoch
        served_now = {
            node.component("model").params(None).to_bytes() for node in federation.nodes["replica"]
        }
        assert served_now == {federation.params().to_bytes()}


def test_later_versions_come_as_differences(federation):
    first = federation.run()["receipt"]
    second = federation.run()["receipt"]

    assert second["left"] == first["root"]
    assert 0 < second["sent"] < first["sent"]


def swaps(simulation):
    """Return what each replica serves: its root and epoch."""
    return {
        name: simulation.nodes[name].component("swap", target="ServedAveraging.replica").held(None)
        for name in simulation.nodes
        if name.startswith("replica")
    }


def simulation(rounds, **world):
    scenario = Scenario(
        peers={"client": 3, "replica": 3},
        rounds=rounds,
        seed=3,
        links=world.pop("links", Link(latency="20ms", jitter="10ms")),
        **world,
    )
    return Simulation(served(), scenario, config={"client.data": part})


def test_replica_that_was_away_catches_up():
    """Versions go by while it is down; it comes back with the one that it had."""
    world = simulation(8, faults=(Crash("replica[1]", at="300ms", back="700ms", keep="50ms"),))
    behind, last = 0, None
    for one in world.rounds():
        last = one
        held = swaps(world) if len(world.nodes) else {}
        epochs = [each["epoch"] for each in held.values()]
        behind += len(set(epochs)) > 1
    assert behind, "it was never behind"
    assert last.outputs["receipt"].count == 3
    assert len({each["root"] for each in swaps(world).values()}) == 1


def test_links_that_lose_and_double_leave_nobody_on_a_mix():
    bad = Link(latency="20ms", jitter="50ms", loss=0.1, duplicate=0.2, reorder=0.2)
    world = simulation(12, links=bad)
    decided = {0: ""}
    for one in world.rounds():
        if "decision" in one.outputs:
            decision = one.outputs["decision"].last
            assert decision["epoch"] not in decided, "an epoch was given twice"
            decided[decision["epoch"]] = decision["root"]
        for held in swaps(world).values():
            assert decided[held["epoch"]] == held["root"], "served is what was decided, or before"
    assert len(decided) > 6


def test_versions_on_disk_are_those_in_memory(tmp_path):
    """In virtual time, too, where work that is deferred takes as long as the scenario says."""

    def served_at_last(name):
        stores = {} if not name else {
            "replica.swap": lambda index: {"store": str(tmp_path / f"{name}-{index}")},
            "server.swap": {"store": str(tmp_path / name)},
        }  # fmt: skip
        scenario = Scenario(
            peers={"client": 3, "replica": 3}, rounds=3, seed=3,
            links=Link(latency="20ms", jitter="10ms"),
        )  # fmt: skip
        world = Simulation(served(), scenario, config={"client.data": part, **stores})
        ended = [one.ended_ns for one in world.rounds()]
        return ended, swaps(world)

    once, again, memory = (served_at_last(name) for name in ("once", "again", ""))

    assert once == again
    assert once[1] == memory[1]
    assert {one["epoch"] for one in memory[1].values()} == {3}


class Patient(ThreadPoolExecutor):
    """Does no work before each replica has answered a request that came after it was handed in."""

    def __init__(self, replicas):
        super().__init__(2)
        self.replicas, self.asked, self.late = replicas, [], 0
        self.answered = threading.Semaphore(0)

    def submit(self, call):
        for replica in self.replicas:
            replica.publish("request", np.zeros((1, 64), np.float32))
        self.asked.append(len(self.replicas))
        return super().submit(self._run, call)

    def _run(self, call):
        for _ in self.replicas:
            self.late += not self.answered.acquire(timeout=20)
        return call()


def test_requests_are_answered_while_disks_are_waited_for(tmp_path, monkeypatch):
    """Publisher and replicas keep versions on disks that take as long as a request does."""
    synced = []
    for name in ("fsync", "fsync_folder"):
        real = getattr(Files, name)

        def slow(self, *args, real=real):
            synced.append(threading.current_thread() is threading.main_thread())
            return real(self, *args)

        monkeypatch.setattr(Files, name, slow)
    artifact = compiled(bb.programs.HotSwap(INPUTS))
    stores = {"swap": lambda cls, index: {"store": str(tmp_path / f"{cls}-{index}")}}
    federation = bb.LocalFederation(artifact, nodes={"replica": 2}, config=stores)
    held = [replica.component("swap").held for replica in federation.nodes["replica"]]
    with Patient(federation.nodes["replica"]) as patient:
        federation.bus._executor = patient
        for epoch in (1, 2):
            model = federation.server.component("model")
            tensors = {name: np.asarray(t) + epoch for name, t in model.params(None).items()}
            model.load_params(None, ParameterSet.from_tensors(tensors))
            synced.clear()
            told = set()
            for event in federation.events():
                if isinstance(event.step, bb.OpFailed):
                    raise event.step.error
                if isinstance(event.step, bb.Emitted) and event.step.name == "version":
                    told.add(event.step.value["epoch"])
                    patient.answered.release()
            assert {one(None)["epoch"] for one in held} == {epoch}
            assert told <= {epoch - 1, epoch}
            assert False in synced, "nothing was written beside the Node"
            # What the Node itself waits for is the flip: the journal, CURRENT, its folder.
            assert sum(synced) <= 4 * len(held)

    assert patient.asked, "no work was deferred"
    assert patient.late == 0
