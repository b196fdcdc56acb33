"""The losses that scikit-learn's linear models go down, as functions of scores and targets.

scikit-learn keeps its own inside compiled code and reports none of them. Source of the formulas:
the user guide of scikit-learn, "Stochastic Gradient Descent: Mathematical formulation". Penalties
are no part of them. This module knows nothing of components and of scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLASSIFICATION", "REGRESSION", "margins"]

Tensor = NDArray[Any]


def margins(scores: Tensor, classes: Tensor) -> Tensor:
    """Return scores (n, rows) with their signs turned so that positive ones are right.

    Each row of the model tells one class from the rest; with two classes there is one row, which
    tells class 1 from class 0.

    Args:
        scores: What the model says, (n, rows).
        classes: Classes (n,) from 0.
    """
    ours = classes[:, None] == (1 if scores.shape[1] == 1 else np.arange(scores.shape[1]))
    return np.where(ours, scores, -scores)


def _hinge(z: Tensor) -> Tensor:
    return np.maximum(0.0, 1.0 - z)


def _log_loss(z: Tensor) -> Tensor:
    return np.logaddexp(0.0, -z)


def _modified_huber(z: Tensor) -> Tensor:
    return np.where(z >= -1.0, np.maximum(0.0, 1.0 - z) ** 2, -4.0 * z)


def _squared_hinge(z: Tensor) -> Tensor:
    return np.maximum(0.0, 1.0 - z) ** 2


def _squared_error(r: Tensor, epsilon: float) -> Tensor:  # noqa: ARG001  # as the others
    return 0.5 * r * r


def _huber(r: Tensor, epsilon: float) -> Tensor:
    near = np.minimum(np.abs(r), epsilon)
    return near * (np.abs(r) - 0.5 * near)


def _insensitive(r: Tensor, epsilon: float) -> Tensor:
    return np.maximum(0.0, np.abs(r) - epsilon)


def _squared_insensitive(r: Tensor, epsilon: float) -> Tensor:
    return np.maximum(0.0, np.abs(r) - epsilon) ** 2


#: By scikit-learn's names, functions of margins. A perceptron's own loss is 0 for a model of zeros,
#: which says nothing: that of a perceptron is told as hinge loss.
CLASSIFICATION: Mapping[str, Callable[[Tensor], Tensor]] = {
    "hinge": _hinge,
    "log_loss": _log_loss,
    "modified_huber": _modified_huber,
    "squared_hinge": _squared_hinge,
}

#: By scikit-learn's names, functions of residuals and the `epsilon` of the configuration.
REGRESSION: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "squared_error": _squared_error,
    "huber": _huber,
    "epsilon_insensitive": _insensitive,
    "squared_epsilon_insensitive": _squared_insensitive,
}
