"""What is known before a run: who is there when, who cannot hear whom, how fast and how wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from bb_ir.errors import did_you_mean
from bb_sim._draws import Draws, Purpose, below, chance
from bb_sim._peer import SkewedClock
from bb_sim._population import Population
from bb_sim._reading import duration, share
from bb_sim.errors import BadScenario
from bb_sim.scenario import Compute, Crash, Fault, Join, Partition, Scenario

__all__ = ["Move", "Paces", "Timetable", "clock_of", "clocks_of"]


class Move(NamedTuple):
    """A peer that starts or stops at an instant."""

    at: int
    peer: int
    up: bool


class _Cut(NamedTuple):
    start: int
    end: int
    apart: frozenset[int]


class Timetable:
    """The faults of a scenario, by time.

    Attributes:
        moves: Starts and stops, in order of time.
        absent: Peers that are not there at the beginning.
        keeping: How often peers write themselves down, to start again from after a crash.
    """

    def __init__(self, scenario: Scenario, population: Population, draws: Draws) -> None:
        self.absent: set[int] = set()
        self.keeping: dict[int, int] = {}
        moves: list[Move] = []
        #: When who cannot hear whom.
        self.cuts: list[_Cut] = []
        for at, fault in enumerate(scenario.faults):
            place = f"[[faults]] number {at + 1}"
            names = fault.apart if isinstance(fault, Partition) else fault.peers
            peers = population.select(names, draws, place)
            self._add(fault, peers, duration(fault.at, f"at of {place}"), place, moves)
        self.moves = sorted(moves)

    def _add(
        self, fault: Fault, peers: tuple[int, ...], at: int, place: str, moves: list[Move]
    ) -> None:
        match fault:
            case Partition():
                end = duration(fault.until, f"until of {place}") if fault.until else -1
                if 0 <= end <= at:
                    raise BadScenario(
                        f"{place} ends at {fault.until} and begins at {fault.at}",
                        expected="an end after its beginning",
                    )
                self.cuts.append(_Cut(at, end, frozenset(peers)))
            case Crash():
                back = duration(fault.back, f"back of {place}", least=1) if fault.back else -1
                moves += [Move(at, peer, up=False) for peer in peers]
                moves += [Move(at + back, peer, up=True) for peer in peers if back > 0]
                if fault.keep:
                    every = duration(fault.keep, f"keep of {place}")
                    self.keeping |= dict.fromkeys(peers, every)
            case Join():
                self.absent.update(peers)
                moves += [Move(at, peer, up=True) for peer in peers]
            case _:
                moves += [Move(at, peer, up=False) for peer in peers]

    def gaps(self, peer: int, end: int) -> list[tuple[int, int, str]]:
        """Return when a peer is down or cut off, up to an end."""
        found = [
            (cut.start, end if cut.end < 0 else min(cut.end, end), "cut off")
            for cut in self.cuts
            if peer in cut.apart and cut.start < end
        ]
        since = 0 if peer in self.absent else -1
        for move in self.moves:
            if move.peer != peer or move.at > end:
                continue
            if move.up and since >= 0:
                found.append((since, move.at, "down"))
            since = -1 if move.up else move.at
        return [*found, (since, end, "down")] if since >= 0 else found

    def is_cut(self, source: int, to: int, when: int) -> bool:
        """Tell whether a partition stands between two peers."""
        return any(
            cut.start <= when and (cut.end < 0 or when < cut.end)
            and (source in cut.apart) != (to in cut.apart)
            for cut in self.cuts
        )  # fmt: skip


class _Pace(NamedTuple):
    time: int
    jitter: int
    slow: float
    factor: float


class Paces:
    """How long pieces of work take."""

    def __init__(self, scenario: Scenario, population: Population, draws: Draws) -> None:
        _check_classes(scenario.compute, population, "compute")
        self._draws = draws
        self._population = population
        self._by_class = tuple(
            _pace(scenario.compute.get(cls, Compute()), cls) for cls in population.classes
        )

    def is_slow(self, peer: int) -> bool:
        """Tell whether a peer is one of the slow ones of its class."""
        pace = self._by_class[self._population.class_of[peer]]
        return bool(pace.slow) and chance(self._draws.at(Purpose.PEER, peer, 0, 0)[0], pace.slow)

    def always(self, peer: int, *, slow: bool) -> int:
        """Return the nanoseconds of each of a peer's pieces of work; -1 where they differ."""
        differ = self._by_class[self._population.class_of[peer]].jitter
        return -1 if differ else self.takes(peer, 0, slow=slow)

    def takes(self, peer: int, number: int, *, slow: bool) -> int:
        """Return the nanoseconds of a peer's piece of work, known before the work is."""
        pace = self._by_class[self._population.class_of[peer]]
        time = pace.time
        if pace.jitter:
            time += below(self._draws.at(Purpose.WORK, peer, 0, number)[0], pace.jitter)
        return int(time * pace.factor) if slow else time


def _pace(compute: Compute, cls: str) -> _Pace:
    place = f"[compute.{cls}]"
    if compute.factor < 1:
        raise BadScenario(f"factor of {place} is {compute.factor}", expected="at least 1")
    return _Pace(
        duration(compute.time, f"time of {place}"),
        duration(compute.jitter, f"jitter of {place}"),
        share(compute.slow, f"slow of {place}"),
        compute.factor,
    )


def clocks_of(scenario: Scenario, population: Population) -> dict[str, tuple[int, int]]:
    """Return the greatest offset in nanoseconds and drift in parts per billion, by class.

    Raises:
        BadScenario: A clock is impossible.
    """
    _check_classes(scenario.clocks, population, "clocks")
    found: dict[str, tuple[int, int]] = {}
    for cls, clock in scenario.clocks.items():
        if not 0 <= clock.drift <= 0.1:
            raise BadScenario(
                f"drift of [clocks.{cls}] is {clock.drift}", expected="a share from 0 to 0.1"
            )
        found[cls] = (
            duration(clock.offset, f"offset of [clocks.{cls}]"), int(clock.drift * 10**9),
        )  # fmt: skip
    return found


def clock_of(peer: int, most: tuple[int, int] | None, draws: Draws) -> SkewedClock | None:
    """Return the clock of a peer, `None` for a true one."""
    if most is None:
        return None
    drawn = draws.at(Purpose.CLOCK, peer, 0, 0)
    offset, drift = most
    return SkewedClock(below(drawn[0], offset + 1), below(drawn[1], 2 * drift + 1) - drift)


def _check_classes(tables: Mapping[str, object], population: Population, name: str) -> None:
    for cls in tables:
        if cls not in population.classes:
            raise BadScenario(
                f"[{name}.{cls}] is for a class that there is not",
                expected=f"a class of {', '.join(population.classes)}",
                fix=did_you_mean(cls, population.classes),
            )
