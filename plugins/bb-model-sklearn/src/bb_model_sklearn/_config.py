"""The configuration of the linear models, checked. This module must not import scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from bb_model_sklearn._losses import CLASSIFICATION, REGRESSION
from bb_model_sklearn.errors import SklearnError
from bb_roles.limits import Limits, check_limits

__all__ = ["LinearConfig"]

Estimator = Literal["sgd_classifier", "sgd_regressor", "perceptron", "passive_aggressive"]
Loss = Literal[
    "hinge", "log_loss", "modified_huber", "squared_hinge",
    "squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive",
]  # fmt: skip
Penalty = Literal["l2", "l1", "elasticnet"]
Schedule = Literal["constant", "optimal", "invscaling"]


@dataclass(frozen=True)
class LinearConfig:
    """The linear model and how it is trained; names and meanings are those of scikit-learn.

    Attributes:
        estimator: `sgd_classifier`, `sgd_regressor`, `perceptron` or `passive_aggressive` (a
            classifier).
        features: Numbers per input; the same on all Nodes that exchange parameters.
        classes: Number of classes of a classifier, at least 2; a regressor does not look at it.
        loss: What SGD goes down: `hinge`, `log_loss`, `modified_huber`, `squared_hinge` to
            classify, `squared_error`, `huber`, `epsilon_insensitive`,
            `squared_epsilon_insensitive` for regression. `None` is `hinge` or `squared_error`;
            the other two estimators have theirs.
        penalty: `l2`, `l1`, `elasticnet` or `None`, for the two of SGD; the others have none.
        alpha: Strength of the penalty; the schedule `optimal` needs it above 0.
        l1_ratio: Share of l1 in `elasticnet`.
        learning_rate: Schedule of SGD: `constant` (`eta0`), `optimal`
            (1 / (alpha * (t0 + t))) or `invscaling` (eta0 / t ** power_t), t being the steps
            taken so far.
        eta0: Learning rate; also that of `backward`, whatever the estimator and its schedule.
        power_t: Exponent of `invscaling`.
        epsilon: Where `huber` turns linear, and up to where the insensitive losses are 0.
        C: Longest step of `passive_aggressive`.
        fit_intercept: Whether there is an intercept; without one it stays 0.
        shuffle: Whether the examples of each batch are shuffled before they are trained on.
        reset_steps: Whether `load_params` starts the schedule over. A schedule that goes on lets
            the steps shrink over the rounds of a federation.
        dtype: Of parameters and arithmetic: `float32` or `float64`.
        seed: Of the order within batches; `None` draws from the context.
    """

    estimator: Estimator = "sgd_classifier"
    features: Annotated[int, Limits(1)] = 64
    classes: Annotated[int, Limits(1)] = 10
    loss: Loss | None = None
    penalty: Penalty | None = "l2"
    alpha: Annotated[float, Limits(0)] = 0.0001
    l1_ratio: Annotated[float, Limits(0, 1)] = 0.15
    learning_rate: Schedule = "constant"
    eta0: Annotated[float, Limits(above=0)] = 0.01
    power_t: Annotated[float, Limits()] = 0.5
    epsilon: Annotated[float, Limits(0)] = 0.1
    C: Annotated[float, Limits(above=0)] = 1.0
    fit_intercept: bool = True
    shuffle: bool = True
    reset_steps: bool = False
    dtype: Literal["float32", "float64"] = "float32"
    seed: Annotated[int | None, Limits(0)] = None

    def __post_init__(self) -> None:
        check_limits(self, SklearnError)
        _need_one_of("loss", self.loss, (None, *_losses(self.estimator)))
        least = 1 if self.regression else 2
        _need(self.classes >= least, f"classes is {self.classes}", f"at least {least}")
        _need(
            self.alpha > 0.0 or self.learning_rate != "optimal",
            "alpha is 0.0 and learning_rate is 'optimal'",
            "an alpha above 0, by which this schedule divides",
        )

    @property
    def regression(self) -> bool:
        """Whether it predicts numbers and not classes."""
        return self.estimator == "sgd_regressor"

    @property
    def told_loss(self) -> str:
        """Name of the loss that is reported, and that SGD goes down."""
        return self.loss or ("squared_error" if self.regression else "hinge")

    @property
    def rows(self) -> int:
        """Scores per example: one per class; one alone for two classes and for a regressor."""
        return 1 if self.regression or self.classes == 2 else self.classes


def _losses(estimator: str) -> tuple[str, ...]:
    """Return the losses that an estimator can be told."""
    names = {"sgd_classifier": CLASSIFICATION, "sgd_regressor": REGRESSION}
    return tuple(names.get(estimator, ()))


def _need_one_of(name: str, value: object, choices: tuple[object, ...]) -> None:
    listed = ", ".join(map(str, choices))
    _need(value in choices, f"{name} is {value!r}", f"one of {listed}")


def _need(truth: bool, found: str, expected: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not truth:
        raise SklearnError(found, expected=expected)
