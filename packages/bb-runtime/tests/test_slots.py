"""Who may use which component: in order of arrival, together where all only read, else alone."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb_runtime._slots import Group, Plan, Slots

READ, WRITE = False, True


def group(number: int = 0, uses: int = 1, **wants: bool) -> Group:
    """Return a group that wants components a, b, ... and uses each of them so often."""
    numbers = {ord(name) - ord("a"): alone for name, alone in wants.items()}
    return Group(number, numbers, dict.fromkeys(numbers, uses))


def frame(number: int, *groups: Group) -> Any:
    plans = [Plan(one, tuple(one.wants)) for one in groups]
    return SimpleNamespace(number=number, held={}, bound=SimpleNamespace(plans=plans), groups=plans)


class Queue:
    """Frames of one group each that claim and give back."""

    def __init__(self) -> None:
        self.slots = Slots()
        self.frames: dict[int, Any] = {}

    def claim(self, number: int, **wants: bool) -> bool:
        self.frames[number] = one = frame(number, group(**wants))
        return self.slots.claim(one, 0, one.groups[0])

    def done(self, number: int) -> list[int]:
        """Give back what a frame has; returns the frames whose turn has come."""
        one = self.frames.pop(number)
        self.slots.used(one, one.groups[0])
        return [other.number for other, _ in self.slots.granted()]


def test_one_writes_alone():
    queue = Queue()
    assert queue.claim(1, a=WRITE)
    assert not queue.claim(2, a=WRITE)
    assert not queue.claim(3, a=READ)
    assert queue.claim(4, b=WRITE)

    assert queue.done(1) == [2]
    assert queue.done(2) == [3]
    assert queue.done(4) == []
    assert queue.done(3) == []
    assert queue.slots.idle


def test_all_read_together():
    queue = Queue()
    assert all(queue.claim(number, a=READ) for number in (1, 2, 3))
    assert not queue.claim(4, a=WRITE)

    assert queue.done(2) == []
    assert queue.done(1) == []
    assert queue.done(3) == [4]


def test_readers_do_not_overtake_a_writer_that_waits():
    queue = Queue()
    queue.claim(1, a=READ)
    assert not queue.claim(2, a=WRITE)
    assert not queue.claim(3, a=READ)
    assert not queue.claim(4, a=READ)

    assert queue.done(1) == [2]
    assert queue.done(2) == [3, 4]


def test_nobody_takes_what_somebody_before_waits_for():
    """Who wants two components gets them in turn, however often one of them is free."""
    queue = Queue()
    queue.claim(1, a=WRITE)
    queue.claim(2, b=WRITE)
    assert not queue.claim(3, a=WRITE, b=WRITE)
    assert queue.done(2) == []
    assert not queue.claim(4, b=WRITE)
    assert queue.claim(5, c=WRITE)

    assert queue.done(1) == [3]
    assert queue.done(3) == [4]


def test_each_component_is_given_back_after_its_last_use():
    slots = Slots()
    both = Group(0, {0: WRITE, 1: WRITE}, {0: 1, 1: 2})
    first = frame(1, both)
    assert slots.claim(first, 0, Plan(both, (0, 1)))
    second, third = (frame(n, group(**{c: WRITE})) for n, c in ((2, "a"), (3, "b")))
    for one in (second, third):
        assert not slots.claim(one, 0, one.groups[0])

    slots.used(first, Plan(both, (0, 1)))
    assert [one.number for one, _ in slots.granted()] == [2]
    slots.used(first, Plan(both, (1,)))
    assert [one.number for one, _ in slots.granted()] == [3]
    assert first.held == {}


def test_stretches_of_a_group_in_line_are_granted_together():
    slots = Slots()
    holder, waits = frame(1, group(a=WRITE)), frame(2, group(uses=2, a=WRITE))
    slots.claim(holder, 0, holder.groups[0])
    assert not slots.claim(waits, 0, waits.groups[0])
    assert not slots.claim(waits, 3, waits.groups[0])

    slots.used(holder, holder.groups[0])
    assert slots.granted() == [(waits, 0), (waits, 3)]
    assert slots.claim(waits, 4, waits.groups[0])  # it has what it needs


def test_who_leaves_the_line_lets_those_behind_go_on():
    queue = Queue()
    queue.claim(1, a=READ)
    queue.claim(2, a=WRITE)
    queue.claim(3, a=READ)

    queue.slots.leave(queue.frames[2], [])

    assert [one.number for one, _ in queue.slots.granted()] == [3]


def test_unfinished_work_keeps_its_components_only():
    slots = Slots()
    both = Group(0, {0: WRITE, 1: WRITE}, {0: 2, 1: 1})
    ends = frame(1, both)
    slots.claim(ends, 0, Plan(both, (0, 1)))
    grant, work = ends.held[0], Plan(both, (0,))
    others = [frame(n, group(**{c: WRITE})) for n, c in ((2, "a"), (3, "b"))]
    for one in others:
        slots.claim(one, 0, one.groups[0])

    slots.leave(ends, [(grant, work)])
    assert [one.number for one, _ in slots.granted()] == [3]

    slots.release(grant, work.uses)
    assert [one.number for one, _ in slots.granted()] == [2]


def test_two_works_of_an_ended_frame_share_what_they_keep():
    """A component is free when the last of them has come back, and not taken back twice."""
    slots = Slots()
    shared = group(uses=3, a=READ)
    ends = frame(1, shared)
    slots.claim(ends, 0, Plan(shared, (0,)))
    grant, work = ends.held[0], Plan(shared, (0,))
    writer = frame(2, group(a=WRITE))
    slots.claim(writer, 0, writer.groups[0])

    slots.leave(ends, [(grant, work), (grant, work)])
    slots.release(grant, work.uses)
    assert slots.granted() == []
    slots.release(grant, work.uses)
    assert [one.number for one, _ in slots.granted()] == [2]
    slots.used(writer, writer.groups[0])
    assert slots.idle


def test_an_ended_frame_keeps_a_component_once_however_many_groups_hold_it():
    slots = Slots()
    groups = [group(number, uses=2, a=READ) for number in (0, 1)]
    ends = frame(1, *groups)
    for index, plan in enumerate(ends.groups):
        assert slots.claim(ends, index, plan)

    grant = ends.held[0]
    slots.leave(ends, [(grant, ends.groups[0])])
    slots.release(grant, (0,))

    assert slots.idle


def test_a_call_waits_until_a_component_is_not_held_alone():
    slots, calls = Slots(), list[str]()
    known, stranger = object(), object()
    slots.numbers = {id(known): 0}
    slots.when_free(known, lambda: calls.append("free"))
    slots.when_free(stranger, lambda: calls.append("never held"))
    holder = frame(1, group(a=WRITE))
    slots.claim(holder, 0, holder.groups[0])
    slots.when_free(known, lambda: calls.append("later"))
    assert calls == ["free", "never held"]

    slots.used(holder, holder.groups[0])

    assert calls == ["free", "never held", "later"]
    assert slots.idle


@pytest.mark.parametrize("count", [3_000])
def test_a_long_line_costs_each_of_it_the_same(count):
    """Granting looks at the head of the line: it asks about frames in all, not each time."""
    slots, asked = Slots(), 0

    class Counting(Slots):
        def _free(self, group: Group) -> bool:
            nonlocal asked
            asked += 1
            return super()._free(group)

    slots = Counting()
    line = [frame(number, group(a=WRITE)) for number in range(count)]
    for one in line:
        slots.claim(one, 0, one.groups[0])
    for one in line:
        slots.used(one, one.groups[0])
        slots.granted()

    assert slots.idle
    assert asked < 3 * count


WANTS = st.dictionaries(st.sampled_from("abcd"), st.booleans(), min_size=1)


@given(st.lists(WANTS, max_size=25), st.randoms(use_true_random=False))
def test_any_order_of_giving_back_serves_all(wants: list[dict[str, bool]], random: Any):
    """Nobody shares what is held alone, none overtakes in a line for the same, and all are served.

    Overtaking is judged between two frames that cannot hold their components together.
    """
    queue, waiting, running = Queue(), dict[int, Any](), dict[int, Any]()

    def start(numbers: list[int]) -> None:
        for number in numbers:
            own = waiting.pop(number)
            for other in running.values():
                assert not clash(own, other)
            for earlier, other in waiting.items():
                assert earlier > number or not clash(own, other)
            running[number] = own

    for number, own in enumerate(wants):
        waiting[number] = own
        start([number] if queue.claim(number, **own) else [])
        while running and random.random() < 0.4:
            start(finish(queue, running, random))
    while running:
        start(finish(queue, running, random))

    assert not waiting
    assert queue.slots.idle


def finish(queue: Queue, running: dict[int, Any], random: Any) -> list[int]:
    number = random.choice(sorted(running))
    del running[number]
    return queue.done(number)


def clash(one: dict[str, bool], other: dict[str, bool]) -> bool:
    return any(_clashes(one, other))


def _clashes(one: dict[str, bool], other: dict[str, bool]) -> Iterator[bool]:
    for name in one.keys() & other.keys():
        yield one[name] or other[name]
