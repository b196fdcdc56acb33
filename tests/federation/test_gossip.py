"""Gossip in the simulator: how fast peers agree, on what, and that nothing is lost on the way."""

import math

import numpy as np
import pytest

import bytesandbrains as bb
from bb_dsl.errors import BadOption
from bb_sim import Crash, Leave, Liar, Link, Scenario, Simulation
from bytesandbrains.programs import GossipAveraging, GossipLearning

#: Loss, delays longer than a tick, copies, and envelopes that overtake each other.
BAD = Link(latency="20ms", jitter="400ms", loss=0.2, duplicate=0.2, reorder=0.3, reorder_by="3s")


def simulate(program, peers, ticks, *, seed=5, config=None, by_reference=True, **world):
    compiler = bb.Compiler().bind_peer_selector("peers", "random")
    compiler.bind_protocol("gossip", "gossip")
    if isinstance(program, GossipLearning):
        compiler.bind_model("model", "mlp")
        compiler.bind_data_source("data", "digits").bind_data_source("test", "digits")
    world = {"links": Link(latency="10ms", jitter="10ms"), **world}
    scenario = Scenario(peers={"peer": peers}, rounds=ticks, start="all", seed=seed, **world)
    config = config or {"gossip": lambda i: {"value": value_of(i)}}
    artifact = compiler.compile(program.build())
    return Simulation(artifact, scenario, config=config, by_reference=by_reference)


def value_of(index):
    return float(index * index % 17) - 5.0


def gossip_of(node):
    return next(part for (_, slot), part in node._components.items() if "gossip" in slot)


def states(simulation):
    return {node.peer: gossip_of(node).save() for node in simulation.nodes.values()}


def mass(simulation):
    """Return sum and weight of all peers, and of what is between them."""
    found = states(simulation)
    total = sum(state.tensors["sum"] for state in found.values())
    weight = math.fsum(state.data["weight"] for state in found.values())
    for peer, state in found.items():
        for at, (to, sequence, share) in enumerate(state.data["opened"]):
            sent = state.tensors[f"opened.{at}"]
            there = found[bb.PeerId.parse(to)]
            seen = [row[0] for row in there.data["seen"]]
            place = seen.index(str(peer)) if str(peer) in seen else -1
            arrived = place >= 0 and there.data["seen"][place][1] >= sequence
            if share and not arrived:  # a part that nobody has
                total, weight = total + share * sent, weight + share
            elif not share and arrived:  # a difference that was added there, not yet taken off here
                total = total - 0.5 * (sent - there.tensors[f"answer.{place}"])
    return total, weight


def estimates(simulation):
    return [gossip_of(node)._estimate("Estimate") for node in simulation.nodes.values()]


def run(simulation):
    """Return, tick by tick, the variance of the estimates."""
    return [np.var(estimates(simulation)) for _ in simulation.rounds()]


def test_push_pull_shrinks_the_variance_as_fast_as_theory_says():
    # Jelasity et al. 2005, section 4: by 1/(2 sqrt(e)), about 0.303, in a cycle in which each peer
    # begins one exchange with a peer drawn from all.
    factors = []
    for seed in range(4):
        simulation = simulate(GossipAveraging("push-pull"), 100, 8, seed=seed)
        variances = run(simulation)
        factors.append((variances[-1] / variances[0]) ** (1 / (len(variances) - 1)))

    assert np.mean(factors) == pytest.approx(1 / (2 * math.sqrt(math.e)), rel=0.15)


@pytest.mark.parametrize("mode", ["push-pull", "push-sum"])
def test_all_peers_come_to_the_true_mean(mode):
    simulation = simulate(GossipAveraging(mode), 40, 60)
    run(simulation)

    mean = math.fsum(map(value_of, range(40))) / 40
    assert estimates(simulation) == pytest.approx([mean] * 40, abs=1e-6)


def test_push_alone_agrees_on_something_else():
    simulation = simulate(GossipAveraging("push"), 40, 60)
    run(simulation)

    found, mean = estimates(simulation), math.fsum(map(value_of, range(40))) / 40
    assert np.ptp(found) < 1e-4
    assert 1e-3 < abs(found[0] - mean) < 5


@pytest.mark.parametrize("retries", [0, 3])
@pytest.mark.parametrize("mode", ["push-pull", "push-sum"])
@pytest.mark.parametrize("seed", range(2))
def test_no_mass_is_lost_in_a_bad_network(mode, retries, seed):
    program = GossipAveraging(mode, retries=retries)
    simulation = simulate(program, 20, 40, seed=seed, links=BAD)
    whole = math.fsum(map(value_of, range(20)))
    lost = 0
    for done in simulation.rounds():
        lost += sum(done.lost.values())
        assert not done.failures.keys() - {"StaleSequence"}
        total, weight = mass(simulation)
        assert weight == pytest.approx(20, rel=1e-12)
        assert total[0] == pytest.approx(whole, rel=1e-12)

    assert lost > 100
    # What arrives late was begun with old values, so that push-pull is slow here.
    spread = np.var([value_of(i) for i in range(20)])
    assert np.var(estimates(simulation)) < spread / (50 if mode == "push-sum" else 4)


def test_same_seed_gives_the_same_run_by_reference_or_by_bytes():
    program = GossipAveraging("push-sum", retries=2)
    first = simulate(program, 12, 6, links=BAD)
    second = simulate(program, 12, 6, links=BAD, by_reference=False)
    run(first)
    run(second)

    assert first.result().digest == second.result().digest
    assert estimates(first) == estimates(second)


@pytest.mark.parametrize("mode", ["push-pull", "push-sum"])
def test_run_that_is_stopped_goes_on_as_if_it_never_was(mode):
    whole = simulate(GossipAveraging(mode), 8, 12, links=BAD)
    run(whole)
    first = simulate(GossipAveraging(mode), 8, 12, links=BAD)
    for done in first.rounds():
        if done.number == 5:
            break
    second = simulate(GossipAveraging(mode), 8, 12, links=BAD)
    second.resume(first.checkpoint())
    run(second)

    assert second.result().digest == whole.result().digest
    assert estimates(second) == estimates(whole)


@pytest.mark.parametrize("mode", ["push-pull", "push-sum"])
def test_peer_that_leaves_holds_nobody_up_and_what_it_owes_is_told(mode):
    gone = Leave("peer[3]", at="1500ms")
    simulation = simulate(GossipAveraging(mode), 12, 40, faults=(gone,))
    run(simulation)
    left = [gossip_of(node) for name, node in simulation.nodes.items() if name != "peer[3]"]

    assert len(left) == 11
    assert np.ptp([gossip.estimate(None) for gossip in left]) < (1.0 if mode == "push-sum" else 2.0)
    assert {gossip.status(None)["waiting"] for gossip in left} == {1}
    unconfirmed = [gossip.status(None)["unconfirmed"] > 0 for gossip in left]
    assert all(unconfirmed) == any(unconfirmed) == (mode == "push-sum")


def test_peer_that_restarts_from_its_disk_goes_on():
    crash = Crash("peer[2]", at="5s", back="2s", keep="1ms")
    simulation = simulate(GossipAveraging("push-sum", every="500ms", deadline="200ms"), 10, 40,
                          faults=(crash,))  # fmt: skip
    run(simulation)

    total, weight = mass(simulation)
    assert weight == pytest.approx(10, abs=1.0)
    assert np.ptp(estimates(simulation)) < 0.1
    assert np.isfinite(total).all()


def learning(mode, *, seed=5, **world):
    config = {
        "model": {"layers": [64, 32, 10], "lr": 0.05},
        "data": lambda i: {"split": "train", "partition": "shard", "clients": 8, "client": i},
        "test": {"split": "test"},
    }
    program = GossipLearning(mode, epochs=2, evaluate=True)
    simulation = simulate(program, 8, 30, config=config, seed=seed, **world)
    failures: dict[str, int] = {}
    for done in simulation.rounds():
        for code, count in done.failures.items():
            failures[code] = failures.get(code, 0) + count
    return done, failures


@pytest.mark.parametrize("mode", ["push", "push-pull", "push-sum"])
def test_peers_learn_what_none_of_them_could_alone(mode):
    # Each has images of two or three of the ten digits.
    last, failures = learning(mode, links=Link(latency="50ms", loss=0.1))

    assert last.figures()["test.accuracy"] > 0.5
    assert not failures


@pytest.mark.parametrize("mode", ["push", "push-pull", "push-sum"])
def test_liar_with_nan_poisons_nobody(mode):
    last, failures = learning(mode, liars=(Liar("peer[4]", "nan"),))

    assert failures["NotFinite"] > 20
    assert last.outputs["test"].least["accuracy"] > 0.2
    assert last.figures()["test.accuracy"] > 0.4


def test_mode_that_is_none_is_refused():
    with pytest.raises(BadOption, match="mode='pull'"):
        GossipAveraging("pull")
