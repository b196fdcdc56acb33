"""The differences that a swap has to send, chunk by chunk. Files are read by whoever is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, cast

from bb_ir.plan import (
    Digest,
    FileChunk,
    PlanFormatError,
    WeightManifest,
    changes,
    chunk_digest,
    chunk_place,
)
from bb_plans._raw import Data, as_bytes
from bb_plans.deltas._choosing import Rates, choose, measure
from bb_plans.deltas._codecs import encode
from bb_roles.planner import ChunkSource

__all__ = ["Difference", "differences", "element_width"]

_TINY: Final = 64  # bytes; heads of codecs take half of it

_WIDTHS: Final[Mapping[str, int]] = MappingProxyType({
    "float64": 8, "int64": 8, "uint64": 8, "complex64": 8, "complex128": 8,
    "float32": 4, "int32": 4, "uint32": 4,
    "float16": 2, "bfloat16": 2, "int16": 2, "uint16": 2,
})  # fmt: skip


class Difference(NamedTuple):
    """What brings one chunk.

    Attributes:
        chunk: The chunk, of the new manifest.
        codec: How `data` is encoded, as an op says it; empty for the chunk's bytes as they are.
        data: The bytes to send.
        base: Digest of the bytes that `data` applies to; `None` for none.
    """

    chunk: FileChunk
    codec: str
    data: bytes | memoryview
    base: Digest | None

    def source(self, src: str, src_offset: int = 0) -> ChunkSource:
        """Return how a planner is told of it, once its bytes lie at a place."""
        digest = chunk_digest(self.chunk)
        assert digest is not None, "only chunks with a digest have differences"
        length = len(self.data) if self.codec else 0
        return ChunkSource(digest, src, src_offset, self.codec, length, self.base)


def differences(
    old: WeightManifest | None,
    new: WeightManifest,
    read_old: Callable[[FileChunk], Data],
    read_new: Callable[[FileChunk], Data],
    rates: Rates,
) -> Iterator[Difference]:
    """Yield what brings the new chunks, each in the way that is cheapest; the same bytes once.

    A chunk is told as a difference from the old chunk at its place (`bb_ir.plan.chunk_place`), if
    there is one with a digest. None is ever larger than the chunk itself.

    Args:
        old: What the receiver has; `None` for nothing.
        new: What there shall be.
        read_old: Returns the bytes of a chunk of `old`.
        read_new: Returns the bytes of a chunk of `new`.
        rates: How fast link and codecs are.

    Raises:
        PlanFormatError: A chunk that is new has no digest, or one that cannot be read.
    """
    known = WeightManifest() if old is None else old
    bases = {chunk_place(chunk): chunk for chunk in known.files if chunk_digest(chunk)}
    told: set[Digest] = set()
    for chunk in changes(known, new).adds:
        digest = chunk_digest(chunk)
        if digest is None:
            raise PlanFormatError(
                f"chunk {chunk.path[:80]!r} at {chunk.offset} has no digest",
                expected="one, so that what arrives can be checked",
            )
        if digest in told:
            continue
        told.add(digest)
        base = bases.get(chunk_place(chunk))
        yield _difference(chunk, read_new(chunk), base, read_old, rates)


def element_width(chunk: FileChunk) -> int:
    """Return the bytes of an element: 1, 2, 4 or 8; 1 where it is not known."""
    return 1 if chunk.tensor is None else _WIDTHS.get(chunk.tensor.dtype, 1)


def _difference(
    chunk: FileChunk,
    fresh: Data,
    base: FileChunk | None,
    read_old: Callable[[FileChunk], Data],
    rates: Rates,
) -> Difference:
    width = element_width(chunk)
    raw = memoryview(cast("Any", as_bytes(fresh)))
    if len(raw) <= _TINY:
        return Difference(chunk, "", raw, None)
    known = None if base is None else read_old(base)
    choice = choose(measure(fresh, known, width=width), rates)
    if choice.codec == "raw":
        return Difference(chunk, "", raw, None)
    encoded = encode(choice.codec, fresh, known, width=width)
    if len(encoded) >= len(raw):  # the sample promised too much
        return Difference(chunk, "", raw, None)
    return Difference(chunk, choice.codec, encoded, None if base is None else chunk_digest(base))
