"""The bounds of a Node, and whom it talks to."""

from __future__ import annotations

from dataclasses import dataclass

from bb_ir.ids import PeerId

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
        max_unsent_bytes: Envelopes that were handed to the host and not reported with `Node.sent`;
            0 for hosts that do not report them. Sends beyond wait in their frames.
        peer_share: How much of each total one peer may have; what it sends beyond waits.
        lease_ns: How long a host may take to fill a lease.
        backoff_ns: How long a peer that failed too often is left alone at first; doubles.
        suspect_after: So many failures in a row are too many.
        suspect_phi: So odd a silence of a peer that was asked is one, too.
        allowed_peers: The only peers to talk to; all when `None`.
    """

    max_frames: int = 100_000
    max_queued: int = 1_000
    max_envelope_bytes: int = 4 << 30
    max_inbound_bytes: int = 16 << 30
    max_header_bytes: int = 16 << 10
    max_deferred: int = 1_000
    max_unsent_bytes: int = 0
    peer_share: float = 0.125
    lease_ns: int = 30 * 10**9
    backoff_ns: int = 10**9
    suspect_after: int = 3
    suspect_phi: float = 8.0
    allowed_peers: frozenset[PeerId] | None = None
