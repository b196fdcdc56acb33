"""A type of values that somebody else published: found, compiled, installed and sent."""

import importlib
import shutil
import sys
import tomllib
import zlib
from pathlib import Path

import numpy as np
import pytest

import bytesandbrains as bb
from bb_compiler.errors import NotSendable, TypeMismatch
from bb_ir.ids import PeerId
from bb_ir.types import custom
from bb_roles.registry import installed, installed_types
from bb_runtime.errors import InvalidInput, NotAllowed, UnresolvedType

PACKAGE = Path(__file__).parent / "third_party" / "acme-graph-type"
GRAPH = custom("acme.graph/1")
SERVER, CLIENT = (PeerId.from_seed(b"third party", n) for n in range(2))


class Adjacent(bb.Module):
    """Clients draw the matrix of a graph, and send it back with the graph that it stands for."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    codec = bb.slots.Codec()

    def __init__(self, name: str = "acme.graph/1") -> None:
        super().__init__()
        self.type = custom(name)

    def body(self, g: bb.Graph) -> None:
        graph = g.input("graph", self.type)
        got = g.net_out("question", self.peers.current_view(g), graph)
        matrix = self.codec.encode(g, got)
        told = g.record(matrix=matrix, graph=self.codec.decode(g, matrix))
        answer = g.net_out("answer", g.sender(got), told)
        done = g.gather(answer, values=True, deadline="5s")
        g.output("answers", done.values)


class Wrapped(bb.Module):
    """Sends a graph within a record to somebody who reads it as another version."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")

    def __init__(self, read_as: str) -> None:
        super().__init__()
        self.read_as = custom(read_as)

    def body(self, g: bb.Graph) -> None:
        box = g.record(graph=g.input("graph", GRAPH))
        got = g.net_out("box", self.peers.current_view(g), box)
        g.output("seen", g.field(got, "graph", self.read_as))


#: What the author calls things in a later release, and what they were called.
RENAMED = {"graphs": "digraphs", "WeightedGraph": "Labelled", "GraphCodec": "Packing"}


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Return `publish(*points)`: install the package as pip would, with these entry points."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["bytesandbrains.v1"]
    path = list(sys.path)
    made: list[Path] = []

    def install(*chosen: str, renamed: bool = False) -> None:
        forget()
        site = tmp_path / f"site-packages-{len(made)}"
        made.append(site)
        shutil.copytree(PACKAGE / "src", site, ignore=shutil.ignore_patterns("__pycache__"))
        if renamed:
            rename(site / "acme_graph")
        info = site / f"acme_graph_type-{project['version']}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        rows = [f"{name} = {points[name]}" for name in chosen or points]
        (info / "entry_points.txt").write_text("\n".join(["[bytesandbrains.v1]", *rows, ""]))
        monkeypatch.setattr(sys, "path", [str(site), *path])
        importlib.invalidate_caches()

    yield install
    forget()


def rename(package: Path) -> None:
    """Give the module and the classes of a package other names, as its next release might."""
    for file in package.glob("*.py"):
        text = file.read_text()
        for old, new in RENAMED.items():
            text = text.replace(old, new)
        file.write_text(text)
    (package / "graphs.py").rename(package / "digraphs.py")


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme_graph"]:
        del sys.modules[name]


def loaded() -> set[str]:
    return {name for name in sys.modules if name.startswith("acme_graph.")}


def compiled(module: bb.Module) -> bytes:
    compiler = bb.Compiler().bind_peer_selector("peers", "static")
    if isinstance(module, Adjacent):
        compiler.bind_codec("codec", "adjacency")
    return compiler.compile(module.build()).SerializeToString()


def nodes_of(artifact: bytes, **facts) -> tuple[bb.Node, bb.Node]:
    config = {"peers": {"peers": [CLIENT]}}
    server = bb.install(SERVER, [], artifact, ["Adjacent"], config, **facts)
    return server, bb.install(CLIENT, [], artifact, ["Adjacent.client"], **facts)


def test_both_versions_are_listed_and_nothing_is_imported(publish):
    publish()

    assert {"acme.graph/1", "acme.graph/2"} <= set(installed_types())
    (row,) = [one for one in installed("type") if one.name == "acme.graph.1"]
    assert (row.distribution, row.version) == ("acme-graph-type", "1.4.0")
    assert not loaded()


def test_compiling_a_program_that_sends_a_type_imports_none_of_its_code(publish):
    publish()

    assert compiled(Adjacent())

    assert loaded() == {"acme_graph.adjacency"}  # the component that was bound


def test_graphs_travel_between_two_nodes(publish):
    publish()
    server, client = nodes_of(compiled(Adjacent()))
    from acme_graph.graphs import Graph

    graph = Graph(4, [[0, 1], [1, 2], [2, 3], [3, 0]])
    bus = bb.LocalBus(server, client)
    server.invoke("Adjacent", {"graph": graph})
    steps = [event.step for event in bus.run()]

    ((answer,),) = [step.value for step in steps if isinstance(step, bb.Emitted)]
    assert answer["matrix"].tolist() == np.roll(np.eye(4, dtype=int), 1, axis=1).tolist()
    assert isinstance(answer["graph"], Graph)
    assert answer["graph"].words.tobytes() == graph.words.tobytes()
    assert not answer["graph"].words.flags.owndata  # it reads the buffer that came in
    assert {step.how for step in steps if isinstance(step, bb.FrameEnded)} == {"done"}
    assert server.counters == client.counters == {}


def test_the_classes_may_be_renamed_because_their_names_do_not_travel(publish):
    publish()
    artifact = compiled(Adjacent())
    server, _ = nodes_of(artifact)
    from acme_graph.graphs import Graph

    server.invoke("Adjacent", {"graph": Graph(2, [[1, 0]])})
    (ship,) = [step for step in server.poll() if isinstance(step, bb.Ship)]
    publish(renamed=True)
    client = bb.install(CLIENT, [], artifact, ["Adjacent.client"])
    client.authorize(SERVER, "server")
    taken = client.receive_bytes(ship.envelope.to_bytes(), SERVER)

    assert taken is None
    assert [type(step) for step in client.poll()] == [bb.Ship, bb.FrameEnded]
    assert "acme_graph.digraphs" in sys.modules
    assert "acme_graph.graphs" not in sys.modules
    assert b"acme.graph/1" in artifact
    assert b"acme_graph" not in artifact + ship.envelope.to_bytes()


def test_versions_are_different_types(publish):
    publish()

    with pytest.raises(TypeMismatch, match=r"custom\(acme.graph/2\)") as caught:
        compiled(Adjacent("acme.graph/2"))

    assert "custom(acme.graph/1)" in str(caught.value)
    with pytest.raises(bb.BuildError, match=r"acme\.graph/2"):
        Wrapped("acme.graph/2").build()
    assert compiled(Wrapped("acme.graph/1"))


def test_sending_a_type_that_is_not_installed_does_not_compile(publish):
    publish("type.acme.graph.2", "codec.adjacency")

    with pytest.raises(NotSendable) as caught:
        compiled(Wrapped("acme.graph/1"))

    error = caught.value
    assert "acme.graph/1" in error.found
    assert "'box'" in error.found
    assert "acme.graph/2" in error.expected
    assert "did you mean 'acme.graph/2'?" in error.fix
    assert "type.acme.graph.1" in error.fix
    assert "test_third_party_type.py" in str(error)


def test_an_artifact_whose_type_is_not_installed_here_is_refused(publish):
    publish()
    artifact = compiled(Adjacent())
    publish("type.acme.graph.2", "codec.adjacency")

    with pytest.raises(UnresolvedType) as caught:
        nodes_of(artifact)

    assert "input 'graph' of Adjacent is of type acme.graph/1" in caught.value.found
    assert "no plugin provides type.acme.graph.1" in caught.value.found
    with pytest.raises(UnresolvedType, match=r"'question' is of type acme\.graph/1"):
        bb.install(CLIENT, [], artifact, ["Adjacent.client"])


def test_an_operator_decides_which_types_an_artifact_may_name(publish):
    publish()
    artifact = compiled(Adjacent())
    allowed = ["peer_selector.static", "codec.adjacency"]

    with pytest.raises(NotAllowed, match=r"plugin type.acme.graph.1 is not allowed"):
        nodes_of(artifact, allow=allowed)
    assert nodes_of(artifact, allow=[*allowed, "type.acme.graph.1"])


@pytest.mark.parametrize("given", [None, "graph", b"", 1])
def test_an_input_of_another_class_is_refused(publish, given):
    publish()
    server, _ = nodes_of(compiled(Adjacent()))

    with pytest.raises(InvalidInput) as caught:
        server.invoke("Adjacent", {"graph": given})

    assert f"is a {type(given).__name__}" in caught.value.found
    assert caught.value.expected == "custom(acme.graph/1)"


def test_what_the_codec_does_not_take_for_a_value_is_refused(publish):
    publish()
    server, _ = nodes_of(compiled(Adjacent()))
    from acme_graph.graphs import Graph, WeightedGraph

    for wrong in (Graph(0, []), WeightedGraph(Graph(1, []), [])):
        with pytest.raises(InvalidInput):
            server.invoke("Adjacent", {"graph": wrong})


def test_a_value_beyond_the_limit_of_its_type_fails_the_frame_that_sends_it(publish):
    publish()
    server, client = nodes_of(compiled(Adjacent()))
    from acme_graph.graphs import Graph

    bus = bb.LocalBus(server, client)
    server.invoke("Adjacent", {"graph": Graph(2, np.zeros((4096, 2)))})
    (failed,) = [e.step for e in bus.run() if isinstance(e.step, bb.OpFailed)]

    assert "takes 65544 bytes" in str(failed.error)
    assert "at most 65536 bytes" in str(failed.error)


def test_bytes_that_are_no_value_are_dropped_and_counted(publish):
    publish()
    server, client = nodes_of(compiled(Adjacent()))
    from acme_graph.graphs import Graph

    server.invoke("Adjacent", {"graph": Graph(2, [[0, 1]])})
    client.authorize(SERVER, "server")
    (ship,) = [step for step in server.poll() if isinstance(step, bb.Ship)]
    whole = ship.envelope.to_bytes()
    value = Graph(2, [[0, 1]]).words.tobytes()
    assert value in whole
    head = bytearray(whole.replace(value, value[:-8] + b"\x09" * 8))
    head[24:28] = zlib.crc32(bytes(head[32:])).to_bytes(4, "little")

    assert client.receive_bytes(bytes(head), SERVER) is None
    assert client.counters == {"bad_value": 1}
