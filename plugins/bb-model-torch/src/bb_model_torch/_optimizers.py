"""What an optimizer remembers, as named tensors and plain data.

PyTorch writes it down by pickling and casts it when it is read back. Here it is taken as it is:
tensors keep their dtype and their bits, and all else must be numbers, texts, lists and dicts.

State is told by the place of a parameter among all that the optimizer has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch.optim import Optimizer

from bb_model_torch._arrays import copied, over
from bb_model_torch.errors import TorchError

__all__ = ["restore", "written"]

Arrays = Mapping[str, NDArray[Any]]

_PREFIX = "optimizer/"


def written(optimizer: Optimizer) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the state of an optimizer as tensors, and as plain data that refers to them.

    Raises:
        TorchError: It remembers something that is neither.
    """
    tensors: dict[str, NDArray[Any]] = {}
    state = [
        [place, _pack(optimizer.state[parameter], tensors, f"{place}")]
        for place, parameter, _ in _parameters(optimizer)
        if parameter in optimizer.state
    ]
    groups = [
        _pack({k: v for k, v in group.items() if k != "params"}, tensors, f"group{n}")
        for n, group in enumerate(optimizer.param_groups)
    ]
    return tensors, {"state": state, "groups": groups}


def restore(optimizer: Optimizer, tensors: Arrays, data: Mapping[str, Any]) -> None:
    """Give a fresh optimizer the state that another one wrote.

    Raises:
        TorchError: That one had other parameters.
    """
    parameters = [(parameter, group) for _, parameter, group in _parameters(optimizer)]
    fits = all(place < len(parameters) for place, _ in data["state"])
    if not fits or len(data["groups"]) != len(optimizer.param_groups):
        raise TorchError(
            "the saved state is of an optimizer with other parameters",
            expected=f"the state of {len(parameters)} parameters",
            fix="load it into a model of the configuration that it was saved with",
        )
    for group, saved in zip(optimizer.param_groups, data["groups"], strict=True):
        group.update(_unpack(saved, tensors))
    for place, saved in data["state"]:
        parameter, group = parameters[place]
        found = _unpack(saved, tensors)
        optimizer.state[parameter] = {
            name: _moved(name, value, parameter.device, group) for name, value in found.items()
        }


def _parameters(optimizer: Optimizer) -> Iterator[tuple[int, torch.Tensor, dict[str, Any]]]:
    pairs = ((p, group) for group in optimizer.param_groups for p in group["params"])
    return ((place, parameter, group) for place, (parameter, group) in enumerate(pairs))


def _moved(name: str, value: Any, device: torch.device, group: Mapping[str, Any]) -> Any:
    """Put what was saved where the optimizer keeps it, by the rule of `load_state_dict`."""
    if isinstance(value, dict):
        inner = cast("dict[str, Any]", value)
        return {k: _moved(k, v, device, group) for k, v in inner.items()}
    if isinstance(value, list | tuple):
        items: list[Any] = [_moved(name, item, device, group) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if not isinstance(value, torch.Tensor):
        return value
    counts = name == "step" and not (group.get("capturable") or group.get("fused"))
    return value if counts else value.to(device)


def _pack(value: Any, tensors: dict[str, NDArray[Any]], path: str) -> Any:
    """Return plain data; tensors in it go to `tensors`, under a name that is made of `path`."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, torch.Tensor):
        tensors[_PREFIX + path] = copied(value)
        return {"tensor": path}
    if isinstance(value, list | tuple):
        items = [_pack(item, tensors, f"{path}/{n}") for n, item in enumerate(value)]
        return {"list" if isinstance(value, list) else "tuple": items}
    if isinstance(value, dict):
        pairs = enumerate(cast("dict[object, object]", value).items())
        return {
            "dict": [[_pack(k, tensors, f"{path}/{n}k"), _pack(v, tensors, f"{path}/{k}")]
                     for n, (k, v) in pairs]
        }  # fmt: skip
    raise TorchError(
        f"the optimizer remembers a {type(value).__name__} at {path!r}",
        expected="tensors, numbers, texts, lists and dicts, which can be saved",
        fix="take another optimizer",
    )


def _unpack(saved: Any, tensors: Arrays) -> Any:
    if not isinstance(saved, dict):
        return saved
    ((kind, content),) = cast("dict[str, Any]", saved).items()
    if kind == "tensor":
        return over(tensors[_PREFIX + content].copy())
    if kind == "dict":
        return {_unpack(k, tensors): _unpack(v, tensors) for k, v in content}
    items = [_unpack(item, tensors) for item in content]
    return items if kind == "list" else tuple(items)
