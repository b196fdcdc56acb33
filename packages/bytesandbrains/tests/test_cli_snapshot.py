"""`bb snapshot`: what is in a file, from the command line."""

import json

import pytest

import bytesandbrains as facade


@pytest.fixture
def saved(artifact, tmp_path):
    """Save a federation in the middle of a round, and one of its Nodes."""
    config = {"client.data": lambda n: {"partition": "iid", "clients": 2, "client": n}}
    federation = facade.LocalFederation(str(artifact), nodes={"client": 2}, config=config)
    next(federation.events())
    facade.save_federation(tmp_path / "all.snapshot", federation)
    facade.save_snapshot(tmp_path / "server.snapshot", federation.server)
    federation.close()
    return tmp_path


def test_a_federation_is_told_node_by_node(bb, saved):
    done = bb("snapshot", "all.snapshot")

    assert done.code == 0
    assert "3 Nodes" in done.out
    assert "its checksum is right" in done.out
    assert "on the way" in done.out
    assert done.out.count("incarnation") == 3
    assert "Mlp: " in done.out
    assert " tensors, " in done.out
    assert "in flight" in done.out


def test_json_has_all_of_it(bb, saved):
    done = bb("snapshot", "server.snapshot", "--json")

    found = json.loads(done.out)["snapshot"]
    assert (found["kind"], found["version"]) == ("node", 1)
    assert found["size"] == (saved / "server.snapshot").stat().st_size
    (node,) = found["nodes"]
    assert sum(node["frames"].values()) == 1
    assert any(one["size"] > 1000 for one in node["components"])
    assert found["written"].endswith("+00:00")


def test_what_is_damaged_or_not_there_is_an_error_of_the_input(bb, saved):
    path = saved / "server.snapshot"
    path.write_bytes(path.read_bytes()[:-1])

    done = bb("snapshot", "server.snapshot")
    assert done.code == 3
    assert "no whole snapshot" in done.err
    assert "--> server.snapshot" in done.err
    done = bb("snapshot", "gone.snapshot")
    assert done.code == 3
    assert "cannot be read" in done.err
