"""Makes the moves of one plan: opens places, moves bytes in pieces, looks at what arrived.

Nothing here decides what is moved when; that is `bb_plans.execution`. Each way that bytes can go
has a function: into memory, out of memory, from file to file, through a codec.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from threading import Lock
from typing import Final, NamedTuple

import numpy as np

from bb_executor_cpu._digesting import Digester
from bb_ir.errors import BytesAndBrainsError
from bb_ir.plan import CachePlan, Digest, SwapPlan, parse_digest
from bb_plans.execution import Move
from bb_plans.places import Places, old_chunks
from bb_plans.regions import BlobRegion, FileRegion, MemoryRegion, Region

__all__ = ["Mover", "Outcome"]

#: Bytes that are moved, and then hashed, in one go: what fits a cache beside what is next.
_PIECE: Final = 1 << 20
#: A peer is asked for more at once, as each question takes its time.
_FETCH: Final = 64 << 20
#: What a file system says that cannot copy between two files.
_CANNOT_COPY: Final = frozenset({
    errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY,
})  # fmt: skip


class Outcome(NamedTuple):
    """How a move ended, as `Execution.finish` takes it."""

    failures: Mapping[int, str]
    digests: Mapping[int, Digest]


class Mover:
    """Makes moves; `make` may be called from several threads at once.

    Args:
        plan: The plan.
        places: What its places stand for.
        pool: Where to hash while the next bytes are read; `None` to hash in the same thread.
    """

    def __init__(
        self, plan: CachePlan | SwapPlan, places: Places, pool: Executor | None = None
    ) -> None:
        self._ops, self._places, self._pool = plan.ops, places, pool
        self._old = old_chunks(plan)
        self._lock = Lock()
        # Of blobs: how long they are, which ops have yet to bring their bytes, and their writers.
        self._lengths: dict[str, int] = {}
        self._missing: dict[str, set[int]] = {}
        self._blobs: dict[str, BlobRegion] = {}
        for index, op in enumerate(plan.ops):
            if op.dst.startswith("cas://"):
                end = op.dst_offset + op.length
                self._lengths[op.dst] = max(self._lengths.get(op.dst, 0), end)
                self._missing.setdefault(op.dst, set()).add(index)

    def close(self) -> None:
        """Throw away blobs that were not finished."""
        with self._lock:
            for blob in self._blobs.values():
                blob.close()
            self._blobs.clear()

    def make(self, move: Move) -> Outcome:
        """Make a move, and say how it ended; whatever goes wrong is a failure of its ops."""
        try:
            return Outcome({}, self._make(move))
        except BytesAndBrainsError as error:
            why = f"{error.code}: {error.found}"
        except BaseException as error:  # noqa: BLE001  # a thread that ended would leave the plan open
            why = f"{type(error).__name__}: {error}"
        return Outcome(dict.fromkeys(move.ops, why), {})

    def there(self, index: int) -> bool:
        """Tell whether what an op brings is there already, as its digest says."""
        op = self._ops[index]
        if op.digest is None:
            return False
        try:
            with self._places.source(op.dst) as region:
                digester = Digester(self._ops, (index,), self._pool)
                for begin, piece in _pieces(region, op.dst_offset, op.length):
                    digester.feed(begin, piece)
                return digester.digests()[index] == op.digest
        except BytesAndBrainsError:
            return False

    def _make(self, move: Move) -> Mapping[int, Digest]:
        if move.dst.startswith("cas://"):
            return self._make_blob(move)
        digester = Digester(self._ops, move.ops, self._pool)
        sink = self._places.sink(move.dst, move.dst_offset + move.length)
        if sink is None:
            raise AssertionError(f"{move.dst} is no blob")
        with sink:
            self._put(move, sink, digester)
            sink.sync()
        return digester.digests()

    # --- blobs

    def _make_blob(self, move: Move) -> Mapping[int, Digest]:
        length = self._lengths[move.dst]
        blob = self._blob(move.dst, length)
        if blob is None:
            return self._present(move)
        whole = (move.dst_offset, move.length, len(move.ops)) == (0, length, 1)
        wanted = self._ops[move.ops[0]].digest
        named = parse_digest(move.dst.removeprefix("cas://"))
        # The store looks at a whole blob itself, when it is sealed.
        sealed = whole and wanted in (None, named)
        digester = Digester(self._ops, () if sealed else move.ops, self._pool)
        try:
            self._put(move, blob, digester)
            found = {move.ops[0]: named} if sealed else digester.digests()
            self._seal(
                move, blob, {i for i in move.ops if self._ops[i].digest in (None, found.get(i))}
            )
        except BaseException:
            if whole:
                self._drop(move.dst)
            raise
        return found

    def _blob(self, dst: str, length: int) -> BlobRegion | None:
        with self._lock:
            if dst not in self._blobs:
                made = self._places.sink(dst, length)
                if not isinstance(made, BlobRegion):
                    return None
                self._blobs[dst] = made
            return self._blobs[dst]

    def _seal(self, move: Move, blob: BlobRegion, right: set[int]) -> None:
        """Publish a blob when the last of its bytes are there."""
        with self._lock:
            self._missing[move.dst] -= right
            if self._missing[move.dst]:
                return
            del self._blobs[move.dst]
        blob.seal()

    def _drop(self, dst: str) -> None:
        with self._lock:
            blob = self._blobs.pop(dst, None)
        if blob is not None:
            blob.close()

    def _present(self, move: Move) -> Mapping[int, Digest]:
        """Return the digests of ops to a blob that the store has, and that is not written again."""
        digester = Digester(self._ops, move.ops, self._pool)
        named = parse_digest(move.dst.removeprefix("cas://"))
        if len(move.ops) == 1 and self._ops[move.ops[0]].digest == named:
            return {move.ops[0]: named}
        with self._places.source(move.dst) as region:
            for begin, piece in _pieces(region, move.dst_offset, move.length):
                digester.feed(begin, piece)
        return digester.digests()

    # --- ways for bytes to go

    def _put(self, move: Move, sink: Region, digester: Digester) -> None:
        op = self._ops[move.ops[0]]
        if op.codec:
            self._decoded(move, sink, digester)
            return
        with self._places.source(move.src) as source:
            if move.src == move.dst and abs(move.src_offset - move.dst_offset) < move.length:
                _within(move, source, sink, digester)
            elif isinstance(sink, MemoryRegion):
                self._into_memory(move, source, sink, digester)
            elif isinstance(source, FileRegion) and isinstance(sink, FileRegion):
                _between_files(move, source, sink)
                _look(move, sink, digester)
            else:
                self._out(move, source, sink, digester)

    @staticmethod
    def _into_memory(move: Move, source: Region, sink: MemoryRegion, digester: Digester) -> None:
        """Fill memory, and hash what lies in it."""
        step = _PIECE if source.size >= 0 else _FETCH
        memory = sink.part(move.dst_offset, move.length)
        for begin in range(0, move.length, step):
            end = min(begin + step, move.length)
            piece = memory[begin:end]
            source.read(move.src_offset + begin, piece)
            digester.feed(begin, piece)

    @staticmethod
    def _out(move: Move, source: Region, sink: Region, digester: Digester) -> None:
        """Write what comes from memory or a peer; of files, look at what lies in them then."""
        looks = isinstance(sink, FileRegion)
        for begin, piece in _pieces(source, move.src_offset, move.length):
            sink.write(move.dst_offset + begin, piece)
            if not looks:
                digester.feed(begin, piece)
        if looks:
            _look(move, sink, digester)

    def _decoded(self, move: Move, sink: Region, digester: Digester) -> None:
        from bb_plans.deltas import decode

        op = self._ops[move.ops[0]]
        with self._places.source(move.src) as source:
            encoded = _whole(source, move.src_offset, move.reads)
        base = None if op.src_digest is None else self._places.base(op.src_digest, self._old)
        made = decode(op.codec, encoded, base, move.length)
        sink.write(move.dst_offset, made)
        if isinstance(sink, FileRegion):
            _look(move, sink, digester)
            return
        arrived = made
        if isinstance(sink, MemoryRegion):
            arrived = sink.part(move.dst_offset, move.length)
        digester.feed(0, arrived)


def _whole(source: Region, offset: int, length: int) -> memoryview:
    """Return bytes of a place: as they lie there when it is memory, else read."""
    if isinstance(source, MemoryRegion):
        return source.part(offset, length)
    held = np.empty(length, np.uint8).data
    if length:
        source.read(offset, held)
    return held


def _pieces(source: Region, offset: int, length: int) -> Iterator[tuple[int, memoryview]]:
    """Yield the bytes of a place; a piece stays as it is until the next but one is asked for."""
    step = _PIECE if source.size >= 0 else _FETCH
    memory = isinstance(source, MemoryRegion)
    held = [] if memory else [np.empty(min(step, length), np.uint8).data for _ in range(2)]
    for number, begin in enumerate(range(0, length, step)):
        size = min(step, length - begin)
        if isinstance(source, MemoryRegion):
            yield begin, source.part(offset + begin, size)
            continue
        piece = held[number % 2][:size]
        source.read(offset + begin, piece)
        yield begin, piece


def _within(move: Move, source: Region, sink: Region, digester: Digester) -> None:
    """Move bytes to where some of them lie: all are read before any is written."""
    held = memoryview(bytearray(move.length))
    source.read(move.src_offset, held)
    sink.write(move.dst_offset, held)
    begin = move.dst_offset
    if isinstance(sink, MemoryRegion):
        digester.feed(0, sink.part(begin, move.length))
        return
    _look(move, sink, digester)


def _look(move: Move, sink: Region, digester: Digester) -> None:
    """Hash what lies in a file."""
    if not digester.wanted:
        return
    for begin, piece in _pieces(sink, move.dst_offset, move.length):
        digester.feed(begin, piece)


def _between_files(move: Move, source: FileRegion, sink: FileRegion) -> None:
    """Copy inside the kernel where that goes, else by way of memory."""
    moved = _copied(move, source, sink)
    for begin, piece in _pieces(source, move.src_offset + moved, move.length - moved):
        sink.write(move.dst_offset + moved + begin, piece)


def _copied(move: Move, source: FileRegion, sink: FileRegion) -> int:
    """Return how many bytes `copy_file_range`, or else `sendfile`, has copied."""
    moved = 0
    for way in (_copy_file_range, _sendfile):
        try:
            while moved < move.length:
                got = way(
                    source.fileno, sink.fileno, move.length - moved, move.src_offset + moved,
                    move.dst_offset + moved,
                )  # fmt: skip
                if not got:
                    return moved  # it ends here; reading says so
                moved += got
        except OSError as error:
            if error.errno not in _CANNOT_COPY:
                return moved  # reading and writing say what is wrong
    return moved


def _copy_file_range(src: int, dst: int, size: int, src_offset: int, dst_offset: int) -> int:
    if not hasattr(os, "copy_file_range"):  # pragma: no cover  # Linux has it
        raise OSError(errno.ENOSYS, "no copy_file_range")
    return os.copy_file_range(src, dst, size, src_offset, dst_offset)


def _sendfile(src: int, dst: int, size: int, src_offset: int, dst_offset: int) -> int:
    # To files, Linux alone sends; it writes where the descriptor stands, which is ours alone.
    os.lseek(dst, dst_offset, os.SEEK_SET)
    return os.sendfile(dst, src, src_offset, size)
