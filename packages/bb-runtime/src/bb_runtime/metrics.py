"""The numbers of a Node: what its program measures, and what the Node counts of its own work.

Everything is counted, nothing is timed: the engine reads no clock. Names are stable; those of the
Node begin with `bb_`. Adapters for Prometheus or OpenTelemetry read `Node.metrics()` and need
nothing else: labels are plain, counters only grow, histograms have fixed bounds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bb_ir.framework_ops import METRIC_KINDS
from bb_runtime._frames import NOTHING

if TYPE_CHECKING:
    from bb_runtime._engine import Engine

__all__ = ["BOUNDS", "Histogram", "Metric"]

#: Upper bounds of the buckets of every histogram: 1, 2 and 5 of each power of ten.
BOUNDS: tuple[float, ...] = tuple(
    float(f"{digit}e{power}") for power in range(-6, 7) for digit in (1, 2, 5)
)
#: What is kept of a histogram: count, total, least and most, then the buckets.
_HELD = 4 + len(BOUNDS) + 1


@dataclass(frozen=True, slots=True)
class Histogram:
    """The numbers that a histogram was given.

    Attributes:
        count: How many.
        total: Their sum.
        least: The smallest.
        most: The largest.
        buckets: How many were up to each of `BOUNDS` and above the bound before; at the end, how
            many were above the last.
    """

    count: int
    total: float
    least: float
    most: float
    buckets: tuple[int, ...]


class Metric(NamedTuple):
    """One number of a Node, or one histogram.

    Attributes:
        name: What it is called.
        kind: `counter`, `gauge` or `histogram`.
        labels: What tells it from others of its name.
        value: The number, or the histogram.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: Mapping[str, str]
    value: float | Histogram


class Metrics:
    """What one Node counts. Its state is plain data: numbers and lists of numbers by name.

    Attributes:
        kinds: Kind of each metric of the program, known when the Node is installed.
        numbers: Counters and gauges of the program.
        histograms: Its histograms: count, total, least, most, then the buckets.
        flows: Per edge: envelopes sent, their bytes, envelopes admitted, theirs.
        ended: Per target, region and end: how many frames ended so.
    """

    __slots__ = ("ended", "flows", "histograms", "kinds", "numbers")

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}
        self.numbers: dict[str, float] = NOTHING
        self.histograms: dict[str, list[float]] = NOTHING
        self.flows: dict[str, list[int]] = {}
        self.ended: dict[tuple[str, str, str], int] = {}

    def flow(self, edge: str) -> list[int]:
        """Return what is counted of an edge, to be counted on."""
        found = self.flows.get(edge)
        if found is None:
            found = self.flows[edge] = [0, 0, 0, 0]
        return found

    def record(self, name: str, number: float) -> bool:
        """Take in a finite number; returns false when a counter would shrink."""
        kind = self.kinds[name]
        if self.numbers is NOTHING:
            self.numbers = {}
        if kind == "gauge":
            self.numbers[name] = number
        elif kind == "histogram":
            self._count(name, number)
        elif number < 0:
            return False
        else:
            self.numbers[name] = self.numbers.get(name, 0) + number
        return True

    def _count(self, name: str, number: float) -> None:
        held = self.histograms.get(name)
        if held is None:
            if self.histograms is NOTHING:
                self.histograms = {}
            held = self.histograms[name] = [0, 0.0, number, number, *([0] * (_HELD - 4))]
        held[0] += 1
        held[1] += number
        held[2] = min(held[2], number)
        held[3] = max(held[3], number)
        held[4 + bisect_left(BOUNDS, number)] += 1

    def state(self) -> dict[str, Any]:
        """Return all that was counted, as plain data."""
        return {
            "numbers": dict(self.numbers),
            "histograms": {name: list(held) for name, held in self.histograms.items()},
            "flows": {edge: list(flow) for edge, flow in self.flows.items()},
            "ended": [[*key, count] for key, count in self.ended.items()],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned; names that the program does not have are left out.

        Raises:
            ValueError: It is something else.
        """
        known = self.kinds
        numbers = {n: _number(v) for n, v in state["numbers"].items() if n in known}
        histograms = {n: _numbers(v, _HELD) for n, v in state["histograms"].items() if n in known}
        flows = {str(edge): list(map(int, _numbers(f, 4))) for edge, f in state["flows"].items()}
        ended = {(str(t), str(r), str(how)): int(n) for t, r, how, n in state["ended"]}
        self.numbers, self.histograms = numbers, histograms
        self.flows, self.ended = flows, ended

    def of_program(self) -> list[Metric]:
        """Return what the program measured; a counter that never ran is 0."""
        found: list[Metric] = []
        for name in sorted(self.kinds):
            kind = self.kinds[name]
            if kind == "histogram" and name in self.histograms:
                found.append(Metric(name, "histogram", {}, _histogram(self.histograms[name])))
            elif kind == "counter":
                found.append(Metric(name, "counter", {}, self.numbers.get(name, 0)))
            elif name in self.numbers:
                found.append(Metric(name, "gauge", {}, self.numbers[name]))
        return found

    def of_node(self, engine: Engine) -> list[Metric]:
        """Return what the Node counted of its own work."""
        found: list[Metric] = []
        for (target, region, how), count in sorted(self.ended.items()):
            labels = {"target": target, "region": region, "how": how}
            found.append(Metric("bb_frames_ended_total", "counter", labels, count))
        for edge, flow in sorted(self.flows.items()):
            for direction, (envelopes, size) in (("out", flow[:2]), ("in", flow[2:])):
                labels = {"edge": edge, "direction": direction}
                found.append(Metric("bb_envelopes_total", "counter", labels, envelopes))
                found.append(Metric("bb_envelope_bytes_total", "counter", labels, size))
        for reason, count in sorted(engine.counters.items()):
            found.append(Metric("bb_dropped_total", "counter", {"reason": reason}, count))
        queued = sum(len(bound.queue) for bound in engine.bounds)
        for name, value in (
            ("bb_frames_live", len(engine.frames)),
            ("bb_frames_queued", queued),
            ("bb_payload_bytes_held", engine.payload_held),
            ("bb_works_open", engine.works.open),
        ):
            found.append(Metric(name, "gauge", {}, value))
        return found


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is no number")  # noqa: TRY004  # of what was read, not a call
    return value


def _numbers(values: Sequence[Any], count: int) -> list[float]:
    if len(values) != count:
        raise ValueError(f"{len(values)} numbers where {count} are kept")
    return [_number(value) for value in values]


def _histogram(held: Sequence[float]) -> Histogram:
    count, total, least, most, *buckets = held
    return Histogram(int(count), total, least, most, tuple(map(int, buckets)))


assert set(METRIC_KINDS) == {"counter", "gauge", "histogram"}  # `record` knows each
