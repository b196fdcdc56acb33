"""Losses of classifiers: the negative log-likelihood, also of scores that are no probabilities yet.

A class whose number is `ignore_index` counts nothing, neither in the sum nor in the weights that
the mean divides by; its number need not be a class. 16-bit floats are computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bb_backend_numpy._op import Op
from bb_backend_numpy._support import Factory, Tensor
from bb_roles.contracts import Kernel

__all__ = ["TABLE"]

_Loss = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]


def _likelihood_loss(op: Op) -> Kernel:
    loss = _reduced(op)

    def kernel(x: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        return loss(_widened(x), target, weight).astype(x.dtype, copy=False)

    return kernel


def _cross_entropy_loss(op: Op) -> Kernel:
    loss, outputs = _reduced(op), op.outputs

    def kernel(x: Tensor, target: Tensor, weight: Tensor | None = None) -> Any:
        shifted = _widened(x)
        shifted = shifted - np.max(shifted, 1, keepdims=True)
        logs = shifted - np.log(np.sum(np.exp(shifted), 1, keepdims=True))
        y = loss(logs, target, weight).astype(x.dtype, copy=False)
        return y if outputs == 1 else (y, logs.astype(x.dtype, copy=False))

    return kernel


def _reduced(op: Op) -> _Loss:
    """Return the loss of log-probabilities, whose axis 1 is the class."""
    ignored = op.optional_integer("ignore_index")
    reduction = op.choice("reduction", "mean", "sum", "none")

    def loss(logs: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        counts = np.ones(target.shape, np.bool_) if ignored is None else target != ignored
        classes = np.where(counts, target, 0)
        chosen = np.take_along_axis(logs, np.expand_dims(classes, 1), 1).squeeze(1)
        weights = counts.astype(logs.dtype)
        if weight is not None:
            weights = weights * weight.astype(logs.dtype)[classes]
        # Where nothing counts, an infinite loss does not either.
        losses: Tensor = np.where(counts, -chosen * weights, logs.dtype.type(0))
        if reduction == "none":
            return losses
        total = np.asarray(np.sum(losses))
        return total if reduction == "sum" else np.asarray(total / np.sum(weights))

    return loss


def _widened(x: Tensor) -> Tensor:
    return x.astype(np.float32) if x.dtype.itemsize < 4 else x


TABLE: Mapping[str, Factory] = {
    "NegativeLogLikelihoodLoss": _likelihood_loss,
    "SoftmaxCrossEntropyLoss": _cross_entropy_loss,
}
