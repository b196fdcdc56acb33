"""The bounds of a Node."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Options"]


@dataclass(frozen=True, slots=True)
class Options:
    """How much a Node takes on.

    Attributes:
        max_frames: Live frames, children included.
        max_queued: Frames that wait for a turn in one root region.
        max_envelope_bytes: Payload of one envelope.
        max_inbound_bytes: Payload of all envelopes that are held and not yet freed by frames.
        max_header_bytes: Header of one envelope.
        max_deferred: Pieces of deferred work that have not come back.
    """

    max_frames: int = 100_000
    max_queued: int = 1_000
    max_envelope_bytes: int = 4 << 30
    max_inbound_bytes: int = 16 << 30
    max_header_bytes: int = 16 << 10
    max_deferred: int = 1_000
