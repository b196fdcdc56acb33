"""Sleeps: a frame waits until some time has passed.

What sleeps is a value of a frame. It wakes when its instant comes, and never when its frame has
ended before. While it sleeps, its frame holds no slot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bb_runtime._frames import NOTHING, DelayState, Frame

if TYPE_CHECKING:
    from bb_runtime._engine import Engine
    from bb_runtime._program import DelayInfo

__all__ = ["Delays"]


class Delays:
    """The sleeps of one Node's frames."""

    __slots__ = ("_engine",)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def starter(self, info: DelayInfo) -> Callable[..., None]:
        """Return the callable of a sleep."""

        def start(frame: Frame, *value: Any) -> None:
            engine = self._engine
            when = engine.now_ns + info.duration_ns
            state = DelayState(info, when, value[0] if value else None)
            if frame.delays is NOTHING:
                frame.delays = {}
            frame.delays[info.index] = state
            engine.timers.set(when, frame, state)

        return start

    def due(self, frame: Frame, state: DelayState) -> None:
        """Pass a value on: what waited for it goes on."""
        info = state.info
        state.fired = True
        del frame.delays[info.index]
        if info.out >= 0:
            frame.values[info.out] = state.value
        frame.fired |= {info.index}
        self._engine.wake(frame)
        self._engine.touch(frame)
