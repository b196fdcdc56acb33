"""The component: a PyTorch module behind the contract of models.

To bind a module without naming it in a configuration, inherit the component and say which one::

    class Digits(TorchModel):
        module = DigitsNet  # a subclass of torch.nn.Module, or a function that returns one
        optimizer = torch.optim.AdamW

A module computes in one of two modes, as PyTorch knows them: `fit` trains; `forward`, `backward`
and `evaluate` are in evaluation mode, without dropout and with the running statistics of
normalizations, since a `forward` changes nothing.

The same calls give the same bits on one machine with the same number of threads. On other machines,
and between CPU and GPU, they agree within rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer

from bb_ir.ops import batch_parts
from bb_ir.params import ParameterSet
from bb_ir.types import Type
from bb_model_torch import _optimizers as optimizers
from bb_model_torch._arrays import copied, over, sendable, told_dtype
from bb_model_torch._config import TorchConfig
from bb_model_torch._finding import ModuleSource, found_optimizer, told
from bb_model_torch._losses import Loss, check_length, numbers, tells_accuracy
from bb_model_torch._memory import Memory, exchanged, layout_of, others
from bb_model_torch._scope import find_device, working
from bb_model_torch._skeletons import built, check_targets, dtype_of, output_type, skeleton
from bb_model_torch.errors import LossNotFinite, TorchError
from bb_roles import Batches, Context, Environment, Model, State

__all__ = ["TorchConfig", "TorchModel"]

Array = NDArray[Any]

#: Learning rate of plain gradient descent, for which PyTorch's 0.001 is far too careful.
_SGD_LR = 0.1


class TorchModel(Model):
    """Any `torch.nn.Module`, trained by any optimizer of PyTorch that needs gradients alone.

    Inputs are (n, ...) as the module takes them, outputs one tensor (n, ...). Numbers become the
    module's dtype; with `integer_inputs="indices"` whole numbers stay. Targets of `cross_entropy`
    and `nll` are classes (n, ...) from 0, or for the former probabilities like the predictions; of
    the other named losses numbers, as many as predictions; any other loss gets whole numbers as
    int64 and real ones in the module's dtype.

    Parameters are the module's, and unless `exchange` says otherwise its floating-point buffers,
    by their names in PyTorch. Whole-number buffers stay on their Node.

    Attributes:
        module: What `module` in the configuration stands for when it is `None`: a name, a
            subclass of `torch.nn.Module`, or a function that returns a module.
        optimizer: The same for `optimizer`: a name, or a subclass of `torch.optim.Optimizer`.
        loss: The same for `loss`: a name, a function, or a subclass of `torch.nn.Module`.
    """

    Config = TorchConfig
    module: ClassVar[str | ModuleSource] = "mlp"
    optimizer: ClassVar[str | type[Optimizer]] = "SGD"
    loss: ClassVar[str | Callable[..., Any]] = "cross_entropy"

    def __init__(self, config: TorchConfig, env: Environment) -> None:
        super().__init__(config, env)
        self._device = find_device(config.device)
        rng = env.rng("init") if config.seed is None else _generator(config.seed)
        self._kept: _Kept | None = None
        self._steps: Optimizer | None = None
        with self._working(_seed(rng)):
            self._module = built(_module_of(type(self), config), config).to(self._device)
            self._dtype = dtype_of(self._module)
            self._loss = Loss(_loss_of(type(self), config), config, self._dtype, self._device)
            tensors = exchanged(self._module, config.exchange)
            self._others = others(self._module, tensors)
            self._memory = Memory(tensors, self._device, env.pool)
            if any(p.requires_grad for p in self._module.parameters()):
                self._optimizer()  # what is wrong with it is said now

    @classmethod
    def value_types(cls, config: TorchConfig) -> Mapping[str, str]:
        """Return the types of parameters and metrics of a module like this."""
        module = skeleton(_module_of(cls, config), config)
        held = str(layout_of(exchanged(module, config.exchange)).type)
        accuracy = ",accuracy:float64" if tells_accuracy(_loss_of(cls, config), config) else ""
        return {
            **dict.fromkeys(("Params.params", "LoadParams.params", "ApplyDelta.delta"), held),
            "Backward.x": f"tensor({told_dtype(dtype_of(module))})",
            "Fit.metrics": "record(examples:int64,loss:float64)",
            "Evaluate.metrics": f"record(examples:int64,loss:float64{accuracy})",
        }

    @classmethod
    def infer_types(
        cls, config: TorchConfig, op: str, inputs: tuple[Type, ...]
    ) -> Mapping[str, Type] | None:
        """Return the type of what the module gives; check inputs and targets, by trying zeros.

        Raises:
            InputMisfit: The module takes no inputs of this shape, or the loss no such targets.
        """
        named = _module_of(cls, config)
        if op in ("Fit", "Evaluate"):
            xs, ys = batch_parts(inputs[0])
            loss = _loss_of(cls, config)
            check_targets(
                named,
                config,
                lambda: Loss(loss, config, torch.float32, torch.device("cpu")),
                xs,
                ys,
            )
            return {} if xs.shape else None
        found = output_type(named, config, inputs[0]) if op == "Forward" else None
        return None if found is None else {"y": found}

    # Parameters: lent, borrowed, written.

    def params(self, ctx: Context) -> ParameterSet:
        """Lend the parameters; on a GPU they are copied, once for as long as they stay."""
        return self._memory.params()

    def load_params(self, ctx: Context, params: ParameterSet) -> None:
        """Borrow parameters; the optimizer starts afresh unless `keep_optimizer_state` is on.

        Raises:
            TorchError: Names, shapes or dtypes are not those of this module.
        """
        self._memory.load(self._memory.fitting(params))
        self._kept = None
        if not self.config.keep_optimizer_state:
            self._steps = None

    def apply_delta(self, ctx: Context, delta: ParameterSet) -> None:
        """Add a set of differences.

        Raises:
            TorchError: Names, shapes or dtypes are not those of this module.
        """
        self._memory.add(self._memory.fitting(delta))
        self._kept = None

    # One batch.

    def forward(self, ctx: Context, x: Array) -> Array:
        """Return what the module gives for inputs (n, ...), in evaluation mode.

        Raises:
            TorchError: The module does not take them, or does not give one tensor (n, ...).
        """
        self._kept = None
        kept = _Kept(x, _seed(ctx.rng()))
        found = self._predicted(kept)
        self._kept = kept
        return sendable(found)

    def backward(self, ctx: Context, grad: Array) -> Array:
        """Step the optimizer by the gradient of the last output; return that of its inputs.

        It has the shape of the inputs; where they are indices, it is 0.

        Raises:
            TorchError: There was no `forward` since the parameters last changed, or `grad` does not
                have the shape of its output.
        """
        kept, self._kept = self._kept, None
        if kept is None:
            raise TorchError(
                "backward has no forward to go back from",
                expected="one forward before each backward, and no other change between the two",
            )
        found = self._predicted(kept) if kept.found is None else kept.found
        if grad.shape != found.shape:
            self._kept = kept
            raise TorchError(
                f"the gradient has shape {list(grad.shape)}",
                expected=f"that of the output, {list(found.shape)}",
            )
        with self._working(kept.seed):
            self._memory.write()
            gradient = numbers(grad, found.dtype).to(self._device)
            with told("the module has no gradient for its output"):
                found.backward(gradient)  # type: ignore[no-untyped-call]  # PyTorch's own
            self._step()
        back = None if kept.given is None else kept.given.grad
        if back is None:
            return np.zeros(kept.x.shape, told_dtype(self._dtype))
        return sendable(back)

    def compute_loss(self, ctx: Context, prediction: Array, target: Array) -> float:
        """Return the mean loss of predictions (n, ...) against targets.

        Raises:
            TorchError: The two do not fit each other.
        """
        if prediction.ndim == 0 or len(prediction) == 0:
            raise TorchError(
                f"the predictions have shape {list(prediction.shape)}",
                expected="(n, ...), n at least 1",
            )
        with self._working(_seed(ctx.rng())), torch.no_grad():
            found = numbers(prediction, self._dtype).to(self._device)
            return float(self._loss(found, self._loss.targets(target, found)))

    # Whole datasets.

    def fit(self, ctx: Context, batches: Batches) -> Mapping[str, Any]:
        """Train over all batches; return `examples` and the mean `loss` met on the way.

        Raises:
            LossNotFinite: Training diverged.
            TorchError: A batch does not fit, or there is none.
        """
        self._kept = None
        seen = 0
        with self._working(_seed(ctx.rng())):
            self._memory.write()
            total = torch.zeros((), dtype=torch.float64, device=self._device)
            self._module.train()
            try:
                for x, y in batches:
                    loss = self._loss_of_batch(x, y)[0]
                    with told("the loss has no gradient"):
                        loss.backward()  # type: ignore[no-untyped-call]  # PyTorch's own
                    self._step()
                    total += loss.detach() * len(x)  # read at the end: reading waits for a GPU
                    seen += len(x)
            finally:
                self._module.zero_grad()
            mean = _mean(float(total), seen)
        if not math.isfinite(mean):
            rate = "its default" if self.config.lr is None else str(self.config.lr)
            raise LossNotFinite(
                f"training diverged: the mean loss is {mean}",
                expected="a finite loss",
                fix=f"lower lr, which is {rate}, scale the inputs, or set max_grad_norm",
            )
        return {"examples": batches.examples, "loss": mean}

    def evaluate(self, ctx: Context, batches: Batches) -> Mapping[str, Any]:
        """Return `examples`, the mean `loss` and `accuracy` (0 to 1) if told; changes nothing.

        Raises:
            TorchError: A batch does not fit, or there is none.
        """
        seen = 0
        with self._working(_seed(ctx.rng())), torch.no_grad():
            self._memory.read()
            total = torch.zeros((), dtype=torch.float64, device=self._device)
            right = torch.zeros(2, dtype=torch.int64, device=self._device)
            self._module.eval()
            for x, y in batches:
                loss, found, target = self._loss_of_batch(x, y)
                total += loss * len(x)
                if self._loss.tells_accuracy:
                    right += self._loss.right(found, target)
                seen += len(x)
            metrics = {"examples": batches.examples, "loss": _mean(float(total), seen)}
        if self._loss.tells_accuracy:
            hits, judged = right.tolist()
            metrics["accuracy"] = hits / judged if judged else 0.0
        return metrics

    # State.

    def save(self) -> State:
        """Return all tensors, what the optimizer remembers, and what `backward` will need."""
        tensors = {f"params/{name}": array for name, array in self._memory.copy().items()}
        tensors |= {f"others/{name}": copied(tensor) for name, tensor in self._others.items()}
        data: dict[str, Any] = {}
        if self._steps is not None:
            remembered, data["optimizer"] = optimizers.written(self._steps)
            tensors |= remembered
        if self._kept is not None:
            tensors["kept"] = np.array(self._kept.x)
            data["seed"] = self._kept.seed
        return State(tensors, data)

    def load(self, state: State) -> None:
        """Take over what `save` returned.

        Raises:
            TorchError: It was saved by a model of another module, dtype or optimizer.
        """
        held = ParameterSet.from_tensors(_under("params/", state))
        rest = _under("others/", state)
        shapes = {name: tuple(tensor.shape) for name, tensor in self._others.items()}
        if {name: array.shape for name, array in rest.items()} != shapes:
            raise TorchError(
                f"the saved state has the tensors {', '.join(rest) or 'none'} besides parameters",
                expected=f"{', '.join(shapes) or 'none'}, of the shapes that the module has",
                fix="load it into a model of the configuration that it was saved with",
            )
        self._memory.load(self._memory.fitting(held))
        for name, array in rest.items():
            self._others[name].data.copy_(over(array.copy()))
        self._steps = None
        if "optimizer" in state.data:
            with self._working(0):
                optimizers.restore(self._optimizer(), state.tensors, state.data["optimizer"])
        kept = state.tensors.get("kept")
        self._kept = None if kept is None else _Kept(kept.copy(), state.data["seed"])

    # What these are made of.

    def _working(self, seed: int) -> AbstractContextManager[None]:
        config = self.config
        return working(
            seed, self._device, threads=config.threads, deterministic=config.deterministic
        )

    def _predicted(self, kept: _Kept) -> torch.Tensor:
        """Run the module on what a `forward` was given, and keep the way back."""
        with self._working(kept.seed), torch.enable_grad():
            self._memory.read()
            self._module.eval()
            given = self._inputs(kept.x)
            kept.given = given.requires_grad_() if given.is_floating_point() else None
            kept.found = self._outputs(given)
        return kept.found

    def _loss_of_batch(self, x: Array, y: Array) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        given = self._inputs(x)
        check_length(y, len(given))  # before a normalization has seen the inputs
        found = self._outputs(given)
        target = self._loss.targets(y, found)
        return self._loss(found, target), found, target

    def _inputs(self, x: Array) -> torch.Tensor:
        if x.ndim == 0 or len(x) == 0:
            raise TorchError(
                f"the inputs have shape {list(x.shape)}", expected="(n, ...), n at least 1"
            )
        if self.config.integer_inputs == "indices" and x.dtype.kind in "iu":
            return over(np.array(x, np.int64)).to(self._device)
        return numbers(x, self._dtype).to(self._device)

    def _outputs(self, given: torch.Tensor) -> torch.Tensor:
        shape = list(given.shape)
        with told(
            f"the module cannot take inputs of shape {shape}",
            expected="inputs of the shape and kind that it is built for",
            fix="give the module other arguments; if it looks up whole numbers, set "
            "integer_inputs to 'indices'",
        ):
            found: object = self._module(given)
        if isinstance(found, torch.Tensor) and found.ndim and len(found) == len(given):
            return found
        kind = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise TorchError(
            f"the module returned {kind} for inputs of shape {shape}",
            expected=f"one tensor ({len(given)}, ...): a row for each input",
        )

    def _step(self) -> None:
        """Move the parameters against their gradients, and forget these."""
        longest = self.config.max_grad_norm
        if longest is not None:
            nn.utils.clip_grad_norm_(self._module.parameters(), longest)
        optimizer = self._optimizer()
        with told(f"the optimizer {type(optimizer).__name__} cannot step"):
            optimizer.step()
        self._module.zero_grad()

    def _optimizer(self) -> Optimizer:
        """Return the optimizer; a fresh one when it has to forget."""
        if self._steps is not None:
            return self._steps
        config = self.config
        cls = found_optimizer(
            type(self).optimizer if config.optimizer is None else config.optimizer
        )
        arguments = dict(config.optimizer_arguments)
        if config.lr is not None:
            arguments["lr"] = config.lr
        elif cls is torch.optim.SGD:
            arguments["lr"] = _SGD_LR
        trained = [p for p in self._module.parameters() if p.requires_grad]
        with told(
            f"the optimizer {cls.__name__} cannot be built with {arguments}",
            fix="check optimizer_arguments" if trained else "let some parameter require a gradient",
        ):
            self._steps = cls(trained, **arguments)
        return self._steps


@dataclass
class _Kept:
    """What `backward` needs of the last `forward`; what it made of the inputs can be made again."""

    x: Array
    seed: int
    given: torch.Tensor | None = None
    found: torch.Tensor | None = None


def _module_of(cls: type[TorchModel], config: TorchConfig) -> str | ModuleSource:
    return cls.module if config.module is None else config.module


def _loss_of(cls: type[TorchModel], config: TorchConfig) -> str | Callable[..., Any]:
    return cls.loss if config.loss is None else config.loss


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**63))


def _under(prefix: str, state: State) -> dict[str, Array]:
    return {n.removeprefix(prefix): a for n, a in state.tensors.items() if n.startswith(prefix)}


def _mean(total: float, count: int) -> float:
    if count == 0:
        raise TorchError(
            "there are no batches",
            expected="at least one batch with at least one example",
            fix="check the data source's split and partition",
        )
    return total / count
