"""The component: one of scikit-learn's linear models behind the contract of models.

scikit-learn trains, with its own compiled code, by `partial_fit`; scores, losses and gradients are
one matrix product each and are done here. Only documented attributes of its estimators are used
(`coef_`, `intercept_`, `t_`), and no estimator is ever pickled: what is saved are arrays and the
count of steps.

The estimator owns its arrays and writes to them in place, so parameters are copied on their way in
and out. They are small: a row of numbers per class.

scikit-learn takes a second to import. It is imported when a model is built, never before.

The same calls give the same bits on one machine. On other machines they agree within rounding.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bb_ir.ops import batch_parts
from bb_ir.params import ParameterSet
from bb_ir.types import ANY, Type, tensor
from bb_ir.types import params as params_type
from bb_model_sklearn._config import LinearConfig
from bb_model_sklearn._losses import CLASSIFICATION, REGRESSION, margins
from bb_model_sklearn.errors import SklearnError
from bb_roles import Batches, Context, Environment, Model, State
from bb_roles.errors import InputMisfit

__all__ = ["Linear", "LinearConfig"]

Tensor = NDArray[Any]
#: scikit-learn draws from 32-bit seeds.
_SEEDS = 2**31
#: From this version on scikit-learn has passive-aggressive as a schedule of SGD and warns of the
#: class that it had before.
_PASSIVE_AGGRESSIVE_IS_A_SCHEDULE = (1, 8)


#: While it trains, scikit-learn sets the warning filters of the whole process and puts them back;
#: two threads that do so at once leave each other's, or none, and it then warns of itself.
_TRAINING = threading.Lock()


class Linear(Model):
    """A linear model of scikit-learn: classification or regression, trained by `partial_fit`.

    Inputs are (n, ...) and are taken as rows of `features` finite numbers. Outputs are scores
    (n, rows): a row per class (one against the rest), a single one for two classes (positive for
    class 1), or the prediction of a regressor. Targets are classes (n,) from 0 as whole numbers;
    for a regressor numbers (n,) or (n, 1).

    Parameters are `coef_` (rows, features) and `intercept_` (rows,), zeros at first. Losses are
    those of the estimator without its penalty, summed over the rows; the perceptron's is told as
    hinge loss.
    """

    Config = LinearConfig

    def __init__(self, config: LinearConfig, env: Environment) -> None:
        super().__init__(config, env)
        self._dtype = np.dtype(config.dtype)
        self._shapes = {"coef_": (config.rows, config.features), "intercept_": (config.rows,)}
        self._estimator = _estimator(config)
        first = np.zeros((1, config.features), self._dtype)
        self._lent: ParameterSet | None = None
        # This call, of whose outcome nothing is kept, has scikit-learn make its arrays.
        self._partial_fit(first, np.zeros(1, np.int64))
        self._put({name: np.zeros(shape) for name, shape in self._shapes.items()}, steps=1.0)
        self._kept: Tensor | None = None
        self._kept_shape: tuple[int, ...] = ()

    @classmethod
    def value_types(cls, config: LinearConfig) -> Mapping[str, str]:
        """Return the types of parameters, scores and metrics of a model like this."""
        dtype, rows = config.dtype, config.rows
        held = params_type(
            {
                "coef_": tensor(dtype, (rows, config.features)),
                "intercept_": tensor(dtype, (rows,)),
            }
        )
        accuracy = "" if config.regression else ",accuracy:float64"
        return {
            **dict.fromkeys(("Params.params", "LoadParams.params", "ApplyDelta.delta"), str(held)),
            "Forward.y": f"tensor({dtype})[?,{rows}]",
            "Backward.grad": f"tensor[?,{rows}]",
            "Backward.x": f"tensor({dtype})",
            "ComputeLoss.prediction": f"tensor[?,{rows}]",
            "Fit.metrics": "record(examples:int64,loss:float64)",
            "Evaluate.metrics": f"record(examples:int64,loss:float64{accuracy})",
        }

    @classmethod
    def infer_types(
        cls, config: LinearConfig, op: str, inputs: tuple[Type, ...]
    ) -> Mapping[str, Type] | None:
        """Return the type of scores, as many rows as inputs; check the widths of what is given.

        Raises:
            InputMisfit: The inputs have another width than `features`, or the targets are no
                classes where classes are needed.
        """
        if op in ("Fit", "Evaluate"):
            xs, ys = batch_parts(inputs[0])
            _check_types(config, xs, ys)
            return {} if xs.shape or ys.shape or ys.dtype else None
        if op != "Forward" or not inputs[0].shape:
            return None
        _check_types(config, inputs[0])
        return {"y": tensor(config.dtype, (inputs[0].shape[0], config.rows))}

    # Parameters.

    def params(self, ctx: Context) -> ParameterSet:
        """Return the parameters: a copy, made once for as long as they stay as they are."""
        if self._lent is None:
            held = {"coef_": self._coef, "intercept_": self._intercept}
            self._lent = ParameterSet.from_tensors(held, self.env.pool)
        return self._lent

    def load_params(self, ctx: Context, params: ParameterSet) -> None:
        """Copy parameters, and start the schedule over if `reset_steps` is on.

        Raises:
            SklearnError: Names, shapes or dtypes are not those of this model, or a number is not
                finite.
        """
        steps = 1.0 if self.config.reset_steps else self._steps
        self._put(self._fitting(dict(params.items()), "the parameters"), steps)
        self._kept = None

    def apply_delta(self, ctx: Context, delta: ParameterSet) -> None:
        """Add a set of differences.

        Raises:
            SklearnError: Names, shapes or dtypes are not those of this model, or the sum is not
                finite.
        """
        change = self._fitting(dict(delta.items()), "the differences")
        with np.errstate(over="ignore"):  # found below
            sums = {
                "coef_": self._coef + change["coef_"],
                "intercept_": self._intercept + change["intercept_"],
            }
        self._put(self._fitting(sums, "the parameters with the differences"), self._steps)
        self._kept = None

    def _fitting(self, tensors: Mapping[str, Tensor], what: str) -> Mapping[str, Tensor]:
        """Return tensors that are parameters of this model, or say why they are none."""
        given = {name: tensor(a.dtype.name, a.shape) for name, a in tensors.items()}
        ours = {name: tensor(self._dtype.name, shape) for name, shape in self._shapes.items()}
        if given != ours:
            raise SklearnError(
                f"{what} are {params_type(given)}",
                expected=str(params_type(ours)),
                fix="give both models the same features, classes, estimator and dtype",
            )
        for name, array in tensors.items():
            if not np.isfinite(array).all():
                raise SklearnError(f"{what} hold NaN or infinity in {name}", expected="finite ones")
        return tensors

    def _put(self, tensors: Mapping[str, Tensor], steps: float) -> None:
        """Write parameters into the estimator's own arrays."""
        self._coef[...] = tensors["coef_"]
        self._intercept[...] = tensors["intercept_"]
        self._estimator.t_ = steps
        self._lent = None

    @property
    def _coef(self) -> Tensor:
        coef: Tensor = self._estimator.coef_
        return coef.reshape(self._shapes["coef_"])

    @property
    def _intercept(self) -> Tensor:
        intercept: Tensor = self._estimator.intercept_
        return intercept

    @property
    def _steps(self) -> float:
        return float(self._estimator.t_)

    # One batch.

    def forward(self, ctx: Context, x: Tensor) -> Tensor:
        """Return scores (n, rows) for inputs (n, ...).

        Raises:
            SklearnError: The inputs do not have `features` numbers, or some are not finite.
        """
        rows = self._rows(x)
        self._kept, self._kept_shape = rows.copy(), x.shape
        return self._scores(rows)

    def backward(self, ctx: Context, grad: Tensor) -> Tensor:
        """Step by `eta0` against the gradient of the scores; return that of the inputs (n, ...).

        It is plain gradient descent: estimator, schedule and penalty are for `fit`.

        Raises:
            SklearnError: There was no `forward` since the parameters last changed, `grad` does
                not have the shape of its output, or the step leads to infinity.
        """
        rows = self._kept
        if rows is None:
            raise SklearnError(
                "backward has no forward to go back from",
                expected="one forward before each backward, and no other change between the two",
            )
        if grad.shape != (len(rows), self.config.rows):
            raise SklearnError(
                f"the gradient has shape {list(grad.shape)}",
                expected=f"that of the output, {[len(rows), self.config.rows]}",
            )
        grad = np.asarray(grad, self._dtype)
        returned = (grad @ self._coef).reshape(self._kept_shape)
        eta, kept = self._dtype.type(self.config.eta0), int(self.config.fit_intercept)
        with np.errstate(over="ignore", invalid="ignore"):  # found below
            stepped = {
                "coef_": self._coef - eta * (grad.T @ rows),
                "intercept_": self._intercept - kept * eta * grad.sum(axis=0),
            }
        self._put(self._fitting(stepped, "the parameters after this step"), self._steps)
        self._kept = None
        return returned

    def compute_loss(self, ctx: Context, prediction: Tensor, target: Tensor) -> float:
        """Return the mean loss of scores (n, rows) against targets.

        Raises:
            SklearnError: The two do not fit each other.
        """
        rows = self.config.rows
        if prediction.ndim != 2 or prediction.shape[1] != rows or len(prediction) == 0:
            raise SklearnError(
                f"the predictions have shape {list(prediction.shape)}",
                expected=f"(n, {rows}), n at least 1",
            )
        return self._loss(prediction, self._targets(target, len(prediction))) / len(prediction)

    def _scores(self, rows: Tensor) -> Tensor:
        return rows @ self._coef.T + self._intercept

    def _loss(self, scores: Tensor, targets: Tensor) -> float:
        """Return the loss summed over examples and rows, in double precision."""
        wide, config = scores.astype(np.float64), self.config
        if config.regression:
            each = REGRESSION[config.told_loss](wide - targets[:, None], config.epsilon)
        else:
            each = CLASSIFICATION[config.told_loss](margins(wide, targets))
        return float(each.sum())

    # Whole datasets.

    def fit(self, ctx: Context, batches: Batches) -> Mapping[str, Any]:
        """Train over all batches; return `examples` and the mean `loss` met on the way.

        A `fit` that fails leaves the model as it was.

        Raises:
            SklearnError: A batch does not fit, there is none, or training diverged.
        """
        before = {"coef_": self._coef.copy(), "intercept_": self._intercept.copy()}
        steps = self._steps
        try:
            total, seen = self._train(self._order(ctx), batches)
            loss = self._mean(total, seen)
        except BaseException:
            self._put(before, steps)
            raise
        self._kept = self._lent = None
        return {"examples": batches.examples, "loss": loss}

    def _train(self, order: np.random.Generator, batches: Batches) -> tuple[float, int]:
        total, seen = 0.0, 0
        for x, y in batches:
            rows = self._rows(x)
            targets = self._targets(y, len(rows))
            with np.errstate(over="ignore", invalid="ignore"):  # told as divergence
                total += self._loss(self._scores(rows), targets)
                self._estimator.random_state = int(order.integers(_SEEDS))
                try:
                    self._partial_fit(rows, targets)
                except ValueError as error:  # what it is given was checked: only its sums overflow
                    raise self._diverged(str(error)) from error
            seen += len(rows)
        return total, seen

    def evaluate(self, ctx: Context, batches: Batches) -> Mapping[str, Any]:
        """Return `examples`, the mean `loss` and a classifier's `accuracy`; changes nothing.

        Raises:
            SklearnError: A batch does not fit, or there is none.
        """
        total, right, seen = 0.0, 0, 0
        for x, y in batches:
            scores = self._scores(self._rows(x))
            targets = self._targets(y, len(scores))
            total += self._loss(scores, targets)
            right += 0 if self.config.regression else _right(scores, targets)
            seen += len(scores)
        metrics = {"examples": batches.examples, "loss": self._mean(total, seen)}
        return metrics if self.config.regression else {**metrics, "accuracy": right / seen}

    def _partial_fit(self, rows: Tensor, targets: Tensor) -> None:
        with _TRAINING:
            if self.config.regression:
                self._estimator.partial_fit(rows, targets)
            else:
                self._estimator.partial_fit(rows, targets, classes=np.arange(self.config.classes))
        # With a single row scikit-learn leaves a new intercept, in double precision; what is kept
        # has to be what is saved and sent.
        self._estimator.intercept_ = np.asarray(self._estimator.intercept_, self._dtype)

    def _order(self, ctx: Context) -> np.random.Generator:
        """Return what decides the order within batches: never what an earlier call drew."""
        if self.config.seed is None:
            return ctx.rng()
        return np.random.default_rng([self.config.seed, int(self._steps)])

    def _mean(self, total: float, count: int) -> float:
        if count == 0:
            raise SklearnError(
                "there are no batches",
                expected="at least one batch with at least one example",
                fix="check the data source's split and partition",
            )
        if not math.isfinite(total):
            raise self._diverged(f"the mean loss is {total / count}")
        return total / count

    def _diverged(self, how: str) -> SklearnError:
        return SklearnError(
            f"training diverged: {how}",
            expected="a finite loss and finite parameters",
            fix=f"lower eta0, which is {self.config.eta0}, or scale the inputs",
        )

    def _rows(self, x: Tensor) -> Tensor:
        width = self.config.features
        if x.ndim < 2 or len(x) == 0 or math.prod(x.shape[1:]) != width:
            given = math.prod(x.shape[1:])
            raise SklearnError(
                f"the inputs have shape {list(x.shape)}",
                expected=f"(n, {width}) or as many numbers per row, n at least 1",
                fix=f"set features to {given}" if x.ndim > 1 and len(x) and given else "",
            )
        if x.dtype.kind not in "fiub":
            raise SklearnError(f"the inputs are {x.dtype.name}", expected="real numbers")
        with np.errstate(over="ignore"):  # found below
            rows = np.ascontiguousarray(x.reshape(len(x), width), self._dtype)
        if not np.isfinite(rows).all():
            raise SklearnError(
                f"the inputs are not finite at row {_first_bad(rows)}",
                expected=f"no NaN, no infinity, nothing beyond {self._dtype.name}",
                fix="drop or fill such examples first",
            )
        return rows

    def _targets(self, y: Tensor, n: int) -> Tensor:
        if self.config.regression:
            return self._numbers(y, n)
        if y.shape != (n,) or y.dtype.kind not in "iu":
            raise SklearnError(
                f"the targets are {y.dtype.name} of shape {list(y.shape)}",
                expected=f"{n} whole numbers, the class of each example",
                fix="number the classes from 0, or set estimator to 'sgd_regressor'",
            )
        if y.min() < 0 or y.max() >= self.config.classes:
            raise SklearnError(
                f"the targets go from {y.min()} to {y.max()}",
                expected=f"classes from 0 to {self.config.classes - 1}",
                fix=f"number the classes from 0, or set classes to {int(y.max()) + 1}",
            )
        return y

    def _numbers(self, y: Tensor, n: int) -> Tensor:
        if y.shape not in ((n,), (n, 1)) or y.dtype.kind not in "fiub":
            raise SklearnError(
                f"the targets are {y.dtype.name} of shape {list(y.shape)}",
                expected=f"{n} real numbers, ({n},) or ({n}, 1)",
            )
        with np.errstate(over="ignore"):  # found below
            numbers = np.asarray(y, self._dtype).reshape(n)
        if not np.isfinite(numbers).all():
            raise SklearnError(
                f"the targets are not finite at row {_first_bad(numbers)}",
                expected=f"no NaN, no infinity, nothing beyond {self._dtype.name}",
            )
        return numbers

    # State.

    def save(self) -> State:
        """Return parameters, the count of steps, and what a `forward` keeps for `backward`."""
        tensors = {"coef_": self._coef.copy(), "intercept_": self._intercept.copy()}
        data: dict[str, Any] = {"steps": self._steps}
        if self._kept is not None:
            tensors["kept"] = self._kept.copy()
            data["input_shape"] = list(self._kept_shape)
        return State(tensors, data)

    def load(self, state: State) -> None:
        """Take over what `save` returned.

        Raises:
            SklearnError: It was saved by a model of another shape or dtype.
        """
        held = {name: a for name, a in state.tensors.items() if name != "kept"}
        self._put(self._fitting(held, "the saved parameters"), float(state.data.get("steps", 1.0)))
        kept = state.tensors.get("kept")
        self._kept = None if kept is None else kept.copy()
        self._kept_shape = tuple(state.data.get("input_shape", ()))


def _estimator(config: LinearConfig) -> Any:
    """Import scikit-learn and return an estimator that was told the configuration."""
    linear = import_module("sklearn.linear_model")
    common = {"fit_intercept": config.fit_intercept, "shuffle": config.shuffle, "random_state": 0}
    if config.estimator == "perceptron":
        return linear.Perceptron(eta0=config.eta0, **common)
    if config.estimator == "passive_aggressive":
        if _version() < _PASSIVE_AGGRESSIVE_IS_A_SCHEDULE:
            return linear.PassiveAggressiveClassifier(C=config.C, loss="hinge", **common)
        return linear.SGDClassifier(
            loss="hinge", penalty=None, learning_rate="pa1", eta0=config.C, **common
        )
    cls = linear.SGDRegressor if config.regression else linear.SGDClassifier
    return cls(
        loss=config.told_loss,
        penalty=config.penalty,
        alpha=config.alpha,
        l1_ratio=config.l1_ratio,
        learning_rate=config.learning_rate,
        eta0=config.eta0,
        power_t=config.power_t,
        epsilon=config.epsilon,
        **common,
    )


def _version() -> tuple[int, ...]:
    return tuple(int(part) for part in import_module("sklearn").__version__.split(".")[:2])


def _right(scores: Tensor, targets: Tensor) -> int:
    if scores.shape[1] == 1:
        return int(((scores[:, 0] > 0) == (targets == 1)).sum())
    return int((scores.argmax(axis=1) == targets).sum())


def _first_bad(array: Tensor) -> int:
    return int(np.argwhere(~np.isfinite(array))[0][0])


def _check_types(config: LinearConfig, xs: Type, ys: Type = ANY) -> None:
    """Check what is known of the types of a batch; inputs of any rank are taken as rows."""
    if xs.shape:
        row = [dim for dim in xs.shape[1:] if isinstance(dim, int)]
        given = math.prod(row)
        if len(row) == len(xs.shape) - 1 and given != config.features:
            raise InputMisfit(
                f"an input has {given} numbers, and features is {config.features}",
                expected=f"inputs of {config.features} numbers each",
                fix=f"set features to {given}",
            )
    if not config.regression and ys.dtype and not ys.dtype.startswith(("int", "uint")):
        raise InputMisfit(
            f"the targets are {ys.dtype}, and {config.estimator} classifies",
            expected="classes as whole numbers",
            fix="number the classes from 0, or set estimator to 'sgd_regressor'",
        )
