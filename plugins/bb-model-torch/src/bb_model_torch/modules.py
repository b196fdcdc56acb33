"""Ready-made modules, so that a configuration alone makes a model.

Each is a function of plain values that returns a fresh `torch.nn.Module`, with the initial
parameters that PyTorch draws. Nothing here knows of components.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from bb_model_torch.errors import TorchError

__all__ = ["cnn", "linear", "mlp"]

_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU}


def linear(inputs: int = 64, outputs: int = 10) -> nn.Module:
    """Return one layer: `outputs` numbers for each input, which is taken as a row of `inputs`."""
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs))


def mlp(
    layers: Sequence[int] = (64, 32, 10), activation: str = "relu", dropout: float = 0.0
) -> nn.Module:
    """Return a multilayer perceptron; inputs are taken as rows of `layers[0]` numbers.

    Args:
        layers: Widths: inputs, hidden layers, outputs.
        activation: `relu`, `tanh`, `gelu` or `silu`, after every layer but the last.
        dropout: Share of hidden numbers that are set to 0 in training, 0 up to 1.

    Raises:
        TorchError: There are fewer than two widths, or the activation is unknown.
    """
    made = _activation(activation)
    if len(layers) < 2:
        raise TorchError(
            f"layers are {list(layers)}", expected="at least two widths, inputs first, outputs last"
        )
    parts: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(layers):
        parts += [nn.Linear(inputs, outputs), made(), nn.Dropout(dropout)]
    return nn.Sequential(*parts[:-2])


def cnn(  # noqa: PLR0917  # given by keyword, from a configuration
    height: int = 8,
    width: int = 8,
    channels: int = 1,
    filters: Sequence[int] = (16, 32),
    outputs: int = 10,
    activation: str = "relu",
    *,
    batch_norm: bool = False,
) -> nn.Module:
    """Return a convolutional network for small images: 3 x 3 filters, each halving the sides.

    Args:
        height: Rows of an image.
        width: Columns of an image.
        channels: Numbers per pixel. Inputs are (n, channels, height, width), or rows of as many.
        filters: Number of filters of each layer; sides are halved, rounded down, by each.
        outputs: Numbers that come out for each image.
        activation: `relu`, `tanh`, `gelu` or `silu`.
        batch_norm: Whether each layer is normalized over the batch (Ioffe, Szegedy, "Batch
            Normalization", 2015).

    Raises:
        TorchError: Too many layers for images of this size, or the activation is unknown.
    """
    made = _activation(activation)
    sides = height >> len(filters), width >> len(filters)
    if min(sides) < 1:
        raise TorchError(
            f"{len(filters)} layers halve images of {height} x {width} to nothing",
            expected="at least one pixel that is left",
            fix="take fewer filters",
        )
    parts: list[nn.Module] = [nn.Flatten(), nn.Unflatten(1, (channels, height, width))]
    for inputs, found in pairwise((channels, *filters)):
        parts += [nn.Conv2d(inputs, found, 3, padding=1)]
        parts += [nn.BatchNorm2d(found)] if batch_norm else []
        parts += [made(), nn.MaxPool2d(2)]
    left = (filters[-1] if filters else channels) * sides[0] * sides[1]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(left, outputs))


def _activation(name: str) -> type[nn.Module]:
    if name not in _ACTIVATIONS:
        raise TorchError(f"activation is {name!r}", expected=f"one of {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]
