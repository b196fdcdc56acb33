"""What a Node learns about a peer from when its messages come: round trips, and silence.

`RoundTrip` is the estimate of Jacobson (1988) as RFC 6298 writes it, with the two rules of Karn: a
message that was sent twice gives no sample, and the longer wait that led to it stays until one
does. It is integer arithmetic, the same everywhere.

`Silence` is the accrual failure detector of Hayashibara et al. (2004): it gives a number, phi,
that grows the longer a peer is silent; the chance that a peer is alive all the same is about
`10 ** -phi`. Theirs listens to heartbeats. Nothing here beats: a peer owes a sign of life only
when it was asked, so what is measured is how long it took from then on, and a peer that nobody
asks is never suspected. Mean and deviation are weighted by age instead of kept in a window.
"""

from __future__ import annotations

import math
from typing import Any

__all__ = ["LONGEST_NS", "RoundTrip", "Silence", "numbers_in"]

#: No wait is longer: 60 s.
LONGEST_NS = 60 * 10**9
#: No wait for an acknowledgement is shorter: 200 ms. Peers compute between two messages.
_SHORTEST_NS = 2 * 10**8
#: So often a wait may double.
_MOST_DOUBLINGS = 16
#: Silence is judged once a peer came in time so often.
_ENOUGH = 3
#: No deviation is taken to be smaller: 100 ms, or a quarter of the mean.
_LEAST_DEVIATION_NS = 1e8
_LEAST_SHARE = 0.25
#: Weight of a new sample of silence.
_WEIGHT = 1 / 8
#: Longer than any silence.
_NEVER_NS = 2**62
#: Where the chance is too small for a float.
_MOST_PHI = 300.0


def numbers_in(state: Any) -> tuple[Any, ...]:
    """Return what `state` gave, of a snapshot that somebody may have changed.

    Raises:
        ValueError: It holds something else than finite numbers.
    """
    found = tuple(state)
    if all(type(one) in (int, float) and math.isfinite(one) for one in found):
        return found
    raise ValueError(f"{found!r} instead of numbers")


class RoundTrip:
    """How long something takes to come back.

    Attributes:
        count: Samples so far.
        mean_ns: The smoothed round trip, in nanoseconds.
        deviation_ns: Its smoothed deviation.
        doublings: How often the wait doubled since the last sample.
    """

    __slots__ = ("count", "deviation_ns", "doublings", "mean_ns")

    def __init__(
        self, count: int = 0, mean_ns: int = 0, deviation_ns: int = 0, doublings: int = 0
    ) -> None:
        self.count = count
        self.mean_ns = mean_ns
        self.deviation_ns = deviation_ns
        self.doublings = doublings

    def observe(self, sample_ns: int) -> None:
        """Take in a round trip of a message that was sent once."""
        if not self.count:
            self.mean_ns, self.deviation_ns = sample_ns, sample_ns // 2
        else:
            self.deviation_ns += (abs(self.mean_ns - sample_ns) - self.deviation_ns) // 4
            self.mean_ns += (sample_ns - self.mean_ns) // 8
        self.count += 1
        self.doublings = 0

    def timed_out(self, times: int) -> None:
        """Note that a message was not answered in so many waits, one after the other."""
        self.doublings = min(max(self.doublings, times), _MOST_DOUBLINGS)

    def wait_ns(self, unknown_ns: int) -> int:
        """Return how long to wait before something is taken to be lost.

        Args:
            unknown_ns: What to start from while there is no sample.
        """
        wait = unknown_ns
        if self.count:
            wait = max(self.mean_ns + 4 * self.deviation_ns, _SHORTEST_NS)
        return min(wait << self.doublings, LONGEST_NS)

    def state(self) -> tuple[int, ...]:
        """Return it as plain data: the arguments that make it again."""
        return self.count, self.mean_ns, self.deviation_ns, self.doublings


class Silence:
    """How long a peer takes to give a sign of life after it was asked, and how odd it is."""

    __slots__ = ("count", "mean_ns", "variance")

    def __init__(self, count: int = 0, mean_ns: float = 0.0, variance: float = 0.0) -> None:
        self.count = count
        self.mean_ns = mean_ns
        self.variance = variance

    def observe(self, sample_ns: int) -> None:
        """Take in how long a sign of life took."""
        self.count += 1
        if self.count == 1:
            self.mean_ns = float(sample_ns)
            return
        off = sample_ns - self.mean_ns
        self.mean_ns += _WEIGHT * off
        self.variance = (1 - _WEIGHT) * (self.variance + _WEIGHT * off * off)

    def phi(self, silent_ns: int) -> float:
        """Return how odd it is that nothing came for so long; 0.0 while nobody can know."""
        if self.count < _ENOUGH:
            return 0.0
        deviation = max(math.sqrt(self.variance), _LEAST_DEVIATION_NS, _LEAST_SHARE * self.mean_ns)
        chance = 0.5 * math.erfc((silent_ns - self.mean_ns) / (deviation * math.sqrt(2)))
        return _MOST_PHI if chance < 10**-_MOST_PHI else max(0.0, -math.log10(chance))

    def odd_after(self, threshold: float) -> int:
        """Return the shortest silence whose phi is above a threshold."""
        if self.count < _ENOUGH or threshold >= _MOST_PHI:
            return _NEVER_NS
        low, high = 0, 1
        while self.phi(high) <= threshold:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.phi(middle) > threshold else (middle, high)
        return high

    def state(self) -> tuple[Any, ...]:
        """Return it as plain data: the arguments that make it again."""
        return self.count, self.mean_ns, self.variance
