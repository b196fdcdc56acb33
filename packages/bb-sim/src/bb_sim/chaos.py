"""Worlds at random, to find what nobody thought of; and what must hold in every one of them.

A random scenario is a function of its seed, so a failure is found again by its seed alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from bb_ir.durations import format_duration, parse_duration
from bb_runtime.leftovers import leftovers
from bb_sim._draws import ONE, Draws, Purpose, below
from bb_sim.scenario import (
    Clock,
    Compute,
    Crash,
    Fault,
    Join,
    Leave,
    Liar,
    Lie,
    Link,
    Partition,
    Scenario,
)
from bb_sim.simulation import Simulation

__all__ = ["random_scenario", "violations"]

_MS = 10**6
_LIES: tuple[Lie, ...] = get_args(Lie)


class _Dice:
    """Draws in order; for making scenarios only.

    Attributes:
        coarse: Whether all times are multiples of 100 ms, so that many things happen at once.
    """

    def __init__(self, seed: int) -> None:
        self._draws = Draws(seed)
        self._thrown = 0
        self.coarse = self.below(4) == 0

    def throw(self) -> int:
        self._thrown += 1
        return self._draws.at(Purpose.MEMBERS, -1, -1, self._thrown)[0]

    def below(self, limit: int) -> int:
        return below(self.throw(), limit)

    def share(self, most: float) -> float:
        """Return a share up to `most`, and none at all half of the time."""
        draw = self.throw()
        return 0.0 if draw & 1 else round(most * draw / ONE, 3)

    def time(self, most_ms: int) -> str:
        grain = 100 if self.coarse else 1
        return format_duration((1 + self.below(max(1, most_ms // grain))) * grain * _MS)

    def jitter(self, most_ms: int) -> str:
        """Return what varies from draw to draw: nothing in a coarse world."""
        return "0" if self.coarse else self.time(most_ms)


def random_scenario(
    seed: int, peers: Mapping[str, int], *, rounds: int = 3, faulty: Sequence[str] = ()
) -> Scenario:
    """Return a world with random links, paces, clocks, faults and liars.

    In one of four, delays and durations are multiples of 100 ms, so that much happens at once.

    Args:
        seed: Decides everything, also what happens in the scenario.
        peers: How many peers each class has.
        rounds: How many rounds to run.
        faulty: Classes whose peers may crash, join late, leave and lie; all but the first of
            `peers` when empty.
    """
    dice = _Dice(seed)
    classes = list(faulty or list(peers)[1:] or peers)
    return Scenario(
        peers=dict(peers),
        rounds=rounds,
        seed=seed,
        until="10m",
        pause=dice.time(500),
        links=Link(
            latency=dice.time(80),
            jitter=dice.jitter(200),
            spread="heavy" if dice.below(3) == 0 else "even",
            bandwidth="1Mbit/s" if dice.below(3) == 0 else None,
            loss=dice.share(0.3),
            duplicate=dice.share(0.3),
            reorder=dice.share(0.5),
            reorder_by=dice.time(2_000),
        ),
        compute={
            cls: Compute(dice.time(500), dice.jitter(300), dice.share(0.4), 5.0) for cls in classes
        },
        clocks={cls: Clock(dice.time(1_000), 1e-4) for cls in peers if dice.below(2)},
        faults=tuple(
            _fault(dice, classes[dice.below(len(classes))], peers) for _ in range(dice.below(5))
        ),
        liars=tuple(
            _liar(dice, classes[dice.below(len(classes))], peers) for _ in range(dice.below(3))
        ),
        tell_lost=bool(dice.below(2)),
    )


def _some(dice: _Dice, cls: str, peers: Mapping[str, int]) -> str:
    low = dice.below(peers[cls])
    return f"{cls}[{low}:{low + 1 + dice.below(peers[cls] - low)}]"


def _fault(dice: _Dice, cls: str, peers: Mapping[str, int]) -> Fault:
    who, at, left = _some(dice, cls, peers), dice.time(8_000), dice.time(8_000)
    later = format_duration(parse_duration(at) + parse_duration(left))
    match dice.below(4):
        case 0:
            return Partition(who, at, later if dice.below(4) else "")
        case 1:
            return Crash(who, at, dice.time(5_000) if dice.below(4) else "")
        case 2:
            return Join(who, at)
        case _:
            return Leave(who, at)


def _liar(dice: _Dice, cls: str, peers: Mapping[str, int]) -> Liar:
    kind = _LIES[dice.below(len(_LIES))]
    return Liar(_some(dice, cls, peers), kind, share=0.2 + dice.share(0.8), times=20)


def violations(simulation: Simulation) -> list[str]:
    """Return what does not hold and must, after `run` and `drain`; nothing is right.

    Every frame ended, nothing is held for any, no envelope waits unread, every round ended once
    where one peer was invoked for it, and no more answers were taken than were asked for.
    """
    found: list[str] = []
    for name, node in simulation.nodes.items():
        found += [f"{name} holds {left} {what}" for what, left in leftovers(node).items()]
    found += [f"{name} never read what waits for it" for name in simulation.kept_waiting]
    rounds = simulation.result().rounds
    if simulation.scenario.start == "one":
        often = ((one.number, one.ended.total()) for one in rounds)
        found += [f"round {number} ended {ends} times" for number, ends in often if ends > 1]
    asked, answered = sum(one.asked for one in rounds), sum(one.answered for one in rounds)
    if answered > asked:
        found.append(f"{answered} answers of {asked} asked")
    return found
