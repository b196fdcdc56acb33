"""Whose turn it is: round robin over causes, then over frames.

The *cause* of a frame is what its root is charged to: the authenticated peer whose envelope opened
it, all strangers together, or the host, for what was invoked or fell due. Answers are work of the
frame that asked for them. So a peer that sends much delays others by one turn at a time, and a
frame that asked many peers is not served more often than one that asked few.

Two things take turns. Stretches that are ready: one of a cause, then one of the next; of one cause
in turn those of its root frames; of one root frame, children included, first come first. And frames
that stand in line for their region. Nothing here remembers who was served: the order in which
things wait is all there is to know, and a snapshot writes it down.

While no more than one root frame lives, the engine does without this module (`Engine.run`).
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bb_runtime._frames import ENDED, NOTHING, Frame

if TYPE_CHECKING:
    from bb_runtime._peers import Peer

__all__ = ["Turns", "cause_of", "longest_line", "stand_in_line"]

#: A frame, and the index of one of its stretches.
Ready = tuple[Frame, int]
#: Number of a root frame -> its stretches, and those of its children.
_Trees = OrderedDict[int, deque[Ready]]


def cause_of(root: Frame) -> Peer | None:
    """Return what caused a root frame: what it is charged to, or `None` for the host."""
    account = root.account
    return account if account is None else account.group or account


class Turns:
    """Stretches that are ready, where they are of more than one root frame.

    Attributes:
        lanes: By cause, and then by root frame; who is first is next. Empty when nothing waits.
    """

    __slots__ = ("lanes",)

    def __init__(self) -> None:
        # Most Nodes never need one.
        self.lanes: dict[Peer | None, _Trees] = NOTHING

    def __iter__(self) -> Iterator[Ready]:
        """Go over what is ready, such that adding it again in this order changes nothing."""
        for trees in self.lanes.values():
            for line in trees.values():
                yield from line

    def next(self, arrived: list[Ready]) -> Ready | None:
        """Take in what became ready, and return what runs now; `None` when there is nothing."""
        for item in arrived:
            if item[0].state != ENDED:
                self._add(item)
        arrived.clear()
        lanes = self.lanes
        while lanes:
            cause, trees = next(iter(lanes.items()))
            found = _take(trees)
            del lanes[cause]
            if trees:
                lanes[cause] = trees  # behind all others
            if found is not None:
                return found
        self.lanes = NOTHING
        return None

    def regroup(self) -> None:
        """Sort anew, as it has changed what peers are charged to."""
        if self.lanes:
            waiting = deque(self)
            self.lanes = NOTHING
            for item in waiting:
                if item[0].state != ENDED:
                    self._add(item)

    def clear(self) -> None:
        """Forget all of them."""
        self.lanes = NOTHING

    def _add(self, item: Ready) -> None:
        if self.lanes is NOTHING:
            self.lanes = OrderedDict()
        root = item[0].root
        cause, number = cause_of(root), root.number
        # What has ended keeps no place: a snapshot does not know of it.
        trees = self.lanes.get(cause)
        if trees is not None and not _lives(trees):
            del self.lanes[cause]
            trees = None
        if trees is None:
            trees = _Trees()
            self.lanes[cause] = trees
        line = trees.get(number)
        if line is not None and not _goes_on(line):
            del trees[number]
            line = None
        if line is None:
            line = deque[Ready]()
            trees[number] = line
        line.append(item)


def _take(trees: _Trees) -> Ready | None:
    while trees:
        number, line = trees.popitem(last=False)
        if _goes_on(line):
            item = line.popleft()
            if line:
                trees[number] = line
            return item
    return None


def _lives(trees: _Trees) -> bool:
    while trees:
        number, line = next(iter(trees.items()))
        if _goes_on(line):
            return True
        del trees[number]
    return False


def _goes_on(line: deque[Ready]) -> bool:
    while line and line[0][0].state == ENDED:
        line.popleft()
    return bool(line)


def stand_in_line(line: list[Frame], frame: Frame) -> None:
    """Put a root frame in line: its cause's second behind every cause's first, and so on."""
    cause = cause_of(frame)
    if not line or cause_of(line[-1]) is cause or _is_first(line[-1]):
        line.append(frame)
        return
    own = 1 + sum(cause_of(one) is cause for one in line)
    ranks: Counter[Peer | None] = Counter()
    place = 0
    for at, one in enumerate(line, 1):
        other = cause_of(one)
        ranks[other] += 1
        if ranks[other] <= own:
            place = at
    line.insert(place, frame)


def _is_first(frame: Frame) -> bool:
    """Whether there is surely no other frame of the same cause."""
    cause = cause_of(frame)
    return cause is not None and cause.frames == 1


def longest_line(line: list[Frame], frame: Frame) -> Frame:
    """Return who has to go because a line is full: the last one of the cause that has the most."""
    counts = Counter(map(cause_of, line))
    own = cause_of(frame)
    most = max(counts.values(), default=0)
    if counts[own] >= most:
        return frame
    return next(one for one in reversed(line) if counts[cause_of(one)] == most)
