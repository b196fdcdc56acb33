"""The configuration of the PyTorch models, checked. This module must not import torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from bb_model_torch.errors import TorchError
from bb_roles.limits import Limits, check_limits

__all__ = ["TorchConfig"]

Dtype = Literal["float32", "float64", "bfloat16"]
Exchange = Literal["all", "parameters", "trainable"]
Integers = Literal["numbers", "indices"]

_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


@dataclass(frozen=True)
class TorchConfig:
    """The module, how it is trained, and where it runs.

    What is `package.module:Name` is imported from there. As a configuration may come from others,
    with a compiled program, only these are called: subclasses of `torch.nn.Module`, of
    `torch.optim.Optimizer`, and functions that are annotated to return a module or a tensor.

    How many epochs are trained, and in batches of how many examples, the data source is told:
    `data.batches(g, epochs=2)` and its `batch_size`.

    Attributes:
        module: `linear`, `mlp`, `cnn` of this package, or `package.module:Name` of a module's
            class, or of a function annotated to return one; `None` is that of the component's
            class, `mlp` for `model.torch` itself.
        arguments: What the module is built with, by keyword.
        optimizer: Name in `torch.optim`, such as `SGD` or `AdamW`, or `package.module:Class`;
            `None` is that of the component's class, `SGD` for `model.torch` itself.
        lr: Learning rate; `None` is 0.1 for `SGD` and the default of any other optimizer, for
            most of them 0.001.
        optimizer_arguments: What else the optimizer is built with, by keyword.
        loss: `cross_entropy`, `nll`, `mse`, `l1`, `huber`, `bce_with_logits`, or
            `package.module:Name` of a module's class or of a function of (prediction, target)
            that is annotated to return a tensor; the mean over the batch. `None` is that of the
            component's class, `cross_entropy` for `model.torch` itself.
        loss_arguments: What the loss is called with besides, by keyword; lists of numbers become
            tensors.
        accuracy: Whether `evaluate` tells the share of examples whose largest output is that of
            their class; `None` tells it for `cross_entropy` and `nll`.
        max_grad_norm: Longest 2-norm of the gradient of all parameters together: a longer one is
            scaled down to it. `None` leaves gradients as they are.
        keep_optimizer_state: Whether `load_params` leaves the optimizer what it remembers, such
            as momentum. Clients of a federation start each round afresh.
        exchange: What `params` gives away and `load_params` takes: `all`, parameters and
            floating-point buffers such as the running statistics of a batch normalization;
            `parameters`, so that buffers stay each Node's own; or `trainable`, only parameters
            that require a gradient.
        integer_inputs: What whole numbers among the inputs are: `numbers` to compute with, which
            become the module's dtype, or `indices` into an embedding, which become int64.
        dtype: `float32`, `float64` or `bfloat16`, of parameters and arithmetic; `None` leaves the
            module's own, for most of them float32.
        device: `auto`, a GPU where PyTorch sees one and else the CPU; `cpu`; `cuda` or `cuda:0`.
        threads: Threads of PyTorch while this model computes; `None` leaves its own number. The
            same number gives the same bits.
        deterministic: Whether ops that give other bits from run to run are refused. On a GPU this
            sets CUBLAS_WORKSPACE_CONFIG for the process, if nobody has.
        seed: Of the initial parameters; `None` takes the Node's.
    """

    module: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    optimizer: str | None = None
    lr: Annotated[float | None, Limits(above=0)] = None
    optimizer_arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    loss: str | None = None
    loss_arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    accuracy: bool | None = None
    max_grad_norm: Annotated[float | None, Limits(above=0)] = None
    keep_optimizer_state: bool = False
    exchange: Exchange = "all"
    integer_inputs: Integers = "numbers"
    dtype: Dtype | None = None
    device: str = "auto"
    threads: Annotated[int | None, Limits(1)] = None
    deterministic: bool = True
    # torch takes seeds of 64 bits; this one goes through a generator of numpy first.
    seed: Annotated[int | None, Limits(0)] = None

    def __post_init__(self) -> None:
        check_limits(self, TorchError)
        told = _DEVICE.fullmatch(self.device)
        _need(told, f"device is {self.device!r}", "auto, cpu, cuda, or one GPU as cuda:0")
        _need(
            "lr" not in self.optimizer_arguments,
            "optimizer_arguments holds lr",
            "the learning rate in the field lr, and nowhere else",
        )
        reduction = self.loss_arguments.get("reduction", "mean")
        _need(
            reduction == "mean",
            f"loss_arguments holds reduction={reduction!r}",
            "the mean over the batch: leave it out",
        )


def _need(truth: object, found: str, expected: str) -> None:
    if not truth:
        raise TorchError(found, expected=expected)
