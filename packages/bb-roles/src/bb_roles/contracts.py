"""The contracts: one abstract base class per role, and what all components share.

A component is a class that inherits one contract. Its methods are called by the engine, one at a
time, with a `Context` first. A component opens no socket, reads no clock and draws no random
numbers but those of its context, so that a run can be replayed.

The ops that call these methods, with the types of their inputs and outputs, are listed in
`bb_ir.ops`; a test holds the two together.
"""

from __future__ import annotations

import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bb_ir.buffers import BufferPool
    from bb_ir.ids import PeerId
    from bb_ir.ops import OpSchema
    from bb_ir.params import ParameterSet
    from bb_ir.types import Type
    from bb_roles.fused import FusedGraph

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
    "Protocol",
    "Recipe",
    "State",
    "lacks",
]

Metrics = Mapping[str, Any]
Method = typing.TypeVar("Method", bound=Callable[..., Any])

#: Methods of contracts that a component may do without.
_OPTIONAL: set[Callable[..., Any]] = set()


def _optional(method: Method) -> Method:
    """Mark a method of a contract that a component need not have."""
    _OPTIONAL.add(method)
    return method


def lacks(component: type[Component], method: str) -> bool:
    """Tell whether a component does without an optional method of its contract."""
    return getattr(component, method, None) in _OPTIONAL


class Context(typing.Protocol):
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

    def defer(
        self, fn: Callable[..., Any], *args: Any, commit: Callable[[Any], Any] | None = None
    ) -> Any:
        """Hand work to the host's executor; the method returns what this returns.

        `fn(*args)` runs in another thread. It may read what it is given and what no other method
        changes, and changes nothing. `commit(result)` runs on the engine's thread if the answer is
        still wanted; it alone may change the component, and returns what the op gives. Without it
        the op gives what `fn` returned. The component must name the method in `defers`. When the
        Node is stopped meanwhile, the method is called again where it goes on.
        """
        ...

    def external(self, commit: Callable[[Any], Any] | None = None) -> Any:
        """Return a handle with `complete(value)` and `fail(error)`, for a device that calls back.

        The method returns the handle, and the first call, from any thread, completes the op. When
        it comes is not reproducible, so neither is what follows. Until then the Node cannot be
        written down, unless the component is `restartable`.
        """
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
    #: Methods that may return what `ctx.defer` or `ctx.external` gives.
    defers: ClassVar[Collection[str]] = ()
    #: Whether several frames may use its `reads` methods while one of them has deferred work.
    reentrant: ClassVar[bool] = False
    #: Whether a method may be called again whose `ctx.external` was not completed when its Node
    #: was stopped: the device may then be asked a second time for the same.
    restartable: ClassVar[bool] = False
    #: What is known of its values beyond its role, when the class itself is bound; a plugin says
    #: it in its `ComponentSpec.types`.
    types: ClassVar[Mapping[str, str]] = {}
    #: Ops it has beside those of its role, by name, as `bb_ir.ops.ops` makes them; a plugin says
    #: the same in its `ComponentSpec.ops`.
    ops: ClassVar[Mapping[str, OpSchema]] = {}

    def __init__(self, config: Any, env: Environment) -> None:
        self.config = config
        self.env = env

    @classmethod
    def value_types(cls, config: Any) -> Mapping[str, str]:  # noqa: ARG003  # overriders use it
        """Return what is known of its values under a configuration, spelled as `types` is.

        A component whose types follow from its configuration overrides this. It is called without
        an instance: when a slot is bound with `config=`, and again when such an artifact is
        installed, to see that both configurations mean the same. A pure function of `config`.

        Args:
            config: An instance of the class's `Config`.
        """
        return cls.types

    @classmethod
    def infer_types(
        cls,
        config: Any,  # noqa: ARG003  # overriders use these
        op: str,  # noqa: ARG003
        inputs: tuple[Type, ...],  # noqa: ARG003
    ) -> Mapping[str, Type] | None:
        """Return what is known of what an op gives once the types of what it is given are known.

        It adds to `value_types`, and is asked when `value_types` is: while a program is compiled
        that binds the slot with `config=`, and again when such an artifact is installed. A pure
        function; what it says holds for all values of these types, and wider inputs give no
        narrower results. A dimension that has a name in `inputs` may be used by that name.

        Args:
            config: An instance of the class's `Config`.
            op: Name of the op, as `bb_ir.ops` spells it.
            inputs: Types of the op's inputs, in order, as far as they are known. For an op that
                ends a round, such as `Aggregate`, those of `Contribute` follow: what all
                contributions of the round have in common.

        Returns:
            Types by name of the output; `None`, or a part of the outputs, says nothing of others.
            An empty mapping says that the inputs were looked at, so `install` asks again.

        Raises:
            InputMisfit: It takes no values of these types; no value of them would do.
        """
        return None

    def save(self) -> State:
        """Return the whole state; a component without any need not override this."""
        return State()

    def load(self, state: State) -> None:  # noqa: B027  # nothing to do without a state
        """Take over a state that `save` returned, of this or an earlier version."""

    def remake(self, state: State) -> Any:
        """Return a value that this component handed out before, from the state of its `Recipe`.

        Called while a snapshot is read, before `load`: the value depends on `state` and on what
        the component was built with, never on what its other methods have changed since.

        Raises:
            Exception: It cannot be made, such as when the data has changed.
        """
        raise NotImplementedError(f"{type(self).__name__} makes nothing again from {state}")

    def abandon(self, ctx: Context) -> None:  # noqa: B027  # nothing to do without a state
        """Drop what the frame of `ctx` built up: it ended without finishing its round."""

    def close(self) -> None:  # noqa: B027  # nothing to do for most
        """Give back what the component holds; nothing is called after this."""


@dataclass(frozen=True)
class Recipe:
    """What is stored in place of a value that only its component can make, such as batches.

    Any value that has one as its attribute `recipe` can be in the snapshot of a Node, in the
    middle of a round too; a value that has none, and is no plain data, cannot.

    Attributes:
        maker: The component that handed the value out; its `remake` makes it again.
        state: What `remake` is given: small, as what it stands for is not in it.
    """

    maker: Component
    state: State


@dataclass(frozen=True)
class Batches:
    """Batches of one local dataset, drawn lazily.

    Attributes:
        examples: Distinct examples behind the batches: the weight of a client in FedAvg.
        draw: Returns a fresh iterator of (inputs, targets), both arrays with the batch first.
        recipe: How they are stored; a Node whose frame holds batches without one cannot be
            written down until the frame has read them.
    """

    examples: int
    draw: Callable[[], Iterator[tuple[Tensor, Tensor]]] = field(repr=False)
    recipe: Recipe | None = field(default=None, repr=False, compare=False)

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

    def compile(self, graph: FusedGraph) -> Kernel | None:
        """Return a function for ops that run together, or `None` to have them run one by one.

        Called once per graph at install. The function takes the graph's inputs in order and
        returns its result, or a tuple when there is not exactly one; the same bits as its kernels
        one by one. A backend need not override it: this one writes the kernels out as straight
        Python, so that nothing happens between two ops.
        """
        from bb_roles.fused import compose

        kernels = [self.kernel(n.op_type, n.attributes, len(n.outputs)) for n in graph.nodes]
        known = [kernel for kernel in kernels if kernel is not None]
        return compose(graph, known) if len(known) == len(kernels) else None


class Model(Component):
    """A trainable model.

    One for programs that only fit and evaluate may do without `forward`, `backward` and
    `compute_loss`. A program that calls a method that its model does without is not installed.
    """

    @_optional
    def forward(self, ctx: Context, x: Tensor) -> Tensor:
        """Return predictions for a batch; keeps what `backward` needs."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    @_optional
    def backward(self, ctx: Context, grad: Tensor) -> Tensor:
        """Step the optimizer by the gradient of the last `forward`'s output; return its input's."""
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    @_optional
    def compute_loss(self, ctx: Context, prediction: Tensor, target: Tensor) -> float:
        """Return the mean loss of a batch."""
        raise NotImplementedError(f"{type(self).__name__} has no compute_loss")

    @abstractmethod
    def params(self, ctx: Context) -> ParameterSet:
        """Lend the parameters: what is returned must never change afterwards."""

    @abstractmethod
    def load_params(self, ctx: Context, params: ParameterSet) -> None:
        """Take over parameters; borrows them, and writes to fresh memory later.

        Raises:
            ValueError: Names, shapes or dtypes are not this model's.
        """

    @_optional
    def apply_delta(self, ctx: Context, delta: ParameterSet) -> None:
        """Add a set of differences to the parameters; a model may do without it."""
        raise NotImplementedError(f"{type(self).__name__} has no apply_delta")

    @abstractmethod
    def fit(self, ctx: Context, batches: Batches) -> Metrics:
        """Train over all batches; return at least `examples` (int) and `loss` (float)."""

    @abstractmethod
    def evaluate(self, ctx: Context, batches: Batches) -> Metrics:
        """Measure without training; return at least `examples` (int) and `loss` (float)."""

    def save(self) -> State:
        """Return the parameters; a model that keeps more than these overrides it, and `load`.

        More are the moments of an optimizer, what `backward` waits for, and layers that `params`
        does not give out.
        """
        held: Any = self
        return State(dict(held.params(None)))

    def load(self, state: State) -> None:
        """Take over the parameters that `save` returned."""
        from bb_ir.params import Draft

        held: Any = self
        draft = Draft(held.params(None).layout)
        for name in draft.layout.names:
            draft[name][...] = state.tensors[name]
        held.load_params(None, draft.freeze())


class DataSource(Component):
    """A local dataset."""

    @abstractmethod
    def next_batch(self, ctx: Context) -> tuple[Tensor, Tensor]:
        """Return the next batch and its labels; starts over at the end."""

    @abstractmethod
    def batches(self, ctx: Context, *, epochs: int = 1) -> Batches:
        """Return all batches of `epochs` passes, shuffled anew each pass by `ctx.rng`.

        With a `Recipe` of what was drawn, a Node can be stopped while it goes over them; `remake`
        then has to give the same batches in another process.
        """

    @_optional
    def reset(self, ctx: Context) -> None:
        """Start over with the first batch; a source may do without it."""
        raise NotImplementedError(f"{type(self).__name__} has no reset")


class Aggregator(Component):
    """Folds the updates of a round as they arrive, one accumulator per `ctx.round`."""

    @abstractmethod
    def contribute(self, ctx: Context, params: ParameterSet, metrics: Metrics) -> None:
        """Fold one update in, all of it or nothing.

        Its weight is `metrics["examples"]`, a whole number from 1 on. A program that contributes
        without metrics gives a record of `examples` 1 and nothing else, so other fields are
        welcome and none of them is needed.

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


class Protocol(Component):
    """A protocol between Nodes: a state machine whose methods are ops of its own.

    It declares them in `ops`. Every Node that takes part has one; what it wants to tell another
    Node it returns, and the program sends it. So it sends nothing itself, and what arrives is an
    argument like any other: who sent it is `ctx.sender`, never what the message claims.
    """


#: Contract of each role.
CONTRACTS: Mapping[str, type[Component]] = {
    "backend": Backend,
    "model": Model,
    "index": Index,
    "aggregator": Aggregator,
    "codec": Codec,
    "data_source": DataSource,
    "peer_selector": PeerSelector,
    "protocol": Protocol,
}
