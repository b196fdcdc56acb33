"""What a component sees of the engine while one of its methods runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from bb_runtime.errors import OpError
from bb_runtime.steps import FrameId

if TYPE_CHECKING:
    import numpy as np

    from bb_ir.ids import PeerId
    from bb_runtime._deferred import External
    from bb_runtime._engine import Engine
    from bb_runtime._frames import Frame

__all__ = ["OpContext"]


class OpContext:
    """The context of one op of one Node; the op's line sets `frame` before each call."""

    __slots__ = ("_defers", "_engine", "_path", "frame", "state")

    def __init__(self, engine: Engine, path: str, *, defers: bool = False) -> None:
        self._engine = engine
        self._defers = defers
        self._path = path.encode()
        #: Number of the frame that drew last, and how often it has.
        self.state: tuple[int, int] = (-1, 0)
        self.frame: Frame

    @property
    def peer(self) -> PeerId:
        """This Node."""
        return self._engine.peer

    @property
    def sender(self) -> PeerId | None:
        """The authenticated peer whose envelope opened this frame."""
        frame = self.frame
        while frame.block is not None:
            frame = frame.block.frame
        return frame.sender

    @property
    def round(self) -> FrameId:
        """The frame at the end of the line of parents."""
        return self._engine.id_of(self.frame.root)

    @property
    def now_ns(self) -> int:
        """The Node's time."""
        return self._engine.now_ns

    def rng(self) -> np.random.Generator:
        """Return a generator keyed by seed, frame, op and number of draws in this call's frame."""
        import numpy as np

        number, index = self.state
        index = index + 1 if number == self.frame.number else 0
        self.state = (self.frame.number, index)
        digest = hashlib.blake2b(digest_size=16, key=self._engine.seed_key)
        key = self.frame.draw_key(self._engine.peer)
        for part in (key, self._path, index.to_bytes(8, "little")):
            digest.update(len(part).to_bytes(4, "little") + part)
        return np.random.Generator(np.random.Philox(key=int.from_bytes(digest.digest(), "little")))

    def defer(
        self, fn: Callable[..., Any], *args: Any, commit: Callable[[Any], Any] | None = None
    ) -> Any:
        """Hand work to the host's executor; the method returns what this returns."""
        self._check_defers()
        return self._engine.works.defer(partial(fn, *args), commit)

    def external(self, commit: Callable[[Any], Any] | None = None) -> External:
        """Return a handle that a device completes; the method returns it too."""
        self._check_defers()
        return self._engine.works.external(commit)

    def _check_defers(self) -> None:
        if not self._defers:
            method = self._path.decode().split("/")[-2:-1]
            raise OpError(
                f"the method of op {''.join(method) or 'abandon'} defers work, which its component "
                "does not declare",
                fix="name the method in the component's `defers`",
            )
