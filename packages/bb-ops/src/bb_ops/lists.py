"""Framework ops on lists and on peers, and numbers out of gathered values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from bb_ir.ids import PeerId
from bb_runtime.errors import OpError

__all__ = ["concat", "item", "length", "number", "reduce", "without"]


def length(values: Sequence[Any]) -> int:
    """Return how many items a list has.

    Raises:
        OpError: It is no list.
    """
    return len(_listed("length", values))


def item(values: Sequence[Any], index: Any) -> Any:
    """Return one item of a list, a negative index counting from its end; of peers, a list of one.

    Raises:
        OpError: There is no such item.
    """
    listed, at = _listed("item", values), _whole(index)
    if not -len(listed) <= at < len(listed):
        raise OpError(
            f"item {at} of a list of {len(listed)}",
            expected=f"{-len(listed)} to {len(listed) - 1}" if listed else "a list with items",
            fix="g.length(values) says how many there are; `with g.when(...)` around it asks first",
        )
    found = listed[at]
    return (found,) if isinstance(found, PeerId) else found


def concat(*values: Sequence[Any]) -> Sequence[Any]:
    """Return the items of all lists, in order; of peers, each once.

    Raises:
        OpError: One of them is no list.
    """
    joined = [one for part in values for one in _listed("concat", part)]
    if joined and all(isinstance(one, PeerId) for one in joined):
        return tuple(dict.fromkeys(joined))
    return joined


def without(peers: Sequence[PeerId], others: Iterable[Any]) -> tuple[PeerId, ...]:
    """Return the peers that are not among others, which may be return addresses."""
    out = {one if isinstance(one, PeerId) else one.peer for one in others}
    return tuple(peer for peer in peers if peer not in out)


def reduce(values: Sequence[Any], *, how: str, field: str = "", weight: str = "") -> float:
    """Return one number for a list of numbers, or for one field of a list of records.

    The order of the values makes no difference to a single bit: sums are exact before they are
    rounded.

    Raises:
        OpError: The list is empty and is not to be summed, or holds what is no number.
    """
    listed = _listed(how, values)
    if not listed and how != "sum":
        raise OpError(
            f"{how} of an empty list",
            expected="at least one value",
            fix="ask first: `with g.when(g.length(values) > 0)`",
        )
    numbers = [_part(one, field, at) for at, one in enumerate(listed)]
    if weight:
        return _weighted(numbers, [_part(one, weight, at) for at, one in enumerate(listed)], weight)
    return float(_REDUCTIONS[how](numbers))


def _weighted(numbers: Sequence[float], weights: Sequence[float], name: str) -> float:
    total = math.fsum(weights)
    if total <= 0 or min(weights) < 0:
        raise OpError(
            f"the weights {name!r} are {', '.join(map(str, weights[:8]))}",
            expected="none below 0, and one above",
        )
    return math.fsum(n * w for n, w in zip(numbers, weights, strict=True)) / total


def _mean(numbers: Sequence[float]) -> float:
    return math.fsum(numbers) / len(numbers)


def _extreme(choose: Callable[[Sequence[float]], float]) -> Callable[[Sequence[float]], float]:
    """Return what chooses one number, and says so when one is not a number."""

    def chosen(numbers: Sequence[float]) -> float:
        return math.nan if any(map(math.isnan, numbers)) else choose(numbers)

    return chosen


_REDUCTIONS: Mapping[str, Callable[[Sequence[float]], float]] = MappingProxyType(
    {"mean": _mean, "sum": math.fsum, "min": _extreme(min), "max": _extreme(max)}
)


def _part(value: Any, field: str, at: int) -> float:
    """Return the number of one value of a list, or of one of its fields."""
    if field:
        if not isinstance(value, Mapping) or field not in value:
            has = ", ".join(map(str, value)) if isinstance(value, Mapping) else ""  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]  # of anything
            raise OpError(
                f"value {at} is a {type(value).__name__}{has and f' with {has}'}",  # pyright: ignore[reportUnknownArgumentType]
                expected=f"a record with a field {field!r}",
            )
        value = value[field]  # pyright: ignore[reportUnknownVariableType]
    found = number(value)
    if found is None:
        what = f"field {field!r} of value {at}" if field else f"value {at}"
        raise OpError(f"{what} is a {type(value).__name__}", expected="a number")  # pyright: ignore[reportUnknownArgumentType]
    return found


def number(value: Any) -> float | None:
    """Return a number, or the one number of a tensor; `None` when it is none."""
    plain = value.item() if getattr(value, "size", 0) == 1 else value
    if isinstance(plain, bool) or not isinstance(plain, (int, float)):
        return None
    return float(plain)


def _whole(index: Any) -> int:
    plain = index.item() if getattr(index, "size", 0) == 1 else index
    if isinstance(plain, bool) or not isinstance(plain, int):
        raise OpError(f"the index is {index!r}", expected="a whole number")
    return plain


def _listed(what: str, values: Any) -> Sequence[Any]:
    if not isinstance(values, (list, tuple)):
        raise OpError(f"{what} of a {type(values).__name__}", expected="a list, or peers")
    return values  # pyright: ignore[reportUnknownVariableType]
