"""What a Node is made of, and what its snapshot says about it: where else it may be restored."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bb_ir.types import custom_names
from bb_ir.values import Codecs
from bb_roles.contracts import Component
from bb_roles.errors import PluginError
from bb_roles.registry import type_spec, value_codec

if TYPE_CHECKING:
    from bb_runtime._admission import Admission
    from bb_runtime._engine import Engine
    from bb_runtime.artifact import Target

__all__ = ["Parts", "class_name", "codecs_of", "components_of", "head_of", "regions_of"]

Table = dict[str, Any]


class Parts(NamedTuple):
    """What a Node is made of."""

    engine: Engine
    admission: Admission
    targets: Sequence[Target]
    components: Mapping[tuple[str, str], Component]


def head_of(node: Parts) -> Table:
    """Return what a snapshot says about the Node that it is of; equal for one that may take it."""
    engine = node.engine
    artifact = engine.artifact
    return {
        "program": artifact.program,
        "targets": [[t.name, artifact.hashes.get(t.name, "")] for t in node.targets],
        "peer": engine.peer,
        "seed": hashlib.blake2b(engine.seed_key, digest_size=16).hexdigest(),
        "classes": [[slot, class_name(one)] for slot, one in components_of(node)],
        "layout": _layout(engine),
    }


def regions_of(engine: Engine) -> list[tuple[str, str]]:
    """Return target and name of each region, for those who look at a snapshot."""
    programs = (bound.program for bound in engine.bounds)
    return [(program.target.short, program.info.name) for program in programs]


def components_of(node: Parts) -> list[tuple[str, Component]]:
    """Return each component of a Node once, with all the slots that it fills."""
    slots: dict[int, list[str]] = {}
    found: dict[int, Component] = {}
    for (target, slot), component in node.components.items():
        found[id(component)] = component
        slots.setdefault(id(component), []).append(f"{target.partition('#')[0]}/{slot}")
    return [(", ".join(slots[key]), one) for key, one in found.items()]


def codecs_of(node: Parts) -> Codecs:
    """Return the codecs of all types of plugins that the Node's targets mention."""
    known = dict(node.engine.post.codecs)
    for target in node.targets:
        for declared in target.types.values():
            for name in custom_names(declared):
                if name in known:
                    continue
                try:
                    known[name] = value_codec(type_spec(name))
                except PluginError:
                    continue  # its values are then refused by what they are
    return known


def class_name(component: Component) -> str:
    cls = type(component)
    return f"{cls.__module__}:{cls.__qualname__}"


def _layout(engine: Engine) -> str:
    """Return a digest of how the program was lowered: what positions and numbers mean."""
    digest = hashlib.blake2b(digest_size=16)
    for bound in engine.bounds:
        program = bound.program
        ops = [
            (s.needs, [(op.domain, op.name, op.slot) for op in s.ops]) for s in program.stretches
        ]
        gathers = [(info.index, info.edge, info.outs) for info in program.gathers]
        plans = [
            plan and (plan.uses, sorted(plan.group.uses.items()), sorted(plan.group.wants.items()))
            for plan in bound.plans or ()
        ]
        shape = program.info.name, program.size, program.ports, ops, gathers, plans
        digest.update(repr(shape).encode())
    return digest.hexdigest()
