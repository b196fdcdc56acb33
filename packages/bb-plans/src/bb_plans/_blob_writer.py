"""What takes a blob in pieces, and verifies it; naming what is right is the store's business."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Final, Self

from bb_ir.plan import Digest, digest_text
from bb_plans._raw import buffer_of
from bb_plans._system import PIECE, discard, mapped, write_all
from bb_plans.errors import BlobMismatch, StoreReadOnly
from bb_plans.files import Files
from bb_plans.hashing import hasher

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["BlobWriter", "flat", "mismatch"]

#: Beginning a thread for fewer bytes costs as much as it saves.
_WORTH_A_THREAD: Final = 2 << 20


class BlobWriter:
    """Takes a blob in pieces. As a context it throws away what was not sealed.

    Several threads may write pieces that do not overlap. What is written in order is hashed on the
    way, the rest when it is sealed. Made by `Store.writer`.
    """

    def __init__(
        self,
        files: Files,
        root: Path,
        path: str,
        *,
        digest: Digest,
        length: int,
        publish: Callable[[str, Digest], None],
    ) -> None:
        self.digest = digest
        self.length = length
        self._files = files
        self._root = root
        self._path = path
        self._publish = publish
        self._hasher = hasher(digest.algorithm)
        self._hashed = 0
        self._unseen = False
        self._open = False
        with mapped("making room for a blob", root):
            self._fd = self._files.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            self._open = True
            try:
                self._files.allocate(self._fd, length)
            except OSError:
                self.abort()
                raise

    def fileno(self) -> int:
        """Return the descriptor of the file, for `copy_file_range`; all is hashed when sealed.

        Raises:
            StoreReadOnly: It was sealed or aborted.
        """
        self._need_open()
        self._unseen = True
        return self._fd

    def write(self, offset: int, data: Buffer) -> None:
        """Write a piece.

        Args:
            offset: Where it begins in the blob.
            data: Its bytes, which lie one after the other.

        Raises:
            BlobMismatch: It reaches outside of the blob.
            NoRoom: The disk is full.
            StoreFailed: The disk cannot be written.
            StoreReadOnly: It was sealed or aborted.
        """
        self._need_open()
        held = flat(data)
        end = offset + held.nbytes
        if offset < 0 or end > self.length:
            raise mismatch(self.digest, f"bytes {offset} to {end} of {self.length}", self._root)
        if offset != self._hashed:
            self._unseen |= offset < self._hashed
            with mapped("writing a blob", self._root):
                write_all(self._files, self._fd, held, offset)
            return
        try:
            with mapped("writing a blob", self._root), _beside(self._hasher.update, held):
                write_all(self._files, self._fd, held, offset)
        except BaseException:
            self._unseen = True  # what was hashed may not lie in the file
            raise
        self._hashed = end

    def seal(self) -> None:
        """Verify the bytes, make them durable, and give the blob its name.

        Raises:
            BlobMismatch: They have another digest; nothing is stored.
            NoRoom: The disk is full; nothing is stored.
            StoreFailed: The disk cannot be written; nothing is stored.
            StoreReadOnly: It was sealed or aborted, or the store cannot be written to.
        """
        self._need_open()
        try:
            with mapped("storing a blob", self._root):
                self._verify()
                self._files.fsync(self._fd)
                self._publish(self._path, self.digest)
        except Exception:
            self.abort()
            raise
        self._open = False
        self._files.close(self._fd)

    def abort(self) -> None:
        """Throw away what was written; nothing happens when it was sealed or aborted."""
        if not self._open:
            return
        self._open = False
        self._files.close(self._fd)
        discard(self._files, self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    def _verify(self) -> None:
        taken, done = self._hasher, self._hashed
        if self._unseen:
            taken, done = hasher(self.digest.algorithm), 0
        while piece := self._files.pread(self._fd, PIECE, done):
            taken.update(piece)
            done += len(piece)
        found = Digest(self.digest.algorithm, taken.digest())
        if (found, done) != (self.digest, self.length):
            told = f"{done} bytes that came have {digest_text(found)}"
            raise mismatch(self.digest, told, self._root)

    def _need_open(self) -> None:
        if not self._open:
            raise StoreReadOnly(
                "the blob was sealed or aborted",
                expected="a writer that is open",
                fix="ask Store.writer for another one",
                where=str(self._root),
            )


@contextmanager
def _beside(hash_it: Callable[[memoryview], object], data: memoryview) -> Generator[None]:
    """Hash bytes while they are written: in another thread, where there are enough of them."""
    if data.nbytes < _WORTH_A_THREAD:
        yield
        hash_it(data)
        return
    thread = Thread(target=hash_it, args=(data,), name="bb-hash")
    thread.start()
    try:
        yield
    finally:  # whoever gave the bytes may change them then
        thread.join()


def mismatch(digest: Digest, told: str, root: Path) -> BlobMismatch:
    """Return the error of bytes that are not those of a digest."""
    return BlobMismatch(
        f"a blob is not what it says: {told}",
        expected=f"the bytes of {digest_text(digest)}",
        fix="fetch them again, from somebody else if they stay wrong",
        where=str(root),
    )


def flat(data: Buffer) -> memoryview:
    """Return bytes as they lie in memory."""
    view = buffer_of(data)
    if not view.c_contiguous:
        raise BlobMismatch(
            "the bytes do not lie one after the other",
            expected="a contiguous buffer",
            fix="copy it, with numpy.ascontiguousarray for an array",
        )
    return view.cast("B") if view.nbytes else memoryview(b"")
