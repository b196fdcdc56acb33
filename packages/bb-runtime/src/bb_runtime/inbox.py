"""The one thread-safe entry of a Node: completions of work that was done elsewhere.

A host that sleeps while its Node is quiet arms the inbox before its last `poll`: whatever comes in
from then on calls the wake callback, so no completion is lost between that poll and the sleep.

There is no lock: a handle may be lost, and so complete, wherever Python collects garbage, also in
the middle of any method here. Each step is one operation of a list, which is atomic. (A deque, too,
but one takes 600 bytes, and most Nodes never defer any work.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from bb_runtime._deferred import Work

__all__ = ["Completion", "Inbox"]


class Completion(NamedTuple):
    """What became of one piece of work."""

    work: Work
    value: Any
    error: BaseException | None


class Inbox:
    """Completions on their way to the engine's thread."""

    __slots__ = ("_armed", "items")

    def __init__(self) -> None:
        #: What came in; `drain` takes it out.
        self.items: list[Completion] = []
        #: The wake callback, while nobody has taken it to call it.
        self._armed: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self.items)

    def arm(self, wake: Callable[[], None]) -> None:
        """Have `wake` called once, in whatever thread the next completion comes from.

        It is called at once when something is here already, and takes the place of one that was
        armed before and not called. Only the Node's own thread arms and drains.
        """
        self._armed.clear()
        self._armed.append(wake)
        if self.items:
            self._call()

    def put(self, completion: Completion) -> None:
        """Hand in a completion, from any thread."""
        self.items.append(completion)
        self._call()

    def drain(self) -> list[Completion]:
        """Take everything out, in the order in which it came."""
        found = self.items[:]
        del self.items[: len(found)]  # what came meanwhile stands behind
        return found

    def _call(self) -> None:
        # Items are put before this looks and arm() looks for items after it has put its callback:
        # one of the two sees the other, and only one can pop it.
        try:
            wake = self._armed.pop()
        except IndexError:
            return
        wake()
