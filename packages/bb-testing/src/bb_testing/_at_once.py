"""Does the same in several threads at once, which take turns as often as Python can."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

__all__ = ["THREADS", "at_once", "in_threads"]

THREADS: Final = 4
_Given = TypeVar("_Given")
_Result = TypeVar("_Result")


def in_threads(
    work: Callable[[int], _Result], threads: int = THREADS
) -> list[_Result | BaseException]:
    """Do work in several threads that begin together; each is given its number.

    Returns:
        For each thread what its work gave, or the exception it ended with.
    """
    found: dict[int, _Result | BaseException] = {}
    gate = threading.Barrier(threads)

    def run(number: int) -> None:
        try:
            gate.wait()
            found[number] = work(number)
        except BaseException as error:  # noqa: BLE001  # the test reports it
            found[number] = error

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        started = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    return [found[number] for number in range(threads)]


def at_once(
    work: Callable[[_Given], _Result], given: Sequence[_Given]
) -> list[list[_Result] | BaseException]:
    """Do the same work for everything that is given, in each of several threads.

    Each thread begins elsewhere, so that what they share is used for different things.

    Returns:
        For each thread the results in the order of what was given, or the exception it ended with.
    """

    def run(thread: int) -> list[_Result]:
        first = thread % len(given)
        later = [work(one) for one in given[first:]]
        return [*(work(one) for one in given[:first]), *later]

    return in_threads(run)
