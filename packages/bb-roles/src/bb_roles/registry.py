"""Finds plugins by name. Listing reads metadata only; binding imports exactly one plugin.

What is installed is found by `bb_roles.entry_points`; which kinds there are, and what is asked of
each, says the table in `bb_roles._kinds`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from bb_ir.errors import TypeTextError
from bb_ir.types import custom
from bb_roles._asking import check_api, import_named
from bb_roles._kinds import KINDS, declaration, import_component, import_type
from bb_roles.contracts import Component
from bb_roles.entry_points import Installed, installed
from bb_roles.errors import PluginError
from bb_roles.spec import (
    CommandSpec,
    ComponentSpec,
    ExecutorSpec,
    OpsSpec,
    PlannerSpec,
    StageSpec,
    TransportSpec,
    TypeSpec,
)

if TYPE_CHECKING:
    from onnx import ModelProto

    from bb_ir.values import ValueCodec
    from bb_roles.executor import Executor
    from bb_roles.planner import Planner
    from bb_roles.transport import Transport

__all__ = [
    "Installed",
    "Spec",
    "bound_class",
    "check_spec",
    "command_object",
    "command_spec",
    "component_class",
    "component_spec",
    "executor_class",
    "executor_spec",
    "import_named",
    "installed",
    "installed_types",
    "kinds",
    "load",
    "ops_spec",
    "planner_class",
    "planner_spec",
    "plugin_spec",
    "stage_function",
    "stage_spec",
    "transport_class",
    "transport_spec",
    "type_point",
    "type_spec",
    "value_codec",
]

#: A declaration of a plugin, of any kind.
Spec = (
    ComponentSpec | OpsSpec | TypeSpec | StageSpec | CommandSpec | TransportSpec | PlannerSpec
    | ExecutorSpec
)  # fmt: skip


def kinds() -> tuple[str, ...]:
    """Return the kinds of plugins there are: the eight roles, and what else can be added."""
    return tuple(KINDS)


def plugin_spec(point: str) -> Spec:
    """Import the plugin of an entry point and return its declaration, whatever its kind.

    Args:
        point: Kind and name, such as `aggregator.krum` or `type.acme.graph.1`.

    Raises:
        UnknownPluginError: Nobody provides it.
        PluginError: There is no such kind, or the plugin cannot be imported, is provided twice, or
            does not fit the contract.
    """
    kind = point.partition(".")[0]
    if kind not in KINDS:
        raise PluginError(
            f"plugin {point} is of no kind that there is",
            expected=f"one of {', '.join(KINDS)}, then a dot and a name",
            fix="correct the name of the entry point; a newer bb-roles may know more kinds",
        )
    return cast("Spec", declaration(point))


def check_spec(spec: Spec) -> None:
    """Check a declaration as it is when somebody asks for the plugin; nothing is imported.

    Raises:
        PluginError: It does not fit the contract.
    """
    check_api(spec.point, spec.api)
    KINDS[spec.point.partition(".")[0]].check(spec)


def load(spec: Spec) -> Any:
    """Import what a declaration names, and check it: a class, a function, or several.

    Raises:
        PluginError: It cannot be imported, or does not fit the contract.
    """
    return KINDS[spec.point.partition(".")[0]].load(spec)


# --- components


def component_spec(role: str, name: str) -> ComponentSpec:
    """Import the plugin `<role>.<name>` and return its declaration.

    Raises:
        UnknownPluginError: Nobody provides it.
        PluginError: It cannot be imported, is provided twice, or does not fit the contract.
    """
    return cast("ComponentSpec", plugin_spec(f"{role}.{name}"))


def component_class(spec: ComponentSpec) -> type[Component]:
    """Import the class that a declaration names and check that it fills its role.

    Raises:
        PluginError: It cannot be imported or is not of the contract.
    """
    return import_component(spec)


def bound_class(role: str, component: str) -> type[Component]:
    """Return the class behind a row of a binding table: a plugin's name, or `module:Class`.

    Raises:
        PluginError: It is not installed, cannot be imported or is not of the role's contract.
    """
    if ":" not in component:
        return component_class(component_spec(role, component))
    return component_class(ComponentSpec(role=role, name=component, cls=component))


# --- ops


def ops_spec(domain: str) -> OpsSpec:
    """Import the plugin that implements an op domain and return its declaration.

    Raises:
        UnknownPluginError: Nobody provides it.
        PluginError: It cannot be imported, is provided twice, or does not fit the contract.
    """
    spec = declaration(OpsSpec(domain, {}).point)
    if spec.domain != domain:
        raise PluginError(
            f"plugin {spec.point} declares domain {spec.domain}",
            expected=f"an OpsSpec of domain {domain}",
        )
    return cast("OpsSpec", spec)


# --- types of values


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
    return TypeSpec(name, "", "").point


def type_spec(name: str) -> TypeSpec:
    """Import the plugin that adds a type of values and return its declaration.

    Args:
        name: Name and version, such as `acme.graph/1`.

    Raises:
        UnknownPluginError: Nobody provides it.
        PluginError: It cannot be imported, is provided twice, or does not fit the contract.
    """
    spec = declaration(type_point(name))
    if spec.name != name:
        raise PluginError(
            f"plugin {type_point(name)} declares {spec.name!r}",
            expected=f"a bb_roles.TypeSpec of name {name!r}",
        )
    return cast("TypeSpec", spec)


def value_codec(spec: TypeSpec) -> ValueCodec:
    """Import the classes that a type's declaration names; return how its values are encoded.

    Raises:
        PluginError: One cannot be imported, or the codec is not of the contract.
    """
    from bb_ir.values import ValueCodec

    cls, codec = import_type(spec)

    def accepts(value: object) -> bool:
        return isinstance(value, cls) and codec.is_instance(value)

    return ValueCodec(spec.name, accepts, codec.encode, codec.decode, spec.max_bytes)


# --- stages


def stage_spec(name: str) -> StageSpec:
    """Import the plugin that adds a stage of the compiler and return its declaration.

    Raises:
        PluginError: As of `plugin_spec`; an `UnknownPluginError` where nobody provides it.
    """
    return cast("StageSpec", declaration(f"stage.{name}"))


def stage_function(spec: StageSpec) -> Callable[[ModelProto], ModelProto]:
    """Import the function that a stage's declaration names.

    Raises:
        PluginError: It cannot be imported, or is no function.
    """
    return cast("Callable[[ModelProto], ModelProto]", load(spec))


# --- commands


def command_spec(name: str) -> CommandSpec:
    """Import the plugin that adds a command of `bb` and return its declaration.

    Raises:
        PluginError: As of `plugin_spec`; an `UnknownPluginError` where nobody provides it.
    """
    return cast("CommandSpec", declaration(f"command.{name}"))


def command_object(spec: CommandSpec) -> Any:
    """Import the `click.Command` that a command's declaration names.

    Raises:
        PluginError: It cannot be imported, or is no command.
    """
    return load(spec)


# --- transports


def transport_spec(name: str) -> TransportSpec:
    """Import the plugin that adds a transport and return its declaration.

    Raises:
        PluginError: As of `plugin_spec`; an `UnknownPluginError` where nobody provides it.
    """
    return cast("TransportSpec", declaration(f"transport.{name}"))


def transport_class(spec: TransportSpec) -> type[Transport]:
    """Import the class that a transport's declaration names.

    Raises:
        PluginError: It cannot be imported or is not of the contract.
    """
    return cast("type[Transport]", load(spec))


# --- planners


def planner_spec(name: str) -> PlannerSpec:
    """Import the plugin that adds a planner and return its declaration.

    Raises:
        PluginError: As of `plugin_spec`; an `UnknownPluginError` where nobody provides it.
    """
    return cast("PlannerSpec", declaration(f"planner.{name}"))


def planner_class(spec: PlannerSpec) -> type[Planner]:
    """Import the class that a planner's declaration names.

    Raises:
        PluginError: It cannot be imported or is not of the contract.
    """
    return cast("type[Planner]", load(spec))


# --- executors


def executor_spec(name: str) -> ExecutorSpec:
    """Import the plugin that adds an executor and return its declaration.

    Raises:
        PluginError: As of `plugin_spec`; an `UnknownPluginError` where nobody provides it.
    """
    return cast("ExecutorSpec", declaration(f"executor.{name}"))


def executor_class(spec: ExecutorSpec) -> type[Executor]:
    """Import the class that an executor's declaration names.

    Raises:
        PluginError: It cannot be imported or is not of the contract.
    """
    return cast("type[Executor]", load(spec))
