"""Whole programs in one process."""

import pytest

import bytesandbrains as bb
from bb_roles import Codec
from bb_runtime import load_artifact
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


def test_two_nodes_of_each_class_that_does_not_start_where_nothing_is_said(averaging):
    federation = bb.LocalFederation(averaging)

    assert {cls: len(nodes) for cls, nodes in federation.nodes.items()} == {
        "server": 1,
        "client": 2,
    }
    assert class_counts(load_artifact(averaging), {}) == {"server": 1, "client": 2}


def test_function_of_a_configuration_may_take_the_class_too(averaging):
    seen = []

    def described(cls, index):
        seen.append((cls, index))
        return part(index)

    bb.LocalFederation(averaging, nodes={"client": 2}, config={"data": described})

    assert {("client", 0), ("client", 1)} <= set(seen)


def test_function_of_a_configuration_may_have_options(averaging):
    def described(index, clients=4):
        return {**part(index), "clients": clients}

    federation = bb.LocalFederation(averaging, nodes={"client": 3}, config={"data": described})

    assert federation.nodes["client"][2].component("data").config.client == 2


def takes_nothing():
    return {}


def takes_three(cls, index, seed):
    return part(index + seed) if cls else {}


@pytest.mark.parametrize("function", [takes_nothing, takes_three])
def test_function_of_a_configuration_that_takes_something_else(averaging, function):
    with pytest.raises(bb.InstallError, match=r"the function for config\['data'\] takes"):
        bb.LocalFederation(averaging, config={"data": function})


def test_sample_of_more_peers_than_there_are_is_told(averaging):
    outputs = bb.LocalFederation(averaging, nodes={"client": 2}).run()

    assert outputs["round"]["count"] == 2
    assert outputs.dropped == [bb.Dropped("sample_short", None, "peers")]


class OnClients(bb.Module):
    """Has two models, and none where it starts."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    left = bb.slots.Model()
    right = bb.slots.Model()

    def body(self, g):
        asked = g.net_out("ask", self.peers.sample(g, 1))
        sent = self.left.params(g, after=asked)
        self.right.load_params(g, g.net_out("answer", g.sender(asked), sent))


def test_params_ask_which_model_is_meant():
    compiler = bb.Compiler().bind_peer_selector("peers", "static")
    compiler.bind_model("left", "mlp").bind_model("right", "mlp")
    federation = bb.LocalFederation(compiler.compile(OnClients().build()))

    assert federation.params().digest() == federation.params("right").digest()
    with pytest.raises(bb.BytesAndBrainsError, match="no slot 'left'"):
        federation.params("left")


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


class InPlace(Codec):
    """Writes to what it is given."""

    def encode(self, ctx, value):
        value["layers.0.bias"][:] = 0

    def decode(self, ctx, encoded):
        return encoded


class Encodes(bb.Module):
    model = bb.slots.Model()
    codec = bb.slots.Codec()

    def body(self, g):
        g.output("encoded", self.codec.encode(g, self.model.params(g)))


def test_component_that_writes_to_what_is_lent_is_told_to_change_a_copy():
    compiler = bb.Compiler().bind_model("model", "mlp").bind_codec("codec", InPlace)
    federation = bb.LocalFederation(compiler.compile(Encodes().build()))

    with pytest.raises(bb.FrameFailed, match="read-only") as caught:
        federation.run()

    assert "copy" in caught.value.fix
    assert caught.value.where[0].file == __file__


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


def test_all_are_closed_though_a_component_cannot_be(averaging, tmp_path, monkeypatch):
    from bb_runtime.replay import replay
    from bytesandbrains.journal import read_journal

    federation = bb.LocalFederation(averaging, nodes={"client": 2}, journals=tmp_path / "log")
    model = type(federation.server.component("model"))

    def close(self):
        raise ValueError("cannot close")

    monkeypatch.setattr(model, "close", close)
    with pytest.raises(ValueError, match="cannot close"):
        federation.close()
    assert all(node.closed for node in federation.bus.nodes)
    assert replay(read_journal(tmp_path / "log" / "server")).node.closed
