"""The contracts: one abstract base class per role, and what all components share.

A component is a class that inherits one contract. Its methods are called by the engine, one at a
time, with a `Context` first. A component opens no socket, reads no clock and draws no random
numbers but those of its context, so that a run can be replayed.

The ops that call these methods, with the types of their inputs and outputs, are listed in
`bb_ir.ops`; a test holds the two together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bb_ir.buffers import BufferPool
    from bb_ir.ids import PeerId
    from bb_ir.params import ParameterSet

    Tensor = NDArray[Any]

__all__ = [
    "CONTRACTS",
    "Aggregator",
    "Backend",
    "Batches",
    "Codec",
    "Component",
    "Context",
    "DataSource",
    "Environment",
    "Index",
    "Model",
    "NoConfig",
    "PeerSelector",
    "State",
]

Metrics = Mapping[str, Any]


class Context(Protocol):
    """What the engine hands to a component's method; valid during that call only."""

    @property
    def peer(self) -> PeerId:
        """This Node."""
        ...

    @property
    def sender(self) -> PeerId | None:
        """The authenticated peer whose envelope opened this frame, or `None`."""
        ...

    @property
    def round(self) -> Hashable:
        """The round this call belongs to: one value for a frame and all its child frames."""
        ...

    @property
    def now_ns(self) -> int:
        """The Node's time in nanoseconds."""
        ...

    def rng(self) -> np.random.Generator:
        """Return a random generator that depends on seed, frame and op only, never on timing."""
        ...


@dataclass(frozen=True)
class Environment:
    """What a component is built with, besides its configuration.

    Attributes:
        peer: The Node it will live on.
        slot: Name of the slot it fills.
        seed: The Node's seed.
        dependencies: Components of the sibling slots it declared in `depends`.
        pool: Where large buffers should come from; `None` when nobody keeps one.
    """

    peer: PeerId
    slot: str
    seed: int = 0
    dependencies: Mapping[str, Component] = field(default_factory=dict[str, "Component"])
    pool: BufferPool | None = None

    def rng(self, label: str = "") -> np.random.Generator:
        """Return a generator for building: the same for equal seed, slot and label."""
        import hashlib

        import numpy as np

        text = f"bb.build\0{self.seed}\0{self.slot}\0{label}".encode()
        key = int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")
        return np.random.Generator(np.random.Philox(key=key))


@dataclass(frozen=True)
class NoConfig:
    """The configuration of a component that needs none."""


@dataclass(frozen=True)
class State:
    """What a component saves: named tensors and plain data (numbers, texts, lists, dicts)."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict[str, "Tensor"])
    data: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Component(ABC):  # noqa: B024  # each contract adds its abstract methods
    """What all components share.

    Args:
        config: An instance of the class's `Config`.
        env: Where it is being built.
    """

    #: A frozen dataclass; its fields are checked and converted before the component is built.
    Config: ClassVar[type] = NoConfig
    #: Sibling slots it needs: slot name to contract.
    depends: ClassVar[Mapping[str, type]] = {}
    #: What is known of its values beyond its role, when the class itself is bound; a plugin says
    #: it in its `ComponentSpec.types`.
    types: ClassVar[Mapping[str, str]] = {}

    def __init__(self, config: Any, env: Environment) -> None:
        self.config = config
        self.env = env

    def save(self) -> State:
        """Return the whole state; a component without any need not override this."""
        return State()

    def load(self, state: State) -> None:  # noqa: B027  # nothing to do without a state
        """Take over a state that `save` returned, of this or an earlier version."""

    def abandon(self, ctx: Context) -> None:  # noqa: B027  # nothing to do without a state
        """Drop what the frame of `ctx` built up: it ended without finishing its round."""

    def close(self) -> None:  # noqa: B027  # nothing to do for most
        """Give back what the component holds; nothing is called after this."""


@dataclass(frozen=True)
class Batches:
    """Batches of one local dataset, drawn lazily.

    Attributes:
        examples: Distinct examples behind the batches: the weight of a client in FedAvg.
        draw: Returns a fresh iterator of (inputs, targets), both arrays with the batch first.
    """

    examples: int
    draw: Callable[[], Iterator[tuple[Tensor, Tensor]]]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.draw()


Kernel = Callable[..., Any]


class Backend(Component):
    """Carries out tensor ops of `ai.onnx` with the semantics of the ONNX standard."""

    @abstractmethod
    def kernel(self, op_type: str, attributes: Mapping[str, Any], outputs: int) -> Kernel | None:
        """Return a function for one op, or `None` when this backend does not have it.

        Called once per op at install. The function takes the op's inputs in order (`None` for an
        optional input that is left out) and returns its result, or a tuple when `outputs` is not
        1. `attributes` holds plain values: numbers, texts, lists of them, arrays for tensors.
        """


class Model(Component):
    """A trainable model."""

    @abstractmethod
    def forward(self, ctx: Context, x: Tensor) -> Tensor:
        """Return predictions for a batch; keeps what `backward` needs."""

    @abstractmethod
    def backward(self, ctx: Context, grad: Tensor) -> Tensor:
        """Step the optimizer by the gradient of the last `forward`'s output; return its input's."""

    @abstractmethod
    def compute_loss(self, ctx: Context, prediction: Tensor, target: Tensor) -> float:
        """Return the mean loss of a batch."""

    @abstractmethod
    def params(self, ctx: Context) -> ParameterSet:
        """Lend the parameters: what is returned must never change afterwards."""

    @abstractmethod
    def load_params(self, ctx: Context, params: ParameterSet) -> None:
        """Take over parameters; borrows them, and writes to fresh memory later.

        Raises:
            ValueError: Names, shapes or dtypes are not this model's.
        """

    def apply_delta(self, ctx: Context, delta: ParameterSet) -> None:
        """Add a set of differences to the parameters."""
        raise NotImplementedError(f"{type(self).__name__} has no apply_delta")

    @abstractmethod
    def fit(self, ctx: Context, batches: Batches) -> Metrics:
        """Train over all batches; return at least `examples` (int) and `loss` (float)."""

    @abstractmethod
    def evaluate(self, ctx: Context, batches: Batches) -> Metrics:
        """Measure without training; return at least `examples` (int) and `loss` (float)."""


class DataSource(Component):
    """A local dataset."""

    @abstractmethod
    def next_batch(self, ctx: Context) -> tuple[Tensor, Tensor]:
        """Return the next batch and its labels; starts over at the end."""

    @abstractmethod
    def batches(self, ctx: Context, *, epochs: int = 1) -> Batches:
        """Return all batches of `epochs` passes, shuffled anew each pass by `ctx.rng`."""

    def reset(self, ctx: Context) -> None:
        """Start over with the first batch."""
        raise NotImplementedError(f"{type(self).__name__} has no reset")


class Aggregator(Component):
    """Folds the updates of a round as they arrive, one accumulator per `ctx.round`."""

    @abstractmethod
    def contribute(self, ctx: Context, params: ParameterSet, metrics: Metrics) -> None:
        """Fold one update in, all of it or nothing.

        Raises:
            ValueError: The update does not fit the round; nothing of it was folded.
        """

    @abstractmethod
    def aggregate(self, ctx: Context) -> tuple[ParameterSet, Metrics]:
        """Return what the round folded and a summary with `count` and `examples`; ends the round.

        Raises:
            ValueError: Nothing was contributed.
        """


class PeerSelector(Component):
    """Chooses peers of one class."""

    @abstractmethod
    def current_view(self, ctx: Context) -> Sequence[PeerId]:
        """Return all peers it knows, in a stable order."""

    @abstractmethod
    def sample(self, ctx: Context, *, n: int) -> Sequence[PeerId]:
        """Return `n` different peers drawn by `ctx.rng`; all when there are fewer."""


class Index(Component):
    """A vector index for nearest-neighbour search."""

    @abstractmethod
    def add(self, ctx: Context, vectors: Tensor) -> Tensor:
        """Add vectors (n, d); return their ids (n,) int64."""

    @abstractmethod
    def search(self, ctx: Context, queries: Tensor, *, k: int = 10) -> tuple[Tensor, Tensor]:
        """Return ids and distances (n, k), nearest first."""

    @abstractmethod
    def remove(self, ctx: Context, ids: Tensor) -> None:
        """Remove vectors by id (n,) int64."""

    def train(self, ctx: Context, samples: Tensor) -> None:
        """Learn from sample vectors (n, d); an index that need not does nothing."""


class Codec(Component):
    """Turns values into smaller or rougher ones and back."""

    @abstractmethod
    def encode(self, ctx: Context, value: Any) -> Any:
        """Return the encoded value."""

    @abstractmethod
    def decode(self, ctx: Context, encoded: Any) -> Any:
        """Return a value like the one that was encoded."""

    def train(self, ctx: Context, samples: list[Any]) -> None:
        """Learn from samples; a codec that need not does nothing."""


#: Contract of each role. (Protocol components declare ops of their own.)
CONTRACTS: Mapping[str, type[Component]] = {
    "backend": Backend,
    "model": Model,
    "index": Index,
    "aggregator": Aggregator,
    "codec": Codec,
    "data_source": DataSource,
    "peer_selector": PeerSelector,
}
