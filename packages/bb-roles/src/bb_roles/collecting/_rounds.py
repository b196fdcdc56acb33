"""What a rule needs that looks at all updates of a round at once: it keeps them until then.

Updates are immutable, so references to them are kept and nothing is copied. They are checked when
they arrive, all of an update or nothing, and every refusal leaves the round as it was. Metrics are
summed exactly, as integers, so that their means do not depend on the order of arrival.

This module knows no rule: `_combine` of a subclass is one.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, NamedTuple, cast

import numpy as np

from bb_ir.buffers import BufferPool
from bb_ir.params import ParameterSet
from bb_ir.types import Type
from bb_roles import Aggregator, Context, Environment, State
from bb_roles.collecting._finite import all_finite
from bb_roles.collecting.errors import InvalidSetting
from bb_roles.folding._shared import (
    METRIC_BITS,
    Author,
    check_layout,
    check_room,
    exact,
    examples_of,
    float_metrics,
    key_of,
    key_text,
    nothing_contributed,
    summary_types,
)
from bb_roles.folding.errors import UpdateOutOfRange
from bb_roles.kernels import Engine
from bb_roles.limits import Limits, check_limits

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Combined", "RoundsAggregator", "RoundsConfig", "Update", "in_range"]

#: Most updates of a round and most examples of one: all examples of a round fit into an int64.
_MOST_UPDATES: Final = 1 << 20
_MOST_EXAMPLES: Final = 1 << 40
#: What to do about fields of configurations that are out of range.
_COHORT: Final = "give the most updates of a round"
_DEFER: Final = "give 0 to hand every round to the executor, None for none"

Result = tuple[ParameterSet, dict[str, Any]]


def in_range(name: str, value: int, least: int, most: int, fix: str) -> None:
    """Check one field of a configuration.

    Raises:
        InvalidSetting: It is out of its range.
    """
    if not least <= value <= most:
        raise InvalidSetting(
            f"{name} is {value}",
            expected=f"an integer from {least} to {most}",
            fix=fix,
            where=name,
        )


@dataclass(frozen=True)
class RoundsConfig:
    """What all rules that keep the updates of a round can be told.

    Attributes:
        cohort: Most updates in a round; so many stay in memory until it ends.
        defer_above: A round of more numbers than this (updates times parameters) is aggregated on
            the host's executor, so that the Node does other work meanwhile; `None` for never.
    """

    cohort: Annotated[int, Limits(1, _MOST_UPDATES, unit="updates", fix=_COHORT)] = 1024
    defer_above: Annotated[int | None, Limits(0, unit="numbers", fix=_DEFER)] = 10_000_000

    def __post_init__(self) -> None:
        check_limits(self, InvalidSetting, RoundsConfig)


class Update(NamedTuple):
    """One update of a round, checked.

    Attributes:
        params: Its tensors.
        examples: Its number of examples.
        metrics: Its other float metrics, also those that are not finite.
    """

    params: ParameterSet
    examples: int
    metrics: dict[str, float]


class Combined(NamedTuple):
    """What a rule made of a round.

    Attributes:
        params: The result.
        measured: The updates whose metrics are averaged.
        more: What the summary says beyond `count`, `examples` and the metrics.
    """

    params: ParameterSet
    measured: Sequence[Update]
    more: Mapping[str, int]


class RoundsAggregator(Aggregator):
    """An aggregator that keeps all updates of a round until it is aggregated.

    Args:
        config: A `RoundsConfig`.
        env: Where it is being built.
    """

    Config: ClassVar[type] = RoundsConfig
    defers: ClassVar[Collection[str]] = ("aggregate",)
    #: Integers of the summary; a metric of such a name is ignored.
    own_metrics: ClassVar[tuple[str, ...]] = ("count", "examples")
    #: Who looks whether values are finite; a rule that uses numba anyway says so here.
    _engine: Engine = "numpy"

    def __init__(self, config: RoundsConfig, env: Environment) -> None:
        super().__init__(config, env)
        self._limits = config
        self._rounds: dict[Hashable, list[Update]] = {}
        self._pool = env.pool or BufferPool()

    @abstractmethod
    def _combine(self, updates: Sequence[Update]) -> Combined:
        """Return what the rule makes of the updates; may run in another thread.

        Args:
            updates: At least one, all of one layout, in order of arrival.
        """

    @abstractmethod
    def _check_enough(self, count: int, place: str) -> None:
        """Raise when the rule can make nothing of so few updates."""

    @classmethod
    def infer_types(
        cls,
        config: Any,  # noqa: ARG003  # the fields are the same for all
        op: str,
        inputs: tuple[Type, ...],
    ) -> Mapping[str, Type] | None:
        """Return the type of the summary, once that of the metrics is known."""
        return summary_types(inputs, cls.own_metrics) if op == "Aggregate" else None

    def contribute(self, ctx: Context, params: ParameterSet, metrics: Mapping[str, Any]) -> None:
        """Keep one update, all of it or nothing.

        Raises:
            MetricsError: `examples` is missing or not from 1 to 2**40, or there are too many.
            UpdateMismatch: The tensors are not those of the round's first update.
            UpdateOutOfRange: A value is not finite.
            CohortExceeded: The round already has `cohort` updates.
        """
        held = self._rounds.get(ctx.round, [])
        who = Author(ctx)
        examples = examples_of(metrics, _MOST_EXAMPLES, who, "return `examples` from fit")
        check_layout(params.layout, held[0].params.layout if held else None, who)
        check_room(len(held), self._limits.cohort, who)
        self._check_values(params, who)
        held.append(Update(params, examples, float_metrics(metrics, self.own_metrics, who)))
        self._rounds[ctx.round] = held

    def aggregate(self, ctx: Context) -> Result:
        """Return the result of the rule and its summary; ends the round.

        Raises:
            NothingContributed: The round has no update.
        """
        updates = tuple(self._rounds.get(ctx.round, ()))
        if not updates:
            raise nothing_contributed(ctx)
        self._check_enough(len(updates), f"round {ctx.round!r}")
        end = partial(self._end, ctx.round, updates)
        most = self._limits.defer_above
        if most is None or len(updates) * updates[0].params.count <= most:
            return end(self._combine(updates))
        deferred: Result = ctx.defer(self._combine, updates, commit=end)
        return deferred

    def abandon(self, ctx: Context) -> None:
        """Drop the updates of the round of `ctx`."""
        self._rounds.pop(ctx.round, None)

    def save(self) -> State:
        """Return the rounds in flight.

        Raises:
            RoundKeyError: The key of a round is not made of numbers, texts, bytes and tuples.
        """
        tensors: dict[str, NDArray[Any]] = {}
        rounds: list[dict[str, Any]] = []
        for at, (key, updates) in enumerate(self._rounds.items()):
            saved: list[dict[str, Any]] = []
            for place, update in enumerate(updates):
                tensors[f"{at}.{place}"] = np.frombuffer(update.params.image, np.uint8)
                metrics = {name: value.hex() for name, value in update.metrics.items()}
                saved.append({"examples": update.examples, "metrics": metrics})
            rounds.append({"key": key_text(key), "updates": saved})
        return State(tensors=tensors, data={"rounds": rounds})

    def load(self, state: State) -> None:
        """Take over rounds in flight, in place of those that are open."""
        loaded: dict[Hashable, list[Update]] = {}
        saved = cast("list[dict[str, Any]]", state.data.get("rounds", []))
        for at, one in enumerate(saved):
            loaded[key_of(one["key"])] = [
                Update(
                    # A copy: whoever gave the state may write to it.
                    ParameterSet.from_image(np.array(state.tensors[f"{at}.{place}"])),
                    update["examples"],
                    {name: float.fromhex(text) for name, text in update["metrics"].items()},
                )
                for place, update in enumerate(one["updates"])
            ]
        self._rounds = loaded

    def close(self) -> None:
        """Drop all rounds."""
        self._rounds.clear()

    def _end(self, key: Hashable, updates: Sequence[Update], combined: Combined) -> Result:
        """Forget a round and return what came of it."""
        self._rounds.pop(key, None)
        examples = sum(update.examples for update in updates)
        summary: dict[str, Any] = {"count": len(updates), "examples": examples, **combined.more}
        return combined.params, {**summary, **_means(combined.measured)}

    def _check_values(self, params: ParameterSet, who: Author) -> None:
        """Raise when the rule cannot work with these values."""
        for dtype in params.dtypes:
            if "float" in dtype and not all_finite(params.flat(dtype), self._engine):
                raise _not_finite(params, dtype, who)


def _not_finite(params: ParameterSet, dtype: str, who: Author) -> UpdateOutOfRange:
    arrays = ((name, a.reshape(-1)) for name, a in params.items() if a.dtype.name == dtype)
    name, wrong = next((name, a[~np.isfinite(a)]) for name, a in arrays if not all_finite(a))
    return UpdateOutOfRange(
        f"tensor {name!r} of the update of {who} holds {wrong[0]}",
        expected="finite values",
        fix="look for divergence on that peer",
        where=(f"tensor {name!r}", str(who)),
    )


def _means(updates: Sequence[Update]) -> dict[str, float]:
    """Return the mean of each metric by examples, over the updates where it is finite."""
    sums: dict[str, tuple[int, int]] = {}
    for update in updates:
        for name, value in update.metrics.items():
            total, whole = sums.get(name, (0, 0))
            if math.isfinite(value):
                total, whole = total + update.examples * exact(value), whole + update.examples
            sums[name] = (total, whole)
    return {
        name: total / (whole << METRIC_BITS) if whole else math.nan
        for name, (total, whole) in sorted(sums.items())
    }
