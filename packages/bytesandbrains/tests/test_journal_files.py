"""Journals in files: bounded, checked, and what remains of them can be replayed."""

import errno

import numpy as np
import pytest

import bytesandbrains as bb
from bb_ir.ids import PeerId
from bb_runtime.errors import JournalDamaged
from bb_runtime.journal import Chain, Kind
from bb_runtime.replay import replay
from bb_testing.programs import CountingModel
from bytesandbrains._files import CannotWrite
from bytesandbrains.journal import FileJournal, JournalFull, read_journal

PEER = PeerId.from_seed(b"files", 0)


class Count(bb.Module):
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", "tensor(float64)[None]")
        self.model.backward(g, x)
        g.output("y", self.model.params(g))


@pytest.fixture(scope="session")
def artifact(compiled):
    return compiled(Count())


def started(artifact, folder, **options):
    journal = FileJournal(folder, **options)
    return bb.install(PEER, [], artifact, ["Count"], journal=journal), journal


def count(node, times):
    steps = []
    for _ in range(times):
        node.invoke("Count", {"x": np.ones(1)})
        steps += node.poll()
    return steps


def names(folder):
    return [path.name for path in sorted(folder.iterdir())]


def test_a_journal_is_replayed_from_its_folder(artifact, tmp_path):
    node, journal = started(artifact, tmp_path / "j")
    count(node, 3)
    journal.close()

    done = replay(read_journal(tmp_path / "j"))

    assert done.steps == 6
    assert done.facts["fingerprint"]["fingerprint"]
    assert done.node.component("model").w.tolist() == node.component("model").w.tolist()


def test_a_journal_can_be_read_while_it_is_written(artifact, tmp_path):
    node, _ = started(artifact, tmp_path / "j", fsync="never")
    count(node, 2)

    assert replay(read_journal(tmp_path / "j")).steps == 4


def test_long_journals_keep_their_end_and_stay_bounded(artifact, tmp_path):
    node, journal = started(artifact, tmp_path / "j", segment_bytes=4096, segments=3)
    count(node, 300)
    journal.close()
    kept = names(tmp_path / "j")

    done = replay(read_journal(tmp_path / "j"))

    assert len(kept) == 3
    assert kept[0] != "000001.bbj"
    assert "journal_stopped.JournalFull" not in node.counters
    assert done.node.component("model").w.tolist() == [-300.0] * 3
    assert 0 < done.steps < 600
    assert max(path.stat().st_size for path in (tmp_path / "j").iterdir()) < 40_000


def test_the_last_segment_alone_is_a_journal(artifact, tmp_path):
    node, journal = started(artifact, tmp_path / "j", segment_bytes=4096, segments=3)
    count(node, 100)
    journal.close()

    done = replay(read_journal(tmp_path / "j" / names(tmp_path / "j")[-1]))

    assert done.node.component("model").w.tolist() == [-100.0] * 3


class Unsaved(CountingModel):
    """A model that cannot save its state."""

    def save(self):
        raise RuntimeError("no state")


def test_without_snapshots_the_journal_ends_at_its_bound_and_the_node_goes_on(compiled, tmp_path):
    node, journal = started(
        compiled(Count(), model=Unsaved), tmp_path / "j", segment_bytes=4096, segments=2
    )
    steps = count(node, 300)
    journal.close()

    stops = [s for s in steps if isinstance(s, bb.Dropped)]
    assert [s.reason for s in stops] == ["journal_stopped.JournalFull"]
    assert len([s for s in steps if isinstance(s, bb.Emitted)]) == 300
    assert names(tmp_path / "j") == ["000001.bbj", "000002.bbj"]
    assert 0 < replay(read_journal(tmp_path / "j")).steps < 600


def test_what_was_not_written_to_its_end_is_cut_off_and_told(artifact, tmp_path):
    node, journal = started(artifact, tmp_path / "j")
    count(node, 2)
    journal.close()
    file = tmp_path / "j" / "000001.bbj"
    data = file.read_bytes()
    file.write_bytes(data[:-5])

    records = read_journal(tmp_path / "j")

    assert replay(records).steps == 2, "what the last call reported is not known"
    assert records.cut > 0


def test_a_torn_record_before_another_segment_is_damage(artifact, tmp_path):
    node, journal = started(artifact, tmp_path / "j", segment_bytes=1024, segments=99)
    count(node, 30)
    journal.close()
    first = tmp_path / "j" / "000001.bbj"
    first.write_bytes(first.read_bytes()[:-1])

    with pytest.raises(JournalDamaged, match=r"record \d+ of the journal is damaged"):
        list(read_journal(tmp_path / "j"))


def test_a_missing_segment_is_named(artifact, tmp_path):
    node, journal = started(artifact, tmp_path / "j", segment_bytes=1024, segments=99)
    count(node, 30)
    journal.close()
    (tmp_path / "j" / "000002.bbj").unlink()

    with pytest.raises(JournalDamaged, match=r"000003.bbj does not follow"):
        list(read_journal(tmp_path / "j"))


@pytest.mark.parametrize("at", range(40))
def test_a_changed_head_of_a_segment_is_found(artifact, tmp_path, at):
    _, journal = started(artifact, tmp_path / "j")
    journal.close()
    file = tmp_path / "j" / "000001.bbj"
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(bytes(data))

    with pytest.raises(JournalDamaged, match="is no segment of a journal"):
        list(read_journal(tmp_path / "j"))


def test_what_is_no_journal_is_an_error_that_names_those_inside(artifact, tmp_path):
    started(artifact, tmp_path / "all" / "server")
    (tmp_path / "text").write_text("no journal")

    for path, fix in [("all", "server"), ("nowhere", "check the path")]:
        with pytest.raises(JournalDamaged, match="is no journal") as raised:
            read_journal(tmp_path / path)
        assert fix in raised.value.fix
    with pytest.raises(JournalDamaged, match="is no segment"):
        list(read_journal(tmp_path / "text"))


def test_a_folder_holds_one_journal(artifact, tmp_path):
    started(artifact, tmp_path / "j")

    with pytest.raises(CannotWrite, match="holds a journal"):
        FileJournal(tmp_path / "j")


@pytest.mark.parametrize("wrong", [{"segments": 0}, {"segment_bytes": 10}, {"fsync": "often"}])
def test_bounds_that_make_no_sense_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FileJournal(tmp_path / "j", **wrong)
    assert not (tmp_path / "j").exists()


def test_a_closed_journal_takes_no_records(tmp_path):
    journal = FileJournal(tmp_path / "j")
    journal(Chain().add(Kind.INSTALL, b""))
    journal.close()
    journal.close()

    with pytest.raises(CannotWrite, match="was closed"):
        journal(Chain().add(Kind.POLL, b""))


@pytest.mark.parametrize(("fsync", "times"), [("always", 6), ("segment", 2), ("never", 0)])
def test_the_disk_is_told_when_it_is_to_be(tmp_path, monkeypatch, fsync, times):
    told = []
    journal = FileJournal(tmp_path / "j", fsync=fsync)
    monkeypatch.setattr("bytesandbrains.journal.os.fsync", told.append)
    chain = Chain()
    for _ in range(4):
        journal(chain.add(Kind.CALL, b"body"))
    journal.close()

    assert len(told) == times


def test_a_full_disk_is_an_error_that_says_so(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    journal = FileJournal(tmp_path / "j")
    monkeypatch.setattr("bytesandbrains.journal._write_all", full)

    with pytest.raises(CannotWrite, match="No space left"):
        journal(Chain().add(Kind.CALL, b"body"))


def test_what_may_not_be_dropped_fills_the_journal(tmp_path):
    journal = FileJournal(tmp_path / "j", segment_bytes=1024, segments=2)
    chain = Chain()
    journal(chain.add(Kind.INSTALL, b""))

    for _ in range(4):
        journal(chain.add(Kind.RECEIVE, bytes(900)))

    with pytest.raises(JournalFull, match="2 segments"):
        journal(chain.add(Kind.RECEIVE, bytes(900)))


def test_a_federation_writes_a_journal_for_each_of_its_nodes(tmp_path):
    from bytesandbrains.programs import FederatedAveraging

    compiler = bb.Compiler().bind_model("model", "mlp").bind_data_source("data", "digits")
    compiler.bind_peer_selector("peers", "static").bind_aggregator("aggregator", "fedavg")
    model = compiler.compile(FederatedAveraging(2).build())
    federation = bb.LocalFederation(model, nodes={"client": 2}, journals=tmp_path / "all")
    for _ in federation.rounds(2):
        pass
    federation.close()

    assert names(tmp_path / "all") == ["client-0", "client-1", "server"]
    for name in names(tmp_path / "all"):
        done = replay(read_journal(tmp_path / "all" / name))
        assert done.steps >= 2
    assert done.node.component("model").params(None) == federation.params()
