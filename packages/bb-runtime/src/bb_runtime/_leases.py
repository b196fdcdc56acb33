"""What an envelope that was offered is answered: a place for its payload, or why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bb_ir.ids import PeerId
    from bb_ir.wire import EnvelopeHead
    from bb_runtime._frames import Frame
    from bb_runtime._peers import Peer
    from bb_runtime.artifact import Edge

__all__ = ["Later", "Lease", "Refuse"]


class Refuse(NamedTuple):
    """An envelope that is not taken.

    Attributes:
        reason: A stable code.
        skip: Bytes of payload that follow and shall be skipped.
        close: Whether nothing more on the same stream can be trusted.
    """

    reason: str
    skip: int
    close: bool


class Later(NamedTuple):
    """An envelope for which there is no room now.

    The host keeps it and reads nothing more from its peer, until a `Readable` step says that it
    may offer it again.

    Attributes:
        reason: A stable code.
    """

    reason: str


class Lease:
    """A place for the payload of one admitted envelope.

    Attributes:
        buffer: Writable bytes of exactly the payload's size; the host fills them.
    """

    __slots__ = ("buffer", "edge", "head", "parent", "record", "source", "used")

    def __init__(
        self,
        head: EnvelopeHead,
        edge: Edge,
        source: PeerId,
        buffer: memoryview,
        parent: Frame | None,
        *,
        record: Peer,
    ) -> None:
        self.head = head
        self.edge = edge
        self.source = source
        self.buffer = buffer
        self.parent = parent
        self.record = record
        self.used = False
