"""Components that do exact work and keep accounts of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bb_ir.params import ParameterSet
from bb_roles import Batches, Context
from bb_roles.registry import bound_class
from bb_testing import programs as parts
from swarming.ledger import current

__all__ = [
    "DeferringModel", "DeferringSum", "FedAvg", "LinearModel", "LinearSource", "Model",
    "NothingContributed", "Sum", "WrongShape",
]  # fmt: skip

#: What the linear models are to find, and how much nearer every honest update is at least.
OPTIMUM = np.array([3.0, -2.0, 1.0, 0.5])
CONTRACTION = 0.5


class WrongShape(ValueError):
    """Parameters of another model."""


class NothingContributed(ValueError):
    """The mean of nothing."""


class Model(parts.CountingModel):
    """A counting model whose every set of parameters is different from all others."""

    def params(self, ctx: Context) -> ParameterSet:
        """Return `w`, and a stamp that says which set this is."""
        self._called("params", ctx)
        ledger = current()
        params = ParameterSet.from_tensors({"w": self.w, "stamp": ledger.stamp(ctx.peer)})
        return ledger.make(ctx.peer, params)

    def load_params(self, ctx: Context, params: ParameterSet) -> None:
        """Take over `w` if it is one of this model's."""
        if set(params) != {"w", "stamp"} or params["w"].shape != self.w.shape:
            raise WrongShape(f"{ {name: params[name].shape for name in params} }")
        super().load_params(ctx, params)
        if ctx.sender is None:
            current().load(ctx.peer, ctx.round, self.w)


class DeferringModel(Model):
    """The same, training on the host's executor."""

    defers = ("fit",)

    def fit(self, ctx: Context, batches: Batches) -> Any:
        """Add the sum of all inputs once it is known."""
        self._called("fit", ctx)
        total = sum(float(np.sum(x)) for x, _ in batches)

        def commit(value: float) -> Mapping[str, Any]:
            self.w = self.w + value
            return {"examples": batches.examples, "loss": value}

        return ctx.defer(lambda: total, commit=commit)


class LinearModel(Model):
    """Linear regression by gradient descent, whose optimum all clients share."""

    def fit(self, ctx: Context, batches: Batches) -> Mapping[str, Any]:
        """Take one step per batch."""
        self._called("fit", ctx)
        loss = 0.0
        for x, y in batches:
            residual = x @ self.w - y
            loss = float(np.mean(residual**2))
            self.w = self.w - x.T @ residual / len(y)
        return {"examples": batches.examples, "loss": loss}


class LinearSource(parts.ListSource):
    """Examples of one client: a rotation and scales of its own, and the labels they all agree on.

    A step of `LinearModel` multiplies the distance to the optimum by 0.3 to 0.5 in every
    direction, so whatever clients take part, a round halves it at least.
    """

    def batches(self, ctx: Context, *, epochs: int = 1) -> Batches:
        """Return all examples, once per epoch."""
        self._called("batches", ctx)
        rng = np.random.Generator(np.random.Philox(key=int(self.config.value)))
        size = len(OPTIMUM)
        rotation, _ = np.linalg.qr(rng.normal(size=(size, size)))
        scales = rng.uniform(1 - CONTRACTION, 0.7, size=size)
        x = np.sqrt(size * scales)[:, None] * rotation.T
        y = x @ OPTIMUM

        def draw() -> Iterator[tuple[Any, Any]]:
            for _ in range(epochs):
                yield x, y

        return Batches(size, draw)


class Sum(parts.SumAggregator):
    """A plain mean that keeps accounts."""

    def contribute(self, ctx: Context, params: ParameterSet, metrics: Mapping[str, Any]) -> None:
        """Keep an update."""
        held = self.rounds.get(ctx.round)
        if held and held[0]["w"].shape != params["w"].shape:
            raise WrongShape(f"{params['w'].shape} after {held[0]['w'].shape}")
        super().contribute(ctx, params, metrics)
        current().contribute(ctx.peer, ctx.round, ctx.sender, params, 1)

    def aggregate(self, ctx: Context) -> Any:
        """Return the mean of the round's updates."""
        mean, summary = self._mean(ctx)
        current().aggregate(ctx.peer, ctx.round, mean, summary["count"], off=1e-9)
        return mean, summary

    def _mean(self, ctx: Context) -> tuple[ParameterSet, Mapping[str, Any]]:
        if not self.rounds.get(ctx.round):
            raise NothingContributed
        with np.errstate(all="ignore"):
            mean, summary = super().aggregate(ctx)
        stamp = current().stamp(ctx.peer)
        return ParameterSet.from_tensors({"w": mean["w"], "stamp": stamp}), summary

    def abandon(self, ctx: Context) -> None:
        """Drop the round's updates."""
        super().abandon(ctx)
        current().fold(ctx.peer, ctx.round).abandoned += 1


class DeferringSum(Sum):
    """The same, taking its time over the mean."""

    defers = ("aggregate",)

    def aggregate(self, ctx: Context) -> Any:
        """Return the mean once it is known."""
        mean, summary = self._mean(ctx)
        peer, number = ctx.peer, ctx.round

        def commit(value: ParameterSet) -> tuple[ParameterSet, Mapping[str, Any]]:
            current().aggregate(peer, number, value, summary["count"], off=1e-9)
            return value, summary

        return ctx.defer(lambda: mean, commit=commit)


class FedAvg(bound_class("aggregator", "fedavg")):  # a plugin, found as users find it
    """Federated averaging as users bind it, with accounts."""

    def contribute(self, ctx: Context, params: ParameterSet, metrics: Mapping[str, Any]) -> None:
        """Fold one update in."""
        super().contribute(ctx, params, metrics)
        weight = int(metrics["examples"])
        current().contribute(ctx.peer, ctx.round, ctx.sender, params, weight)

    def aggregate(self, ctx: Context) -> tuple[ParameterSet, dict[str, Any]]:
        """Return the mean; on its grid it is at most 2**-27 off."""
        mean, summary = super().aggregate(ctx)
        current().aggregate(ctx.peer, ctx.round, mean, summary["count"], off=2.0**-27)
        return mean, summary

    def abandon(self, ctx: Context) -> None:
        """Drop the round."""
        super().abandon(ctx)
        current().fold(ctx.peer, ctx.round).abandoned += 1
