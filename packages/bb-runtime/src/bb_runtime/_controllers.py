"""Blocks whose frames are their own: `rounds`, `every` and `on`.

A controller begins when the op of its block runs, and opens root frames of the block's region until
it is stopped. What the block uses from around it was handed over at the start.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bb_runtime._blocks import turn_count
from bb_runtime._frames import BoundRegion, Frame
from bb_runtime._freeze import frozen
from bb_runtime._typecheck import fits
from bb_runtime.errors import InvalidInput
from bb_runtime.steps import BlockEnded

if TYPE_CHECKING:
    from bb_ir.types import Type
    from bb_runtime._engine import Engine
    from bb_runtime._program import BlockInfo

__all__ = ["Controller", "Controllers", "Every", "On", "Rounds"]


class Controller(ABC):
    """A block that has started.

    Args:
        engine: The engine.
        info: The block.
        handed: Values that each frame begins with, beside what differs from frame to frame.
    """

    def __init__(self, engine: Engine, info: BlockInfo, handed: Sequence[Any]) -> None:
        self.engine = engine
        self.info = info
        self.handed = tuple(map(frozen, handed))
        self.bound: BoundRegion = engine.regions[info.region]
        self.number = 0
        self.failed = 0
        self.active = 0
        self.stopped = False
        #: What `tell` says of a block that was stopped.
        self.why = "stopped"
        #: Whether its end was reported.
        self.told = False

    @abstractmethod
    def begin(self) -> None:
        """Start opening frames."""

    def stop(self) -> None:
        """Open no more frames; those that were opened go on."""
        self.stopped = True
        if not self.active:
            self.tell(self.why)

    def until(self) -> None:
        """Let no more frames start, not even those in line: one of them said so."""
        self.stop()
        line = self.bound.queue
        for frame in [one for one in line if one.controller is self]:
            line.remove(frame)
            self.engine.end(frame, "cancelled", "stopped")

    @property
    def full(self) -> bool:
        """Whether a frame that is skipped rather than put in line would have to wait."""
        bound = self.bound
        return bound.skips and bound.active + len(bound.queue) >= bound.limit

    def open(self, *values: Any) -> None:
        """Open the next frame."""
        self.number += 1
        self.active += 1
        self.engine.open_controlled(self, (*values, *self.handed))

    def frame_ended(self, how: str) -> None:
        """Go on after a frame has ended."""
        self.active -= 1
        self.failed += how != "done"
        self.go_on(how)
        if self.stopped and not self.active:
            self.tell(self.why)

    def go_on(self, how: str) -> None:  # noqa: B027  # events and ticks come from elsewhere
        """React to the end of a frame."""

    def tell(self, how: str) -> None:
        """Report the end of the block, once."""
        if not self.told:
            self.told = True
            target = self.bound.program.target.short
            step = BlockEnded(target, self.info.region, self.number, self.failed, how)
            self.engine.steps.append(step)
            self.handed = ()  # a block that was stopped may be remembered for long


class Rounds(Controller):
    """Frames one after the other, `width` at a time."""

    def __init__(
        self, engine: Engine, info: BlockInfo, handed: Sequence[Any], times: int | None
    ) -> None:
        super().__init__(engine, info, handed)
        self.times = times
        facts = info.op.attributes
        self.width = int(facts["width"])
        self.stops = facts["on_fail"] == "stop"

    def begin(self) -> None:
        """Start as many rounds as may be in flight."""
        while self.active < self.width and self._wanted():
            self.open(self.number + 1)
        if not self.active:
            self.tell("done")

    def _wanted(self) -> bool:
        return not self.stopped and (self.times is None or self.number < self.times)

    def go_on(self, how: str) -> None:
        """Start the next round, or stop when one has failed and that ends the block.

        A round that found no place in line was cancelled; the next would find none either.
        """
        fails = how == "cancelled" or (how != "done" and self.stops)
        if fails and not self.stopped:
            self.stopped, self.why = True, "failed"
        if self._wanted():
            self.open(self.number + 1)
        elif not self.active and not self.stopped:
            self.tell("done")


class Every(Controller):
    """A frame per tick of a grid."""

    def __init__(self, engine: Engine, info: BlockInfo, handed: Sequence[Any]) -> None:
        super().__init__(engine, info, handed)
        facts = info.op.attributes
        self.period_ns = int(facts["period_ns"])
        self.jitter_ns = int(facts["jitter_ns"])
        self.start_ns = engine.now_ns
        #: Number of the tick on the grid that comes next.
        self.tick = 1

    def begin(self) -> None:
        """Wait for the first tick."""
        self._arm()

    def _arm(self) -> None:
        self.engine.timers.tick(self._instant(self.tick), self)

    def _instant(self, tick: int) -> int:
        when = self.start_ns + tick * self.period_ns
        if self.jitter_ns:
            when += self.engine.draw(f"every/{self.info.region}", tick, self.jitter_ns)
        return when

    def due(self, until_ns: int) -> None:
        """Open the frame of a tick, and wait for the next.

        Args:
            until_ns: Where the clock is going; ticks up to there become one, the last of them, so
                that its frame has its whole deadline before it.
        """
        last = (until_ns - self.start_ns) // self.period_ns
        if last > self.tick and self._instant(last) > until_ns:
            last -= 1  # jitter is less than a period, so no tick before that comes later
        if last > self.tick:
            self.engine.counters["ticks_missed"] += last - self.tick
            self.tick = last
            self._arm()
            return
        self.tick += 1
        if self.full:
            self.engine.drop("tick_skipped", None, self.info.region)
        else:
            self.open(self.number + 1)
        self._arm()


class On(Controller):
    """A frame per event of a topic."""

    @property
    def type(self) -> Type:
        """What the events must be."""
        return self.info.item

    def begin(self) -> None:
        """Listen."""
        topic = str(self.info.op.attributes["topic"])
        self.engine.controllers.listen(topic, self)

    def event(self, value: Any) -> None:
        """Open the frame of an event."""
        if self.full:
            self.engine.drop("event_skipped", None, self.info.region)
            return
        self.open(value)


class Controllers:
    """All controllers of one Node."""

    __slots__ = ("_engine", "_running", "_topics")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        #: Region -> the block that ticks or listens there; one at a time.
        self._running: dict[str, Controller] = {}
        self._topics: dict[str, list[On]] = {}

    def opener(self, info: BlockInfo) -> Callable[..., None]:
        """Return the callable of a block."""

        def start(_: Frame, *values: Any) -> None:
            own = values[: len(values) - info.captured]
            handed = values[len(own) :]
            if info.op.name == "Rounds":
                count = turn_count(info.op, own)
                self._begin(Rounds(self._engine, info, handed, count))
                return
            made = Every if info.op.name == "Every" else On
            self._replace(info.region, made(self._engine, info, handed))

        return start

    def _replace(self, region: str, controller: Controller) -> None:
        """Let a block that starts again take the place of itself: there is one ticker."""
        before = self._running.get(region)
        if before is not None:
            before.stop()
        self._running[region] = controller
        self._begin(controller)

    def _begin(self, controller: Controller) -> None:
        if self._engine.ending is None:
            controller.begin()
        else:
            controller.stop()  # the Node is closing

    def stop(self) -> None:
        """Let no block open another frame; those that are open go on."""
        live = (frame.controller for frame in self._engine.frames.values())
        started = {id(one): one for one in (*self._running.values(), *live) if one is not None}
        for controller in started.values():
            if not controller.stopped:
                controller.stop()

    def listen(self, topic: str, block: On) -> None:
        """Tell a block of the events of a topic."""
        listening = self._topics.setdefault(topic, [])
        listening[:] = [one for one in listening if not one.stopped]
        listening.append(block)

    def listening(self, topic: str) -> list[On]:
        """Return the blocks that listen to a topic."""
        return [one for one in self._topics.get(topic, ()) if not one.stopped]

    def publish(self, topic: str, value: Any) -> int:
        """Hand an event to the blocks that listen; returns how many do.

        Raises:
            InvalidInput: The event is not of the type that a block declares.
        """
        listening = self.listening(topic)
        for block in listening:
            wrong = fits(value, block.type, self._engine.post.codecs)
            if wrong:
                raise InvalidInput(
                    f"the event for topic {topic!r} is {wrong}", expected=str(block.type)
                )
        for block in listening:
            block.event(frozen(value))
        return len(listening)

    def started(self) -> tuple[dict[str, Controller], dict[str, list[On]]]:
        """Return what ticks or listens, by region and by topic."""
        return self._running, self._topics

    def replace(self, running: dict[str, Controller], topics: dict[str, list[On]]) -> None:
        """Let other blocks be those that have started."""
        self._running, self._topics = running, topics

    def announce(self, topic: str, value: Any) -> None:
        """Hand an event of the program to the blocks that listen.

        One that nobody listens to is counted, and reported when it is the first of its topic.

        Raises:
            InvalidInput: The event is not of the type that a block declares.
        """
        if self.publish(topic, value):
            return
        counted = f"events_unheard.{topic}"
        if counted not in self._engine.counters:
            self._engine.drop("event_unheard", None, topic)
        self._engine.counters[counted] += 1

    def clear(self) -> None:
        """Forget all blocks that have started."""
        self._running.clear()
        self._topics.clear()

    def limit(self, info: BlockInfo) -> None:
        """Set how many frames of a block's region run at a time."""
        bound = self._engine.regions[info.region]
        facts = info.op.attributes
        overlap = facts.get("overlap", "queue")
        bound.skips = overlap == "skip"
        bound.limit = int(facts.get("width", 1))
        if overlap == "parallel":
            bound.limit = self._engine.options.max_frames
