"""One op as it is installed: its attributes, checked while its kernel is made.

A factory asks for the attributes it knows; what nobody asked for is refused by `finish`. So no
table of attribute names can disagree with the code. Nothing here may be called while an op runs.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bb_backend_numpy.errors import KernelError

__all__ = ["Op"]


class Op:
    """One op as it is installed.

    Args:
        op_type: Name of the op, for messages.
        values: The attributes that are set, as plain values.
        outputs: How many results it has.
    """

    def __init__(self, op_type: str, values: Mapping[str, Any], outputs: int) -> None:
        self.op_type = op_type
        self.outputs = outputs
        self._values = values
        self._asked: set[str] = set()

    def has(self, name: str) -> bool:
        """Say whether an attribute is set."""
        self._asked.add(name)
        return name in self._values

    def integer(self, name: str, default: int) -> int:
        """Return a whole number."""
        return self._whole(name, self._values[name]) if self.has(name) else default

    def needed_integer(self, name: str) -> int:
        """Return a whole number that has no default."""
        if not self.has(name):
            raise KernelError(
                f"{self.op_type} lacks its attribute {name!r}",
                expected=f"an integer {name!r}: the standard gives it no default",
                fix=f"Set {name!r} where the op is recorded.",
            )
        return self._whole(name, self._values[name])

    def optional_integer(self, name: str) -> int | None:
        """Return a whole number, or None if it is not set."""
        return self._whole(name, self._values[name]) if self.has(name) else None

    def flag(self, name: str, *, default: bool) -> bool:
        """Return an attribute that ONNX writes as 0 or 1."""
        number = self.integer(name, int(default))
        if number not in {0, 1}:
            raise self.bad(name, "0 or 1")
        return bool(number)

    def real(self, name: str, default: float) -> float:
        """Return a number as a float, rounded to the float32 that attributes are in ONNX."""
        value = self._real(name, self._values[name]) if self.has(name) else default
        return float(np.float32(value))

    def choice(self, name: str, default: str, *others: str) -> str:
        """Return a text that is one of the given ones."""
        value: Any = self._values[name] if self.has(name) else default
        if value not in {default, *others}:
            raise self.bad(name, " or ".join(repr(text) for text in (default, *others)))
        return str(value)

    def needed_text(self, name: str) -> str:
        """Return a text that has no default."""
        value: object = self._values[name] if self.has(name) else None
        if not isinstance(value, str):
            raise self.bad(name, "a text")
        return value

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Return a list of whole numbers, or None if it is not set."""
        if not self.has(name):
            return None
        return tuple(self._whole(name, item) for item in self._items(name))

    def reals(self, name: str) -> tuple[float, ...]:
        """Return a list of numbers."""
        return tuple(self._real(name, item) for item in self._items(name))

    def tensor(self, name: str) -> NDArray[Any]:
        """Return a tensor that is set."""
        value = self._values[name] if self.has(name) else None
        if not isinstance(value, (np.ndarray, np.generic)):
            raise self.bad(name, "a numpy array")
        return np.asarray(value)

    def finish(self) -> None:
        """Refuse the attributes that nobody asked for."""
        unknown = sorted(set(self._values) - self._asked)
        if not unknown:
            return
        known = ", ".join(sorted(self._asked)) or "none at all"
        raise KernelError(
            f"{self.op_type} has no attribute {', '.join(map(repr, unknown))}",
            expected=f"attributes of {self.op_type} in ONNX opset 23; known here: {known}",
            fix="Remove it. Older opsets had attributes, such as axes, that are inputs now.",
        )

    def bad(self, name: str, expected: str) -> KernelError:
        """Return the error for a value that the standard does not allow."""
        found = repr(self._values[name]) if name in self._values else "not set"
        return KernelError(
            f"The attribute {name!r} of {self.op_type} is {found}",
            expected=expected,
            fix=f"Correct {name!r} where the op is recorded.",
        )

    def _items(self, name: str) -> Iterable[Any]:
        value = self._values[name]
        if not isinstance(value, (list, tuple, np.ndarray)):
            raise self.bad(name, "a list of numbers")
        return value

    def _whole(self, name: str, value: Any) -> int:
        try:
            return operator.index(value)
        except TypeError:
            raise self.bad(name, "an integer") from None

    def _real(self, name: str, value: Any) -> float:
        if not isinstance(value, (int, float, np.number)):
            raise self.bad(name, "a number")
        return float(value)
