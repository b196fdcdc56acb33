"""Builds the components of a Node from the rows of its targets, or nothing at all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from bb_ir.ids import PeerId
from bb_roles.config import build_config
from bb_roles.contracts import Component, Environment
from bb_roles.errors import ConfigError, MissingConfigError, PluginError
from bb_roles.registry import bound_class
from bb_runtime.artifact import Artifact, Row, Target
from bb_runtime.errors import (
    ConfigTypeMismatch,
    ConstructionFailed,
    InstallError,
    MissingConfig,
    NotAllowed,
    UnregisteredComponent,
)

__all__ = ["build_components"]

#: Target and slot -> component.
Built = dict[tuple[str, str], Component]


def build_components(
    artifact: Artifact,
    targets: Sequence[Target],
    config: Mapping[str, object],
    peer: PeerId,
    seed: int,
    allow: Collection[str] | None,
) -> Built:
    """Build each component once; targets whose rows are equal share it.

    Raises:
        InstallError: Nothing was built: a component is not installed, not allowed, not
            configured as it needs, or its constructor raised.
    """
    _check_config_names(artifact, config)
    classes = {row.component + row.role: _class_of(row, allow) for t in targets for row in t.rows}
    shared: dict[tuple[Row, object], Component] = {}
    built: Built = {}
    try:
        for target in targets:
            rows = {row.slot: row for row in target.rows}
            for slot in rows:
                _build(slot, rows, target, classes, config, peer, seed, shared, built, ())
    except InstallError:
        for component in dict.fromkeys(built.values()):
            component.close()
        raise
    return built


def _build(
    slot: str,
    rows: Mapping[str, Row],
    target: Target,
    classes: Mapping[str, type[Component]],
    config: Mapping[str, object],
    peer: PeerId,
    seed: int,
    shared: dict[tuple[Row, object], Component],
    built: Built,
    above: tuple[str, ...],
) -> Component:
    """Build a slot's component, those it depends on first."""
    if (target.name, slot) in built:
        return built[target.name, slot]
    row = rows[slot]
    own = f"{target.cls}.{slot}"
    key = (row, own if own in config else slot)
    if key not in shared:
        cls = classes[row.component + row.role]
        if slot in above:
            raise ConstructionFailed(
                f"components depend on each other in a circle: {' -> '.join((*above, slot))}",
                fix="remove one of the dependencies",
            )
        siblings = {
            name: _build(
                name, rows, target, classes, config, peer, seed, shared, built, (*above, slot)
            )
            for name in cls.depends
        }
        given = config.get(own, config.get(slot))
        shared[key] = _construct(cls, slot, given, Environment(peer, slot, seed, siblings))
    built[target.name, slot] = shared[key]
    return shared[key]


def _construct(
    cls: type[Component], slot: str, given: object, environment: Environment
) -> Component:
    try:
        settings = build_config(cls.Config, given, slot)
    except MissingConfigError as error:
        raise MissingConfig(error.found, expected=error.expected, fix=error.fix) from error
    except ConfigError as error:
        raise ConfigTypeMismatch(
            error.found, expected=error.expected, fix=error.fix, where=error.where
        ) from error
    try:
        return cls(settings, environment)
    except Exception as error:
        raise ConstructionFailed(
            f"the component of slot {slot!r}, {cls.__module__}.{cls.__qualname__}, cannot be "
            f"built: {type(error).__name__}: {error}",
            fix=f"check config[{slot!r}]",
        ) from error


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
        ) from error


def _check_config_names(artifact: Artifact, config: Mapping[str, object]) -> None:
    slots = {row.slot for target in artifact.targets.values() for row in target.rows}
    known = slots | {f"{t.cls}.{r.slot}" for t in artifact.targets.values() for r in t.rows}
    for name in config:
        if name not in known:
            raise ConfigTypeMismatch(
                f"the configuration names {name!r}, which is no slot of this artifact",
                expected=f"slots: {', '.join(sorted(slots))}, or <class>.<slot>",
                fix="remove it or correct its name",
                where=f"config[{name!r}]",
            )
