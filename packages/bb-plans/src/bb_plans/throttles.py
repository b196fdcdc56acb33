"""Quotas of bytes over time, as token buckets; exact, as they count in whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bb_ir.plan import TransferOp, parse_place
from bb_roles.errors import ConfigError

__all__ = ["Buckets", "Throttle"]


@dataclass(frozen=True, slots=True)
class Throttle:
    """How many bytes may move in a window of time: a token bucket that is full at first.

    An op that is larger than the limit moves when the bucket is full; what follows waits until it
    is paid off, so nothing waits for ever.

    Attributes:
        limit: Bytes per window, at least 1.
        window_ns: The window, in nanoseconds, at least 1.
        node: Only ops to this node; to any when empty.
        tier: Only ops to this tier; to any when -1.
        tenant: Only ops of this tenant; of any when empty.

    Raises:
        ConfigError: It would let nothing through.
    """

    limit: int
    window_ns: int
    node: str = ""
    tier: int = -1
    tenant: str = ""

    def __post_init__(self) -> None:
        if self.limit < 1 or self.window_ns < 1:
            raise ConfigError(
                f"a throttle of {self.limit} bytes in {self.window_ns} ns",
                expected="at least 1 of both",
                fix="leave out what shall not move: a throttle only delays",
            )


class Buckets:
    """The buckets of several throttles.

    Args:
        throttles: The throttles.
        now_ns: The time, in nanoseconds.
    """

    def __init__(self, throttles: Sequence[Throttle], now_ns: int) -> None:
        self._throttles = tuple(throttles)
        # What is in a bucket is counted in bytes times nanoseconds of its window.
        self._held = [one.limit * one.window_ns for one in self._throttles]
        self._then = now_ns

    def of(self, op: TransferOp) -> tuple[int, ...]:
        """Return the buckets that an op draws from."""
        if not self._throttles:
            return ()
        dst = parse_place(op.dst)
        return tuple(
            number
            for number, one in enumerate(self._throttles)
            if one.node in ("", dst.node)
            and one.tier in (-1, dst.tier)
            and one.tenant in ("", op.tenant)
        )

    def refill(self, now_ns: int) -> None:
        """Put in what time has brought."""
        passed, self._then = max(0, now_ns - self._then), max(now_ns, self._then)
        for number, one in enumerate(self._throttles):
            full = one.limit * one.window_ns
            self._held[number] = min(full, self._held[number] + passed * one.limit)

    def enough_in_ns(self, buckets: tuple[int, ...], nbytes: int) -> int:
        """Return in how many nanoseconds buckets hold enough for some bytes; 0 for now."""
        return max((self._lacks(number, nbytes) for number in buckets), default=0)

    def draw(self, buckets: tuple[int, ...], nbytes: int) -> None:
        """Take some bytes out, of what there is not, too."""
        for number in buckets:
            self._held[number] -= nbytes * self._throttles[number].window_ns

    def _lacks(self, number: int, nbytes: int) -> int:
        one = self._throttles[number]
        missing = min(nbytes, one.limit) * one.window_ns - self._held[number]
        return -(-missing // one.limit) if missing > 0 else 0
