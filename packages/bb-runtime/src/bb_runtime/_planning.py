"""Which stretches must hold which components, worked out once when a Node is installed.

Only components that deferred work may keep busy for longer than a stretch are ever held; a Node
without deferred work has no plans at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from bb_ir.errors import closest
from bb_roles.contracts import Component
from bb_runtime._frames import BoundRegion
from bb_runtime._program import NO_DEFERRING, Deferring, Lowered
from bb_runtime._slots import Group, Plan
from bb_runtime.artifact import Op, Target
from bb_runtime.errors import ConstructionFailed

__all__ = ["Planned", "deferring_ops", "plan_slots"]

#: Target and slot -> component.
Components = Mapping[tuple[str, str], Component]


class Planned(NamedTuple):
    """A region of a Node, and the target that it is part of."""

    bound: BoundRegion
    lowered: Lowered


def deferring_ops(target: Target, components: Components) -> Deferring:
    """Return which ops of a target may defer their work.

    Raises:
        ConstructionFailed: A component declares what is no method of it.
    """
    filled = {slot: one for (name, slot), one in components.items() if name == target.name}
    defers = {slot: _declared(slot, one) for slot, one in filled.items() if one.defers}
    if not defers:
        return NO_DEFERRING
    ops = frozenset(
        number
        for number, op in enumerate(target.ops)
        if op.schema is not None and op.schema.method in defers.get(op.slot, ())
    )
    used = {slot: tuple(sorted(_slots_of(slot, filled))) for slot in sorted(filled)}
    return Deferring(ops, tuple((slot, own) for slot, own in used.items() if len(own) > 1))


def _declared(slot: str, component: Component) -> Collection[str]:
    """Return the methods that a component declares to defer."""
    cls, names = type(component), component.defers
    where = f"{cls.__module__}.{cls.__qualname__}"
    if isinstance(names, str):
        raise ConstructionFailed(
            f"the component of slot {slot!r}, {where}, has defers = {names!r}",
            expected="a tuple of the names of methods",
            fix=f"write defers = ({names!r},)",
        )
    for name in names:
        if not callable(getattr(cls, name, None)):
            close = closest(name, dir(cls))
            raise ConstructionFailed(
                f"the component of slot {slot!r}, {where}, has {name!r} in `defers` and no such "
                "method",
                fix=f"did you mean {close!r}?" if close else "remove it from `defers`",
            )
    return names


def _slots_of(slot: str, filled: Mapping[str, Component]) -> set[str]:
    """Return a slot and those that its component depends on, however far away."""
    found = {slot}
    for sibling in filled[slot].depends:
        found |= _slots_of(sibling, filled)
    return found


def plan_slots(regions: Sequence[Planned], components: Components) -> Mapping[int, int]:
    """Give each region of a Node its plans, where it needs any.

    Returns:
        Numbers of the components that may be held, by their identity.
    """
    if not any(region.lowered.deferred for region in regions):
        return {}
    uses = _Uses(components)
    contended: set[int] = set()
    for bound, lowered in regions:
        for together in bound.program.together:
            ops = [op for index in together for op in bound.program.stretches[index].ops]
            if any(id(op) in lowered.deferred for op in ops):
                contended.update(one for op in ops for one in uses.of(lowered, op))
    for bound, lowered in regions:
        _plan(bound, lowered, uses, contended)
    return {own: number for own, number in uses.numbers.items() if number in contended}


class _Uses:
    """The components that ops use, by number: their own and those these depend on."""

    def __init__(self, components: Components) -> None:
        self._components = components
        self.numbers: dict[int, int] = {}

    def of(self, lowered: Lowered, op: Op) -> dict[int, bool]:
        """Return what an op uses, and whether nobody else may use it meanwhile."""
        component = self._components.get((lowered.target.name, op.slot))
        if op.schema is None or component is None:
            return {}
        writes, defers = op.schema.effect == "writes", id(op) in lowered.deferred
        return {
            self.numbers.setdefault(id(one), len(self.numbers)): writes
            or (defers and not one.reentrant)
            for one in _closure(component)
        }


def _closure(component: Component) -> Iterable[Component]:
    """Return a component and those that it depends on."""
    yield component
    for sibling in component.env.dependencies.values():
        yield from _closure(sibling)


def _plan(bound: BoundRegion, lowered: Lowered, uses: _Uses, contended: set[int]) -> None:
    stretches = bound.program.stretches
    plans: list[Plan | None] = [None] * len(stretches)
    works: dict[int, Plan] = {}
    for number, together in enumerate(bound.program.together):
        wants: dict[int, bool] = {}
        counts: Counter[int] = Counter()
        of_stretch: dict[int, dict[int, Op]] = {}
        of_work: dict[int, tuple[int, ...]] = {}
        for index in together:
            here: dict[int, Op] = {}
            for op in stretches[index].ops:
                used = {o: alone for o, alone in uses.of(lowered, op).items() if o in contended}
                for one, alone in used.items():
                    wants[one] = wants.get(one, False) or alone
                    here.setdefault(one, op)
                if id(op) in lowered.deferred:
                    of_work[lowered.deferred[id(op)].index] = tuple(used)
                    counts.update(used.keys())
            of_stretch[index] = here
            counts.update(here.keys())
        if not wants:
            continue
        group = Group(number, wants, dict(counts))
        for index, first in of_stretch.items():
            # What uses nothing takes nothing: its group may have given all back already.
            plans[index] = Plan(group, tuple(sorted(first)), first) if first else None
        works.update({event: Plan(group, components) for event, components in of_work.items()})
    bound.plans = plans
    bound.works = works
