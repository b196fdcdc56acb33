"""Loops that numba makes machine code of where it is installed; without it, numpy does the work.

    if wants_numba("auto", values.size):
        compiled(_kernel)(values, out)

Whoever uses this writes both ways and tests that they agree. A kernel is a plain function of
arrays and numbers at the head of a module, in the part of Python that numba compiles. This module
imports numba only when there is something to compile.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, Literal

__all__ = ["Engine", "compiled", "wants_numba"]

#: Fewest elements of a vector for which it pays to compile a kernel.
_MIN_COMPILED: Final = 1 << 16

Engine = Literal["auto", "numpy", "numba"]


def wants_numba(engine: Engine, count: int, *, least: int = _MIN_COMPILED) -> bool:
    """Return whether vectors of so many elements are worked on by compiled kernels.

    Args:
        engine: What a configuration says: `auto` is numba from `least` elements on where it is
            installed, and numpy otherwise.
        count: Elements of one vector.
        least: From how many on compiling pays.
    """
    if engine == "auto":
        return count >= least and find_spec("numba") is not None
    return engine == "numba"


@lru_cache(maxsize=64)
def compiled(kernel: Callable[..., Any], *, reassociate: bool = False) -> Callable[..., Any]:
    """Return a kernel that compiles itself at its first call, and runs without the GIL.

    It is kept in numba's cache on disk where that can be written. A division by zero in it gives
    what IEEE 754 says.

    Args:
        kernel: The function. Arguments may be arrays, numbers and tuples of them.
        reassociate: Whether sums of floats may be added up in any order, which several vector
            lanes need. The result is then the same on one machine, not on all.

    Raises:
        ImportError: numba is not installed; the extra `fast` of a plugin brings it.
    """
    numba: Any = import_module("numba")  # it has no types, and type checkers run without it
    # With Python's division a test for zero would keep loops from becoming vector instructions.
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    if reassociate:
        options["fastmath"] = {"reassoc", "contract", "nsz"}
    made: Callable[..., Any]
    try:
        made = numba.njit(cache=True, **options)(kernel)
    except RuntimeError:  # there is no folder that the cache could be in
        made = numba.njit(**options)(kernel)
    return made
