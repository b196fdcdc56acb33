"""The folder of a store: whether it is one, that it stays, and who writes to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from bb_plans._system import write_all
from bb_plans.errors import NotAStore, StoreLocked
from bb_plans.files import Files

__all__ = ["open_folder", "settle_ancestors", "take_lock"]

_OURS: Final = frozenset({"LOCK", "CURRENT", "journal", "cas", "versions", "tmp"})


def open_folder(files: Files, root: Path) -> int:
    """Make the folder unless it is there, and return the descriptor of its lock.

    Raises:
        NotAStore: It is no folder, or holds what is not of a store.
    """
    facts = files.stat(root)
    strange = sorted(set(files.listdir(root)) - _OURS) if facts and facts.folder else []
    if (facts and not facts.folder) or (strange and not files.stat(root / "LOCK")):
        raise NotAStore(
            f"{root} is " + (f"a folder with {strange[0]!r} in it" if strange else "no folder"),
            expected="an empty folder, one that does not exist, or a store",
            fix="give the store a folder of its own",
        )
    if facts is None:
        _make(files, root)
    return files.open(root / "LOCK", os.O_RDWR | os.O_CREAT)


def _make(files: Files, folder: Path) -> None:
    if files.stat(folder.parent) is None:
        _make(files, folder.parent)
    files.mkdir(folder)


def take_lock(files: Files, root: Path, fd: int) -> None:
    """Lock a store until the descriptor is closed, and leave word who did.

    Raises:
        StoreLocked: Somebody else did.
    """
    if not files.lock(fd, shared=False):
        told = files.pread(fd, 20, 0).decode("ascii", "replace").strip()
        holder = int(told) if told.isdecimal() else 0
        raise StoreLocked(
            f"process {holder or 'unknown'} writes to this store",
            expected="one writer at a time",
            fix="wait until it is done, or open the store with writable=False",
            where=str(root),
            holder=holder,
        )
    files.truncate(fd, 0)
    write_all(files, fd, memoryview(f"{os.getpid()}\n".encode()))


def settle_ancestors(files: Files, root: Path) -> None:
    """Make the name of the store's folder durable, and those of the folders above it."""
    for height, folder in enumerate(root.absolute().parents):
        try:
            files.fsync_folder(folder)
        except PermissionError:
            continue  # then it is not this process that made what is in it
        except OSError:
            if not height:
                raise
