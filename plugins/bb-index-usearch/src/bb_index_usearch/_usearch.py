"""An index that walks a graph, and measures what it meets.

`_held` says which vectors are in the graph and how they are searched, `_measure` what a distance
is. This file checks what comes from outside and refuses it whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from bb_index_usearch._graph import Graph, Settings
from bb_index_usearch._held import Held, nearest
from bb_index_usearch._measure import Metric
from bb_index_usearch.errors import InvalidSetting
from bb_roles import Context, Environment, Index, State
from bb_roles.indexing import (
    Lengths,
    bad_state,
    check_ids,
    check_vectors,
    ids_are_sound,
    squares_of,
    unknown_id,
)
from bb_roles.limits import Limits, check_limits

__all__ = ["Usearch", "UsearchConfig"]

Tensor = NDArray[Any]

_MAX_DIM: Final = 1 << 16
#: Lengths that leave room for what the library computes in float32; for a cosine that is the
#: product of the squares of two of them.
_LENGTHS: Final[dict[Metric, Lengths]] = {
    "l2sq": Lengths(None, 62), "ip": Lengths(None, 62), "cosine": Lengths(-31, 31)
}  # fmt: skip
_DIM: Final = "give the length of the vectors, or leave it out"


@dataclass(frozen=True)
class UsearchConfig:
    """What is compared, how, and how much is spent on finding the true neighbours.

    Attributes:
        dim: Length of the vectors; `None` takes that of the first ones added.
        metric: `l2sq` for the squared Euclidean distance, `ip` for the inner product (its negative
            is the distance, so that the largest product comes first), `cosine` for one minus the
            cosine of the angle. `l2` is read as `l2sq`, so that a configuration of `index.flat`
            can be used.
        connectivity: Edges of a vector; twice as many on the lowest level. More find more and take
            memory.
        expansion_add: How many vectors are looked at to place a new one.
        expansion_search: How many are looked at in a search; more find more and take time. A search
            for more neighbours looks at as many.
        batch: Least number of vectors by which the graph grows; fewer are searched exactly.
    """

    dim: Annotated[int | None, Limits(1, _MAX_DIM, fix=_DIM)] = None
    metric: Literal["l2sq", "ip", "cosine", "l2"] = "l2sq"
    connectivity: Annotated[int, Limits(2, 256, unit="edges")] = 16
    expansion_add: Annotated[int, Limits(1, 1 << 16, unit="vectors")] = 128
    expansion_search: Annotated[int, Limits(1, 1 << 16, unit="vectors")] = 256
    batch: Annotated[int, Limits(16, 1 << 20, unit="vectors")] = 1024

    def __post_init__(self) -> None:
        check_limits(self, InvalidSetting)

    def settings(self, dim: int) -> Settings:
        """Return what graphs of vectors of a length are built with."""
        metric: Metric = "l2sq" if self.metric == "l2" else self.metric
        return Settings(dim, metric, self.connectivity, self.expansion_add, self.expansion_search)


class Usearch(Index):
    """Approximate nearest neighbours, by a walk through a graph of the library usearch.

    Vectors come as arrays (n, d) of any real dtype and are kept as float32; others are rounded to
    it, and so are queries. A single vector (d,) is refused: pass `vector[None, :]`. A search may
    miss a neighbour, but the distances of what it returns are exact: computed in float64 and
    rounded to float32, with the bits that `index.flat` gives. With fewer than `batch` vectors
    nothing is missed. Vectors with values that are not finite are refused, as are those longer than
    2**62; for `cosine`, those longer than 2**31 or shorter than 2**-31.

    Ids count up from 0 and are never used again. There is nothing to train.

    On one kind of processor equal calls give equal bits. On another the library may round
    otherwise as it builds and walks the graph, so a search may miss another neighbour there.

    Args:
        config: A `UsearchConfig`.
        env: Where it is being built.
    """

    Config: ClassVar[type] = UsearchConfig

    def __init__(self, config: UsearchConfig, env: Environment) -> None:
        super().__init__(config, env)
        self._of: UsearchConfig = config
        self._metric: Metric = config.settings(1).metric
        self._next_id = 0
        self._held: Held | None = None
        self._clear()

    def add(self, ctx: Context, vectors: Tensor) -> NDArray[np.int64]:
        """Add vectors (n, d), all of them or none; return their ids, int64 (n,), ascending.

        Raises:
            VectorMismatch: It is not an array (n, d) of this index's dimension.
            VectorOutOfRange: A vector is not finite, too long, or without a direction.
        """
        checked = self._check(vectors)
        ids = np.arange(self._next_id, self._next_id + len(checked), dtype=np.int64)
        if not len(checked):
            return ids
        held = self._held or Held.nothing(self._of.settings(checked.shape[1]))
        self._held = held.added(ids, checked, self._of.batch)
        self._next_id += len(checked)
        return ids.copy()

    def search(
        self, ctx: Context, queries: Tensor, *, k: int = 10
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the ids, int64 (m, k), and distances, float32 (m, k), of vectors that are near.

        The nearest comes first; equal distances come in the order of their ids. Where fewer than
        `k` vectors are stored, all of them are found, and the rest has id -1 and distance +inf.

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
        checked = self._check(queries)
        ids = np.full((len(checked), k), -1, np.int64)
        distances = np.full((len(checked), k), np.inf, np.float32)
        if self._held is None or not len(checked):
            return ids, distances
        for line, near in enumerate(nearest(self._held, checked, k, self._metric)):
            ids[line, : len(near.ids)] = near.ids
            distances[line, : len(near.ids)] = near.distances
        return ids, distances

    def remove(self, ctx: Context, ids: Tensor) -> None:
        """Remove vectors by id, int64 (n,), all of them or none; one may be named twice.

        Raises:
            VectorMismatch: It is not a vector of integers.
            UnknownId: No vector has such an id, or it has been removed before.
        """
        numbers = check_ids(ids)
        if not numbers.size:
            return
        held = self._held
        unknown = np.arange(1) if held is None else held.unknown(numbers)
        if held is None or unknown.size:
            raise unknown_id(ids, int(unknown[0]))
        self._held = held.without(numbers, self._of.batch)

    def save(self) -> State:
        """Return the graph's bytes (uint8) with its labels, and copies of the other vectors."""
        data: dict[str, Any] = {"metric": self._metric, "connectivity": self._of.connectivity}
        held = self._held
        if held is None:
            return State(data=data)
        tensors: dict[str, Tensor] = {"ids": held.ids.copy(), "vectors": held.waiting.copy()}
        if len(held.graph):
            tensors["graph"] = held.graph.to_buffer()
            tensors["labels"] = held.graph.ids.copy()
            tensors["alive"] = held.alive.copy()
        return State(tensors=tensors, data={**data, "next_id": self._next_id})

    def load(self, state: State) -> None:
        """Take over saved vectors in place of those that are here.

        Every size, level and neighbour in the graph is checked before the library reads it.

        Raises:
            StateMismatch: They are of another metric, connectivity or dimension, or damaged.
        """
        own = {"metric": self._metric, "connectivity": self._of.connectivity}
        for name, value in own.items():
            found: object = state.data.get(name, value)
            if found != value:
                raise bad_state(f"its {name} is {found!r}", repr(value))
        if "vectors" not in state.tensors:
            self._clear()
            return
        held = self._read(state.tensors)
        next_id: object = state.data.get("next_id")
        ids = np.concatenate([held.graph.ids, held.ids])
        if not ids_are_sound(ids, len(ids), next_id):
            raise bad_state(
                f"its ids are not in order, or not below next_id {next_id!r}",
                "ascending numbers from 0 on, those of the graph first",
            )
        self._held, self._next_id = held, cast("int", next_id)

    def close(self) -> None:
        """Drop all vectors."""
        self._held = None

    def _clear(self) -> None:
        dim = self._of.dim
        self._next_id = 0
        self._held = None if dim is None else Held.nothing(self._of.settings(dim))

    def _read(self, tensors: Any) -> Held:
        vectors = np.asarray(tensors["vectors"])
        if (
            vectors.dtype != np.float32
            or vectors.ndim != 2
            or not 1 <= vectors.shape[1] <= _MAX_DIM
            or self._of.dim not in (None, vectors.shape[1])
        ):
            raise bad_state(
                f"its vectors are {vectors.dtype.name}{list(vectors.shape)}",
                f"float32[n,{self._of.dim or 'd'}]",
            )
        ids = _tensor(tensors, "ids", np.dtype(np.int64), len(vectors))
        settings = self._of.settings(vectors.shape[1])
        graph, alive = Graph(settings), np.empty(0, np.bool_)
        if "graph" in tensors:
            graph = _read_graph(settings, tensors)
            alive = _tensor(tensors, "alive", np.dtype(np.bool_), len(graph)).copy()
        for part in (vectors, graph.vectors(graph.ids)):
            if not _LENGTHS[self._metric].fit(squares_of(part)).all():
                raise bad_state("a vector in it is out of range", "vectors that add() has taken")
        return Held(graph, alive, ids.copy(), vectors.copy())

    def _check(self, given: Tensor) -> NDArray[np.float32]:
        """Return vectors as float32, contiguous."""
        dim = None if self._held is None else self._held.dim
        lengths = _LENGTHS[self._metric]
        return check_vectors(given, dim=dim, most_dim=_MAX_DIM, lengths=lengths)[0]


def _read_graph(settings: Settings, tensors: Any) -> Graph:
    buffer = np.ascontiguousarray(tensors["graph"])
    if buffer.dtype != np.uint8 or buffer.ndim != 1:
        raise bad_state(f"its graph is {buffer.dtype.name}{list(buffer.shape)}", "uint8[bytes]")
    try:
        graph = Graph.from_buffer(settings, buffer)
    except (ValueError, RuntimeError) as error:
        raise bad_state(f"in its graph, {error}", "the bytes that save() returned") from error
    labels = _tensor(tensors, "labels", np.dtype(np.int64), len(graph))
    if (labels != graph.ids).any():
        raise bad_state("its labels are not those of its graph", "the labels of the graph")
    return graph


def _tensor(tensors: Any, name: str, dtype: np.dtype[Any], count: int) -> Tensor:
    found = np.asarray(tensors.get(name, np.empty(0)))
    if found.dtype != dtype or found.shape != (count,):
        raise bad_state(
            f"its {name} are {found.dtype.name}{list(found.shape)}", f"{dtype.name}[{count}]"
        )
    return found
