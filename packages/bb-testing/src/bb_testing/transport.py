"""The contract of transports, as tests: bytes and peers first, then real Nodes and envelopes.

Two Nodes run a program with one question and one answer, `echo.txt`, over the transport; a pump of
the kit's own does what a host does. Everything runs in one event loop of asyncio.

**Provisional**, as the contract is.
"""

from __future__ import annotations

import asyncio
import tracemalloc
from contextlib import AsyncExitStack

import pytest

from bb_ir.address import Address
from bb_roles import Transport
from bb_roles.errors import ConnectionLost, Unreachable, WrongPeer
from bb_testing._pump import envelope_parts
from bb_testing._transport_world import (
    A_WHILE,
    ASKING,
    ECHOING,
    LARGE,
    Pair,
    TransportWorld,
    all_of,
    ask,
    data_of,
    key_of,
    noise,
    opened,
    raising,
    same_bytes,
)

__all__ = ["TransportSuite"]


class TransportSuite(TransportWorld):
    """Inherit it in a class named `Test...`, write `make` and `address`.

    Tests may run at the same time in several processes, so `address` names a port that the
    operating system chooses, or a path that no other test has.
    """

    def test_is_a_transport(self) -> None:
        """The class fills the contract, and each call makes another object."""

        async def test() -> None:
            first, second = self._made(1), self._made(2)
            for one in (first, second):
                assert isinstance(one, Transport), (
                    f"make() returned a {type(one).__name__}, which is no bb_roles.Transport"
                )
            assert first is not second, "make() returned one object twice"
            for one in (first, second):
                await one.close()
                await one.close()

        self._run(test)

    # Who is there.

    def test_both_ends_know_who_is_there(self) -> None:
        """A connection's peer is the other end's key, whoever dialled."""

        async def test() -> None:
            async with self._ends() as ends:
                for end, index, what in ((ends.dialled, 2, "dialled"), (ends.accepted, 1, "")):
                    told, right = end.peer, key_of(index).peer_id
                    assert told == right, (
                        f"the connection that was {what or 'accepted'} says it is to {told}, and "
                        f"{right} is there"
                    )

        self._run(test)

    def test_another_peer_than_the_expected_one_is_refused(self) -> None:
        """Who expects somebody else gets no connection."""

        async def test() -> None:
            async with self._listening() as (listener, dialling):
                with raising(WrongPeer, "dial() of a peer where another one is"):
                    await dialling.dial(listener.address, key_of(9).peer_id)
                await dialling.dial(listener.address, key_of(2).peer_id)

        self._run(test)

    def test_nobody_there_is_an_error_of_the_contract(self) -> None:
        """What libraries raise is mapped at the boundary."""

        async def test() -> None:
            async with self._listening() as (listener, dialling):
                address = listener.address
                await listener.close()
                await listener.close()
                with raising(Unreachable, "dial() where nobody listens"):
                    await dialling.dial(address)

        self._run(test)

    def test_an_address_is_taken_once(self) -> None:
        """Two listeners at one address would share its connections by chance."""

        async def test() -> None:
            async with self._listening() as (listener, dialling):
                with raising(Unreachable, "listen() where somebody listens"):
                    await dialling.listen(listener.address)

        self._run(test)

    @pytest.mark.parametrize("method", ["listen", "dial"])
    def test_foreign_addresses_are_refused(self, method: str) -> None:
        """An address of a scheme that the transport does not serve is no crash."""

        async def test() -> None:
            own = self.address().components[0].name
            foreign = Address.parse("/ip4/127.0.0.1/udp/9" if own == "memory" else "/memory/9")
            transport = self._made(1)
            with raising(Unreachable, f"{method}() of {foreign}"):
                await getattr(transport, method)(foreign)
            await transport.close()

        self._run(test)

    # Bytes.

    @pytest.mark.parametrize("pieces", [[1], [7], [4096], [1 << 20], [1, 1 << 16, 3]], ids=str)
    def test_bytes_arrive_as_they_were_sent(self, pieces: list[int]) -> None:
        """One run of bytes, however it is cut on either side."""

        async def test() -> None:
            sent = noise(3 * sum(pieces) + 5)
            parts: list[bytes | memoryview] = [sent[:5], b"", sent[5:6], memoryview(sent)[6:]]
            async with self._ends() as ends, asyncio.TaskGroup() as tasks:
                tasks.create_task(ends.dialled.send(parts))
                got = bytearray()
                while len(got) < len(sent):
                    size = min(pieces[len(got) % len(pieces)], len(sent) - len(got))
                    piece = bytearray(size)
                    assert await ends.accepted.receive_into(memoryview(piece)), (
                        "receive_into() says that the connection is closed, and it is not"
                    )
                    got += piece
                assert same_bytes(got, sent), "other bytes arrived than were sent"

        self._run(test)

    def test_what_was_sent_can_be_read_at_once(self) -> None:
        """A header is read, and decided on, before there is any payload."""

        async def test() -> None:
            async with self._ends() as ends:
                buffer = bytearray(8)
                for word in (b"header 1", b"header 2"):
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(ends.dialled.send([word]))
                        await ends.accepted.receive_into(memoryview(buffer))
                    assert bytes(buffer) == word, f"{bytes(buffer)!r} arrived instead of {word!r}"

        self._run(test)

    def test_buffers_are_free_when_send_returns(self) -> None:
        """The memory of what was sent is used again for something else."""

        async def test() -> None:
            buffer = bytearray(noise(LARGE >> 2))
            sent, got = bytes(buffer), bytearray(len(buffer))

            async def send() -> None:
                await ends.dialled.send([memoryview(buffer).toreadonly()])
                buffer[:] = bytes(len(buffer))

            async with self._ends() as ends, asyncio.TaskGroup() as tasks:
                tasks.create_task(send())
                await asyncio.sleep(A_WHILE / 2)
                await ends.accepted.receive_into(memoryview(got))
            assert same_bytes(got, sent), (
                "a buffer was written to after send() returned, and that arrived: return when "
                "it is not needed any more"
            )

        self._run(test)

    def test_unread_bytes_hold_up_who_sends(self) -> None:
        """Nothing is kept for a peer that does not read, but for some buffer of fixed size."""

        async def test() -> None:
            async with self._ends() as ends:
                sending = asyncio.ensure_future(ends.dialled.send([bytes(4 * LARGE)]))
                await asyncio.wait([sending], timeout=A_WHILE)
                done = sending.done()
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
                assert not done, (
                    f"send() took {4 * LARGE >> 20} MiB that nobody reads: wait until they are"
                )

        self._run(test)

    def test_both_directions_at_once(self) -> None:
        """Two that send much to each other do not wait for each other."""

        async def test() -> None:
            data = noise(LARGE >> 2)
            async with self._ends() as ends:
                got = [bytearray(len(data)), bytearray(len(data))]
                async with asyncio.TaskGroup() as tasks:
                    for end, buffer in zip(ends, got, strict=True):
                        tasks.create_task(end.send([data]))
                        tasks.create_task(all_of(end.receive_into(memoryview(buffer))))
                assert all(same_bytes(buffer, data) for buffer in got), (
                    "other bytes arrived than were sent"
                )

        self._run(test)

    # The end.

    def test_closing_between_envelopes_is_clean(self) -> None:
        """What was sent arrives; then the other side hears that there is no more."""

        async def test() -> None:
            async with self._ends() as ends, asyncio.TaskGroup() as tasks:

                async def send() -> None:
                    await ends.dialled.send([b"the last ", b"words"])
                    await ends.dialled.close()
                    await ends.dialled.close()

                tasks.create_task(send())
                buffer = bytearray(14)
                assert await ends.accepted.receive_into(memoryview(buffer))
                assert buffer == b"the last words", f"{bytes(buffer)!r} arrived"
                assert not await ends.accepted.receive_into(memoryview(buffer)), (
                    "receive_into() says that it filled a buffer after the connection was closed"
                )

        self._run(test)

    def test_closing_within_a_buffer_is_a_loss(self) -> None:
        """Half a payload is none, and not taken for a whole one."""

        async def test() -> None:
            async with self._ends() as ends, asyncio.TaskGroup() as tasks:

                async def send() -> None:
                    await ends.dialled.send([b"half"])
                    await ends.dialled.close()

                tasks.create_task(send())
                with raising(ConnectionLost, "receive_into() of 8 bytes where 4 came"):
                    await ends.accepted.receive_into(memoryview(bytearray(8)))

        self._run(test)

    def test_a_closed_connection_carries_nothing(self) -> None:
        """Whoever still uses it hears of it, also who waits in it already."""

        async def test() -> None:
            async with self._ends() as ends:
                waiting = asyncio.ensure_future(ends.dialled.receive_into(memoryview(bytearray(8))))
                await asyncio.sleep(0)
                await ends.dialled.close()
                (told,) = await asyncio.gather(waiting, return_exceptions=True)
                assert told is False or isinstance(told, ConnectionLost), (
                    f"receive_into() on a connection that was closed gave {told!r}"
                )
                with raising(ConnectionLost, "send() on a connection that was closed"):
                    await ends.dialled.send([b"too late"])
                # The other side needs a while to hear of it.
                with raising(ConnectionLost, "send() to a peer that closed the connection"):
                    while True:
                        await ends.accepted.send([bytes(1 << 16)])

        self._run(test)

    def test_a_closed_listener_takes_nobody(self) -> None:
        """Connections that are there go on; who waits for another hears that there is none."""

        async def test() -> None:
            async with self._listening() as (listener, dialling):
                dialled, accepted = await asyncio.gather(
                    dialling.dial(listener.address), listener.accept()
                )
                waiting = asyncio.ensure_future(listener.accept())
                await asyncio.sleep(0)
                await listener.close()
                assert await waiting is None, "accept() gave a connection after close()"
                assert await listener.accept() is None, "accept() gave a connection after close()"
                assert accepted is not None
                buffer = bytearray(2)
                await asyncio.gather(
                    dialled.send([b"on"]), accepted.receive_into(memoryview(buffer))
                )
                assert buffer == b"on", "closing a listener closed what it had accepted"

        self._run(test)

    def test_a_closed_transport_leaves_nothing_open(self) -> None:
        """Its connections end for the others, and its listeners are gone."""

        async def test() -> None:
            async with self._listening() as (listener, dialling):
                dialled, accepted = await asyncio.gather(
                    dialling.dial(listener.address), listener.accept()
                )
                assert accepted is not None
                await dialling.close()
                assert not await accepted.receive_into(memoryview(bytearray(1)))
                with raising(ConnectionLost, "send() on a connection of a closed transport"):
                    await dialled.send([b"too late"])

        self._run(test)

    # Envelopes between Nodes.

    @pytest.mark.parametrize("size", [0, 1, 4096, 4097, 1 << 20, LARGE], ids=str)
    def test_envelopes_travel(self, size: int) -> None:
        """There and back again: without a payload, and with one larger than all buffers."""

        async def test() -> None:
            async with self._nodes() as pair:
                data = data_of(size)
                back = await ask(pair, data)
                assert same_bytes(back, data), "another value came back"

        self._run(test)

    def test_many_envelopes_at_once(self) -> None:
        """Connections do not mix, and neither do the envelopes of one."""

        async def test() -> None:
            async with AsyncExitStack() as stack:
                echoing = await stack.enter_async_context(self._pump(0, ECHOING))
                address = await echoing.listen(self.address())
                askers = [
                    await stack.enter_async_context(self._pump(index, ASKING))
                    for index in range(1, 5)
                ]
                for asking in askers:
                    await self._join(asking, echoing, address)
                jobs = [
                    (Pair(asking, echoing), data_of(at * at * 997, seed=at))
                    for asking in askers
                    for at in range(12)
                ]
                backs = await asyncio.gather(*(ask(pair, data) for pair, data in jobs))
                for (_, data), back in zip(jobs, backs, strict=True):
                    assert same_bytes(back, data), "the answer to another came back"

        self._run(test)

    def test_a_payload_is_not_copied_on_the_way(self) -> None:
        """Of a large payload there is what is sent, what the receiver's Node lends, and no more."""

        async def test() -> None:
            async with self._nodes() as pair:
                ship = self._shipped(pair.asking.node, data_of(LARGE), pair.echoing.node)
                link = await pair.asking.transport.dial(self._at)
                pair.echoing.node.block_peer(pair.asking.node.peer)
                tracemalloc.start()
                try:
                    await link.send(envelope_parts(ship))  # skipped: nobody lends anything
                    peak = tracemalloc.get_traced_memory()[1]
                finally:
                    tracemalloc.stop()
                assert peak < LARGE // 2, (
                    f"sending {LARGE >> 20} MiB took {peak >> 20} MiB more: do not join buffers, "
                    "and read no further than you are asked to"
                )

        self._run(test)

    def test_refused_envelopes_are_skipped(self) -> None:
        """The payload of a header that a Node refuses is read past, and the next one counts."""

        async def test() -> None:
            async with self._nodes() as pair:
                asking, echoing = pair.asking.node, pair.echoing.node
                ship = self._shipped(asking, data_of(3 << 20), echoing)
                link = await pair.asking.transport.dial(self._at)
                echoing.block_peer(asking.peer)
                await link.send(envelope_parts(ship))
                await pair.echoing.until(lambda: echoing.counters.get("blocked"))
                echoing.authorize(asking.peer, "asking")
                await link.send(envelope_parts(ship))
                await pair.echoing.until(lambda: opened(echoing))
                assert not pair.echoing.lost, f"the connection ended: {pair.echoing.lost}"

        self._run(test)

    def test_a_connection_lost_within_a_payload_gives_the_lease_back(self) -> None:
        """Memory that was lent for it is free again, and the Node works on."""

        async def test() -> None:
            async with self._nodes() as pair:
                asking, echoing = pair.asking.node, pair.echoing.node
                ship = self._shipped(asking, data_of(LARGE), echoing)
                head, payload, *_ = envelope_parts(ship)
                link = await pair.asking.transport.dial(self._at)
                await link.send([head, payload[: len(payload) // 2]])
                await link.close()
                await pair.echoing.until(lambda: echoing.counters.get("abandoned"))
                data = data_of(9)
                back = await ask(pair, data)
                assert same_bytes(back, data)

        self._run(test)

    def test_bytes_that_are_no_envelope_end_the_connection(self) -> None:
        """Nothing that follows on such a stream can be believed; other connections go on."""

        async def test() -> None:
            async with self._nodes() as pair:
                link = await pair.asking.transport.dial(self._at)
                try:
                    await link.send([b"GET / HTTP/1.1\r\nHost: somewhere.example\r\n\r\n"])
                    came = await link.receive_into(memoryview(bytearray(1)))
                except ConnectionLost:
                    came = False
                assert not came, "the other side answered what is no envelope"
                assert pair.echoing.node.counters["bad_magic"] == 1
                data = data_of(9)
                assert same_bytes(await ask(pair, data), data)

        self._run(test)
