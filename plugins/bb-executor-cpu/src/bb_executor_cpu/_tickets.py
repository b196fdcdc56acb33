"""Plans under way: by threads and the clock of the system, or at once on a simulated clock."""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from bb_executor_cpu._mover import Mover
from bb_plans.execution import Execution, Move
from bb_roles import Progress, Report, Ticket
from bb_roles.errors import NotFinished

__all__ = ["SimulatedTicket", "ThreadedTicket"]

#: Threads look at the clock at least this often, as it may be set.
_LONGEST_WAIT_S = 1.0


class ThreadedTicket(Ticket):
    """A plan that threads carry out.

    Args:
        execution: The plan.
        mover: What makes its moves.
        threads: How many threads; each makes one move at a time.
        clock: Nanoseconds of Unix time.
        over: Called once, when all ops are over.
    """

    def __init__(
        self,
        execution: Execution,
        mover: Mover,
        threads: int,
        *,
        clock: Callable[[], int] = time.time_ns,
        over: Callable[[Ticket], None],
    ) -> None:
        self._execution, self._mover, self._clock, self._over = execution, mover, clock, over
        self._changed = threading.Condition()
        self._todo: deque[Move] = deque()
        self._closed = False
        for number in range(min(threads, max(1, len(execution.plan.ops)))):
            threading.Thread(target=self._work, name=f"bb-mover-{number}", daemon=True).start()

    def poll(self) -> bool:
        """Tell whether all ops are over."""
        return self._closed

    def wait(self, timeout_s: float | None = None) -> Report:
        """Return the final report."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._closed, timeout_s):
                done = self._execution.progress()
                raise NotFinished(
                    f"after {timeout_s} s {done.ops_over} of {done.ops} ops are over",
                    fix="wait longer, or cancel the plan",
                )
            return self._execution.report()

    def cancel(self) -> None:
        """Begin no more moves."""
        with self._changed:
            self._execution.cancel(self._clock())
            self._changed.notify_all()

    def progress(self) -> Progress:
        """Return how far the plan is."""
        with self._changed:
            return self._execution.progress()

    def report(self) -> Report:
        """Return what has become of every op so far."""
        with self._changed:
            return self._execution.report()

    def _work(self) -> None:
        while (move := self._next()) is not None:
            outcome = self._mover.make(move)
            with self._changed:
                self._execution.finish(
                    move, self._clock(), failures=outcome.failures, digests=outcome.digests
                )
                self._changed.notify_all()

    def _next(self) -> Move | None:
        """Return the next move, waiting until there is one; `None` when all are over."""
        with self._changed:
            while not self._todo:
                now = self._clock()
                self._todo.extend(self._execution.ready(now))
                if self._execution.over:
                    self._end()
                    return None
                if not self._todo:
                    wakes = self._execution.wakes_ns(now)
                    longest = _LONGEST_WAIT_S
                    pause = longest if wakes is None else min(longest, (wakes - now) / 1e9)
                    self._changed.wait(pause)
            if len(self._todo) > 1:
                self._changed.notify()
            return self._todo.popleft()

    def _end(self) -> None:
        if self._closed:
            return
        with suppress(OSError):  # what is left of a blob is removed when the store is opened
            self._mover.close()
        self._closed = True
        self._over(self)
        self._changed.notify_all()


class SimulatedTicket(Ticket):
    """A plan that was carried out at once, in the time of a simulated clock.

    Bytes really move; only time is made up: a move takes its bytes divided by the rate. The same
    plan gives the same report.

    Args:
        execution: The plan.
        mover: What makes its moves.
        start_ns: What the clock shows at first.
        rate: Bytes per second that each lane moves.
    """

    def __init__(self, execution: Execution, mover: Mover, *, start_ns: int, rate: int) -> None:
        self._execution = execution
        now: int | None = start_ns
        under_way: list[tuple[int, int, Move]] = []
        while now is not None and not execution.over:
            for move in execution.ready(now):
                takes = max(1, move.reads * 10**9 // rate)
                heapq.heappush(under_way, (now + takes, move.number, move))
            wakes = execution.wakes_ns(now)
            if under_way and (wakes is None or under_way[0][0] <= wakes or wakes <= now):
                now, _, move = heapq.heappop(under_way)
                outcome = mover.make(move)
                execution.finish(move, now, failures=outcome.failures, digests=outcome.digests)
            elif not execution.over:
                # The deadline is over one nanosecond after it.
                now = wakes if wakes is None or wakes > now else now + 1
        mover.close()
        self._report = execution.report()

    def poll(self) -> bool:
        """Tell that all ops are over."""
        return True

    def wait(self, timeout_s: float | None = None) -> Report:
        """Return the final report."""
        return self._report

    def cancel(self) -> None:
        """Do nothing: all ops are over."""

    def progress(self) -> Progress:
        """Return how far the plan is."""
        return self._execution.progress()

    def report(self) -> Report:
        """Return what has become of every op."""
        return self._report
