"""Who may use which component, on Nodes where work on one may take more than a stretch.

A stretch runs to its end before anything else does, so where no component defers its work nothing
needs to be held, and this module is not even asked. Where one does, stretches that wait for each
other's deferred work only are a *group*: it takes all its components together before the first of
them runs, in order of arrival, and gives each back after its last use. A group that runs waits for
nothing but its own work, and takes nothing more; so nothing can deadlock.

A frame that ends leaves behind what its unfinished work goes on using: the components are free
when that work has come back.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from bb_runtime._frames import NOTHING

if TYPE_CHECKING:
    from bb_runtime._frames import Frame
    from bb_runtime._quarantine import Unwanted
    from bb_runtime.artifact import Op

__all__ = ["Grant", "Group", "Plan", "Slots"]

_NO_OPS: Mapping[int, Op] = MappingProxyType({})


class Group(NamedTuple):
    """What stretches that wait for each other's deferred work need together.

    Attributes:
        number: Its number within the region.
        wants: Component -> whether nobody else may hold it.
        uses: Component -> how many stretches and pieces of deferred work use it.
    """

    number: int
    wants: Mapping[int, bool]
    uses: Mapping[int, int]


class Plan(NamedTuple):
    """What one stretch or piece of work needs.

    Attributes:
        group: What it takes, together with others.
        uses: The components that it uses itself; of work, its own first.
        first: Component -> the first op of the stretch that uses it.
    """

    group: Group
    uses: tuple[int, ...]
    first: Mapping[int, Op] = _NO_OPS


class Grant:
    """Components that are held for one group of a frame, with how often each is still needed."""

    __slots__ = ("group", "left")

    def __init__(self, group: Group) -> None:
        self.group = group
        self.left = Counter(dict(group.uses))


class _Waiting(NamedTuple):
    """A group in line, and those of its stretches that are ready."""

    number: int
    frame: Frame
    group: Group
    stretches: list[int]


#: Number of a frame and of its group.
_Key = tuple[int, int]


class Slots:
    """The components of one Node and who holds them."""

    __slots__ = (
        "_alone", "_arrivals", "_freed", "_later", "_line", "_queues", "_shared", "numbers",
        "stuck",
    )  # fmt: skip

    def __init__(self) -> None:
        #: The components that may be held, by their identity.
        self.numbers: Mapping[int, int] = {}
        # Lists, as few components are held at a time and a set takes 200 bytes.
        self._alone: list[int] = []
        self._shared: Counter[int] = Counter()
        self._arrivals = 0
        self._line: dict[_Key, _Waiting] = {}
        #: Component -> who stands in line for it, in order of arrival.
        self._queues: dict[int, OrderedDict[_Key, None]] = {}
        #: Components whose queues may go on.
        self._freed: list[int] = []
        #: Components that are stuck, and the work that does not come back.
        self.stuck: dict[int, list[Unwanted]] = {}
        #: What is to be called when a component that is held alone is given back.
        self._later: dict[int, list[Callable[[], None]]] = {}

    def claim(self, frame: Frame, index: int, plan: Plan) -> bool:
        """Take what a stretch's group needs; else the stretch is put in line."""
        group = plan.group
        if group.number in frame.held:
            return True
        key = frame.number, group.number
        if key in self._line:
            self._line[key].stretches.append(index)
            return False
        if self._free(group) and not any(map(self._queues.get, group.wants)):
            self._take(frame, group)
            return True
        self._arrivals += 1
        self._line[key] = _Waiting(self._arrivals, frame, group, [index])
        for one in group.wants:
            self._queues.setdefault(one, OrderedDict())[key] = None
        return False

    def used(self, frame: Frame, plan: Plan) -> None:
        """Note that a stretch, or work that it deferred, is done with its components."""
        grant = frame.held.get(plan.group.number)
        if grant is None:
            return
        self.release(grant, plan.uses)
        if not grant.left:
            del frame.held[grant.group.number]

    def release(self, grant: Grant, components: Iterable[int]) -> None:
        """Count uses off a grant, and give back what it needs no more."""
        for one in components:
            grant.left[one] -= 1
            if not grant.left[one]:
                del grant.left[one]
                self._give(one, alone=grant.group.wants[one])

    def leave(self, frame: Frame, unfinished: Iterable[tuple[Grant, Plan]]) -> None:
        """Take back what a frame that ends holds, but for what its unfinished work uses."""
        numbers = {plan.group.number for plan in frame.bound.plans or () if plan is not None}
        for number in numbers:
            waiting = self._line.get((frame.number, number))
            if waiting is not None:
                self._freed += waiting.group.wants
                self._leave_line((frame.number, number), waiting.group)
        kept: dict[int, Counter[int]] = {}
        for grant, plan in unfinished:
            kept.setdefault(grant.group.number, Counter()).update(plan.uses)
        for number, grant in frame.held.items():
            before, grant.left = grant.left, kept.get(number, Counter())
            for one in before:
                if one not in grant.left:
                    self._give(one, alone=grant.group.wants[one])
        frame.held = NOTHING

    def granted(self) -> list[tuple[Frame, int]]:
        """Return the stretches whose turn has come, in order of arrival."""
        ready: list[tuple[Frame, int]] = []
        while self._freed:
            queues = [queue for one in self._freed if (queue := self._queues.get(one))]
            self._freed.clear()
            first = {next(iter(queue)) for queue in queues}
            for key in sorted(first, key=lambda key: self._line[key].number):
                waiting = self._line[key]
                wants = waiting.group.wants
                if self._free(waiting.group) and all(self._is_first(key, one) for one in wants):
                    self._leave_line(key, waiting.group)
                    self._take(waiting.frame, waiting.group)
                    self._freed += wants  # those behind it may share them
                    ready += ((waiting.frame, index) for index in waiting.stretches)
        return ready

    def when_free(self, component: object, call: Callable[[], None]) -> None:
        """Call something at once, or when nobody holds a component alone any more."""
        number = self.numbers.get(id(component))
        if number is None or number not in self._alone:
            call()
        else:
            self._later.setdefault(number, []).append(call)

    def in_line(self) -> list[tuple[Frame, int]]:
        """Return the stretches that stand in line, in order of arrival."""
        line = sorted(self._line.values(), key=lambda waiting: waiting.number)
        return [(waiting.frame, index) for waiting in line for index in waiting.stretches]

    def postponed(self) -> list[Callable[[], None]]:
        """Return what is to be called when components are free."""
        return [call for number in sorted(self._later) for call in self._later[number]]

    def replace(self, frames: Iterable[Frame]) -> None:
        """Forget who stands in line and what is held, but for what these frames hold."""
        self._line.clear()
        self._queues.clear()
        self._freed.clear()
        self._alone.clear()
        self._shared.clear()
        self.stuck.clear()
        self._later.clear()
        for grant in (grant for frame in frames for grant in frame.held.values()):
            for one in grant.left:
                self._hold(one, alone=grant.group.wants[one])

    def stuck_for(self, frame: Frame, plan: Plan) -> int:
        """Return a component that a stretch needs and that is stuck, or -1."""
        group = plan.group
        needs = plan.uses if group.number in frame.held else group.wants
        return next((one for one in needs if one in self.stuck), -1)

    def waiting_for(self, components: Iterable[int]) -> list[tuple[Frame, int]]:
        """Return the first stretches of those who stand in line for any of these components."""
        wanted = set(components)
        line = sorted(self._line.values(), key=lambda waiting: waiting.number)
        return [(w.frame, w.stretches[0]) for w in line if not wanted.isdisjoint(w.group.wants)]

    @property
    def waiting(self) -> bool:
        """Whether somebody stands in line."""
        return bool(self._line)

    @property
    def idle(self) -> bool:
        """Whether nothing is held and nobody waits."""
        held = self._alone or any(self._shared.values())
        return not (held or self._line or any(self._queues.values()) or self._later)

    def _is_first(self, key: _Key, one: int) -> bool:
        return next(iter(self._queues[one])) == key

    def _leave_line(self, key: _Key, group: Group) -> None:
        del self._line[key]
        for one in group.wants:
            del self._queues[one][key]

    def _free(self, group: Group) -> bool:
        return all(
            one not in self._alone and not (alone and self._shared[one])
            for one, alone in group.wants.items()
        )

    def _take(self, frame: Frame, group: Group) -> None:
        if frame.held is NOTHING:
            frame.held = {}
        frame.held[group.number] = Grant(group)
        for one, alone in group.wants.items():
            self._hold(one, alone=alone)

    def _hold(self, one: int, *, alone: bool) -> None:
        if alone:
            self._alone.append(one)
        else:
            self._shared[one] += 1

    def _give(self, one: int, *, alone: bool) -> None:
        if self._queues.get(one):
            self._freed.append(one)
        if not alone:
            self._shared[one] -= 1
            return
        self._alone.remove(one)
        for call in self._later.pop(one, ()):
            call()
