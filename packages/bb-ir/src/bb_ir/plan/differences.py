"""What it takes to get from one manifest to another: which chunks come, stay and go."""

from __future__ import annotations

from typing import NamedTuple

from bb_ir.plan.digests import chunk_digest
from bb_ir.plan.messages import FileChunk, WeightManifest

__all__ = ["Changes", "changes", "chunk_place"]


class Changes(NamedTuple):
    """The difference between two manifests, in the words of a `SwapPlan`.

    Attributes:
        adds: Chunks of the new one whose bytes are nowhere in the old one, in its order.
        shared: Its other chunks, in its order.
        deletes: Chunks of the old one whose place the new one does not have, in its order.
    """

    adds: tuple[FileChunk, ...]
    shared: tuple[FileChunk, ...]
    deletes: tuple[FileChunk, ...]


def changes(old: WeightManifest, new: WeightManifest) -> Changes:
    """Return the difference between two manifests.

    Bytes are the same when length and digest are, wherever they lie, so what was renamed or moved
    is shared. A chunk without a digest is never shared.

    Raises:
        PlanFormatError: A digest cannot be read.
    """
    known = {(chunk.length, digest) for chunk in old.files if (digest := chunk_digest(chunk))}
    present = [(chunk.length, chunk_digest(chunk)) in known for chunk in new.files]
    kept = {chunk_place(chunk) for chunk in new.files}
    return Changes(
        tuple(chunk for chunk, there in zip(new.files, present, strict=True) if not there),
        tuple(chunk for chunk, there in zip(new.files, present, strict=True) if there),
        tuple(chunk for chunk in old.files if chunk_place(chunk) not in kept),
    )


def chunk_place(chunk: FileChunk) -> tuple[str, str, int]:
    """Return where a chunk belongs: its file, and the part of a tensor, else that of the file."""
    if chunk.tensor is not None:
        return chunk.path, chunk.tensor.name, chunk.tensor.begin
    return chunk.path, "", chunk.offset
