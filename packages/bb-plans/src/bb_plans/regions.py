"""What a place of a plan stands for here: memory, an open file, a blob, or what a peer sends.

A region is opened for one move and closed after it. Reads and writes are positioned and whole: they
move all bytes or raise `PlaceFailed`. Files are opened below a root, one component of the path
after the other, and no symbolic link is followed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Self

from bb_plans.errors import PlaceFailed

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "BlobRegion",
    "Fetch",
    "FetchedRegion",
    "FileRegion",
    "MemoryRegion",
    "Region",
    "copy",
    "open_below",
]

#: Asks a peer for bytes: place, offset, length; it may raise what it likes.
Fetch = Callable[[str, int, int], bytes | bytearray | memoryview]

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: What a system call moves at most; Linux stops at 2 GiB less a page.
_MOST: Final = 1 << 30


class Region:
    """An open place.

    Attributes:
        name: The place, for errors.
        size: How many bytes it has; -1 where that is not known before it is read.
        readable: Whether it can be read.
        writable: Whether it can be written.
        fileno: Its file descriptor; -1 when it has none.
    """

    name: str
    size: int = -1
    readable: bool = False
    writable: bool = False
    fileno: int = -1

    def read(self, offset: int, into: memoryview) -> None:
        """Fill a buffer with the bytes from an offset on.

        Raises:
            PlaceFailed: It ends before, cannot be read, or fails.
        """
        raise PlaceFailed(f"{self.name} cannot be read", fix="use another source")

    def write(self, offset: int, data: memoryview) -> None:
        """Put bytes where they belong.

        Raises:
            PlaceFailed: It ends before, cannot be written, or fails.
        """
        raise PlaceFailed(f"{self.name} cannot be written", fix="use another destination")

    def sync(self) -> None:
        """Return when what was written outlives a crash of the machine, where that can be.

        Raises:
            PlaceFailed: The device says that it does not.
        """

    def close(self) -> None:
        """Let go of it; may be repeated."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class MemoryRegion(Region):
    """Bytes in memory: an arena, or the mapping of a blob."""

    def __init__(self, name: str, memory: memoryview) -> None:
        self.name = name
        self.memory = memory
        self.size = memory.nbytes
        self.readable, self.writable = True, not memory.readonly

    def read(self, offset: int, into: memoryview) -> None:
        """Copy out of it."""
        copy(into, self.part(offset, into.nbytes))

    def write(self, offset: int, data: memoryview) -> None:
        """Copy into it."""
        if not self.writable:
            raise PlaceFailed(f"{self.name} is read-only", fix="use another destination")
        copy(self.part(offset, data.nbytes), data)

    def part(self, offset: int, length: int) -> memoryview:
        """Return some of its bytes.

        Raises:
            PlaceFailed: It ends before.
        """
        if offset + length > self.size:
            raise _short(self.name, offset, length, self.size)
        return self.memory[offset : offset + length]


class FileRegion(Region):
    """An open file.

    Args:
        name: The place, for errors.
        fileno: Its descriptor; the region closes it.
        writable: Whether it was opened for writing.
    """

    def __init__(self, name: str, fileno: int, *, writable: bool = False) -> None:
        self.name, self.fileno = name, fileno
        self.readable, self.writable = True, writable
        self.size = os.fstat(fileno).st_size

    def read(self, offset: int, into: memoryview) -> None:
        """Read with `preadv`, as often as it takes."""
        moved = 0
        while moved < into.nbytes:
            try:
                got = os.preadv(self.fileno, [into[moved : moved + _MOST]], offset + moved)
            except OSError as error:
                raise _failed(self.name, "read", error) from error
            if not got:
                raise _short(self.name, offset, into.nbytes, offset + moved)
            moved += got

    def write(self, offset: int, data: memoryview) -> None:
        """Write with `pwrite`, as often as it takes."""
        moved = 0
        while moved < data.nbytes:
            try:
                moved += os.pwrite(self.fileno, data[moved : moved + _MOST], offset + moved)
            except OSError as error:
                raise _failed(self.name, "written", error) from error

    def sync(self) -> None:
        """Have the device keep the data; what else there is of a file may be lost."""
        try:
            getattr(os, "fdatasync", os.fsync)(self.fileno)
        except OSError as error:
            raise _failed(self.name, "kept", error) from error

    def close(self) -> None:
        """Close the descriptor."""
        if self.fileno >= 0:
            os.close(self.fileno)
            self.fileno = -1


class BlobRegion(Region):
    """A blob that is being written to a store; it exists there once it is sealed.

    Args:
        name: The place, for errors.
        writer: What `Store.writer` gave.
        length: How many bytes it has.
    """

    def __init__(self, name: str, writer: Any, length: int) -> None:
        self.name, self.size, self.writable = name, length, True
        self.writer = writer

    def write(self, offset: int, data: memoryview) -> None:
        """Give bytes to the writer."""
        self.writer.write(offset, data)

    def seal(self) -> None:
        """Publish the blob, once its digest is found right; else nothing is published."""
        self.writer.seal()

    def close(self) -> None:
        """Throw away what was not sealed."""
        self.writer.abort()


class FetchedRegion(Region):
    """What a peer sends when it is asked.

    Args:
        name: The place.
        fetch: Returns `length` bytes from `offset` on of a place: `fetch(place, offset, length)`.
    """

    def __init__(self, name: str, fetch: Fetch) -> None:
        self.name, self._fetch, self.readable = name, fetch, True

    def read(self, offset: int, into: memoryview) -> None:
        """Ask for the bytes; whatever goes wrong in `fetch` is a failure of the place."""
        try:
            data = memoryview(self._fetch(self.name, offset, into.nbytes)).cast("B")
        except Exception as error:
            raise _failed(self.name, "fetched", error) from error
        if data.nbytes != into.nbytes:
            raise PlaceFailed(
                f"{self.name} sent {data.nbytes} bytes instead of {into.nbytes}",
                fix="ask another peer",
            )
        copy(into, data)


def copy(into: memoryview, data: memoryview) -> None:
    """Copy bytes of one length; other threads run meanwhile, as numpy lets go of the lock."""
    import numpy as np

    if data.nbytes:
        np.copyto(np.frombuffer(into, np.uint8), np.frombuffer(data, np.uint8))


# --- files below a root


def open_below(root: int, path: str, *, write: bool = False, make: bool = True) -> int:
    """Open a regular file below a folder and return its descriptor.

    No component may be a symbolic link, so nothing outside of the folder can be reached, whoever
    changes what is in it meanwhile.

    Args:
        root: Descriptor of the folder; it stays open.
        path: Relative, with `/` between parts, as `bb_ir.plan.parse_place` allows it.
        write: Whether to open it for writing, too.
        make: Whether folders and the file are made where they lack, for writing.

    Raises:
        OSError: It is missing, no regular file, or behind a symbolic link, or the path leads out.
    """
    *folders, name = path.split("/")
    if not {"", ".", ".."}.isdisjoint((*folders, name)):
        raise OSError(errno.EINVAL, "the path leads out of the folder")
    at = os.dup(root)
    try:
        for folder in folders:
            below = _folder(at, folder, make=write and make)
            os.close(at)
            at = below
        return _file(at, name, write=write, make=write and make)
    finally:
        os.close(at)


def _folder(at: int, name: str, *, make: bool) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=at)
    except FileNotFoundError:
        if not make:
            raise
    try:
        os.mkdir(name, dir_fd=at)
        os.fsync(at)
    except FileExistsError:
        pass  # somebody was faster
    return os.open(name, _FOLDER, dir_fd=at)


def _file(at: int, name: str, *, write: bool, make: bool) -> int:
    # Not to wait for the other end of a pipe: it is refused once it is open.
    flags = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    flags |= os.O_RDWR if write else os.O_RDONLY
    try:
        found = os.open(name, flags, dir_fd=at)
    except FileNotFoundError:
        if not make:
            raise
        found = os.open(name, flags | os.O_CREAT, 0o666, dir_fd=at)
        os.fsync(at)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise OSError(errno.EINVAL, "it is no regular file")
    return found


def _failed(name: str, verb: str, error: Exception) -> PlaceFailed:
    return PlaceFailed(
        f"{name} cannot be {verb}: {type(error).__name__}: {error}",
        fix="mend the place, or give another source",
    )


def _short(name: str, offset: int, length: int, end: int) -> PlaceFailed:
    return PlaceFailed(
        f"{name} ends at byte {end}, before {offset} and {length} bytes from there",
        expected="a place that is as long as when the plan was checked",
        fix="do not change places while a plan is carried out",
    )
