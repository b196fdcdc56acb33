"""For data sources whose examples fit in memory: held-out sets, partitions, batches.

A plugin that can produce two arrays inherits `InMemory`, lets its `Config` inherit `DataConfig`,
and is done. The partitioners are plain functions of labels and a seed. This module must not read
files, and imports numpy only inside functions, so that importing it stays cheap.

Every index array here is sorted and of dtype int64; the same arguments give the same arrays in
every process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from bb_ir.errors import BytesAndBrainsError
from bb_roles.contracts import Batches, Context, DataSource, Environment, Recipe, State
from bb_roles.limits import Limits, check_limits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bb_ir.types import Type

    Tensor = NDArray[Any]
    Indices = NDArray[np.int64]

__all__ = [
    "DataConfig",
    "DataError",
    "InMemory",
    "TooFewExamples",
    "batch_types",
    "dirichlet",
    "holdout",
    "iid",
    "parts",
    "portion",
    "shards",
]

#: Dirichlet draws before a partition that leaves a client short of examples is refused.
ATTEMPTS = 1000


class DataError(BytesAndBrainsError, ValueError):
    """Data cannot be read, or not be divided as the configuration asks.

    Met when a data source is built: a file is missing or has other fields, or a partition would
    leave a client without examples. Correct the path, or choose another partition, number of
    clients or `alpha`.
    """


class TooFewExamples(DataError):
    """There are fewer examples than a partition needs for its clients.

    Met when a data source is built, and by `bb sim` before anything runs. Let there be fewer
    clients: the error says how many there may be.

    Attributes:
        most: So many clients can be given examples.
    """

    most: int = 0


@dataclass(frozen=True)
class DataConfig:
    """What every data source in memory can be told.

    Attributes:
        split: `train` leaves the held-out examples aside, `test` has only those, `all` has both.
        test_fraction: Share of the examples of each class that is held out.
        partition: How the examples are divided over clients: `all` gives them whole, `iid` in
            equal random parts, `shard` in parts of few classes each, `dirichlet` in parts whose
            mixes of classes differ by `alpha`. The held-out examples are never divided.
        clients: Number of parts; needed by a partition.
        client: Which part this one has, from 0; needed by a partition.
        alpha: Concentration of `dirichlet`: near 0 a class is with one client, at 100 all have
            nearly the same mix.
        shards_per_client: Runs of examples sorted by class that `shard` deals to each client.
        min_examples: Fewest examples that `dirichlet` may leave a client.
        batch_size: Examples per batch; the last batch of a pass may be smaller.
        shuffle: Whether `batches` shuffles each pass.
        seed: Decides held-out set and partition, which must be the same on all Nodes; the order
            of batches comes from the Node's own seed.
    """

    split: Literal["all", "train", "test"] = "all"
    test_fraction: Annotated[float, Limits(0, below=1)] = 0.2
    partition: Literal["all", "iid", "shard", "dirichlet"] = "all"
    clients: Annotated[int | None, Limits(1)] = None
    client: Annotated[int | None, Limits(0)] = None
    alpha: Annotated[float, Limits(above=0)] = 0.5
    shards_per_client: Annotated[int, Limits(1)] = 2
    min_examples: Annotated[int, Limits(1, unit="examples")] = 2
    batch_size: Annotated[int, Limits(1, unit="examples")] = 32
    shuffle: bool = True
    seed: Annotated[int, Limits(0)] = 0

    def __post_init__(self) -> None:
        check_limits(self, DataError, DataConfig)
        self._check_part()

    def _check_part(self) -> None:
        if self.partition == "all":
            if self.clients is not None or self.client is not None:
                raise DataError(
                    f"client {self.client} of {self.clients} is chosen, but partition is 'all'",
                    expected="a partition that divides, or no client and no clients",
                    fix="set partition to 'iid', 'shard' or 'dirichlet'",
                )
            return
        if self.split == "test":
            raise DataError(
                f"split 'test' is to be divided by partition {self.partition!r}",
                expected="held-out examples whole",
                fix="leave partition, clients and client out where split is 'test'",
            )
        if self.clients is None or self.client is None:
            raise DataError(
                f"partition {self.partition!r} has client {self.client} of {self.clients}",
                expected="both clients and client",
                fix="set clients to the number of parts and client to the part of this Node",
            )
        if self.client >= self.clients:
            raise DataError(
                f"client is {self.client}", expected=f"0 to {self.clients - 1}, one per part"
            )


def batch_types(inputs: Type, targets: Type) -> dict[str, str]:
    """Return what `value_types` of a data source says of its batches.

    Their length stays open, as the last batch of a pass may be smaller: it is named `batch`.

    Args:
        inputs: Type of the input of one example, with its shape.
        targets: Type of its target.
    """
    from bb_ir.ops import BATCHES
    from bb_ir.types import local, tensor

    xs, ys = (tensor(one.dtype, ("batch", *(one.shape or ()))) for one in (inputs, targets))
    return {
        "NextBatch.batch": str(xs),
        "NextBatch.labels": str(ys),
        "Batches.batches": str(local(BATCHES.of, {"inputs": xs, "targets": ys})),
    }


def iid(n: int, clients: int, seed: int) -> list[Indices]:
    """Divide `n` examples at random into parts whose sizes differ by at most one.

    Raises:
        TooFewExamples: There are fewer examples than clients.
    """
    import numpy as np

    _need_examples(n, clients, 1)
    order = _generator(seed, "iid").permutation(n)
    return [np.sort(part) for part in np.array_split(order, clients)]


def shards(labels: Tensor, clients: int, per_client: int, seed: int) -> list[Indices]:
    """Sort by class, cut into equal shards and deal `per_client` of them to each client.

    With two shards most clients see two classes only. Source: McMahan, Moore, Ramage, Hampson,
    Agüera y Arcas, "Communication-Efficient Learning of Deep Networks from Decentralized Data"
    (2017), section 3, the non-IID partition of MNIST.

    Args:
        labels: Classes (n,), or one-hot (n, classes).
        clients: Number of parts.
        per_client: Shards in each part.
        seed: Decides who gets which shards.

    Raises:
        DataError: There are fewer examples than shards, or the labels are no classes.
    """
    import numpy as np

    classes = _classes(labels)
    _need_examples(len(classes), clients, per_client)
    dealt: list[Indices] = np.array_split(np.argsort(classes, kind="stable"), clients * per_client)
    order = _generator(seed, "shard").permutation(len(dealt))
    hands = (order[i * per_client : (i + 1) * per_client] for i in range(clients))
    return [np.sort(np.concatenate([dealt[int(shard)] for shard in hand])) for hand in hands]


def dirichlet(
    labels: Tensor, clients: int, alpha: float, seed: int, min_examples: int = 2
) -> list[Indices]:
    """Divide each class over the clients by shares drawn from a symmetric Dirichlet distribution.

    Parts differ in size as well as in their mix of classes. A draw that leaves a client with
    fewer than `min_examples` is drawn again. Sources: the Dirichlet distribution as a measure of
    label skew is that of Hsu, Qi, Brown, "Measuring the Effects of Non-Identical Data
    Distribution for Federated Visual Classification" (2019), who draw the classes of each
    client; shares of each class, and so parts of unequal size, are drawn as in Yurochkin et al.,
    "Bayesian Nonparametric Federated Learning of Neural Networks" (2019).

    Args:
        labels: Classes (n,), or one-hot (n, classes).
        clients: Number of parts.
        alpha: Concentration; small values give each class to few clients.
        seed: Decides the shares and which examples they hold.
        min_examples: Fewest examples of a part.

    Raises:
        DataError: No draw gave every client enough, or the labels are no classes.
    """
    import numpy as np

    classes = _classes(labels)
    _need_examples(len(classes), clients, min_examples)
    rng = _generator(seed, "dirichlet")
    count = int(classes.max()) + 1
    members = [rng.permutation(np.flatnonzero(classes == c)) for c in range(count)]
    sizes = np.array([len(m) for m in members])
    fewest = 0
    for _ in range(ATTEMPTS):
        shares = rng.dirichlet(np.full(clients, alpha), size=count)
        cuts = np.floor(np.cumsum(shares, axis=1) * sizes[:, None]).astype(np.int64)
        # Whatever the rounding of the sum, the last client's part ends with the class.
        cuts[:, -1] = sizes
        smallest = int(np.diff(cuts, axis=1, prepend=0).sum(axis=0).min())
        if smallest >= min_examples:
            pieces = [np.split(m, c[:-1]) for m, c in zip(members, cuts, strict=True)]
            return [np.sort(np.concatenate(part)) for part in zip(*pieces, strict=True)]
        fewest = max(fewest, smallest)
    raise DataError(
        f"{ATTEMPTS} Dirichlet draws of {len(classes)} examples over {clients} clients with alpha"
        f" {alpha} left some client with {fewest} examples at most",
        expected=f"at least {min_examples} for every client",
        fix="raise alpha, or lower clients or min_examples",
    )


def holdout(labels: Tensor, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Return the indices of (training, held-out) examples, the same share of every class.

    Labels that are no classes (real numbers) are held out without regard to their values.

    Raises:
        DataError: One of the two would be empty.
    """
    import numpy as np

    classes = np.zeros(len(labels), np.int64) if _is_real(labels) else _classes(labels)
    rng = _generator(seed, "holdout")
    out = np.zeros(len(classes), bool)
    for c in np.unique(classes):
        members = rng.permutation(np.flatnonzero(classes == c))
        out[members[: round(len(members) * fraction)]] = True
    if out.all() or not out.any():
        raise DataError(
            f"test_fraction {fraction} holds out {int(out.sum())} of {len(out)} examples",
            expected="examples on both sides",
            fix="choose another test_fraction, or split 'all'",
        )
    return np.flatnonzero(~out), np.flatnonzero(out)


def parts(labels: Tensor, config: DataConfig) -> list[Indices]:
    """Return the indices of every client's part; one part when nothing is divided.

    Raises:
        DataError: The examples cannot be divided so.
    """
    import numpy as np

    chosen = np.arange(len(labels))
    if config.split == "test" or (config.split == "train" and config.test_fraction > 0.0):
        train, test = holdout(labels, config.test_fraction, config.seed)
        chosen = test if config.split == "test" else train
    if config.partition == "all" or config.clients is None:
        return [chosen]
    labels, clients, seed = labels[chosen], config.clients, config.seed
    if config.partition == "iid":
        divided = iid(len(labels), clients, seed)
    elif config.partition == "shard":
        divided = shards(labels, clients, config.shards_per_client, seed)
    else:
        divided = dirichlet(labels, clients, config.alpha, seed, config.min_examples)
    return [chosen[part] for part in divided]


def portion(x: Tensor, y: Tensor, config: DataConfig) -> tuple[Tensor, Tensor]:
    """Return the examples that `config` leaves to this client; all of them without a copy.

    Raises:
        DataError: The examples cannot be divided so.
    """
    if config.split == "all" and config.partition == "all":
        return x, y
    mine = parts(y, config)[config.client or 0]
    return x[mine], y[mine]


class InMemory(DataSource):
    """A data source over two arrays.

    `next_batch` goes through the examples in their stored order and keeps its place in the
    saved state. `batches` draws one key from `ctx.rng()`, so what it returns can be iterated
    again and gives the same batches.

    Args:
        config: What to do with the examples; its choice of them has already been made.
        env: Where the component is being built.
        x: Inputs (n, ...); not copied.
        y: Targets (n, ...); not copied.

    Raises:
        DataError: There are no examples, or not as many inputs as targets.
    """

    Config = DataConfig

    def __init__(self, config: DataConfig, env: Environment, x: Tensor, y: Tensor) -> None:
        super().__init__(config, env)
        if len(x) != len(y) or len(x) == 0:
            raise DataError(
                f"there are {len(x)} inputs and {len(y)} targets",
                expected="one target for each input, and at least one of them",
            )
        self._x, self._y = _frozen(x), _frozen(y)
        self._batch_size = config.batch_size
        self._shuffle = config.shuffle
        self._position = 0

    def next_batch(self, ctx: Context) -> tuple[Tensor, Tensor]:
        """Return the next batch in stored order as read-only views; starts over at the end."""
        start = self._position
        stop = start + self._batch_size
        self._position = stop if stop < len(self._x) else 0
        return self._x[start:stop], self._y[start:stop]

    def batches(self, ctx: Context, *, epochs: int = 1) -> Batches:
        """Return all batches of `epochs` passes, each pass in an order of its own.

        Raises:
            DataError: `epochs` is less than 1.
        """
        _need_positive("epochs", epochs)
        if not self._shuffle:
            return self._batches(epochs, self._batch_size, None)
        key = ctx.rng().integers(0, 2**64, size=2, dtype="uint64")
        return self._batches(epochs, self._batch_size, key)

    def remake(self, state: State) -> Batches:
        """Return batches that `batches` gave before: the same examples in the same order.

        Raises:
            DataError: There are more or fewer examples now.
        """
        examples = state.data["examples"]
        if examples != len(self._x):
            raise DataError(
                f"the batches were drawn from {examples} examples, and there are {len(self._x)}",
                expected="the data that they were drawn from",
                fix="restore with the same file and the same configuration",
            )
        return self._batches(
            state.data["epochs"], state.data["batch_size"], state.tensors.get("key")
        )

    def _batches(self, epochs: int, size: int, key: Tensor | None) -> Batches:
        facts = {"epochs": epochs, "batch_size": size, "examples": len(self._x)}
        recipe = Recipe(self, State({} if key is None else {"key": key}, facts))
        if key is None:
            return Batches(len(self._x), lambda: self._in_order(epochs, size), recipe)
        return Batches(len(self._x), lambda: self._shuffled(epochs, size, key), recipe)

    def reset(self, ctx: Context) -> None:
        """Start over with the first batch."""
        self._position = 0

    def save(self) -> State:
        """Return the place of `next_batch`; the examples themselves are not saved."""
        return State(data={"position": self._position})

    def load(self, state: State) -> None:
        """Take over the place of `next_batch`.

        Raises:
            DataError: The place is beyond the examples: the data has changed since.
        """
        position = state.data.get("position", 0)
        if not 0 <= position < len(self._x):
            raise DataError(
                f"the saved place is example {position} of {len(self._x)}",
                expected="the data that the state was saved with",
                fix="restore with the same file and the same configuration",
            )
        self._position = position

    def _in_order(self, epochs: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        x, y = self._x, self._y
        for _ in range(epochs):
            for start in range(0, len(x), size):
                yield x[start : start + size], y[start : start + size]

    def _shuffled(self, epochs: int, size: int, key: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        import numpy as np

        x, y = self._x, self._y
        rng = np.random.Generator(np.random.Philox(key=key))
        for _ in range(epochs):
            order = rng.permutation(len(x))
            for start in range(0, len(x), size):
                chosen = order[start : start + size]
                yield x.take(chosen, axis=0), y.take(chosen, axis=0)


def _frozen(array: Tensor) -> Tensor:
    view = array.view()
    view.setflags(write=False)
    return view


def _generator(seed: int, label: str) -> np.random.Generator:
    """Return a generator that is the same for equal seed and label."""
    import hashlib

    import numpy as np

    digest = hashlib.blake2b(f"bb.data\0{seed}\0{label}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def _is_real(labels: Tensor) -> bool:
    return labels.ndim != 2 and labels.dtype.kind not in "iubSU"


def _classes(labels: Tensor) -> Indices:
    """Number the classes of labels from 0 in their sorted order."""
    import numpy as np

    if labels.ndim == 2:
        labels = labels.argmax(axis=1)
    if labels.ndim != 1 or _is_real(labels):
        raise DataError(
            f"the labels are {labels.dtype.name} of shape {list(labels.shape)}",
            expected="one class per example: whole numbers or texts (n,), or one-hot (n, classes)",
            fix="use partition 'iid' for targets that are no classes",
        )
    return np.unique(labels, return_inverse=True)[1].astype(np.int64).reshape(-1)


def _need_examples(n: int, clients: int, each: int) -> None:
    _need_positive("clients", clients)
    if n < clients * each:
        error = TooFewExamples(
            f"{n} examples cannot give {clients} clients {each} each",
            expected=f"at most {n // each} clients, or at least {clients * each} examples",
            fix="lower the number of clients, or what each of them must have",
        )
        error.most = n // each
        raise error


def _need_positive(name: str, value: int) -> None:
    if value < 1:
        raise DataError(f"{name} is {value!r}", expected="a whole number, at least 1")
