"""Checks of vectors, ids and saved states, whatever the index does with them.

Nothing here keeps anything; what fails raises an error of `errors` and names the first culprit.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bb_roles.indexing.errors import StateMismatch, UnknownId, VectorMismatch, VectorOutOfRange

__all__ = [
    "Lengths",
    "bad_state",
    "check_ids",
    "check_vectors",
    "ids_are_sound",
    "squares_of",
    "unknown_id",
]

Tensor = NDArray[Any]

#: Most elements in a temporary array.
_BLOCK: Final = 1 << 19


class Lengths(NamedTuple):
    """Which vectors can be measured, by their lengths.

    Attributes:
        least: The shortest is as long as 2 to this power; `None` where a zero vector will do.
        most: The longest is as long as 2 to this power.
    """

    least: int | None
    most: int

    def fit(self, squares: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Say which squared lengths, float64 (n,), are within; those of NaN are not."""
        least = 0.0 if self.least is None else 4.0**self.least
        return (squares >= least) & (squares <= 4.0**self.most)

    def __str__(self) -> str:
        if self.least is None:
            return f"of at most 2**{self.most}"
        return f"from 2**{self.least} to 2**{self.most}"


def squares_of(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the squared length of each vector (n, d), float64 (n,); NaN of one that holds NaN.

    Each depends on its vector alone, whatever else is in the batch.
    """
    found = np.empty(len(vectors), np.float64)
    step = max(1, _BLOCK // max(1, vectors.shape[1]))
    with np.errstate(invalid="ignore"):  # a signalling NaN
        for start in range(0, len(vectors), step):
            block = vectors[start : start + step].astype(np.float64)
            block *= block
            found[start : start + step] = block.sum(axis=1)
    return found


def check_vectors(
    given: Tensor, *, dim: int | None, most_dim: int, lengths: Lengths
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return vectors (n, d) as float32, contiguous, and their squared lengths.

    Args:
        given: What the index was given: real numbers of any dtype, which are rounded.
        dim: Length of the vectors of this index; `None` while it has none.
        most_dim: The longest that it could have.
        lengths: Which vectors it can measure.

    Raises:
        VectorMismatch: It is not an array (n, d) of this dimension.
        VectorOutOfRange: A vector is not finite, or its length is not within `lengths`.
    """
    array = np.asarray(given)
    real = array.dtype.kind in "fiu" or array.dtype.name == "bfloat16"
    right = array.ndim == 2 and (
        array.shape[1] == dim if dim is not None else 1 <= array.shape[1] <= most_dim
    )
    if not real or not right:
        raise VectorMismatch(
            f"the vectors are {array.dtype.name}{list(array.shape)}",
            expected=f"real numbers of shape [n, {dim or 'd'}]",
            fix="pass vector[None, :] for a single one; an index has vectors of one length",
        )
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is refused below
        vectors = array.astype(np.float32, order="C", copy=False)
        squares = squares_of(vectors)
    wrong = np.flatnonzero(~lengths.fit(squares))
    if wrong.size:
        raise _out_of_range(array[wrong[0]], int(wrong[0]), lengths)
    return vectors, squares


def check_ids(given: Tensor) -> NDArray[np.int64]:
    """Return ids as int64 (n,); those too large for it turn negative, and are as unknown.

    Raises:
        VectorMismatch: It is not a vector of integers.
    """
    wanted = np.asarray(given)
    if wanted.ndim != 1 or (wanted.size and wanted.dtype.kind not in "iu"):
        raise VectorMismatch(
            f"the ids are {wanted.dtype.name}{list(wanted.shape)}",
            expected="integers (n,), as add() and search() return them",
            fix="flatten the ids of a search with ids.ravel(), and leave out those of -1",
        )
    numbers: NDArray[np.int64] = wanted.astype(np.int64)
    return numbers


def unknown_id(given: Tensor, at: int) -> UnknownId:
    """Return the error of an id, by its place, that no stored vector has."""
    return UnknownId(
        f"ids[{at}] is {np.asarray(given)[at]}, which no stored vector has",
        expected="ids that add() returned and that have not been removed",
        fix="remove each vector once; -1 in a search's result stands for no vector",
        where=f"ids[{at}]",
    )


def ids_are_sound(ids: Tensor, count: int, next_id: object) -> bool:
    """Tell whether saved ids, int64 (count,), ascend from 0 on and are below the next one."""
    if ids.dtype != np.int64 or ids.shape != (count,) or type(next_id) is not int or next_id < 0:
        return False
    whole = np.concatenate([[-1], ids, [min(next_id, (1 << 63) - 1)]])
    return bool((whole[1:] > whole[:-1]).all())


def bad_state(found: str, expected: str) -> StateMismatch:
    """Return the error of a saved state that does not fit."""
    return StateMismatch(
        f"the saved state does not fit: {found}",
        expected=expected,
        fix="restore with the configuration that the state was saved with",
    )


def _out_of_range(vector: Tensor, at: int, lengths: Lengths) -> VectorOutOfRange:
    with np.errstate(invalid="ignore"):  # a signalling NaN
        values = vector.astype(np.float64)
    bad = values[~np.isfinite(values)]
    length = math.hypot(*values.tolist())
    return VectorOutOfRange(
        f"vector {at} holds {bad[0]}" if bad.size else f"vector {at} has length {length:.3g}",
        expected=f"finite values, and a length {lengths}",
        fix="look at what computes the vectors, or scale them; a zero vector has no cosine",
        where=f"vector {at}",
    )
