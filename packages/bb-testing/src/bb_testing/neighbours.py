"""Nearest neighbours by the book: what an index is held against, one distance after the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_neighbours", "exact_distance", "exact_search"]

Vectors = NDArray[Any]
#: Ids and distances, each (queries, k).
Found = tuple[NDArray[Any], NDArray[Any]]


def exact_distance(metric: str, query: Vectors, vector: Vectors) -> np.float32:
    """Return one distance, computed in binary64 and rounded once.

    Args:
        metric: `l2` or `l2sq` for the squared Euclidean distance, `ip` for the negative of the
            inner product, `cosine` for one minus the cosine of the angle.
        query: A vector (d,).
        vector: Another one (d,).

    Raises:
        ValueError: There is no such metric.
    """
    query, vector = query.astype(np.float64), vector.astype(np.float64)
    if metric in ("l2", "l2sq"):
        return np.float32(((vector - query) ** 2).sum())
    product = (vector * query).sum()
    if metric == "ip":
        return np.float32(0.0 - product)
    if metric != "cosine":
        raise ValueError(f"metric is {metric!r}; l2, l2sq, ip and cosine are known")
    lengths = np.sqrt((vector * vector).sum() * (query * query).sum())
    return np.float32(np.clip(1.0 - product / lengths, 0.0, 2.0))


def exact_search(
    metric: str, vectors: Vectors, queries: Vectors, k: int, ids: Iterable[int] | None = None
) -> Found:
    """Measure every distance and sort: the nearest first, of equal ones the smaller id.

    Args:
        metric: As `exact_distance` has it.
        vectors: What is searched (n, d).
        queries: What is looked for (q, d).
        k: How many neighbours.
        ids: Of the vectors; their positions when left out.

    Returns:
        Ids int64 (q, k) and distances float32 (q, k); where there are fewer, -1 and infinity.
    """
    named = list(range(len(vectors)) if ids is None else ids)
    found = np.full((len(queries), k), -1, np.int64)
    distances = np.full((len(queries), k), np.inf, np.float32)
    for at, query in enumerate(queries):
        pairs = zip(named, vectors, strict=True)
        measured = sorted((exact_distance(metric, query, one), number) for number, one in pairs)
        for place, (distance, number) in enumerate(measured[:k]):
            found[at, place], distances[at, place] = number, distance
    return found, distances


def check_neighbours(found: Found, expected: Found) -> None:
    """Assert that ids are the same, and distances to the last bit."""
    assert found[0].tolist() == expected[0].tolist(), "other neighbours were found"
    assert found[1].tobytes() == expected[1].tobytes(), "their distances differ"
