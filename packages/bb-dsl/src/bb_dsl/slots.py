"""The eight kinds of slots, with the methods that record ops of their roles.

A slot is declared as a class attribute of a Module and used through the instance:
`self.model.forward(g, x)`. Every method takes the graph first. `after=` makes an op wait for
values that it does not read.

A component that adds ops to its role brings a slot class of its own, whose handle inherits the one
of the role, names the schemas in `ops` and records each with `self._record(g, "<Op>", ...)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypeVar, overload

from bb_dsl._backend import BackendHandle
from bb_dsl._checks import check_class, positive
from bb_dsl._handle import SlotHandle
from bb_dsl._source import user_line
from bb_dsl.errors import BadOption
from bb_ir.types import Type, peers

if TYPE_CHECKING:
    from bb_dsl._graph import Graph
    from bb_dsl._module import Module
    from bb_dsl._output import Output

    After: TypeAlias = Output | Sequence[Output] | None

__all__ = [
    "Aggregator",
    "AggregatorHandle",
    "Backend",
    "BackendHandle",
    "Codec",
    "CodecHandle",
    "DataSource",
    "DataSourceHandle",
    "Index",
    "IndexHandle",
    "Model",
    "ModelHandle",
    "PeerSelector",
    "PeerSelectorHandle",
    "Protocol",
    "ProtocolHandle",
    "Slot",
    "SlotHandle",
]


H = TypeVar("H", bound=SlotHandle)


class Slot(Generic[H]):
    """A named place that a component fills; a class attribute of a Module."""

    handle: ClassVar[type[SlotHandle]]

    def __init__(self) -> None:
        self.name = ""
        self.facts: dict[str, str] = {}

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Slot[H]: ...
    @overload
    def __get__(self, instance: Module, owner: type) -> H: ...
    def __get__(self, instance: Module | None, owner: type) -> Any:
        if instance is None:
            return self
        made = vars(instance).get(self.name)
        if made is None:
            made = vars(instance)[self.name] = self.handle(instance, self.name, self.facts)
        return made

    def __set__(self, instance: Module, value: SlotHandle) -> None:
        if not isinstance(value, self.handle):
            raise BadOption(
                f"{value!r} cannot be slot {self.name!r} of {type(instance).__name__}",
                expected=f"a {self.handle.role} slot of another Module, such as self.{self.name}",
                fix="components are bound when the program is compiled",
                where=user_line(),
            )
        vars(instance)[self.name] = value


class ModelHandle(SlotHandle):
    """Ops of a trainable model."""

    role = "model"

    def forward(self, g: Graph, x: Output, *, after: After = None) -> Output:
        """Record predictions for a batch."""
        return self._record(g, "Forward", x, after=after)[0]

    def backward(self, g: Graph, grad: Output, *, after: After = None) -> Output:
        """Record a training step from the gradient of the last forward's output.

        Returns:
            The gradient of its input.
        """
        return self._record(g, "Backward", grad, after=after)[0]

    def compute_loss(
        self, g: Graph, prediction: Output, target: Output, *, after: After = None
    ) -> Output:
        """Record the mean loss of a batch."""
        return self._record(g, "ComputeLoss", prediction, target, after=after)[0]

    def params(self, g: Graph, *, after: After = None) -> Output:
        """Record the model's parameters as they are at this point."""
        return self._record(g, "Params", after=after)[0]

    def load_params(self, g: Graph, params: Output, *, after: After = None) -> Output:
        """Record taking over parameters; returns a trigger."""
        return self._record(g, "LoadParams", params, after=after)[0]

    def apply_delta(self, g: Graph, delta: Output, *, after: After = None) -> Output:
        """Record adding differences to the parameters; returns a trigger."""
        return self._record(g, "ApplyDelta", delta, after=after)[0]

    def fit(self, g: Graph, batches: Output, *, after: After = None) -> Output:
        """Record training over all batches; returns metrics with `examples` and `loss`."""
        return self._record(g, "Fit", batches, after=after)[0]

    def evaluate(self, g: Graph, batches: Output, *, after: After = None) -> Output:
        """Record measuring without training; returns metrics with `examples` and `loss`."""
        return self._record(g, "Evaluate", batches, after=after)[0]


class DataSourceHandle(SlotHandle):
    """Ops of a local dataset."""

    role = "data_source"

    def next_batch(self, g: Graph, *, after: After = None) -> tuple[Output, Output]:
        """Record the next batch; returns inputs and labels."""
        batch, labels = self._record(g, "NextBatch", after=after)
        return batch, labels

    def batches(self, g: Graph, *, epochs: int = 1, after: After = None) -> Output:
        """Record all batches of some passes; the value stays on its Node."""
        return self._record(g, "Batches", after=after, epochs=positive("epochs", epochs))[0]

    def reset(self, g: Graph, *, after: After = None) -> Output:
        """Record starting over with the first batch; returns a trigger."""
        return self._record(g, "Reset", after=after)[0]


class AggregatorHandle(SlotHandle):
    """Ops of the fold over client updates."""

    role = "aggregator"

    def contribute(
        self, g: Graph, params: Output, metrics: Output | None = None, *, after: After = None
    ) -> Output:
        """Record folding one update in, weighted by `metrics.examples`; returns a trigger.

        Args:
            g: The graph.
            params: The update.
            metrics: What `fit` gave for it; without it the update counts as one example, so that
                updates without metrics count alike.
            after: What must have been done before.
        """
        if metrics is None:
            metrics = g.record(examples=g.scalar_for(g.own(params), 1))
        return self._record(g, "Contribute", params, metrics, after=after)[0]

    def aggregate(self, g: Graph, *, after: After = None) -> tuple[Output, Output]:
        """Record taking the round's result; returns parameters and a summary."""
        averaged, summary = self._record(g, "Aggregate", after=after)
        return averaged, summary


class PeerSelectorHandle(SlotHandle):
    """Ops of a choice of peers of one class."""

    role = "peer_selector"

    def sample(self, g: Graph, n: int, *, after: After = None) -> Output:
        """Record drawing `n` different peers."""
        return self._record(g, "Sample", after=after, types=self._peers(g), n=positive("n", n))[0]

    def current_view(self, g: Graph, *, after: After = None) -> Output:
        """Record the list of all known peers."""
        return self._record(g, "CurrentView", after=after, types=self._peers(g))[0]

    def _peers(self, g: Graph) -> tuple[Type, ...]:
        return (peers(g.class_name(self._facts["of"], self._owner)),)


class IndexHandle(SlotHandle):
    """Ops of a vector index."""

    role = "index"

    def add(self, g: Graph, vectors: Output, *, after: After = None) -> Output:
        """Record adding vectors; returns their ids."""
        return self._record(g, "Add", vectors, after=after)[0]

    def search(
        self, g: Graph, queries: Output, k: int = 10, *, after: After = None
    ) -> tuple[Output, Output]:
        """Record a nearest-neighbour search; returns ids and distances."""
        ids, distances = self._record(g, "Search", queries, after=after, k=positive("k", k))
        return ids, distances

    def remove(self, g: Graph, ids: Output, *, after: After = None) -> Output:
        """Record removing vectors by id; returns a trigger."""
        return self._record(g, "Remove", ids, after=after)[0]

    def train(self, g: Graph, samples: Output, *, after: After = None) -> Output:
        """Record learning from sample vectors; returns a trigger."""
        return self._record(g, "Train", samples, after=after)[0]


class CodecHandle(SlotHandle):
    """Ops of a codec."""

    role = "codec"

    def encode(self, g: Graph, value: Output, *, after: After = None) -> Output:
        """Record encoding a value."""
        return self._record(g, "Encode", value, after=after)[0]

    def decode(self, g: Graph, encoded: Output, *, after: After = None) -> Output:
        """Record decoding a value."""
        return self._record(g, "Decode", encoded, after=after)[0]

    def train(self, g: Graph, samples: Output, *, after: After = None) -> Output:
        """Record learning from samples; returns a trigger."""
        return self._record(g, "Train", samples, after=after)[0]


class ProtocolHandle(SlotHandle):
    """A protocol; a plugin brings its ops, and a handle with their methods."""

    role = "protocol"


class Model(Slot[ModelHandle]):
    """A slot for a trainable model."""

    handle = ModelHandle


class DataSource(Slot[DataSourceHandle]):
    """A slot for a local dataset."""

    handle = DataSourceHandle


class Aggregator(Slot[AggregatorHandle]):
    """A slot for the fold over client updates."""

    handle = AggregatorHandle


class PeerSelector(Slot[PeerSelectorHandle]):
    """A slot for a choice of peers.

    Args:
        of: Class of the peers it chooses; the Module's own class when left out.
    """

    handle = PeerSelectorHandle

    def __init__(self, of: str = "@self") -> None:
        super().__init__()
        check_class(of)
        self.facts = {"of": of}


class Index(Slot[IndexHandle]):
    """A slot for a vector index."""

    handle = IndexHandle


class Codec(Slot[CodecHandle]):
    """A slot for a codec."""

    handle = CodecHandle


class Backend(Slot[BackendHandle]):
    """A slot for tensor maths."""

    handle = BackendHandle


class Protocol(Slot[ProtocolHandle]):
    """A slot for any protocol; one with methods comes with the plugin that implements it."""

    handle = ProtocolHandle
