"""Snapshots of Nodes, and of all Nodes of a process, as files.

They are written whole or not at all, and safe when the machine stops.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from bb_runtime import LocalBus, Node
from bb_runtime.errors import SnapshotError
from bytesandbrains._files import write_atomically
from bytesandbrains.local import LocalFederation

__all__ = ["load_federation", "load_snapshot", "save_federation", "save_snapshot"]


def save_snapshot(path: str | Path, node: Node) -> None:
    """Write what `node.snapshot()` returns to a file.

    Whoever looks sees the old file or the new one, never a part; when this returns, the new one
    outlives a loss of power. Only its owner may read it: it holds what the Node knows.

    Raises:
        SnapshotError: The Node cannot be written down now.
        CannotWrite: The folder is not there, or may not be written to.
    """
    data = node.snapshot()
    write_atomically(Path(path), data, durable=True, private=True)


def load_snapshot(path: str | Path, node: Node, *, clean: bool = True) -> None:
    """Make a Node what a file says, as `node.restore` does.

    Args:
        path: The file.
        node: A Node that is installed as the one that was saved.
        clean: Whether the saved Node did nothing after the snapshot; else it has crashed.

    Raises:
        SnapshotError: There is no such file, or its snapshot is not one for this Node, which is
            as it was before.
    """
    data = _read(path, "save_snapshot")
    with _named(path):
        node.restore(data, clean=clean)


def save_federation(path: str | Path, federation: LocalFederation | LocalBus) -> None:
    """Write all Nodes of a process to one file, with the envelopes on their way between them.

    All of them are taken at one step, so none remembers what another has forgotten. As with
    `save_snapshot`, whoever looks sees the old file or the new one, and only its owner may read it.

    Raises:
        SnapshotError: A Node cannot be written down now.
        CannotWrite: The folder is not there, or may not be written to.
    """
    data = federation.snapshot()
    write_atomically(Path(path), data, durable=True, private=True)


def load_federation(path: str | Path, federation: LocalFederation | LocalBus) -> None:
    """Make all Nodes of a process what a file says; they go on as if they had never stopped.

    Args:
        path: The file.
        federation: Made as the one that was saved: the same Nodes of the same artifact.

    Raises:
        SnapshotError: There is no such file, or it is damaged, newer, or of other Nodes. Nothing
            was changed.
    """
    data = _read(path, "save_federation")
    with _named(path):
        federation.restore(data)


@contextmanager
def _named(path: str | Path) -> Generator[None]:
    """Let errors of a snapshot name the file that it was in, before other places."""
    try:
        yield
    except SnapshotError as error:
        error.where = (str(path), *error.where)
        raise


def _read(path: str | Path, writer: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SnapshotError(
            f"{str(path)!r} cannot be read: {error.strerror or error}",
            expected=f"a file that {writer} has written",
            fix="check the path",
        ) from error
