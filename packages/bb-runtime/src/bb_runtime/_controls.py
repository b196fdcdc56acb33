"""What engines tell each other about messages: taken, refused, later, stale, leaving.

Who was never sent anything has nothing to tell, but that it leaves. Nothing here is ever answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bb_ir.wire import Ack, Control, EnvelopeHead, Later, Leaving, Refused, Stale

if TYPE_CHECKING:
    from bb_runtime._engine import Engine
    from bb_runtime._peers import Peer

__all__ = ["Controls"]

#: A peer that is older than one we heard is told so once a second.
_STALE_NS = 10**9


class Controls:
    """Control messages of one Node, but word of failed answers, which concern frames."""

    __slots__ = ("_engine",)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # Taking

    def why_not(self, control: Control, record: Peer | None) -> str:
        """Return why a control message is refused, or an empty text."""
        if record is None or not (record.bytes_out or isinstance(control, Leaving)):
            return "unexpected"
        if isinstance(control, (Ack, Refused)):
            if control.incarnation != self._engine.incarnation:
                return "unexpected"
            # The second word on a message that was sent twice, say.
            return "" if control.message_id in record.retrying else "late"
        return ""

    def take(self, control: Control, record: Peer) -> None:
        """Do what a peer's engine asks for."""
        engine = self._engine
        if isinstance(control, Ack):
            engine.post.retries.acknowledged(record, control.message_id)
        elif isinstance(control, Refused):
            engine.post.retries.refused(record, control.message_id, control.reason)
        elif isinstance(control, Later):
            engine.peers.later(record, control.retry_ns)
        elif isinstance(control, Leaving):
            engine.drop("leaving", record.id, "")
            window = record.window
            assert window is not None  # it is marked in there that this very message came
            engine.gathers.leave(record.id, window.incarnation)
        elif isinstance(control, Stale) and control.highest_incarnation > engine.incarnation:
            engine.drop("superseded", record.id, "")
            engine.gathers.peer_lost(record.id, "superseded")
        engine.tidy()

    # Telling

    def acknowledge(self, record: Peer, head: EnvelopeHead) -> None:
        """Tell a peer that a message came."""
        self._engine.post.control(record.id, Ack(head.message_id, head.incarnation))

    def refuse(self, record: Peer, head: EnvelopeHead, reason: str) -> None:
        """Tell a peer not to send a message again."""
        told = Refused(reason[:64], head.message_id, head.incarnation)
        self._engine.post.control(record.id, told)

    def stale(self, record: Peer, highest: int) -> None:
        """Tell a peer that one of its name, started later, was heard."""
        now = self._engine.now_ns
        if record.stale_ns < 0 or now - record.stale_ns >= _STALE_NS:
            record.stale_ns = now
            self._engine.post.control(record.id, Stale(highest))
