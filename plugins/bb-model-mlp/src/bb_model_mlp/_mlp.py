"""The component: owns, lends and borrows parameters, and steps the optimizer.

Parameters and gradients are two buffers of one layout. The network reads and writes them through
one view per tensor, the optimizer through one flat view per buffer, so that a step costs a few
operations whatever the number of layers. Gradients live no longer than a call: of a thousand
virtual clients only the one that trains needs them.

Who may write to the parameters:

- A fresh model and one that was trained own their buffer and write in place.
- After `params` the buffer is lent until the value is dropped, and after `load_params` it is
  somebody else's. The first step then writes what it computes to a buffer of our own:
  `new = old - step`. Nothing is copied for it.

The same calls give the same bits on one machine as long as its BLAS runs one thread. On other
machines they agree within rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bb_ir.errors import BytesAndBrainsError
from bb_ir.ops import batch_parts
from bb_ir.params import Draft, Layout, ParameterSet
from bb_ir.types import ANY, Type, tensor
from bb_ir.types import params as params_type
from bb_model_mlp import _network as network
from bb_roles import Batches, Context, Environment, Model, State
from bb_roles.errors import InputMisfit
from bb_roles.limits import Limits, check_limits

__all__ = ["Mlp", "MlpConfig", "MlpError"]

Tensor = NDArray[Any]


class MlpError(BytesAndBrainsError, ValueError):
    """A configuration, a batch or parameters do not fit the model.

    Met when the model is built, and when it is given data or parameters of another shape. The
    error says what it takes.
    """


@dataclass(frozen=True)
class MlpConfig:
    """The network and how it is trained.

    Attributes:
        layers: Widths: inputs, hidden layers, classes. Two numbers make a linear classifier.
        activation: `relu` or `tanh`, after every layer but the last.
        loss: `cross_entropy` of the softmax of the outputs.
        lr: Learning rate.
        momentum: Share of the last step that goes into the next one.
        weight_decay: Share of each parameter that is added to its gradient.
        reset_momentum: Whether `load_params` forgets the last step. Clients of a federation start
            each round afresh; a model that keeps it goes on as if it had come here by itself.
        dtype: Of parameters and arithmetic: `float32` or `float64`.
        seed: Of the initial parameters; `None` takes the Node's.
    """

    layers: tuple[int, ...] = (64, 32, 10)
    activation: Literal["relu", "tanh"] = "relu"
    loss: Literal["cross_entropy"] = "cross_entropy"
    lr: Annotated[float, Limits(above=0)] = 0.1
    momentum: Annotated[float, Limits(0, below=1)] = 0.9
    weight_decay: Annotated[float, Limits(0)] = 0.0
    reset_momentum: bool = True
    dtype: Literal["float32", "float64"] = "float32"
    seed: Annotated[int | None, Limits(0)] = None

    def __post_init__(self) -> None:
        if len(self.layers) < 2 or min(self.layers) < 1:
            raise MlpError(
                f"layers are {self.layers!r}",
                expected="at least two widths of at least 1, inputs first and classes last",
            )
        check_limits(self, MlpError)


class Mlp(Model):
    """A multilayer perceptron that classifies, trained by gradient descent with momentum.

    Inputs are (n, ...) and are taken as rows of `layers[0]` numbers. Outputs are logits
    (n, classes). Targets are classes (n,) from 0, or probabilities (n, classes).
    """

    Config = MlpConfig

    def __init__(self, config: MlpConfig, env: Environment) -> None:
        super().__init__(config, env)
        self._activation = config.activation
        self._dtype = np.dtype(config.dtype)
        self._classes = config.layers[-1]
        rng = env.rng("init") if config.seed is None else _generator(config.seed)
        drawn = network.initial(config.layers, config.activation, config.dtype, rng)
        first = ParameterSet.from_tensors(drawn)
        self._layout = first.layout
        self._adopt(first)
        self._velocity: Tensor | None = None
        self._kept: _Kept | None = None

    @classmethod
    def value_types(cls, config: MlpConfig) -> Mapping[str, str]:
        """Return the types of parameters, logits and metrics of a network like this."""
        dtype, classes = config.dtype, config.layers[-1]
        shapes = network.shapes(config.layers)
        held = params_type({name: tensor(dtype, shape) for name, shape in shapes.items()})
        return {
            **dict.fromkeys(("Params.params", "LoadParams.params", "ApplyDelta.delta"), str(held)),
            "Forward.y": f"tensor({dtype})[?,{classes}]",
            "Backward.grad": f"tensor[?,{classes}]",
            "Backward.x": f"tensor({dtype})",
            "ComputeLoss.prediction": f"tensor[?,{classes}]",
            "Fit.metrics": "record(examples:int64,loss:float64)",
            "Evaluate.metrics": "record(examples:int64,loss:float64,accuracy:float64)",
        }

    @classmethod
    def infer_types(
        cls, config: MlpConfig, op: str, inputs: tuple[Type, ...]
    ) -> Mapping[str, Type] | None:
        """Return the type of logits, as many rows as inputs; check the width of what is given.

        Raises:
            InputMisfit: The inputs have another width than the network, or the targets than its
                classes.
        """
        if op in ("Fit", "Evaluate"):
            xs, ys = batch_parts(inputs[0])
            _check_widths(config, xs, ys)
            return {} if xs.shape or ys.shape else None
        if op != "Forward" or not inputs[0].shape:
            return None
        _check_widths(config, inputs[0])
        return {"y": tensor(config.dtype, (inputs[0].shape[0], config.layers[-1]))}

    # Parameters: lent, borrowed, written.

    def params(self, ctx: Context) -> ParameterSet:
        """Lend the parameters; later training writes elsewhere until the loan is dropped."""
        source = self._source
        return source.lend() if isinstance(source, Draft) else source

    def load_params(self, ctx: Context, params: ParameterSet) -> None:
        """Borrow parameters, and forget the last step unless `reset_momentum` is off.

        Raises:
            MlpError: Names, shapes or dtypes are not those of this network.
        """
        self._adopt(self._fitting(params))
        self._kept = None
        if self.config.reset_momentum:
            self._velocity = None

    def apply_delta(self, ctx: Context, delta: ParameterSet) -> None:
        """Add a set of differences.

        Raises:
            MlpError: Names, shapes or dtypes are not those of this network.
        """
        change = self._fitting(delta).flat(self.config.dtype)
        self._kept = None
        self._write(np.add, change)

    def _adopt(self, source: ParameterSet | Draft) -> None:
        self._source = source
        self._flat = source.flat(self.config.dtype)
        self._layers = self._layers_of(source)

    def _layers_of(self, source: ParameterSet | Draft) -> list[network.Layer]:
        pairs = (network.names(i) for i in range(len(self.config.layers) - 1))
        return [(source[weight], source[bias]) for weight, bias in pairs]

    def _fitting(self, params: ParameterSet) -> ParameterSet:
        """Return the set in our layout; a set that is only written differently is copied."""
        if params.layout == self._layout:
            return params
        if _tensors_of(params.layout) == _tensors_of(self._layout):
            return ParameterSet.from_tensors({name: params[name] for name in self._layout.names})
        raise MlpError(
            f"the parameters are {params.layout.type}",
            expected=str(self._layout.type),
            fix="give both models the same layers and the same dtype",
        )

    def _write(self, change: np.ufunc, by: Tensor) -> None:
        """Change the parameters, in place where the memory is ours alone."""
        if isinstance(self._source, Draft) and not self._source.lent:
            change(self._flat, by, out=self._flat)
            return
        fresh = Draft(self._layout, self.env.pool)
        change(self._flat, by, out=fresh.flat(self.config.dtype))
        self._adopt(fresh)

    # One batch.

    def forward(self, ctx: Context, x: Tensor) -> Tensor:
        """Return logits (n, classes) for inputs (n, ...).

        Raises:
            MlpError: The inputs do not have as many numbers as the first layer.
        """
        *flow, logits = network.forward(self._layers, self._activation, self._rows(x))
        self._kept = _Kept(x.shape, flow)
        return logits

    def backward(self, ctx: Context, grad: Tensor) -> Tensor:
        """Step the optimizer by the gradient of the logits; return that of the inputs (n, ...).

        Raises:
            MlpError: There was no `forward` since the parameters last changed, or `grad` does not
                have the shape of its output.
        """
        if self._kept is None:
            raise MlpError(
                "backward has no forward to go back from",
                expected="one forward before each backward, and no other change between the two",
            )
        shape, flow = self._kept
        if grad.shape != (len(flow[0]), self._classes):
            raise MlpError(
                f"the gradient has shape {list(grad.shape)}",
                expected=f"that of the output, {[len(flow[0]), self._classes]}",
            )
        self._kept = None
        delta = np.asarray(grad, self._dtype)
        out = self._gradient()
        delta = network.gradients(self._layers, self._activation, flow, delta, out.layers)
        returned = (delta @ self._layers[0][0]).reshape(shape)
        np.multiply(out.flat, self.config.lr, out=out.flat)
        self._step(out.flat)
        return returned

    def compute_loss(self, ctx: Context, prediction: Tensor, target: Tensor) -> float:
        """Return the mean cross entropy of logits (n, classes) against targets.

        Raises:
            MlpError: The two do not fit each other.
        """
        if prediction.ndim != 2 or prediction.shape[1] != self._classes or len(prediction) == 0:
            raise MlpError(
                f"the predictions have shape {list(prediction.shape)}",
                expected=f"(n, {self._classes}), n at least 1",
            )
        return network.cross_entropy(prediction, self._targets(target, len(prediction)))[0]

    # Whole datasets.

    def fit(self, ctx: Context, batches: Batches) -> Mapping[str, Any]:
        """Train over all batches; return `examples` and the mean `loss` met on the way.

        Raises:
            MlpError: A batch does not fit, there is none, or training diverged.
        """
        total, seen = 0.0, 0
        self._kept = None
        out = self._gradient()
        with np.errstate(over="ignore", invalid="ignore"):  # divergence is reported below
            for x, y in batches:
                total += self._train(x, y, out)
                seen += len(x)
        loss = _mean(total, seen)
        if not math.isfinite(loss):
            raise MlpError(
                f"training diverged: the mean loss is {loss}",
                expected="a finite loss",
                fix=f"lower lr, which is {self.config.lr}, or scale the inputs",
            )
        return {"examples": batches.examples, "loss": loss}

    def evaluate(self, ctx: Context, batches: Batches) -> Mapping[str, Any]:
        """Return `examples`, the mean `loss` and `accuracy` (0 to 1); changes nothing.

        Raises:
            MlpError: A batch does not fit, or there is none.
        """
        total, right, seen = 0.0, 0, 0
        for x, y in batches:
            logits = network.forward(self._layers, self._activation, self._rows(x))[-1]
            targets = self._targets(y, len(logits))
            total += network.cross_entropy(logits, targets)[0] * len(logits)
            right += network.is_right(logits, targets)
            seen += len(logits)
        loss = _mean(total, seen)
        return {"examples": batches.examples, "loss": loss, "accuracy": right / seen}

    def _train(self, x: Tensor, y: Tensor, out: _Gradient) -> float:
        """Take one step; return the loss of the batch, summed over its examples."""
        flow = network.forward(self._layers, self._activation, self._rows(x))
        n = len(x)
        loss, delta = network.cross_entropy(flow[-1], self._targets(y, n))
        # The learning rate goes in here, where the arrays are small.
        delta *= self.config.lr / n
        network.gradients(self._layers, self._activation, flow, delta, out.layers)
        self._step(out.flat)
        return loss * n

    def _gradient(self) -> _Gradient:
        draft = Draft(self._layout, self.env.pool)
        return _Gradient(self._layers_of(draft), draft.flat(self.config.dtype))

    def _step(self, gradient: Tensor) -> None:
        """Move the parameters against a gradient that is already times the learning rate."""
        config = self.config
        if config.weight_decay:
            gradient += self._flat * self._dtype.type(config.lr * config.weight_decay)
        if not config.momentum:
            self._write(np.subtract, gradient)
            return
        velocity = self._velocity
        if velocity is None:
            velocity = self._velocity = gradient.copy()
        else:
            velocity *= config.momentum
            velocity += gradient
        self._write(np.subtract, velocity)

    def _rows(self, x: Tensor) -> Tensor:
        rows = x if x.ndim == 2 else x.reshape(len(x) if x.ndim else 1, -1)
        if rows.shape[1] != self.config.layers[0] or len(rows) == 0:
            raise MlpError(
                f"the inputs have shape {list(x.shape)}",
                expected=f"(n, {self.config.layers[0]}) or as many numbers per row, n at least 1",
                fix=f"set layers to ({rows.shape[1]}, ..., {self._classes})",
            )
        return np.asarray(rows, self._dtype)

    def _targets(self, y: Tensor, n: int) -> Tensor:
        if y.ndim == 2:
            if y.shape == (n, self._classes):
                return np.asarray(y, self._dtype)
        elif y.shape == (n,) and y.dtype.kind in "iu":
            if y.min() >= 0 and y.max() < self._classes:
                return y
            raise MlpError(
                f"the targets go from {y.min()} to {y.max()}",
                expected=f"classes from 0 to {self._classes - 1}",
                fix=f"number the classes from 0, or set layers to (..., {int(y.max()) + 1})",
            )
        raise MlpError(
            f"the targets are {y.dtype.name} of shape {list(y.shape)}",
            expected=f"{n} whole numbers, the class of each example, or probabilities "
            f"({n}, {self._classes})",
            fix="number the classes from 0; for targets that are no classes, bind another model",
        )

    # State.

    def save(self) -> State:
        """Return parameters, velocities, and what a `forward` keeps for its `backward`."""
        tensors = {f"params/{name}": self._source[name].copy() for name in self._layout.names}
        if self._velocity is not None:
            tensors["velocity"] = self._velocity.copy()
        data: dict[str, Any] = {}
        if self._kept is not None:
            data["input_shape"] = list(self._kept.shape)
            tensors.update({f"kept/{i}": a.copy() for i, a in enumerate(self._kept.flow)})
        return State(tensors, data)

    def load(self, state: State) -> None:
        """Take over what `save` returned.

        Raises:
            MlpError: It was saved by a network of other layers or another dtype.
        """
        saved, kept = state.tensors, state.data.get("input_shape")
        names = [name for name in self._layout.names if f"params/{name}" in saved]
        params = ParameterSet.from_tensors({name: saved[f"params/{name}"] for name in names})
        self._adopt(self._fitting(params))
        velocity = saved.get("velocity")
        self._velocity = None if velocity is None else velocity.copy()
        self._kept = None
        if kept is not None:
            self._kept = _Kept(tuple(kept), [saved[f"kept/{i}"] for i in range(len(self._layers))])


class _Kept(NamedTuple):
    """What `backward` needs of the last `forward`: the shape of its input, that of each layer."""

    shape: tuple[int, ...]
    flow: list[Tensor]


class _Gradient(NamedTuple):
    """Memory for the gradients of all parameters: a view of each, and one of them all."""

    layers: list[network.Layer]
    flat: Tensor


def _check_widths(config: MlpConfig, xs: Type, ys: Type = ANY) -> None:
    """Check what is known of the shapes of a batch; inputs of any rank are taken as rows."""
    width, classes = config.layers[0], config.layers[-1]
    if xs.shape:
        row = [dim for dim in xs.shape[1:] if isinstance(dim, int)]
        given = math.prod(row)
        if len(row) == len(xs.shape) - 1 and given != width:
            raise InputMisfit(
                f"an input has {given} numbers, and layers={list(config.layers)} takes {width}",
                expected=f"inputs of {width} numbers each, or a first layer of {given}",
                fix=f"set layers to {[given, *config.layers[1:]]}",
            )
    if ys.shape and len(ys.shape) == 2 and isinstance(ys.shape[1], int) and ys.shape[1] != classes:
        raise InputMisfit(
            f"a target has {ys.shape[1]} numbers, and layers={list(config.layers)} has "
            f"{classes} classes",
            expected=f"classes as whole numbers, or {classes} probabilities each",
            fix=f"set layers to {[*config.layers[:-1], ys.shape[1]]}",
        )


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def _mean(total: float, count: int) -> float:
    if count == 0:
        raise MlpError(
            "there are no batches",
            expected="at least one batch with at least one example",
            fix="check the data source's split and partition",
        )
    return total / count


def _tensors_of(layout: Layout) -> dict[str, tuple[str, tuple[int, ...]]]:
    return dict(zip(layout.names, zip(layout.dtypes, layout.shapes, strict=True), strict=True))
