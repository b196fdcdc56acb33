"""Plans carried out: by an executor, into a store; or only in virtual time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bb_ir.plan import (
    CachePlan,
    Digest,
    InvalidPlan,
    Plan,
    PlanFormatError,
    Problem,
    SwapPlan,
    check,
    parse_digest,
)
from bytesandbrains.plans._errors import PlanLacks
from bytesandbrains.plans._making import executor

if TYPE_CHECKING:
    from bb_plans.store import Store
    from bb_roles import Progress, Report

__all__ = ["Carried", "carry_out", "rehearse", "simulated"]

#: How often progress is told, in seconds.
_BEAT_S = 0.1
#: Schemes of places that are memory of this process.
_MEMORY = ("mem", "device")


@dataclass(frozen=True, slots=True)
class Carried:
    """A plan that was carried out.

    Attributes:
        report: What became of its ops.
        root: Root of the version that it led to, in the store; `None` for plans of caches, and
            without a store.
        epoch: Epoch of the commit; 0 where it was staged only, and without a root.
        arenas: What arrived in memory, by place.
        there: Bytes of ops whose blobs the store had before, and which were not moved again.
    """

    report: Report
    root: Digest | None
    epoch: int
    arenas: Mapping[str, memoryview]
    there: int = 0


def carry_out(
    plan: Plan | SwapPlan | CachePlan,
    *,
    files: Path | None = None,
    store: Path | None = None,
    commit: bool = True,
    epoch: int = 0,
    name: str = "cpu",
    settings: Mapping[str, Any] | None = None,
    arenas: Mapping[str, Any] | None = None,
    resume: Report | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Carried:
    """Carry a plan out; of a swap into a store, commit the version that it leads to.

    Nothing moves before the plan was checked against the places here. When an op fails, or this is
    interrupted, what is served stays what it was, and what arrived in the store is not fetched
    again. What is served already is not committed once more, unless an epoch is given.

    Args:
        plan: The plan.
        files: Folder that `file://` places are below.
        store: Folder of the store that `cas://` places are in; made if it is not there.
        commit: Whether a swap is committed when all of it is there, or staged only.
        epoch: Epoch of the commit; 0 for the next one.
        name: Name of the executor.
        settings: Its configuration.
        arenas: Memory for `mem://`, `device://` and `tier://` places; what is not given of the
            first two is made.
        resume: What became of the same plan before.
        progress: Called now and then with how far it is.

    Raises:
        InvalidPlan: The plan cannot be carried out here; nothing was moved.
        PlanFailed: An op failed; the error has the report. Nothing was committed.
        PlanLacks: A place of the plan needs `files` or `store`, and there is none.
        StoreError: The store refused; nothing was committed.
    """
    from bb_plans.places import Places

    content = _content(plan)
    _need(content, files, store, arenas or {})
    with ExitStack() as opened:
        held = None if store is None else opened.enter_context(_store(store))
        memory = {**_sizes(content), **(arenas or {})}
        places = Places(files=files, store=held, arenas=memory)
        opened.callback(places.close)
        there = 0 if held is None else _there(content, held)
        with executor(name, places, settings) as running:
            ticket = running.submit(plan, resume=resume)
            try:
                _follow(ticket, progress)
            except BaseException:
                ticket.cancel()
                raise
            report = ticket.wait()
        report.check()
        into = {place: places.arena(place) for place in memory if place not in (arenas or {})}
        if held is None or not isinstance(content, SwapPlan) or content.to is None:
            return Carried(report, None, 0, into, there)
        root, version = held.stage(content.to), held.current
        if not commit:
            return Carried(report, root, 0, into, there)
        if epoch or version is None or version.root != root:
            # After a rollback the largest epoch is not that of the current version.
            version = held.commit(root, epoch or held.fence + 1)
        return Carried(report, root, version.epoch, into, there)


def rehearse(
    plan: Plan | SwapPlan | CachePlan,
    *,
    files: Path | None = None,
    store: Path | None = None,
    arenas: Mapping[str, Any] | None = None,
) -> tuple[Problem, ...]:
    """Return the warnings about a plan that could be carried out here; nothing is changed.

    Raises:
        InvalidPlan: It could not.
        PlanLacks: A place of the plan needs `files` or `store`, and there is none.
    """
    from bb_plans.places import Places, media_of
    from bb_plans.store import Store

    content = _content(plan)
    _need(content, files, store, arenas or {})
    with ExitStack() as opened:
        held = None
        if store is not None:
            if _is_new(store):  # it is not made for this, so nothing can be asked of it
                _need_nothing(content, store)
                return check(plan, media=media_of(content))
            held = opened.enter_context(Store(store, writable=False))
        places = Places(files=files, store=held, arenas={**_sizes(content), **(arenas or {})})
        opened.callback(places.close)
        return places.check(plan)


def simulated(
    plan: Plan | SwapPlan | CachePlan, rate: float, *, lanes: int = 4, start_ns: int = 0
) -> Report:
    """Return what becomes of a plan in virtual time, where nothing fails and nothing is moved.

    Args:
        plan: The plan.
        rate: Bytes per second of each move.
        lanes: Most moves at once to one tier of a node, or to one scheme.
        start_ns: When it begins, in nanoseconds of Unix time; its window, if later.

    Raises:
        InvalidPlan: It is not sound.
    """
    from bb_plans.execution import Execution, Move
    from bb_plans.places import media_of

    content = _content(plan)
    begins = content.now_ns if isinstance(content, CachePlan) else 0
    if isinstance(content, SwapPlan) and content.window is not None:
        begins = content.window.t_start_ns
    start_ns = max(start_ns, begins)
    check(plan, media=media_of(content))
    execution = Execution(content, start_ns, lanes=lanes, checked=True)
    now, flying = start_ns, list[tuple[int, int, Move]]()
    while not execution.over:
        for move in execution.ready(now):
            took = max(1, round(move.reads * 1e9 / rate))
            heapq.heappush(flying, (now + took, move.number, move))
        if flying:
            now, _, done = heapq.heappop(flying)
            digests = {i: d for i in done.ops if (d := content.ops[i].digest) is not None}
            execution.finish(done, now, digests=digests)
            continue
        wakes = execution.wakes_ns(now)
        if wakes is None:
            break
        now = max(now + 1, wakes)
    return execution.report()


def _follow(ticket: Any, progress: Callable[[Progress], None]) -> None:
    from bb_roles.errors import NotFinished

    while True:
        try:
            ticket.wait(_BEAT_S)
        except NotFinished:
            progress(ticket.progress())
        else:
            progress(ticket.progress())
            return


def _content(plan: Plan | SwapPlan | CachePlan) -> SwapPlan | CachePlan:
    from bb_plans.places import content_of

    return content_of(plan)


def _store(folder: Path) -> Store:
    from bb_plans.store import Store

    return Store(folder)


def _is_new(store: Path) -> bool:
    """Tell whether a store would be made in a folder: it is not there, or empty.

    Raises:
        NotAStore: It is something else.
    """
    from bb_plans.errors import NotAStore

    if store.is_dir():
        names = {entry.name for entry in store.iterdir()}
        if names <= {"LOCK"} or "cas" in names:
            return "cas" not in names
        found = f"{str(store)!r} is a folder with {min(names)!r} in it, and no store"
    elif store.exists():
        found = f"{str(store)!r} is a file, and no store"
    else:
        return True
    raise NotAStore(
        found,
        expected="an empty folder, one that does not exist, or a store",
        fix="check the path; a store has a folder of its own",
    )


def _there(plan: SwapPlan | CachePlan, store: Store) -> int:
    """Return the bytes of ops whose blobs a store has."""
    found = 0
    for op in plan.ops:
        scheme, _, name = op.dst.partition("://")
        with suppress(PlanFormatError):  # which the executor tells of
            found += op.length if scheme == "cas" and store.has(parse_digest(name)) else 0
    return found


def _sizes(plan: SwapPlan | CachePlan) -> dict[str, Any]:
    """Return memory for the arenas that a plan writes to, of the size that it needs."""
    import numpy as np

    ends: dict[str, int] = {}
    for op in plan.ops:
        if op.dst.partition("://")[0] in _MEMORY:
            ends[op.dst] = max(ends.get(op.dst, 0), op.dst_offset + op.length)
    return {place: np.zeros(nbytes, np.uint8) for place, nbytes in ends.items()}


def _need(
    plan: SwapPlan | CachePlan,
    files: Path | None,
    store: Path | None,
    arenas: Mapping[str, Any],
) -> None:
    """Check that what the places of a plan are in was given."""
    for index, op in enumerate(plan.ops):
        for place in (op.src, op.dst):
            scheme = place.partition("://")[0]
            if scheme == "file" and files is None:
                raise _lacks(index, place, "a folder of files", "--files FOLDER")
            if scheme == "cas" and store is None:
                raise _lacks(index, place, "a store", "--store FOLDER")
            if scheme == "tier" and place not in arenas:
                raise _lacks(index, place, "files for its tiers", "--tiers FOLDER")
            if place == op.src and isinstance(arenas.get(place), Path):
                _need_file(index, place, arenas[place])


def _need_file(index: int, place: str, file: Path) -> None:
    if not file.is_file():
        raise PlanLacks(
            f"ops[{index}] reads {place!r}, and there is no file {str(file)!r}",
            expected="the file that stands for it",
            fix="check the folder that was given with --tiers",
        )


def _need_nothing(plan: SwapPlan | CachePlan, store: Path) -> None:
    """Check that a plan builds on no version, where there is no store to have one."""
    count = len(plan.shared) if isinstance(plan, SwapPlan) else 0
    if count:
        raise InvalidPlan(
            f"the plan builds on another version: {count:,} chunk{'s'[: count != 1]} of it "
            f"{'is' if count == 1 else 'are'} not here, as there is no store {str(store)!r}",
            expected="the store that has that version",
            fix="check the path, or bring that version first: `bb plan swap none OLD ...`",
        )


def _lacks(index: int, place: str, what: str, option: str) -> PlanLacks:
    return PlanLacks(
        f"ops[{index}] needs {place!r}, and no folder was given for it",
        expected=what,
        fix=f"give it with {option}",
    )
