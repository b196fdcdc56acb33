"""The kinds of plugins there are, one row each: what is asked of them, and what is checked.

A new kind is a hook in `hookspecs`, a spec in `spec`, and a row here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple, cast

from bb_ir import keys
from bb_ir.errors import closest
from bb_ir.ops import role_op
from bb_ir.plugin_ops import is_plugin_domain
from bb_roles._asking import ask, check_api, import_named
from bb_roles._signatures import check_signatures
from bb_roles.contracts import CONTRACTS, Component
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
from bb_roles.value_types import TypeCodec

__all__ = ["KINDS", "Kind", "declaration", "import_component", "import_type"]

#: Largest limit that a type may declare for its values.
_MOST_BYTES = 1 << 30
#: Names of stages stand in a list with commas between them.
_STAGE_NAME = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
#: Names of commands are typed, and must not look like an option.
_COMMAND_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", re.ASCII)
#: What planners may say that they plan.
_PLANS = ("swap", "cache")
#: What executors may say that they move: the kinds of ops, named as in `bb_ir.plan.TransferKind`.
_MOVES = (
    "H2D", "D2H", "P2P", "STORAGE2H", "H2STORAGE", "H2H", "NET2H", "STORAGE2STORAGE",
)  # fmt: skip
_SCHEME = re.compile(r"[a-z][a-z0-9-]*(/[a-z][a-z0-9-]*)*", re.ASCII)


class Kind(NamedTuple):
    """One kind of plugin.

    Attributes:
        hook: The hook that returns its declaration.
        spec: Class of the declaration.
        check: Raises `PluginError` where a declaration cannot be used.
        load: Imports what a declaration names, and checks it.
    """

    hook: str
    spec: type[Any]
    check: Callable[[Any], None]
    load: Callable[[Any], Any]


def declaration(point: str) -> Any:
    """Import the plugin of an entry point and return its declaration, checked.

    Args:
        point: Kind and name, such as `aggregator.krum`; of a kind that there is.

    Raises:
        UnknownPluginError: Nobody provides it.
        PluginError: It cannot be imported, is provided twice, or does not fit the contract.
    """
    kind = KINDS[point.partition(".")[0]]
    spec = ask(point, kind.hook)
    if not isinstance(spec, kind.spec):
        raise PluginError(
            f"plugin {point} declares a {type(spec).__name__}",
            expected=f"{kind.hook}() returns a bb_roles.{kind.spec.__name__}",
            fix="return one, or name the entry point for what it is",
        )
    check_api(point, spec.api)
    if spec.point != point:
        raise PluginError(
            f"plugin {point} declares itself as {spec.point}",
            fix=f"make the entry point's name and the {kind.spec.__name__} agree",
        )
    kind.check(spec)
    return spec


# --- components


def _nothing(_spec: Any) -> None:
    """Leave a declaration of which everything shows when it is loaded."""


def import_component(spec: ComponentSpec) -> type[Component]:
    """Import the class that a declaration names and check that it fills its role.

    Raises:
        PluginError: It cannot be imported or is not of the contract.
    """
    label = spec.point
    contract = CONTRACTS.get(spec.role, Component)
    cls: type[Component] = _import_class(spec.cls, label, contract)
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
            fix=_how_to_add(missing, cls),
        )
    check_signatures(cls, contract, label)
    return cls


def _import_class(path: str, label: str, contract: type[Any]) -> type[Any]:
    cls = import_named(path, label)
    if not isinstance(cls, type) or not issubclass(cls, contract):
        raise PluginError(
            f"plugin {label} names {path}, which is no {contract.__name__}",
            fix=f"let the class inherit bb_roles.{contract.__name__}",
        )
    return cls


def _import_whole(name: str, spec: Any) -> type[Any]:
    """Import the class that a declaration names, which has every method of its contract.

    The contract is given by its name in `bb_roles`, so that nobody loads those that go unused.
    """
    contract: type[Any] = getattr(import_module("bb_roles"), name)
    cls = _import_class(spec.cls, spec.point, contract)
    missing = sorted(cast("Any", cls).__abstractmethods__)
    if missing:
        raise PluginError(
            f"plugin {spec.point}: {spec.cls} lacks {', '.join(missing)}",
            expected=f"every method of bb_roles.{contract.__name__}",
            fix=_how_to_add(missing, cls),
        )
    return cls


def _how_to_add(missing: list[str], cls: type[Any]) -> str:
    """Return what to do about methods that a class lacks: one that it has may be meant."""
    own = [name for name in vars(cls) if not name.startswith("_")]
    meant = {name: closest(name, own) for name in missing}
    renamed = [f"{close!r} to {name!r}" for name, close in meant.items() if close]
    return f"rename {', '.join(renamed)}" if renamed else "write what is missing"


def _check_listed(spec: Any, field: str, is_one: Callable[[object], bool], expected: str) -> None:
    """Check a field that holds a tuple of some things, and at least one."""
    listed: Any = getattr(spec, field)
    known = isinstance(listed, tuple) and all(map(is_one, cast("tuple[object, ...]", listed)))
    if not known or not listed:
        raise PluginError(f"plugin {spec.point} declares {field}={listed!r}", expected=expected)


# --- ops


def _check_ops(spec: OpsSpec) -> None:
    # The domain of the framework's own ops is that of a plugin, too: bb-ops.
    if spec.domain != keys.SYSCALL and not is_plugin_domain(spec.domain):
        raise PluginError(
            f"plugin {spec.point} declares domain {spec.domain!r}, which is not free",
            expected="a domain of its own, such as the name of its distribution",
        )
    for name, schema in spec.schemas.items():
        if name not in spec.ops or schema.name != name:
            raise PluginError(
                f"plugin {spec.point} has a schema of {schema.name!r} under {name!r}",
                expected=f"schemas of its ops, {', '.join(spec.ops)}, under their names",
            )
        if not schema.outputs:
            raise PluginError(
                f"plugin {spec.point}: op {name} gives nothing",
                expected="an output: a function without one has no use",
            )


def _import_ops(spec: OpsSpec) -> dict[str, Callable[..., Any]]:
    label = spec.point
    found = {name: import_named(path, f"{label}: {name}") for name, path in spec.ops.items()}
    for name, function in found.items():
        if not callable(function):
            raise PluginError(
                f"plugin {label} names {spec.ops[name]} for op {name}, which is no function",
                expected="a function of the op's inputs",
            )
    return found


# --- types of values


def _check_type(spec: TypeSpec) -> None:
    limit: Any = spec.max_bytes
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 < limit <= _MOST_BYTES:
        raise PluginError(
            f"plugin {spec.point} declares max_bytes={limit!r}",
            expected=f"1 to {_MOST_BYTES} bytes",
        )


def import_type(spec: TypeSpec) -> tuple[type[Any], TypeCodec[Any]]:
    """Import what a type's declaration names: the class of its values, and its codec, built.

    Raises:
        PluginError: One cannot be imported, or the codec is not of the contract.
    """
    label = spec.point
    cls = import_named(spec.cls, label)
    made_by = import_named(spec.codec, label)
    if not isinstance(cls, type):
        raise PluginError(
            f"plugin {label} names {spec.cls}, which is no class",
            expected="the Python class of the type's values",
        )
    if not isinstance(made_by, type) or not issubclass(made_by, TypeCodec):
        raise PluginError(
            f"plugin {label} names {spec.codec}, which is not a TypeCodec",
            fix="let the class inherit bb_roles.TypeCodec",
        )
    try:
        return cls, cast("Any", made_by)()
    except Exception as error:
        raise PluginError(
            f"plugin {label}: {spec.codec} cannot be built: {type(error).__name__}: {error}",
            expected="a class with methods encode and decode that is built without arguments",
        ) from error


# --- stages


def _check_stage(spec: StageSpec) -> None:
    if not _STAGE_NAME.fullmatch(spec.name):
        raise PluginError(
            f"plugin {spec.point} has a name that no stage can have",
            expected="letters, digits and _ . -, beginning with a letter or _",
        )
    if bool(spec.before) == bool(spec.after):
        raise PluginError(
            f"plugin {spec.point} declares before={spec.before!r} and after={spec.after!r}",
            expected="the name of a stage in exactly one of them",
        )


def _import_stage(spec: StageSpec) -> Callable[..., Any]:
    found = import_named(spec.stage, spec.point)
    if not callable(found) or isinstance(found, type):
        raise PluginError(
            f"plugin {spec.point} names {spec.stage}, which is no function",
            expected="a function that takes a model and returns one",
        )
    return cast("Callable[..., Any]", found)


# --- commands


def _check_command(spec: CommandSpec) -> None:
    if not _COMMAND_NAME.fullmatch(spec.name):
        raise PluginError(
            f"plugin {spec.point} has a name that nobody can type",
            expected="small letters and digits, with dashes between words: `inspect-artifact`",
        )


def _import_command(spec: CommandSpec) -> Any:
    # Which class it must be is the command line's business: this package does without click.
    found = import_named(spec.command, spec.point)
    if not callable(getattr(found, "invoke", None)):
        raise PluginError(
            f"plugin {spec.point} names {spec.command}, which is no click command",
            fix="write @click.command() above the function, and name that",
        )
    return found


# --- transports


def _check_transport(spec: TransportSpec) -> None:
    expected = 'a tuple of protocols of addresses, such as ("tcp",) or ("tcp/tls/ws",)'
    _check_listed(spec, "schemes", _is_scheme, expected)


def _is_scheme(one: object) -> bool:
    return isinstance(one, str) and _SCHEME.fullmatch(one) is not None


# --- planners


def _check_planner(spec: PlannerSpec) -> None:
    _check_listed(spec, "plans", _PLANS.__contains__, '("swap",), ("cache",) or both')


# --- executors


def _check_executor(spec: ExecutorSpec) -> None:
    _check_listed(spec, "moves", _MOVES.__contains__, f"a tuple of {', '.join(_MOVES)}")


_COMPONENT = Kind("bb_component", ComponentSpec, _nothing, import_component)

#: What stands before the first dot of an entry point's name, and what that means.
KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(keys.ROLES, _COMPONENT),
    "command": Kind("bb_command", CommandSpec, _check_command, _import_command),
    "executor": Kind(
        "bb_executor", ExecutorSpec, _check_executor, partial(_import_whole, "Executor")
    ),
    "op": Kind("bb_ops", OpsSpec, _check_ops, _import_ops),
    "planner": Kind("bb_planner", PlannerSpec, _check_planner, partial(_import_whole, "Planner")),
    "stage": Kind("bb_stage", StageSpec, _check_stage, _import_stage),
    "transport": Kind(
        "bb_transport", TransportSpec, _check_transport, partial(_import_whole, "Transport")
    ),
    "type": Kind("bb_type", TypeSpec, _check_type, import_type),
}
