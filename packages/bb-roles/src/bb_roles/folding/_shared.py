"""What aggregators of all kinds need to keep a round, whether they fold updates or collect them.

What an update must be in any case, exact metrics, and keys that can be written. Every error names
the peer whose update it is about. `folding` and `collecting` use it; plugins use those.
"""

from __future__ import annotations

import ast
from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from bb_ir.params import Layout
from bb_ir.types import Type, record, scalar
from bb_roles.folding.errors import (
    CohortExceeded,
    MetricsError,
    NothingContributed,
    RoundKeyError,
    UpdateMismatch,
)

if TYPE_CHECKING:
    from bb_roles.contracts import Context

__all__ = [
    "METRIC_BITS",
    "Author",
    "check_layout",
    "check_room",
    "differing",
    "exact",
    "examples_of",
    "float_metrics",
    "key_of",
    "key_text",
    "nothing_contributed",
    "summary_types",
]

#: Every finite binary64 is an integer multiple of 2**-1074.
METRIC_BITS: Final = 1074
#: Metrics that one update may carry.
_MAX_METRICS: Final = 64
#: Kinds of types of which a value may be a float that is averaged, or none.
_MAY_BE_FLOATS: Final = frozenset({"any", "tensor"})


class Author:
    """Who an update is from; spelled out when an error names it, as a text of an id costs time."""

    __slots__ = ("_sender",)

    def __init__(self, ctx: Context) -> None:
        self._sender = ctx.sender

    def __str__(self) -> str:
        return "this Node" if self._sender is None else f"peer {self._sender}"


# Types


def summary_types(inputs: tuple[Type, ...], whole: Iterable[str]) -> Mapping[str, Type] | None:
    """Return the type of the summary of a round, once that of the metrics is known.

    Args:
        inputs: Types of what `Aggregate` is given and folds; the last are the metrics.
        whole: Names of the integers that every summary has.
    """
    fields = inputs[-1].items
    if fields is None or any(of.kind in _MAY_BE_FLOATS for _, of in fields):
        return None
    means = sorted(name for name, of in fields if of.kind == "float64")
    counts = dict.fromkeys(whole, scalar("int64"))
    averaged = {name: scalar("float64") for name in means if name not in counts}
    return {"summary": record({**counts, **averaged})}


# What an update must be


def examples_of(metrics: Mapping[str, Any], most: int, who: Author, fix: str) -> int:
    """Return the number of examples behind an update.

    Raises:
        MetricsError: It is missing or not an integer from 1 to `most`.
    """
    found: Any = metrics.get("examples")
    whole = isinstance(found, int | np.integer) and not isinstance(found, bool)
    if not whole or not 1 <= found <= most:
        raise MetricsError(
            f"the update of {who} has examples={found!r}",
            expected=f"an integer from 1 to {most}",
            fix=fix,
            where=("metrics['examples']", str(who)),
        )
    return int(cast("int", found))


def float_metrics(metrics: Mapping[str, Any], own: Iterable[str], who: Author) -> dict[str, float]:
    """Return the metrics that are averaged: floats whose names the summary does not use itself.

    Raises:
        MetricsError: There are too many.
    """
    if len(metrics) > _MAX_METRICS:
        raise MetricsError(
            f"the update of {who} has {len(metrics)} metrics",
            expected=f"at most {_MAX_METRICS}",
            fix="send fewer of them",
            where=("metrics", str(who)),
        )
    return {
        name: float(value)
        for name, value in metrics.items()
        if _is_float(value) and name not in own
    }


def _is_float(value: object) -> bool:
    return isinstance(value, float | np.floating)


def check_layout(given: Layout, first: Layout | None, who: Author) -> None:
    """Check that an update has the tensors of its round's first one, if it is not that itself.

    Raises:
        UpdateMismatch: It has others, or its tensors of one dtype do not lie together.
    """
    if first is not None and given != first:
        raise UpdateMismatch(
            f"the update of {who} holds {differing(given, first)}",
            expected="the names, order, shapes, dtypes and metadata of the round's first one",
            fix="let all peers of a round send parameters of the same model",
            where=str(who),
        )
    scattered = [dtype for dtype, (start, _) in given.runs.items() if start < 0]
    if scattered:
        raise UpdateMismatch(
            f"the {scattered[0]} tensors of the update of {who} do not lie together",
            expected="an image as ParameterSet.from_tensors lays it out",
            fix="send ParameterSet.from_tensors(dict(params.items()))",
            where=str(who),
        )


def check_room(count: int, cohort: int, who: Author) -> None:
    """Check that a round may have one more update.

    Raises:
        CohortExceeded: It has as many as its aggregator was configured for.
    """
    if count >= cohort:
        raise CohortExceeded(
            f"the round has {count} updates already, and {who} sent one more",
            expected=f"at most {cohort}, as configured",
            fix="raise cohort in the configuration of the aggregator",
            where=str(who),
        )


def differing(given: Layout, expected: Layout) -> str:
    """Say in words how a layout differs from the one that is expected."""
    ours = dict(
        zip(expected.names, zip(expected.dtypes, expected.shapes, strict=True), strict=True)
    )
    for name, dtype, shape in zip(given.names, given.dtypes, given.shapes, strict=True):
        if ours.get(name) != (dtype, shape):
            return f"tensor {name!r} of {dtype}{list(shape)}"
    if set(ours) - set(given.names):
        return f"no tensor {min(set(ours) - set(given.names))!r}"
    return "the same tensors in another order, or with other metadata"


def nothing_contributed(ctx: Context) -> NothingContributed:
    """Return the error of a round without updates."""
    return NothingContributed(
        "a round without updates was to be aggregated",
        expected="at least one contribution that was accepted",
        fix="let it wait for the gather (after=done), and the gather for a reply",
        where=f"round {ctx.round!r}",
    )


# What is kept of a round


def exact(value: float) -> int:
    """Return a finite float in units of 2**-1074."""
    numerator, denominator = value.as_integer_ratio()
    return numerator << (METRIC_BITS + 1 - denominator.bit_length())


def key_text(key: Hashable) -> str:
    """Return a round's key as a Python literal, which `key_of` reads.

    Raises:
        RoundKeyError: It is not made of numbers, texts, bytes and tuples of them.
    """
    text = repr(_plain(key))
    try:
        same = key_of(text) == key
    except (ValueError, SyntaxError):
        same = False
    if not same:
        raise RoundKeyError(
            f"the round {key!r} cannot be saved",
            expected="a key of numbers, texts, bytes and tuples of them",
            fix="save when no round is in flight",
        )
    return text


def key_of(text: str) -> Hashable:
    """Return the key of a round from its text."""
    key: Hashable = ast.literal_eval(text)
    return key


def _plain(key: Hashable) -> Hashable:
    """Return a key with plain tuples for named ones, such as names of frames: it is equal."""
    if not isinstance(key, tuple):
        return key
    return tuple(map(_plain, cast("tuple[Hashable, ...]", key)))
