"""Worlds at random, to find what nobody thought of; and what must hold in every one of them.

A random scenario is a function of its seed, so a failure is found again by its seed alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from bb_ir.durations import format_duration
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
    """Draws in order; for making scenarios only."""

    def __init__(self, seed: int) -> None:
        self._draws = Draws(seed)
        self._thrown = 0

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
        return format_duration((1 + self.below(most_ms)) * _MS)


def random_scenario(
    seed: int, peers: Mapping[str, int], *, rounds: int = 3, faulty: Sequence[str] = ()
) -> Scenario:
    """Return a world with random links, paces, clocks, faults and liars.

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
            jitter=dice.time(200),
            spread="heavy" if dice.below(3) == 0 else "even",
            bandwidth="1Mbit/s" if dice.below(3) == 0 else None,
            loss=dice.share(0.3),
            duplicate=dice.share(0.3),
            reorder=dice.share(0.5),
            reorder_by=dice.time(2_000),
        ),
        compute={
            cls: Compute(dice.time(500), dice.time(300), dice.share(0.4), 5.0) for cls in classes
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
    who, at = _some(dice, cls, peers), dice.below(8_000) * _MS
    when, later = format_duration(at or 1), format_duration(at + (1 + dice.below(8_000)) * _MS)
    match dice.below(4):
        case 0:
            return Partition(who, when, later if dice.below(4) else "")
        case 1:
            return Crash(who, when, dice.time(5_000) if dice.below(4) else "")
        case 2:
            return Join(who, when)
        case _:
            return Leave(who, when)


def _liar(dice: _Dice, cls: str, peers: Mapping[str, int]) -> Liar:
    kind = _LIES[dice.below(len(_LIES))]
    return Liar(_some(dice, cls, peers), kind, share=0.2 + dice.share(0.8), times=20)


def violations(simulation: Simulation) -> list[str]:
    """Return what does not hold and must, after `run` and `drain`; nothing is right.

    Every frame ended, nothing is held, every round ended once on each peer that was invoked, and
    no more answers were folded than were taken.
    """
    found: list[str] = []
    for name, node in simulation.nodes.items():
        if node.live_frames or node.waiting:
            found.append(f"{name} has {node.live_frames} live frames")
        held = node._engine.payload_held  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # a Node does not tell it yet
        if held:
            found.append(f"{name} holds {held} bytes")
    found += [f"{name} never read what waits for it" for name in simulation.kept_waiting]
    invoked = 1 if simulation.scenario.start == "one" else None
    for one in simulation.result().rounds:
        ends = one.ended.total()
        if invoked is not None and ends > invoked:
            found.append(f"round {one.number} ended {ends} times")
        if one.answered > one.asked:
            found.append(f"round {one.number}: {one.answered} answers of {one.asked} asked")
    return found
