"""Bytes of any object that has some, as an array or as they are. It copies nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Bytes", "Data", "as_bytes", "buffer_of"]

#: An array of bytes.
Bytes: TypeAlias = NDArray[np.uint8]
#: `bytes`, a contiguous memoryview or mmap, or a numpy array.
Data: TypeAlias = "Buffer | NDArray[Any]"


def as_bytes(data: Data) -> Bytes:
    """Return the bytes of an object, as a view of it with shape (n,)."""
    return np.frombuffer(cast("Any", data), np.uint8)


def buffer_of(data: Data) -> memoryview:
    """Return the memory of an object, contiguous or not.

    Raises:
        TypeError: It has none.
    """
    held: Any = data
    try:
        return memoryview(held)
    except ValueError:  # buffers have no name for bfloat16 and the like; sizes they have
        return memoryview(held.view(f"V{held.dtype.itemsize}"))
