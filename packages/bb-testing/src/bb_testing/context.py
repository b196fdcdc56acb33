"""Stand-ins for what the engine hands to a component, for tests that run without an engine.

Nothing here reads a clock or draws from a global generator: a test that uses it gives the same
result every time.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from bb_ir.ids import PeerId
from bb_roles import Component, Environment

if TYPE_CHECKING:
    import numpy as np

__all__ = ["FakeContext", "KeptWork", "environment", "peer_id"]


@lru_cache(maxsize=1024)
def peer_id(index: int = 0) -> PeerId:
    """Return the id of test peer number `index`, the same on every machine."""
    return PeerId.from_seed(b"bb_testing", index)


class KeptWork:
    """Work that a method deferred to a `FakeContext`, to be done when a test says so.

    It stands for the work of `ctx.defer` and for the handle of `ctx.external`.

    Attributes:
        done: Whether it was done, or a device has called back.
    """

    def __init__(self, call: Callable[[], Any] | None, commit: Callable[[Any], Any] | None) -> None:
        self._call = call
        self._commit = commit
        self._value: Any = None
        self._error: BaseException | None = None
        self.done = False

    def run(self) -> None:
        """Do the work, in a thread of its own, as a host does; it is not committed."""
        assert self._call is not None, "a device does this work: call complete() or fail()"
        thread = threading.Thread(target=self._run, args=(self._call,), name="deferred work")
        thread.start()
        thread.join()

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            self.complete(call())
        except BaseException as error:  # noqa: BLE001  # raised where the test asks for the result
            self._end(None, error)

    def complete(self, value: Any) -> None:
        """Hand in what the device gives; the first call counts."""
        self._end(value, None)

    def fail(self, error: Exception) -> None:
        """Hand in that the device failed; the first call counts."""
        self._end(None, error)

    def _end(self, value: Any, error: BaseException | None) -> None:
        if not self.done:
            self.done, self._value, self._error = True, value, error

    def result(self) -> Any:
        """Commit, as the engine does for a call that is still wanted, and return what the op gives.

        Raises:
            Exception: What the work or its commit raised.
        """
        assert self.done, "the work has not been done: call run(), complete() or fail()"
        if self._error is not None:
            raise self._error
        return self._value if self._commit is None else self._commit(self._value)


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
        keeps: Whether deferred work is kept for the test to do; else it is done and committed at
            once, so that a method which defers gives its result as any other does.
        works: What was kept, devices' work included, which is never done by itself.
    """

    peer: PeerId = field(default_factory=peer_id)
    sender: PeerId | None = None
    round: Hashable = 1
    now_ns: int = 0
    seed: int = 0
    op: str = ""
    keeps: bool = False
    works: list[KeptWork] = field(default_factory=list["KeptWork"])
    _drawn: int = field(default=0, init=False, repr=False)

    def rng(self) -> np.random.Generator:
        """Return the next random generator: a function of seed, round, op and number of calls."""
        import numpy as np

        text = f"bb.test\0{self.seed}\0{self.round!r}\0{self.op}\0{self._drawn}".encode()
        self._drawn += 1
        key = int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")
        return np.random.Generator(np.random.Philox(key=key))

    def defer(
        self, fn: Callable[..., Any], *args: Any, commit: Callable[[Any], Any] | None = None
    ) -> Any:
        """Do the work at once, or keep it."""
        work = KeptWork(partial(fn, *args), commit)
        if self.keeps:
            self.works.append(work)
            return work
        work.run()
        return work.result()

    def external(self, commit: Callable[[Any], Any] | None = None) -> KeptWork:
        """Return a handle for a device, which the test completes."""
        work = KeptWork(None, commit)
        self.works.append(work)
        return work


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
