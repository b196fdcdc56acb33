"""The end of a Node, from `close` to its last step.

A Node that closes starts nothing new: what waits in line is cancelled, blocks stop, bootstraps end,
and envelopes that would open a root frame are refused. Frames in flight go on as ever, answers to
them are taken, and deferred work may come back, until all is done or the time is over. Then what is
left is cancelled, peers are told, components are closed, and `Closed` is the last step.

Peers hear `Leaving` at the end and not before: who is told so sends nothing more, and frames in
flight may still need answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bb_ir.wire import Leaving
from bb_runtime._components import close_all
from bb_runtime._frames import ENDED
from bb_runtime.steps import Closed

if TYPE_CHECKING:
    from bb_runtime._frames import Frame
    from bb_runtime._snapshot import Parts

__all__ = ["Ending"]

#: How frames end that a Node cancels because it closes.
_REASON = "closing"


class Ending:
    """How one Node ends.

    Attributes:
        alarm_ns: When the time is over; -1 for never.
        dropped: What was refused or dropped since it began.
        over: Whether the last step was told.
    """

    def __init__(self, node: Parts) -> None:
        self._node = node
        self._engine = node.engine
        #: How frames had ended before, and how often.
        self._before = self._ended()
        self.alarm_ns = -1
        self._left_ns = 0
        self.dropped = 0
        self.over = False

    def begin(self) -> None:
        """Let nothing new start; the engine knows that it closes."""
        engine = self._engine
        engine.controllers.stop()
        for bound in engine.bounds:
            line = tuple(bound.queue)
            bound.queue.clear()
            self._cancel(line)
        roots = [frame for frame in engine.frames.values() if frame.parent is None]
        self._cancel([frame for frame in roots if frame.bound.bootstrap])
        self._node.admission.close(answers=False)
        if engine.paused:
            engine.resume()  # what is in flight is to come to its end
        engine.tidy()

    def give(self, within_ns: int) -> None:
        """Give what is in flight so much time, or less if less was given before."""
        when = self._engine.now_ns + within_ns
        if self.alarm_ns < 0 or when < self.alarm_ns:
            self.alarm_ns = when
            self._engine.alarms.set(when, self)

    def look(self) -> None:
        """Come to the end if nothing is in flight any more."""
        engine = self._engine
        if not (self.over or engine.frames or engine.works.open or engine.post.retries.open):
            self.finish()

    def finish(self) -> list[Exception]:
        """Come to the end at once; return what components raised that could not be closed."""
        engine = self._engine
        if self.over:
            return []
        works = engine.works.open
        if not engine.broken:  # else nobody knows in what state it is
            self._cancel([f for f in engine.frames.values() if f.parent is None])
            self._node.admission.close(answers=True)
            engine.tidy()
            self._let_peers_go()
        errors = close_all(self._node.components.values())
        for error in errors:
            engine.drop(f"close_failed.{type(error).__name__}", None, "")
        engine.steps.append(self._closed(works))
        self.over = True
        engine.close()
        return errors

    def _cancel(self, frames: Sequence[Frame]) -> None:
        for frame in frames:
            if frame.state != ENDED:
                self._engine.end(frame, "cancelled", _REASON)

    def _let_peers_go(self) -> None:
        """Let peers offer what they kept, to be refused, and tell all that the Node leaves."""
        engine = self._engine
        for record in tuple(engine.pressure.paused.values()):
            engine.pressure.let_go(record)
        for peer, record in engine.peers.records.items():
            met = record.heard_ns >= 0 or record.bytes_out
            if met and engine.gathers.talks_to(peer):
                engine.post.control(peer, Leaving())

    def _ended(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for (_, _, how), count in self._engine.metrics.ended.items():
            found[how] += count
        return found

    def _closed(self, works: int) -> Closed:
        ended = self._ended()
        ended.subtract(self._before)
        finished, cancelled = ended.pop("done", 0), ended.pop("cancelled", 0)
        return Closed(finished, ended.total(), cancelled, self.dropped, works)

    # Snapshots

    def state(self) -> dict[str, Any]:
        """Return it as plain data."""
        left = self.alarm_ns - self._engine.now_ns
        return {"left_ns": left, "dropped": self.dropped, "before": dict(self._before)}

    @classmethod
    def of_state(cls, node: Parts, state: Mapping[str, Any]) -> Ending:
        """Return the end of a Node that was written down while it closed."""
        made = cls(node)
        made.dropped = int(state["dropped"])
        made._before = Counter({str(how): int(count) for how, count in state["before"].items()})
        made._left_ns = int(state["left_ns"])
        return made

    def go_on(self) -> None:
        """Take the place of what was written down, on the clock as it is now."""
        self.give(self._left_ns)
