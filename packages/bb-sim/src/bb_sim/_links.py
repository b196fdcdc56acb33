"""The model of the network: what becomes of an envelope, as a function of its key alone.

A link goes from one peer to another. The n-th envelope on it has its draws before it exists:
`soonest` tells how early the next one could arrive, without knowing what it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final, NamedTuple

from bb_sim._draws import Draws, Purpose, below, chance, heavy
from bb_sim._population import Population
from bb_sim._reading import duration, rate, share
from bb_sim.errors import BadScenario
from bb_sim.scenario import Link, Scenario

__all__ = ["Links", "Wire"]

_DEFAULT: Final[dict[str, Any]] = {
    "latency": "10ms", "jitter": "0", "spread": "even", "bandwidth": "", "loss": 0.0,
    "duplicate": 0.0, "reorder": 0.0, "reorder_by": "100ms",
}  # fmt: skip


class Wire(NamedTuple):
    """A link's settings as numbers: nanoseconds, bytes per second, shares.

    Attributes:
        always: What `Links.delays` gives for every envelope, where that takes no draw; else empty.
    """

    latency: int
    jitter: int
    heavy: bool
    bandwidth: int
    loss: float
    duplicate: float
    reorder: float
    reorder_by: int
    always: tuple[int, ...] = ()


class Links:
    """All links of a scenario."""

    def __init__(self, scenario: Scenario, population: Population, draws: Draws) -> None:
        self._draws = draws
        self._population = population
        self._all = scenario.links
        self._rules = [self._rule(name, link) for name, link in scenario.between.items()]
        #: Links within a pair of classes are alike unless a rule is for something smaller.
        self._alike = not any(self._is_small(s) or self._is_small(t) for s, t, _ in self._rules)
        self._known: dict[tuple[int, int], Wire] = {}
        wires = [_wire([self._all], "links")]
        for name, link in scenario.between.items():
            wires.append(_wire([self._all, link], f"between.{name!r}"))
        #: No envelope travels faster.
        self.fastest = min(wire.latency for wire in wires)

    def between(self, source: int, to: int) -> Wire:
        """Return the settings of a link."""
        if self._alike:
            classes = self._population.class_of
            key = classes[source], classes[to]
        else:
            key = source, to
        wire = self._known.get(key)
        if wire is None:
            wire = self._known[key] = self._merged(source, to)
        return wire

    def delays(self, source: int, to: int, number: int) -> tuple[int, ...]:
        """Return how long each copy of a link's `number`-th envelope takes, whatever its size.

        There is none when the envelope is lost.
        """
        wire = self.between(source, to)
        if wire.always:
            return wire.always
        draws = self._draws.at(Purpose.MESSAGE, source, to, number)
        if wire.loss and chance(draws[1], wire.loss):
            return ()
        first = _delay(wire, draws[0])
        if wire.reorder and chance(draws[2], wire.reorder):
            first += below(draws[3], wire.reorder_by)
        if wire.duplicate and chance(draws[4], wire.duplicate):
            return first, _delay(wire, draws[5])
        return (first,)

    def soonest(self, source: int, to: int, number: int) -> int:
        """Return the delay that the first copy of an envelope has at least."""
        wire = self.between(source, to)
        if not wire.jitter:
            return wire.latency
        draws = self._draws.at(Purpose.MESSAGE, source, to, number)
        first = _delay(wire, draws[0])
        if wire.duplicate and chance(draws[4], wire.duplicate):
            return min(first, _delay(wire, draws[5]))
        return first

    # Settings

    def _rule(self, name: str, link: Link) -> tuple[frozenset[int], frozenset[int], Link]:
        source, arrow, to = name.partition("->")
        place = f"[between.{name!r}]"
        if not arrow:
            raise BadScenario(f"{place} names no link", expected='such as "server -> client"')
        return self._select(source, place), self._select(to, place), link

    def _select(self, name: str, place: str) -> frozenset[int]:
        return frozenset(self._population.select(name, self._draws, place))

    def _is_small(self, side: frozenset[int]) -> bool:
        """Whether a side of a rule is a part of a class only."""
        population = self._population
        whole = [frozenset(population.members(cls)) for cls in population.classes]
        return any(side & members and not members <= side for members in whole)

    def _merged(self, source: int, to: int) -> Wire:
        own = [
            link for sources, targets, link in self._rules if source in sources and to in targets
        ]
        return _wire([self._all, *own], "links")


def _delay(wire: Wire, draw: int) -> int:
    if not wire.jitter:
        return wire.latency
    return wire.latency + (heavy if wire.heavy else below)(draw, wire.jitter)


def _wire(links: Sequence[Link], place: str) -> Wire:
    """Lay links over each other, field by field, and read their texts."""
    found = dict(_DEFAULT)
    for link in links:
        given = {one.name: getattr(link, one.name) for one in fields(Link)}
        found.update({name: value for name, value in given.items() if value is not None})
    if found["spread"] not in ("even", "heavy"):
        raise BadScenario(f"spread of [{place}] is {found['spread']!r}", expected="even or heavy")
    wire = Wire(
        duration(found["latency"], f"latency of [{place}]"),
        duration(found["jitter"], f"jitter of [{place}]"),
        found["spread"] == "heavy",
        rate(found["bandwidth"], f"bandwidth of [{place}]") if found["bandwidth"] else 0,
        share(found["loss"], f"loss of [{place}]"),
        share(found["duplicate"], f"duplicate of [{place}]"),
        share(found["reorder"], f"reorder of [{place}]"),
        duration(found["reorder_by"], f"reorder_by of [{place}]"),
    )
    drawn = wire.jitter or wire.loss or wire.duplicate or wire.reorder
    return wire if drawn else wire._replace(always=(wire.latency,))
