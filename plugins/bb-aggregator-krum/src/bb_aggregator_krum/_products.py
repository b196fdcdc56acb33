"""Inner products of all pairs of many vectors, as seen from the first of them, in binary64.

Vectors are read a block at a time, so nothing of their size is made. numpy widens and centres each
block and leaves the products to BLAS, which multiplies every pair twice. The compiled kernel does
each pair once, on pieces that stay in the first cache, and takes about a third of the time. Both
compute in binary64, and only the order in which they add differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bb_ir.buffers import allocate
from bb_roles.kernels import Engine, compiled, wants_numba

__all__ = ["Vectors", "inner_products"]

#: Multiplications of one matrix product: few, so that BLAS libraries do not wake up threads for it.
_PRODUCT: Final = 400_000
#: Bytes of a block, and most elements of each vector in it: long pieces are read from memory much
#: faster than short ones of many vectors in turns.
_BLOCK: Final = 1 << 22
_PIECE: Final = 1 << 16
#: Elements of each vector that the kernel works on at once.
_CHUNK: Final = 256

#: For each dtype, one or more vectors (d,).
Vectors = Sequence[Sequence[NDArray[Any]]]
_Floats = NDArray[np.float64]


def inner_products(vectors: Vectors, members: Sequence[int], engine: Engine) -> _Floats:
    """Return the inner products of some of the vectors, the first of which is the origin.

    Args:
        vectors: For each dtype, vectors (d,) of values below 2**450 in magnitude.
        members: Which of them, at least one.
        engine: Who computes.

    Returns:
        A symmetric matrix (n, n).
    """
    if wants_numba(engine, max((group[0].size for group in vectors), default=0)):
        return _by_kernel(vectors, members)
    return _by_blas(vectors, members)


def _by_blas(vectors: Vectors, members: Sequence[int]) -> _Floats:
    count = len(members)
    gram = np.zeros((count, count))
    step = max(64, _PRODUCT // count**2)
    for group in vectors:
        for block in _blocks(group, members, np.dtype(np.float64)):
            np.subtract(block, block[0].copy(), out=block)
            for start in range(0, block.shape[1], step):
                part = block[:, start : start + step]
                np.add(gram, part @ part.T, out=gram)
    return (gram + gram.T) / 2


def _by_kernel(vectors: Vectors, members: Sequence[int]) -> _Floats:
    count = len(members)
    even = count + count % 2
    wide = allocate(even * _CHUNK * 8).view(np.float64).reshape(even, _CHUNK)
    wide[...] = 0.0
    gram = np.zeros((even, even))
    kernel = compiled(_add_products, reassociate=True)
    for group in vectors:
        # It widens floats itself, so blocks of them take half the memory.
        narrow = group[0].dtype.itemsize <= 4 and "float" in group[0].dtype.name
        dtype: np.dtype[Any] = np.dtype(np.float32 if narrow else np.float64)
        for block in _blocks(group, members, dtype):
            kernel(block, wide, gram)
    lower = np.tril(gram[:count, :count])
    return lower + np.tril(lower, -1).T


def _add_products(rows: Any, wide: Any, gram: Any) -> None:
    """Add the products of each pair of rows below the diagonal, two by two rows at a time.

    So each element that is loaded is multiplied twice. `wide` is memory for the pieces of an even
    number of rows; one more than there are is left zero.
    """
    for start in range(0, rows.shape[1], _CHUNK):
        origin = rows[0, start : start + _CHUNK]
        for at in range(rows.shape[0]):
            row, out = rows[at, start : start + _CHUNK], wide[at]
            for k in range(row.size):
                out[k] = np.float64(row[k]) - np.float64(origin[k])
            out[row.size :] = 0.0
        for i in range(0, wide.shape[0], 2):
            a, b = wide[i], wide[i + 1]
            for j in range(0, i + 2, 2):
                c, d = wide[j], wide[j + 1]
                ac = ad = bc = bd = 0.0
                for k in range(_CHUNK):
                    ac += a[k] * c[k]
                    ad += a[k] * d[k]
                    bc += b[k] * c[k]
                    bd += b[k] * d[k]
                gram[i, j] += ac
                gram[i, j + 1] += ad
                gram[i + 1, j] += bc
                gram[i + 1, j + 1] += bd


def _blocks(
    group: Sequence[NDArray[Any]], members: Sequence[int], dtype: np.dtype[Any]
) -> Iterator[NDArray[Any]]:
    """Yield the same part of all members as rows of a dtype, free to be written."""
    chosen = [group[member] for member in members]
    size = chosen[0].size
    step = min(size, _PIECE, max(_CHUNK, _BLOCK // (dtype.itemsize * len(chosen))))
    # Vector instructions like memory that starts with a line of the cache, and rows in one piece.
    memory = allocate(len(chosen) * step * dtype.itemsize).view(dtype)
    for start in range(0, size, max(step, 1)):
        width = min(step, size - start)
        block = memory[: len(chosen) * width].reshape(len(chosen), width)
        for row, vector in zip(block, chosen, strict=True):
            row[...] = vector[start : start + step]
        yield block
