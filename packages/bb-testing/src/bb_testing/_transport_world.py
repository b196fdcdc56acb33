"""What the tests of transports are made of: peers, connections, and two Nodes that talk.

Nothing here is a test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

import pytest

from bb_ir.address import Address
from bb_ir.ids import KeyPair
from bb_roles import Connection, Listener, Transport
from bb_roles.errors import TransportError
from bb_runtime import Artifact, Dropped, Node, Ship, install, load_artifact
from bb_testing._base import Suite
from bb_testing._pump import Pump, pumping

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "ASKING",
    "A_WHILE",
    "ECHOING",
    "LARGE",
    "Pair",
    "TransportWorld",
    "all_of",
    "ask",
    "data_of",
    "key_of",
    "noise",
    "opened",
    "raising",
]

ASKING, ECHOING = "Echo", "Echo.echoing"
#: A payload that fills every buffer on the way.
LARGE = 24 << 20
#: How long something that must not happen is waited for, in seconds.
A_WHILE = 0.2


class Ends(NamedTuple):
    """A connection by both its ends."""

    dialled: Connection
    accepted: Connection


class Pair(NamedTuple):
    """Two Nodes and the connection between them."""

    asking: Pump
    echoing: Pump


class TransportWorld(Suite):
    """What an author of a transport writes, and what tests are run in."""

    #: After so many seconds a test has failed: something waits for ever.
    patience: ClassVar[float] = 30.0

    def make(self, identity: KeyPair) -> Transport:
        """Return a fresh transport on behalf of a peer.

        All that this method returned within one test can reach each other.
        """
        raise NotImplementedError(f"{type(self).__qualname__} needs `def make(self, identity)`")

    def address(self) -> Address:
        """Return where to listen, such as `Address.parse("/ip4/127.0.0.1/tcp/0")`."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def address(self)`")

    _at: Address

    def _made(self, index: int) -> Transport:
        return self.make(key_of(index))

    def _run(self, test: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a test in an event loop of its own; errors of its tasks are its own."""

        async def limited() -> None:
            try:
                async with asyncio.timeout(self.patience):
                    await test()
            except TimeoutError:
                pytest.fail(f"nothing happened for {self.patience} seconds: somebody still waits")

        try:
            asyncio.run(limited())
        except* (AssertionError, pytest.fail.Exception, TransportError) as group:
            raise _first(group) from None

    @asynccontextmanager
    async def _listening(self) -> AsyncGenerator[tuple[Listener, Transport]]:
        """Give a listener of peer 2 and a transport of peer 1."""
        dialling, taking = self._made(1), self._made(2)
        try:
            yield await taking.listen(self.address()), dialling
        finally:
            await dialling.close()
            await taking.close()

    @asynccontextmanager
    async def _ends(self) -> AsyncGenerator[Ends]:
        """Give both ends of a connection that peer 1 dialled to peer 2."""
        async with self._listening() as (listener, dialling):
            dialled, accepted = await asyncio.gather(
                dialling.dial(listener.address, key_of(2).peer_id), listener.accept()
            )
            assert accepted is not None, "accept() returned None, and nobody closed the listener"
            yield Ends(dialled, accepted)

    @asynccontextmanager
    async def _pump(self, index: int, target: str) -> AsyncGenerator[Pump]:
        key = key_of(index)
        node = install(key.peer_id, [], _echo(), [target])
        async with pumping(node, self.make(key)) as pump:
            yield pump

    @asynccontextmanager
    async def _nodes(self) -> AsyncGenerator[Pair]:
        """Give two Nodes that are connected; more connections can be dialled to `_at`."""
        async with self._pump(1, ASKING) as asking, self._pump(2, ECHOING) as echoing:
            self._at = await echoing.listen(self.address())
            await self._join(asking, echoing, self._at)
            yield Pair(asking, echoing)

    @staticmethod
    async def _join(asking: Pump, echoing: Pump, address: Address) -> None:
        asking.node.authorize(echoing.node.peer, "echoing")
        echoing.node.authorize(asking.node.peer, "asking")
        await asking.dial(address, echoing.node.peer)

    @staticmethod
    def _shipped(asking: Node, data: NDArray[np.uint8], to: Node) -> Ship:
        """Return the envelope of a question, which the test sends itself."""
        asking.invoke(ASKING, {"to": (to.peer,), "data": data})
        return next(step for step in asking.poll() if isinstance(step, Ship))


async def ask(pair: Pair, data: NDArray[np.uint8]) -> Any:
    """Send data from one Node to the other and return what comes back."""
    inputs = {"to": (pair.echoing.node.peer,), "data": data}
    told = await pair.asking.run(ASKING, inputs)
    assert told.get("count") == 1, (
        f"no answer came: {pair.asking.lost + pair.echoing.lost} "
        f"{[s for s in pair.asking.steps + pair.echoing.steps if isinstance(s, Dropped)]}"
    )
    return told["back"][0]


def opened(node: Node) -> bool:
    """Tell whether a Node has taken in a question."""
    return any(
        metric.name == "bb_envelopes_total" and "there" in metric.labels.values()
        for metric in node.metrics()
    )


async def all_of(receiving: Coroutine[Any, Any, bool]) -> None:
    assert await receiving, "receive_into() says that the connection is closed, and it is not"


@lru_cache(maxsize=1)
def _echo() -> Artifact:
    from bb_ir.text import parse_model

    text = files("bb_testing").joinpath("echo.txt").read_text(encoding="utf-8")
    return load_artifact(parse_model(text))


@lru_cache(maxsize=16)
def key_of(index: int) -> KeyPair:
    return KeyPair.derive(b"bb_testing.transport", index)


def same_bytes(found: Any, expected: Any) -> bool:
    """Compare the bytes of two buffers, out of sight of pytest: it would draw megabytes of diff."""
    return bytes(found) == bytes(expected)


@lru_cache(maxsize=4)
def noise(size: int) -> bytes:
    return data_of(size).tobytes()


def data_of(size: int, seed: int = 0) -> NDArray[np.uint8]:
    import numpy as np

    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: Any = group
    while hasattr(error, "exceptions"):
        error = error.exceptions[0]
    return cast("BaseException", error)


@contextmanager
def raising(kind: type[TransportError], what: str) -> Generator[None]:
    """Expect an error of the contract; another one is told with what was done."""
    try:
        yield
    except kind:
        return
    except Exception as error:  # noqa: BLE001  # whatever it is, it should have been of the contract
        pytest.fail(f"{what} raised {error!r}; map it to bb_roles.errors.{kind.__name__}")
    pytest.fail(f"{what} raised nothing; raise bb_roles.errors.{kind.__name__}")
