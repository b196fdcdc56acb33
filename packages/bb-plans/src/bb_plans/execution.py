"""Carries plans out without doing anything itself: a plan in, moves out, their ends in.

An `Execution` does no I/O, reads no clock and starts no thread. Whoever drives it asks `ready` for
moves, makes them in whatever way and order, and tells `finish` how each ended; the time is an
argument. So the same execution serves threads, an event loop and a simulated clock.

    execution = Execution(plan, now_ns)
    while not execution.over:
        for move in execution.ready(now_ns):
            ...                                   # move.length bytes from move.src to move.dst
            execution.finish(move, now_ns, digests={index: what_arrived})

Every op ends in exactly one state, and an op with a digest is done only when the digest of what
arrived was told and is the same.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from bb_ir.plan import (
    CachePlan,
    Digest,
    InvalidPlan,
    SwapPlan,
    check,
    content_digest,
    digest_text,
)
from bb_plans._contents import NEVER_NS, group_of, old_chunks, window_of
from bb_plans._order import LANE, NEEDED, neighbours, order_of
from bb_plans.errors import DigestMismatch, UnknownMove
from bb_plans.throttles import Buckets, Throttle
from bb_roles.executor import OpReport, OpState, Progress, Report

__all__ = ["Execution", "Move", "check_arrived"]

_LONGEST_PAUSE_NS: Final = 10**9


class Move(NamedTuple):
    """Bytes to be moved at once: those of one op, or of several that lie side by side.

    Attributes:
        number: Its number in the execution; each has another one.
        ops: Indices of the ops, in the order of their bytes.
        src: Where the bytes come from; another place than in the plan when that one failed.
        src_offset: First byte there.
        dst: Where they go.
        dst_offset: First byte there.
        length: How many arrive.
        reads: How many are read; another number than `length` when there is a codec.
    """

    number: int
    ops: tuple[int, ...]
    src: str
    src_offset: int
    dst: str
    dst_offset: int
    length: int
    reads: int


class Execution:
    """One plan, being carried out.

    Args:
        plan: The plan.
        now_ns: The time, in nanoseconds of Unix time, as everywhere here.
        done: Indices of ops that are done already, as `Report.done` tells them.
        throttles: How many bytes may move in which time.
        lanes: Most moves at once to one tier of a node, or to one scheme.
        retries: How often an op is tried again, after each of its sources was tried once.
        budget: How often ops are tried again in all.
        pause_ns: How long an op waits before it is tried again; twice as long each time.
        alternatives: Other places that have the bytes of a source, at the same offset, by the
            source's place.
        drop_late: Whether an op is dropped when its deadline is over before it begins; else it is
            done, and reported as late.
        fail_fast: Whether the plan is given up when an op fails; `None` for swaps only, as half a
            swap is of no use.
        coalesce: Most bytes that ops side by side are moved in at once; 0 for one op at a time.
        checked: Whether the plan was held against `bb_ir.plan.check` already.
        digest: Content digest of the plan as text, where it is known; the report has it.

    Raises:
        InvalidPlan: The plan is not sound.
    """

    def __init__(
        self,
        plan: CachePlan | SwapPlan,
        now_ns: int,
        *,
        done: Collection[int] = (),
        throttles: Sequence[Throttle] = (),
        lanes: int = 4,
        retries: int = 2,
        budget: int = 64,
        pause_ns: int = 10_000_000,
        alternatives: Mapping[str, Sequence[str]] | None = None,
        drop_late: bool = False,
        fail_fast: bool | None = None,
        coalesce: int = 8 << 20,
        checked: bool = False,
        digest: str = "",
    ) -> None:
        if not checked:
            check(plan)
        self.plan, self._ops, self._started = plan, plan.ops, now_ns
        count = len(self._ops)
        self._order = order_of(self._ops, old_chunks(plan))
        if self._order.never:
            raise InvalidPlan(
                f"ops[{self._order.never[0]}] waits for itself",
                expected="deps and lanes without a circle",
                fix="make another plan",
            )
        swap = isinstance(plan, SwapPlan)
        self._fail_fast = swap if fail_fast is None else fail_fast
        self._start, self._deadline = window_of(plan)
        self._lanes, self._retries, self._budget = max(1, lanes), retries, budget
        self._pause, self._drop_late, self._coalesce = pause_ns, drop_late, coalesce
        self._alternatives = alternatives or {}
        self._buckets = Buckets(throttles, now_ns)
        self._waits = list(self._order.waits)
        self._states = [OpState.PENDING] * count
        self._attempts = [0] * count
        self._began, self._ended = [0] * count, [0] * count
        self._errors, self._sources = [""] * count, [""] * count
        self._next = neighbours(self._ops)
        self._queued = [False] * count
        self._queues: dict[tuple[str, tuple[int, ...]], list[tuple[int, int, int]]] = {}
        self._class = self._classes()
        self._busy: dict[str, int] = {}
        self._paused: list[tuple[int, int]] = []
        self._flying: dict[int, Move] = {}
        self._moves = 0
        self._left, self._done = count, 0
        self._nbytes, self._bytes_done = sum(op.length for op in self._ops), 0
        self._reason, self._finished = "", 0
        self._plan_digest = digest
        for index in range(count):
            if not self._waits[index]:
                self._queues.setdefault(self._class[index], []).append(self._turn(index))
                self._queued[index] = True
        for queue in self._queues.values():
            heapq.heapify(queue)
        for index in sorted(set(done)):
            if 0 <= index < count:
                self._end(index, OpState.DONE, now_ns)
        self._finished = 0 if self._left else now_ns

    # --- what there is to do

    @property
    def over(self) -> bool:
        """Whether every op is over, and no move is under way."""
        return not self._left

    def ready(self, now_ns: int) -> tuple[Move, ...]:
        """Return the moves that can begin now; each must be told of to `finish`."""
        self._expire(now_ns)
        if self._reason or not self._left or now_ns < self._start:
            return ()
        self._buckets.refill(now_ns)
        while self._paused and self._paused[0][0] <= now_ns:
            index = heapq.heappop(self._paused)[1]
            if self._states[index] is OpState.PENDING:
                self._queue(index)
        found: list[Move] = []
        for (group, buckets), queue in list(self._queues.items()):
            found.extend(self._take(group, buckets, queue, now_ns))
        return tuple(found)

    def wakes_ns(self, now_ns: int) -> int | None:
        """Return when `ready` has more although no move ends before; `None` for never."""
        if self._reason or not self._left:
            return None
        if now_ns < self._start:
            return min(self._start, self._deadline)
        found = [self._deadline] if self._deadline < NEVER_NS else []
        found += [self._paused[0][0]] if self._paused else []
        for (group, buckets), queue in self._queues.items():
            if queue and self._busy.get(group, 0) < self._lanes:
                size = self._ops[queue[0][2]].length
                found.append(now_ns + self._buckets.enough_in_ns(buckets, size))
        return max(now_ns, min(found)) if found else None

    # --- how moves end

    def finish(
        self,
        move: Move,
        now_ns: int,
        *,
        failures: Mapping[int, str] | None = None,
        digests: Mapping[int, Digest] | None = None,
    ) -> None:
        """Take note that a move ended.

        Args:
            move: The move, as `ready` gave it.
            now_ns: The time.
            failures: Why ops of it failed, by their indices; all others succeeded.
            digests: Digests of what arrived, by the indices of the ops; needed for each op that has
                a digest in the plan and did not fail.

        Raises:
            UnknownMove: It is not under way.
        """
        if self._flying.get(move.number) != move:
            raise UnknownMove(
                f"move {move.number} is not under way",
                expected="a move that `ready` gave and that was not told of before",
            )
        group = self._class[move.ops[0]][0]
        self._busy[group] -= 1
        again = False
        for index in move.ops:
            op = self._ops[index]
            if again and op.lane:
                self._attempts[index] -= 1  # it was not its turn
                continue
            why = failures.get(index, "") if failures else ""
            if not why and op.digest is not None:
                why = self._wrong(op.digest, digests.get(index) if digests else None)
            if not why:
                self._end(index, OpState.DONE, now_ns)
                continue
            again = self._retry(index, why, now_ns, alone=len(move.ops) == 1) or again
        del self._flying[move.number]
        for index in move.ops if self._reason else ():
            if self._states[index] is OpState.PENDING:  # it would have been tried again
                self._end(index, OpState.CANCELLED, now_ns, self._errors[index])
        self._expire(now_ns)

    def cancel(self, now_ns: int, reason: str = "cancelled") -> None:
        """Begin no more moves; those under way still have to be finished."""
        if self._left:
            self._give_up(now_ns, reason)

    def _give_up(self, now_ns: int, reason: str) -> None:
        if self._reason:
            return
        self._reason = reason
        flying = {index for move in self._flying.values() for index in move.ops}
        for index, state in enumerate(self._states):
            if state is OpState.PENDING and index not in flying:
                self._over(index, OpState.CANCELLED, now_ns, self._errors[index])

    # --- what has become of it

    def progress(self) -> Progress:
        """Return how far it is."""
        over = len(self._ops) - self._left
        return Progress(over, self._done, len(self._ops), self._bytes_done, self._nbytes)

    def report(self) -> Report:
        """Return what has become of every op so far."""
        if not self._plan_digest:
            self._plan_digest = digest_text(content_digest(self.plan))
        columns = zip(
            self._ops, self._states, self._attempts, self._sources, self._began, self._ended,
            self._errors, strict=True,
        )  # fmt: skip
        reports = tuple(
            OpReport(
                index, op.op_id, state, op.length if state is OpState.DONE else 0, attempts, source,
                began, ended, 0 < op.deadline_ns < ended, error,
            )
            for index, (op, state, attempts, source, began, ended, error) in enumerate(columns)
        )  # fmt: skip
        ended = 0 if self._left else self._finished
        return Report(self._plan_digest, reports, self._started, ended, self._reason)

    # --- beginning

    def _classes(self) -> list[tuple[str, tuple[int, ...]]]:
        """Return for each op whom it shares lanes and quotas with."""
        known: dict[tuple[str, str], tuple[str, tuple[int, ...]]] = {}
        found: list[tuple[str, tuple[int, ...]]] = []
        for op in self._ops:
            key = (op.dst, op.tenant)
            if key not in known:
                known[key] = (group_of(op.dst), self._buckets.of(op))
            found.append(known[key])
        return found

    def _turn(self, index: int) -> tuple[int, int, int]:
        """Return what ops are queued by."""
        op = self._ops[index]
        return -op.priority, op.deadline_ns or NEVER_NS, index

    def _queue(self, index: int) -> None:
        queue = self._queues.setdefault(self._class[index], [])
        heapq.heappush(queue, self._turn(index))
        self._queued[index] = True

    def _take(
        self, group: str, buckets: tuple[int, ...], queue: list[tuple[int, int, int]], now_ns: int
    ) -> Iterator[Move]:
        while queue and self._busy.get(group, 0) < self._lanes and not self._reason:
            index = queue[0][2]
            if not self._queued[index]:  # it went along with another one
                heapq.heappop(queue)
                continue
            op = self._ops[index]
            if self._drop_late and 0 < op.deadline_ns < now_ns:
                heapq.heappop(queue)
                self._queued[index] = False
                self._end(index, OpState.LATE, now_ns, "its deadline was over before it began")
                continue
            if buckets and self._buckets.enough_in_ns(buckets, op.length):
                return
            heapq.heappop(queue)
            yield self._begin(index, group, buckets, now_ns)

    def _begin(self, first: int, group: str, buckets: tuple[int, ...], now_ns: int) -> Move:
        ops = [first]
        op = self._ops[first]
        length = op.length
        while (index := self._along(ops[-1], length)) >= 0:
            more = length + self._ops[index].length
            if buckets and self._buckets.enough_in_ns(buckets, more):
                break
            ops.append(index)
            length = more
        source = self._source(first)
        for index in ops:
            self._queued[index] = False
            self._attempts[index] += 1
            self._began[index], self._sources[index] = now_ns, source
        self._buckets.draw(buckets, length)
        self._busy[group] = self._busy.get(group, 0) + 1
        self._moves += 1
        reads = op.encoded_length if op.codec else length
        move = Move(
            self._moves, tuple(ops), source, op.src_offset, op.dst, op.dst_offset, length, reads
        )
        self._flying[move.number] = move
        return move

    def _along(self, index: int, length: int) -> int:
        """Return the op that can be moved along with one, as its bytes follow; -1 for none."""
        found = self._next[index]
        if found < 0 or self._attempts[index] or self._attempts[found]:
            return -1
        if length + self._ops[found].length > self._coalesce:
            return -1
        if self._states[found] is not OpState.PENDING or self._class[found] != self._class[index]:
            return -1
        # In a lane it may go along with the one that it waits for, and for nothing else.
        in_lane = self._waits[found] == 1 and self._order.after[index].get(found) == LANE
        return found if self._queued[found] or in_lane else -1

    def _source(self, index: int) -> str:
        op = self._ops[index]
        sources = (op.src, *self._alternatives.get(op.src, ()))
        return sources[self._attempts[index] % len(sources)]

    # --- ending

    @staticmethod
    def _wrong(wanted: Digest, found: Digest | None) -> str:
        """Return why what arrived does not count; empty when it does."""
        try:
            check_arrived(wanted, found)
        except DigestMismatch as error:
            return f"{error.code}: {error.found}"
        return ""

    def _retry(self, index: int, why: str, now_ns: int, *, alone: bool) -> bool:
        """Have an op tried again, if it may be; tell whether it will be."""
        self._errors[index] = why
        sources = 1 + len(self._alternatives.get(self._ops[index].src, ()))
        if self._reason or self._attempts[index] >= sources + self._retries or not self._budget:
            self._end(index, OpState.FAILED, now_ns, why)
            if self._fail_fast:
                self._give_up(now_ns, "failed")
            return False
        self._budget -= alone  # ops that failed together are tried apart, on nobody's account
        round_ = (self._attempts[index] - 1) // sources  # another source is asked at once
        more = self._attempts[index] % sources == 0
        pause = min(self._pause << min(round_, 32), _LONGEST_PAUSE_NS) if more else 0
        heapq.heappush(self._paused, (now_ns + pause, index))
        return True

    def _end(self, index: int, state: OpState, now_ns: int, error: str = "") -> None:
        """Note that an op is over, and what that means for those that wait for it."""
        if not self._over(index, state, now_ns, error) or not self._order.after[index]:
            return
        lost: list[int] = []
        ended = [index]
        while ended:
            one = ended.pop()
            for waiting, why in self._order.after[one].items():
                self._waits[waiting] -= 1
                if self._states[waiting] is not OpState.PENDING:
                    continue
                if why & NEEDED and self._states[one] is not OpState.DONE:
                    told = f"it waits for ops[{one}], which is {self._states[one].value}"
                    self._over(waiting, OpState.BLOCKED, now_ns, told)
                    ended.append(waiting)
                elif not self._waits[waiting] and not self._attempts[waiting]:
                    lost.append(waiting)
        for waiting in lost:
            if self._states[waiting] is OpState.PENDING and not self._reason:
                self._queue(waiting)

    def _over(self, index: int, state: OpState, now_ns: int, error: str) -> bool:
        if self._states[index] is not OpState.PENDING:
            return False
        self._states[index], self._ended[index] = state, now_ns
        self._errors[index] = "" if state is OpState.DONE else error
        self._queued[index] = False
        self._left -= 1
        if state is OpState.DONE:
            self._done += 1
            self._bytes_done += self._ops[index].length
        if not self._left:
            self._finished = now_ns
        return True

    def _expire(self, now_ns: int) -> None:
        """Give the plan up when its window is over; also when its last op came too late."""
        if now_ns <= self._deadline or self._reason:
            return
        if self._left:
            self._give_up(now_ns, "deadline")
        elif self._finished > self._deadline:
            self._reason = "deadline"


def check_arrived(wanted: Digest | None, found: Digest | None) -> None:
    """Return when bytes that arrived are those that a plan says.

    Args:
        wanted: Their digest in the plan; `None` when it does not say.
        found: That of what arrived; `None` when nobody looked.

    Raises:
        DigestMismatch: They are others, or may be.
    """
    if wanted is None or found == wanted:
        return
    told = "an unknown digest" if found is None else f"digest {digest_text(found)}"
    raise DigestMismatch(
        f"what arrived has {told} instead of {digest_text(wanted)}",
        fix="fetch it from somebody else",
    )
