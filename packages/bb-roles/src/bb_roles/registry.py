"""Finds plugins by name. Listing reads metadata only; binding imports exactly one plugin.

Nothing is remembered here that `importlib.metadata` does not hold, apart from declarations that
were read before.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import pluggy

from bb_ir import keys
from bb_ir.errors import TypeTextError
from bb_ir.ops import role_op
from bb_ir.types import custom
from bb_roles import hookspecs
from bb_roles._hooks import ENTRY_POINT_GROUP, PROJECT
from bb_roles.contracts import CONTRACTS, Component
from bb_roles.errors import PluginError, UnknownPluginError
from bb_roles.spec import API, ComponentSpec, OpsSpec, StageSpec, TypeSpec
from bb_roles.value_types import TypeCodec

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from onnx import ModelProto

    from bb_ir.values import ValueCodec

__all__ = [
    "Installed",
    "bound_class",
    "component_class",
    "component_spec",
    "import_named",
    "installed",
    "installed_types",
    "ops_spec",
    "stage_function",
    "stage_spec",
    "type_point",
    "type_spec",
    "value_codec",
]

#: Largest limit that a type may declare for its values.
_MOST_BYTES = 1 << 30
#: Names of stages stand in a list with commas between them.
_STAGE_NAME = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)


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


def installed_types() -> list[str]:
    """Return the names of the types of values that plugins add; reads metadata only."""
    found: set[str] = set()
    for one in installed("type"):
        name, _, version = one.name.rpartition(".")
        try:
            found.add(custom(f"{name}/{version}").of)
        except TypeTextError:  # a type without a version cannot be named by anybody
            continue
    return sorted(found)


def type_point(name: str) -> str:
    """Return the entry point of a type: that of `acme.graph/1` is `type.acme.graph.1`."""
    return f"type.{name.replace('/', '.')}"


def type_spec(name: str) -> TypeSpec:
    """Import the plugin that adds a type of values and return its declaration.

    Args:
        name: Name and version, such as `acme.graph/1`.

    Raises:
        UnknownPluginError: Nobody provides it.
        PluginError: It cannot be imported, is provided twice, or does not fit the contract.
    """
    point = type_point(name)
    spec = _ask(point, "bb_type")
    if not isinstance(spec, TypeSpec) or spec.name != name:
        raise PluginError(
            f"plugin {point} declares {spec!r}", expected=f"a bb_roles.TypeSpec of name {name!r}"
        )
    _check_api(point, spec.api)
    limit: Any = spec.max_bytes
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 < limit <= _MOST_BYTES:
        raise PluginError(
            f"plugin {point} declares max_bytes={limit!r}", expected=f"1 to {_MOST_BYTES} bytes"
        )
    return spec


def value_codec(spec: TypeSpec) -> ValueCodec:
    """Import the classes that a type's declaration names; return how its values are encoded.

    Raises:
        PluginError: One cannot be imported, or the codec is not of the contract.
    """
    from bb_ir.values import ValueCodec

    point = type_point(spec.name)
    cls = import_named(spec.cls, point)
    made_by = import_named(spec.codec, point)
    if not isinstance(cls, type):
        raise PluginError(
            f"plugin {point} names {spec.cls}, which is no class",
            expected="the Python class of the type's values",
        )
    if not isinstance(made_by, type) or not issubclass(made_by, TypeCodec):
        raise PluginError(
            f"plugin {point} names {spec.codec}, which is not a TypeCodec",
            fix="let the class inherit bb_roles.TypeCodec",
        )
    try:
        codec = cast("Any", made_by)()
    except Exception as error:
        raise PluginError(
            f"plugin {point}: {spec.codec} cannot be built: {type(error).__name__}: {error}",
            expected="a class with methods encode and decode that is built without arguments",
        ) from error

    def accepts(value: object) -> bool:
        return isinstance(value, cls) and codec.is_instance(value)

    return ValueCodec(spec.name, accepts, codec.encode, codec.decode, spec.max_bytes)


def stage_spec(name: str) -> StageSpec:
    """Import the plugin that adds a stage of the compiler and return its declaration.

    Raises:
        UnknownPluginError: Nobody provides it.
        PluginError: It cannot be imported, is provided twice, or does not fit the contract.
    """
    point = f"stage.{name}"
    spec = _ask(point, "bb_stage")
    if not isinstance(spec, StageSpec) or spec.name != name:
        raise PluginError(
            f"plugin {point} declares {spec!r}", expected=f"a bb_roles.StageSpec of name {name!r}"
        )
    _check_api(point, spec.api)
    if not _STAGE_NAME.fullmatch(name):
        raise PluginError(
            f"plugin {point} has a name that no stage can have",
            expected="letters, digits and _ . -, beginning with a letter or _",
        )
    if bool(spec.before) == bool(spec.after):
        raise PluginError(
            f"plugin {point} declares before={spec.before!r} and after={spec.after!r}",
            expected="the name of a stage in exactly one of them",
        )
    return spec


def stage_function(spec: StageSpec) -> Callable[[ModelProto], ModelProto]:
    """Import the function that a stage's declaration names.

    Raises:
        PluginError: It cannot be imported, or is no function.
    """
    found = import_named(spec.stage, f"stage.{spec.name}")
    if not callable(found) or isinstance(found, type):
        raise PluginError(
            f"plugin stage.{spec.name} names {spec.stage}, which is no function",
            expected="a function that takes a model and returns one",
        )
    return cast("Callable[[ModelProto], ModelProto]", found)


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
    domain = keys.role_domain(spec.role)
    twice = sorted(op for op in cls.ops if role_op(domain, op) is not None)
    if twice:
        raise PluginError(
            f"plugin {label}: {spec.cls} declares op {twice[0]}, which every {spec.role} has",
            fix="give it another name",
        )
    methods = {schema.method for schema in cls.ops.values()}
    missing = sorted({*cls.__abstractmethods__, *(m for m in methods if not hasattr(cls, m))})
    if missing:
        raise PluginError(
            f"plugin {label}: {spec.cls} lacks {', '.join(missing)}",
            expected=f"every method of bb_roles.{contract.__name__}, and of its own ops",
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
