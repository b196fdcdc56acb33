"""The store: versions of weights as content-addressed blobs, with one of them current.

    LOCK                          who writes; one process at a time
    CURRENT                       which version is current: one line with a checksum
    journal                       all such lines so far
    cas/<algorithm>/<ab>/<hex>    blobs, never changed
    versions/<root hex>/manifest  versions that are complete, as canonical JSON
    tmp/                          what is not finished, removed when the store is opened

A blob or manifest is written in `tmp`, made durable, and renamed; a version is staged when all of
its blobs and then its manifest are durable; and it becomes current when a new `CURRENT` is renamed
into the place of the old one. So whenever a process or a machine stops, the store has the old
version or the new one. The journal comes after `CURRENT` and decides nothing, as long as `CURRENT`
can be read.

All methods may be called from any thread. All that reaches the system goes through
`bb_plans.files`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from bb_ir.plan import (
    Digest,
    FileChunk,
    WeightManifest,
    to_json,
)
from bb_plans._blob_writer import BlobWriter
from bb_plans._blobs import BlobStore
from bb_plans._folders import adopt, rebuild
from bb_plans._locking import open_folder, settle_ancestors, take_lock
from bb_plans._manifests import check_manifest, digests_of
from bb_plans._state import Journal, State, parse_line
from bb_plans._system import discard, mapped, read_file, write_file
from bb_plans._version_files import VersionFiles, root_of, unknown
from bb_plans._versions import Damage, Pruned, Version
from bb_plans.errors import (
    NotAStore,
    StaleEpoch,
    StoreDamaged,
    StoreFailed,
    VersionIncomplete,
    VersionUnknown,
)
from bb_plans.files import FileFacts, Files
from bb_plans.flip import Flip, Reading

__all__ = ["BlobWriter", "Damage", "Pruned", "Store", "Version"]

_LAST_EPOCH: Final = (1 << 63) - 1
_TRIES: Final = 100


class Store(BlobStore):
    """A store of versions in a folder of its own. It is also a context that closes it.

    Opening it for writing locks it, removes what a crash left unfinished, and makes sure that what
    is current stays so when the power goes off.

    Args:
        root: The folder; made when it is not there, unless the store is opened for reading.
        files: The system calls; tests give others.
        writable: `False` for a reader beside whoever writes: it sees every commit.
        max_blob: Bytes that no blob exceeds.

    Raises:
        NoRoom: The disk is full.
        NotAStore: The folder holds other things, or there is none to read.
        StoreDamaged: Neither `CURRENT` nor the journal tells which version is current.
        StoreFailed: The system refuses something.
        StoreLocked: Somebody else writes to the store.

    Attributes:
        recovered: What was put right when it was opened, or found damaged, in words; empty after
            a clean stop.
    """

    def __init__(
        self,
        root: Path,
        *,
        files: Files | None = None,
        writable: bool = True,
        max_blob: int = 1 << 40,
    ) -> None:
        super().__init__(Path(root), files or Files(), max_blob=max_blob, writable=writable)
        self.recovered: tuple[str, ...] = ()
        self._writable = writable
        self._lock_fd = -1
        self._closed = False
        # How often blobs were removed: what was seen to be here before may be gone since.
        self._removals = 0
        self._state: State | None = None
        self._seen: FileFacts | None = None
        self._folder = VersionFiles(self._root / "versions", self._files)
        self._flip: Flip[Version] = Flip(free=self._let_go)
        # Versions whose blobs and names are known to be durable; those nobody committed yet.
        self._durable: set[Digest] = set()
        self._promised: set[Digest] = set()
        # Manifests that are about to be committed, so that commits need not read them.
        self._manifests: dict[Digest, WeightManifest] = {}
        with mapped("opening the store", self._root):
            if not writable:
                self._open_to_read()
                return
            self._open_to_write()

    # --- opening and closing

    def _open_to_write(self) -> None:
        files, root = self._files, self._root
        self._lock_fd = open_folder(files, root)
        try:
            take_lock(files, root, self._lock_fd)
            made = [files.mkdir(root / name) for name in ("cas", "versions", "tmp")]
            self._recover(fresh=all(made))
        except BaseException:
            with suppress(OSError):
                files.close(self._lock_fd)
            raise

    def _recover(self, *, fresh: bool) -> None:
        """Remove what is not finished, and find out which version is current."""
        files, root = self._files, self._root
        done: list[str] = []
        debris = files.listdir(root / "tmp")
        for name in debris:
            files.unlink(root / "tmp" / name)
        if debris:
            done.append(f"removed unfinished files: {len(debris)}")
        self._journal = Journal(root / "journal", files)
        self._state, damaged = self._read_state(self._journal)
        if damaged and self._state is not None:
            self._write_current(self._state)
            done.append("wrote CURRENT again, from the journal")
        self._journal.make()
        # A process may have been killed between a rename, or the making of the folder, and this.
        files.fsync_folder(root)
        if self._state is None:
            settle_ancestors(files, root)
        if self._state is not None and self._journal.last() != self._state:
            self._journal.append(self._state)
            done.append("wrote the journal to its end")
        self._journal.cut(self._beside())
        names = () if fresh else files.listdir(root / "versions")
        empty = sum(files.rmdir(root / "versions" / name) for name in names)
        if empty:
            done.append(f"removed versions without a manifest: {empty}")
        if self._state is not None:
            told = self._state
            self._durable.update((told.root,) if told.kept is None else (told.root, told.kept[0]))
            version = self._version(told.root, told.epoch)
            try:
                _ = version.manifest
            except (StoreDamaged, VersionUnknown):
                done.append("the manifest of the current version is damaged")
                self._durable.discard(told.root)
            self._flip.flip(version)
        self.recovered = tuple(done)

    def _open_to_read(self) -> None:
        if self._files.stat(self._root / "cas") is None:
            raise NotAStore(
                f"{self._root} is no store",
                expected="a store",
                fix="have whoever writes to it open it first",
            )
        self._refresh()

    def _read_state(self, journal: Journal | None = None) -> tuple[State | None, bool]:
        """Return the state, and whether `CURRENT` could not be read."""
        path = self._root / "CURRENT"
        data = read_file(self._files, path, limit=4096)
        state = parse_line((data or b"").decode("ascii", "replace").rstrip("\n"))
        if state is not None:
            return state, False
        journal = journal or Journal(self._root / "journal", self._files)
        last = journal.last()
        if last is None and (data is not None or journal.torn or self._files.stat(path)):
            raise StoreDamaged(
                "CURRENT cannot be read, and the journal cannot tell what was in it",
                expected="a line that the store wrote",
                fix="remove CURRENT and journal, open the store, and commit one of its versions",
                where=str(self._root),
            )
        return last, last is not None

    def close(self) -> None:
        """Close the store; its versions can still be read, nothing can be written.

        A reader stays with the version that it saw last, which whoever writes may prune then.
        """
        with self._lock:
            if self._lock_fd >= 0:
                self._files.close(self._lock_fd)
            self._lock_fd = -1
            self._closed = True
            self._refusal = self._refusal or "was closed"
            held = self._flip.value
            if held is not None and held.hold >= 0:
                # The same without its lock, which goes when the last one who reads it is done.
                self._flip.flip(self._version(held.root, held.epoch))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- reading versions

    @property
    def current(self) -> Version | None:
        """The version that is current; `None` before the first commit."""
        if not self._writable:
            self._refresh()
        return self._flip.value

    @property
    def kept(self) -> Version | None:
        """The version that `rollback` would make current; `None` when there is none."""
        if not self._writable:
            self._refresh()
        state = self._state
        if state is None or state.kept is None:
            return None
        return self._version(*state.kept)

    def reading(self) -> Reading[Version]:
        """Return a context: the version that is current, which stays whole while it is open.

        Whoever answers requests opens one for each, and reads nothing but what it gives.

        Raises:
            VersionUnknown: Nothing was ever committed.
        """
        if self.current is None:
            raise unknown("nothing is current", "stage a manifest, and commit it", self._root)
        return self._flip.reading()

    def versions(self) -> tuple[Version, ...]:
        """Return all versions that are staged, those committed last at the end.

        Raises:
            StoreFailed: The disk cannot be read.
        """
        with self._lock, mapped("reading versions", self._root):
            journal = self._journal if self._writable else None
            states = (journal or Journal(self._root / "journal", self._files)).states
            epochs = {state.root: state.epoch for state in states}
            current = self.current
            if current is not None:
                epochs[current.root] = current.epoch
            found = [self._version(root, epochs.get(root, 0)) for root in self._folder.roots()]
        return tuple(sorted(found, key=lambda one: (one.epoch, one.root.value)))

    @property
    def fence(self) -> int:
        """The largest epoch that was ever committed, 0 for none; later commits have larger ones."""
        if not self._writable:
            self._refresh()
        return 0 if self._state is None else self._state.fence

    def staged(self, root: Digest) -> bool:
        """Tell whether a version is staged; its blobs are not looked for.

        Raises:
            PlanFormatError: It is no digest.
            StoreFailed: The disk cannot be read.
        """
        with mapped("looking for a version", self._root):
            return self._files.stat(self._folder.path(root)) is not None

    def missing(self, manifest: WeightManifest) -> tuple[FileChunk, ...]:
        """Return the chunks whose bytes are not here, each digest once: what is to be fetched.

        Raises:
            ManifestUnfit: The manifest cannot be stored.
            PlanFormatError: A digest in it is none.
            StoreFailed: The disk cannot be read.
        """
        check_manifest(manifest)
        found: list[FileChunk] = []
        with mapped("looking for blobs", self._root):
            for digest, chunk in digests_of(manifest).items():
                facts = self._files.stat(self._at(digest))
                if facts is None or facts.size != chunk.length:
                    found.append(chunk)
        return tuple(found)

    # --- staging, committing, going back

    def stage(self, manifest: WeightManifest, *, deep: bool = False) -> Digest:
        """Make a version ready to be committed: all of it is here, and durable.

        Args:
            manifest: What it is made of.
            deep: Whether every blob is read and verified once more; each was when it came.

        Returns:
            The version's root: the content digest of the manifest.

        Raises:
            BlobMismatch: A blob was damaged since it came.
            ManifestUnfit: The manifest cannot be stored.
            NoRoom: The disk is full.
            PlanFormatError: A value of the manifest does not fit its field.
            StoreFailed: The disk cannot be written.
            StoreReadOnly: The store cannot be written to.
            VersionIncomplete: Chunks are missing.
        """
        self._need_writable()
        removals = self._removals
        self._need_all(manifest)
        data = to_json(manifest).encode()
        root = root_of(data)
        digests = digests_of(manifest)
        for digest in digests if deep else ():
            self._verify_blob(digest)
        with self._lock, mapped("staging a version", self._root):
            if removals != self._removals:
                self._need_all(manifest)
            self._settle(digests)
            self._folder.write(root, data, self._beside())
            self._durable.add(root)
            if self._state is None or self._state.root != root:
                self._promised.add(root)
                self._manifests[root] = manifest
            self._fresh.difference_update(digests)
        return root

    def release(self, root: Digest) -> None:
        """Allow a staged version to be pruned, as it will not be committed after all."""
        with self._lock:
            self._promised.discard(root)
            self._manifests.pop(root, None)

    def commit(self, root: Digest, epoch: int) -> Version:
        """Make a staged version current; durable, and seen by all who read, when this returns.

        The version that was current is kept, to go back to. A commit that is told twice changes
        nothing.

        Args:
            root: The version's root.
            epoch: Its epoch, larger than that of any commit before.

        Raises:
            NoRoom: The disk is full; nothing changed.
            StaleEpoch: The epoch is not larger; nothing changed.
            StoreFailed: The disk cannot be written. Unless the error says otherwise nothing
                changed.
            StoreReadOnly: The store cannot be written to.
            VersionIncomplete: Blobs were removed since the version was staged.
            VersionUnknown: It was never staged.
        """
        self._need_writable()
        with self._lock:
            state, current = self._state, self._flip.value
            if state and current and (root, epoch, epoch) == (state.root, state.epoch, state.fence):
                return current
            fence = 0 if state is None else state.fence
            if not fence < epoch <= _LAST_EPOCH:
                raise StaleEpoch(
                    f"epoch {epoch} is not after epoch {fence}",
                    expected=f"an epoch from {fence + 1} on",
                    fix="drop the commit, or ask the coordinator for the state of the group",
                    where=str(self._root),
                )
            self._need_staged(root)
            kept = state and ((state.root, state.epoch) if state.root != root else state.kept)
            return self._publish_state(State("commit", root, epoch, kept, epoch))

    def rollback(self) -> Version:
        """Make the version current again that was before the last commit.

        Epochs do not go back: a late or doubled commit of what was left is refused.

        Raises:
            NoRoom: The disk is full; nothing changed.
            StoreFailed: The disk cannot be written. Unless the error says otherwise nothing
                changed.
            StoreReadOnly: The store cannot be written to.
            VersionIncomplete: Blobs of that version are gone.
            VersionUnknown: There is none to go back to.
        """
        self._need_writable()
        with self._lock:
            state = self._state
            if state is None or state.kept is None:
                raise VersionUnknown(
                    "no version is kept",
                    expected="a version that a commit replaced: going back goes one back, and once",
                    fix="stage the version that you want again, and commit it",
                    where=str(self._root),
                )
            root, epoch = state.kept
            self._durable.discard(root)  # so that its blobs are looked for
            self._need_staged(root)
            return self._publish_state(State("rollback", root, epoch, None, state.fence))

    # --- keeping house

    def prune(self, keep: Iterable[Digest] = ()) -> Pruned:
        """Remove the versions that nobody needs, and the blobs that no version has.

        What is current, kept, read by anybody in any process, or staged and not yet committed
        stays, and so do blobs that came since the store was opened and are in no version yet.

        Args:
            keep: Roots of versions that stay as well.

        Raises:
            StoreDamaged: A manifest is not what was written, so it cannot be told which blobs are
                needed; `verify` names it.
            StoreFailed: The disk cannot be written.
            StoreReadOnly: The store cannot be written to.
        """
        self._need_writable()
        with self._lock, mapped("removing versions", self._root):
            needed = {*keep, *self._promised, *(one.root for one in self._flip.in_use())}
            if self._state is not None and self._state.kept is not None:
                needed.add(self._state.kept[0])
            gone = tuple(root for root in self._folder.roots() if root not in needed)
            gone = tuple(root for root in gone if self._folder.remove(root))
            if gone:
                self._durable.difference_update(gone)
                # Before any blob goes, or a version might come back without it.
                self._files.fsync_folder(self._root / "versions")
            used = set(self._fresh)
            for root in self._folder.roots():
                used.update(digests_of(self._folder.load(root)))
            blobs = nbytes = 0
            for digest, path in self._blobs():
                facts = None if digest in used else self._files.stat(path)
                if facts is None:
                    continue
                self._removals += 1
                self._files.unlink(path)
                blobs += 1
                nbytes += facts.size
        return Pruned(gone, blobs, nbytes)

    def verify(self, *, deep: bool = False, remove: bool = False) -> tuple[Damage, ...]:
        """Return what in the store is not what it says.

        Args:
            deep: Whether the bytes of all blobs are read and verified.
            remove: Whether damaged blobs are removed, so that they count as missing and come with
                the next plan.

        Raises:
            StoreFailed: The disk cannot be read.
            StoreReadOnly: Blobs shall be removed from a store that cannot be written to.
        """
        if remove:
            self._need_writable()
        damages: list[Damage] = []
        lengths: dict[Digest, int] = {}
        needed: dict[Digest, list[Digest]] = {}
        with self._lock, mapped("verifying the store", self._root):
            for root in self._folder.roots():
                try:
                    manifest = self._folder.load(root)
                except StoreDamaged:
                    damages.append(Damage(root, "manifest", (root,)))
                    continue
                for digest, chunk in digests_of(manifest).items():
                    needed.setdefault(digest, []).append(root)
                    lengths[digest] = chunk.length
            present = dict(self._blobs())
            for digest in {**lengths, **present}:
                found = self._wrong(digest, lengths.get(digest), deep=deep)
                if not found:
                    continue
                damages.append(Damage(digest, found, tuple(needed.get(digest, ()))))
                self._durable.difference_update(damages[-1].versions)
                if remove and found != "missing":
                    self._removals += 1
                    self._files.unlink(present[digest])
        return tuple(damages)

    def rebuild(
        self, version: Version, folder: Path, *, progress: Callable[[int], object] = lambda _: None
    ) -> None:
        """Write the files of a version into a new folder: all of them, byte by byte, or nothing.

        Args:
            version: The version.
            folder: The folder; it is not there, or empty.
            progress: Called with the bytes that are written, now and then.

        Raises:
            BlobMismatch: A blob is damaged.
            BlobMissing: A blob is not in the store.
            FolderOccupied: The folder holds something, or is none.
            ManifestUnfit: Its chunks do not cover whole files.
            NoRoom: The disk is full.
            StoreFailed: The folder cannot be written.
        """
        with mapped("writing a version's files", folder):
            rebuild(self._files, version, folder.absolute(), progress)

    def adopt(self, folder: Path, manifest: WeightManifest) -> int:
        """Take the chunks of a manifest in from a folder that has its files.

        Chunks that are here already are not read. Links are not followed.

        Returns:
            How many bytes came in.

        Raises:
            BlobMismatch: A file is not what the manifest says.
            ManifestUnfit: The manifest cannot be stored.
            NoRoom: The disk is full.
            PlanFormatError: A digest in it is none.
            StoreFailed: A file cannot be read, or the disk not written.
            StoreReadOnly: The store cannot be written to.
        """
        self._need_writable()
        with mapped("taking a folder in", folder):
            return adopt(self._files, self, folder, self.missing(manifest))

    # --- inside

    def _refresh(self) -> None:
        """See what another process committed, and keep it from being pruned."""
        with self._lock, mapped("reading which version is current", self._root):
            if self._closed:
                return
            for _ in range(_TRIES):
                facts = self._files.stat(self._root / "CURRENT")
                if facts is not None and facts == self._seen:
                    return
                state, _damaged = self._read_state()
                if state is None or state == self._state:
                    self._seen = facts
                    return
                if self._hold(state):
                    self._state, self._seen = state, facts
                    return
        raise StoreDamaged(
            "the version that CURRENT names is not here",
            expected="the manifest of the current version",
            fix="commit another version",
            where=str(self._root),
        )

    def _hold(self, state: State) -> bool:
        """Make a version current that another process committed, and lock it."""
        fd = self._folder.hold(state.root)
        if fd < 0:
            return False
        version = self._version(state.root, state.epoch)
        version.hold = fd
        self._flip.flip(version)
        return True

    def _let_go(self, version: Version) -> None:
        if version.hold >= 0:
            self._files.close(version.hold)

    def _publish_state(self, state: State) -> Version:
        """Make a state current, durably; then for readers; then tell the journal."""
        version = self._version(state.root, state.epoch)
        with mapped("making a version current", self._root):
            self._write_current(state)
        self._state = state
        self._flip.flip(version)
        self._promised.discard(state.root)
        self._manifests.pop(state.root, None)
        # What the journal lacks is put right when the store is opened.
        with suppress(OSError):
            self._journal.append(state)
        return version

    def _write_current(self, state: State) -> None:
        files, path, beside = self._files, self._root / "CURRENT", self._beside()
        try:
            write_file(files, beside, f"{state.line()}\n".encode())
            files.rename(beside, path)
        except OSError:
            discard(files, beside)
            raise
        try:
            files.fsync_folder(self._root)
        except OSError as error:
            self._refusal = "does not know whether its last commit is durable"
            raise StoreFailed(
                f"CURRENT names a new version, and the disk does not say that this is durable: "
                f"{error.strerror}",
                expected="a disk that can be written",
                fix="open the store again: it has the old version or the new one",
                where=str(self._root),
            ) from error

    def _need_all(self, manifest: WeightManifest) -> None:
        """Refuse a version of which chunks are missing."""
        missing = self.missing(manifest)
        if missing:
            named = ", ".join(repr(chunk.path[:80]) for chunk in missing[:3])
            raise VersionIncomplete(
                f"the store lacks {len(missing)} chunk{'s' * (len(missing) > 1)}, of {named}",
                expected="every chunk of the manifest",
                fix="fetch them, and stage the version again",
                where=str(self._root),
                missing=missing,
            )

    def _need_staged(self, root: Digest) -> None:
        """See to it that a version is complete and durable."""
        if root not in self._durable:
            self.stage(self._folder.load(root))

    def _version(self, root: Digest, epoch: int) -> Version:
        return Version(root, epoch, self._folder.load, self.view, self._manifests.get(root))
