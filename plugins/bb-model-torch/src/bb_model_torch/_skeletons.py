"""What follows from a configuration alone: shapes, without memory for them and without training.

A module is built on PyTorch's device `meta`, where tensors have shapes and no data. One that cannot
be, because it reads a file or computes with its own parameters, is built in full on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bb_ir.types import ANY, Type, tensor
from bb_model_torch._arrays import told_dtype
from bb_model_torch._config import TorchConfig
from bb_model_torch._finding import ModuleSource, found_module, told
from bb_model_torch._scope import working
from bb_model_torch.errors import TorchError
from bb_roles.errors import InputMisfit

if TYPE_CHECKING:
    from bb_model_torch._losses import Loss

__all__ = ["built", "check_targets", "output_type", "skeleton"]

_CPU = torch.device("cpu")
#: Examples in a batch that is only looked at; normalization needs more than one.
_EXAMPLES = 2


def built(named: str | ModuleSource, config: TorchConfig) -> nn.Module:
    """Build a module; its initial parameters are drawn from PyTorch's generator.

    Raises:
        UnknownName: The name leads to none.
        TorchError: It cannot be built with these arguments, or is no module.
    """
    source = found_module(named)
    called = getattr(source, "__qualname__", repr(source))
    arguments = ", ".join(f"{name}={value!r}" for name, value in config.arguments.items())
    with told(f"the module {called}({arguments}) cannot be built", fix="check arguments"):
        found: object = source(**config.arguments)
    if not isinstance(found, nn.Module):
        raise TorchError(
            f"{called} returned a {type(found).__name__}", expected="a torch.nn.Module"
        )
    return found if config.dtype is None else found.to(getattr(torch, config.dtype))


def skeleton(named: str | ModuleSource, config: TorchConfig) -> nn.Module:
    """Return a module of which only the shapes count.

    Raises:
        TorchError: As `built` does.
    """
    try:
        with torch.device("meta"):
            return built(named, config)
    except TorchError:
        with working(0, _CPU):
            return built(named, config)


def dtype_of(module: nn.Module) -> torch.dtype:
    """Return the dtype that a module computes in: that of its first floating-point tensor."""
    for found in (*module.parameters(), *module.buffers()):
        if found.is_floating_point():
            return found.dtype
    return torch.get_default_dtype()


def output_type(named: str | ModuleSource, config: TorchConfig, xs: Type) -> Type | None:
    """Return the type of what a module gives for inputs of a type; `None` if that is too little.

    Raises:
        InputMisfit: It takes no such inputs, not even zeros.
    """
    found = _run(named, config, xs)
    if found is None or found.ndim == 0 or len(found) != _EXAMPLES:
        return None
    first = xs.shape[0] if xs.shape else None
    return tensor(told_dtype(found.dtype), (first, *found.shape[1:]))


def check_targets(
    named: str | ModuleSource, config: TorchConfig, loss: Callable[[], Loss], xs: Type, ys: Type
) -> None:
    """Check that the loss takes targets of a type for what the module gives.

    Raises:
        InputMisfit: It takes none of this type, not even zeros.
    """
    prediction = _run(named, config, xs)
    row = _row(ys)
    if prediction is None or row is None or ys.dtype is None:
        return
    import numpy as np

    zeros = np.zeros((_EXAMPLES, *row), np.float32 if ys.dtype == "bfloat16" else ys.dtype)
    try:
        with torch.no_grad(), working(0, _CPU):
            judge, given = loss(), torch.zeros_like(prediction, device=_CPU)
            judge(given, judge.targets(zeros, given))
    except TorchError as error:
        raise InputMisfit(
            f"a target is {tensor(ys.dtype, tuple(row))}, and {error.found}",
            expected=error.expected or "targets that the loss takes",
            fix=error.fix or "configure another loss",
        ) from None


def _run(named: str | ModuleSource, config: TorchConfig, xs: Type) -> torch.Tensor | None:
    """Return what a module gives for zeros, with or without data; `None` if nothing follows."""
    row, indices = _row(xs), config.integer_inputs == "indices"
    if row is None or (indices and xs.dtype is None):
        return None
    whole = indices and str(xs.dtype).startswith(("int", "uint"))
    shape = (_EXAMPLES, *row)
    try:
        return _on(skeleton(named, config), shape, torch.device("meta"), whole=whole)
    except Exception:  # noqa: BLE001  # not every module can compute without data
        with working(0, _CPU):
            module = built(named, config)
            try:
                return _on(module, shape, _CPU, whole=whole)
            except Exception as error:
                said = str(error).strip().partition("\n")[0]
                raise InputMisfit(
                    f"an input has shape {row}, which the module does not take: {said}",
                    expected="inputs of the shape that the module is built for",
                    fix="give the module other arguments",
                ) from error


def _on(
    module: nn.Module, shape: tuple[int, ...], device: torch.device, *, whole: bool
) -> torch.Tensor | None:
    dtype = torch.int64 if whole else dtype_of(module)
    with torch.no_grad():
        found: Any = module.to(device).eval()(torch.zeros(shape, dtype=dtype, device=device))
    return found if isinstance(found, torch.Tensor) else None


def _row(known: Type) -> list[int] | None:
    """Return the shape of one example, where all of it is known."""
    if known is ANY or not known.shape:
        return None
    row = [dim for dim in known.shape[1:] if isinstance(dim, int)]
    return row if len(row) == len(known.shape) - 1 else None
