"""An index that compares a query with every vector.

`_search` explains how it is exact and fast, `_store` how vectors are kept. This file checks what
comes from outside and refuses it whole.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, cast

import numpy as np
from numpy.typing import NDArray

from bb_index_flat._search import LENGTHS, MAX_DIM, Metric, nearest
from bb_index_flat._store import Store
from bb_index_flat.errors import InvalidSetting
from bb_roles import Context, Environment, Index, State
from bb_roles.indexing import (
    bad_state,
    check_ids,
    check_vectors,
    ids_are_sound,
    squares_of,
    unknown_id,
)
from bb_roles.limits import Limits, check_limits

__all__ = ["Flat", "FlatConfig"]

Tensor = NDArray[Any]

_DIM: Final = "give the length of the vectors, or leave it out"
_DEFER: Final = "give 0 to hand every search to the executor, None for none"


@dataclass(frozen=True)
class FlatConfig:
    """What is compared, and how.

    Attributes:
        dim: Length of the vectors; `None` takes that of the first ones added.
        metric: `l2` for the squared Euclidean distance, `ip` for the inner product (its negative
            is the distance, so that the largest product comes first), `cosine` for one minus the
            cosine of the angle.
        defer_above: A search that compares more numbers than this (queries times vectors times
            their length) is handed to the host's executor, so that the Node does other work
            meanwhile; `None` for never. A hundred million take some milliseconds.
    """

    dim: Annotated[int | None, Limits(1, MAX_DIM, fix=_DIM)] = None
    metric: Metric = "l2"
    defer_above: Annotated[int | None, Limits(0, unit="numbers", fix=_DEFER)] = 100_000_000

    def __post_init__(self) -> None:
        check_limits(self, InvalidSetting)


class Flat(Index):
    """Exact nearest neighbours among all vectors.

    Vectors come as arrays (n, d) of any real dtype and are kept as float32; others are rounded to
    it, and so are queries. A single vector (d,) is refused: pass `vector[None, :]`. Distances are
    those of the rounded vectors, computed in float64 and rounded to float32; they are the same
    bits whatever else is stored and however queries are batched. Vectors with values that are not
    finite are refused, as are those longer than 2**62 and, for `cosine`, shorter than 2**-50.

    Ids count up from 0 and are never used again. There is nothing to train.

    Large searches are deferred: they look at the vectors as they were when they were asked for, and
    several can run at the same time.

    Args:
        config: A `FlatConfig`.
        env: Where it is being built.
    """

    Config: ClassVar[type] = FlatConfig
    defers: ClassVar[Collection[str]] = ("search",)
    reentrant: ClassVar[bool] = True

    def __init__(self, config: FlatConfig, env: Environment) -> None:
        super().__init__(config, env)
        self._metric: Metric = config.metric
        self._store: Store | None = None if config.dim is None else Store(config.dim)

    def add(self, ctx: Context, vectors: Tensor) -> NDArray[np.int64]:
        """Add vectors (n, d), all of them or none; return their ids, int64 (n,), ascending.

        Raises:
            VectorMismatch: It is not an array (n, d) of this index's dimension.
            VectorOutOfRange: A vector is not finite, too long, or without a direction.
        """
        checked, squares = self._check(vectors)
        if not len(checked):
            return np.empty(0, np.int64)
        if self._store is None:
            self._store = Store(checked.shape[1])
        return self._store.add(checked, squares)

    def search(
        self, ctx: Context, queries: Tensor, *, k: int = 10
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the ids, int64 (m, k), and distances, float32 (m, k), of the nearest vectors.

        What is large, as the configuration says, is done by the host's executor.

        The nearest comes first; equal distances come in the order of their ids. Where fewer than
        `k` vectors are stored, the rest has id -1 and distance +inf.

        Args:
            ctx: The call's context.
            queries: Vectors (m, d).
            k: How many to return for each, at least 1.

        Raises:
            InvalidSetting: `k` is less than 1.
            VectorMismatch: It is not an array (m, d) of this index's dimension.
            VectorOutOfRange: A query is not finite, too long, or without a direction.
        """
        if k < 1:
            raise InvalidSetting(
                f"a search for the {k} nearest vectors",
                expected="k of at least 1",
                fix="give search(queries, k=...) how many neighbours you want",
                where="k",
            )
        checked, _ = self._check(queries)
        store = self._store or Store(checked.shape[1])
        most = cast("FlatConfig", self.config).defer_above
        if most is None or checked.size * len(store.rows) <= most:
            return nearest(store.rows, store.live, checked, k, self._metric)
        found: tuple[NDArray[np.int64], NDArray[np.float32]] = ctx.defer(
            nearest, store.snapshot(), store.live, checked, k, self._metric
        )
        return found

    def remove(self, ctx: Context, ids: Tensor) -> None:
        """Remove vectors by id, int64 (n,), all of them or none; one may be named twice.

        Raises:
            VectorMismatch: It is not a vector of integers.
            UnknownId: No vector has such an id, or it has been removed before.
        """
        numbers = check_ids(ids)
        if not numbers.size:
            return
        found = self._store.find(numbers) if self._store else np.full(len(numbers), -1, np.int64)
        unknown = np.flatnonzero(found < 0)
        if self._store is None or unknown.size:
            raise unknown_id(ids, int(unknown[0]))
        self._store.remove(found)

    def save(self) -> State:
        """Return copies of all vectors and their ids."""
        data: dict[str, Any] = {"metric": self._metric}
        if self._store is None:
            return State(data=data)
        living = self._store.rows.living()
        return State(
            tensors={"vectors": living.vectors, "ids": living.ids},
            data={**data, "next_id": self._store.next_id},
        )

    def load(self, state: State) -> None:
        """Take over saved vectors in place of those that are here.

        Raises:
            StateMismatch: They are of another metric or dimension, or damaged.
        """
        dim = cast("FlatConfig", self.config).dim
        if state.data.get("metric", self._metric) != self._metric:
            raise bad_state(f"its metric is {state.data['metric']!r}", self._metric)
        if "vectors" not in state.tensors:
            self._store = None if dim is None else Store(dim)
            return
        vectors = np.asarray(state.tensors["vectors"])
        ids = np.asarray(state.tensors.get("ids", np.empty(0)))
        if vectors.dtype != np.float32 or vectors.ndim != 2 or dim not in (None, vectors.shape[1]):
            raise bad_state(
                f"its vectors are {vectors.dtype.name}{list(vectors.shape)}",
                f"float32[n,{dim or 'd'}]",
            )
        next_id = state.data.get("next_id")
        if not ids_are_sound(ids, len(vectors), next_id):
            raise bad_state(
                f"its ids are {ids.dtype.name}{list(ids.shape)} with next_id {next_id!r}",
                f"{len(vectors)} ascending numbers below next_id",
            )
        squares = squares_of(vectors)
        if not LENGTHS[self._metric].fit(squares).all():
            raise bad_state("a vector in it is out of range", "vectors that add() has taken")
        store = Store(vectors.shape[1], cast("int", next_id))
        store.put(vectors, squares, ids)
        self._store = store

    def close(self) -> None:
        """Drop all vectors."""
        self._store = None

    def _check(self, given: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return vectors as float32 and their squared lengths."""
        dim = None if self._store is None else self._store.rows.vectors.shape[1]
        return check_vectors(given, dim=dim, most_dim=MAX_DIM, lengths=LENGTHS[self._metric])
