"""How long a peer that does badly is left alone, and how well it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bb_runtime._estimates import LONGEST_NS

if TYPE_CHECKING:
    from bb_runtime._engine import Engine

__all__ = ["HOUR_NS", "MOST_SKEWED", "backoff_ns", "jittered", "score"]

HOUR_NS = 3600 * 10**9
#: Of so many peers of other programs it is remembered that they were told of.
MOST_SKEWED = 1024
#: A wait is longer by up to half of it, so that Nodes which failed together do not come together.
_JITTER = 2
_MOST_DOUBLINGS = 16


def backoff_ns(engine: Engine, label: str, times: int) -> int:
    """Return how long to wait after so many failures: twice as long each time, up to a minute."""
    base = engine.options.backoff_ns << min(max(times, 0), _MOST_DOUBLINGS)
    return jittered(engine, label, times, min(base, LONGEST_NS))


def jittered(engine: Engine, label: str, index: int, wait_ns: int) -> int:
    """Return a wait with its jitter, which is keyed: the same in every run of one seed."""
    return wait_ns + engine.draw(f"wait/{label}", max(index, 0), wait_ns // _JITTER + 1)


def score(failures: int, phi: float, threshold: float) -> float:
    """Return the health of a peer: 1.0 at best, and 0.0 for one that is not to be counted on."""
    doubt = min(phi / threshold, 1.0) if threshold > 0 else 1.0
    return 0.5 ** min(failures, 50) * (1.0 - doubt)
