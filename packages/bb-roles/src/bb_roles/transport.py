"""The contract of transports: what carries envelopes between Nodes, and says who is there.

**Provisional**: until the host that uses it is stable, a minor version may change this module.

A transport moves bytes and authenticates peers; it knows nothing of envelopes. A host drives it:
it takes what a Node wants sent, reads what comes in, and asks the Node about each envelope before
there is memory for its payload. All of that is the host's, so a transport cannot get it wrong, and
what is left is small: to listen, to dial, and connections that send buffers and fill buffers.

* Nothing is copied. `Connection.send` is given the parts of an envelope, the payload's among them
  by reference, and is done with them when it returns. `Connection.receive_into` fills the buffer
  that it is given, which is where the payload stays.
* `Connection.peer` is what the channel proved, such as the key of a TLS certificate: never what
  the other side merely says.
* Errors of libraries and of the operating system become a `TransportError` in here, and nowhere
  else.

Methods are coroutines of whatever event loop the host runs; this module imports none. A transport
belongs to one event loop and one Node.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from bb_roles.contracts import NoConfig

if TYPE_CHECKING:
    from bb_ir.address import Address
    from bb_ir.ids import KeyPair, PeerId

__all__ = ["Connection", "Listener", "Transport"]


class Connection(ABC):
    """A two-way stream of bytes to one authenticated peer.

    One task sends and another one receives, both at the same time; the host sees to it that there
    are not two of either. A task that is cancelled in the middle leaves a connection of which
    nothing can be told any more: the host closes it.
    """

    @property
    @abstractmethod
    def peer(self) -> PeerId:
        """Who is at the other end, as the channel proved it; the same for the whole connection."""

    @abstractmethod
    async def send(self, parts: Sequence[bytes | memoryview]) -> None:
        """Send buffers, one after the other, as one run of bytes.

        It returns when the buffers are not needed any more, so it waits while the other side does
        not read. The buffers are never written to, and not joined: a payload of a gigabyte takes
        no second gigabyte.

        Args:
            parts: Bytes, at least one buffer; empty ones are allowed.

        Raises:
            ConnectionLost: The connection ended before; how much arrived is not known.
        """

    @abstractmethod
    async def receive_into(self, buffer: memoryview) -> bool:
        """Fill a buffer wholly with the next bytes, however many pieces they come in.

        Nothing beyond these bytes is read on anybody's account: what the host does not ask for
        stays where it is, and so holds up who sends it. Reading ahead by some fixed amount, such
        as 64 KiB, is allowed.

        Args:
            buffer: Writable bytes, contiguous, at least one.

        Returns:
            True when the buffer is full; false when the other side closed the connection before
            the first byte.

        Raises:
            ConnectionLost: The connection broke, or ended within the buffer.
        """

    @abstractmethod
    async def close(self) -> None:
        """End the connection for both sides; it does no harm to close again.

        What `send` has returned for still arrives, if the other side reads it. A `receive_into`
        that waits here ends with false or `ConnectionLost`.
        """


class Listener(ABC):
    """Takes connections at one address."""

    @property
    @abstractmethod
    def address(self) -> Address:
        """Where it listens, as others may dial it: with the port that was chosen."""

    @abstractmethod
    async def accept(self) -> Connection | None:
        """Wait for the next connection whose peer is authenticated; `None` once it is closed.

        Peers that fail to prove who they are, or take too long for it, are dropped and not seen
        here, and hold up nobody else.
        """

    @abstractmethod
    async def close(self) -> None:
        """Take no more connections; those that were accepted go on. Closing again does no harm."""


class Transport(ABC):
    """Listens and dials, on behalf of one peer.

    Args:
        config: An instance of the class's `Config`.
        identity: The key pair by which this Node proves who it is.

    The smallest one that works is `bb_testing.MemoryTransport`.
    """

    #: A frozen dataclass; its fields are checked and converted before the transport is built.
    Config: ClassVar[type] = NoConfig

    def __init__(self, config: Any, identity: KeyPair) -> None:
        self.config = config
        self.identity = identity

    @abstractmethod
    async def listen(self, address: Address) -> Listener:
        """Begin to take connections.

        Args:
            address: Of one of the transport's schemes. Port 0 stands for any that is free.

        Raises:
            Unreachable: It cannot be listened at: it is in use, of another machine, or of another
                scheme.
        """

    @abstractmethod
    async def dial(self, address: Address, peer: PeerId | None = None) -> Connection:
        """Connect to whoever listens at an address.

        Args:
            address: Of one of the transport's schemes.
            peer: Who is expected there; anybody when `None`.

        Raises:
            Unreachable: Nobody answers there, or whoever does cannot prove who they are.
            WrongPeer: Somebody else than `peer` is there; the connection is closed.
        """

    @abstractmethod
    async def close(self) -> None:
        """Close all listeners and connections; it does no harm to close again."""
