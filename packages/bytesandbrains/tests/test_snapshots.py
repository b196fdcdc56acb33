"""Snapshots as files: whole or not at all, private, and refused when they are something else."""

import os
import stat

import numpy as np
import pytest

import bytesandbrains as bb
from bytesandbrains import _files


class Echo(bb.Module):
    def body(self, g):
        g.output("same", g.input("x", "tensor(float32)[3]"))


@pytest.fixture(scope="module")
def artifact():
    return bb.load_artifact(bb.Compiler().compile(Echo().build()))


@pytest.fixture
def node(artifact):
    return bb.install(bb.PeerId.from_seed(0), [], artifact, ["Echo"])


def test_a_file_brings_a_node_back(artifact, node, tmp_path):
    path = tmp_path / "node.snapshot"
    node.invoke("Echo", {"x": np.ones(3, np.float32)})
    bb.save_snapshot(path, node)
    assert path.read_bytes() == node.snapshot()
    assert [one.name for one in tmp_path.iterdir()] == ["node.snapshot"]
    other = bb.install(bb.PeerId.from_seed(0), [], artifact, ["Echo"])
    bb.load_snapshot(str(path), other)
    assert [step.value.tolist() for step in other.poll() if isinstance(step, bb.Emitted)] == [
        [1] * 3
    ]
    crashed = bb.install(bb.PeerId.from_seed(0), [], artifact, ["Echo"], incarnation=2)
    bb.load_snapshot(path, crashed, clean=False)
    assert [step.how for step in crashed.poll()] == ["interrupted"]


@pytest.mark.skipif(os.name == "nt", reason="permissions are others there")
def test_only_the_owner_may_read_it(node, tmp_path):
    path = tmp_path / "node.snapshot"
    bb.save_snapshot(path, node)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_failure_leaves_the_file_that_was_there(node, tmp_path, monkeypatch):
    path = tmp_path / "node.snapshot"
    bb.save_snapshot(path, node)
    before = path.read_bytes()
    node.advance(5)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_files.os, "fsync", full)
    with pytest.raises(_files.CannotWrite, match="No space left"):
        bb.save_snapshot(path, node)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_file_and_folder_are_on_the_disk_before_it_returns(node, tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(_files.os, "fsync", lambda handle: synced.append(os.fstat(handle).st_mode))
    bb.save_snapshot(tmp_path / "node.snapshot", node)
    assert [stat.S_ISDIR(mode) for mode in synced] == (
        [False] if os.name == "nt" else [False, True]
    )


def test_what_cannot_be_read_is_refused(node, tmp_path):
    before = node.snapshot()
    with pytest.raises(bb.SnapshotError, match=r"gone\.snapshot' cannot be read"):
        bb.load_snapshot(tmp_path / "gone.snapshot", node)
    (tmp_path / "torn.snapshot").write_bytes(before[:-1])
    with pytest.raises(bb.SnapshotError, match="no whole snapshot"):
        bb.load_snapshot(tmp_path / "torn.snapshot", node)
    assert node.snapshot() == before


class Greets(bb.Module):
    def bootstrap(self, g):
        g.output("hello", g.scalar(1))

    def body(self, g):
        g.output("same", g.input("x", "tensor(float32)[3]"))


@pytest.fixture
def federation():
    artifact = bb.load_artifact(bb.Compiler().compile(Greets().build()))
    return lambda: bb.LocalFederation(artifact)


def begun(federation):
    """How often the bootstrap has run."""
    ended = [one for one in federation.server.metrics() if one.name == "bb_frames_ended_total"]
    return sum(one.value for one in ended if one.labels["target"] == "Greets.bootstrap")


def test_a_federation_that_goes_on_does_not_begin_again(federation, tmp_path):
    x = {"x": np.ones(3, np.float32)}
    fresh, first = federation(), federation()
    first.run(x)
    saved = {"fresh": fresh, "ran": first, "bus": first.bus}
    for name, one in saved.items():
        bb.save_federation(tmp_path / name, one)
    for name in saved:
        other = federation()
        bb.load_federation(tmp_path / name, other)
        assert other.frame == (first.frame if name == "ran" else None)
        assert begun(other) == (name != "fresh")
        assert other.run(x)["same"].tolist() == [1, 1, 1]
        assert begun(other) == 1


def test_the_file_of_a_node_is_no_federation(federation, node, tmp_path):
    path = tmp_path / "node.snapshot"
    bb.save_snapshot(path, node)
    made = federation()
    with pytest.raises(bb.SnapshotError, match="of a whole Node") as caught:
        bb.load_federation(path, made)
    assert caught.value.where[0] == str(path)
    with pytest.raises(bb.SnapshotError, match=r"gone' cannot be read"):
        bb.load_federation(tmp_path / "gone", made.bus)
    bb.save_federation(path, made.bus)
    with pytest.raises(bb.SnapshotError, match=r"of a whole bus\n  --> .*node\.snapshot\n"):
        bb.load_snapshot(path, node)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 or os.name == "nt"
