"""Whole programs in one process."""

import pytest

import bytesandbrains as bb
from bytesandbrains.local import class_counts
from bytesandbrains.programs import FederatedAveraging, LocalTraining


@pytest.fixture
def averaging():
    return (
        bb.Compiler()
        .bind_peer_selector("peers", "static")
        .bind_model("model", "mlp")
        .bind_data_source("data", "digits")
        .bind_aggregator("aggregator", "fedavg")
        .compile(FederatedAveraging(3).build())
    )


def part(index):
    return {"split": "train", "partition": "iid", "clients": 4, "client": index}


def test_server_counts_the_cohort_and_publishes_nothing_else(averaging):
    federation = bb.LocalFederation(averaging, nodes={"client": 4}, config={"data": part})

    outputs = federation.run()

    assert outputs["round"]["count"] == 3
    assert list(outputs) == ["round"]
    federation.close()


def test_params_are_those_of_the_servers_model(averaging):
    federation = bb.LocalFederation(averaging, nodes={"client": 4}, config={"data": part})
    before = federation.params().digest()

    federation.run()

    assert federation.params().digest() != before


def test_same_seed_gives_the_same_model(averaging):
    digests = set()
    for _ in range(2):
        federation = bb.LocalFederation(
            averaging, nodes={"client": 4}, config={"data": part}, seed=7
        )
        list(federation.rounds(2))
        digests.add(federation.params().digest())

    assert len(digests) == 1


def test_failed_op_is_told_with_slot_component_and_line(averaging):
    wrong = {"client.model": {"layers": [64, 5, 10]}, "data": part}
    federation = bb.LocalFederation(averaging, nodes={"client": 4}, config=wrong)

    with pytest.raises(bb.FrameFailed) as caught:
        federation.run()

    assert "slot 'model'" in caught.value.found
    assert "fedavg.py" in str(caught.value.where[0])
    assert caught.value.events


def test_output_that_was_not_published_is_asked_for(averaging):
    outputs = bb.LocalFederation(averaging, nodes={"client": 4}, config={"data": part}).run()

    with pytest.raises(KeyError) as caught:
        outputs["rounds"]

    assert "no output 'rounds'" in str(caught.value)
    assert "one of round" in str(caught.value)


class Misplaced(bb.Module):
    """Publishes on the clients what its author wants on the server."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g):
        received = g.net_out("weights", self.peers.current_view(g), self.model.params(g))
        g.output("done", self.model.load_params(g, received))


def test_output_on_another_class_says_where_it_stands():
    compiler = bb.Compiler().bind_peer_selector("peers", "static").bind_model("model", "mlp")
    federation = bb.LocalFederation(compiler.compile(Misplaced().build()), nodes={"client": 2})

    with pytest.raises(KeyError, match="stands on class 'client', not on 'server'"):
        federation.run()["done"]


def test_unknown_class_is_refused(averaging):
    with pytest.raises(bb.InstallError, match="no class 'clients'") as caught:
        bb.LocalFederation(averaging, nodes={"clients": 4})

    assert caught.value.fix == "did you mean 'client'?"


def test_class_without_a_node_is_refused(averaging):
    with pytest.raises(bb.InstallError, match="at least 1"):
        bb.LocalFederation(averaging, nodes={"client": 0})


def test_target_of_another_class_cannot_be_invoked(averaging):
    with pytest.raises(bb.InstallError, match="cannot be invoked"):
        bb.LocalFederation(averaging, target="FederatedAveraging.client")


def test_others_get_the_number_that_is_said_once(averaging):
    read = bb.load_artifact(averaging)

    assert class_counts(read, {}, others=3) == {"server": 1, "client": 3}
    assert class_counts(read, {"client": 5}, others=3) == {"server": 1, "client": 5}


def test_local_training_goes_on_where_it_ended():
    artifact = (
        bb.Compiler()
        .bind_model("model", "mlp")
        .bind_data_source("data", "digits")
        .bind_data_source("test", "digits")
        .compile(LocalTraining(epochs=2).build())
    )
    config = {"data": {"split": "train"}, "test": {"split": "test"}}
    alone = bb.LocalFederation(artifact, config=config)

    first, second, third = (outputs["train"]["loss"] for outputs in alone.rounds(3))

    assert first > second > third


class Prepared(bb.Module):
    """Its model is trained once, before anything else."""

    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def bootstrap(self, g):
        self.model.fit(g, self.data.batches(g))

    def body(self, g):
        g.output("params", self.model.params(g))


def test_bootstraps_run_before_the_first_invocation():
    artifact = (
        bb.Compiler()
        .bind_model("model", "mlp")
        .bind_data_source("data", "digits")
        .compile(Prepared().build())
    )
    federation = bb.LocalFederation(artifact)
    untrained = federation.params().digest()

    first, second = (outputs["params"].digest() for outputs in federation.rounds(2))

    assert first != untrained
    assert first == second
