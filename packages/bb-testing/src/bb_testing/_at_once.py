"""Does the same in several threads at once, which take turns as often as Python can."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

__all__ = ["THREADS", "at_once"]

THREADS: Final = 4
_Given = TypeVar("_Given")


def at_once(work: Callable[[_Given], object], given: Sequence[_Given]) -> list[object]:
    """Do the same work for everything that is given, in each of several threads.

    Each thread begins elsewhere, so that what they share is used for different things.

    Returns:
        For each thread the results in the order of what was given, or the exception it ended with.
    """
    found: list[object] = [None] * THREADS
    gate = threading.Barrier(THREADS)

    def run(thread: int) -> None:
        first = thread % len(given)
        gate.wait()
        try:
            later = [work(one) for one in given[first:]]
            found[thread] = [*(work(one) for one in given[:first]), *later]
        except BaseException as error:  # noqa: BLE001  # the test reports it
            found[thread] = error

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    return found
