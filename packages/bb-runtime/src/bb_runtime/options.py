"""The bounds of a Node, and whom it talks to."""

from __future__ import annotations

from dataclasses import dataclass

from bb_ir.ids import PeerId
from bb_runtime.errors import InvalidInput

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
        auto_least_ns: How long an answer may take at least where a program says
            `deadline="auto"`, however quick answers were before.
        auto_most_ns: How long at most; 0 for as long as the program says.
        allowed_peers: The only peers to talk to; all when `None`.
        open_classes: Classes that any peer may act as. Those that were not authorized have one
            share together.
        max_strangers: Of so many of those a record is kept.
        max_ops_per_poll: Ops that one `poll` runs, give or take a stretch; `busy` says that there
            are more.
        max_bytes_per_poll: Bytes of envelopes and outputs after which a `poll` runs no more ops.
        stuck_after_ns: How long deferred work that nobody wants any more may take to come back;
            then ops of its component fail at once, until it does.

    Raises:
        InvalidInput: A bound of `poll` is less than 1, or `stuck_after_ns` less than 0.
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
    auto_least_ns: int = 10**9
    auto_most_ns: int = 0
    allowed_peers: frozenset[PeerId] | None = None
    open_classes: frozenset[str] = frozenset()
    max_strangers: int = 1_024
    max_ops_per_poll: int = 100_000
    max_bytes_per_poll: int = 1 << 30
    stuck_after_ns: int = 60 * 10**9

    def __post_init__(self) -> None:
        _check_least(self, 1, "max_ops_per_poll", "max_bytes_per_poll")
        _check_least(self, 0, "stuck_after_ns")


def _check_least(options: Options, least: int, *names: str) -> None:
    for name in names:
        found = getattr(options, name)
        if not isinstance(found, int) or found < least:
            raise InvalidInput(
                f"Options.{name} is {found!r}", expected=f"a whole number, at least {least}"
            )
