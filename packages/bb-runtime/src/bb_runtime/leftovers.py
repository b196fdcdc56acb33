"""What a Node still holds for work under way; at rest it is nothing.

Tests of long and broken runs ask for it: whatever was lost, refused or crashed, all of it comes
back to zero. Ticks of `every` blocks that are still to come, or wait in line, do not count: there
is always a next one. Nor does what a Node keeps for later: the state of its components, whom it
heard, and what it counted.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from bb_runtime._controllers import Every
from bb_runtime._frames import ENDED

if TYPE_CHECKING:
    from bb_runtime._engine import Engine
    from bb_runtime.node import Node

__all__ = ["leftovers"]


def leftovers(node: Node) -> dict[str, int]:
    """Return how much of what a Node still holds, by kind; empty when it is at rest.

    It can be asked at any time, between two calls of the Node.
    """
    engine = node._engine  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # of this package
    found = Counter(_of_frames(engine))
    found.update(_of_peers(engine))
    post, works = engine.post, engine.works
    found.update(
        {
            "leases": len(engine.pressure.leases),
            "expected answers of envelopes": len(post.outgoing),
            "unacknowledged envelopes": len(post.retries.open),
            "words to be said again": len(post.unanswered.open),
            "unsent bytes": post.outbound.unsent_bytes,
            "peers told to wait": len(engine.pressure.paused),
            "pieces of deferred work": works.open,
            "slots": int(not engine.slots.idle),
            "completions": len(engine.inbox),
            "envelopes held back": engine.order.held,
        }
    )
    return {what: count for what, count in found.items() if count}


def _of_frames(engine: Engine) -> dict[str, int]:
    live = engine.frames.values()
    queued = [frame for bound in engine.bounds for frame in bound.queue]
    ticks = {frame.number for frame in queued if isinstance(frame.controller, Every)}
    timers = (frame for _, frame, _ in engine.timers.ahead() if frame is not None)
    ready = engine.ready_stretches()
    roots = sum(frame.parent is None for frame in live)
    return {
        "live frames": len(live),
        "queued frames": len(queued) - len(ticks),
        "turns of regions": sum(bound.active for bound in engine.bounds) - roots,
        "ready stretches": sum(frame.state != ENDED for frame, _ in ready),
        "timers": sum(frame.number not in ticks for frame in timers),
        "bytes": engine.payload_held,
    }


def _of_peers(engine: Engine) -> dict[str, int]:
    records = engine.peers.records.values()
    return {
        "frames charged to peers": sum(record.frames for record in records),
        "bytes charged to peers": sum(record.held for record in records),
        "envelopes that wait to be sent": sum(len(record.waiting) for record in records),
        "envelopes that the host holds": sum(len(record.unsent) for record in records),
        "envelopes of peers to be sent again": sum(len(record.retrying) for record in records),
    }
