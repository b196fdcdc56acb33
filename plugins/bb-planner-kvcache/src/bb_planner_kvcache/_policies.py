"""Which page makes room: five policies, each over a whole trace.

Pages are numbered from 0 on, so that what is known of them stands in lists. Every function takes
the trace, how many pages there are, and the room; it returns a byte per request, 1 for a hit.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Literal

__all__ = ["POLICIES", "Policy"]

Policy = Literal["lru", "fifo", "sieve", "s3fifo", "heat"]
_Run = Callable[[list[int], int, int], bytearray]

#: Requests of a page that count in S3-FIFO.
_MOST_COUNT: Final = 3

#: Requests after which a hit counts half, at least.
_SHORTEST: Final = 64


def _lru(trace: list[int], _pages: int, capacity: int) -> bytearray:
    found = bytearray(len(trace))
    held: OrderedDict[int, None] = OrderedDict()
    touch = held.move_to_end
    for at, page in enumerate(trace):
        if page in held:
            touch(page)
            found[at] = 1
            continue
        if len(held) >= capacity:
            held.popitem(last=False)
        held[page] = None
    return found


def _fifo(trace: list[int], pages: int, capacity: int) -> bytearray:
    found = bytearray(len(trace))
    held = bytearray(pages)
    queue: deque[int] = deque()
    for at, page in enumerate(trace):
        if held[page]:
            found[at] = 1
            continue
        if len(queue) >= capacity:
            held[queue.popleft()] = 0
        queue.append(page)
        held[page] = 1
    return found


def _sieve(trace: list[int], pages: int, capacity: int) -> bytearray:
    """Run SIEVE; `newer` and `older` link pages from the oldest one to the newest one."""
    found = bytearray(len(trace))
    held, asked = bytearray(pages), bytearray(pages)
    newer, older = [-1] * pages, [-1] * pages
    oldest = newest = hand = -1
    size = 0
    for at, page in enumerate(trace):
        if held[page]:
            asked[page] = found[at] = 1
            continue
        if size >= capacity:
            hand = oldest if hand < 0 else hand
            while asked[hand]:
                asked[hand] = 0
                hand = newer[hand] if newer[hand] >= 0 else oldest
            before, after = older[hand], newer[hand]
            if before >= 0:
                newer[before] = after
            else:
                oldest = after
            if after >= 0:
                older[after] = before
            else:
                newest = before
            held[hand] = 0
            hand = after
            size -= 1
        older[page], newer[page] = newest, -1
        if newest >= 0:
            newer[newest] = page
        else:
            oldest = page
        newest = page
        held[page] = 1
        size += 1
    return found


def _s3fifo(trace: list[int], pages: int, capacity: int) -> bytearray:
    """Run S3-FIFO; `where` is 1 in the small queue, 2 in the main one, 3 among the ghosts."""
    found = bytearray(len(trace))
    where, count = bytearray(pages), bytearray(pages)
    small: deque[int] = deque()
    main: deque[int] = deque()
    ghosts: OrderedDict[int, None] = OrderedDict()
    few = max(1, capacity // 10)
    most_ghosts = max(1, capacity - few)
    for at, page in enumerate(trace):
        place = where[page]
        if place in (1, 2):
            found[at] = 1
            count[page] = min(count[page] + 1, _MOST_COUNT)
            continue
        if len(small) + len(main) >= capacity:
            if len(small) >= few:
                _leave_small(small, main, ghosts, where, count, most_ghosts=most_ghosts)
            if len(small) + len(main) >= capacity:
                _leave_main(main or small, where, count)
        if where[page] == 3:
            del ghosts[page]
            main.append(page)
            where[page] = 2
        else:
            small.append(page)
            where[page] = 1
        count[page] = 0
    return found


def _leave_small(
    small: deque[int],
    main: deque[int],
    ghosts: OrderedDict[int, None],
    where: bytearray,
    count: bytearray,
    *,
    most_ghosts: int,
) -> None:
    """Send pages on from the small queue until one of them leaves the cache."""
    while small:
        page = small.popleft()
        if count[page] > 1:
            main.append(page)
            where[page], count[page] = 2, 0
            continue
        ghosts[page] = None
        where[page] = 3
        if len(ghosts) > most_ghosts:
            where[ghosts.popitem(last=False)[0]] = 0
        return


def _leave_main(queue: deque[int], where: bytearray, count: bytearray) -> None:
    """Send the first page away that was not asked for since it was looked at last."""
    while True:
        page = queue.popleft()
        if not count[page]:
            where[page] = 0
            return
        count[page] -= 1
        queue.append(page)


def _heat(trace: list[int], pages: int, capacity: int) -> bytearray:
    """Run on decayed hits: instead of all old ones getting less, new ones count more.

    A score only grows, so an entry of the heap is looked at again when it is on top and outdated.
    """
    found = bytearray(len(trace))
    held = bytearray(pages)
    score = [0.0] * pages
    heap: list[tuple[float, int, int]] = []
    came = [0] * pages
    grow = 2.0 ** (1.0 / max(capacity, _SHORTEST))
    worth, size = 1.0, 0
    for at, page in enumerate(trace):
        worth *= grow
        if worth > 1e250:  # all scores get smaller together; what is negligible becomes 0
            score = [one / 1e250 for one in score]
            heap = [(score[one], came[one], one) for _, _, one in heap]
            heapq.heapify(heap)
            worth /= 1e250
        score[page] += worth
        if held[page]:
            found[at] = 1
            continue
        if size >= capacity:
            while True:
                told, turn, victim = heap[0]
                if told == score[victim]:
                    break
                heapq.heapreplace(heap, (score[victim], turn, victim))
            heapq.heappop(heap)
            held[victim] = 0
            size -= 1
        came[page] = at
        heapq.heappush(heap, (score[page], at, page))
        held[page] = 1
        size += 1
    return found


#: The policies by name.
POLICIES: Final[Mapping[Policy, _Run]] = MappingProxyType({
    "lru": _lru, "fifo": _fifo, "sieve": _sieve, "s3fifo": _s3fifo, "heat": _heat,
})  # fmt: skip
