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


def test_edges_tell_whose_answers_are_given_up_by_what_is_measured():
    class Measuring(bb.Module):
        peer_class = "server"
        peers = bb.slots.PeerSelector(of="client")

        def body(self, g):
            got = g.net_out("ask", self.peers.sample(g, 1))
            g.gather(g.net_out("tell", g.sender(got)), deadline="auto, at most 30s")

    compiler = Compiler().bind_peer_selector("peers", "static")

    told = explain(compiler.compile(Measuring().build()))

    assert [edge.deadline for edge in told.edges] == ["auto, at most 30s", "1m"]
    assert "auto, at most 30s" in told.to_html()
    assert "as long as answers usually do, at most 30s" in told.to_html()


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


class Counts(bb.Module):
    """Calculates, and has blocks of all kinds that say how often they run."""

    model = bb.slots.Model()

    def body(self, g):
        with g.rounds(40, width=3) as number:
            with g.when((number % 30).equals(0)):
                g.output("shown", g.record(number=number, half=number * 0.5))
            with g.loop() as turn:
                turn.until(turn >= 4)
            g.output("limit", g.scalar(7))
        with g.every("5s"):
            self.model.params(g)
        with g.on("news", "bool") as news, g.when(~news):
            self.model.params(g)


@pytest.fixture(scope="module")
def counts():
    return Compiler().bind_model("model", "mlp").explain(Counts().build())


def test_calculations_read_as_python_writes_them(counts):
    listed = [op.text for t in counts.targets for r in t.regions for op in r.listed]
    ops = [op for t in counts.targets for r in t.regions for op in r.ops]

    assert any(text.endswith(" = When((round.0 % 30) == 0)") for text in listed)
    assert any(text.endswith(" >= 4)") and "Until(" in text for text in listed)
    assert any("= {number: round.0, half: " in text and " * 0.5" in text for text in listed)
    assert any("When(~event." in text for text in listed)
    assert any(text.endswith("Output(7, name=limit)") for text in listed)
    assert not any("Calculate" in text or "Scalar" in text for text in listed)
    assert len(ops) > len(listed)
    assert all(op.notes == () for op in ops if op.name == "Scalar")


def test_blocks_say_how_often_they_run(counts):
    said = {r.name: r.block for t in counts.targets for r in t.regions}

    assert said == {
        "main": "",
        "@rounds": "rounds, 40 times, 3 at a time",
        "@when": "when",
        "@loop": "loop, times not fixed",
        "@every": "every 5s",
        "@on": "on 'news'",
        "@when~2": "when",
    }


def test_a_round_is_one_of_as_many_as_the_program_has(counts, told):
    assert counts.a_round == "each of 40 rounds"
    assert told.a_round == "one round"
    assert "each of 40 rounds sends" in counts.to_html()


def test_settings_that_nobody_said_are_left_out():
    told = Compiler().bind_model("model", "mlp").bind_peer_selector("peers", "static")
    gathers = [
        op.text
        for t in told.explain(Asks().build()).targets
        for r in t.regions
        for op in r.ops
        if op.name == "Gather"
    ]

    assert [text.partition("= ")[2] for text in gathers] == [
        "Gather(back.5, quorum=0.8, wait=all)",
        "Gather(back.5, on_short=continue, quorum=2)",
    ]


class Asks(bb.Module):
    """Gathers twice."""

    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g):
        asked = g.net_out("ask", self.peers.sample(g, 2), self.model.params(g))
        back = g.net_out("back", g.sender(asked), self.model.params(g))
        g.gather(back, quorum=0.8, wait="all")
        g.gather(back, quorum=2, on_short="continue")
