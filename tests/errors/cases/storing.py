"""Stores of versions, and commits of groups.

What a store refuses, and what it finds when somebody else changed its files. What is current stays
current in all of these.
"""

from pathlib import Path

from bb_ir.plan import FileChunk, WeightManifest
from bb_plans.hashing import digest_of
from bb_plans.store import Store


def manifest(version, path="w", data=b"weights"):
    return WeightManifest("demo", version, (FileChunk(path, 0, len(data), digest=digest_of(data)),))


store = Store(Path("store"))
store.put(b"weights")
root = store.stage(manifest("1"))
version = store.commit(root, 1)


# %% BlobMismatch: 5 bytes that came have blake3:
store.put(b"other", digest_of(b"weights"))


# %% BlobMissing: blake3:; is not in the store
store.view(digest_of(b"never stored"))


# %% CommitMisuse: quorum of 3 in a group of 2
from bb_plans.commit import Coordinator

Coordinator("phones", ["ada", "bob"], quorum=3, within_ns=10**9)


# %% FolderOccupied: store is there already
store.rebuild(version, Path("store"))


# %% ManifestUnfit: '../w'
store.stage(manifest("2", path="../w"))


# %% NoRoom: 1125899906842624 bytes
store.writer(digest_of(b"huge"), 2**50)


# %% NotAStore: 'thesis.tex'
Path("home").mkdir()
Path("home/thesis.tex").write_text("...")
Store(Path("home"))


# %% RecordDamaged: not what was written
from bb_plans.commit import Coordinator

coordinator = Coordinator("phones", ["ada", "bob"], within_ns=10**9)
record = coordinator.begin(root, now_ns=0).record
coordinator.restore(record[:-10], now_ns=0)


# %% StaleEpoch: epoch 1 is not after epoch 2
store.commit(root, 2)
store.put(b"heights")
store.commit(store.stage(manifest("2", data=b"heights")), 1)


# %% StoreDamaged: CURRENT cannot be read
store.close()
for name in ("CURRENT", "journal"):
    Path("store", name).write_text("what was this for?")
Store(Path("store"))


# %% StoreFailed: No such file or directory
store.adopt(Path("no-such-folder"), manifest("2", data=b"heights"))


# %% StoreLocked: process 4711 writes
Path("store/LOCK").write_text("4711")  # as another process would
Store(Path("store"))


# %% StoreReadOnly: opened for reading
Store(Path("store"), writable=False).put(b"heights")


# %% VersionIncomplete: lacks 1 chunk; 'head'
store.stage(manifest("2", path="head", data=b"heights"))


# %% VersionUnknown: no version is kept
store.rollback()
