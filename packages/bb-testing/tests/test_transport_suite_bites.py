"""The suite of transports passes on one that works, and fails where one is broken in one way."""

import asyncio
import importlib.util
import re
from importlib.resources import files
from pathlib import Path

import pytest

from bb_ir.address import Address
from bb_ir.text import print_model
from bb_roles import Transport
from bb_roles.errors import ConnectionLost, Unreachable, WrongPeer
from bb_testing import MemoryNetwork, MemoryTransport, TransportSuite, peer_id
from bb_testing.memory_transport import MemoryConfig, _Connection, _Listener, _Pipe


class MemorySuite(TransportSuite):
    transport = MemoryTransport

    def __init__(self):
        self.config = MemoryConfig(MemoryNetwork())

    def make(self, identity):
        return self.transport(self.config, identity)

    def address(self):
        return Address.parse("/memory/0")


class TestMemory(TransportSuite):
    @pytest.fixture(autouse=True)
    def network(self):
        self.config = MemoryConfig(MemoryNetwork())

    def make(self, identity):
        return MemoryTransport(self.config, identity)

    def address(self):
        return Address.parse("/memory/0")


# Each of these is broken in one way.


def using(connection: type[_Connection]) -> type[Transport]:
    class Broken(MemoryTransport):
        def connection(self, peer, inward, outward):
            made = connection(peer, inward, outward)
            self._open.append(made)
            return made

    return Broken


class NotOne:
    """It inherits nothing."""

    def __init__(self, config, identity): ...


class Deaf(_Connection):
    """It says of everybody that it is the same peer."""

    @property
    def peer(self):
        return peer_id(0)


class Trusting(MemoryTransport):
    """It takes whoever is there."""

    async def dial(self, address, peer=None):
        return await super().dial(address)


class Raw(MemoryTransport):
    """It lets errors of the operating system through."""

    async def dial(self, address, peer=None):
        try:
            return await super().dial(address, peer)
        except Unreachable as error:
            raise OSError(111, "Connection refused") from error


class Shared(MemoryTransport):
    """It lets many listen at one address."""

    async def listen(self, address):
        self._network.listeners.pop(address.value("memory"), None)
        return await super().listen(address)


class Lost(MemoryTransport):
    """It takes any address for one of its own."""

    async def listen(self, address):
        number = address.value("memory") or "0"
        return await super().listen(Address.parse(f"/memory/{number}"))


class Reversed(_Connection):
    """It sends the last buffer first."""

    async def send(self, parts):
        await super().send(parts[::-1])


class Whole(_Connection):
    """It sends nothing before the next envelope is there, so that there is more in one go."""

    held = ()

    async def send(self, parts):
        if self.held:
            await super().send(self.held)
        self.held = [bytes(part) for part in parts]


class Hasty(_Connection):
    """It returns before the buffers are free."""

    task = None

    async def send(self, parts):
        self.task = asyncio.ensure_future(super().send(parts))
        await asyncio.sleep(0)


class Greedy(_Connection):
    """It takes over all that it is given, however slow the other side is."""

    def __init__(self, *args):
        super().__init__(*args)
        self.kept = []
        self.task = None

    async def send(self, parts):
        self._outward._check_open()
        self.kept += [bytes(part) for part in parts]
        if self.task is None or self.task.done():
            self.task = asyncio.ensure_future(self.drain())

    async def drain(self):
        while self.kept:
            await super().send([self.kept.pop(0)])


class OneLock(_Connection):
    """It does one thing at a time."""

    def __init__(self, *args):
        super().__init__(*args)
        self.lock = asyncio.Lock()

    async def send(self, parts):
        async with self.lock:
            await super().send(parts)

    async def receive_into(self, buffer):
        async with self.lock:
            return await super().receive_into(buffer)


class Padding(_Connection):
    """It fills the rest of a buffer with zeros when the connection ends within it."""

    async def receive_into(self, buffer):
        try:
            return await super().receive_into(buffer)
        except ConnectionLost:
            return True


class Endless(_Connection):
    """It says that a closed connection gave something."""

    async def receive_into(self, buffer):
        await super().receive_into(buffer)
        return True


class Silent(_Connection):
    """It swallows what is sent after the end."""

    async def send(self, parts):
        try:
            await super().send(parts)
        except ConnectionLost:
            await asyncio.sleep(0)


class Waiting(_Listener):
    """It forgets those who wait in accept()."""

    async def close(self):
        self._network.listeners.pop(self._address.value("memory"), None)


class Forgotten(MemoryTransport):
    async def listen(self, address):
        listener = await super().listen(address)
        listener.__class__ = Waiting
        return listener


class Left(MemoryTransport):
    """It leaves its connections open."""

    async def close(self):
        for one in self._open:
            if isinstance(one, _Listener):
                await one.close()


class Short(_Connection):
    """It cuts off what is longer than a megabyte."""

    async def send(self, parts):
        await super().send([part[: 1 << 20] for part in parts])


class Crossed(MemoryTransport):
    """It confuses the connections that it accepted."""

    pipes = ()

    def connection(self, peer, inward, outward):
        if len(self.pipes) == 1 and self.pipes[0] is not inward:
            inward = self.pipes[0]
        self.pipes = (*self.pipes, inward)
        return super().connection(peer, inward, outward)


class Joining(_Connection):
    """It makes one buffer of all."""

    async def send(self, parts):
        await super().send([b"".join(bytes(part) for part in parts)])


class Skipping(_Connection):
    """It loses every second megabyte of long buffers."""

    async def receive_into(self, buffer):
        if len(buffer) == 1 << 16:  # what is skipped is read through such a buffer
            return await super().receive_into(buffer[: 1 << 15])
        return await super().receive_into(buffer)


class Open(_Connection):
    """It does not tell the other side that it is closed."""

    async def close(self):
        await asyncio.sleep(0)


BROKEN = [
    ("test_is_a_transport", NotOne),
    ("test_both_ends_know_who_is_there", using(Deaf)),
    ("test_another_peer_than_the_expected_one_is_refused", Trusting),
    ("test_nobody_there_is_an_error_of_the_contract", Raw),
    ("test_an_address_is_taken_once", Shared),
    ("test_foreign_addresses_are_refused", Lost, "listen"),
    ("test_foreign_addresses_are_refused", Raw, "dial"),
    ("test_bytes_arrive_as_they_were_sent", using(Reversed), [7]),
    ("test_what_was_sent_can_be_read_at_once", using(Whole)),
    ("test_buffers_are_free_when_send_returns", using(Hasty)),
    ("test_unread_bytes_hold_up_who_sends", using(Greedy)),
    ("test_both_directions_at_once", using(OneLock)),
    ("test_closing_between_envelopes_is_clean", using(Endless)),
    ("test_closing_between_envelopes_is_clean", using(Open)),
    ("test_closing_within_a_buffer_is_a_loss", using(Padding)),
    ("test_a_closed_connection_carries_nothing", using(Silent)),
    ("test_a_closed_listener_takes_nobody", Forgotten),
    ("test_a_closed_transport_leaves_nothing_open", Left),
    ("test_envelopes_travel", using(Short), 24 << 20),
    ("test_many_envelopes_at_once", Crossed),
    ("test_a_payload_is_not_copied_on_the_way", using(Joining)),
    ("test_refused_envelopes_are_skipped", using(Skipping)),
    ("test_a_connection_lost_within_a_payload_gives_the_lease_back", using(Open)),
    ("test_bytes_that_are_no_envelope_end_the_connection", using(Open)),
]


def test_every_test_bites():
    own = {name for name in vars(TransportSuite) if name.startswith("test_")}

    assert {name for name, *_ in BROKEN} == own


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("test", "broken", "arguments"),
    [pytest.param(t, b, rest, id=f"{t[5:]}-{at}") for at, (t, b, *rest) in enumerate(BROKEN)],
)
def test_a_broken_transport_fails(test, broken, arguments):
    class Suite(MemorySuite):
        transport = broken
        patience = 1.0

    with pytest.raises((AssertionError, pytest.fail.Exception, ConnectionLost)):
        getattr(Suite(), test)(*arguments)


@pytest.mark.parametrize("missing", ["make", "address"])
def test_what_an_author_forgot_is_named(missing):
    arguments = [None] if missing == "make" else []

    with pytest.raises(NotImplementedError, match=f"Mine needs `def {missing}"):
        getattr(type("Mine", (TransportSuite,), {})(), missing)(*arguments)


def test_the_program_is_what_the_compiler_makes_of_it():
    import bytesandbrains as bb

    path = Path(__file__).with_name("echo_program.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    made = print_model(bb.Compiler().compile(module.Echo().build()))

    kept = files("bb_testing").joinpath("echo.txt").read_text(encoding="utf-8")
    lines = r'  # \S+$|"source": "[^"]*", '
    told = [re.sub(lines, "", text, flags=re.MULTILINE) for text in (kept, made)]
    assert told[0] == told[1], (
        "write it anew: compile echo_program.Echo and keep what bb_ir.text.print_model says of it"
    )


def test_errors_of_the_memory_transport_say_where():
    suite = MemorySuite()

    async def wrong() -> None:
        from bb_testing._transport_world import key_of

        one, other = suite._made(1), suite._made(2)
        with pytest.raises(Unreachable, match="nobody listens at /memory/3"):
            await one.dial(Address.parse("/memory/3"))
        listener = await other.listen(Address.parse("/memory/3"))
        with pytest.raises(WrongPeer, match=f"{key_of(2).peer_id} listens at /memory/3"):
            await one.dial(listener.address, key_of(5).peer_id)
        with pytest.raises(Unreachable, match="is not in memory"):
            await one.dial(Address.parse("/ip4/127.0.0.1/tcp/1"))

    asyncio.run(wrong())


def test_a_pipe_that_ends_wakes_everybody():
    async def test() -> None:
        pipe = _Pipe()
        sending = asyncio.ensure_future(pipe.send([b"never read"]))
        await asyncio.sleep(0)
        pipe.end()
        with pytest.raises(ConnectionLost):
            await sending
        assert not await pipe.receive_into(memoryview(bytearray(1)))

    asyncio.run(test())
