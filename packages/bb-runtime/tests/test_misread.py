"""Tables from outside that hold what nobody writes are refused by name, wherever they are read."""

import json
from typing import Any

import pytest
from onnx import ModelProto

import bb_dsl as bb
from bb_ir import keys, onnx_tools
from bb_ir.dump import dump, load
from bb_ir.ids import PeerId
from bb_runtime import install, load_artifact
from bb_runtime._portable import KINDS
from bb_runtime.errors import InvalidArtifact, InvalidInput, JournalDamaged, SnapshotDamaged
from bb_runtime.journal import Chain, Kind, Scan
from bb_runtime.replay import replay
from bb_testing.programs import Stage


class Rounds(bb.Module):
    """Something of all that an artifact and a snapshot hold."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        with g.every("1s"):
            got = g.net_out("ask", self.peers.current_view(g), self.model.params(g), retries=1)
            told = g.net_out("tell", g.sender(got), got)
            g.output("count", g.gather(told).count)


@pytest.fixture(scope="module")
def artifact(compiled) -> Any:
    return compiled(Rounds())


@pytest.fixture
def model(artifact) -> ModelProto:
    return ModelProto.FromString(artifact.data)


# Artifacts


@pytest.mark.parametrize(
    ("table", "field", "value"),
    [
        (keys.EDGES, "name", 5),
        (keys.EDGES, "to", None),
        (keys.EDGES, "answered", "yes"),
        (keys.EDGES, "deadline_ns", "60"),
        (keys.EDGES, "deadline_ns", 1 << 70),
        (keys.EDGES, "retries", True),
        (keys.EDGES, "ports", [["x"]]),
        (keys.EDGES, "id", None),
        (keys.REGIONS, "name", {}),
        (keys.REGIONS, "kind", None),
        (keys.REGIONS, "deadline_ns", -1),
    ],
)
def test_a_field_of_another_kind_is_refused(model, table, field, value):
    holder = next(one for one in (model, *model.functions) if onnx_tools.get_meta(one, table))
    rows = json.loads(onnx_tools.get_meta(holder, table))
    rows[0][field] = value
    onnx_tools.set_meta(holder, table, json.dumps(rows))
    with pytest.raises(InvalidArtifact, match="cannot be read"):
        load_artifact(model.SerializeToString())


@pytest.mark.parametrize("slots", [[], {"model": "model"}, {"model": {"role": 3}}])
def test_slots_that_are_no_table_of_texts_are_refused(model, slots):
    onnx_tools.set_meta(model, keys.SLOTS, json.dumps(slots))
    with pytest.raises(InvalidArtifact, match="cannot be read"):
        load_artifact(model.SerializeToString())


def test_json_that_is_too_deep_is_refused(model):
    onnx_tools.set_meta(model, keys.EDGES, "[" * 100_000)
    with pytest.raises(InvalidArtifact, match="RecursionError"):
        load_artifact(model.SerializeToString())


@pytest.mark.parametrize("name", [b"CurrentView", b"Rounds#", b"peers"])
def test_names_that_are_no_utf_8_are_refused(model, name):
    data = model.SerializeToString()
    assert name in data
    with pytest.raises(InvalidArtifact, match="is no text"):
        load_artifact(data.replace(name, b"\xff" * len(name)))


@pytest.mark.parametrize("key", [keys.EDGE, keys.OPENS])
def test_ops_that_name_what_there_is_not_are_refused(model, key):
    for function in model.functions:
        for node in function.node:
            if onnx_tools.get_meta(node, key):
                onnx_tools.set_meta(node, key, "nowhere")
    config = {"peers": {"peers": []}}
    with pytest.raises(InvalidArtifact, match="do not fit together"):
        install(PeerId.from_seed(1), [], model.SerializeToString(), ["Rounds"], config)


# Snapshots


def changed(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    key, *rest = path
    if isinstance(tree, dict):
        return {**tree, key: changed(tree[key], tuple(rest), value)}
    items = list(tree)
    items[key] = changed(items[key], tuple(rest), value)
    return items if isinstance(tree, list) else tuple(items)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("engine", "controllers", 0, "handed"), [1, 2, 3, 4]),
        (("engine", "peers", 0, "silence"), ["often", 0.0, 0.0]),
        (("engine", "peers", 0, "acks"), [float("nan"), 0, 0, 0]),
        (("engine", "peers", 0, "failures"), "many"),
        (("engine", "peers", 0, "failures"), 1 << 70),
        (("engine", "retries", 0, "letter", "number"), {}),
        (("engine", "retries", 0, "left"), -1),
        (("engine", "peers", 0, "peer"), "somebody"),
    ],
)
def test_a_snapshot_that_would_fail_later_is_refused_at_once(artifact, path, value):
    stage = Stage(artifact, clients=1)
    stage.invoke()
    stage.wire.advance(10**9)
    table = load(stage.server.snapshot(), kinds=KINDS)
    node = stage.makers[0]()
    before = node.snapshot()
    with pytest.raises(SnapshotDamaged):
        node.restore(dump(changed(table, path, value), kinds=KINDS))
    assert node.snapshot() == before


# Journals


@pytest.mark.parametrize(
    ("field", "value"),
    [("targets", [[]]), ("targets", 5), ("peer", "me"), ("options", {"x": 1})],
)
def test_a_journal_of_a_node_that_cannot_be(artifact, field, value):
    records: list[bytes] = []
    Stage(artifact, clients=0).makers[0](journal=records.append)
    first, *rest = Scan(b"".join(records))
    chain = Chain()
    facts = changed(load(first.body, kinds=KINDS), (0, field), value)
    parts = [chain.add(Kind.INSTALL, dump(facts, kinds=KINDS))]
    parts += [chain.add(one.kind, one.body) for one in rest]
    with pytest.raises(JournalDamaged, match="record 1 "):
        replay(list(Scan(b"".join(parts))))


# Calls


@pytest.mark.parametrize("name", ["authorize", "block_peer", "unblock", "add_peer", "add_hint"])
@pytest.mark.parametrize("peer", ["12D3KooW", None, 5])
def test_what_is_no_peer_is_refused_where_it_is_said(artifact, name, peer):
    """A text among ids would never be found, and could not be sorted with them later."""
    node = Stage(artifact, clients=0).server
    rest = {"authorize": ["client"], "add_peer": [[]], "add_hint": [peer, []]}.get(name, [])
    with pytest.raises(InvalidInput, match="and no peer"):
        getattr(node, name)(peer, *rest)
