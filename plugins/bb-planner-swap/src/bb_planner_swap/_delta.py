"""What is new, what is there already, what goes: `bb_ir.plan.changes`, for many chunks.

It compares columns of digests, lengths and places instead of messages, which is ten times as fast.
Where columns could say something else (digests as texts, or of several algorithms) messages are
compared.
"""

from __future__ import annotations

from itertools import compress
from operator import eq, not_
from typing import NamedTuple

from bb_ir.plan import Changes, FileChunk, WeightManifest, changes, chunk_place

__all__ = ["delta"]


def delta(old: WeightManifest, new: WeightManifest) -> Changes:
    """Return what `bb_ir.plan.changes` returns.

    Raises:
        PlanFormatError: A digest cannot be read.
    """
    before, after = _column(old.files), _column(new.files)
    if before is None or after is None or len(before.algorithms | after.algorithms) != 1:
        return changes(old, new)
    known = dict(zip(before.values, before.lengths, strict=True))
    if not all(map(eq, map(known.get, before.values), before.lengths)):
        return changes(old, new)  # one digest has two lengths
    there = list(map(eq, map(known.get, after.values), after.lengths))
    adds, shared = compress(new.files, map(not_, there)), compress(new.files, there)
    return Changes(tuple(adds), tuple(shared), _gone(old.files, new.files))


class _Column(NamedTuple):
    """Bytes of digests, lengths, and which algorithms there are."""

    values: list[bytes]
    lengths: list[int]
    algorithms: set[int]


def _column(chunks: tuple[FileChunk, ...]) -> _Column | None:
    """Return what is in chunks; `None` unless all digests are messages."""
    digests = [digest for chunk in chunks if (digest := chunk.digest) is not None]
    if len(digests) != len(chunks) or {chunk.sha256 for chunk in chunks} - {""}:
        return None
    # A member of an enum is one object, and its hash is computed in Python.
    algorithms = {id(digest.algorithm) for digest in digests}
    values, lengths = [one.value for one in digests], [one.length for one in chunks]
    return _Column(values, lengths, algorithms)


def _gone(old: tuple[FileChunk, ...], new: tuple[FileChunk, ...]) -> tuple[FileChunk, ...]:
    if _aligned(old, new):
        return ()
    kept = set(map(chunk_place, new))
    return tuple(compress(old, (chunk_place(one) not in kept for one in old)))


def _aligned(old: tuple[FileChunk, ...], new: tuple[FileChunk, ...]) -> bool:
    """Tell whether both have the same places in the same order, as versions of a model do."""
    if len(old) != len(new):
        return False
    for one, other in zip(old, new, strict=True):
        span, match = one.tensor, other.tensor
        if one.path != other.path:
            return False
        if span is None or match is None:
            if span is not match or one.offset != other.offset:
                return False
        elif span.begin != match.begin or span.name != match.name:
            return False
    return True
