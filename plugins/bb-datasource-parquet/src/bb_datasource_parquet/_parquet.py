"""The component: streams a client's rows of a parquet file in batches.

Whatever the size of the file, what is in memory is one piece of a row group, one index per row of
that row group where rows are divided over clients, and the buffer that shuffles.

How rows are divided is a function of the footer, `seed`, `clients` and `client`, so all Nodes that
read the same file agree without talking:

- `iid`: within each row group the rows are dealt to the clients in a random order, going on where
  the row group before it stopped. So parts differ in size by one row at most.
- `row_group`: row group g is that of client g modulo `clients`. A file that is written by user or
  by day is divided along these.

How passes are shuffled: row groups come in a random order, and their rows pass through a buffer of
`shuffle_buffer` rows that is filled, put into a random order, and emptied. Rows that are farther
apart than that in a file of one row group do not mix; a buffer as large as the part shuffles it
wholly. The order depends on the key that `batches` drew, never on how pyarrow cuts what it reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from bb_datasource_parquet._file import Columns, Table
from bb_datasource_parquet.errors import FileUnreadable
from bb_ir.types import tensor
from bb_roles import Batches, Context, DataSource, Environment, Recipe, State
from bb_roles.data import DataError, batch_types
from bb_roles.limits import Limits, check_limits

__all__ = ["Parquet", "ParquetConfig"]

Tensor = NDArray[Any]
Batch = tuple[Tensor, Tensor]
Partition = Literal["all", "iid", "row_group"]


@dataclass(frozen=True, kw_only=True)
class ParquetConfig:
    """Which columns of which file are read, by whom, and in what order.

    Attributes:
        path: The parquet file.
        label: Name of the column of the targets.
        features: Names of the columns of the inputs, in order; none for all but the label.
        dtype: Of the inputs: `float32` or `float64`. Columns hold whole numbers, truth values or
            floating-point numbers.
        label_dtype: Of the targets: `int64` for classes, whose column holds whole numbers or
            truth values; `float32` or `float64` for regression.
        partition: How rows are divided over clients: `all` gives them whole, `iid` deals the
            rows of each row group at random, `row_group` deals whole row groups in turn.
        clients: Number of parts; needed by a partition.
        client: Which part this one has, from 0; needed by a partition.
        batch_size: Examples per batch; the last batch of a pass may be smaller.
        shuffle: Whether `batches` shuffles each pass.
        shuffle_buffer: Rows that are held in memory to be shuffled.
        seed: Decides how `iid` deals, which must be the same on all Nodes; the order of batches
            comes from the Node's own seed.
    """

    path: str
    label: str
    features: tuple[str, ...] = ()
    dtype: Literal["float32", "float64"] = "float32"
    label_dtype: Literal["int64", "float32", "float64"] = "int64"
    partition: Partition = "all"
    clients: Annotated[int | None, Limits(1)] = None
    client: Annotated[int | None, Limits(0)] = None
    batch_size: Annotated[int, Limits(1, unit="examples")] = 32
    shuffle: bool = True
    shuffle_buffer: Annotated[int, Limits(2, unit="rows")] = 8192
    seed: Annotated[int, Limits(0)] = 0

    def __post_init__(self) -> None:
        check_limits(self, DataError)
        for name in ("path", "label"):
            _need(getattr(self, name) != "", f"{name} is empty", "a name")
        twice = [name for name in self.features if self.features.count(name) > 1]
        _need(not twice, f"features has {twice[:1]} twice", "each column once")
        _need(
            self.label not in self.features,
            f"the label {self.label!r} is one of the features",
            "inputs that do not hold the answer",
        )
        self._check_part()

    def _check_part(self) -> None:
        if self.partition == "all":
            _need(
                self.clients is None and self.client is None,
                f"client {self.client} of {self.clients} is chosen, but partition is 'all'",
                "partition 'iid' or 'row_group', or no client and no clients",
            )
            return
        if self.clients is None or self.client is None:
            raise DataError(
                f"partition {self.partition!r} has client {self.client} of {self.clients}",
                expected="both clients and client",
                fix="set clients to the number of parts and client to the part of this Node",
            )
        last = self.clients - 1
        _need(self.client <= last, f"client is {self.client}", f"0 to {last}, one per part")


class Parquet(DataSource):
    """Rows of a parquet file: inputs (n, features) of `dtype`, targets (n,) of `label_dtype`.

    `next_batch` goes through the client's rows in their stored order and keeps its place in the
    saved state. `batches` draws one key from `ctx.rng()`, so what it returns can be iterated
    again and gives the same batches.
    """

    Config = ParquetConfig

    def __init__(self, config: ParquetConfig, env: Environment) -> None:
        super().__init__(config, env)
        columns = Columns(config.features, config.label, config.dtype, config.label_dtype)
        self._table = Table(config.path, columns)
        self._starts = np.cumsum([0, *self._table.groups]).tolist()
        self._mine = {g: n for g in range(len(self._table.groups)) if (n := self._count(g)) > 0}
        self._examples = sum(self._mine.values())
        if self._examples == 0:
            raise DataError(
                f"client {config.client} of {config.clients} gets no row of {config.path!r}, which "
                f"has {self._starts[-1]} in {len(self._table.groups)} row groups",
                expected="at least one row for every client",
                fix="lower the number of clients, or write the file with more row groups"
                if config.partition == "row_group"
                else "lower the number of clients, or check how the file was written",
            )
        self._position = 0
        self._stream: Iterator[Batch] | None = None

    @classmethod
    def value_types(cls, config: ParquetConfig) -> Mapping[str, str]:
        """Return the types of batches; their width is known when `features` are named."""
        width = len(config.features) or None
        return batch_types(tensor(config.dtype, (width,)), tensor(config.label_dtype, ()))

    def next_batch(self, ctx: Context) -> Batch:
        """Return the next batch in stored order; starts over at the end.

        Raises:
            FileUnreadable: The file is damaged or was replaced.
            UnusableValue: A value is null, not finite, or beyond its dtype.
        """
        if self._stream is None:
            rows = self._rows(list(self._mine), skip=self._position)
            self._stream = _batched(rows, self.config.batch_size)
        stream, self._stream = self._stream, None  # what fails starts over from the place
        x, y = next(stream)
        self._position += len(y)
        if self._position < self._examples:
            self._stream = stream
        else:
            self._position = 0
        return x, y

    def batches(self, ctx: Context, *, epochs: int = 1) -> Batches:
        """Return all batches of `epochs` passes, each pass in an order of its own.

        Raises:
            DataError: `epochs` is less than 1.
        """
        _need(epochs >= 1, f"epochs is {epochs!r}", "a whole number, at least 1")
        config = self.config
        key = ctx.rng().integers(0, 2**64, size=2, dtype="uint64") if config.shuffle else None
        return self._batches(epochs, config.batch_size, config.shuffle_buffer, key)

    def remake(self, state: State) -> Batches:
        """Return batches that `batches` gave before: the same examples in the same order.

        Raises:
            FileUnreadable: They were drawn from another file, or another part of it.
        """
        self._need_same(state, "the batches were drawn")
        facts = state.data
        return self._batches(
            facts["epochs"], facts["batch_size"], facts["shuffle_buffer"], state.tensors.get("key")
        )

    def _batches(self, epochs: int, size: int, buffer: int, key: Tensor | None) -> Batches:
        facts = {"epochs": epochs, "batch_size": size, "shuffle_buffer": buffer, **self._facts()}
        recipe = Recipe(self, State({} if key is None else {"key": key}, facts))
        return Batches(self._examples, lambda: self._drawn(epochs, size, buffer, key), recipe)

    def _drawn(self, epochs: int, size: int, buffer: int, key: Tensor | None) -> Iterator[Batch]:
        rng = None if key is None else np.random.Generator(np.random.Philox(key=key))
        groups = list(self._mine)
        for _ in range(epochs):
            if rng is None:
                yield from _batched(self._rows(groups), size)
                continue
            order = [groups[i] for i in rng.permutation(len(groups))]
            yield from _batched(_shuffled(self._rows(order), buffer, rng), size)

    def reset(self, ctx: Context) -> None:
        """Start over with the first batch."""
        self._position, self._stream = 0, None

    def save(self) -> State:
        """Return the place of `next_batch` and which file it is a place in."""
        return State(data={"position": self._position, **self._facts()})

    def load(self, state: State) -> None:
        """Take over the place of `next_batch`.

        Raises:
            FileUnreadable: It is a place in another file, or in another part of it.
        """
        self._need_same(state, "the place was saved")
        self._position, self._stream = state.data["position"], None

    def close(self) -> None:
        """Close the file that `next_batch` reads."""
        self._stream = None

    def _facts(self) -> dict[str, Any]:
        return {"examples": self._examples, "file": self._table.fingerprint}

    def _need_same(self, state: State, what: str) -> None:
        given = {name: state.data.get(name) for name in ("examples", "file")}
        if given != self._facts():
            raise FileUnreadable(
                f"{what} from {given['examples']} examples of another file or partition than "
                f"{self.config.path!r}, which has {self._examples} here",
                expected="the same file and the same configuration",
                fix="restore with the file that was used, not with one that was written anew",
            )

    # Which rows are this client's.

    def _count(self, group: int) -> int:
        """Return how many rows of a row group are this client's."""
        config, n = self.config, self._table.groups[group]
        if config.partition == "all":
            return n
        if config.partition == "row_group":
            return n if group % config.clients == config.client else 0
        # Of consecutive numbers, those that are `client` modulo `clients`.
        clients: int = config.clients
        first: int = (config.client - self._starts[group]) % clients
        return max(0, -(-(n - first) // clients))

    def _chosen(self, group: int) -> NDArray[np.bool_] | None:
        """Return which rows of a row group are this client's; `None` for all."""
        config = self.config
        if config.partition != "iid":
            return None
        turns = np.random.default_rng([config.seed, group]).permutation(self._table.groups[group])
        mine: NDArray[np.bool_] = (turns + self._starts[group]) % config.clients == config.client
        return mine

    def _rows(self, order: list[int], skip: int = 0) -> Iterator[Batch]:
        """Yield this client's rows of row groups, in pieces, without the first `skip` of them."""
        begin = 0
        while begin < len(order) and skip >= self._mine[order[begin]]:
            skip -= self._mine[order[begin]]
            begin += 1
        current, chosen = -1, None
        for group, start, x, y in self._table.pieces(order[begin:]):
            if group != current:
                current, chosen = group, self._chosen(group)
            if chosen is not None:
                here = chosen[start : start + len(y)]
                x, y = x[here], y[here]  # noqa: PLW2901  # what is left of them
            if skip < len(y):
                yield x[skip:], y[skip:]
            skip = max(0, skip - len(y))


def _batched(rows: Iterator[Batch], size: int) -> Iterator[Batch]:
    """Cut rows anew into batches of one size, all but the last."""
    held: list[Batch] = []
    count = 0
    for x, y in rows:
        held.append((x, y))
        count += len(y)
        if count < size:
            continue
        x, y = _joined(held)  # noqa: PLW2901  # all that is there
        whole = count - count % size
        for start in range(0, whole, size):
            # A copy: a batch that is kept must not keep all that was read with it.
            yield x[start : start + size].copy(), y[start : start + size].copy()
        held, count = [(x[whole:], y[whole:])], count - whole
    if count:
        yield _joined(held)


def _shuffled(rows: Iterator[Batch], buffer: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Put each run of `buffer` rows into a random order."""
    for x, y in _batched(rows, buffer):
        order = rng.permutation(len(y))
        yield x[order], y[order]


def _joined(held: list[Batch]) -> Batch:
    xs, ys = zip(*held, strict=True)
    return np.concatenate(xs), np.concatenate(ys)


def _need(truth: bool, found: str, expected: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not truth:
        raise DataError(found, expected=expected)
