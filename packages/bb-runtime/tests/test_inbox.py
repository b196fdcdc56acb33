"""The inbox: what comes in from other threads is never lost, nor is the wakeup for it."""

import gc
import threading
from collections import Counter
from typing import Any

from bb_runtime._deferred import Work
from bb_runtime.inbox import Completion, Inbox


def completion(value: Any = None) -> Completion:
    return Completion(Work(None), value, None)


def test_completions_come_out_in_the_order_in_which_they_came_in():
    inbox = Inbox()
    for value in range(5):
        inbox.put(completion(value))

    assert len(inbox) == 5
    assert [one.value for one in inbox.drain()] == [0, 1, 2, 3, 4]
    assert len(inbox) == 0
    assert inbox.drain() == []


def test_what_comes_in_after_arming_wakes_once():
    inbox, woken = Inbox(), Counter[str]()
    inbox.arm(lambda: woken.update(["up"]))
    assert not woken

    inbox.put(completion())
    inbox.put(completion())

    assert woken["up"] == 1


def test_what_came_in_before_arming_wakes_at_once():
    inbox, woken = Inbox(), Counter[str]()
    inbox.put(completion())

    inbox.arm(lambda: woken.update(["up"]))
    assert woken["up"] == 1

    inbox.put(completion())
    assert woken["up"] == 1


def test_what_wakes_is_there_when_the_callback_looks():
    inbox, seen = Inbox(), list[int]()

    inbox.arm(lambda: seen.append(len(inbox)))
    inbox.put(completion())

    assert seen == [1]


def test_a_callback_takes_the_place_of_the_one_before():
    inbox, woken = Inbox(), Counter[str]()
    inbox.arm(lambda: woken.update(["first"]))
    inbox.arm(lambda: woken.update(["second"]))

    inbox.put(completion())

    assert woken == {"second": 1}


def test_a_callback_may_put_and_arm_itself():
    """A callback is called with nothing held, so it may use the inbox."""
    inbox, woken = Inbox(), Counter[str]()

    def wake() -> None:
        woken["up"] += 1
        if woken["up"] < 3:
            inbox.put(completion())
            inbox.arm(wake)

    inbox.arm(wake)
    inbox.put(completion())

    assert woken["up"] == 3
    assert len(inbox) == 3


def test_garbage_that_is_collected_inside_the_inbox_does_no_harm():
    """A lost handle completes wherever Python collects it: also in the middle of a method here."""
    inbox, seen = Inbox(), list[str]()

    class Lost:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            inbox.put(completion("lost"))

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(300):
            Lost()
            inbox.put(completion("put"))
            inbox.arm(lambda: None)
            seen += [one.value for one in inbox.drain()]
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    seen += [one.value for one in inbox.drain()]

    assert Counter(seen) == {"lost": 300, "put": 300}


def test_no_wakeup_is_lost_between_the_last_drain_and_the_sleep():
    """A host that arms, drains, and sleeps only when nothing came always wakes."""
    inbox, total = Inbox(), 20_000
    start = threading.Barrier(3)

    def produce(first: int) -> None:
        start.wait()
        for value in range(first, total, 2):
            inbox.put(completion(value))

    threads = [threading.Thread(target=produce, args=(first,)) for first in (0, 1)]
    for thread in threads:
        thread.start()
    start.wait()
    seen: list[int] = []
    while len(seen) < total:
        awake = threading.Event()
        inbox.arm(awake.set)
        if found := inbox.drain():
            seen += [one.value for one in found]
            continue
        assert awake.wait(10), "a completion came in and nobody was woken"
    for thread in threads:
        thread.join()

    assert sorted(seen) == list(range(total))
    for first in (0, 1):
        own = [value for value in seen if value % 2 == first]
        assert own == sorted(own)
