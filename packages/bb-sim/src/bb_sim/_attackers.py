"""Who attacks: drawn by the seed, from peers that can."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bb_roles.contracts import Component
from bb_sim._attacks import ROLES, attacking
from bb_sim._draws import Purpose
from bb_sim._reading import share
from bb_sim.errors import BadScenario
from bb_sim.scenario import Attack

if TYPE_CHECKING:
    from bb_runtime import Artifact
    from bb_sim._world import World

__all__ = ["Attackers"]


class Attackers:
    """The attackers of a simulation, and what they are built of.

    Larger shares of the same seed have the attackers of smaller ones among theirs.

    Args:
        world: Everything about the simulation.
        roots: Peers that are invoked.

    Raises:
        BadScenario: Nobody can attack so, or not as many, or the attack is impossible.
        UnknownPeers: The scenario draws attackers from peers that there are not.
    """

    def __init__(self, world: World, roots: set[int]) -> None:
        self.attack = world.scenario.attack
        self.numbers: frozenset[int] = frozenset()
        self._classes: dict[tuple[str, type[Component]], type[Component]] = {}
        if self.attack is None:
            return
        _check(self.attack)
        able = _able(self.attack, world, roots)
        count = _count(self.attack, len(able))
        ranked = sorted(able, key=lambda n: (world.draws.at(Purpose.ATTACK, n, 0, 0)[0], n))
        self.numbers = frozenset(ranked[:count])

    def stand_in(self, role: str, cls: type[Component]) -> type[Component]:
        """Return what an attacker is built of, given a role and what is bound."""
        assert self.attack is not None
        if role != ROLES[self.attack.kind]:
            return cls
        if (role, cls) not in self._classes:
            self._classes[role, cls] = attacking(self.attack, cls)
        return self._classes[role, cls]


def _check(attack: Attack) -> None:
    share(attack.share, "share of [attack]")
    if attack.count is not None and attack.count < 0:
        raise BadScenario(f"count of [attack] is {attack.count}", expected="at least 0")
    if attack.scale is not None and not math.isfinite(attack.scale):
        raise BadScenario(f"scale of [attack] is {attack.scale}", expected="a finite number")
    if attack.kind == "gaussian" and attack.scale is not None and attack.scale < 0:
        raise BadScenario(
            f"scale of [attack] is {attack.scale}",
            expected="at least 0: it is a standard deviation",
        )
    if attack.classes < 2:
        raise BadScenario(f"classes of [attack] is {attack.classes}", expected="at least 2")


def _able(attack: Attack, world: World, roots: set[int]) -> list[int]:
    """Return the peers from which attackers are drawn."""
    role, population = ROLES[attack.kind], world.population
    classes = _classes_with(role, world.artifact)
    if attack.peers:
        chosen = population.select(attack.peers, world.draws, "peers of [attack]")
    else:
        others = [number for number in range(len(population)) if number not in roots]
        chosen = tuple(n for n in others if population.place(n)[0] in classes) or tuple(roots)
    unable = sorted({population.place(n)[0] for n in chosen} - classes)
    if unable:
        raise BadScenario(
            f"peers of class {unable[0]!r} are to attack by {attack.kind} and use no "
            f"{role.replace('_', ' ')}",
            expected=f"a class that does: {', '.join(sorted(classes)) or 'none of this program'}",
            fix="name others with peers of [attack], or choose another kind",
        )
    return list(chosen)


def _count(attack: Attack, among: int) -> int:
    """Return how many attackers there are; a share above 0 is at least one."""
    if attack.count is None:
        return min(among, max(1, round(attack.share * among))) if attack.share else 0
    if attack.count > among:
        raise BadScenario(
            f"{attack.count} attackers are to be drawn from {among} peers",
            expected=f"at most {among}",
            fix="let there be more peers, or fewer attackers",
        )
    return attack.count


def _classes_with(role: str, artifact: Artifact) -> set[str]:
    """Return the classes whose ops use a component of a role."""
    found: set[str] = set()
    for target in artifact.targets.values():
        slots: dict[str, Any] = {row.slot: row for row in target.rows if row.role == role}
        if any(op.slot in slots for op in target.ops):
            found.add(target.cls)
    return found
