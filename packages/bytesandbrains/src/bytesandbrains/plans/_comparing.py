"""Bytes of a plan compared with its digests where they lie, before anything is moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bb_ir.plan import (
    CachePlan,
    Digest,
    FileChunk,
    Plan,
    SwapPlan,
    TransferOp,
    check,
    digest_text,
    parse_digest,
)
from bytesandbrains.plans._errors import BytesDamaged

if TYPE_CHECKING:
    from bb_plans.places import Places
    from bb_plans.regions import Region

__all__ = ["Compared", "compare_bytes"]

#: Bytes that are read at once.
_PIECE: Final = 8 << 20
_NO_DIGEST: Final = "without a digest"
_MADE: Final = "from what other ops make"
_NO_BASE: Final = "on a version that is not here: --store or --files"
_UNREADABLE: Final = "of a codec or a size that is not known here"
#: Why the bytes of a scheme are not at hand.
_AWAY: Final[Mapping[str, str]] = {
    "file": "from files: --files",
    "cas": "from a store: --store",
    "net": "from peers",
}


@dataclass(frozen=True, slots=True)
class Compared:
    """What was found of the bytes that the ops of a plan read.

    Attributes:
        ops: How many were compared, those that are damaged included.
        nbytes: Bytes that these ops bring.
        left: How many were not compared, by the reason.
        damaged: One error for each op that would bring other bytes than its digest says.
    """

    ops: int
    nbytes: int
    left: Mapping[str, int]
    damaged: tuple[BytesDamaged, ...]

    def check(self) -> None:
        """Check that all that was compared is right.

        Raises:
            BytesDamaged: The first op of which it is not.
        """
        if self.damaged:
            raise self.damaged[0]


def compare_bytes(
    plan: Plan | SwapPlan | CachePlan,
    *,
    files: Path | None = None,
    store: Path | None = None,
    arenas: Mapping[str, Any] | None = None,
    encoded: Mapping[tuple[str, int, int], Digest] | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Compared:
    """Read what the ops of a plan read, where it is at hand, and compare digests; change nothing.

    A difference is applied in memory to what it is a difference from. Where that is not here, it is
    compared with its own digest if there is one; else it is only seen whether it can be one at all.

    Args:
        plan: The plan.
        files: Folder that `file://` places are below; of the old version, for differences.
        store: Folder of the store that `cas://` places and the old version are in.
        arenas: Memory by its place, such as what `bundle_arenas` returns.
        encoded: Digests of differences themselves, as `bundle_digests` returns them.
        progress: Called with the bytes of all ops that are done.

    Raises:
        InvalidPlan: It is not sound.
        NotAStore: There is no store in the folder.
        UnknownPlace: The folder of files is none.
    """
    from bb_plans.places import Places, content_of, media_of, old_chunks
    from bb_plans.store import Store

    content = content_of(plan)
    check(plan, media=media_of(content))
    with ExitStack() as opened:
        held = None if store is None else opened.enter_context(Store(store, writable=False))
        places = Places(files=files, store=held, arenas=arenas)
        opened.callback(places.close)
        known = {"file": files is not None, "cas": store is not None}
        reader = _Reader(
            places,
            arenas=set(arenas or {}),
            known=known,
            ops=content.ops,
            old=old_chunks(content),
            encoded=encoded or {},
        )
        return reader.compare(progress)


class _Reader:
    """Compares one op after the other."""

    def __init__(
        self,
        places: Places,
        *,
        arenas: set[str],
        known: Mapping[str, bool],
        ops: tuple[TransferOp, ...],
        old: Mapping[Digest, FileChunk],
        encoded: Mapping[tuple[str, int, int], Digest],
    ) -> None:
        self._encoded = encoded
        self._places, self._arenas, self._known = places, arenas, known
        self._ops, self._old = ops, old
        self._made = Counter(op.dst for op in ops)

    def compare(self, progress: Callable[[int], None]) -> Compared:
        """Compare all."""
        left = Counter[str]()
        damaged: list[BytesDamaged] = []
        count = nbytes = done = 0
        for index, op in enumerate(self._ops):
            found = self._look(index, op)
            if isinstance(found, str):
                left[found] += 1
            else:
                count, nbytes = count + 1, nbytes + op.length
                damaged += [] if found is None else [found]
            done += op.length
            progress(done)
        return Compared(count, nbytes, dict(left), tuple(damaged))

    def _look(self, index: int, op: TransferOp) -> BytesDamaged | str | None:
        """Return what is wrong with the bytes of an op, why they are not compared, or nothing."""
        from bb_plans.errors import (
            BlobMissing,
            DifferenceDamaged,
            DifferenceTooLarge,
            PlaceFailed,
            UnknownDifference,
        )

        wanted = self._wanted(op)
        if wanted is None:
            return _NO_DIGEST
        away = self._away(op)
        if away:
            return away
        try:
            if op.codec:
                return self._look_at_difference(index, op, wanted)
            with self._places.source(op.src) as region:
                found = _digest(region, op, wanted)
        except (BlobMissing, DifferenceDamaged, PlaceFailed) as error:
            return _damaged(index, op.src, error.found, wanted)
        except (DifferenceTooLarge, UnknownDifference):
            return _UNREADABLE
        if found == wanted:
            return None
        return _damaged(index, op.src, f"bytes of {digest_text(found)}", wanted)

    def _wanted(self, op: TransferOp) -> Digest | None:
        """Return the digest of what an op brings: its own, or that of the blob that it makes."""
        if op.digest is None and op.dst.startswith("cas://") and self._made[op.dst] == 1:
            return parse_digest(op.dst.removeprefix("cas://"))
        return op.digest

    def _away(self, op: TransferOp) -> str:
        """Return why the bytes that an op reads are not at hand."""
        if op.src in self._made:
            return _MADE
        scheme = op.src.partition("://")[0]
        if op.src in self._arenas or self._known.get(scheme):
            return ""
        return _AWAY.get(scheme, f"from memory of whoever carries it out: {scheme}://")

    def _look_at_difference(
        self, index: int, op: TransferOp, wanted: Digest
    ) -> BytesDamaged | str | None:
        from bb_plans.deltas import decode
        from bb_plans.hashing import digest_of

        base, lacks = self._base(op)
        with self._places.source(op.src) as region:
            encoded = _read(region, op.src_offset, op.encoded_length)
        own = self._encoded.get((op.src, op.src_offset, op.encoded_length))
        if own is not None:
            told = digest_of(encoded, own.algorithm)
            if told != own:
                return _damaged(index, op.src, f"bytes of {digest_text(told)}", own)
            if lacks:
                return None
        made = decode(op.codec, encoded, base, op.length)
        if lacks:
            return lacks
        found = digest_of(made, wanted.algorithm)
        if found == wanted:
            return None
        if base is not None and op.src_digest is not None:  # the old version may be at fault
            held = digest_of(base, op.src_digest.algorithm)
            if held != op.src_digest:
                place = f"cas://{digest_text(op.src_digest)}"
                return _damaged(index, place, f"bytes of {digest_text(held)}", op.src_digest)
        return _damaged(index, op.src, f"bytes of {digest_text(found)}", wanted)

    def _base(self, op: TransferOp) -> tuple[memoryview | None, str]:
        """Return what a difference applies to, and else why it is not at hand."""
        from bb_plans.errors import PlaceFailed

        if op.src_digest is None:
            return None, ""
        if f"cas://{digest_text(op.src_digest)}" in self._made:
            return None, _MADE
        try:
            return self._places.base(op.src_digest, self._old), ""
        except PlaceFailed:
            return None, _NO_BASE


def _digest(region: Region, op: TransferOp, wanted: Digest) -> Digest:
    """Return the digest of what an op brings as it is."""
    from bb_plans.hashing import hasher

    made = hasher(wanted.algorithm)
    for begin in range(0, op.length, _PIECE):
        size = min(_PIECE, op.length - begin)
        made.update(_read(region, op.src_offset + begin, size))
    return Digest(wanted.algorithm, made.digest())


def _read(region: Region, offset: int, length: int) -> memoryview:
    """Return bytes of a place: as they lie there when it is memory, else read."""
    from bb_plans.regions import MemoryRegion

    if isinstance(region, MemoryRegion):
        return region.part(offset, length)
    held = memoryview(bytearray(length))
    region.read(offset, held)
    return held


def _damaged(index: int, place: str, found: str, wanted: Digest) -> BytesDamaged:
    return BytesDamaged(
        f"ops[{index}] reads {place!r}: {found}",
        expected=f"bytes of {digest_text(wanted)}",
        fix="copy the bundle, or what lies at that place, again, whole",
        where=f"ops[{index}]",
        op=index,
        place=place,
    )
