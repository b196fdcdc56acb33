"""Finds plugins by name. Listing reads metadata only; binding imports exactly one plugin.

Nothing is remembered here that `importlib.metadata` does not hold, apart from declarations that
were read before.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pluggy

from bb_ir import keys
from bb_roles import hookspecs
from bb_roles._hooks import ENTRY_POINT_GROUP, PROJECT
from bb_roles.contracts import CONTRACTS, Component
from bb_roles.errors import PluginError, UnknownPluginError
from bb_roles.spec import API, ComponentSpec, OpsSpec

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "Installed",
    "bound_class",
    "component_class",
    "component_spec",
    "import_named",
    "installed",
    "ops_spec",
]


@dataclass(frozen=True, slots=True)
class Installed:
    """One entry point of an installed distribution.

    Attributes:
        kind: Role, or `op` and other kinds of plugins.
        name: Name within the kind.
        distribution: Name of the distribution that provides it.
        version: Version of that distribution.
        value: Module that holds the hook.
        location: Folder the distribution is installed in.
    """

    kind: str
    name: str
    distribution: str
    version: str
    value: str
    location: str


def installed(kind: str = "") -> list[Installed]:
    """Return what is installed, sorted; reads metadata and imports nothing."""
    found = [_describe(entry) for entry in _entry_points()]
    chosen = (one for one in found if not kind or one.kind == kind)
    return sorted(chosen, key=lambda one: (one.kind, one.name, one.distribution))


def component_spec(role: str, name: str) -> ComponentSpec:
    """Import the plugin `<role>.<name>` and return its declaration.

    Raises:
        UnknownPluginError: Nobody provides it.
        PluginError: It cannot be imported, is provided twice, or does not fit the contract.
    """
    spec = _ask(f"{role}.{name}", "bb_component")
    if not isinstance(spec, ComponentSpec):
        raise PluginError(
            f"plugin {role}.{name} declares a {type(spec).__name__}",
            expected="bb_component() returns a bb_roles.ComponentSpec",
        )
    _check_api(f"{role}.{name}", spec.api)
    if (spec.role, spec.name) != (role, name):
        raise PluginError(
            f"plugin {role}.{name} declares itself as {spec.role}.{spec.name}",
            fix="make the entry point's name and the ComponentSpec agree",
        )
    return spec


def ops_spec(domain: str) -> OpsSpec:
    """Import the plugin that implements an op domain and return its declaration.

    Raises:
        UnknownPluginError: Nobody provides it.
        PluginError: It cannot be imported, is provided twice, or does not fit the contract.
    """
    name = f"op.{domain.removeprefix(keys.PREFIX)}"
    spec = _ask(name, "bb_ops")
    if not isinstance(spec, OpsSpec) or spec.domain != domain:
        raise PluginError(
            f"plugin {name} declares {spec!r}", expected=f"an OpsSpec of domain {domain}"
        )
    _check_api(name, spec.api)
    return spec


def component_class(spec: ComponentSpec) -> type[Component]:
    """Import the class that a declaration names and check that it fills its role.

    Raises:
        PluginError: It cannot be imported or is not of the contract.
    """
    label = f"{spec.role}.{spec.name}"
    cls = import_named(spec.cls, label)
    contract = CONTRACTS.get(spec.role, Component)
    if not isinstance(cls, type) or not issubclass(cls, contract):
        raise PluginError(
            f"plugin {label} names {spec.cls}, which is not a {contract.__name__}",
            fix=f"let the class inherit bb_roles.{contract.__name__}",
        )
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise PluginError(
            f"plugin {label}: {spec.cls} lacks {', '.join(missing)}",
            expected=f"every method of bb_roles.{contract.__name__}",
        )
    return cls


def bound_class(role: str, component: str) -> type[Component]:
    """Return the class behind a row of a binding table: a plugin's name, or `module:Class`.

    Raises:
        PluginError: It is not installed, cannot be imported or is not of the role's contract.
    """
    if ":" not in component:
        return component_class(component_spec(role, component))
    return component_class(ComponentSpec(role=role, name=component, cls=component))


def import_named(path: str, label: str) -> Any:
    """Import what `module:name` names; errors carry the plugin's label.

    Raises:
        PluginError: The module cannot be imported or lacks the name.
    """
    module, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise PluginError(
            f"plugin {label} cannot be imported: {type(error).__name__}: {error}",
            fix=f"check that {path!r} exists and that its dependencies are installed",
        ) from error
    return found


def _check_api(label: str, api: tuple[int, int]) -> None:
    if api[0] != API[0] or api[1] > API[1]:
        raise PluginError(
            f"plugin {label} was written for contract {api[0]}.{api[1]}",
            expected=f"{API[0]}.0 to {API[0]}.{API[1]}, which this bb-roles speaks",
            fix="install a bb-roles and a plugin that fit each other",
        )


@lru_cache(maxsize=512)
def _ask_entry(name: str, value: str, hook: str, _path: str) -> Any:
    """Register one plugin with a pluggy manager of its own and call one hook."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(importlib.import_module(value), name=name)
        manager.check_pending()
        called: Callable[[], Any] = getattr(manager.hook, hook)
        answer = called()
    except Exception as error:
        raise PluginError(
            f"plugin {name} does not load: {type(error).__name__}: {error}",
            fix=f"repair or uninstall the distribution that provides {value!r}",
        ) from error
    if answer is None:
        raise PluginError(f"plugin {name} has no hook {hook}", fix=f"add @hookimpl def {hook}()")
    return answer


def _ask(name: str, hook: str) -> Any:
    found = [entry for entry in _entry_points() if entry.name == name]
    if not found:
        raise _unknown(name)
    if len(found) > 1:
        owners = ", ".join(sorted(_describe(entry).distribution for entry in found))
        raise PluginError(
            f"plugin {name} is provided by more than one distribution: {owners}",
            fix="uninstall all but one of them",
        )
    one = _describe(found[0])
    return _ask_entry(name, one.value, hook, one.location)


def _unknown(name: str) -> UnknownPluginError:
    kind, _, short = name.partition(".")
    names = [one.name for one in installed(kind)]
    close = get_close_matches(short, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    if os.environ.get("BB_PLUGINS"):
        hint += "BB_PLUGINS is set and hides all others; "
    return UnknownPluginError(
        f"no plugin provides {name}",
        expected=f"installed: {', '.join(names) or 'none'}",
        fix=f"{hint}`bb plugins` lists what is installed; plugins are installed with pip",
    )


def _entry_points() -> list[EntryPoint]:
    seen = os.environ.get("BB_PLUGINS", "")
    chosen = {name.strip() for name in seen.split(",") if name.strip()}
    found = _read_entry_points(tuple(_stamp(folder) for folder in sys.path))
    return [e for e in found if not chosen or e.name in chosen or e.name.startswith("op.")]


@lru_cache(maxsize=8)
def _read_entry_points(_folders: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    """Read all metadata: 5 ms with a few plugins, so once for each state of the folders."""
    # Costs 30 to 45 ms to import, and most programs never list plugins.
    from importlib.metadata import entry_points

    return tuple(entry_points(group=ENTRY_POINT_GROUP))


def _stamp(folder: str) -> tuple[str, int]:
    """Return a folder of `sys.path` with when it changed: installing changes it."""
    try:
        return folder, os.stat(folder or ".").st_mtime_ns  # noqa: PTH116  # a path object costs more
    except OSError:
        return folder, 0


def _describe(entry: EntryPoint) -> Installed:
    kind, _, name = entry.name.partition(".")
    dist = entry.dist
    return Installed(
        kind=kind,
        name=name,
        distribution=dist.name if dist else "?",
        version=dist.version if dist else "?",
        value=entry.value,
        location=str(dist.locate_file("")) if dist else "",
    )
