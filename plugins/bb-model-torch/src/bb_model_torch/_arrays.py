"""Arrays of numpy as tensors and back, without surprises about who owns the memory.

numpy knows no bfloat16 by itself; arrays of that type are looked at as 16 bits on the way. What
crosses in the other direction, to whoever called the component, is float32 then, which holds every
such number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["copied", "dtype_name", "is_bfloat16", "over", "sendable", "told_dtype"]

Array = NDArray[Any]


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name that numpy, and our types, have for a dtype of PyTorch."""
    return str(dtype).removeprefix("torch.")


def told_dtype(dtype: torch.dtype) -> str:
    """Return the name of the dtype in which values of this one are handed to others."""
    return "float32" if dtype == torch.bfloat16 else dtype_name(dtype)


def is_bfloat16(array: Array) -> bool:
    """Return whether an array holds numbers of that type, which numpy takes for a stranger's."""
    return array.dtype.kind == "V" and array.dtype.name == "bfloat16"


def over(array: Array) -> torch.Tensor:
    """Return a tensor over the memory of a writable array: what one writes the other sees."""
    if is_bfloat16(array):
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def copied(tensor: torch.Tensor) -> Array:
    """Return the values of a tensor in memory of their own, dtype and bits unchanged."""
    held = tensor.detach().to("cpu", copy=True)
    if held.dtype == torch.bfloat16:
        import ml_dtypes

        return held.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    found: Array = held.numpy()
    return found


def sendable(tensor: torch.Tensor) -> Array:
    """Return the values of a tensor in memory of their own, in the dtype that others are told."""
    held = tensor.detach()
    held = held.float() if held.dtype == torch.bfloat16 else held
    found: Array = held.to("cpu", copy=True).contiguous().numpy()
    return found
