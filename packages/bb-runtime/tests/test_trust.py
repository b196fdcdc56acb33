"""Which programs a Node listens to, and whose artifacts it becomes a Node of."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bb_dsl as bb
from bb_ir import keys, onnx_tools
from bb_ir.ids import KeyPair, PeerId
from bb_ir.signing import sign_model
from bb_ir.types import tensor
from bb_runtime import Artifact, Dropped, Emitted, LocalBus, Node, install, load_artifact
from bb_runtime.errors import InvalidArtifact, InvalidTrust, NotAllowed, NotTrusted, UnresolvedOp
from bb_runtime.replay import replay
from bb_testing.programs import Stage

SERVER, CLIENT = (PeerId.from_seed(b"trust", n) for n in range(2))
ALICE, BOB = KeyPair.derive(0, 1), KeyPair.derive(0, 2)
HOUR = 3600 * 10**9


class First(bb.Module):
    """The server's first version."""

    peer_class = "server"
    clients = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        sent = self.prepared(g, g.input("x", tensor("float64", (None,))))
        got = g.net_out("ask", self.clients.sample(g, 1), sent)
        back = g.net_out("answer", g.sender(got), self.model.forward(g, got))
        g.output("count", g.gather(back).count)

    def prepared(self, _: bb.Graph, x: Any) -> Any:
        return x


class Second(First):
    """The next version: another function on the server, the same edges."""

    def prepared(self, g: bb.Graph, x: Any) -> Any:
        g.output("before", x)
        return x


class Other(First):
    """A version that asks on an edge of another name."""

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", tensor("float64", (None,)))
        got = g.net_out("ask2", self.clients.sample(g, 1), x)
        back = g.net_out("answer", g.sender(got), self.model.forward(g, got))
        g.output("count", g.gather(back).count)


class Ordered(First):
    """A version that asks on the same edge, in the order of sending."""

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", tensor("float64", (None,)))
        got = g.net_out("ask", self.clients.sample(g, 1), x, ordered=True)
        back = g.net_out("answer", g.sender(got), self.model.forward(g, got))
        g.output("count", g.gather(back).count)


class InParts(First):
    """A version whose clients answer three times."""

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", tensor("float64", (None,)))
        got = g.net_out("ask", self.clients.sample(g, 1), x)
        with g.loop(3):
            back = g.net_out("answer", g.sender(got), self.model.forward(g, got), replies=3)
        g.output("count", g.gather(back).count)


@pytest.fixture(scope="module")
def first(compiled):
    return compiled(First())


@pytest.fixture(scope="module")
def second(compiled):
    return compiled(Second())


@pytest.fixture(scope="module")
def other(compiled):
    return compiled(Other())


# Versions of a program


def pair(new: Artifact, old: Artifact, **given: Any) -> tuple[Node, Node, LocalBus]:
    """A server of one version, and a client of another."""
    main = next(iter(new.targets.values())).short
    config = {"clients": {"peers": (CLIENT,)}}
    server = install(SERVER, [], new, [main], config, accept=given.get("server", ()))
    client = install(
        CLIENT, [], old, ["First.client"], accept=given.get("client", ()),
        incarnation=given.get("incarnation", 1), journal=given.get("journal"),
    )  # fmt: skip
    return server, client, LocalBus(server, client)


def outputs(server: Node, bus: LocalBus) -> list[Any]:
    server.invoke(server.targets[0], {"x": np.ones(3)})
    steps = [event.step for event in bus.run()]
    return [step.value for step in steps if isinstance(step, Emitted) and step.name == "count"]


def test_versions_differ_in_one_function_and_share_their_edges(first, second):
    assert first.program != second.program
    assert first.edges_by_id.keys() == second.edges_by_id.keys()


@pytest.mark.parametrize("how", ["artifact", "hash", "capitals", "file"])
def test_versions_talk_when_each_accepts_the_other(first, second, how, tmp_path):
    def named(artifact: Artifact) -> Any:
        path = tmp_path / f"{artifact.program}.onnx"
        path.write_bytes(artifact.data)
        ways = {"artifact": artifact, "hash": artifact.program, "file": path}
        return ways.get(how, artifact.program.upper())

    server, client, bus = pair(second, first, server=[named(first)], client=[named(second)])
    assert outputs(server, bus) == [1]
    assert server.counters == client.counters == {}


def test_who_does_not_accept_hears_nothing(first, second):
    server, client, bus = pair(second, first, server=[first])
    assert outputs(server, bus) == []
    assert client.counters == {"version_skew": 1}


def test_who_is_accepted_must_accept_the_answer_too(first, second):
    server, client, bus = pair(second, first, client=[second])
    assert outputs(server, bus) == []
    assert client.component("model").methods == ["forward"]
    assert server.counters == {"version_skew": 1}


def test_edges_that_are_not_the_same_are_unknown(first, other):
    server, client, bus = pair(other, first, server=[first], client=[other])
    assert outputs(server, bus) == []
    assert client.counters == {"unknown_edge": 1}


@pytest.mark.parametrize(
    ("version", "refuses"), [(Ordered, "client"), (InParts, "server")], ids=["ordered", "replies"]
)
def test_edges_that_promise_something_else_are_unknown(first, compiled, version, refuses):
    new = compiled(version())
    assert new.edges.keys() == first.edges.keys()
    assert len(new.edges_by_id.keys() & first.edges_by_id.keys()) == 1, "the other is as it was"

    server, client, bus = pair(new, first, server=[first], client=[new])

    assert outputs(server, bus) != [1]
    counted = {"server": server.counters, "client": client.counters}
    assert counted.pop(refuses)["unknown_edge"] == 1
    assert "unknown_edge" not in next(iter(counted.values()))


def test_peer_that_comes_back_with_an_accepted_version_has_restarted(first, second, compiled):
    server, old, bus = pair(second, first, server=[first], client=[second])
    assert outputs(server, bus) == [1]
    bus.remove(CLIENT)
    new = install(CLIENT, [], second, ["Second.client"], incarnation=2)
    bus.add(new)
    assert outputs(server, bus) == [1], "what it answers it was asked since then"
    bus.remove(CLIENT)
    bus.add(old)  # the old one runs still, and hears that it is
    assert outputs(server, bus) == []
    assert server.counters["stale"] >= 1
    assert old.counters["superseded"] >= 1


def test_version_skew_is_told_once_per_peer_and_hour(first, second):
    server, client, _ = pair(second, first)
    server.invoke("Second", {"x": np.ones(3)})
    [data] = [step.envelope.to_bytes() for step in server.poll() if hasattr(step, "envelope")]
    others = [PeerId.from_seed(b"more", n) for n in range(2)]
    for peer in (SERVER, SERVER, *others, SERVER):
        assert client.receive_bytes(data, peer).reason == "version_skew"
    told = [Dropped("version_skew", peer, "") for peer in (SERVER, *others)]
    assert client.poll() == told
    assert client.counters == {"version_skew": 5}
    client.advance(HOUR - 1)
    client.receive_bytes(data, SERVER)
    assert client.poll() == []
    client.advance(HOUR)
    client.receive_bytes(data, SERVER)
    assert client.poll() == told[:1]


@pytest.mark.parametrize("what", ["", "first.onnx", "ab" * 31, "xy" * 32])
def test_what_is_no_hash_is_not_accepted(first, what):
    with pytest.raises(InvalidTrust, match="no hash of a program"):
        install(CLIENT, [], first, ["First.client"], accept=[what])


def test_what_is_no_artifact_is_not_accepted(first):
    with pytest.raises(InvalidArtifact):
        install(CLIENT, [], first, ["First.client"], accept=[Path("gone.onnx")])


def test_journal_knows_what_was_accepted(first, second):
    records: list[bytes] = []
    server, client, bus = pair(
        second, first, server=[first], client=[second], journal=records.append
    )
    assert outputs(server, bus) == [1]
    assert replay(records).node.snapshot() == client.snapshot()


# Signatures


def signed(artifact: Artifact, *by: KeyPair) -> onnx.ModelProto:
    model = onnx.ModelProto.FromString(artifact.data)
    for keypair in by:
        sign_model(model, keypair)
    return model


def take(artifact: Any, *trusted: Any, **given: Any) -> Node:
    return install(CLIENT, [], artifact, ["First.client"], trusted=trusted, **given)


@pytest.mark.parametrize(
    "trusted",
    [ALICE.peer_id, str(ALICE.peer_id), ALICE.public_key],
    ids=["id", "text", "bytes"],
)
def test_artifact_of_a_trusted_signer_is_installed(first, trusted):
    assert take(signed(first, ALICE), trusted).classes == ("client",)


def test_one_trusted_signer_of_several_is_enough(first):
    assert take(signed(first, BOB, ALICE), KeyPair.derive(0, 3).peer_id, ALICE.peer_id)


def test_same_signature_holds_for_message_bytes_file_and_artifact(first, tmp_path):
    model = signed(first, ALICE)
    path = tmp_path / "first.onnx"
    path.write_bytes(model.SerializeToString())
    for source in (model, model.SerializeToString(), path, load_artifact(path)):
        assert take(source, ALICE.peer_id)


def test_artifact_without_a_signature_is_not(first):
    with pytest.raises(NotTrusted, match="is not signed"):
        take(first, ALICE.peer_id)


def test_artifact_that_a_stranger_signed_is_not(first):
    with pytest.raises(NotTrusted, match=f"signed by {BOB.peer_id}"):
        take(signed(first, BOB), ALICE.peer_id)


def test_nobody_is_trusted_by_an_empty_list(first):
    with pytest.raises(NotTrusted, match="signed by") as caught:
        take(signed(first, ALICE))
    assert "trusted is empty" in caught.value.expected


def rebind(model: onnx.ModelProto) -> None:
    [row] = [e for e in model.metadata_props if e.key.endswith("client/model")] or [
        next(e for e in model.metadata_props if e.key.startswith(keys.BINDING))
    ]
    row.value = "model|mlp|-1"


def reconfigure(model: onnx.ModelProto) -> None:
    [row, *_] = [e for e in model.metadata_props if e.key.startswith(keys.BINDING)]
    onnx_tools.set_meta(model, keys.CONFIG + row.key.removeprefix(keys.BINDING), '{"lr": 1}')


def redirect(model: onnx.ModelProto) -> None:
    model.functions[0].node[0].name = "another"


def pretend(model: onnx.ModelProto) -> None:
    theirs, ours = (keys.SIGNATURE + str(one.peer_id) for one in (BOB, ALICE))
    onnx_tools.set_meta(model, ours, onnx_tools.get_meta(model, theirs))


@pytest.mark.parametrize("how", [rebind, reconfigure, redirect, pretend])
def test_what_was_changed_after_it_was_signed_is_not_installed(first, how):
    model = signed(first, BOB if how is pretend else ALICE)
    how(model)
    with pytest.raises(NotTrusted, match=f"changed afterwards, or not signed by {ALICE.peer_id}"):
        take(model, ALICE.peer_id)


def test_nothing_is_built_of_what_is_not_trusted(first, monkeypatch):
    monkeypatch.setattr(import_module("bb_runtime.install"), "build", pytest.fail)
    with pytest.raises(NotTrusted):
        take(first, ALICE.peer_id)


def test_signed_artifact_is_still_held_to_what_is_allowed(first):
    with pytest.raises(NotAllowed, match="model"):
        take(signed(first, ALICE), ALICE.peer_id, allow=["model.mlp"])


def test_ops_of_a_plugin_have_to_be_allowed(compiled):
    model = onnx.ModelProto.FromString(compiled(Adds()).data)
    [node, *_] = [n for f in model.functions for n in f.node if n.domain == keys.SYSCALL]
    node.domain = keys.PREFIX + "acme"
    artifact = load_artifact(model)
    with pytest.raises(NotAllowed, match=r"plugin op\.acme") as caught:
        install(SERVER, [], artifact, ["Adds"], allow=["backend.numpy"])
    assert caught.value.where
    with pytest.raises(UnresolvedOp):
        install(SERVER, [], artifact, ["Adds"], allow=[*rows_of(artifact), "op.acme"])


def rows_of(artifact: Artifact) -> list[str]:
    rows = [row for target in artifact.targets.values() for row in target.rows]
    return [f"{row.role}.{row.component}" for row in rows]


@pytest.mark.parametrize("trusted", [b"short", "12D3", PeerId(b"\x12\x20" + bytes(32))])
def test_what_is_no_key_cannot_be_trusted(first, trusted):
    with pytest.raises(InvalidTrust, match="trusted="):
        take(signed(first, ALICE), trusted)


# Secrets


@pytest.mark.parametrize("secret", [b"", b"x" * 15, b"x" * 65, "x" * 32])
def test_secret_must_be_one(first, secret):
    with pytest.raises(InvalidTrust, match="the secret is"):
        install(CLIENT, [], first, ["First.client"], secret=secret)


def test_secret_is_not_in_the_error(first):
    with pytest.raises(InvalidTrust) as caught:
        install(CLIENT, [], first, ["First.client"], secret=b"hunter2")
    assert "hunter2" not in str(caught.value)


# Data beside the artifact


class Adds(bb.Module):
    """Adds numbers that stand in the program."""

    backend = bb.slots.Backend()

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", tensor("float64", (3,)))
        g.output("y", x + g.constant(np.array([1.0, 2.0, 3.0])))


@pytest.fixture
def beside(compiled, tmp_path) -> Path:
    """An artifact whose numbers lie in a file beside it."""
    model = onnx.ModelProto.FromString(compiled(Adds()).data)
    moved = 0
    for function in model.functions:
        for node in function.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.TENSOR:
                    moved += 1
                    (tmp_path / "w.bin").write_bytes(attribute.t.raw_data)
                    attribute.t.ClearField("raw_data")
                    attribute.t.data_location = onnx.TensorProto.EXTERNAL
                    attribute.t.external_data.add(key="location", value="w.bin")
    assert moved == 1
    path = tmp_path / "adds.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_data_beside_an_artifact_is_read_from_its_folder(beside):
    stage = Stage(load_artifact(beside), clients=0)
    stage.run(x=np.ones(3))
    [y] = stage.wire.outputs("y")
    assert y.tolist() == [2.0, 3.0, 4.0]


def test_artifact_that_was_read_needs_its_folder_no_more(beside):
    artifact = load_artifact(str(beside))
    (beside.parent / "w.bin").unlink()
    assert load_artifact(artifact.data).data == artifact.data


def test_data_outside_of_the_folder_is_refused(beside):
    data = beside.read_bytes().replace(b"w.bin", b"/w.bi")
    beside.write_bytes(data)
    with pytest.raises(InvalidArtifact, match="not a place in the model's folder"):
        load_artifact(beside)


def test_bytes_have_no_folder(beside):
    with pytest.raises(InvalidArtifact, match="was not given as a file"):
        load_artifact(beside.read_bytes())


def test_signature_holds_for_the_data_beside_an_artifact(beside):
    whole = onnx.ModelProto.FromString(load_artifact(beside).data)
    sign_model(whole, ALICE)
    text = onnx_tools.get_meta(whole, keys.SIGNATURE + str(ALICE.peer_id))
    model = onnx.ModelProto.FromString(beside.read_bytes())
    onnx_tools.set_meta(model, keys.SIGNATURE + str(ALICE.peer_id), text)
    beside.write_bytes(model.SerializeToString())
    assert install(SERVER, [], beside, ["Adds"], trusted=[ALICE.peer_id])
    numbers = beside.parent / "w.bin"
    numbers.write_bytes(numbers.read_bytes()[::-1])
    with pytest.raises(NotTrusted, match="changed afterwards"):
        install(SERVER, [], beside, ["Adds"], trusted=[ALICE.peer_id])
