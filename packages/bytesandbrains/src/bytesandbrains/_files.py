"""Writes files whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from bb_ir.errors import BytesAndBrainsError

__all__ = ["CannotWrite", "prepare_folder", "sync_folder", "write_atomically"]

#: What the system says where there is no room: on the disk, for this user, or in one file.
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


class CannotWrite(BytesAndBrainsError):
    """A file or folder cannot be written.

    Met where commands write artifacts, pages and results. Make the folder, or choose another
    place.
    """


def write_atomically(
    path: Path, data: bytes | memoryview, *, durable: bool = False, private: bool = False
) -> None:
    """Write a file: whoever looks sees the old one or the new one, never a part.

    Args:
        path: The file.
        data: What it shall hold.
        durable: Whether it is to outlive a loss of power from the moment this returns.
        private: Whether only its owner may read it.

    Raises:
        CannotWrite: The folder is not there, or may not be written to.
    """
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _cannot(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if not private:  # as temporary files are made
            Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
        if durable:
            sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            Path(temporary).unlink()
        if isinstance(error, OSError):
            raise _cannot(path, error) from error
        raise


def prepare_folder(path: Path) -> None:
    """Make a folder and see that it can be written to.

    Raises:
        CannotWrite: It is a file, or may not be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise _cannot(path, error) from error


def sync_folder(folder: Path) -> None:
    """Have a new name in a folder outlive a loss of power."""
    if os.name == "nt":
        return  # folders cannot be opened there
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _cannot(path: Path, error: OSError) -> CannotWrite:
    folder = path.parent
    fix = "choose another place"
    if isinstance(error, FileNotFoundError) and not folder.exists():
        fix = f"make the folder {str(folder)!r}, or {fix}"
    elif error.errno in _FULL:
        fix = f"make room there, or {fix}"
    return CannotWrite(f"{str(path)!r} cannot be written: {error.strerror or error}", fix=fix)


def _umask() -> int:
    """Return the permissions that new files are not given."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
