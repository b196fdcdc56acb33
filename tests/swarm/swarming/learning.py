"""Learning: which worlds allow it, and how near to the optimum it must come there.

All clients share one optimum, and a step of any of them at least halves the distance to it
(`parts.LinearSource`). So a round of honest updates does, whoever takes part. In a world that
leaves a quorum of honest clients alone, every round must come to its end, and the last model be
nearly as good as in the same world without faults: there all clients take part, each of which
multiplies the distance by 0.3 to 0.5, so six rounds of the slowest are at most (0.5 / 0.3) ** 6,
some 22 times, as far away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from bb_ir.ids import PeerId
from bb_sim import Link, Partition, Result, Scenario, Simulation
from bb_sim._draws import Draws
from swarming.parts import CONTRACTION, OPTIMUM
from swarming.watch import Watch

__all__ = ["allows_learning", "distance", "finished", "learned", "softened", "without_faults"]

#: Lies that no honest model could tell and that are refused, each by itself.
REFUSED = frozenset({"nan", "huge", "truncate", "garbage", "replay", "flood", "silence"})
#: Where models begin.
START = np.zeros(len(OPTIMUM))
#: How far a mean on the grid, and float64, may be off.
NOISE = 1e-6
#: How much farther away than without faults: see above.
FARTHER = (0.5 / 0.3) ** 6


def distance(w: Any) -> float:
    """Return how far a linear model is from the optimum."""
    return float(np.linalg.norm(np.asarray(w) - OPTIMUM))


def softened(world: Scenario) -> Scenario:
    """Return a world of the same faults that is more likely to allow learning."""
    links = replace(world.links, loss=None, spread="even")
    liars = (one if one.kind in REFUSED else replace(one, kind="nan") for one in world.liars)
    return replace(world, links=links, liars=tuple(liars), faults=world.faults[:2])


def without_faults(world: Scenario) -> Scenario:
    """Return the same world, in which nothing goes wrong."""
    links = Link(latency=world.links.latency, jitter=world.links.jitter)
    return replace(world, links=links, faults=(), liars=())


def allows_learning(world: Scenario, simulation: Simulation, spare: int) -> bool:
    """Tell whether a world leaves enough clients alone, and loses nothing of theirs.

    Args:
        world: The world.
        simulation: Of it, for whom its selectors mean.
        spare: How many clients may fail or lie in a round.
    """
    if world.links.loss or world.links.spread == "heavy":
        return False
    if any(liar.kind not in REFUSED for liar in world.liars):
        return False
    meant = [one.apart if isinstance(one, Partition) else one.peers for one in world.faults]
    meant += [one.peers for one in world.liars]
    select, draws = simulation.population.select, Draws(world.seed)
    hit = {number for one in meant for number in select(one, draws, "swarm")}
    return len(hit) <= spare


def learned(simulation: Simulation, watch: Watch) -> Iterator[str]:
    """A round of honest updates, of whomever, halves the distance to the optimum at least."""
    peer = simulation.root.peer
    loaded = watch.ledger.loaded.get(peer, [])
    ways: list[tuple[Any, Any]] = [(None, START), *loaded]
    for (_, before), (number, after) in pairwise(ways):
        most = CONTRACTION * distance(before) + NOISE
        if _honest(watch, peer, number) and distance(after) > most:
            yield (
                f"round {number.number} of honest updates went from {distance(before):.6f} to "
                f"{distance(after):.6f} before the optimum"
            )


def _honest(watch: Watch, peer: PeerId, number: Any) -> bool:
    """Whether all that a round folded is what models made."""
    made = set().union(*watch.ledger.made.values())
    return all(part.digest in made for part in watch.ledger.folds[peer, number].parts)


def finished(result: Result, watch: Watch, calm: Watch, root: PeerId) -> Iterator[str]:
    """Where a world allows it, every round is done, and the model as good as without faults."""
    ends = [dict(one.ended) for one in result.rounds]
    if any(one != {"done": 1} for one in ends):
        yield f"rounds ended {ends} in a world that allows all of them"
    here, there = (_last(one, root) for one in (watch, calm))
    if here > FARTHER * there + NOISE:
        yield f"{here:.6f} before the optimum in the end, {there:.6f} without faults"


def _last(watch: Watch, root: PeerId) -> float:
    """Return how far the last model is from the optimum."""
    loaded = watch.ledger.loaded.get(root)
    return distance(loaded[-1][1] if loaded else START)
