"""Deadlines fall due in order, and those of ended frames do not pile up."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from bb_runtime._frames import ENDED, LIVE
from bb_runtime._timers import _SLACK, Timers


class Held:
    """Something with a state, equal to itself alone."""

    def __init__(self, state: int) -> None:
        self.state = state


def frame(state: int = LIVE) -> Held:
    return Held(state)


@given(st.lists(st.integers(0, 20), max_size=50))
def test_instants_fall_due_in_order_and_equal_ones_in_order_of_creation(instants):
    timers = Timers()
    frames = [frame() for _ in instants]
    for when, one in zip(instants, frames, strict=True):
        timers.set(when, one)
    found = []
    while timers.next() is not None:
        found.append(timers.pop())
    order = sorted(range(len(instants)), key=lambda n: (instants[n], n))
    assert [(when, frames.index(one)) for when, one, _ in found] == [
        (instants[n], n) for n in order
    ]


def test_what_ended_is_passed_over():
    timers = Timers()
    timers.set(1, frame(ENDED))
    timers.set(2, frame(), SimpleNamespace(fired=True))
    timers.set(3, frame())
    assert len(timers) == 1
    assert timers.next() == 3


def test_timers_of_ended_frames_do_not_pile_up():
    timers = Timers()
    for when in range(10 * _SLACK):
        timers.set(when, frame(ENDED))
    assert len(timers.heap) <= _SLACK + 1
    assert timers.next() is None


def test_many_live_timers_are_kept_without_sorting_them_every_time():
    timers = Timers()
    one = frame()
    for when in range(5 * _SLACK):
        timers.set(when, one)
    assert len(timers) == 5 * _SLACK
    assert timers._limit > 5 * _SLACK


def test_the_ticks_of_a_block_that_stopped_are_passed_over():
    timers = Timers()
    block, stopped = SimpleNamespace(stopped=False), SimpleNamespace(stopped=True)
    timers.tick(1, stopped)
    timers.tick(3, block)
    timers.set(2, frame())
    assert len(timers) == 2
    assert timers.next() == 2
    timers.pop()
    assert timers.next() == 3
    assert timers.pop() == (3, None, block)
    assert timers.next() is None


def test_nothing_falls_due_once_all_was_forgotten():
    timers = Timers()
    timers.set(1, frame())
    timers.tick(2, SimpleNamespace(stopped=False))
    timers.clear()
    assert timers.next() is None
    assert len(timers) == 0
