"""Journals stay in their bounds, and whatever happens to their files, what is read is what was."""

import errno
import itertools
import os
import shutil
import stat
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bb_ir.errors import BytesAndBrainsError
from bb_runtime.errors import JournalDamaged
from bb_runtime.journal import Chain, Kind
from bytesandbrains import journal as journals
from bytesandbrains._files import CannotWrite
from bytesandbrains.journal import FileJournal, JournalFull, read_journal

BOUND = 1024


class Writer:
    """Writes records as a Node does: a snapshot when it is asked for one, and one is possible."""

    def __init__(self, folder, **options):
        self.folder = folder
        self.journal = FileJournal(folder, **{"segment_bytes": BOUND, "fsync": "never", **options})
        self.chain = Chain()
        self.written = []
        self.put(Kind.INSTALL, b"made of")
        self.put(Kind.ARTIFACT, b"artifact")

    def put(self, kind, body):
        wanted = self.journal.write_parts(self.chain.parts(kind, body))
        self.written.append((self.chain.number, kind, body))
        return wanted

    def call(self, size, *, snapshot=True):
        """Write a call, and begin anew if that is wanted and possible."""
        if self.put(Kind.CALL, bytes((self.chain.number % 251,)) * size) and snapshot:
            for kind in (Kind.INSTALL, Kind.ARTIFACT, Kind.SNAPSHOT):
                self.put(kind, kind.name.encode() * 10)


def read(folder):
    records = read_journal(folder)
    return [(one.number, one.kind, bytes(one.body)) for one in records], records


def size_of(folder):
    return sum(path.stat().st_size for path in folder.iterdir())


def rolled(folder, calls=60, **options):
    """A journal that has dropped segments and writes over their files; it is not closed."""
    writer = Writer(folder, segments=2, **options)
    for number in range(calls):
        writer.call(100 + number % 70)
    return writer


@settings(max_examples=60, deadline=None)
@given(
    calls=st.lists(st.tuples(st.integers(0, 3000), st.booleans()), max_size=60),
    segments=st.integers(1, 4),
    closes=st.booleans(),
)
def test_whatever_is_written_it_stays_bounded_and_its_end_can_be_replayed(
    tmp_path_factory, calls, segments, closes
):
    folder = tmp_path_factory.mktemp("bounds") / "j"
    writer = Writer(folder, segments=segments)
    full = False
    for size, snapshot in calls:
        try:
            writer.call(size, snapshot=snapshot)
        except JournalFull:
            full = True
            break
        # A segment of twice the bound, or one record and what a segment begins with.
        assert len(list(folder.iterdir())) <= segments + 1
        assert size_of(folder) <= (segments + 1) * (2 * BOUND + 3000 + 52 + 500)
    if closes:
        writer.journal.close()
        assert len(list(folder.iterdir())) <= segments

    found, records = read(folder)

    assert found == writer.written[-len(found) :]
    assert records.cut == 0
    kinds = [kind for _, kind, _ in found[:3]]
    assert kinds[:2] == [Kind.INSTALL, Kind.ARTIFACT]
    assert found[0][0] == 1 or kinds[2] == Kind.SNAPSHOT
    assert full or found[-1] == writer.written[-1]


def test_nothing_is_dropped_before_what_takes_its_place_is_whole(tmp_path):
    """Whenever the process ends, the journal begins with all that a replay needs."""
    folder = tmp_path / "j"
    writer = Writer(folder, segments=1)
    while not writer.put(Kind.CALL, bytes(200)):
        pass

    for kind in (Kind.INSTALL, Kind.ARTIFACT):
        writer.put(kind, b"again")
        assert read(folder)[0] == writer.written, "the old segment is still needed"
    writer.put(Kind.SNAPSHOT, b"state")

    assert [kind for _, kind, _ in read(folder)[0]] == [Kind.INSTALL, Kind.ARTIFACT, Kind.SNAPSHOT]
    assert [path.name for path in sorted(folder.iterdir())] == ["000002.bbj", "spare.tmp"]


def test_the_disk_keeps_a_snapshot_before_what_was_before_it_is_dropped(tmp_path, monkeypatch):
    told = []
    real, rename = os.fsync, journals.Path.rename
    monkeypatch.setattr(journals.os, "fsync", lambda fd: (told.append("kept"), real(fd)))
    monkeypatch.setattr(
        journals.Path, "rename", lambda *args: (told.append("dropped"), rename(*args))[1]
    )
    writer = Writer(tmp_path / "j", segments=1, fsync="segment")
    while not writer.put(Kind.CALL, bytes(200)):
        pass
    for kind in (Kind.INSTALL, Kind.ARTIFACT, Kind.SNAPSHOT):
        del told[:]
        writer.put(kind, b"again")

    assert told == ["kept", "dropped"]


# Files that are written over


def test_a_file_is_written_over_and_cut_to_its_length_at_its_end(tmp_path):
    writer = rolled(tmp_path / "j")
    inodes = {path.stat().st_ino for path in (tmp_path / "j").iterdir()}

    found, records = read(tmp_path / "j")
    writer.journal.close()
    closed, _ = read(tmp_path / "j")

    assert found == closed == writer.written[-len(found) :]
    assert records.cut == 0
    assert len(inodes) == 3
    assert not (tmp_path / "j" / "spare.tmp").exists()
    total = sum(52 + len(body) for _, _, body in closed)
    assert size_of(tmp_path / "j") == total + 40 * len(list((tmp_path / "j").iterdir()))


def test_a_record_that_was_torn_among_leftovers_is_cut_off_at_any_byte(tmp_path):
    """The end of the last record is replaced by what stood in the file before."""
    writer = rolled(tmp_path / "j", calls=57)
    last = max((tmp_path / "j").glob("*.bbj"))
    before = last.read_bytes()
    writer.call(150, snapshot=False)
    after = last.read_bytes()
    start = next(at for at, (a, b) in enumerate(zip(before, after, strict=False)) if a != b)
    assert len(before) == len(after), "it is written into leftovers"

    cuts = set()
    for length in range(150 + 52):
        last.write_bytes(after[: start + length] + before[start + length :])
        found, records = read(tmp_path / "j")
        assert found == writer.written[-1 - len(found) : -1]
        cuts.add(records.cut)

    assert cuts <= {0, 52, 150 + 52}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_files_that_are_damaged_give_a_typed_error_or_the_beginning(tmp_path_factory, data):
    """Never another error, never something that was not written, and nothing is left out."""
    source = tmp_path_factory.getbasetemp() / "fuzzed"
    if not source.exists():
        rolled(source)
    writer = rolled(tmp_path_factory.mktemp("again") / "j")
    folder = tmp_path_factory.mktemp("copy") / "j"
    shutil.copytree(source, folder)
    whole, _ = read(folder)
    assert whole == writer.written[-len(whole) :]
    path = data.draw(st.sampled_from(sorted(folder.glob("*.bbj"))))
    raw = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    how = data.draw(st.sampled_from(["flip", "cut", "zero", "insert", "random"]))
    if how == "flip":
        raw[at] ^= data.draw(st.integers(1, 255))
    elif how == "cut":
        del raw[at:]
    elif how == "zero":
        raw[at:] = bytes(len(raw) - at)
    elif how == "insert":
        raw[at:at] = data.draw(st.binary(min_size=1, max_size=60))
    else:
        raw[at : at + 60] = data.draw(st.binary(min_size=60, max_size=60))
    path.write_bytes(bytes(raw))

    found = []
    try:
        found.extend((r.number, r.kind, bytes(r.body)) for r in read_journal(folder))
        ended = True
    except JournalDamaged:
        ended = False

    assert found == whole[: len(found)]
    if ended and how == "flip":
        assert len(found) >= len(whole) - 1


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=4000), head=st.booleans())
def test_any_file_is_a_journal_or_a_typed_error(tmp_path_factory, data, head):
    folder = tmp_path_factory.mktemp("any")
    journal = FileJournal(folder / "j", fsync="never")
    journal(Chain().add(Kind.INSTALL, b""))
    journal.close()
    file = folder / "j" / "000001.bbj"
    file.write_bytes((file.read_bytes() if head else b"") + data)

    try:
        found, _ = read(folder / "j")
    except JournalDamaged:
        return
    assert found == [(1, Kind.INSTALL, b"")]


def test_no_more_is_read_at_once_than_a_record(tmp_path):
    writer = Writer(tmp_path / "j", segment_bytes=8 << 20)
    for _ in range(60):
        writer.put(Kind.RECEIVE, bytes(100_000))
    del writer.written[:]
    writer.journal.close()

    tracemalloc.start()
    try:
        count = sum(1 for _ in read_journal(tmp_path / "j"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert count == 62
    assert peak < 500_000


# Whole segments that are not as they were


def test_a_missing_first_segment_leaves_what_begins_with_a_snapshot(tmp_path):
    writer = rolled(tmp_path / "j")
    writer.journal.close()
    first, second = sorted((tmp_path / "j").iterdir())
    first.unlink()

    found, _ = read(tmp_path / "j")

    assert found == writer.written[-len(found) :]
    assert found[0][1] == Kind.INSTALL
    assert second.exists()


def test_segments_are_read_by_their_numbers_and_not_as_words(tmp_path):
    writer = Writer(tmp_path / "j", segments=99)
    writer.journal._number = 999_998
    for _ in range(40):
        writer.call(200, snapshot=False)
    writer.journal.close()
    (tmp_path / "j" / "000001.bbj").unlink()

    names = [path.name for path in journals.segments_in(tmp_path / "j")]

    assert names[0] == "999999.bbj"
    assert names[1] == "1000000.bbj"
    found, _ = read(tmp_path / "j")
    assert found == writer.written[-len(found) :]


@pytest.mark.parametrize("swap", [True, False])
def test_segments_of_others_and_in_another_order_are_named(tmp_path, swap):
    paths = []
    for name in "ab":
        writer = Writer(tmp_path / name, segments=9)
        for number in range(30):
            writer.call(200 + (name == "b") + number % 3, snapshot=False)
        writer.journal.close()
        paths.append(sorted((tmp_path / name).iterdir()))
    if swap:
        paths[0][1].rename(tmp_path / "held")
        paths[0][2].rename(paths[0][1])
        (tmp_path / "held").rename(paths[0][2])
    else:
        shutil.copy(paths[1][1], paths[0][1])

    with pytest.raises(JournalDamaged, match=r"000002.bbj does not follow the segment before it"):
        read(tmp_path / "a")


def test_a_segment_that_was_being_made_ends_the_journal(tmp_path):
    writer = rolled(tmp_path / "j")
    last = writer.journal._number
    writer.journal.close()
    for rest in (b"", b"BBJ1\x02", bytes(40), bytes(100)):
        (tmp_path / "j" / f"{last + 1:06}.bbj").write_bytes(rest)
        found, records = read(tmp_path / "j")
        assert found[-1] == writer.written[-1]
        assert records.cut == len(rest)


def test_a_segment_that_is_dropped_while_it_is_read_is_told_as_that(tmp_path):
    writer = rolled(tmp_path / "j")
    reading = iter(read_journal(tmp_path / "j"))
    next(reading)
    for _ in range(40):
        writer.call(400)

    with pytest.raises(JournalDamaged, match="cannot be read") as raised:
        list(reading)
    assert "dropped it meanwhile" in raised.value.fix


# Who writes


def test_two_journals_in_one_folder_are_told_apart(tmp_path):
    one, two, three = (FileJournal(tmp_path / "j") for _ in range(3))
    chain = Chain()
    records = [chain.add(Kind.INSTALL, b"one"), chain.add(Kind.CALL, b"more")]
    one(records[0])

    for other in (two, three):
        with pytest.raises(CannotWrite, match="another journal is there") as raised:
            other(Chain().add(Kind.INSTALL, b"other"))
        assert "another Node writes" in raised.value.fix
        with pytest.raises(CannotWrite, match="could not be written to"):
            other(Chain().add(Kind.INSTALL, b"other"))
    one(records[1])

    assert [body for _, _, body in read(tmp_path / "j")[0]] == [b"one", b"more"]


def test_only_the_owner_may_read_what_nodes_were_sent(tmp_path):
    rolled(tmp_path / "j")

    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "j").iterdir()}
    assert modes == {0o600}


@pytest.mark.parametrize("taken", [0, 1, 51, 52, 60, 251])
def test_a_full_disk_ends_the_journal_after_its_last_whole_record(tmp_path, monkeypatch, taken):
    writer = Writer(tmp_path / "j")
    writer.call(10)

    def little(fd, parts, at):
        whole = b"".join(parts)
        os.pwrite(fd, whole[:taken], at)
        if taken < len(whole):
            monkeypatch.setattr(journals, "_PWRITEV", full)
        return taken

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journals, "_PWRITEV", little if taken else full)
    with pytest.raises(CannotWrite, match="No space left on device") as raised:
        writer.put(Kind.CALL, bytes(200))
    assert "make room on the disk" in raised.value.fix
    monkeypatch.undo()
    with pytest.raises(CannotWrite, match="could not be written to"):
        writer.put(Kind.CALL, b"more")

    found, records = read(tmp_path / "j")
    assert found == writer.written
    assert records.cut == 0


@pytest.mark.parametrize("at_once", [1, 7, 100])
@pytest.mark.parametrize("place", [True, False])
def test_a_system_that_takes_little_at_once_gets_all(tmp_path, monkeypatch, at_once, place):
    def little(fd, parts, at):
        return os.pwrite(fd, b"".join(parts)[:at_once], at)

    monkeypatch.setattr(journals, "_PWRITEV", little if place else None)
    writer = rolled(tmp_path / "j", calls=20)
    writer.put(Kind.RECEIVE, bytes(range(256)) * 100)

    found, _ = read(tmp_path / "j")
    assert found == writer.written[-len(found) :]


@pytest.mark.parametrize("name", ["truncate", "fsync"])
def test_a_disk_that_fails_at_the_end_is_an_error_that_says_so(tmp_path, monkeypatch, name):
    writer = rolled(tmp_path / "j", fsync="segment")

    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    if name == "fsync":
        monkeypatch.setattr(journals.os, "fsync", broken)
    else:
        real = writer.journal._file

        class Broken:
            truncate = broken
            close = staticmethod(real.close)

        writer.journal._file = Broken()
    with pytest.raises(CannotWrite, match="Input/output error"):
        writer.journal.close()
    writer.journal.close()


def test_a_journal_that_may_not_be_read_is_a_typed_error(tmp_path, monkeypatch):
    rolled(tmp_path / "j").journal.close()

    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    for method in ("open", "stat"):
        with monkeypatch.context() as patched:
            patched.setattr(journals.Path, method, refused)
            with pytest.raises(JournalDamaged, match="cannot be read: Permission denied"):
                list(read_journal(tmp_path / "j"))


@pytest.mark.parametrize("gone", ["spare.tmp", "folder"])
def test_files_that_somebody_takes_away_are_typed_errors(tmp_path, gone):
    writer = rolled(tmp_path / "j")
    if gone == "folder":
        shutil.rmtree(tmp_path / "j")
    else:
        (tmp_path / "j" / gone).unlink()

    def forever():
        for _ in itertools.count():
            writer.call(300)

    if gone == "folder":
        with pytest.raises(BytesAndBrainsError, match="No such file"):
            forever()
        return
    for _ in range(50):
        writer.call(300)
    found, _ = read(tmp_path / "j")
    assert found == writer.written[-len(found) :]
