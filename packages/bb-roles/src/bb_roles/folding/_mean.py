"""The mean of the updates of a round, weighted by their examples, folded as they arrive.

Updates are kept no longer than it takes to fold them, so memory does not grow with the number of
clients: one 64-bit accumulator per parameter and open round. `_grid` explains why the order of
arrival does not change a bit of the result. Metrics are summed exactly, as integers.

This module must not know what becomes of the mean.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, cast

import numpy as np

from bb_ir.buffers import BufferPool
from bb_ir.params import Draft, Layout, ParameterSet
from bb_ir.types import Type
from bb_roles.contracts import Aggregator, Context, Environment, State
from bb_roles.folding._grid import Fold, make_fold
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
from bb_roles.folding.errors import GridTooCoarse, UpdateOutOfRange
from bb_roles.kernels import Engine
from bb_roles.limits import Limits, check_limits

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FoldConfig", "WeightedMean", "first_beyond"]

#: Bits below the point that a grid must have; fewer lose what a float32 says.
_MIN_BITS: Final = 24
#: With 24 bits of a float32 the product is still exact in a binary64.
_WEIGHT_LIMIT: Final = 1 << 29
#: Integers of so many bits are exact as a binary64.
_EXACT_BITS: Final = 53
_OWN_METRICS: Final = ("count", "examples")


@dataclass(frozen=True)
class FoldConfig:
    """Bounds that fix the grid before the first update; all who fold together need the same.

    Attributes:
        cohort: Most updates in a round.
        weight_max: Most examples of one update.
        value_max: Largest magnitude of a parameter.
        engine: `numpy`, `numba`, or `auto`: numba for large models where it is installed. The
            result is the same, bit for bit.
        wide: Whether floats are summed in two words instead of one: for bounds that leave one word
            too few bits. It takes twice the memory, and more time.
    """

    cohort: Annotated[int, Limits(1, 1 << 40, unit="updates")] = 1024
    weight_max: Annotated[int, Limits(1, _WEIGHT_LIMIT - 1, unit="examples")] = 1 << 16
    value_max: Annotated[int, Limits(1, 1 << 40)] = 1 << 10
    engine: Engine = "auto"
    wide: bool = False


@dataclass
class _Round:
    """What the updates of one round have added up to."""

    layout: Layout
    folds: dict[str, Fold]
    count: int = 0
    weight: int = 0
    #: By name: the sum of weight times value, in units of 2**-1074, and the sum of weights.
    metrics: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])


class WeightedMean(Aggregator):
    """The mean of all updates of a round, weighted by `metrics["examples"]`.

    Floats of any width are averaged on a grid of 2**-k, k = 62 - ceil(log2(cohort * weight_max *
    value_max)): the mean is at most 2**-(k+1) off, plus its own rounding. With `wide=True` two
    words take 105 bits instead of 62, or 115 - ceil(log2(cohort)) for more than 1,024 updates.
    Integers and bools get the exact mean, rounded half to even, in one word.

    The summary holds `count`, `examples`, and the weighted means of all other float metrics. A
    metric that is not finite is left out of its mean; the mean of none is not a number.

    Args:
        config: A `FoldConfig`.
        env: Where it is being built.

    Raises:
        GridTooCoarse: The bounds leave the grid fewer than 24 bits below the point, or one of
            them is out of its own range.
    """

    Config: ClassVar[type] = FoldConfig

    def __init__(self, config: FoldConfig, env: Environment) -> None:
        super().__init__(config, env)
        self._config = config
        self._bits, self._low = _grid_bits(config)
        self._bounds = (config.value_max, (1 << 62) // (config.cohort * config.weight_max))
        self._rounds: dict[Hashable, _Round] = {}
        self._pool = env.pool or BufferPool()

    @classmethod
    def infer_types(
        cls,
        config: FoldConfig,  # noqa: ARG003  # the fields are the same for all
        op: str,
        inputs: tuple[Type, ...],
    ) -> Mapping[str, Type] | None:
        """Return the type of the summary, once that of the metrics is known."""
        return summary_types(inputs, _OWN_METRICS) if op == "Aggregate" else None

    def contribute(self, ctx: Context, params: ParameterSet, metrics: Mapping[str, Any]) -> None:
        """Fold one update in, all of it or nothing.

        Raises:
            MetricsError: `examples` is missing or not from 1 to `weight_max`.
            UpdateMismatch: The tensors are not those of the round's first update.
            UpdateOutOfRange: A value is not finite, or larger than `value_max`.
            CohortExceeded: The round already has as many updates as the grid is made for.
        """
        who = Author(ctx)
        fix = "return `examples` from fit, or raise weight_max in the configuration"
        weight = examples_of(metrics, self._config.weight_max, who, fix)
        known = self._rounds.get(ctx.round)
        check_layout(params.layout, known.layout if known else None, who)
        current = known or self._open(params.layout)
        check_room(current.count, self._config.cohort, who)
        numbers = float_metrics(metrics, _OWN_METRICS, who)
        with np.errstate(invalid="ignore", over="ignore"):  # such values are looked for and refused
            self._fold(current, params, weight, who)
        current.count += 1
        current.weight += weight
        for name, value in numbers.items():
            total, whole = current.metrics.get(name, (0, 0))
            if math.isfinite(value):
                total, whole = total + weight * exact(value), whole + weight
            current.metrics[name] = (total, whole)
        self._rounds[ctx.round] = current

    def aggregate(self, ctx: Context) -> tuple[ParameterSet, dict[str, Any]]:
        """Return the mean and its summary; ends the round.

        Raises:
            NothingContributed: The round has no update.
        """
        current = self._rounds.pop(ctx.round, None)
        if current is None:
            raise nothing_contributed(ctx)
        draft = Draft(current.layout, self._pool)
        for dtype, fold in current.folds.items():
            fold.write_mean(current.weight, draft.flat(dtype))
        summary: dict[str, Any] = {"count": current.count, "examples": current.weight}
        for name in sorted(current.metrics):
            total, whole = current.metrics[name]
            summary[name] = total / (whole << METRIC_BITS) if whole else math.nan
        return draft.freeze(), summary

    def abandon(self, ctx: Context) -> None:
        """Drop what the round of `ctx` added up to."""
        self._rounds.pop(ctx.round, None)

    def save(self) -> State:
        """Return the rounds in flight.

        Raises:
            RoundKeyError: The key of a round is not made of numbers, texts, bytes and tuples.
        """
        tensors: dict[str, NDArray[Any]] = {}
        rounds: list[dict[str, Any]] = []
        for at, (key, current) in enumerate(self._rounds.items()):
            tensors[f"{at}.header"] = np.frombuffer(current.layout.header, np.uint8).copy()
            for dtype, fold in current.folds.items():
                tensors[f"{at}.{dtype}"] = fold.save()
            metrics = {name: [f"{s:x}", f"{w:x}"] for name, (s, w) in current.metrics.items()}
            rounds.append(
                {
                    "key": key_text(key),
                    "count": current.count,
                    "weight": current.weight,
                    "metrics": metrics,
                }
            )
        data = {"bits": self._bits, "low": self._low, "rounds": rounds}
        return State(tensors=tensors, data=data)

    def load(self, state: State) -> None:
        """Take over rounds in flight, in place of those that are open.

        Raises:
            GridTooCoarse: They were folded on the grid of another configuration.
        """
        rounds = cast("list[dict[str, Any]]", state.data.get("rounds", []))
        saved_with = state.data.get("bits"), state.data.get("low", 0)
        if rounds and saved_with != (self._bits, self._low):
            raise GridTooCoarse(
                f"the saved rounds were folded {_in_words(*saved_with)}",
                expected=f"{_in_words(self._bits, self._low)}, as configured now",
                fix="restore with the cohort, weight_max, value_max and wide of the saved run",
            )
        self._rounds = {}
        for at, saved in enumerate(rounds):
            layout = Layout.from_header(bytes(state.tensors[f"{at}.header"]))
            current = self._open(layout)
            for dtype, fold in current.folds.items():
                fold.load(state.tensors[f"{at}.{dtype}"])
            current.count, current.weight = saved["count"], saved["weight"]
            for name, (total, whole) in saved["metrics"].items():
                current.metrics[name] = (int(total, 16), int(whole, 16))
            self._rounds[key_of(saved["key"])] = current

    def close(self) -> None:
        """Drop all rounds and their memory."""
        self._rounds.clear()

    def _open(self, layout: Layout) -> _Round:
        folds = {
            dtype: make_fold(
                dtype,
                count,
                bits=self._bits,
                low=self._low,
                bounds=self._bounds,
                engine=self._config.engine,
                pool=self._pool,
            )
            for dtype, (_, count) in layout.runs.items()
        }
        return _Round(layout, folds)

    def _fold(self, current: _Round, params: ParameterSet, weight: int, who: Author) -> None:
        """Add all dtypes, or none."""
        done: list[tuple[Fold, NDArray[Any]]] = []
        for dtype, fold in current.folds.items():
            values = params.flat(dtype)
            if not fold.add(values, weight):
                for earlier, added in done:
                    earlier.undo(added, weight)
                raise self._out_of_range(params, dtype, who)
            done.append((fold, values))

    def _out_of_range(self, params: ParameterSet, dtype: str, who: Author) -> UpdateOutOfRange:
        bound = self._bounds[0] if "float" in dtype else self._bounds[1]
        name, value = first_beyond(params, dtype, bound) or (dtype, "a value out of range")
        return UpdateOutOfRange(
            f"tensor {name!r} of the update of {who} holds {value}",
            expected=f"finite values of a magnitude of at most {bound}",
            fix="look for divergence on that peer, or raise value_max in the configuration",
            where=(f"tensor {name!r}", str(who)),
        )


def first_beyond(params: ParameterSet, dtype: str, bound: int) -> tuple[str, Any] | None:
    """Return the first value of a dtype whose magnitude is not within a bound.

    Returns:
        The name of its tensor and the value, which may be NaN; `None` when all are within.
    """
    for name, array in params.items():
        if array.dtype.name == dtype:
            wrong = array[~(np.abs(array.astype(np.float64)) <= bound)]
            if wrong.size:
                return name, wrong[0]
    return None


def _in_words(bits: object, low: object) -> str:
    return f"with {bits} bits below the point in {'two words' if low else 'one word'}"


def _grid_bits(config: FoldConfig) -> tuple[int, int]:
    """Return k, how many bits the grid has below the point, and those of the lower of two words."""
    check_limits(config, GridTooCoarse, FoldConfig)
    # In the lower word there is room for all updates, and both are exact as a binary64.
    low = min(52, 62 - (config.cohort - 1).bit_length()) if config.wide else 0
    room = _EXACT_BITS + low if low else 62
    bits = room - (config.cohort * config.weight_max * config.value_max - 1).bit_length()
    if bits < _MIN_BITS:
        raise GridTooCoarse(
            f"cohort={config.cohort}, weight_max={config.weight_max} and value_max="
            f"{config.value_max} leave {bits} bits below the point",
            expected=f"at least {_MIN_BITS}: a product of at most 2**{room - _MIN_BITS}",
            fix="lower the largest of the three to what the program really needs"
            + ("" if low else ", or sum in two words: wide=True"),
        )
    return bits, low
