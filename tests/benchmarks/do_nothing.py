"""Components that do nothing, so that what is measured is all else; and programs made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import bb_dsl as dsl
from bb_compiler import Compiler
from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bb_roles import Backend, Batches, DataSource, Model, PeerSelector

__all__ = [
    "ROOM",
    "Chain",
    "Data",
    "Echo",
    "Everybody",
    "Forwards",
    "Later",
    "Same",
    "compiler",
    "parameters",
    "peers",
]


#: Of the aggregator: as many updates as any benchmark has clients, whose weights and values are
#: small. It decides on the place of the point, and takes no time.
ROOM = {"cohort": 16_384, "weight_max": 1_024, "value_max": 64}


def same(x: Any) -> Any:
    """Return what it is given: the kernel of all ops of `Same`."""
    return x


class Same(Backend):
    def kernel(self, op_type: str, attributes: Mapping[str, Any], outputs: int) -> Any:
        return same


def parameters(count: int) -> ParameterSet:
    """Return that many float32 parameters, as a layer with ten biases has them."""
    values = np.linspace(-1, 1, count, dtype=np.float32)
    return ParameterSet.from_tensors({"w": values[10:], "b": values[:10]})


class Echo(Model):
    """Keeps the parameters that it gets, and gives them back as they are."""

    #: Where a federation begins; whoever makes one sets it.
    first: ParameterSet = parameters(20)

    def __init__(self, config: Any, env: Any) -> None:
        super().__init__(config, env)
        self.kept = self.first

    def forward(self, ctx: Any, x: Any) -> Any:
        return x

    def backward(self, ctx: Any, grad: Any) -> Any:
        return grad

    def compute_loss(self, ctx: Any, prediction: Any, target: Any) -> float:
        return 0.0

    def params(self, ctx: Any) -> ParameterSet:
        return self.kept

    def load_params(self, ctx: Any, params: ParameterSet) -> None:
        self.kept = params

    def fit(self, ctx: Any, batches: Batches) -> dict[str, Any]:
        return {"examples": batches.examples, "loss": 0.5}

    def evaluate(self, ctx: Any, batches: Batches) -> dict[str, Any]:
        return {"examples": 1, "loss": 0.0}


class Later(Echo):
    """Hands its work to the host."""

    defers = ("forward",)

    def forward(self, ctx: Any, x: Any) -> Any:
        return ctx.defer(same, x)


class Data(DataSource):
    def next_batch(self, ctx: Any) -> Any:
        raise NotImplementedError

    def batches(self, ctx: Any, *, epochs: int = 1) -> Batches:
        return Batches(32, lambda: iter(()))


class Everybody(PeerSelector):
    """Chooses the first peers of a list that whoever makes a federation sets."""

    ids: tuple[PeerId, ...] = ()

    def current_view(self, ctx: Any) -> tuple[PeerId, ...]:
        return self.ids

    def sample(self, ctx: Any, *, n: int) -> tuple[PeerId, ...]:
        return self.ids[:n]


def peers(first: int, count: int) -> tuple[PeerId, ...]:
    """Return peers by number."""
    return tuple(PeerId.from_seed(0, number) for number in range(first, first + count))


class Chain(dsl.Module):
    """A region of tensor ops, one after the other."""

    backend = dsl.slots.Backend()

    def __init__(self, length: int, op: str = "Add") -> None:
        super().__init__()
        self.length = length
        self.op = op

    def body(self, g: dsl.Graph) -> None:
        x = g.input("x", "tensor(float32)[8]")
        if self.op == "Add":
            step = g.input("step", "tensor(float32)[8]")
            for _ in range(self.length):
                x = x + step
        else:
            for _ in range(self.length):
                x = self.backend.op(g, self.op, x)
        g.output("y", x)


class Forwards(dsl.Module):
    """A region of calls of one component, each with its context."""

    model = dsl.slots.Model()

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def body(self, g: dsl.Graph) -> None:
        x = g.input("x", "tensor(float32)[8]")
        for _ in range(self.length):
            x = self.model.forward(g, x)
        g.output("y", x)


def compiler() -> Compiler:
    """Return a compiler that binds the slots of a federation to components that do nothing."""
    return (
        Compiler()
        .bind_peer_selector("peers", Everybody)
        .bind_model("model", Echo)
        .bind_data_source("data", Data)
        .bind_aggregator("aggregator", "fedavg", config=ROOM)
    )
