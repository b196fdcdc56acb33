"""The store's edge to the system: errors become ours here, and files are written whole.

Nothing here knows what is stored.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bb_plans.errors import NoRoom, StoreError, StoreFailed
from bb_plans.files import AnyPath, Files

__all__ = ["PIECE", "discard", "mapped", "read_file", "write_all", "write_file"]

#: Bytes that are read or written at a time: enough for a disk, little for memory.
PIECE: Final = 4 << 20
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def mapped(doing: str, where: Path) -> Generator[None]:
    """Turn errors of the system into those of the store.

    Args:
        doing: What is done, as in "`storing a blob` failed".
        where: The store's folder.
    """
    try:
        yield
    except OSError as error:
        told = error.strerror or str(error)
        if error.errno in _FULL:
            raise NoRoom(
                f"{doing} failed: {told}",
                expected="room on the disk",
                fix="make room, with Store.prune for one, and do it again",
                where=str(where),
            ) from error
        raise StoreFailed(
            f"{doing} failed: {told}",
            expected="a disk that can be read and written, and permission to do so",
            fix="mend what the system complains about, then open the store again",
            where=str(error.filename or where),
        ) from error


def write_all(files: Files, fd: int, data: memoryview, offset: int = 0) -> None:
    """Write all bytes, however many calls that takes."""
    done = 0
    while done < data.nbytes:
        done += files.pwrite(fd, data[done : done + PIECE], offset + done)


def write_file(files: Files, path: AnyPath, data: bytes) -> None:
    """Write a new file and make its bytes durable; its name is not yet."""
    fd = files.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        write_all(files, fd, memoryview(data))
        files.fsync(fd)
    finally:
        files.close(fd)


def read_file(files: Files, path: AnyPath, limit: int) -> bytes | None:
    """Return a small file's bytes; `None` when it is not there, or longer than it may be."""
    try:
        fd = files.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        length = files.facts(fd).size
        if length > limit:
            return None
        pieces: list[bytes] = []
        done = 0
        while piece := files.pread(fd, PIECE, done):
            pieces.append(piece)
            done += len(piece)
        return b"".join(pieces)
    finally:
        files.close(fd)


def discard(files: Files, path: AnyPath) -> None:
    """Remove a file that nobody needs; one that cannot be removed is removed when next opened."""
    try:
        files.unlink(path)
    except (OSError, StoreError):
        return
