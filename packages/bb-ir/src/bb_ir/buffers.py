"""Aligned memory for large values, and a pool that hands the same memory out again.

Fresh memory of some megabytes is expensive: the operating system maps and clears every page at
first touch. A pool avoids it without anybody saying when a buffer is free. It keeps the arrays
that own the memory; every view of one (a numpy view, a memoryview, an envelope that waits to be
sent, an array in another thread) holds a reference to its owner, so an owner that only the pool
refers to is free. That holds on CPython with its global lock; elsewhere the pool allocates anew
each time and keeps nothing.

There is no pool of the module's own: whoever wants one makes one and passes it on, and `None`
means plain allocation. This module must not guess from liveness or finalizers that memory is free.
"""

from __future__ import annotations

import sys
from collections import deque
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ALIGNMENT", "BufferPool", "allocate", "counts_references"]

#: Where buffers start: at a multiple of a cache line, which is also the widest vector.
ALIGNMENT: Final = 64

#: Below this many bytes the allocator of C is as good as a pool.
_SMALLEST: Final = 4096
#: How many owners of one size are looked at before fresh memory is taken.
_PROBES: Final = 32


def counts_references() -> bool:
    """Say whether reference counts tell who holds an object: on CPython with its global lock."""
    if sys.implementation.name != "cpython":
        return False
    enabled = getattr(sys, "_is_gil_enabled", None)  # from Python 3.13
    return enabled is None or bool(enabled())


def allocate(nbytes: int, pool: BufferPool | None = None) -> NDArray[np.uint8]:
    """Return an uninitialized buffer that starts at a multiple of `ALIGNMENT`.

    Args:
        nbytes: Its length.
        pool: Where to take it from; `None` allocates fresh memory.
    """
    if nbytes == 0:
        return _nothing()
    return _aligned(_own(nbytes), nbytes) if pool is None else pool.take(nbytes)


class BufferPool:
    """Buffers that are used again when nobody refers to them any more.

    Memory of a size is used again for that size only (rounded up to `ALIGNMENT`): a federation
    asks for the same few sizes over and over. The newest free buffer is taken first, because it
    is most likely in the processor's cache.

    A pool never hands one buffer to two holders, whichever threads ask; its counters are exact
    when one thread at a time does.

    Args:
        limit: Most bytes that the pool keeps, in use or not. What exceeds it is still handed out,
            and the sizes that were asked for longest ago are forgotten first.

    Attributes:
        reused: How often memory was used again.
        fresh: How often it was not.
        held_bytes: Bytes of the memory that the pool keeps, in use or not.
    """

    def __init__(self, limit: int = 1 << 30) -> None:
        if limit < 0:
            raise ValueError(f"a pool cannot keep {limit} bytes; pass limit=0 to keep nothing")
        self.limit = limit
        self.reused = 0
        self.fresh = 0
        self.held_bytes = 0
        # Owners by size, the newest at the right; sizes asked for longest ago come first.
        self._owners: dict[int, deque[NDArray[np.uint8]]] = {}
        self._can_reuse = counts_references()

    def take(self, nbytes: int) -> NDArray[np.uint8]:
        """Return an uninitialized buffer of exactly `nbytes`, aligned to `ALIGNMENT`.

        It returns to the pool by itself when the last view of it is gone. What it held before
        is still in it.
        """
        if nbytes < _SMALLEST:
            return _aligned(_own(nbytes), nbytes)
        size = -(-nbytes // ALIGNMENT) * ALIGNMENT
        owner = self._find_free(size)
        if owner is None:
            owner = _own(size)
            self.fresh += 1
            self._make_room(owner.nbytes)
        else:
            self.reused += 1
        self._keep(size, owner)
        return _aligned(owner, nbytes)

    def clear(self) -> None:
        """Forget all memory; what is in use stays valid."""
        self._owners.clear()
        self.held_bytes = 0

    def _find_free(self, size: int) -> NDArray[np.uint8] | None:
        """Take an owner out of the pool that only the pool refers to."""
        owners = self._owners.get(size)
        if not owners:
            return None
        idle = _references_of_a_local()
        for _ in range(min(len(owners), _PROBES)):
            try:
                # Out of the pool first, so that no other thread looks at the same one.
                owner = owners.pop()
            except IndexError:
                return None
            if sys.getrefcount(owner) <= idle:
                self.held_bytes -= owner.nbytes
                return owner
            owners.appendleft(owner)
        return None

    def _keep(self, size: int, owner: NDArray[np.uint8]) -> None:
        if not self._can_reuse or owner.nbytes > self.limit:
            return
        owners = self._owners.pop(size, None) or deque[Any]()
        self._owners[size] = owners  # at the end: asked for last
        owners.append(owner)
        self.held_bytes += owner.nbytes

    def _make_room(self, nbytes: int) -> None:
        """Forget memory until `nbytes` more can be kept, unless they never can."""
        if nbytes > self.limit:
            return
        while self._owners and self.held_bytes + nbytes > self.limit:
            oldest = next(iter(self._owners))
            owners = self._owners[oldest]
            if owners:
                self.held_bytes -= owners.popleft().nbytes
            if not owners:
                del self._owners[oldest]


def _references_of_a_local() -> int:
    """Count the references to an object that one local variable holds, as `getrefcount` sees it."""
    probe = object()
    return sys.getrefcount(probe)


@cache
def _nothing() -> NDArray[np.uint8]:
    """Return the one empty buffer: an envelope whose values are all small has no payload."""
    import numpy as np

    return np.empty(0, np.uint8)


def _own(nbytes: int) -> NDArray[np.uint8]:
    import numpy as np

    return np.empty(nbytes + ALIGNMENT, np.uint8)


def _aligned(owner: NDArray[np.uint8], nbytes: int) -> NDArray[np.uint8]:
    start = -owner.ctypes.data % ALIGNMENT
    return owner[start : start + nbytes]
