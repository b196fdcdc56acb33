"""Makes the Node of a virtual peer when it is first needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bb_ir import keys
from bb_ir.buffers import BufferPool
from bb_ir.errors import did_you_mean
from bb_ir.ids import PeerId
from bb_ir.types import ANY
from bb_roles.registry import bound_class
from bb_runtime import Artifact, InstallError, Node, Options, install
from bb_runtime.artifact import Target
from bb_sim._attackers import Attackers
from bb_sim._journals import Journals
from bb_sim._population import Population
from bb_sim._room import check_room
from bb_sim.errors import BadScenario

__all__ = ["Fields", "Installer", "components_of", "counts_of", "inputs_of", "main_target"]

#: Fields of a slot's configuration; a value may be a function of the Node's index in its class.
Fields = Mapping[str, Any] | Callable[[int], Mapping[str, Any]]


class Installer:
    """Knows what every Node of a program is made of.

    What a Node is before anything came to it is a function of the seed and its number, so it does
    not matter when it is made.
    """

    def __init__(
        self,
        artifact: Artifact,
        population: Population,
        config: Mapping[str, Fields],
        seed: int,
        options: Options | None,
        *,
        attackers: Attackers,
        by_reference: bool = True,
    ) -> None:
        self._artifact = artifact
        self._population = population
        self._config = dict(config)
        self._seed = seed
        self._options = options
        self._attackers = attackers
        self._by_reference = by_reference
        self._pool = BufferPool()
        #: Who writes a journal; nobody when `None`.
        self.journals: Journals | None = None
        self._targets = {
            cls: [t.name for t in artifact.targets.values() if t.cls == cls]
            for cls in population.classes
        }
        self._selectors = {cls: self._selectors_of(cls) for cls in population.classes}
        self._members = {
            cls: population.ids[slice(population.members(cls).start, population.members(cls).stop)]
            for cls in population.classes
        }

    def install(self, number: int, life: int, now_ns: int) -> Node:
        """Make the Node of a peer, in its first or a later life, with fresh state."""
        cls, index = self._population.place(number)
        return install(
            self._population.ids[number], [], self._artifact, self._targets[cls],
            self._configured(number, cls, index), seed=self._seed, incarnation=life,
            options=self._options, pool=self._pool, now_ns=now_ns,
            by_reference=self._by_reference,
            journal=None if self.journals is None else self.journals.of(number, life),
            stand_in=self._attackers.stand_in if number in self._attackers.numbers else None,
        )  # fmt: skip

    def try_each(self) -> None:
        """Install the first peer of each class, and an attacker: mistakes show before a run.

        Raises:
            InstallError: A peer cannot be installed.
            BadScenario: A peer asks more others than its aggregator takes.
        """
        firsts = [self._population.members(cls).start for cls in self._population.classes]
        for number in [*firsts, *sorted(self._attackers.numbers)[:1]]:
            node = self.install(number, 1, 0)
            try:
                self._check_room(node, self._population.place(number)[0])
            finally:
                node.close()

    def _check_room(self, node: Node, cls: str) -> None:
        for target in self._artifact.targets.values():
            if target.cls == cls:
                check_room(node, target, self._artifact, self._population)

    def _configured(self, number: int, cls: str, index: int) -> dict[str, Any]:
        """Return the configuration of one Node: its functions called, its peers filled in."""
        config: dict[str, Any] = {}
        for name, fields in self._config.items():
            owner = name.rpartition(".")[0]
            if owner in self._targets and owner != cls:
                continue
            config[name] = fields(index) if callable(fields) else fields
        for slot, of in self._selectors[cls].items():
            own = f"{cls}.{slot}" if f"{cls}.{slot}" in config else slot
            known: Any = config.get(own) or {}
            if isinstance(known, Mapping) and "peers" not in known:
                config[own] = {**known, "peers": self._others(of, number)}
        return config

    def _others(self, cls: str, number: int) -> tuple[PeerId, ...]:
        members = self._members.get(cls, ())
        own = self._population.ids[number]
        if cls != self._population.place(number)[0]:
            return members
        return tuple(peer for peer in members if peer != own)

    def _selectors_of(self, cls: str) -> dict[str, str]:
        """Return the peer selectors of a class that are configured with peers, and of which."""
        found: dict[str, str] = {}
        for target in self._artifact.targets.values():
            for row in target.rows:
                if target.cls != cls or row.role != "peer_selector":
                    continue
                fields = dataclasses.fields(bound_class(row.role, row.component).Config)
                if any(field.name == "peers" for field in fields):
                    of = self._artifact.slots.get(row.slot, {}).get("of", keys.SELF_CLASS)
                    found[row.slot] = cls if of == keys.SELF_CLASS else of
        return found


def main_target(artifact: Artifact, name: str) -> Target:
    """Return the target that a simulation invokes.

    Raises:
        InstallError: There is none of that name that can be invoked.
    """
    able = [
        target
        for target in artifact.targets.values()
        if target.phase == "body" and any(not region.opened_in for region in target.regions)
    ]
    for target in able:
        if name in ("", target.short, target.name):
            return target
    names = [target.short for target in able]
    raise InstallError(
        f"target {name!r} cannot be invoked" if name else "the artifact holds nothing to invoke",
        expected=f"one of {', '.join(names) or 'none'}",
        fix=did_you_mean(name, names) or "targets of other classes start when an envelope arrives",
    )


def counts_of(artifact: Artifact, peers: Mapping[str, int], main: str) -> dict[str, int]:
    """Return how many peers each class has, the starting class first.

    Raises:
        BadScenario: A class is unknown, or has no peers.
    """
    for cls, count in peers.items():
        if cls not in artifact.classes:
            raise BadScenario(
                f"there are {count} peers of class {cls!r}, which is none of this program",
                expected=f"a class of {', '.join(artifact.classes)}",
                fix=did_you_mean(cls, artifact.classes) or "",
            )
        if count < 1:
            raise BadScenario(f"there are {count} peers of class {cls!r}", expected="at least 1")
    ordered = [main, *(cls for cls in artifact.classes if cls != main)]
    return {cls: peers.get(cls, 1) for cls in ordered}


def inputs_of(target: Target, given: Mapping[str, Any], population: Population) -> dict[str, Any]:
    """Return the inputs of an invocation; those that are peers are filled in."""
    inputs = dict(given)
    for name in target.inputs:
        type_ = target.types.get(name, ANY)
        if name not in inputs and type_.kind == "peers" and type_.of in population.classes:
            members = population.members(type_.of)
            inputs[name] = population.ids[members.start : members.stop]
        elif name in inputs and type_.kind == "tensor":
            inputs[name] = np.asarray(inputs[name], dtype=type_.dtype or None)
    return inputs


def components_of(artifact: Artifact) -> dict[str, str]:
    """Return what fills the slots, by slot, or by class and slot where classes differ."""
    rows = {
        (row.slot, target.cls): row.component
        for target in artifact.targets.values()
        for row in target.rows
    }
    found: dict[str, str] = {}
    for (slot, cls), component in sorted(rows.items()):
        alike = {one for (other, _), one in rows.items() if other == slot} == {component}
        found[slot if alike else f"{cls}.{slot}"] = component
    return found
