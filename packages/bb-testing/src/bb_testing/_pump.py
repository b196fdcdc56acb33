"""Drives one Node over a transport, as a host does, and no more than tests need.

It reads what comes in the two steps of the runtime: prelude and header, which are offered to the
Node, then the payload into the lease's buffer, or past it. It dials nobody by itself. What is not
here: addresses of many peers, dialling again, deferred work in threads, a clock for programs that
wait long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from bb_ir.address import Address
from bb_ir.ids import PeerId
from bb_ir.wire import DEFAULT_LIMITS, PRELUDE_SIZE, EnvelopeRefused, read_prelude
from bb_roles import Connection, Transport
from bb_roles.errors import ConnectionLost, TransportError
from bb_runtime import (
    Deferred,
    Emitted,
    FrameEnded,
    FrameId,
    Later,
    Lease,
    Node,
    Readable,
    Ship,
    Step,
)

__all__ = ["Pump", "envelope_parts", "pumping"]

#: Payloads that nobody wants are read through a buffer of this size.
_SCRATCH = 1 << 16


def envelope_parts(ship: Ship) -> list[bytes | memoryview]:
    """Return the buffers of an envelope in their order, none of them copied."""
    envelope: Any = ship.envelope
    return [envelope.head, *envelope.payload_parts()]


@asynccontextmanager
async def pumping(node: Node, transport: Transport) -> AsyncGenerator[Pump]:
    """Give a pump, and close it and its transport."""
    async with AsyncExitStack() as stack:
        pump = Pump(node, transport)
        stack.push_async_callback(pump.close)
        yield pump


class Pump:
    """One Node and its connections.

    Attributes:
        node: The Node.
        steps: What it reported, without envelopes.
        lost: Errors of the transport that ended a connection.
    """

    def __init__(self, node: Node, transport: Transport) -> None:
        self.node = node
        self.transport = transport
        self.steps: list[Step] = []
        self.lost: list[TransportError] = []
        #: What waits to be sent, by connection; the oldest connection to a peer is the one in use.
        self._out: dict[PeerId, list[asyncio.Queue[Ship]]] = {}
        self._readable: dict[PeerId, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Condition()
        self._begun_ns = time.monotonic_ns()

    async def listen(self, address: Address) -> Address:
        """Take connections; returns where."""
        listener = await self.transport.listen(address)

        async def accept_all() -> None:
            while (connection := await listener.accept()) is not None:
                self.take(connection)

        self._start(accept_all())
        return listener.address

    async def dial(self, address: Address, peer: PeerId) -> None:
        """Connect to a peer."""
        self.take(await self.transport.dial(address, peer))

    def take(self, connection: Connection) -> None:
        """Drive a connection until it ends."""
        queue: asyncio.Queue[Ship] = asyncio.Queue()
        self._out.setdefault(connection.peer, []).append(queue)
        self._readable[connection.peer] = asyncio.Event()
        self._start(self._drive(connection, queue))

    async def run(self, target: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Invoke a target, wait for its frame to end, and return its outputs by name."""
        frame = self.node.invoke(target, inputs)
        await self.settle()
        await self.until(lambda: self._ended(frame))
        return {
            step.name: step.value
            for step in self.steps
            if isinstance(step, Emitted) and step.frame == frame
        }

    async def until(self, ready: Any) -> None:
        """Wait until something holds that the Node's steps may change."""
        async with self._news:
            await self._news.wait_for(ready)

    async def settle(self) -> None:
        """Let the Node work until it is quiet, and send what it wants sent."""
        node = self.node
        node.advance(time.monotonic_ns() - self._begun_ns)
        for steps in node.poll_until_quiet():
            for step in steps:
                self._handle(step)
        async with self._news:
            self._news.notify_all()

    async def close(self) -> None:
        """End all connections."""
        await self.transport.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _handle(self, step: Step) -> None:
        if isinstance(step, Ship):
            queues = self._out.get(step.to)
            if queues:
                queues[0].put_nowait(step)
            else:
                self.node.send_failed(step)
        elif isinstance(step, Readable):
            self._readable[step.peer].set()
        elif isinstance(step, Deferred):
            step.run()
        else:
            self.steps.append(step)

    def _ended(self, frame: FrameId) -> bool:
        return any(isinstance(step, FrameEnded) and step.frame == frame for step in self.steps)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drive(self, connection: Connection, queue: asyncio.Queue[Ship]) -> None:
        sending = asyncio.get_running_loop().create_task(self._send_all(connection, queue))
        try:
            await self._receive_all(connection)
        except TransportError as error:
            self.lost.append(error)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            self._out[connection.peer].remove(queue)
            await connection.close()
            while not queue.empty():
                self.node.send_failed(queue.get_nowait())
            await self.settle()

    async def _send_all(self, connection: Connection, queue: asyncio.Queue[Ship]) -> None:
        while True:
            ship = await queue.get()
            try:
                await connection.send(envelope_parts(ship))
            except TransportError as error:
                self.lost.append(error)
                self.node.send_failed(ship)
                await self.settle()
                return
            if self.node.sent(ship):
                await self.settle()
            del ship  # else its payload lives until the next one

    async def _receive_all(self, connection: Connection) -> None:
        prelude = memoryview(bytearray(PRELUDE_SIZE))
        while await connection.receive_into(prelude):
            header = memoryview(bytearray(self._header_length(prelude)))
            if header:
                await _fill(connection, header)
            if not await self._take_in(connection, prelude, header):
                return
            await self.settle()

    @staticmethod
    def _header_length(prelude: memoryview) -> int:
        """Return how much header to read; nothing where the prelude is not to be believed."""
        try:
            return read_prelude(prelude, DEFAULT_LIMITS).header_length
        except EnvelopeRefused:
            return 0

    async def _take_in(
        self, connection: Connection, prelude: memoryview, header: memoryview
    ) -> bool:
        """Offer one envelope and read its payload; returns false when the stream is no good."""
        peer = connection.peer
        answer = self.node.offer(prelude, header, peer)
        while isinstance(answer, Later):
            await self._readable[peer].wait()
            self._readable[peer].clear()
            answer = self.node.offer(prelude, header, peer)
        if isinstance(answer, Lease):
            await self._fill_lease(connection, answer)
            return True
        if answer.close:
            return False
        await _skip(connection, answer.skip)
        return True

    async def _fill_lease(self, connection: Connection, lease: Lease) -> None:
        try:
            if lease.buffer:
                await _fill(connection, lease.buffer)
        except BaseException:
            self.node.abandon(lease)
            raise
        self.node.receive(lease)


async def _fill(connection: Connection, buffer: memoryview) -> None:
    """Fill a buffer that does not begin an envelope: the stream may not end before it."""
    if not await connection.receive_into(buffer):
        raise ConnectionLost("the connection ended within an envelope", fix="dial again")


async def _skip(connection: Connection, count: int) -> None:
    """Read past bytes through a buffer of fixed size."""
    scratch = memoryview(bytearray(min(count, _SCRATCH)))
    while count:
        part = scratch[: min(count, len(scratch))]
        await _fill(connection, part)
        count -= len(part)
