import errno
import importlib.util
import itertools
import os
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bb_ir.plan import (
    Digest,
    DigestAlgorithm,
    FileChunk,
    PlanFormatError,
    WeightManifest,
    content_digest,
    digest_text,
)
from bb_plans.errors import (
    BlobMismatch,
    BlobMissing,
    FolderOccupied,
    ManifestUnfit,
    NoRoom,
    NotAStore,
    StaleEpoch,
    StoreDamaged,
    StoreFailed,
    StoreLocked,
    StoreReadOnly,
    VersionIncomplete,
    VersionUnknown,
)
from bb_plans.files import Files
from bb_plans.hashing import digest_of
from bb_plans.store import Damage, Store

HERE = Path(__file__).parent
SHA256 = DigestAlgorithm.SHA256


def load(name):
    """Import a module that stands beside this file; tests are in no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


MemoryFiles = load("memory_files").MemoryFiles


def chunk(path, data, offset=0, algorithm=DigestAlgorithm.BLAKE3):
    return FileChunk(path, offset, len(data), digest=digest_of(data, algorithm))


def fill(store, version, **files):
    """Store a version and stage it; return its root."""
    for data in files.values():
        store.put(data)
    listed = tuple(chunk(path, data) for path, data in files.items())
    return store.stage(WeightManifest("demo", str(version), listed))


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store") as opened:
        yield opened


def names_below(folder):
    return sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())


# --- blobs


@pytest.mark.parametrize("algorithm", [SHA256, DigestAlgorithm.BLAKE3])
def test_a_blob_is_found_under_its_digest(store, algorithm):
    digest = store.put(b"weights", digest_of(b"weights", algorithm))

    assert store.has(digest)
    assert store.size(digest) == 7
    assert store.view(digest) == b"weights"
    assert store.view(digest).readonly
    name, _, digits = digest_text(digest).partition(":")
    assert store.path(digest) == store._root / "cas" / name / digits[:2] / digits


@pytest.mark.parametrize(
    "data",
    [b"", bytearray(b"ab"), np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((0, 3)),
     np.array(3.0), memoryview(b"abcdef")[2:]],
)  # fmt: skip
def test_any_contiguous_buffer_can_be_stored(store, data):
    assert store.view(store.put(data)) == memoryview(data).tobytes()


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "int4"])
def test_an_array_can_be_stored_whose_elements_buffers_have_no_name_for(store, dtype):
    array = np.arange(6).reshape(2, 3).astype(getattr(ml_dtypes, dtype))

    digest = store.put(array)

    assert bytes(store.view(digest)) == array.tobytes()
    assert store.put(np.asarray(array[0, 0])) == store.put(array.tobytes()[: array.itemsize])
    with pytest.raises(BlobMismatch, match="do not lie"):
        store.put(array[:, ::2])


def test_a_buffer_with_gaps_is_refused(store):
    with pytest.raises(BlobMismatch, match="one after the other"):
        store.put(np.arange(10)[::2])


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=6), st.randoms())
@settings(max_examples=60, deadline=None)
def test_pieces_in_any_order_make_a_blob(data, cuts, rng):
    store = Store(Path("/store"), files=MemoryFiles())
    ends = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [(begin, data[begin:end]) for begin, end in itertools.pairwise(ends)]
    pieces += [piece for piece in pieces if rng.random() < 0.3]
    rng.shuffle(pieces)
    digest = digest_of(data)

    with store.writer(digest, len(data)) as writer:
        for offset, piece in pieces:
            writer.write(offset, piece)
        writer.seal()

    assert store.view(digest) == data


def test_a_piece_that_is_written_over_counts_as_it_was_last(store):
    digest = digest_of(b"abcdef")
    with store.writer(digest, 6) as writer:
        writer.write(0, b"xxxdef")
        writer.write(0, b"abc")
        writer.seal()
    assert store.view(digest) == b"abcdef"


def test_what_the_system_copies_is_verified(store, tmp_path):
    (tmp_path / "source").write_bytes(b"..weights")
    source = os.open(tmp_path / "source", os.O_RDONLY)
    digest = digest_of(b"weights")
    with store.writer(digest, 7) as writer:
        assert Files().copy_file_range(source, writer.fileno(), 7, 2, 0) == 7
        writer.seal()
    with store.writer(digest_of(b"WEIGHTS"), 7) as writer:
        writer.write(0, b"WEIGHTS")
        Files().copy_file_range(source, writer.fileno(), 7, 2, 0)
        with pytest.raises(BlobMismatch):
            writer.seal()
    os.close(source)

    assert store.view(digest) == b"weights"
    assert not store.has(digest_of(b"WEIGHTS"))


def test_h15_a_flipped_byte_is_found_and_nothing_is_stored(store):
    digest = digest_of(b"weights")

    with pytest.raises(BlobMismatch, match="7 bytes that came have blake3:"):
        store.put(b"weighty", digest)
    with store.writer(digest, 7) as writer:
        writer.write(0, b"weighty")
        with pytest.raises(BlobMismatch, match="7 bytes that came have blake3:"):
            writer.seal()

    assert not store.has(digest)
    assert names_below(store._root) == ["LOCK", "journal"]


def test_h15_holds_when_asserts_are_off(tmp_path):
    program = """
import sys
from pathlib import Path
from bb_ir.plan import FileChunk, WeightManifest
from bb_plans.errors import BlobMismatch
from bb_plans.hashing import digest_of
from bb_plans.store import Store
store = Store(Path(sys.argv[1]))
digest = store.put(b"weights")
manifest = WeightManifest("demo", "1", (FileChunk("w", 0, 7, digest=digest),))
path = store.path(digest)
path.write_bytes(b"weighty")
for attempt in (lambda: store.stage(manifest, deep=True), lambda: store.put(b"x", digest)):
    try:
        attempt()
    except BlobMismatch as error:
        print(error.found[:26])
print(store.current, store.versions())
"""
    done = subprocess.run(
        [sys.executable, "-O", "-c", program, str(tmp_path / "s")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout.splitlines() == ["a blob is not what it says"] * 2 + ["None ()"]


def test_a_blob_that_is_too_short_is_refused_and_pieces_outside_of_it(store):
    with store.writer(digest_of(b"weights"), 7) as writer:
        for offset, data in ((5, b"abc"), (-1, b"a"), (8, b"")):
            with pytest.raises(BlobMismatch, match="of 7"):
                writer.write(offset, data)
        writer.write(0, b"weight")
        with pytest.raises(BlobMismatch):
            writer.seal()
    with pytest.raises(StoreReadOnly, match="sealed or aborted"):
        writer.write(0, b"")
    with pytest.raises(StoreReadOnly):
        writer.seal()
    writer.abort()


def test_what_is_not_sealed_is_thrown_away(store):
    with store.writer(digest_of(b"weights"), 7) as writer:
        writer.write(0, b"weights")
        assert len(names_below(store._root / "tmp")) == 1

    assert names_below(store._root / "tmp") == []
    assert not store.has(digest_of(b"weights"))


def test_a_missing_blob_is_told(store):
    digest = digest_of(b"nowhere")
    assert not store.has(digest)
    for ask in (store.view, store.size):
        with pytest.raises(BlobMissing, match=digest_text(digest)):
            ask(digest)


@pytest.mark.parametrize(
    "digest",
    [Digest(), Digest(DigestAlgorithm.BLAKE3, b"short"), Digest(SHA256, b"../../../etc" * 4)],
)
def test_paths_are_made_of_digests_only(store, digest):
    for ask in (store.path, store.has, store.view, lambda one: store.put(b"", one)):
        with pytest.raises(PlanFormatError):
            ask(digest)


@pytest.mark.parametrize("length", [-1, 1 << 41, 1 << 90])
def test_absurd_sizes_are_refused_before_anything_is_written(store, length):
    with pytest.raises(NoRoom, match=f"a blob of {length} bytes"):
        store.writer(digest_of(b""), length)
    assert names_below(store._root) == ["LOCK", "journal"]


def test_a_blob_that_does_not_fit_on_the_disk_is_refused_first():
    files = MemoryFiles()
    store = Store(Path("/store"), files=files)
    files.room = (1 << 20) + 5

    with pytest.raises(NoRoom, match="6 bytes, and 1048581 are free"):
        store.put(b"123456")
    assert not any(name == "pwrite" for name, _ in files.calls[-3:])
    assert store.has(store.put(b"12345"))


def test_a_blob_that_is_here_is_not_written_again():
    files = MemoryFiles()
    store = Store(Path("/store"), files=files)
    store.put(b"weights")
    before = len(files.calls)

    store.put(b"weights")

    assert {name for name, _ in files.calls[before:]} <= {"stat"}


def test_threads_store_and_one_prunes(store):
    """What is stored, by whoever, can be staged, whatever is pruned meanwhile."""
    data = [b"%d" % number * 50 for number in range(60)]
    failed, done = [], Event()

    def put(shift):
        try:
            for one in data[shift:] + data[:shift]:
                store.put(one)
        except Exception as error:  # noqa: BLE001  # whatever it is, the test shows it
            failed.append(error)

    def prune():
        while not done.is_set():
            store.prune()

    threads = [Thread(target=put, args=(shift,)) for shift in (0, 20, 40)]
    pruner = Thread(target=prune)
    for thread in (*threads, pruner):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    pruner.join()

    assert failed == []
    chunks = tuple(chunk(str(index), one) for index, one in enumerate(data))
    store.commit(store.stage(WeightManifest("demo", "1", chunks), deep=True), 1)
    assert store.verify(deep=True) == ()


# --- versions


def test_a_version_is_staged_committed_and_read(store):
    root = fill(store, 1, embedding=b"12345", head=b"weights")
    assert root == content_digest(store.versions()[0].manifest)
    assert (store.current, store.fence, store.staged(root)) == (None, 0, True)

    version = store.commit(root, 1)

    assert store.current == version
    assert (version.root, version.epoch, version.manifest.version) == (root, 1, "1")
    with store.reading() as read:
        assert [bytes(read.view(one)) for one in read.manifest.files] == [b"12345", b"weights"]
    assert digest_text(root) in repr(version)
    assert (store._root / "CURRENT").read_text().startswith("bb-store-1 commit root=sha256:")


def test_a_version_that_lacks_chunks_is_not_staged(store):
    store.put(b"there")
    manifest = WeightManifest(
        "demo", "1", (chunk("a", b"there"), chunk("b", b"absent"), chunk("c", b"absent"))
    )

    with pytest.raises(VersionIncomplete, match="the store lacks 1 chunk, of 'b'") as told:
        store.stage(manifest)

    assert told.value.missing == store.missing(manifest) == (chunk("b", b"absent"),)
    assert store.versions() == ()


def test_a_commit_needs_a_staged_version(store):
    for root in (digest_of(b"x"), digest_of(b"x", SHA256)):
        assert not store.staged(root)
        with pytest.raises(VersionUnknown, match="is not staged"):
            store.commit(root, 1)
    with pytest.raises(VersionUnknown, match="nothing is current"):
        store.reading()
    with pytest.raises(VersionUnknown, match="no version is kept"):
        store.rollback()


def test_epochs_only_grow(store):
    one, two = fill(store, 1, w=b"1"), fill(store, 2, w=b"2")
    store.commit(one, 3)
    told = (store._root / "CURRENT").read_bytes()

    for root, epoch in ((two, 3), (two, 2), (one, 2), (two, 0), (two, -1), (two, 1 << 63)):
        with pytest.raises(StaleEpoch, match=f"epoch {epoch} is not after epoch 3"):
            store.commit(root, epoch)
    assert store.commit(one, 3) is store.current, "told twice"

    assert (store._root / "CURRENT").read_bytes() == told
    assert store.commit(two, 7).epoch == store.fence == 7


def test_going_back_is_one_step_and_epochs_stay(store):
    one, two, three = (fill(store, version, w=b"%d" % version) for version in (1, 2, 3))
    store.commit(one, 1)
    store.commit(two, 2)

    version = store.rollback()

    assert (version.root, version.epoch, store.fence) == (one, 1, 2)
    with pytest.raises(StaleEpoch):
        store.commit(two, 2)  # it is late
    with pytest.raises(VersionUnknown):
        store.rollback()
    store.commit(three, 3)
    assert store.rollback().root == one
    assert store.commit(two, 4).root == two


def test_a_version_that_is_committed_again_keeps_what_was_before_it(store):
    one, two = fill(store, 1, w=b"1"), fill(store, 2, w=b"2")
    store.commit(one, 1)
    store.commit(two, 2)
    store.commit(two, 3)

    assert store.rollback().root == one


def test_a_store_is_the_same_when_it_is_opened_again(store, tmp_path):
    one, two = fill(store, 1, w=b"1"), fill(store, 2, w=b"2")
    staged = fill(store, 3, w=b"3")
    store.commit(one, 1)
    store.commit(two, 2)
    store.close()

    with Store(tmp_path / "store") as again:
        assert again.recovered == ()
        assert (again.current.root, again.current.epoch, again.fence) == (two, 2, 2)
        assert [(one.root, one.epoch) for one in again.versions()] == [
            (staged, 0), (one, 1), (two, 2)
        ]  # fmt: skip
        assert again.rollback().root == one
        assert again.commit(staged, 3).manifest.version == "3"


def test_a_version_that_lost_a_blob_since_it_was_staged_is_not_committed(store, tmp_path):
    one, two = fill(store, 1, w=b"1"), fill(store, 2, w=b"2")
    store.commit(one, 1)
    store.close()
    store.path(digest_of(b"2")).unlink()

    with Store(tmp_path / "store") as again:
        with pytest.raises(VersionIncomplete, match="'w'"):
            again.commit(two, 2)
        assert again.current.root == one
        again.put(b"2")
        again.commit(two, 2)
        again.path(digest_of(b"1")).unlink()
        with pytest.raises(VersionIncomplete):
            again.rollback()
        assert again.current.root == two


def test_a_commit_takes_three_syncs():
    files = MemoryFiles()
    store = Store(Path("/store"), files=files)
    root = fill(store, 1, w=b"1")
    before = len(files.calls)

    store.commit(root, 1)

    names = [name for name, _ in files.calls[before:]]
    assert names.count("fsync") == 2, "CURRENT and the journal"
    assert names.count("fsync_folder") == 1
    assert len(names) < 20


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ((chunk("../w", b"1"),), "leaves|empty part"),
        ((chunk("/etc/passwd", b"1"),), "root of the system"),
        ((FileChunk("w", 0, 1),), "no digest"),
        ((chunk("w", b"1"), chunk("w", b"2")), "in two chunks"),
        ((chunk("w", b"123"), chunk("w", b"456", 2)), "from 2 on are in two chunks"),
        ((chunk("w", b"1"), FileChunk("v", 0, 2, digest=digest_of(b"1"))), "1 and 2"),
        ((FileChunk("w", 1 << 63, 1, digest=digest_of(b"1")),), "reaches past"),
    ],
)
def test_a_manifest_that_names_bytes_wrongly_is_refused(store, files, match):
    for data in (b"1", b"2", b"123", b"456"):
        store.put(data)
    with pytest.raises(ManifestUnfit, match=match):
        store.stage(WeightManifest("demo", "1", files))
    assert store.versions() == ()


def test_a_manifest_with_nothing_in_it_is_a_version(store, tmp_path):
    root = store.stage(WeightManifest("demo", "0"))
    store.rebuild(store.commit(root, 1), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


# --- readers


def test_a_reader_keeps_its_version_through_commits_and_pruning(store):
    one, two, three = (fill(store, version, w=b"%d" % version) for version in (1, 2, 3))
    store.commit(one, 1)
    with store.reading() as read:
        store.commit(two, 2)
        store.commit(three, 3)
        assert store.prune().versions == ()
        assert (read.epoch, bytes(read.view(read.manifest.files[0]))) == (1, b"1")
        assert store.current.epoch == 3
    assert store.prune().versions == (one,)


def test_readers_in_threads_see_no_mixture(store):
    """T8: every answer is of one version, while versions come and go and are pruned."""
    count, mixed, answers, stop = 12, [], [], Event()
    roots = []
    for version in (1, 2, 3):
        files = {f"layer{index}": b"%d of %d" % (index, version) for index in range(8)}
        roots.append(fill(store, version, **files))
    store.commit(roots[0], 1)

    def read():
        while not stop.is_set():
            with store.reading() as version:
                label = version.manifest.version.encode()
                found = {bytes(version.view(one))[-1:] for one in version.manifest.files}
                (answers if found == {label} else mixed).append(version.epoch)

    readers = [Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for epoch in range(2, count + 2):
        store.commit(roots[epoch % 3], epoch)
        store.prune(keep=roots)
    stop.set()
    for reader in readers:
        reader.join()

    assert mixed == []
    assert answers


def test_readers_beside_the_writer_see_every_commit(store, tmp_path):
    one, two, three = (fill(store, version, w=b"%d" % version) for version in (1, 2, 3))
    reader = Store(tmp_path / "store", writable=False)
    assert (reader.current, reader.fence) == (None, 0)

    store.commit(one, 1)
    assert (reader.current.epoch, reader.fence) == (1, 1)
    with reader.reading() as read:
        store.commit(two, 2)
        store.commit(three, 3)
        assert reader.current.epoch == 3
        assert store.prune().versions == (), "somebody reads it"
        assert bytes(read.view(read.manifest.files[0])) == b"1"
    assert store.prune().versions == (one,)
    assert [version.epoch for version in reader.versions()] == [2, 3]


def test_a_reader_writes_nothing(store, tmp_path):
    root = fill(store, 1, w=b"1")
    version = store.commit(root, 1)
    reader = Store(tmp_path / "store", writable=False)
    for attempt in (
        lambda: reader.put(b"2"), lambda: reader.writer(digest_of(b"2"), 1),
        lambda: reader.stage(version.manifest), lambda: reader.commit(root, 2),
        reader.rollback, reader.prune, lambda: reader.verify(remove=True),
        lambda: reader.adopt(tmp_path, version.manifest),
    ):  # fmt: skip
        with pytest.raises(StoreReadOnly, match="opened for reading"):
            attempt()
    assert reader.verify(deep=True) == ()
    reader.rebuild(reader.current, tmp_path / "out")
    assert (tmp_path / "out" / "w").read_bytes() == b"1"


def test_a_closed_store_is_read_and_not_written(store):
    store.commit(fill(store, 1, w=b"1"), 1)
    store.close()
    store.close()

    with store.reading() as read:
        assert bytes(read.view(read.manifest.files[0])) == b"1"
    with pytest.raises(StoreReadOnly, match="was closed"):
        store.put(b"2")


class CountedFiles(Files):
    """Counts how often files of a name are opened."""

    def __init__(self, name):
        self.name, self.opened = name, 0

    def open(self, path, flags, mode=0o644):
        self.opened += Path(path).name == self.name
        return super().open(path, flags, mode)


def test_a_reader_reads_again_only_what_was_written_again(store, tmp_path):
    store.commit(fill(store, 1, w=b"1"), 1)
    files = CountedFiles("CURRENT")
    with Store(tmp_path / "store", files=files, writable=False) as reader:
        # The same bytes, as a store writes that was damaged and is opened again.
        os.utime(tmp_path / "store" / "CURRENT", ns=(1, 1))
        before = files.opened

        for _ in range(3):
            assert reader.current.epoch == 1

        assert files.opened == before + 1


def test_a_reader_that_is_closed_holds_nothing(store, tmp_path):
    roots = [fill(store, version, w=b"%d" % version) for version in (1, 2, 3)]
    store.commit(roots[0], 1)
    reader = Store(tmp_path / "store", writable=False)
    before = len([*Path("/proc/self/fd").iterdir()])
    for _ in range(3):
        with Store(tmp_path / "store", writable=False) as other:
            assert other.current.epoch == 1
    assert len([*Path("/proc/self/fd").iterdir()]) == before

    with reader.reading() as read:
        reader.close()
        store.commit(roots[1], 2)
        store.commit(roots[2], 3)
        assert store.prune().versions == (), "it is still read"
        assert bytes(read.view(read.manifest.files[0])) == b"1"
    assert reader.current.epoch == 1, "what it saw last"
    assert store.prune().versions == (roots[0],)
    reader.close()


# --- opening


def test_there_is_one_writer(store, tmp_path):
    with pytest.raises(StoreLocked, match=f"process {os.getpid()} writes") as told:
        Store(tmp_path / "store")
    assert told.value.holder == os.getpid()
    assert store.has(store.put(b"still here"))

    program = """
import sys
from pathlib import Path
from bb_plans.errors import StoreLocked
from bb_plans.store import Store
try:
    Store(Path(sys.argv[1]))
except StoreLocked as error:
    print(error.holder)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "store")]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"%d\n" % os.getpid()
    store.close()
    assert subprocess.run(command, capture_output=True, check=True).stdout == b""


def test_a_folder_with_other_things_is_no_store(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotAStore, match=r"a folder with 'file' in it"):
        Store(tmp_path)
    with pytest.raises(NotAStore, match="is no folder"):
        Store(tmp_path / "file")
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(NotAStore, match="is no store"):
            Store(folder, writable=False)
    assert names_below(tmp_path) == ["file", "thesis.tex"]


def test_folders_on_the_way_are_made_and_others_in_a_store_do_no_harm(tmp_path):
    root = tmp_path / "a" / "b"
    with Store(root) as store:
        store.commit(fill(store, 1, w=b"1"), 1)
        (root / "notes.txt").write_text("mine")
        (root / "cas" / "blake3" / "README").write_text("mine")
        (root / "versions" / "README").write_text("mine")
    with Store(root) as store:
        assert store.current.epoch == 1
        assert store.verify(deep=True) == ()
        store.prune()
    assert (root / "versions" / "README").exists()


def test_errors_of_the_system_are_ours(tmp_path):
    files = MemoryFiles(fail_at=1, error=errno.EACCES)
    with pytest.raises(StoreFailed, match="opening the store failed: Permission denied"):
        Store(Path("/store"), files=files)


@pytest.mark.parametrize("damage", [b"", b"bb-store-1 nothing", None, b"\xff" * 5000])
def test_a_damaged_current_is_read_from_the_journal(store, tmp_path, damage):
    one, two = fill(store, 1, w=b"1"), fill(store, 2, w=b"2")
    store.commit(one, 1)
    store.commit(two, 5)
    store.close()
    current = tmp_path / "store" / "CURRENT"
    current.unlink()
    if damage is not None:
        current.write_bytes(damage)
    assert Store(tmp_path / "store", writable=False).current.epoch == 5

    with Store(tmp_path / "store") as again:
        assert again.recovered == ("wrote CURRENT again, from the journal",)
        assert (again.current.root, again.current.epoch, again.fence) == (two, 5, 5)
        assert again.rollback().root == one
    with Store(tmp_path / "store") as again:
        assert again.recovered == ()
        assert again.current.root == one


def test_a_changed_byte_of_current_is_found_wherever_it_is(store, tmp_path):
    store.commit(fill(store, 1, w=b"1"), 1)
    store.close()
    current = tmp_path / "store" / "CURRENT"
    told = current.read_bytes()
    for index in range(0, len(told) - 1, 5):
        changed = bytearray(told)
        changed[index] ^= 4
        current.write_bytes(changed)
        with Store(tmp_path / "store") as again:
            assert again.recovered == ("wrote CURRENT again, from the journal",)
        assert current.read_bytes() == told


def test_nothing_is_guessed_when_the_journal_is_damaged_too(store, tmp_path):
    root = fill(store, 1, w=b"1")
    store.commit(root, 1)
    store.close()
    for name in ("CURRENT", "journal"):
        (tmp_path / "store" / name).write_bytes(b"zeros?")

    for writable in (True, False):
        with pytest.raises(StoreDamaged, match="journal cannot tell"):
            Store(tmp_path / "store", writable=writable)
    for name in ("CURRENT", "journal"):
        (tmp_path / "store" / name).unlink()
    with Store(tmp_path / "store") as again:
        assert again.current is None
        assert again.commit(root, 1).manifest.version == "1"


def test_a_torn_journal_is_written_over(store, tmp_path):
    one, two = fill(store, 1, w=b"1"), fill(store, 2, w=b"2")
    store.commit(one, 1)
    journal = tmp_path / "store" / "journal"
    line = journal.read_bytes()
    store.commit(two, 2)
    store.close()
    journal.write_bytes(line + b"bb-store-1 commit root=sha256:12" + b"\0" * 999)

    with Store(tmp_path / "store") as again:
        assert again.recovered == ("wrote the journal to its end",)
    assert [b"epoch=1" in one for one in journal.read_bytes().splitlines()] == [True, False]
    with Store(tmp_path / "store") as again:
        assert again.recovered == ()


def test_a_long_journal_is_cut(store, tmp_path, monkeypatch):
    monkeypatch.setattr("bb_plans._state._LONGEST", 4000)
    monkeypatch.setattr("bb_plans._state._KEPT_LINES", 5)
    roots = [fill(store, 1, w=b"1"), fill(store, 2, w=b"2")]
    for epoch in range(1, 31):
        store.commit(roots[epoch % 2], epoch)
    store.close()
    journal = tmp_path / "store" / "journal"
    assert journal.stat().st_size > 4000

    Store(tmp_path / "store").close()

    assert journal.read_text().count("\n") == 5
    with Store(tmp_path / "store") as again:
        assert again.recovered == ()
        assert {one.epoch for one in again.versions()} == {29, 30}


def test_a_damaged_manifest_is_found(store, tmp_path):
    root = fill(store, 1, w=b"1")
    other = fill(store, 2, w=b"2")
    store.commit(root, 1)
    path = tmp_path / "store" / "versions" / root.value.hex() / "manifest"
    path.write_bytes(path.read_bytes().replace(b"demo", b"Demo"))

    assert store.verify() == (Damage(root, "manifest", (root,)),)
    with pytest.raises(StoreDamaged, match="not what was written"):
        store.prune()
    manifest = store.current.manifest
    store.close()

    with Store(tmp_path / "store") as again:
        assert again.recovered == ("the manifest of the current version is damaged",)
        with pytest.raises(StoreDamaged, match=digest_text(root)), again.reading() as read:
            _ = read.manifest
        assert again.stage(manifest) == root
        with again.reading() as read:
            assert read.manifest == manifest
        assert again.verify(deep=True) == ()
        assert again.commit(other, 2).manifest.version == "2"
    with Store(tmp_path / "store") as again:
        assert again.recovered == ()


# --- keeping house


def test_pruning_keeps_what_is_needed(store, tmp_path):
    roots = [fill(store, version, w=b"%d" % version, all=b"shared") for version in range(6)]
    for epoch, root in enumerate(roots[:5], 1):
        store.commit(root, epoch)
    loose = store.put(b"on its way")

    pruned = store.prune(keep=[roots[0]])

    assert (set(pruned.versions), pruned.blobs, pruned.nbytes) == ({roots[1], roots[2]}, 2, 2)
    left = {one.root for one in store.versions()}
    assert left == {roots[0], roots[3], roots[4], roots[5]}
    assert store.has(loose)
    assert store.verify(deep=True) == ()
    assert store.prune().versions == (roots[0],)
    store.release(roots[5])
    assert store.prune().versions == (roots[5],)
    store.close()
    with Store(tmp_path / "store") as again:
        assert again.prune() == ((), 1, 10), "of what came before, only versions stay"
        assert {one.root for one in again.versions()} == {roots[3], roots[4]}
        assert again.rollback().root == roots[3]


def test_damaged_blobs_are_named_and_can_be_removed(store):
    one = fill(store, 1, a=b"aaa", b=b"bbb", c=b"ccc")
    two = fill(store, 2, a=b"aaa")
    loose = store.put(b"loose")
    store.commit(one, 1)
    short, flipped, gone = (digest_of(data) for data in (b"aaa", b"bbb", b"ccc"))
    store.path(short).write_bytes(b"a")
    store.path(flipped).write_bytes(b"bbB")
    store.path(gone).unlink()
    store.path(loose).write_bytes(b"LOOSE")

    lengths = {Damage(short, "length", tuple(sorted((one, two), key=lambda root: root.value)))}
    missing = {Damage(gone, "missing", (one,))}
    bytes_ = {Damage(flipped, "bytes", (one,)), Damage(loose, "bytes", ())}
    assert set(store.verify()) == lengths | missing
    assert set(store.verify(deep=True, remove=True)) == lengths | missing | bytes_

    with pytest.raises(BlobMissing), store.reading() as read:
        read.view(read.manifest.files[0])
    manifest = store.current.manifest
    assert {found.path for found in store.missing(manifest)} == {"a", "b", "c"}
    for data in (b"aaa", b"bbb", b"ccc"):
        store.put(data)
    assert store.verify(deep=True) == ()


def test_a_version_whose_blob_was_found_damaged_is_not_committed(store):
    store.commit(fill(store, 1, w=b"1"), 1)
    root = fill(store, 2, w=b"22")
    store.path(digest_of(b"22")).write_bytes(b"2!")

    store.verify(deep=True, remove=True)

    with pytest.raises(VersionIncomplete, match="'w'"):
        store.commit(root, 2)
    assert store.current.epoch == 1
    store.put(b"22")
    assert store.commit(root, 2).root == root


class Folders(Files):
    """Tells which folders were made durable; one cannot be."""

    def __init__(self, bad=""):
        self.bad, self.done = str(bad), []

    def fsync_folder(self, path):
        if str(path) == self.bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().fsync_folder(path)
        self.done.append(str(path))


@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_folders_are_all_made_durable_or_it_is_told(tmp_path, count):
    folders = [str(tmp_path / str(number)) for number in range(count)]
    for folder in folders:
        Path(folder).mkdir()
    files = Folders()
    files.fsync_folders(folders)
    assert sorted(files.done) == sorted(folders)

    for bad in folders[:1] + folders[-1:]:
        files = Folders(bad)
        with pytest.raises(OSError, match="Input/output error"):
            files.fsync_folders(folders)
        assert len(files.done) == count - 1


def test_folder_that_could_not_be_made_durable_is_tried_again(tmp_path):
    files = Folders()
    with Store(tmp_path / "store", files=files) as store:
        made = WeightManifest("demo", "1", tuple(chunk(f"w{n}", b"%d" % n) for n in range(6)))
        for one in made.files:
            with store.writer(one.digest, one.length) as writer:
                writer.write(0, one.path[1:].encode())
                writer.seal()
        files.bad = str(store.path(made.files[3].digest).parent)
        with pytest.raises(StoreFailed):
            store.stage(made)
        files.bad = ""
        files.done.clear()
        store.stage(made)

    wanted = {str(store.path(one.digest).parent) for one in made.files}
    assert wanted <= {*files.done}


class FullOnce(Files):
    """Has no room for the second half of a write, once."""

    full = False

    def pwrite(self, fd, data, offset):
        if not self.full:
            return super().pwrite(fd, data, offset)
        if offset == 0:
            return super().pwrite(fd, data[: len(data) // 2], offset)
        self.full = False
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("length", [1000, 5 << 20])
def test_what_found_no_room_can_be_written_again(tmp_path, length):
    data, disk = np.random.default_rng(0).bytes(length), FullOnce()
    with (
        Store(tmp_path / "store", files=disk) as store,
        store.writer(digest_of(data), length) as writer,
    ):
        disk.full = True
        with pytest.raises(NoRoom):
            writer.write(0, data)
        writer.write(0, data[: length // 3])
        writer.write(length // 3, data[length // 3 :])
        writer.seal()

        assert bytes(store.view(digest_of(data))) == data


@pytest.mark.parametrize("length", [1000, 5 << 20])
def test_bytes_may_be_changed_when_they_are_written(store, length):
    data = np.random.default_rng(1).integers(0, 256, length, np.uint8)
    digest = digest_of(data)
    with store.writer(digest, length) as writer:
        writer.write(0, data.data)
        data[:] = 0
        writer.seal()

    assert digest_of(store.view(digest)) == digest


def test_folders_of_blobs_that_somebody_removed_are_made_again(store):
    store.put(b"weights")
    folder = store.path(digest_of(b"weights")).parent
    store.path(digest_of(b"weights")).unlink()
    folder.rmdir()

    with pytest.raises(StoreFailed):
        store.put(b"weights")
    store.put(b"weights")

    assert bytes(store.view(digest_of(b"weights"))) == b"weights"


class BetweenFiles(Files):
    """Does something once, after a blob was looked for."""

    then = None

    def stat(self, path):
        found = super().stat(path)
        if self.then is not None and "/cas/" in str(path):
            then, self.then = self.then, None
            then()
        return found


def test_a_version_is_not_staged_whose_blob_was_pruned_meanwhile(tmp_path):
    files = BetweenFiles()
    with Store(tmp_path / "store", files=files) as store:
        for epoch in (1, 2, 3):
            store.commit(fill(store, epoch, w=b"%d" % epoch), epoch)
        again = WeightManifest("demo", "4", (chunk("w", b"1"),))

        files.then = store.prune
        with pytest.raises(VersionIncomplete) as told:
            store.stage(again)

        assert told.value.missing == again.files
        store.put(b"1")
        assert store.commit(store.stage(again), 4).manifest == again


def test_a_short_blob_is_not_handed_to_readers_and_comes_again(store):
    store.commit(fill(store, 1, w=b"weights"), 1)
    store.path(digest_of(b"weights")).write_bytes(b"wei")

    with pytest.raises(BlobMismatch, match="'w' has 3 bytes"), store.reading() as read:
        read.view(read.manifest.files[0])
    store.put(b"weights")
    assert store.verify(deep=True) == ()


# --- folders


def test_a_folder_comes_in_and_goes_out_byte_by_byte(store, tmp_path):
    source = tmp_path / "in"
    data = np.random.default_rng(3).bytes(10_000_000)
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep" / "er" / "w.bin").write_bytes(data)
    (source / "a name").write_bytes(b"small")
    (source / "empty").write_bytes(b"")
    manifest = WeightManifest("demo", "1", (
        chunk("deep/er/w.bin", data[6_000_000:], 6_000_000),
        chunk("deep/er/w.bin", data[:6_000_000], algorithm=SHA256),
        chunk("a name", b"small"), chunk("empty", b""),
    ))  # fmt: skip

    assert store.adopt(source, manifest) == 10_000_005
    assert store.adopt(source, manifest) == 0
    version = store.commit(store.stage(manifest), 1)
    (tmp_path / "out").mkdir()
    done = []
    store.rebuild(version, tmp_path / "out", progress=done.append)

    assert done == sorted({*done})
    assert (len(done) > 3, done[-1]) == (True, 10_000_005)
    assert names_below(tmp_path / "out") == names_below(source)
    for name in names_below(source):
        assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_a_folder_that_is_not_what_its_manifest_says_is_refused(store, tmp_path):
    manifest = WeightManifest("demo", "1", (chunk("w", b"weights"),))
    for data in (b"weighty", b"weigh"):
        (tmp_path / "w").write_bytes(data)
        with pytest.raises(BlobMismatch, match="'w' is not what the manifest says"):
            store.adopt(tmp_path, manifest)
    (tmp_path / "w").unlink()
    with pytest.raises(StoreFailed, match="No such file"):
        store.adopt(tmp_path, manifest)
    (tmp_path / "secret").write_bytes(b"weights")
    (tmp_path / "w").symlink_to(tmp_path / "secret")
    with pytest.raises(StoreFailed, match="symbolic links"):
        store.adopt(tmp_path, manifest)
    with pytest.raises(ManifestUnfit):
        store.adopt(tmp_path, WeightManifest("demo", "1", (chunk("../w", b"weights"),)))
    assert store.missing(manifest) == manifest.files


def test_a_link_in_the_middle_of_a_path_is_not_followed(store, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "w").write_bytes(b"weights")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreFailed):
        store.adopt(tmp_path / "in", WeightManifest("demo", "1", (chunk("sub/w", b"weights"),)))


def test_a_pipe_is_not_waited_for(store, tmp_path):
    os.mkfifo(tmp_path / "w")
    with pytest.raises(StoreFailed):
        store.adopt(tmp_path, WeightManifest("demo", "1", (chunk("w", b"weights"),)))


def test_a_folder_is_written_as_a_whole_or_not_at_all(store, tmp_path):
    version = store.commit(fill(store, 1, a=b"aaa", b=b"bbb"), 1)
    out = tmp_path / "out"
    store.path(digest_of(b"bbb")).write_bytes(b"bbB")

    with pytest.raises(BlobMismatch, match="'b' was damaged"):
        store.rebuild(version, out)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["store"]

    store.verify(deep=True, remove=True)
    with pytest.raises(BlobMissing):
        store.rebuild(version, out)
    store.put(b"bbb")
    out.mkdir()
    (out / "mine").write_text("")
    with pytest.raises(FolderOccupied, match="there already"):
        store.rebuild(version, out)
    (out / "mine").unlink()
    (tmp_path / ".out.partial").mkdir()
    with pytest.raises(FolderOccupied, match="broken off"):
        store.rebuild(version, out)
    (tmp_path / ".out.partial").rmdir()
    store.rebuild(version, out)
    assert names_below(out) == ["a", "b"]


def test_whatever_breaks_a_rebuild_off_leaves_nothing(store, tmp_path):
    version = store.commit(fill(store, 1, a=b"aaa", b=b"bbb"), 1)

    def stop(nbytes):
        raise RuntimeError(f"after {nbytes} bytes")

    with pytest.raises(RuntimeError, match="after 3 bytes"):
        store.rebuild(version, tmp_path / "out", progress=stop)

    assert sorted(one.name for one in tmp_path.iterdir()) == ["store"]


def test_a_version_is_written_into_the_folder_that_one_is_in(store, tmp_path, monkeypatch):
    version = store.commit(fill(store, 1, a=b"aaa"), 1)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    store.rebuild(version, Path())

    assert (tmp_path / "here" / "a").read_bytes() == b"aaa"


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ((chunk("w", b"1", 5),), "bytes 0 to 5 of 'w' are in no chunk"),
        ((chunk("w", b"1"), chunk("w", b"2", 3)), "bytes 1 to 3"),
        ((chunk("w", b"1"), chunk("w/v", b"2")), "'w' is a file, and the folder of 'w/v'"),
    ],
)
def test_a_manifest_that_does_not_cover_files_is_not_written_back(store, tmp_path, files, match):
    store.put(b"1")
    store.put(b"2")
    version = store.commit(store.stage(WeightManifest("demo", "1", files)), 1)
    with pytest.raises(ManifestUnfit, match=match):
        store.rebuild(version, tmp_path / "out")
    assert not (tmp_path / "out").exists()
