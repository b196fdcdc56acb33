"""What a component sees of the engine while one of its methods runs."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from bb_runtime.steps import FrameId

if TYPE_CHECKING:
    import numpy as np

    from bb_ir.ids import PeerId
    from bb_runtime._engine import Engine
    from bb_runtime._frames import Frame

__all__ = ["OpContext"]


class OpContext:
    """The context of one op of one Node; the op's line sets `frame` before each call."""

    __slots__ = ("_engine", "_path", "_state", "frame")

    def __init__(self, engine: Engine, path: str) -> None:
        self._engine = engine
        self._path = path.encode()
        self._state: tuple[int, int] = (-1, 0)
        self.frame: Frame

    @property
    def peer(self) -> PeerId:
        """This Node."""
        return self._engine.peer

    @property
    def sender(self) -> PeerId | None:
        """The authenticated peer whose envelope opened this frame."""
        return self.frame.sender

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

        number, index = self._state
        index = index + 1 if number == self.frame.number else 0
        self._state = (self.frame.number, index)
        digest = hashlib.blake2b(digest_size=16, key=self._engine.seed_key)
        key = self.frame.draw_key(self._engine.peer)
        for part in (key, self._path, index.to_bytes(8, "little")):
            digest.update(len(part).to_bytes(4, "little") + part)
        return np.random.Generator(np.random.Philox(key=int.from_bytes(digest.digest(), "little")))
