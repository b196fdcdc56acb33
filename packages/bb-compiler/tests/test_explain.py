"""`explain` tells what is in an artifact, and what each stage did."""

import json

import pytest

import bb_dsl as bb
from bb_compiler import Compiler
from bb_compiler.explain import NotAnArtifact, explain
from bytesandbrains.programs import FederatedAveraging


@pytest.fixture(scope="module")
def compiler():
    return (
        Compiler()
        .bind_peer_selector("peers", "static")
        .bind_model("model", "mlp")
        .bind_data_source("data", "digits")
        .bind_aggregator("aggregator", "fedavg")
    )


@pytest.fixture(scope="module")
def recorded():
    return FederatedAveraging(4, epochs=2).build()


@pytest.fixture(scope="module")
def told(compiler, recorded):
    return explain(compiler.compile(recorded))


def test_targets_have_classes_and_outputs(told):
    server, client = told.targets

    assert (server.name, server.peer_class) == ("FederatedAveraging", "server")
    assert (client.name, client.peer_class) == ("FederatedAveraging.client", "client")
    assert [port.name for port in server.outputs] == ["round"]
    assert {len(target.hash) for target in told.targets} == {64}


def test_edges_come_before_their_answers(told):
    assert [(edge.name, edge.answers) for edge in told.edges] == [
        ("weights", ""),
        ("update", "weights"),
    ]


def test_edge_tells_what_it_carries_and_where_it_was_written(told):
    update = told.edges[1]

    assert (update.source_class, update.target_class) == ("client", "server")
    assert [port.type.partition("(")[0] for port in update.ports] == ["params", "record"]
    assert "fedavg.py:" in update.source


def test_edges_tell_how_often_they_are_sent_again(told):
    class Sure(bb.Module):
        peer_class = "server"
        peers = bb.slots.PeerSelector(of="client")

        def body(self, g):
            got = g.net_out("ask", self.peers.sample(g, 1), retries=5)
            g.gather(g.net_out("tell", g.sender(got), retries=1))
            g.net_out("word", self.peers.sample(g, 1))

    sure = explain(Compiler().bind_peer_selector("peers", "static").compile(Sure().build()))

    assert {edge.name: edge.retries for edge in sure.edges} == {"ask": 5, "tell": 1, "word": 0}
    assert "sent again up to 5 times" in sure.to_html()
    assert "sent again" not in told.to_html()


def test_bindings_are_those_of_the_class(told):
    assert [row.slot for row in told.targets[1].bindings] == ["data", "model"]


def test_ops_stand_in_their_region_with_how_they_were_placed(told):
    (region,) = told.targets[1].regions

    placed = {op.name: op.placed for op in region.ops}
    assert region.name == "weights"
    assert placed["Batches"] == "cursor"
    assert placed["LoadParams"] == "inputs"
    assert placed["Receive"] == ""


def test_order_of_effects_is_told(told):
    ops = {op.name: op for op in told.targets[1].regions[0].ops}

    assert ops["Fit"].order == (ops["LoadParams"].outputs[0].name,)


def test_everything_can_be_written_as_json(told):
    assert json.loads(json.dumps(told.to_dict()))["module"] == "FederatedAveraging"


def test_stages_are_named_without_changes_for_an_artifact(told, compiler):
    assert tuple(stage.name for stage in told.stages) == compiler.stages
    assert {stage.changes for stage in told.stages} == {None}


def test_compiler_tells_what_each_stage_changed(compiler, recorded, told):
    traced = compiler.explain(recorded)

    changes = {stage.name: stage.changes for stage in traced.stages}
    assert changes["verify_recording"] == ()
    assert "1 -> 2 functions" in changes["partition_by_class"]
    assert any("class" in said for said in changes["infer_peer_classes"])
    assert traced.targets == told.targets


def test_recorded_model_is_no_artifact(recorded):
    with pytest.raises(NotAnArtifact, match="no passport"):
        explain(recorded)
