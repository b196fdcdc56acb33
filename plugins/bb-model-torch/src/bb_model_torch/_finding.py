"""Turns the names in a configuration into what they name: module, optimizer, loss.

A configuration can come with a program that somebody else compiled. Importing by name runs no more
than the binding of a component does, but calling what was found could run anything. So a class is
called only if it is of the right kind, and a function only if it says, by its annotation, that it
returns such a thing.
"""

from __future__ import annotations

import inspect
import operator
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from bb_ir.errors import did_you_mean
from bb_model_torch import modules
from bb_model_torch.errors import TorchError, UnknownName

__all__ = ["LOSSES", "ModuleSource", "found_loss", "found_module", "found_optimizer", "told"]

#: What makes a module: its class, or a function.
ModuleSource = Callable[..., nn.Module]

#: Losses by our names; the functions are those of `torch.nn.functional`.
LOSSES: Mapping[str, str] = {
    "cross_entropy": "cross_entropy",
    "nll": "nll_loss",
    "mse": "mse_loss",
    "l1": "l1_loss",
    "huber": "huber_loss",
    "bce_with_logits": "binary_cross_entropy_with_logits",
}


@contextmanager
def told(what: str, *, expected: str = "", fix: str = "") -> Iterator[None]:
    """Map what PyTorch or a user's own code raises to an error of ours that says what was done."""
    try:
        yield
    except TorchError:
        raise
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise TorchError(
            f"{what}: {first or type(error).__name__}", expected=expected, fix=fix
        ) from error


def found_module(named: str | ModuleSource) -> ModuleSource:
    """Return what makes a module: that of a name, or what a component's class was given.

    Raises:
        UnknownName: There is none of this name, or it makes no module.
    """
    if not isinstance(named, str):
        return named
    if ":" in named:
        source: ModuleSource = _checked(_imported(named, "module"), named, nn.Module, "module")
        return source
    if named in modules.__all__:
        made: ModuleSource = getattr(modules, named)
        return made
    raise UnknownName(
        f"module is {named!r}",
        expected=f"one of {', '.join(modules.__all__)}, or package.module:Name",
        fix=did_you_mean(named, modules.__all__),
    )


def found_optimizer(named: str | type[Optimizer]) -> type[Optimizer]:
    """Return the class of an optimizer.

    Raises:
        UnknownName: There is none of this name, or it is none.
        TorchError: It needs to compute the loss several times in a step.
    """
    found: Any = named
    if isinstance(named, str):
        found = _imported(named, "optimizer") if ":" in named else getattr(torch.optim, named, None)
    if not (isinstance(found, type) and issubclass(found, Optimizer)) or found is Optimizer:
        known = sorted(name for name, one in vars(torch.optim).items() if _is_optimizer(one))
        raise UnknownName(
            f"optimizer is {named!r}",
            expected=f"one of {', '.join(known)}, or package.module:Class of an Optimizer",
            fix=did_you_mean(str(named), known),
        )
    if _needs_closure(found):
        raise TorchError(
            f"the optimizer {found.__name__} needs a closure: it computes the loss several times "
            "in a step",
            expected="an optimizer whose step() needs gradients alone",
        )
    return found


def found_loss(named: str | Callable[..., Any], arguments: Mapping[str, Any]) -> Callable[..., Any]:
    """Return a function of (prediction, target) that has got its other arguments.

    Raises:
        UnknownName: There is none of this name, or it returns no tensor.
        TorchError: A module's class does not take the arguments.
    """
    found: Any = named
    if isinstance(named, str) and named in LOSSES:
        found = getattr(nn.functional, LOSSES[named])
    elif isinstance(named, str) and ":" in named:
        found = _checked(_imported(named, "loss"), named, torch.Tensor, "loss")
    elif isinstance(named, str):
        raise UnknownName(
            f"loss is {named!r}",
            expected=f"one of {', '.join(LOSSES)}, or package.module:Name",
            fix=did_you_mean(named, LOSSES),
        )
    if isinstance(found, type):
        with told(f"the loss {found.__name__} cannot be built with {dict(arguments)}"):
            return found(**arguments)  # type: ignore[no-any-return]  # a module, which is called
    return lambda prediction, target: found(prediction, target, **arguments)


def _imported(name: str, what: str) -> Any:
    path, _, attribute = name.partition(":")
    try:
        found: Any = import_module(path)
    except Exception as error:  # what is imported runs code of its own
        raise UnknownName(
            f"{what} is {name!r}, and {path!r} cannot be imported: {error}",
            expected=f"package.module:Name of a {what}",
            fix="install it on this machine, or correct the name",
        ) from error
    try:
        return operator.attrgetter(attribute)(found)
    except AttributeError as error:
        public = [one for one in vars(found) if not one.startswith("_")]
        raise UnknownName(
            f"{what} is {name!r}, and there is no {attribute!r} in {path!r}",
            expected=f"package.module:Name of a {what}",
            fix=did_you_mean(attribute, public),
        ) from error


def _checked(found: Any, name: str, wanted: type, what: str) -> Any:
    """Return what was imported if it may be called: see the head of this file."""
    if isinstance(found, type):
        if issubclass(found, nn.Module):
            return found
        told_of = "a class that inherits no torch.nn.Module"
    elif callable(found):
        returns = _returns(found)
        if isinstance(returns, type) and issubclass(returns, wanted):
            return found
        told_of = "a function that is not annotated to return one"
    else:
        told_of = f"a {type(found).__name__}"
    raise UnknownName(
        f"{what} is {name!r}, which is {told_of}",
        expected=f"a class that inherits torch.nn.Module, or a function whose annotation says "
        f"`-> {'nn.Module' if wanted is nn.Module else 'torch.Tensor'}`",
        fix="annotate it, or wrap it in a function of your own that is annotated",
    )


def _returns(function: Any) -> object:
    try:
        return typing.get_type_hints(function).get("return")
    except Exception:  # noqa: BLE001  # annotations may name anything, also what is not there
        return None


def _is_optimizer(one: object) -> bool:
    return (
        isinstance(one, type)
        and issubclass(one, Optimizer)
        and one is not Optimizer
        and not _needs_closure(one)
    )


def _needs_closure(optimizer: type[Optimizer]) -> bool:
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty
