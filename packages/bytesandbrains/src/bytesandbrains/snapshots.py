"""Snapshots of Nodes as files: written whole or not at all, and safe when the machine stops."""

from __future__ import annotations

from pathlib import Path

from bb_runtime import Node
from bb_runtime.errors import SnapshotError
from bytesandbrains._files import write_atomically

__all__ = ["load_snapshot", "save_snapshot"]


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
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SnapshotError(
            f"{str(path)!r} cannot be read: {error.strerror or error}",
            expected="a file that save_snapshot has written",
            fix="check the path",
        ) from error
    node.restore(data, clean=clean)
