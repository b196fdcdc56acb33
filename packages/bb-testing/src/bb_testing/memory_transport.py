"""A transport within one process: the smallest one that does all that the contract asks for.

Whoever listens and dials in the same `MemoryNetwork` can reach each other, at addresses such as
`/memory/7`. Who they are is proved by nothing but that they hold the key pair, which is enough
within a process. It is for tests of hosts, and to be read by those who write a transport.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import ClassVar

from bb_ir.address import Address
from bb_ir.ids import KeyPair, PeerId
from bb_roles import Connection, Listener, Transport
from bb_roles.errors import ConnectionLost, Unreachable, WrongPeer

__all__ = ["MemoryConfig", "MemoryNetwork", "MemoryTransport"]


class MemoryNetwork:
    """Where the listeners of some transports are found by their numbers."""

    def __init__(self) -> None:
        self.listeners: dict[str, _Listener] = {}

    def free(self) -> str:
        """Return a number at which nobody listens."""
        return next(number for at in count(1) if (number := str(at)) not in self.listeners)


@dataclass(frozen=True)
class MemoryConfig:
    """What a transport within one process is told.

    Attributes:
        network: Who may reach each other; of its own, and alone, unless one is given.
    """

    network: MemoryNetwork = field(default_factory=MemoryNetwork)


class MemoryTransport(Transport):
    """Carries bytes from one task to another; a buffer is copied once, into the receiver's."""

    Config: ClassVar[type] = MemoryConfig

    def __init__(self, config: MemoryConfig, identity: KeyPair) -> None:
        super().__init__(config, identity)
        self._network = config.network
        self._open: list[_Listener | _Connection] = []

    async def listen(self, address: Address) -> Listener:
        """Take connections at `/memory/N`; `/memory/0` stands for any number that is free."""
        number = _number(address)
        if number == "0":
            number = self._network.free()
        if number in self._network.listeners:
            raise Unreachable(
                f"somebody listens at {address} already",
                fix="close that listener, or listen at /memory/0",
            )
        listener = _Listener(Address.parse(f"/memory/{number}"), self, self._network)
        self._network.listeners[number] = listener
        self._open.append(listener)
        return listener

    async def dial(self, address: Address, peer: PeerId | None = None) -> Connection:
        """Connect to whoever listens at `/memory/N`."""
        listener = self._network.listeners.get(_number(address))
        if listener is None:
            raise Unreachable(
                f"nobody listens at {address}",
                expected="a listener in the same MemoryNetwork",
                fix="listen first, and dial the address that the listener tells",
            )
        there = listener.transport
        if peer not in (None, there.identity.peer_id):
            raise WrongPeer(
                f"{there.identity.peer_id} listens at {address}",
                expected=str(peer),
                fix="look up the address of that peer again",
            )
        away, back = _Pipe(), _Pipe()
        mine = self.connection(there.identity.peer_id, back, away)
        theirs = there.connection(self.identity.peer_id, away, back)
        listener.take(theirs)
        return mine

    def connection(self, peer: PeerId, inward: _Pipe, outward: _Pipe) -> Connection:
        """Return one end of a new connection."""
        made = _Connection(peer, inward, outward)
        self._open.append(made)
        return made

    async def close(self) -> None:
        """Close everything that this transport opened."""
        for one in self._open:
            await one.close()


def _number(address: Address) -> str:
    number = address.value("memory")
    if number is None:
        raise Unreachable(f"{address} is not in memory", expected="an address such as /memory/7")
    return number


class _Listener(Listener):
    def __init__(
        self, address: Address, transport: MemoryTransport, network: MemoryNetwork
    ) -> None:
        self._address = address
        self.transport = transport
        self._network = network
        self._waiting: asyncio.Queue[Connection | None] = asyncio.Queue()

    @property
    def address(self) -> Address:
        return self._address

    def take(self, connection: Connection) -> None:
        self._waiting.put_nowait(connection)

    async def accept(self) -> Connection | None:
        connection = await self._waiting.get()
        if connection is None:
            self._waiting.put_nowait(None)  # for whoever asks next
        return connection

    async def close(self) -> None:
        number = self._address.value("memory") or ""
        if self._network.listeners.get(number) is self:
            del self._network.listeners[number]
            self._waiting.put_nowait(None)


class _Connection(Connection):
    def __init__(self, peer: PeerId, inward: _Pipe, outward: _Pipe) -> None:
        self._peer = peer
        self._inward = inward
        self._outward = outward

    @property
    def peer(self) -> PeerId:
        return self._peer

    async def send(self, parts: Sequence[bytes | memoryview]) -> None:
        await self._outward.send(parts)

    async def receive_into(self, buffer: memoryview) -> bool:
        return await self._inward.receive_into(buffer)

    async def close(self) -> None:
        self._inward.end()
        self._outward.end()


class _Pipe:
    """One direction: a buffer stays the sender's until the receiver has copied it out."""

    def __init__(self) -> None:
        self._part = memoryview(b"")
        self._came = asyncio.Event()
        self._taken = asyncio.Event()
        self._ended = False

    async def send(self, parts: Sequence[bytes | memoryview]) -> None:
        self._check_open()
        for part in parts:
            self._part = memoryview(part).cast("B")
            while self._part:
                self._came.set()
                self._taken.clear()
                await self._taken.wait()
                self._check_open()

    async def receive_into(self, buffer: memoryview) -> bool:
        at = 0
        while at < len(buffer):
            if self._part:
                taken = self._part[: len(buffer) - at]
                buffer[at : at + len(taken)] = taken
                self._part = self._part[len(taken) :]
                at += len(taken)
                if not self._part:
                    self._taken.set()
            elif self._ended:
                break
            else:
                self._came.clear()
                await self._came.wait()
        if at == len(buffer):
            return True
        if at:
            raise ConnectionLost(
                f"the connection ended {len(buffer) - at} bytes too early",
                fix="dial again; what was half received is sent again if its edge has retries",
            )
        return False

    def end(self) -> None:
        self._ended = True
        self._part = memoryview(b"")
        self._came.set()
        self._taken.set()

    def _check_open(self) -> None:
        if self._ended:
            raise ConnectionLost("the connection is closed", fix="dial again")
