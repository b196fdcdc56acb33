"""Digests of what arrives, made while the rest still arrives.

A `Digester` follows one move: it is given the bytes of one piece after the other, and hashes them
in another thread while the next piece is read. It looks at what lies in the destination, never at
what was to be sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from typing import Any, Final, NamedTuple

from bb_ir.plan import Digest, DigestAlgorithm, TransferOp
from bb_plans.hashing import digest_of, hasher

__all__ = ["Digester"]

#: Handing fewer bytes than this to another thread costs more than hashing them.
_WORTH_A_THREAD: Final = 256 << 10


class _Part(NamedTuple):
    """The bytes of one op among those of a move."""

    op: int
    begin: int
    end: int
    algorithm: DigestAlgorithm


class Digester:
    """Makes the digests of the ops of one move.

    Args:
        ops: All ops of the plan.
        indices: Those of the move, in the order of their bytes.
        pool: Where to hash; `None` to hash at once.
    """

    def __init__(
        self, ops: Sequence[TransferOp], indices: Sequence[int], pool: Executor | None = None
    ) -> None:
        self._parts: list[_Part] = []
        begin = 0
        for index in indices:
            end = begin + ops[index].length
            digest = ops[index].digest
            if digest is not None:
                self._parts.append(_Part(index, begin, end, digest.algorithm))
            begin = end
        self._pool = pool
        self._at = 0
        self._hasher: Any = None
        self._under_way: Future[None] | None = None
        self._found: dict[int, Digest] = {}

    @property
    def wanted(self) -> bool:
        """Whether any op has a digest."""
        return bool(self._parts)

    def feed(self, begin: int, data: memoryview) -> None:
        """Take the next bytes; they must stay as they are until the next call but one.

        Args:
            begin: Where they begin in the move; where the last ones ended.
            data: The bytes.
        """
        if not self._parts:
            return
        self._settle()
        if self._pool is None or data.nbytes < _WORTH_A_THREAD:
            self._hash(begin, data)
        else:
            self._under_way = self._pool.submit(self._hash, begin, data)

    def digests(self) -> dict[int, Digest]:
        """Return the digests of all ops that are whole, by their index."""
        self._settle()
        self._empty()
        return self._found

    def _settle(self) -> None:
        if self._under_way is not None:
            self._under_way.result()
            self._under_way = None

    def _hash(self, begin: int, data: memoryview) -> None:
        end = begin + data.nbytes
        while self._at < len(self._parts) and self._parts[self._at].begin < end:
            part = self._parts[self._at]
            piece = data[max(part.begin, begin) - begin : min(part.end, end) - begin]
            if part.end <= end and part.begin >= begin:  # the usual case: all of it at once
                self._found[part.op] = digest_of(piece, part.algorithm)
                self._at += 1
                continue
            if self._hasher is None:
                self._hasher = hasher(part.algorithm)
            self._hasher.update(piece)
            if part.end > end:
                return
            self._found[part.op] = Digest(part.algorithm, self._hasher.digest())
            self._hasher, self._at = None, self._at + 1

    def _empty(self) -> None:
        """Add the digests of ops without bytes, to which no piece ever comes."""
        for part in self._parts:
            if part.begin == part.end and part.op not in self._found:
                self._found[part.op] = digest_of(memoryview(b""), part.algorithm)
