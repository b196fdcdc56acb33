"""The system calls that the store makes, and no others.

The store reaches the file system through one object of this class, so that a test can count its
calls, make the k-th of them fail or be the last, and forget what was never made durable. A call
here is one system call, or a few that fail as one. Nothing here knows what is stored, and errors
are those of the system: who calls turns them into errors of ours.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat as modes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

__all__ = ["FileFacts", "Files"]

#: Texts are taken as well, since making a `Path` takes longer than most of the calls.
AnyPath: TypeAlias = str | Path
#: Folders that are waited for at once.
_AT_ONCE: Final = 8


class FileFacts(NamedTuple):
    """What the system knows about a file.

    Attributes:
        size: Its bytes.
        inode: Its number; another file of the same name has another one.
        changed_ns: When it was written last, in nanoseconds of Unix time.
        folder: Whether it is a folder.
    """

    size: int
    inode: int
    changed_ns: int
    folder: bool


class Files:
    """The system calls of a POSIX system that the store needs."""

    # --- open files, by descriptor

    def open(self, path: AnyPath, flags: int, mode: int = 0o644) -> int:
        """Open a file; return its descriptor, which programs that are started do not inherit."""
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def open_below(self, folder: AnyPath, path: str) -> int:
        """Open a file below a folder for reading, following no link on the way.

        Args:
            folder: The folder.
            path: The file below it, with `/` between parts.
        """
        *parents, name = path.split("/")
        here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        follow = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            for parent in parents:
                inner = os.open(parent, follow | os.O_DIRECTORY, dir_fd=here)
                os.close(here)
                here = inner
            # A pipe would wait for somebody to write to it.
            return os.open(name, follow | os.O_NONBLOCK, dir_fd=here)
        finally:
            os.close(here)

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        os.close(fd)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        """Read up to so many bytes."""
        return os.pread(fd, length, offset)

    def pwrite(self, fd: int, data: memoryview, offset: int) -> int:
        """Write bytes; return how many of them were taken."""
        return os.pwrite(fd, data, offset)

    def allocate(self, fd: int, length: int) -> None:
        """Reserve room for a file of so many bytes, so that a full disk is found out now."""
        if not length:
            return
        try:
            os.posix_fallocate(fd, 0, length)
        except (AttributeError, OSError) as error:
            # Some file systems, and systems, have no such call.
            told = getattr(error, "errno", errno.ENOSYS)
            if told not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
                raise
            os.ftruncate(fd, length)

    def truncate(self, fd: int, length: int) -> None:
        """Cut a file to so many bytes."""
        os.ftruncate(fd, length)

    def fsync(self, fd: int) -> None:
        """Return when all of a file is durable."""
        os.fsync(fd)

    def facts(self, fd: int) -> FileFacts:
        """Return what is known about an open file."""
        return _facts(os.fstat(fd))

    def map(self, fd: int, length: int) -> memoryview:
        """Return the bytes of a file without reading them; they can be read and not written."""
        if not length:
            return memoryview(b"")
        return memoryview(mmap.mmap(fd, length, access=mmap.ACCESS_READ))

    def copy_file_range(
        self, src: int, dst: int, length: int, src_offset: int, dst_offset: int
    ) -> int:
        """Copy bytes between files; return how many, 0 at the end of the source."""
        return os.copy_file_range(src, dst, length, src_offset, dst_offset)

    def lock(self, fd: int, *, shared: bool) -> bool:
        """Lock a file until it is closed; return whether that could be done at once.

        Processes that end, however they do, hold no locks.
        """
        import fcntl

        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    # --- names in folders

    def stat(self, path: AnyPath) -> FileFacts | None:
        """Return what is known about a path; `None` when nothing is there."""
        try:
            return _facts(os.stat(path))  # noqa: PTH116  # see AnyPath
        except (FileNotFoundError, NotADirectoryError):
            return None

    def listdir(self, path: AnyPath) -> list[str]:
        """Return the names in a folder, sorted; none when it is no folder."""
        try:
            return sorted(one.name for one in Path(path).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def mkdir(self, path: AnyPath) -> bool:
        """Make a folder; return whether it was not there."""
        try:
            Path(path).mkdir()
        except FileExistsError:
            return False
        return True

    def rename(self, old: AnyPath, new: AnyPath) -> None:
        """Give a file another name, at once and in the place of what had it."""
        Path(old).replace(new)

    def unlink(self, path: AnyPath) -> None:
        """Remove a file; nothing happens when there is none."""
        Path(path).unlink(missing_ok=True)

    def rmdir(self, path: AnyPath) -> bool:
        """Remove a folder; return whether it was an empty one, as only such are removed."""
        try:
            Path(path).rmdir()
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR):
                raise
            return False
        return True

    def fsync_folder(self, path: AnyPath) -> None:
        """Return when the names in a folder are durable."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def fsync_folders(self, paths: Sequence[AnyPath]) -> None:
        """Return when the names in all of these folders are durable; in which order is open.

        They are waited for at once, as a disk flushes once for all who ask meanwhile: sixteen
        folders then take little longer than one.
        """
        if len(paths) < 2:
            for path in paths:
                self.fsync_folder(path)
            return
        with ThreadPoolExecutor(min(len(paths), _AT_ONCE), thread_name_prefix="bb-sync") as pool:
            for done in [pool.submit(self.fsync_folder, path) for path in paths]:
                done.result()

    def free(self, path: AnyPath) -> int:
        """Return how many bytes a file system has room for."""
        told = os.statvfs(path)
        return told.f_bavail * told.f_frsize


def _facts(found: os.stat_result) -> FileFacts:
    return FileFacts(found.st_size, found.st_ino, found.st_mtime_ns, modes.S_ISDIR(found.st_mode))
