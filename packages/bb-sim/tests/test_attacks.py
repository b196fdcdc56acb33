"""Attackers follow their program, and falsify what it learns."""

import numpy as np
import pytest

import bytesandbrains as bb
from bb_roles import Batches, Environment
from bb_roles.registry import bound_class
from bb_sim import Attack, BadScenario, Crash, Scenario, Simulation, read_scenario
from bb_sim._attacks import flipped

CLIENTS = 6
KINDS = ("sign-flip", "gaussian", "label-flip", "scale", "same-value")


@pytest.fixture(scope="module")
def artifacts():
    """Federated averaging of a small network on the digits, by what fills its slots."""
    made = {}

    def artifact(aggregator="fedavg", **args):
        key = (aggregator, *sorted(args.items()))
        if key not in made:
            compiler = bb.Compiler().bind_peer_selector("peers", "static")
            compiler.bind_model("model", "mlp", config={"layers": [64, 8, 10], "lr": 0.1})
            compiler.bind_data_source("data", "digits").bind_data_source("test", "digits")
            compiler.bind_aggregator("aggregator", aggregator)
            program = bb.programs.FederatedAveraging(CLIENTS, evaluate=True, **args)
            made[key] = bb.load_artifact(compiler.compile(program.build()))
        return made[key]

    return artifact


@pytest.fixture
def attacked(artifacts):
    """Make a simulation of six clients, some of whom attack."""

    def attacked_(attack=None, *, aggregator="fedavg", args=None, aggregate=None, **given):
        how = ("late", "by_reference", "journal", "journal_peers")
        chosen = {name: given.pop(name) for name in how if name in given}
        world = Scenario(**{"peers": {"client": CLIENTS}, "rounds": 2, "attack": attack, **given})
        config = {
            "data": lambda index: {
                "split": "train", "partition": "iid", "clients": CLIENTS, "client": index,
            },
            "test": {"split": "test"},
            "aggregator": aggregate or {},
        }  # fmt: skip
        artifact = artifacts(aggregator, **(args or {}))
        return Simulation(artifact, world, config=config, **chosen)

    return attacked_


def parameters(simulation):
    """Return what the server's model is after a run, as one vector."""
    simulation.run()
    return simulation.root.component("model").params(None).flat("float32").copy()


def test_attackers_are_named_in_the_result(attacked):
    result = attacked(Attack("sign-flip", share=0.3)).run()

    told = result.to_dict()
    assert told["attack"] == "sign-flip"
    assert len(told["attackers"]) == 2
    assert all(name.startswith("client[") for name in told["attackers"])
    assert attacked().run().to_dict()["attackers"] == []


def test_seed_draws_the_attackers_and_more_of_them_are_the_same_and_others(attacked):
    def drawn(seed, share):
        return set(attacked(Attack("scale", share=share), seed=seed).result().attackers)

    assert drawn(1, 0.5) == drawn(1, 0.5)
    assert drawn(1, 0.2) < drawn(1, 0.5) < drawn(1, 1.0)
    assert len({frozenset(drawn(seed, 0.2)) for seed in range(8)}) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_how_values_travel_and_when_nodes_run_changes_nothing(attacked, kind):
    attack = Attack(kind, count=2)

    digests = {
        attacked(attack, by_reference=reference, late=late).run().digest
        for reference in (True, False)
        for late in (True, False)
    }

    assert len(digests) == 1
    assert digests != {attacked().run().digest}


def test_sign_flip_turns_the_mean_update_around(attacked):
    # All attack, so what is averaged is the honest update, turned around.
    start = attacked(rounds=1).root.component("model").params(None).flat("float32").copy()
    honest = parameters(attacked(rounds=1)) - start
    turned = parameters(attacked(Attack("sign-flip", share=1.0, scale=2.0), rounds=1)) - start

    np.testing.assert_allclose(turned, -2.0 * honest, atol=1e-6)


def test_scaled_update_is_the_honest_one_made_larger(attacked):
    start = attacked(rounds=1).root.component("model").params(None).flat("float32").copy()
    honest = parameters(attacked(rounds=1)) - start
    scaled = parameters(attacked(Attack("scale", share=1.0), rounds=1)) - start

    np.testing.assert_allclose(scaled, 10.0 * honest, atol=1e-5)


def test_same_value_moves_all_parameters_alike(attacked):
    start = attacked(rounds=1).root.component("model").params(None).flat("float32").copy()
    moved = parameters(attacked(Attack("same-value", share=1.0, scale=0.5), rounds=1)) - start

    np.testing.assert_allclose(moved, 0.5, atol=1e-6)


def test_gaussian_noise_has_its_deviation_and_other_peers_other_noise(attacked):
    start = attacked(rounds=1).root.component("model").params(None).flat("float32").copy()

    noise = parameters(attacked(Attack("gaussian", share=1.0, scale=3.0), rounds=1)) - start

    # The mean of six that are drawn apart.
    assert np.std(noise) == pytest.approx(3.0 / np.sqrt(CLIENTS), rel=0.1)


def test_flipped_labels_teach_the_opposite(attacked):
    result = attacked(Attack("label-flip", share=1.0), rounds=8).run()

    honest = attacked(rounds=8).run()
    assert honest.rounds[-1].figures()["test.accuracy"] > 0.6
    assert result.rounds[-1].figures()["test.accuracy"] < 0.1


def test_labels_are_turned_around_whatever_they_are():
    assert flipped(np.array([0, 3, 9]), 10).tolist() == [9, 6, 0]
    assert flipped(np.array([[0.1, 0.2, 0.7]]), 10).tolist() == [[0.7, 0.2, 0.1]]
    assert flipped(np.array([0.5, -1.0]), 10).tolist() == [-0.5, 1.0]
    assert flipped(np.array([], np.int64), 10).size == 0
    assert flipped(np.array([1], np.uint8), 2).dtype == np.uint8
    assert flipped(np.array([True, False]), 2).tolist() == [False, True]
    assert flipped(np.array([3, 4], np.uint8), 300).tolist() == [296, 295]
    assert flipped(np.array([100], np.int8), 1_000).tolist() == [899]
    with pytest.raises(BadScenario, match="a label is 10"):
        flipped(np.array([3, 10]), 10)


def test_more_labels_than_the_attack_knows_are_told(attacked):
    attack = Attack("label-flip", count=1, classes=3)

    result = attacked(attack, args={"quorum": 0.5, "deadline": "1s"}).run()

    assert [one.failures["BadScenario"] for one in result.rounds] == [1, 1]


@pytest.mark.parametrize("kind", ["sign-flip", "gaussian", "label-flip"])
def test_attack_goes_on_from_a_checkpoint_at_any_step(attacked, kind):
    attack = Attack(kind, count=2)
    whole = attacked(attack).run()
    steps = sum(1 for _ in iter(attacked(attack).step, False))

    for at in range(0, steps, 5):
        first = attacked(attack)
        for _ in range(at):
            first.step()
        second = attacked(attack)
        second.resume(first.checkpoint())
        assert second.run().digest == whole.digest


def test_attackers_attack_again_after_a_crash(attacked):
    crash = Crash("client", at="1ms", back="1ms")
    attack = Attack("sign-flip", share=1.0)

    result = attacked(attack, pause="1s", faults=(crash,)).run()

    assert [dict(one.ended) for one in result.rounds] == [{"done": 1}] * 2
    falls = [one.figures()["test.loss"] for one in result.rounds]
    assert falls[1] > falls[0]


def test_attackers_write_no_journals(attacked):
    names = []

    def journal(name, _life):
        names.append(name)
        return lambda _record: None

    attack = Attack("scale", share=0.5)
    chosen = attacked(attack, journal=journal)
    chosen.run()

    assert names[0] == "server"
    assert not set(names) & set(chosen.result().attackers)
    attacker = chosen.result().attackers[0]
    with pytest.raises(BadScenario, match="is to write a journal, and attacks"):
        attacked(attack, journal=journal, journal_peers=attacker)


@pytest.mark.parametrize(
    ("attack", "told"),
    [
        (Attack("scale", share=1.5), "share of [attack] is 1.5"),
        (Attack("scale", count=7), "7 attackers are to be drawn from 6 peers"),
        (Attack("scale", count=-1), "count of [attack] is -1"),
        (Attack("scale", scale=float("nan")), "scale of [attack] is nan"),
        (Attack("gaussian", scale=-1.0), "scale of [attack] is -1.0"),
        (Attack("label-flip", classes=1), "classes of [attack] is 1"),
        (Attack("scale", peers="client[9]"), "names client[9]"),
        (Attack("label-flip", peers="server"), None),
    ],
)
def test_impossible_attacks_are_told_before_anything_runs(attacked, attack, told):
    if told is None:  # the server has data, to test with
        assert attacked(attack).result().attackers == ["server"]
        return
    with pytest.raises(BadScenario) as caught:
        attacked(attack)
    assert told in str(caught.value)


def test_peers_without_what_the_attack_changes_cannot_attack():
    class Asks(bb.Module):
        peer_class = "server"
        peers = bb.slots.PeerSelector(of="client")

        def body(self, g):
            asked = g.net_out("ask", self.peers.current_view(g))
            g.gather(g.net_out("answer", g.sender(asked)))

    artifact = bb.Compiler().bind_peer_selector("peers", "static").compile(Asks().build())
    world = Scenario(peers={"client": 3}, attack=Attack("sign-flip"))

    with pytest.raises(BadScenario, match="use no model"):
        Simulation(artifact, world)


def test_attack_in_a_file(tmp_path):
    path = tmp_path / "world.toml"
    path.write_text('[attack]\nkind = "sign-flip"\nshare = 0.1\nscale = 2.0\n')
    assert read_scenario(path).attack == Attack("sign-flip", share=0.1, scale=2.0)
    path.write_text('[attack]\nkind = "sing-flip"\n')
    with pytest.raises(BadScenario, match="did you mean 'sign-flip'"):
        read_scenario(path)


def test_stand_in_and_journal_exclude_each_other(artifacts):
    artifact = artifacts()
    with pytest.raises(bb.InstallError, match="stand-ins"):
        bb.install(
            bb.PeerId.from_seed(0, 0), [], artifact, ["FederatedAveraging.client"],
            {"data": {}}, journal=lambda _: None, stand_in=lambda _, cls: cls,
        )  # fmt: skip


def test_batches_of_an_attacker_can_be_drawn_twice():
    from bb_sim._attacks import attacking
    from bb_testing import FakeContext

    cls = attacking(Attack("label-flip"), bound_class("data_source", "digits"))
    source = cls(cls.Config(), Environment(bb.PeerId.from_seed(0, 0), "data"))
    batches = source.batches(FakeContext(), epochs=1)

    assert isinstance(batches, Batches)
    first, second = ([labels.tolist() for _, labels in batches] for _ in range(2))
    assert first == second
