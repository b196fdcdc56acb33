"""Stand-ins for what the engine hands to a component, for tests that run without an engine.

Nothing here reads a clock or draws from a global generator: a test that uses it gives the same
result every time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from bb_ir.ids import PeerId
from bb_roles import Component, Environment

if TYPE_CHECKING:
    import numpy as np

__all__ = ["FakeContext", "environment", "peer_id"]


@lru_cache(maxsize=1024)
def peer_id(index: int = 0) -> PeerId:
    """Return the id of test peer number `index`, the same on every machine."""
    return PeerId.from_seed(b"bb_testing", index)


@dataclass
class FakeContext:
    """A `bb_roles.Context` whose every field a test may set, before and between calls.

    Attributes:
        peer: This Node.
        sender: The peer whose envelope opened the frame, or `None`.
        round: The round that calls belong to.
        now_ns: The Node's time in nanoseconds; it moves only when it is set.
        seed: The Node's seed, from which `rng` draws.
        op: Which op is running; ops draw independently of each other.
    """

    peer: PeerId = field(default_factory=peer_id)
    sender: PeerId | None = None
    round: Hashable = 1
    now_ns: int = 0
    seed: int = 0
    op: str = ""
    _drawn: int = field(default=0, init=False, repr=False)

    def rng(self) -> np.random.Generator:
        """Return the next random generator: a function of seed, round, op and number of calls."""
        import numpy as np

        text = f"bb.test\0{self.seed}\0{self.round!r}\0{self.op}\0{self._drawn}".encode()
        self._drawn += 1
        key = int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")
        return np.random.Generator(np.random.Philox(key=key))


def environment(
    slot: str = "slot",
    seed: int = 0,
    *,
    peer: PeerId | None = None,
    dependencies: Mapping[str, Component] | None = None,
) -> Environment:
    """Return an environment to build a component in.

    Args:
        slot: Name of the slot it fills.
        seed: The Node's seed.
        peer: The Node it lives on; test peer 0 when left out.
        dependencies: Components of the sibling slots that it declares in `depends`.
    """
    return Environment(
        peer=peer or peer_id(), slot=slot, seed=seed, dependencies=dict(dependencies or {})
    )
