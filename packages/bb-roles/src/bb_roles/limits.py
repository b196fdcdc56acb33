"""What a number in a configuration may be, and what it counts: said once, checked and shown.

    @dataclass(frozen=True)
    class Config:
        level: Annotated[int, Limits(1, 9)] = 6
        timeout: Annotated[float, Limits(above=0, unit="s")] = 10.0

        def __post_init__(self) -> None:
            check_limits(self)

`check_limits` refuses what is outside, and `bb plugins show` prints limits and units. This module
must not import anything heavy: the classes that use it may be in a light module.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_type_hints

from bb_roles.errors import ConfigError

__all__ = ["Limits", "check_limits", "limits_of"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a number may be; it stands in `Annotated[int, Limits(...)]`.

    Attributes:
        least: The smallest that is allowed.
        most: The largest that is allowed.
        above: Numbers are larger than this.
        below: Numbers are less than this.
        unit: What it counts, such as `s`, `bytes` or `examples`; empty for plain numbers.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    unit: str = ""

    def __str__(self) -> str:
        if self.least is not None and self.most is not None:
            return f"{self.least} to {self.most}"
        told = (
            ("at least", self.least), ("above", self.above), ("at most", self.most),
            ("below", self.below),
        )  # fmt: skip
        return ", ".join(f"{word} {bound}" for word, bound in told if bound is not None)

    def allow(self, value: float) -> bool:
        """Tell whether a number is within; what is not finite never is."""
        return (
            math.isfinite(value)
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )


def check_limits(config: Any) -> None:
    """Check the numbers of a configuration; to be called in its `__post_init__`.

    Fields without `Limits` are left alone, and so are values that are no numbers: their types are
    checked where the configuration is made of what a user wrote.

    Raises:
        ConfigError: One of them is outside of its limits.
    """
    for name, limits in limits_of(config.__class__).items():
        value = getattr(config, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and not limits.allow(value):
            unit = f" ({limits.unit})" if limits.unit else ""
            raise ConfigError(
                f"{name} is {value}",
                expected=f"{str(limits) or 'a finite number'}{unit}",
                fix=f"give {name} another value",
                where=name,
            )


@lru_cache(maxsize=512)
def limits_of(config: type) -> Mapping[str, Limits]:
    """Return the limits of a configuration's fields, by name, for those that have some."""
    found: dict[str, Limits] = {}
    for name, hint in get_type_hints(config, include_extras=True).items():
        for one in getattr(hint, "__metadata__", ()):
            if isinstance(one, Limits):
                found[name] = one
    return found
