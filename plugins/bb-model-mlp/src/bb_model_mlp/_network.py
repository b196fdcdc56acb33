"""The mathematics of the network: pure functions of arrays, nothing kept between calls.

A layer computes `x @ W.T + b` with W of shape (outputs, inputs), as in most other libraries.
Every layer but the last is followed by the activation; the network's output are logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Layer",
    "cross_entropy",
    "forward",
    "gradients",
    "initial",
    "is_right",
    "names",
    "shapes",
]

Tensor = NDArray[Any]
#: Weights (outputs, inputs) and biases (outputs,).
Layer = tuple[Tensor, Tensor]


def names(index: int) -> tuple[str, str]:
    """Return the names of a layer's weights and biases."""
    return f"layers.{index}.weight", f"layers.{index}.bias"


def shapes(widths: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the parameters by name, in their order."""
    found: dict[str, tuple[int, ...]] = {}
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        weight, bias = names(i)
        found |= {weight: (outputs, inputs), bias: (outputs,)}
    return found


def initial(
    widths: Sequence[int], activation: str, dtype: str, rng: np.random.Generator
) -> dict[str, Tensor]:
    """Draw the parameters of a fresh network: weights by name, biases 0.

    Layers before a ReLU: normal with variance 2 / inputs (He, Zhang, Ren, Sun, "Delving Deep into
    Rectifiers", 2015). The others: normal with variance 2 / (inputs + outputs) (Glorot, Bengio,
    "Understanding the difficulty of training deep feedforward neural networks", 2010).
    """
    drawn: dict[str, Tensor] = {}
    last = len(widths) - 2
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        fan = inputs if activation == "relu" and i < last else inputs + outputs
        weight, bias = names(i)
        drawn[weight] = (rng.standard_normal((outputs, inputs)) * (2.0 / fan) ** 0.5).astype(dtype)
        drawn[bias] = np.zeros(outputs, dtype)
    return drawn


def forward(layers: Sequence[Layer], activation: str, x: Tensor) -> list[Tensor]:
    """Return the input of each layer, then the logits."""
    flow = [x]
    last = len(layers) - 1
    for i, (W, b) in enumerate(layers):
        x = x @ W.T
        x += b
        if i < last:
            if activation == "relu":
                np.maximum(x, 0.0, out=x)
            else:
                np.tanh(x, out=x)
        flow.append(x)
    return flow


def gradients(
    layers: Sequence[Layer],
    activation: str,
    flow: Sequence[Tensor],
    delta: Tensor,
    out: Sequence[Layer],
) -> Tensor:
    """Write the gradients of all parameters to `out`; return that of the first layer's output.

    Args:
        layers: The parameters.
        activation: Name of the activation.
        flow: What `forward` returned; its logits are not looked at.
        delta: Gradient of the logits (n, classes), summed over examples as it stands.
        out: Where the gradients go, shaped as `layers`.
    """
    for i in range(len(layers) - 1, -1, -1):
        gW, gb = out[i]
        np.matmul(delta.T, flow[i], out=gW)
        np.add.reduce(delta, axis=0, out=gb)
        if i == 0:
            break
        delta = delta @ layers[i][0]
        if activation == "relu":
            delta *= flow[i] > 0.0
        else:
            delta *= 1.0 - flow[i] * flow[i]
    return delta


def cross_entropy(logits: Tensor, targets: Tensor) -> tuple[float, Tensor]:
    """Return the mean loss of a batch and the gradient of its sum over examples.

    Args:
        logits: (n, classes).
        targets: Classes (n,) as whole numbers, or probabilities (n, classes).
    """
    n = len(logits)
    shifted = logits - logits.max(axis=1, keepdims=True)
    delta = np.exp(shifted)
    total = np.add.reduce(delta, axis=1, keepdims=True)
    delta /= total
    if targets.ndim == 1:
        rows = np.arange(n)
        loss = np.add.reduce(np.log(total)[:, 0] - shifted[rows, targets]) / n
        delta[rows, targets] -= 1.0
    else:
        loss = np.add.reduce((targets * (np.log(total) - shifted)).ravel()) / n
        delta -= targets
    return float(loss), delta


def is_right(logits: Tensor, targets: Tensor) -> int:
    """Return for how many examples the largest logit is that of the target."""
    wanted = targets if targets.ndim == 1 else targets.argmax(axis=1)
    return int(np.count_nonzero(logits.argmax(axis=1) == wanted))
