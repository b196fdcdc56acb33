"""One reference that readers take and a writer replaces: what is current, and who still uses what.

A reader takes what is current once, and keeps it until it lets go, so that nobody ever sees half of
one and half of another. A writer replaces it by one assignment, and waits for nobody. What was
replaced is let go when its last reader is done.

No I/O here; the lock is held for a few instructions, never while somebody's code runs.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from types import TracebackType
from typing import Generic, TypeVar

__all__ = ["Flip", "Reading"]

T = TypeVar("T")


class _Held(Generic[T]):
    """A value, and how many readers it has."""

    __slots__ = ("readers", "value")

    def __init__(self, value: T) -> None:
        self.value = value
        self.readers = 0


class Flip(Generic[T]):
    """What is current, for any number of readers in any threads.

    Args:
        value: What is current first; `None` for nothing yet.
        free: Called with what was replaced, once nobody reads it, in the thread that was last.
    """

    def __init__(self, value: T | None = None, *, free: Callable[[T], None] | None = None) -> None:
        self._lock = Lock()
        self._free = free
        self._held: _Held[T] | None = None if value is None else _Held(value)
        self._retired: list[_Held[T]] = []

    @property
    def value(self) -> T | None:
        """What is current; `None` when nothing is yet."""
        held = self._held
        return None if held is None else held.value

    def flip(self, value: T) -> None:
        """Make something else current; readers keep what they have."""
        fresh = _Held(value)
        with self._lock:
            old, self._held = self._held, fresh
            if old is None:
                return
            if old.readers:
                self._retired.append(old)
                return
        if self._free is not None:
            self._free(old.value)

    def in_use(self) -> tuple[T, ...]:
        """Return what is current, and what was replaced and is still read."""
        with self._lock:
            held = [*self._retired, *([] if self._held is None else [self._held])]
        return tuple(one.value for one in held)

    def reading(self) -> Reading[T]:
        """Return a context: what is current when it is entered, for as long as it is open.

        Entering it raises a LookupError when nothing is current yet.
        """
        return Reading(self)

    def take(self) -> _Held[T]:
        """Count one more reader of what is current."""
        with self._lock:
            held = self._held
            if held is None:
                raise LookupError("nothing is current yet")
            held.readers += 1
            return held

    def let_go(self, held: _Held[T]) -> None:
        """Count one reader less."""
        with self._lock:
            held.readers -= 1
            if held.readers or held is self._held:
                return
            self._retired.remove(held)
        if self._free is not None:
            self._free(held.value)


class Reading(Generic[T]):
    """One reader's hold of what is current when the context is entered."""

    __slots__ = ("_flip", "_held")

    def __init__(self, flip: Flip[T]) -> None:
        self._flip = flip
        self._held: _Held[T] | None = None

    def __enter__(self) -> T:
        assert self._held is None, "a context is entered once at a time"
        self._held = self._flip.take()
        return self._held.value

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        held, self._held = self._held, None
        assert held is not None
        self._flip.let_go(held)
