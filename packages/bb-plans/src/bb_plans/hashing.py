"""Digests of bytes, by either algorithm of plans: at once, or piece by piece. It opens no files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol, cast

from blake3 import blake3

from bb_ir.plan import Digest, DigestAlgorithm, PlanFormatError
from bb_plans._raw import Data, as_bytes

__all__ = ["Hasher", "digest_of", "hasher"]


class Hasher(Protocol):
    """What computes a digest, piece by piece."""

    def update(self, data: Any, /) -> Any:
        """Take more bytes."""
        ...

    def digest(self) -> bytes:
        """Return the digest of all bytes so far."""
        ...


_HASHERS: Final[Mapping[DigestAlgorithm, Callable[..., Hasher]]] = MappingProxyType({
    DigestAlgorithm.BLAKE3: blake3,
    DigestAlgorithm.SHA256: hashlib.sha256,
})  # fmt: skip


def hasher(algorithm: DigestAlgorithm, data: Data = b"") -> Hasher:
    """Return what computes a digest, some bytes taken already; other threads run meanwhile.

    Raises:
        PlanFormatError: There is no such algorithm.
    """
    make = _HASHERS.get(algorithm)
    if make is None:
        raise PlanFormatError(
            f"{algorithm!r} is no algorithm of digests",
            expected=" or ".join(one.name for one in _HASHERS),
        )
    return make(cast("Any", as_bytes(data)))


def digest_of(data: Data, algorithm: DigestAlgorithm = DigestAlgorithm.BLAKE3) -> Digest:
    """Return the digest of some bytes; other threads run meanwhile.

    Args:
        data: The bytes, which lie one after the other.
        algorithm: BLAKE3 for all that is new, SHA-256 for what others know by that.

    Raises:
        PlanFormatError: There is no such algorithm.
    """
    return Digest(algorithm, hasher(algorithm, data).digest())
