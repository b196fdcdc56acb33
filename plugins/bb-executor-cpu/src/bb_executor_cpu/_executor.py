"""The executor: checks plans against the places that there are, and has them carried out."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np

from bb_executor_cpu._mover import Mover
from bb_executor_cpu._tickets import SimulatedTicket, ThreadedTicket
from bb_ir.plan import (
    CachePlan,
    InvalidPlan,
    Plan,
    SwapPlan,
    content_digest,
    digest_text,
)
from bb_plans.execution import Execution
from bb_plans.places import Places, content_of
from bb_plans.throttles import Throttle
from bb_roles import Executor, Report, Ticket, Wave
from bb_roles.errors import BadWave, ExecutorClosed, OutsideWindow
from bb_roles.limits import Limits, check_limits

__all__ = ["CpuConfig", "CpuExecutor"]


@dataclass(frozen=True)
class CpuConfig:
    """How plans are carried out.

    Attributes:
        threads: Moves that are made at once; 0 for one per core, two at least.
        lanes: Moves that are made at once to one tier of a node, or to one scheme.
        retries: How often an op is tried again after each of its sources was tried.
        budget: How often ops of a plan are tried again in all.
        pause: How long an op waits before it is tried again; twice as long each time.
        coalesce: Bytes of ops side by side that are moved at once; 0 for one op at a time.
        drop_late: Whether an op is dropped when its deadline is over before it begins.
        throttles: How many bytes may move in which time.
        alternatives: Other places that have the bytes of a source, by the source's place.
        simulated_rate: Bytes per second of each lane on a simulated clock; 0 for the real one.
        simulated_start: What a simulated clock shows when a plan is submitted.
    """

    threads: Annotated[int, Limits(0, 256)] = 0
    lanes: Annotated[int, Limits(1, 256)] = 4
    retries: Annotated[int, Limits(0, 100)] = 2
    budget: Annotated[int, Limits(0, 1_000_000)] = 64
    pause: Annotated[float, Limits(0, 60, unit="s")] = 0.01
    coalesce: Annotated[int, Limits(0, 1 << 30, unit="bytes")] = 8 << 20
    drop_late: bool = False
    throttles: tuple[Throttle, ...] = ()
    alternatives: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    simulated_rate: Annotated[int, Limits(0, unit="bytes/s")] = 0
    simulated_start: Annotated[int, Limits(0, unit="ns")] = 0

    def __post_init__(self) -> None:
        check_limits(self)


class CpuExecutor(Executor):
    """Moves bytes with threads: files, a store, and arenas that may stand for devices.

    Args:
        config: How.
        places: What places stand for; whoever made it closes it, after the executor.
    """

    Config = CpuConfig

    def __init__(self, config: CpuConfig, places: Places) -> None:
        super().__init__(config, places)
        self._threads = config.threads or max(2, os.cpu_count() or 1)
        self._lock = threading.Lock()
        self._open: set[Ticket] = set()
        self._closed = False
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="bb-hash")
        self._waves = ThreadPoolExecutor(1, thread_name_prefix="bb-wave")
        self._wave: Wave | None = None
        self._weights: Any = None

    # --- plans

    def submit(self, plan: CachePlan | SwapPlan | Plan, *, resume: Report | None = None) -> Ticket:
        """Begin to carry a plan out."""
        self._need_open()
        self.places.check(plan)
        content = content_of(plan)
        mover = Mover(content, self.places, self._pool)
        config: CpuConfig = self.config
        simulated = config.simulated_rate
        now = config.simulated_start if simulated else _clock()
        execution = Execution(
            content,
            now,
            done=() if resume is None else _still_done(resume, content, mover),
            throttles=config.throttles,
            lanes=config.lanes,
            retries=config.retries,
            budget=config.budget,
            pause_ns=int(config.pause * 1e9),
            alternatives=config.alternatives,
            drop_late=config.drop_late,
            coalesce=config.coalesce,
            checked=True,
            digest=plan.plan_id if isinstance(plan, Plan) else "",  # it was checked
        )
        if simulated:
            return SimulatedTicket(execution, mover, start_ns=now, rate=simulated)
        with self._lock:
            self._need_open()
            ticket = ThreadedTicket(execution, mover, self._threads, clock=_clock, over=self._over)
            self._open.add(ticket)
            if ticket.poll():  # it may have been over before it was added
                self._open.discard(ticket)
        return ticket

    def _over(self, ticket: Ticket) -> None:
        self._open.discard(ticket)

    def _need_open(self) -> None:
        if self._closed:
            raise ExecutorClosed("the executor was closed", fix="build another one")

    def close(self) -> None:
        """Cancel what is under way, and wait for it."""
        with self._lock:
            self._closed = True
            tickets = list(self._open)
        for ticket in tickets:
            ticket.cancel()
        for ticket in tickets:
            ticket.wait()
        self._pool.shutdown()
        self._waves.shutdown()

    # --- waves

    def submit_wave(self, wave: Wave, a: Any, b: Any = None) -> Future[Any]:
        """Begin a product of matrices with numpy."""
        self._need_open()
        with self._lock:
            weights = self._weights if b is None else b
        if weights is None:
            raise BadWave("a wave has no weights", fix="give b, or set weights before")
        left = _matrix(a, (wave.bm, wave.bk), "a")
        right = _matrix(weights, (wave.bk, wave.bn), "b")
        with self._lock:
            self._wave = wave
        return self._waves.submit(np.matmul, left, right)

    def set_weights(self, weights: Any, *, token: int) -> None:
        """Set the weights of later waves."""
        with self._lock:
            wave = self._wave
            if wave is None or not wave.swap_begin <= token < wave.swap_end:
                window = (
                    f"{wave.swap_begin} <= token < {wave.swap_end}" if wave else "a wave before"
                )
                raise OutsideWindow(
                    f"weights are to be set at token {token}",
                    expected=window,
                    fix="set them inside the swap window of the wave",
                )
            # A copy: whoever gave them may use the memory for the next ones.
            self._weights = _matrix(weights, (wave.bk, wave.bn), "weights").copy()


def _clock() -> int:
    import time

    return time.time_ns()


def _still_done(report: Report, plan: CachePlan | SwapPlan, mover: Mover) -> set[int]:
    """Return the ops that are done in a report, and whose bytes are there.

    Raises:
        InvalidPlan: It is the report of another plan.
    """
    told = digest_text(content_digest(plan))
    if report.plan != told:
        raise InvalidPlan(
            f"the report is of plan {report.plan[:80]}",
            expected=told,
            fix="resume with a report of the same plan, or without one",
        )
    return {index for index in report.done if index < len(plan.ops) and mover.there(index)}


def _matrix(given: Any, shape: tuple[int, int], name: str) -> Any:
    try:
        found = np.asarray(given, np.float32)
    except (TypeError, ValueError) as error:
        raise BadWave(f"{name} is no matrix: {error}", expected=f"{shape} float32") from None
    if found.shape != shape:
        raise BadWave(f"{name} has shape {found.shape}", expected=str(shape))
    return found
