"""Whether an aggregator has room for all whom its program asks, told before anything runs."""

from __future__ import annotations

from typing import Any

from bb_ir import keys
from bb_runtime import Artifact, Node
from bb_runtime.artifact import Target
from bb_sim._population import Population
from bb_sim.errors import BadScenario

__all__ = ["check_room"]


def check_room(node: Node, target: Target, artifact: Artifact, population: Population) -> None:
    """Compare how many peers a target asks with the `cohort` of its aggregator, if it has one.

    A target with several aggregators is left alone: who answers which of them is not looked at.

    Raises:
        BadScenario: More are asked than the aggregator takes in a round.
    """
    slots = [row.slot for row in target.rows if row.role == "aggregator"]
    if len(slots) != 1:
        return
    limit: Any = getattr(node.component(slots[0]).config, "cohort", None)
    asked = _asked(target, artifact, population)
    if isinstance(limit, int) and asked > limit:
        raise BadScenario(
            f"{asked:,} peers are asked in a round, and the aggregator of slot {slots[0]!r} takes "
            f"{limit:,} updates",
            expected=f"cohort of at least {asked} in its configuration, or a smaller sample",
            fix=f"configure {slots[0]!r} with cohort={asked}; where that makes a grid too coarse, "
            "with a smaller weight_max or value_max, too",
        )


def _asked(target: Target, artifact: Artifact, population: Population) -> int:
    """Return how many peers the largest selection of a target has, among those there are."""
    most = 0
    domain = keys.role_domain("peer_selector")
    for op in target.ops:
        if op.domain != domain or op.name not in ("Sample", "CurrentView"):
            continue
        of = artifact.slots.get(op.slot, {}).get("of", keys.SELF_CLASS)
        cls = target.cls if of == keys.SELF_CLASS else of
        there = population.count(cls) if cls in population.classes else 0
        most = max(most, min(there, int(op.attributes.get("n", there))))
    return most
