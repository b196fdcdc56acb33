"""Components that are stuck: deferred work on them is not wanted any more and does not come back.

Work cannot be interrupted: when its frame ends, all that a Node can do is not to want it, and its
component stays taken until it comes back. A host's thread may hang in it for ever. So work that has
not come back some time after it was given up puts its component into quarantine: one step says so,
whoever needs the component fails at once instead of waiting for a deadline, and another step says
when the work came back after all.

Only time that `advance` gives decides, never what a thread has done so far.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bb_ir.durations import format_duration
from bb_runtime._frames import ENDED
from bb_runtime.errors import Quarantined
from bb_runtime.steps import ComponentStuck

if TYPE_CHECKING:
    from bb_runtime._engine import Engine
    from bb_runtime._frames import Frame
    from bb_runtime._program import DeferInfo
    from bb_runtime._slots import Plan
    from bb_runtime.steps import FrameId

__all__ = ["Quarantine", "Unwanted"]


class Unwanted:
    """Work of a frame that has ended, until it comes back.

    It does not refer to the work itself: work that nobody refers to is lost, and says so.

    Attributes:
        info: The op that it is of.
        target: Target of the op.
        component: What fills its slot.
        frame: The frame.
        uses: The components that it goes on using, by number, its own first.
        since_ns: When it was given up.
        alarm_ns: When it is looked at again; -1 for never.
        stuck: Whether its components are in quarantine.
    """

    __slots__ = (
        "alarm_ns", "component", "frame", "info", "since_ns", "stuck", "target", "uses",
    )  # fmt: skip

    def __init__(
        self, info: DeferInfo, frame: Frame, name: FrameId, uses: tuple[int, ...], now_ns: int
    ) -> None:
        target = frame.bound.program.target
        rows = {row.slot: row.component for row in target.rows}
        self.info = info
        self.target = target.short
        self.component = rows.get(info.op.slot, "")
        self.frame = name
        self.uses = uses
        self.since_ns = now_ns
        self.alarm_ns = -1
        self.stuck = False

    def __str__(self) -> str:
        return f"{self.info.op.name} of slot {self.info.op.slot!r}"


class Quarantine:
    """The work of one Node that is not wanted any more."""

    __slots__ = ("_engine", "unwanted")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        #: In the order in which it was given up.
        self.unwanted: dict[Unwanted, None] = {}

    @property
    def stuck(self) -> list[Unwanted]:
        """The work whose components are in quarantine."""
        return [one for one in self.unwanted if one.stuck]

    def given_up(self, info: DeferInfo, frame: Frame, uses: tuple[int, ...]) -> Unwanted:
        """Note that a frame does not want its work any more."""
        engine = self._engine
        made = Unwanted(info, frame, engine.id_of(frame), uses, engine.now_ns)
        made.alarm_ns = engine.now_ns + engine.options.stuck_after_ns
        engine.alarms.set(made.alarm_ns, made)
        self.unwanted[made] = None
        return made

    def begin(self, one: Unwanted) -> None:
        """Put the components of work into quarantine, and end the frames that stand in line."""
        engine, slots = self._engine, self._engine.slots
        first = bool(one.uses) and one.uses[0] not in slots.stuck
        one.stuck = True
        for number in one.uses:
            slots.stuck.setdefault(number, []).append(one)
        if not first:
            return  # that its component is stuck is known
        self._tell(one)
        for frame, index in slots.waiting_for(one.uses):
            plan = (frame.bound.plans or ())[index]
            if frame.state != ENDED and plan is not None:
                self.refuse(frame, plan, slots.stuck_for(frame, plan))
        engine.tidy()

    def came_back(self, one: Unwanted) -> None:
        """Note that work came back; what it used is free."""
        one.alarm_ns = -1
        self.unwanted.pop(one, None)
        if not one.stuck:
            return
        one.stuck = False
        stuck = self._engine.slots.stuck
        for number in one.uses:
            stuck[number].remove(one)
            if not stuck[number]:
                del stuck[number]
        if one.uses[0] not in stuck:
            self._tell(one)

    def refuse(self, frame: Frame, plan: Plan, number: int) -> None:
        """End a frame that needs a component which is stuck."""
        engine = self._engine
        one = engine.slots.stuck[number][0]
        line = one.info.op.source
        waited = format_duration(engine.now_ns - one.since_ns)
        error = Quarantined(
            f"the component of slot {one.info.op.slot!r} is stuck: {one.info.op.name}, which frame "
            f"{one.frame.number} gave up {waited} ago, has not come back",
            expected="work that comes to an end, also when nobody waits for it",
            fix="give what it calls a time limit, or raise Options.stuck_after_ns",
            where=() if line is None else line,
        )
        # Of a component that only later stretches of the group use, the first op is to blame.
        op = plan.first.get(number) or next(iter(plan.first.values()))
        engine.fail(frame, op, error)

    def _tell(self, one: Unwanted) -> None:
        engine, op = self._engine, one.info.op
        waited = engine.now_ns - one.since_ns
        engine.steps.append(
            ComponentStuck(
                one.target, op.name, op.slot, one.component, one.frame, waited, one.stuck
            )
        )
