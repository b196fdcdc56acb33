"""The loss of a model: checks and converts targets, so that PyTorch need not guess.

A class out of range stops a GPU for good, and a target of another shape is silently stretched over
the predictions; so both are looked at first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bb_model_torch._arrays import is_bfloat16, over
from bb_model_torch._config import TorchConfig
from bb_model_torch._finding import LOSSES, found_loss, told
from bb_model_torch.errors import TorchError

__all__ = ["Loss", "check_length", "numbers", "tells_accuracy"]

_OF_CLASSES = ("cross_entropy", "nll")
#: What PyTorch leaves out unless it is told otherwise.
_IGNORED = -100


class Loss:
    """The mean loss of a batch, and what it says of its targets.

    Args:
        named: Name, function or module's class.
        config: What it is called with besides.
        dtype: Of the predictions, unless they have one of their own.
        device: Where they are.

    Attributes:
        tells_accuracy: Whether the largest prediction is a class.
    """

    def __init__(
        self,
        named: str | Callable[..., Any],
        config: TorchConfig,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        arguments = {n: _as_tensor(v, dtype, device) for n, v in config.loss_arguments.items()}
        found = found_loss(named, arguments)
        self._function = found.to(device) if isinstance(found, torch.nn.Module) else found
        self._name = named if isinstance(named, str) else getattr(named, "__name__", repr(named))
        self._of_classes = named in _OF_CLASSES
        self._of_numbers = named in LOSSES and not self._of_classes
        self._ignored = config.loss_arguments.get("ignore_index", _IGNORED)
        self.tells_accuracy = tells_accuracy(named, config)

    def __call__(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss, a tensor of one number.

        Raises:
            TorchError: The two do not fit each other, or the loss is not one number.
        """
        shapes = f"predictions {list(prediction.shape)} and targets {list(target.shape)}"
        with told(f"the loss {self._name} cannot take {shapes}"):
            loss: object = self._function(prediction, target)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            shape = f" of shape {list(loss.shape)}" if isinstance(loss, torch.Tensor) else ""
            raise TorchError(
                f"the loss {self._name} returned a {type(loss).__name__}{shape}",
                expected="a tensor of one number: the mean over the batch",
            )
        return loss.reshape(())

    def targets(self, y: NDArray[Any], prediction: torch.Tensor) -> torch.Tensor:
        """Return targets (n, ...) as the loss takes them, in memory of their own.

        Raises:
            TorchError: They do not fit the predictions.
        """
        check_length(y, len(prediction))
        whole = y.dtype.kind in "iu"
        if self._of_classes and whole:
            self._check_classes(y, prediction)
        if whole and not self._of_numbers:
            return over(np.array(y, np.int64)).to(prediction.device)
        found = numbers(y, prediction.dtype).to(prediction.device)
        if not self._of_numbers:
            return found
        if found.numel() != prediction.numel():
            raise TorchError(
                f"the targets have shape {list(y.shape)}",
                expected=f"that of the predictions, {list(prediction.shape)}",
            )
        return found.reshape(prediction.shape)

    def right(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return how many predictions are right, and how many there are, as two numbers.

        Raises:
            TorchError: A prediction is a single number.
        """
        if prediction.ndim < 2:
            raise TorchError(
                f"the predictions have shape {list(prediction.shape)}",
                expected="a number per class, (n, classes, ...), to tell the accuracy from",
                fix="set accuracy to False",
            )
        chosen = prediction.argmax(dim=1)
        wanted = target if target.ndim < prediction.ndim else target.argmax(dim=1)
        counted = wanted != self._ignored
        return torch.stack([((chosen == wanted) & counted).sum(), counted.sum()])

    def _check_classes(self, y: NDArray[Any], prediction: torch.Tensor) -> None:
        known = y[y != self._ignored]
        classes = prediction.shape[1] if prediction.ndim > 1 else prediction.shape[0]
        if known.size == 0 or (known.min() >= 0 and known.max() < classes):
            return
        raise TorchError(
            f"the targets go from {known.min()} to {known.max()}",
            expected=f"classes from 0 to {classes - 1}, as the module gives {classes} numbers",
            fix=f"number the classes from 0, or have the module give {int(known.max()) + 1}",
        )


def check_length(y: NDArray[Any], n: int) -> None:
    """Check that there are as many targets as inputs.

    Raises:
        TorchError: There are more or fewer.
    """
    if y.ndim == 0 or len(y) != n:
        raise TorchError(
            f"the targets have shape {list(y.shape)}",
            expected=f"one for each of the {n} inputs, along the first axis",
        )


def tells_accuracy(named: object, config: TorchConfig) -> bool:
    """Return whether `evaluate` tells the accuracy."""
    return named in _OF_CLASSES if config.accuracy is None else config.accuracy


def numbers(array: NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
    """Return real numbers of any dtype as a tensor in memory of its own.

    Raises:
        TorchError: The array holds something else.
    """
    if is_bfloat16(array):
        return over(array.copy()).to(dtype)
    if array.dtype.kind not in "fiub":
        raise TorchError(f"an array is of {array.dtype.name}", expected="real numbers")
    exact = np.float64 if dtype == torch.float64 else np.float32
    with np.errstate(over="ignore"):  # infinity is found in the loss
        return over(np.array(array, exact, order="C")).to(dtype)


def _as_tensor(value: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """Return a list of numbers as a tensor, such as the weights of classes; others as they are."""
    if not isinstance(value, list | tuple):
        return value
    return torch.tensor(value, dtype=dtype, device=device)
