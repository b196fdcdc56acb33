"""Builds the components of a Node from the rows of its targets, or nothing at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from bb_ir.buffers import BufferPool
from bb_ir.errors import closest
from bb_ir.ids import PeerId
from bb_ir.type_texts import brief, clash
from bb_ir.types import meet, parse_type
from bb_roles.config import build_config
from bb_roles.contracts import CONTRACTS, Component, Environment
from bb_roles.errors import ConfigError, InputMisfit, MissingConfigError, PluginError
from bb_roles.registry import bound_class
from bb_runtime._frames import NOTHING
from bb_runtime.artifact import Artifact, Row, Target
from bb_runtime.errors import (
    ConfigTypeMismatch,
    ConstructionFailed,
    InvalidBindingTable,
    MissingConfig,
    NotAllowed,
    UnregisteredComponent,
)

__all__ = ["StandIn", "build_components", "close_all"]

#: Is given a role and the class that is bound to a slot of it; returns the class to be built.
StandIn = Callable[[str, type[Component]], type[Component]]

#: Target and slot -> component.
Built = dict[tuple[str, str], Component]


def build_components(
    artifact: Artifact,
    targets: Sequence[Target],
    config: Mapping[str, object],
    *,
    peer: PeerId,
    seed: int,
    allow: Collection[str] | None,
    pool: BufferPool,
    stand_in: StandIn | None = None,
) -> Built:
    """Build each component once; targets whose rows are equal share it.

    Raises:
        InstallError: Nothing was built: a component is not installed, not allowed, not
            configured as it needs, or its constructor raised.
    """
    _check_config_names(artifact, config)
    classes = {(r.role, r.component): _class_of(r, allow) for t in targets for r in t.rows}
    if stand_in is not None:
        classes = {key: stand_in(key[0], cls) for key, cls in classes.items()}
    builder = _Builder(classes, config, peer, seed, pool)
    try:
        for target in targets:
            rows = {row.slot: row for row in target.rows}
            for slot in rows:
                builder.build(slot, target, rows, ())
    except BaseException:
        close_all(builder.built.values())
        raise
    return builder.built


def close_all(components: Iterable[Component]) -> list[Exception]:
    """Close each component once, those built last first; return what they raised."""
    errors: list[Exception] = []
    for component in reversed({id(one): one for one in components}.values()):
        try:
            component.close()
        except Exception as error:  # noqa: BLE001  # the others are to be closed too
            errors.append(error)
    return errors


@dataclass
class _Builder:
    """Builds the components of one Node."""

    classes: Mapping[tuple[str, str], type[Component]]
    config: Mapping[str, object]
    peer: PeerId
    seed: int
    pool: BufferPool
    built: Built = field(default_factory=dict[tuple[str, str], Component])
    #: By row, configuration and siblings: targets that agree on all of them share a component.
    shared: dict[object, Component] = field(default_factory=dict[object, Component])

    def build(
        self, slot: str, target: Target, rows: Mapping[str, Row], above: tuple[str, ...]
    ) -> Component:
        """Build a slot's component, those it depends on first."""
        if (target.name, slot) in self.built:
            return self.built[target.name, slot]
        if slot in above:
            raise ConstructionFailed(
                f"components depend on each other in a circle: {' -> '.join((*above, slot))}",
                fix="remove one of the dependencies",
            )
        row = rows[slot]
        cls = self.classes[row.role, row.component]
        siblings: dict[str, Component] = {}
        for name, contract in cls.depends.items():
            _check_sibling(slot, row, name, contract, rows)
            siblings[name] = self.build(name, target, rows, (*above, slot))
        own = f"{target.cls}.{slot}"
        name = own if own in self.config else slot
        key = (row, name, tuple(map(id, siblings.values())))
        settings = _settings(cls, row, name, self.config.get(name))
        _check_types(cls, row, name, settings)  # of each class, also where they share a component
        if key not in self.shared:
            environment = Environment(self.peer, slot, self.seed, siblings or NOTHING, self.pool)
            self.shared[key] = _construct(cls, row, name, settings, environment)
        self.built[target.name, slot] = self.shared[key]
        return self.shared[key]


def _check_sibling(
    slot: str, row: Row, needed: str, contract: type, rows: Mapping[str, Row]
) -> None:
    role = next((role for role, one in CONTRACTS.items() if one is contract), "")
    if needed not in rows or (role and rows[needed].role != role):
        found = f"binds it to a {rows[needed].role}" if needed in rows else "does not bind it"
        raise InvalidBindingTable(
            f"{row.component!r} in slot {slot!r} needs slot {needed!r}, and the artifact {found}",
            expected=f"a component of role {role or contract.__name__}",
            fix="compile the program again with the components that are installed here",
        )


def _construct(
    cls: type[Component], row: Row, name: str, settings: object, environment: Environment
) -> Component:
    """Construct a component from what the configuration holds under a name."""
    try:
        return cls(settings, environment)
    except Exception as error:
        raise ConstructionFailed(
            f"the component of slot {row.slot!r}, {cls.__module__}.{cls.__qualname__}, cannot be "
            f"built: {type(error).__name__}: {error}",
            fix=f"check config[{name!r}]",
        ) from error


def _settings(cls: type[Component], row: Row, name: str, given: object) -> object:
    """Return the configuration: what is given, over what the program was compiled with."""
    compiled: dict[str, object] = json.loads(row.config) if row.config else {}
    values = given
    if compiled and (given is None or isinstance(given, Mapping)):
        values = {**compiled, **(cast("Mapping[str, object]", given) if given else {})}
    # Says whose mistake it is: what was compiled may not fit what is installed here.
    noted = f"the artifact was compiled with {row.config}" if values is not given else ""
    try:
        built: object = build_config(cls.Config, values, name)
    except MissingConfigError as error:
        raise MissingConfig(error.found, expected=error.expected, fix=error.fix) from None
    except ConfigError as error:
        where = (*error.where, noted) if noted else error.where
        raise ConfigTypeMismatch(
            error.found, expected=error.expected, fix=error.fix, where=where
        ) from None
    return built


def _check_types(cls: type[Component], row: Row, name: str, settings: object) -> None:
    """Check that a configuration gives values of the types that the program was compiled for."""
    if not (row.value_types or row.inferred):
        return
    try:
        triples = [*_declared(cls, row, settings), *_inferred(cls, row, settings)]
        apart = [(port, parse_type(found), parse_type(text))
                 for port, found, text in triples if found != text]  # fmt: skip
    except InputMisfit as error:
        raise ConfigTypeMismatch(
            f"as slot {row.slot!r} is configured here, {error.found}",
            expected=error.expected,
            fix=f"configure it as the program was compiled, {row.config}, or: {error.fix}",
            where=f"config[{name!r}]",
        ) from None
    except Exception as error:
        raise ConstructionFailed(
            f"the types of slot {row.slot!r} cannot be compared with those it was compiled with: "
            f"{type(error).__name__}: {error}",
            fix=f"compile the program again with the {row.component!r} that is installed here",
        ) from error
    for port, given, wanted in apart:
        if meet(given, wanted) is None:
            differs = clash(given, wanted)
            raise ConfigTypeMismatch(
                f"as slot {row.slot!r} is configured here, {port} is {brief(given)}"
                f"{differs and f': {differs}'}",
                expected=f"{brief(wanted)}, for which the program was compiled",
                fix=f"configure it as the program was compiled, {row.config}, or compile it again "
                "with bind(..., config=...)",
                where=f"config[{name!r}]",
            )


def _declared(cls: type[Component], row: Row, settings: object) -> Iterator[tuple[str, str, str]]:
    """Yield ports with their types as configured here, and as compiled."""
    here = cls.value_types(settings)
    compiled: dict[str, str] = json.loads(row.value_types or "{}")
    for port, text in compiled.items():
        yield port, here.get(port, text), text


def _inferred(cls: type[Component], row: Row, settings: object) -> Iterator[tuple[str, str, str]]:
    """Yield the same for what the component infers from the types of what its ops are given."""
    compiled: dict[str, list[Any]] = json.loads(row.inferred or "{}")
    for op, answers in compiled.items():
        for inputs, outputs in answers:
            here = cls.infer_types(settings, op, tuple(map(parse_type, inputs))) or {}
            for port, text in outputs.items():
                yield f"{op}.{port}", str(here.get(port, text)), text


def _class_of(row: Row, allow: Collection[str] | None) -> type[Component]:
    label = f"{row.role}.{row.component}"
    if allow is not None and label not in allow:
        raise NotAllowed(
            f"the artifact binds slot {row.slot!r} to {label}",
            expected=f"one of {', '.join(sorted(allow)) or 'none'}",
            fix="allow it, or install another artifact",
        )
    try:
        return bound_class(row.role, row.component)
    except PluginError as error:
        raise UnregisteredComponent(
            f"slot {row.slot!r}: {error.found}", expected=error.expected, fix=error.fix
        ) from None


def _check_config_names(artifact: Artifact, config: Mapping[str, object]) -> None:
    slots = {row.slot for target in artifact.targets.values() for row in target.rows}
    known = slots | {f"{t.cls}.{r.slot}" for t in artifact.targets.values() for r in t.rows}
    for name in config:
        if name not in known:
            close = closest(name, sorted(known))
            raise ConfigTypeMismatch(
                f"the configuration names {name!r}, which is no slot of this artifact",
                expected=f"slots: {', '.join(sorted(slots))}, or <class>.<slot>",
                fix=f"did you mean {close!r}?" if close else "remove it or correct its name",
                where=f"config[{name!r}]",
            )
