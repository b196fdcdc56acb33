"""What attackers are built of in the place of the model or data source that their slot binds.

An attacker is a whole, honest Node but for one component, which inherits the bound class and does
wrong in one place: a model gives out other parameters than it has, or a data source wrong labels.
So an attack is made where a real one would be, on the values themselves: what is encoded, signed
and sent afterwards is in order, and it does not matter how values travel.

This module decides nothing: who attacks is `_attackers`' to say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar, cast, get_args

import numpy as np
from numpy.typing import NDArray

from bb_ir.params import ParameterSet
from bb_roles.contracts import Batches, Component, Context, Metrics, State, lacks
from bb_sim.errors import BadScenario
from bb_sim.scenario import Attack, AttackKind

__all__ = ["ROLES", "attacking", "flipped"]

_Array = NDArray[Any]
#: What makes of the parameters before and after training, in binary64, what is given out.
_Lie = Callable[[_Array, _Array, float, Context], _Array]

#: The role of the component that each kind replaces.
ROLES = {kind: "data_source" if kind == "label-flip" else "model" for kind in get_args(AttackKind)}

#: Keys under which a model's state holds what it had before it trained.
_BEFORE = "attack.before"


def attacking(attack: Attack, cls: type[Component]) -> type[Component]:
    """Return a class that inherits one, and attacks.

    Raises:
        BadScenario: Its `params` gives something that is known later only.
    """
    if ROLES[attack.kind] == "data_source":
        bases: tuple[type, ...] = (_Mislabelling, cls)
    else:
        if "params" in cls.defers:
            raise BadScenario(
                f"model {cls.__name__} defers params, and an attack changes them on the spot",
                fix="attack another model, or with kind label-flip",
            )
        adds = () if lacks(cls, "apply_delta") else (_FalsifyingDeltas,)
        bases = (*adds, _Falsifying, cls)
    body = {"honest": cls, "attack": attack, "__doc__": f"Attacks by {attack.kind}."}
    return cast("type[Component]", type(f"Attacking{cls.__name__}", bases, body))


class _Falsifying:
    """A model that trains as it should and gives out other parameters.

    What it had before it trained is what it last took over: an update is the difference.
    """

    honest: ClassVar[Any]
    attack: ClassVar[Attack]
    _before: ParameterSet | None = None

    def load_params(self, ctx: Context, params: ParameterSet) -> None:
        self.honest.load_params(self, ctx, params)
        self._before = None

    def fit(self, ctx: Context, batches: Batches) -> Metrics:
        self._begin(ctx)
        metrics: Metrics = self.honest.fit(self, ctx, batches)
        return metrics

    def backward(self, ctx: Context, grad: _Array) -> _Array:
        self._begin(ctx)
        gradient: _Array = self.honest.backward(self, ctx, grad)
        return gradient

    def params(self, ctx: Context) -> ParameterSet:
        after: ParameterSet = self.honest.params(self, ctx)
        before = self._before
        if before is None or before.layout != after.layout:
            return after
        return _falsified(self.attack, before, after, ctx)

    def save(self) -> State:
        state: State = self.honest.save(self)
        if self._before is None:
            return state
        kept = np.frombuffer(self._before.image, np.uint8).copy()
        return State(tensors={**state.tensors, _BEFORE: kept}, data=state.data)

    def load(self, state: State) -> None:
        tensors = dict(state.tensors)
        kept = tensors.pop(_BEFORE, None)
        self.honest.load(self, State(tensors=tensors, data=state.data))
        self._before = None if kept is None else ParameterSet.from_image(kept.tobytes())

    def _begin(self, ctx: Context) -> None:
        if self._before is None:
            self._before = self.honest.params(self, ctx)


class _FalsifyingDeltas(_Falsifying):
    """The same for a model that takes differences over, too."""

    def apply_delta(self, ctx: Context, delta: ParameterSet) -> None:
        self.honest.apply_delta(self, ctx, delta)
        self._before = None


class _Mislabelling:
    """A data source whose labels are turned around."""

    honest: ClassVar[Any]
    attack: ClassVar[Attack]

    def next_batch(self, ctx: Context) -> tuple[_Array, _Array]:
        inputs, labels = self.honest.next_batch(self, ctx)
        return inputs, flipped(labels, self.attack.classes)

    def batches(self, ctx: Context, *, epochs: int = 1) -> Batches:
        return self._mislabelled(self.honest.batches(self, ctx, epochs=epochs))

    def remake(self, state: State) -> Batches:
        return self._mislabelled(self.honest.remake(self, state))

    def _mislabelled(self, batches: Batches) -> Batches:
        return dataclasses.replace(batches, draw=partial(_draw, batches.draw, self.attack.classes))


def flipped(labels: _Array, classes: int) -> _Array:
    """Return labels with the last class for the first, and so on.

    Args:
        labels: Classes (n,) as whole numbers, probabilities of them (n, classes), truth values
            (n,), or numbers (n,), whose signs are turned.
        classes: How many classes there are, where labels are whole numbers.

    Raises:
        BadScenario: There are more classes.
    """
    if labels.ndim > 1:
        return np.ascontiguousarray(labels[:, ::-1])
    if labels.dtype.kind == "b":
        return ~labels
    if labels.dtype.kind not in "iu":
        return -labels
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise BadScenario(
            f"a label is {labels.max() if labels.min() >= 0 else labels.min()}",
            expected=f"0 to {classes - 1}: the attack was told of {classes} classes",
            fix="say how many there are: classes of [attack]",
        )
    turned = classes - 1 - labels.astype(np.int64)
    fits = classes - 1 <= np.iinfo(labels.dtype).max
    return turned.astype(labels.dtype) if fits else turned


def _draw(
    draw: Callable[[], Iterator[tuple[_Array, _Array]]], classes: int
) -> Iterator[tuple[_Array, _Array]]:
    for inputs, labels in draw():
        yield inputs, flipped(labels, classes)


def _falsified(
    attack: Attack, before: ParameterSet, after: ParameterSet, ctx: Context
) -> ParameterSet:
    """Return what an attacker gives out instead of its parameters; whole numbers stay."""
    lie, scale = _LIES[attack.kind], attack.magnitude
    draft = after.writable(copy=True)
    with np.errstate(all="ignore"):  # an infinity is one more thing to be refused
        for name, array in after.items():
            if array.dtype.kind == "f":
                was, now = before[name].astype(np.float64), array.astype(np.float64)
                draft[name][...] = lie(was, now, scale, ctx)
    return draft.freeze()


def _turned(before: _Array, after: _Array, scale: float, _ctx: Context) -> _Array:
    return before - scale * (after - before)


def _noisy(before: _Array, _after: _Array, scale: float, ctx: Context) -> _Array:
    return before + ctx.rng().normal(scale=scale, size=before.shape)


def _scaled(before: _Array, after: _Array, scale: float, _ctx: Context) -> _Array:
    return before + scale * (after - before)


def _same(before: _Array, _after: _Array, scale: float, _ctx: Context) -> _Array:
    return before + scale


_LIES: dict[str, _Lie] = {
    "sign-flip": _turned, "gaussian": _noisy, "scale": _scaled, "same-value": _same,
}  # fmt: skip
