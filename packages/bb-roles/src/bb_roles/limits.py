"""What a field of a configuration may be, and what it counts: said once, checked and shown.

    @dataclass(frozen=True)
    class Config:
        level: Annotated[int, Limits(1, 9)] = 6
        timeout: Annotated[float, Limits(above=0, unit="s")] = 10.0
        mode: Literal["fast", "exact"] = "fast"

        def __post_init__(self) -> None:
            check_limits(self)

`check_limits` refuses what is outside, and `bb plugins show` prints limits and units. This module
must not import anything heavy: the classes that use it may be in a light module.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral, Real
from typing import Any, Final, Literal, NamedTuple, get_args, get_origin, get_type_hints

from bb_ir.errors import BytesAndBrainsError, did_you_mean
from bb_roles.errors import ConfigError

__all__ = ["Limits", "check_limits", "limits_of"]

#: From here on nobody knows powers of two by their digits.
_LARGE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What a number may be; it stands in `Annotated[int, Limits(...)]`.

    Attributes:
        least: The smallest that is allowed.
        most: The largest that is allowed.
        above: Numbers are larger than this.
        below: Numbers are less than this.
        unit: What it counts, such as `s`, `bytes` or `examples`; empty for plain numbers.
        fix: What to do about a number outside, where there is more to say than to give another.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    unit: str = ""
    fix: str = ""

    def __str__(self) -> str:
        if self.least is not None and self.most is not None:
            return f"{_shown(self.least)} to {_shown(self.most)}"
        told = (
            ("at least", self.least), ("above", self.above), ("at most", self.most),
            ("below", self.below),
        )  # fmt: skip
        return ", ".join(f"{word} {_shown(bound)}" for word, bound in told if bound is not None)

    def allow(self, value: float) -> bool:
        """Tell whether a number is within; what is not finite never is."""
        return (
            math.isfinite(value)
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )


def check_limits(
    config: Any, error: type[BytesAndBrainsError] = ConfigError, of: type | None = None
) -> None:
    """Check numbers and choices of a configuration; to be called in its `__post_init__`.

    Checked are fields with `Limits`, and those that are a `Literal`. A whole number passes for
    `float`, and nothing but a whole number for `int`.

    Args:
        config: The configuration.
        error: The class of the error that is raised.
        of: A base of its class, of which only the fields are checked: what a subclass adds is the
            subclass's business.

    Raises:
        BytesAndBrainsError: Of the class `error`: a field is outside of its limits, or none of its
            choices.
    """
    for rule in _rules_of(of or config.__class__):
        value = getattr(config, rule.name)
        if value is None and rule.optional:
            continue
        if rule.choices:
            if not any(value == one and type(value) is type(one) for one in rule.choices):
                raise _no_choice(rule, value, error)
        elif not _fits(rule, value):
            limits = rule.limits
            raise error(
                f"{rule.name} is {value!r:.80}",
                expected=rule.expected,
                fix=limits.fix or f"give {rule.name} another value",
                where=rule.name,
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


def _shown(bound: float) -> str:
    """Return a bound as people write it: large powers of two as such."""
    power = isinstance(bound, int) and bound >= _LARGE and bound & (bound - 1) == 0
    return f"2**{int(bound).bit_length() - 1}" if power else str(bound)


class _Rule(NamedTuple):
    """What is checked of one field."""

    name: str
    optional: bool
    whole: bool
    #: Whether there are values besides numbers that it may have.
    mixed: bool
    limits: Limits
    choices: tuple[Any, ...]

    @property
    def expected(self) -> str:
        """The rule for somebody who broke it."""
        limits, kind = self.limits, "a whole number" if self.whole else "a number"
        bounds = str(limits)
        if not bounds and not self.whole:
            kind = "a finite number"
        unit = f" ({limits.unit})" if limits.unit else ""
        return f"{kind}{bounds and f', {bounds}'}{unit}{', or None' if self.optional else ''}"


@lru_cache(maxsize=512)
def _rules_of(config: type) -> tuple[_Rule, ...]:
    limits = limits_of(config)
    found: list[_Rule] = []
    for name, hint in get_type_hints(config).items():
        kinds = list(_kinds(hint))
        choices = tuple(
            one for kind in kinds if get_origin(kind) is Literal for one in get_args(kind)
        )
        plain = {kind for kind in kinds if kind is not type(None)}
        only_choices = bool(choices) and all(get_origin(kind) is Literal for kind in plain)
        if name in limits or only_choices:
            found.append(
                _Rule(
                    name,
                    optional=type(None) in kinds,
                    whole=plain == {int},
                    mixed=not plain <= {int, float},
                    limits=limits.get(name, Limits()),
                    choices=choices if only_choices else (),
                )
            )
    return tuple(found)


def _kinds(hint: Any) -> Iterator[Any]:
    """Yield a type, or those of a union."""
    if get_origin(hint) is Literal or not get_args(hint):
        yield hint
    else:
        for one in get_args(hint):
            yield from _kinds(one)


def _fits(rule: _Rule, value: object) -> bool:
    kind: Any = Integral if rule.whole else Real
    number: Any = value
    if isinstance(value, bool) or not isinstance(value, kind):
        return rule.mixed
    return rule.limits.allow(number)


def _no_choice(rule: _Rule, value: object, error: type[BytesAndBrainsError]) -> BytesAndBrainsError:
    choices = [*rule.choices, None] if rule.optional else rule.choices
    return error(
        f"{rule.name} is {value!r:.80}",
        expected=f"one of {', '.join(map(repr, choices))}",
        fix=did_you_mean(str(value), [str(one) for one in rule.choices]) or "choose one of them",
        where=rule.name,
    )
