"""Blobs: bytes under their digest, each a file that is never changed.

A blob is written beside, verified, made durable, and only then given its name, so a name in `cas`
means that the bytes are right, whenever the power went off. That names themselves are durable is
seen to for many blobs at once, when a version that needs them is staged.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Lock, RLock
from typing import TYPE_CHECKING, Final

from bb_ir.plan import Digest, PlanFormatError, digest_text, parse_digest
from bb_plans._blob_writer import BlobWriter, flat, mismatch
from bb_plans._system import PIECE, mapped
from bb_plans.errors import BlobMissing, NoRoom, StoreReadOnly
from bb_plans.files import Files
from bb_plans.hashing import digest_of, hasher

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["BlobStore"]

#: Bytes that stay free on the disk, for what the store writes about itself.
_SPARE: Final = 1 << 20


class BlobStore:
    """The part of a store that holds blobs. Its methods may be called from any thread.

    Args:
        root: The store's folder.
        files: The system calls.
        max_blob: Bytes that no blob exceeds.
        writable: Whether this object may change anything.
    """

    def __init__(self, root: Path, files: Files, *, max_blob: int, writable: bool) -> None:
        self._root = root
        self._cas, self._tmp = str(root / "cas"), str(root / "tmp")
        self._files = files
        self._max_blob = max_blob
        self._refusal = "" if writable else "was opened for reading"
        self._lock = RLock()
        self._settling = Lock()
        self._names = itertools.count()
        # Folders that are there, so that they are not made again for each blob.
        self._made: set[str] = set()
        # Folders whose names were made durable since the last name came in.
        self._settled: set[str] = set()
        # Blobs that came since the store was opened and belong to no version yet.
        self._fresh: set[Digest] = set()

    # --- reading

    def path(self, digest: Digest) -> Path:
        """Return where a blob is, or would be.

        Raises:
            PlanFormatError: It is no digest.
        """
        return Path(self._at(digest))

    def has(self, digest: Digest) -> bool:
        """Tell whether the bytes of a digest are here: verified when they came, and durable.

        Raises:
            PlanFormatError: It is no digest.
            StoreFailed: The disk cannot be read.
        """
        with mapped("looking for a blob", self._root):
            return self._files.stat(self._at(digest)) is not None

    def size(self, digest: Digest) -> int:
        """Return how many bytes a blob has.

        Raises:
            BlobMissing: It is not here.
            PlanFormatError: It is no digest.
            StoreFailed: The disk cannot be read.
        """
        with mapped("looking for a blob", self._root):
            facts = self._files.stat(self._at(digest))
        if facts is None:
            raise self._missing(digest)
        return facts.size

    def view(self, digest: Digest) -> memoryview:
        """Return the bytes of a blob without reading them; they cannot be changed.

        The view stays good when the blob is removed. Bytes are not verified again:
        `verify(deep=True)` of the store does that.

        Raises:
            BlobMissing: It is not here.
            PlanFormatError: It is no digest.
            StoreFailed: The disk cannot be read.
        """
        with mapped("reading a blob", self._root):
            try:
                fd = self._files.open(self._at(digest), os.O_RDONLY)
            except FileNotFoundError:
                raise self._missing(digest) from None
            try:
                return self._files.map(fd, self._files.facts(fd).size)
            finally:
                self._files.close(fd)

    # --- writing

    def put(self, data: Buffer, digest: Digest | None = None) -> Digest:
        """Store a blob; it is durable when this returns. One that is here is not written again.

        Args:
            data: Its bytes, which lie one after the other.
            digest: What they must have; computed with BLAKE3 when absent.

        Raises:
            BlobMismatch: The bytes have another digest.
            NoRoom: They do not fit on the disk, or in any blob.
            PlanFormatError: `digest` is none.
            StoreFailed: The disk cannot be written.
            StoreReadOnly: The store cannot be written to.
        """
        self._need_writable()
        held = flat(data)
        known = digest is None
        if digest is None:
            digest = digest_of(held)
        self.path(digest)
        with self._lock:
            self._fresh.add(digest)
            present = self.has(digest) and self.size(digest) == held.nbytes
        if present and not known and (found := digest_of(held, digest.algorithm)) != digest:
            told = f"{held.nbytes} bytes that came have {digest_text(found)}"
            raise mismatch(digest, told, self._root)
        if not present:
            with self.writer(digest, held.nbytes) as writer:
                writer.write(0, held)
                writer.seal()
        with mapped("storing a blob", self._root):
            self._settle((digest,))
        return digest

    def writer(self, digest: Digest, length: int) -> BlobWriter:
        """Return what takes a blob in pieces, in any order; room for it is reserved.

        Args:
            digest: What its bytes will have.
            length: How many bytes it will have.

        Raises:
            NoRoom: It does not fit on the disk, or in any blob.
            PlanFormatError: It is no digest.
            StoreFailed: The disk cannot be written.
            StoreReadOnly: The store cannot be written to.
        """
        self._need_writable()
        self.path(digest)
        self._need_room(length)
        return BlobWriter(
            self._files, self._root, self._beside(), digest=digest, length=length,
            publish=self._publish,
        )  # fmt: skip

    def _need_writable(self) -> None:
        if self._refusal:
            raise StoreReadOnly(
                f"the store {self._refusal}",
                expected="a store that can be written to",
                fix="open it with Store(folder), when nobody else writes to it",
                where=str(self._root),
            )

    def _need_room(self, length: int) -> None:
        if not 0 <= length <= self._max_blob:
            raise NoRoom(
                f"a blob of {length} bytes",
                expected=f"0 to {self._max_blob} bytes",
                fix="store it in chunks, or open the store with a larger max_blob",
                where=str(self._root),
            )
        with mapped("looking for room", self._root):
            free = self._files.free(self._root)
        if length + _SPARE > free:
            raise NoRoom(
                f"a blob of {length} bytes, and {free} are free",
                expected=f"{_SPARE} bytes more than the blob",
                fix="make room, with Store.prune for one",
                where=str(self._root),
            )

    def _missing(self, digest: Digest) -> BlobMissing:
        return BlobMissing(
            f"{digest_text(digest)} is not in the store",
            expected="a blob that was stored",
            fix="fetch it, and store it with Store.put or Store.writer",
            where=str(self._root),
        )

    # --- what writers and versions need

    def _blobs(self) -> Iterator[tuple[Digest, str]]:
        """Yield the digests of all blobs, and their files."""
        for algorithm in self._files.listdir(self._cas):
            for start in self._files.listdir(f"{self._cas}/{algorithm}"):
                folder = f"{self._cas}/{algorithm}/{start}"
                for name in self._files.listdir(folder):
                    try:
                        digest = parse_digest(f"{algorithm}:{name}")
                    except PlanFormatError:
                        continue  # whatever it is, it is not ours
                    yield digest, f"{folder}/{name}"

    def _wrong(self, digest: Digest, length: int | None, *, deep: bool) -> str:
        """Return what is wrong with a blob; an empty text for nothing."""
        facts = self._files.stat(self._at(digest))
        if facts is None:
            return "missing"
        if length not in (None, facts.size):
            return "length"
        return "bytes" if deep and self._computed(digest) != digest else ""

    def _computed(self, digest: Digest) -> Digest:
        """Return the digest that the bytes of a blob have by now."""
        taken = hasher(digest.algorithm)
        view = self.view(digest)
        for begin in range(0, view.nbytes, PIECE):
            taken.update(view[begin : begin + PIECE])
        return Digest(digest.algorithm, taken.digest())

    def _verify_blob(self, digest: Digest) -> None:
        found = self._computed(digest)
        if found != digest:
            raise mismatch(digest, f"what is stored has {digest_text(found)}", self._root)

    def _beside(self) -> str:
        """Return a new path for what is not finished."""
        return f"{self._tmp}/{next(self._names)}"

    def _publish(self, beside: str, digest: Digest) -> None:
        """Give a verified, durable file its name."""
        self._need_writable()
        path = self._at(digest)
        folders = _folders(path)
        with self._lock:
            self._fresh.add(digest)
            for outer, folder in itertools.pairwise(folders):
                if folder not in self._made and self._files.mkdir(folder):
                    self._settled.discard(outer)
                self._made.add(folder)
        try:
            self._files.rename(beside, path)
        except FileNotFoundError:  # somebody removed a folder; it is made again the next time
            self._made.clear()
            raise
        # Only now: another thread may have settled the folder just before.
        self._settled.discard(folders[-1])

    def _settle(self, digests: Iterable[Digest]) -> None:
        """Make the names of blobs durable, and those of the folders that they are in."""
        wanted: dict[str, None] = {}
        for digest in digests:
            wanted.update(dict.fromkeys(_folders(self._at(digest))))
        with self._settling:
            folders = [folder for folder in wanted if folder not in self._settled]
            # First of all: what comes in while this waits is not settled by it.
            self._settled.update(folders)
            try:
                self._files.fsync_folders(folders)
            except BaseException:
                self._settled.difference_update(folders)
                raise

    def _at(self, digest: Digest) -> str:
        """Return where a blob is; a text, as very many are looked for."""
        algorithm, _, digits = digest_text(digest).partition(":")
        return f"{self._cas}/{algorithm}/{digits[:2]}/{digits}"


def _folders(path: str) -> tuple[str, str, str]:
    """Return the folders of a blob, the outermost first: `cas`, the algorithm, the first byte."""
    inner = path.rpartition("/")[0]
    middle = inner.rpartition("/")[0]
    return middle.rpartition("/")[0], middle, inner
