"""Server optimizers: the mean of a round is a direction to go, not where to be.

The mean is that of `bb_roles.folding`, the same bits in any order of arrival, and `_rules` turns it
into a step. This module keeps what lives longer than a round: the last global parameters and the
moments. They change in one place, when `aggregate` has nothing left that could fail.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

import numpy as np

from bb_aggregator_fedopt._rules import DECAY, SCALE, Moments, Optimizer, Rule
from bb_aggregator_fedopt.errors import StateMismatch, StepOutOfRange
from bb_ir.params import Draft, ParameterSet
from bb_roles import Context, Environment, State
from bb_roles.folding import Author, FoldConfig, WeightedMean, differing, first_beyond
from bb_roles.folding.errors import UpdateMismatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FedOpt", "FedOptConfig"]

#: Parameters that are stepped at once: what a step needs besides stays in the cache.
_TILE = 1 << 15


@dataclass(frozen=True)
class FedOptConfig(FoldConfig):
    """The rule, its settings, and the bounds of the fold.

    A setting that is not given is the rule's own default; one that the rule has no use for is
    refused.

    Attributes:
        rule: `avgm` is FedAvgM, `adagrad` FedAdagrad, `yogi` FedYogi, `adam` FedAdam.
        lr: Learning rate of the server: the share of the momentum that is gone by `avgm`, where it
            is 1 by default, and about the largest step of a parameter by the others, in units of
            the parameters, where it is 0.1. The papers tune it.
        beta1: Decay of the first moment per round: 0.9, of `adagrad` 0. Not for `avgm`.
        beta2: Decay of the second moment per round: 0.99. For `yogi` and `adam`.
        tau: Degree of adaptivity, in units of the parameters: 0.001. The second moment begins with
            its square. Smaller ones adapt more. Not for `avgm`.
        momentum: Decay of the sum of earlier directions per round: 0.9. For `avgm` only.
    """

    rule: Rule = "adam"
    lr: Annotated[float | None, SCALE] = None
    beta1: Annotated[float | None, DECAY] = None
    beta2: Annotated[float | None, DECAY] = None
    tau: Annotated[float | None, SCALE] = None
    momentum: Annotated[float | None, DECAY] = None

    def __post_init__(self) -> None:
        self.optimizer()

    def optimizer(self) -> Optimizer:
        """Return the rule with its settings.

        Raises:
            InvalidSetting: A setting is out of its range, or is none of the rule's.
        """
        names = ("lr", "beta1", "beta2", "tau", "momentum")
        return Optimizer(self.rule, {name: getattr(self, name) for name in names})


class FedOpt(WeightedMean):
    """A server optimizer on the mean of all updates, weighted by `metrics["examples"]`.

    Clients contribute whole parameters. The pseudo-gradient of a round is their mean, as
    `aggregator.fedavg` gives it bit for bit, minus the global parameters that were the last when
    the round's first update came; the step is made from the last ones. Rounds that overlap do so
    without undoing each other. The first round, and any other that was opened before it ended, has
    nothing to be compared with: its mean is the global parameters, and moments stay as they are.

    Steps and moments are binary64: 8 bytes per parameter for `avgm`, 16 for the others, twice that
    during `aggregate`. What is returned, and what the next step begins with, has the dtypes of the
    updates. Integers and bools are not stepped: they get the mean, rounded half to even.

    A round that ends before `aggregate`, or in which it fails, changes nothing. What `aggregate`
    returned counts as the global parameters even if the rest of the round fails.

    The summary is that of `aggregator.fedavg`.

    Args:
        config: A `FedOptConfig`.
        env: Where it is being built.

    Raises:
        GridTooCoarse: The bounds leave the grid fewer than 24 bits below the point, or one of
            them is out of its own range.
    """

    Config: ClassVar[type] = FedOptConfig

    def __init__(self, config: FedOptConfig, env: Environment) -> None:
        super().__init__(config, env)
        self._optimizer = config.optimizer()
        self._value_max = config.value_max
        self._last: ParameterSet | None = None
        #: By dtype; of float dtypes only, and none before the first step.
        self._moments: dict[str, Moments] = {}
        #: By open round: the global parameters when it was opened.
        self._bases: dict[Hashable, ParameterSet | None] = {}

    def contribute(self, ctx: Context, params: ParameterSet, metrics: Mapping[str, Any]) -> None:
        """Fold one update in, all of it or nothing.

        Raises:
            MetricsError: `examples` is missing or not from 1 to `weight_max`.
            UpdateMismatch: The tensors are not those of the global parameters, or of what else is
                being folded.
            UpdateOutOfRange: A value is not finite, or larger than `value_max`.
            CohortExceeded: The round already has as many updates as the grid is made for.
        """
        self._check_model(params, Author(ctx))
        super().contribute(ctx, params, metrics)
        self._bases.setdefault(ctx.round, self._last)

    def aggregate(self, ctx: Context) -> tuple[ParameterSet, dict[str, Any]]:
        """Return the next global parameters and the summary of the round; ends the round.

        Raises:
            NothingContributed: The round has no update.
            StepOutOfRange: A parameter would be larger than `value_max`, or not finite.
        """
        base = self._bases.pop(ctx.round, None)
        mean, summary = super().aggregate(ctx)
        if self._last is None or base is None:
            self._last = mean
            return mean, summary
        stepped, moments = self._step(mean, base, self._last)
        self._last, self._moments = stepped, moments
        return stepped, summary

    def abandon(self, ctx: Context) -> None:
        """Drop what the round of `ctx` added up to; steps that were made stay."""
        super().abandon(ctx)
        self._bases.pop(ctx.round, None)

    def save(self) -> State:
        """Return the global parameters, the moments, and the rounds in flight.

        Raises:
            RoundKeyError: The key of a round is not made of numbers, texts, bytes and tuples.
        """
        state = super().save()
        tensors, data = dict(state.tensors), dict(state.data)
        sets: list[ParameterSet] = [] if self._last is None else [self._last]
        for base in self._bases.values():
            if base is not None and not any(base is one for one in sets):
                sets.append(base)
        for at, one in enumerate(sets):
            tensors[f"global.{at}"] = np.frombuffer(one.image, np.uint8).copy()
        for dtype, moments in self._moments.items():
            tensors[f"first.{dtype}"] = moments.first.copy()
            if moments.second is not None:
                tensors[f"second.{dtype}"] = moments.second.copy()
        # The rounds of the fold are in the same order: both are kept from a round's first update
        # to its end.
        data["bases"] = [_place(base, sets) for base in self._bases.values()]
        data["begun"] = self._last is not None
        data["rule"] = self._optimizer.rule
        data["moments"] = list(self._moments)
        return State(tensors=tensors, data=data)

    def load(self, state: State) -> None:
        """Take over a state, in place of what there is.

        Raises:
            GridTooCoarse: Its rounds were folded on the grid of another configuration.
            StateMismatch: It was saved under another rule.
        """
        rule = state.data.get("rule", self._optimizer.rule)
        if rule != self._optimizer.rule:
            raise StateMismatch(
                f"the saved state is that of rule {rule!r}",
                expected=f"one of {self._optimizer.rule!r}, as configured now",
                fix="restore with the rule of the saved run",
                where="rule",
            )
        super().load(state)
        places = cast("list[int | None]", state.data.get("bases", []))
        begun = bool(state.data.get("begun"))
        count = max([int(begun), *(place + 1 for place in places if place is not None)])
        # A copy: the state may lie in memory that is written to later.
        sets = [
            ParameterSet.from_image(state.tensors[f"global.{at}"].tobytes()) for at in range(count)
        ]
        self._last = sets[0] if begun else None
        bases = (None if place is None else sets[place] for place in places)
        self._bases = dict(zip(self._rounds, bases, strict=True))
        self._moments = {
            dtype: Moments(
                state.tensors[f"first.{dtype}"].copy(),
                state.tensors[f"second.{dtype}"].copy() if rule != "avgm" else None,
            )
            for dtype in cast("list[str]", state.data.get("moments", []))
        }

    def close(self) -> None:
        """Drop the global parameters, the moments, all rounds, and their memory."""
        super().close()
        self._bases.clear()
        self._moments = {}
        self._last = None

    def _check_model(self, params: ParameterSet, who: Author) -> None:
        """Refuse another model: without this, two that are open at once could both begin."""
        layouts = [one.layout for one in self._rounds.values()]
        if self._last is not None:
            layouts = [self._last.layout]
        if not layouts or params.layout == layouts[0]:
            return
        raise UpdateMismatch(
            f"the update of {who} holds {differing(params.layout, layouts[0])}",
            expected="the names, order, shapes, dtypes and metadata of the global parameters",
            fix="send parameters of one model, and bind an aggregator for each model",
            where=str(who),
        )

    def _step(
        self, mean: ParameterSet, base: ParameterSet, last: ParameterSet
    ) -> tuple[ParameterSet, dict[str, Moments]]:
        """Return the parameters and moments after a step; changes nothing."""
        draft = Draft(mean.layout, self._pool)
        after: dict[str, Moments] = {}
        fits = True
        for dtype in mean.dtypes:
            out, values = draft.flat(dtype), mean.flat(dtype)
            if "float" not in dtype:
                out[:] = values
                continue
            before = self._moments.get(dtype) or self._optimizer.start(out.size)
            after[dtype] = self._step_floats(
                out, values, base.flat(dtype), last.flat(dtype), before
            )
            fits = fits and _within(out, self._value_max)
        stepped = draft.freeze()
        if not fits:
            raise self._too_far(stepped)
        return stepped, after

    def _step_floats(
        self,
        out: NDArray[Any],
        mean: NDArray[Any],
        base: NDArray[Any],
        last: NDArray[Any],
        before: Moments,
    ) -> Moments:
        """Write the parameters of one dtype after a step, and return their moments."""
        second = before.second
        after = Moments(
            np.empty_like(before.first), None if second is None else np.empty_like(second)
        )
        with np.errstate(over="ignore", invalid="ignore"):  # such parameters are looked for
            for start in range(0, out.size, _TILE):
                part = slice(start, start + _TILE)
                gradient = mean[part].astype(np.float64) - base[part].astype(np.float64)
                old = Moments(before.first[part], None if second is None else second[part])
                step, new = self._optimizer.step(gradient, old)
                out[part] = last[part].astype(np.float64) + step
                after.first[part] = new.first
                if after.second is not None and new.second is not None:
                    after.second[part] = new.second
        return after

    def _too_far(self, stepped: ParameterSet) -> StepOutOfRange:
        floats = (dtype for dtype in stepped.dtypes if "float" in dtype)
        found = (first_beyond(stepped, dtype, self._value_max) for dtype in floats)
        name, value = next(one for one in found if one is not None)
        return StepOutOfRange(
            f"the step takes tensor {name!r} to {value}",
            expected=f"finite parameters of a magnitude of at most {self._value_max}",
            fix=f"lower lr, which is {self._optimizer.settings['lr']:g}, or raise value_max",
            where=f"tensor {name!r}",
        )


def _within(values: NDArray[Any], bound: int) -> bool:
    """Tell whether all values are finite and at most `bound` in magnitude."""
    if not values.size:
        return True
    low, high = float(np.minimum.reduce(values)), float(np.maximum.reduce(values))
    return -bound <= low and high <= bound


def _place(base: ParameterSet | None, sets: list[ParameterSet]) -> int | None:
    """Return where a set is in a list, the very same object."""
    return next((at for at, one in enumerate(sets) if one is base), None)
