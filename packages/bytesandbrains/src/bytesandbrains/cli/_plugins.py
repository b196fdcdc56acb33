"""`bb plugins`: what is installed, and whether it works."""

from __future__ import annotations

import importlib
import importlib.util
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bb_ir.errors import did_you_mean
from bytesandbrains.cli import _session
from bytesandbrains.cli._errors import CliError, Exit, as_data, as_text, screen_width
from bytesandbrains.cli._json import print_json

if TYPE_CHECKING:
    from bb_roles.registry import Installed

__all__ = ["check_all", "command", "describe_all"]


class NoSuchRole(CliError):
    """A kind of plugin is named that does not exist.

    `bb plugins ROLE` takes the roles, and kinds such as `op` and `type`.
    """


@_session.command
@click.argument("what", metavar="[ROLE[.NAME]]", required=False, default="")
@click.option("--check", is_flag=True, help="Import each plugin and say which ones are broken.")
@click.pass_context
def command(ctx: click.Context, /, *, what: str, check: bool, as_json: bool) -> None:
    """List the plugins that are installed, all or those of one ROLE.

    Listing reads metadata and imports none of them; -v shows where each one is. ROLE.NAME imports
    one plugin and shows what its configuration takes. BB_PLUGINS=role.name,... in the environment
    hides all others.
    """
    role, _, name = what.partition(".")
    try:
        kind = _kind(role)
    except NoSuchRole as unknown:
        if not as_json:
            told = f"{unknown.found}; {unknown.expected}; {unknown.fix}"
            raise click.BadParameter(told) from None
        print_json({"errors": [as_data(unknown)]})
        ctx.exit(Exit.USAGE)
    rows = describe_all(kind)
    if name:
        rows = [row for row in rows if row["name"] == name]
        if not check or not rows:
            _show_one(kind, name, rows, as_json=as_json)
            return
    broken = check_all(rows) if check else {}
    for row in rows:
        if check:
            error = broken.get(_label(row))
            row["state"] = "broken" if error else "ok"
            row["error"] = as_data(error) if error else None
    if as_json:
        print_json({"plugins": rows})
    else:
        _print(rows, broken, role, check=check, located=_session.of(ctx).verbose > 0)
    ctx.exit(Exit.FAILED if broken else Exit.OK)


def describe_all(kind: str = "") -> list[dict[str, Any]]:
    """Return what is installed, from metadata alone; doubles are marked."""
    from bb_roles.registry import installed

    found = installed(kind)
    counts = Counter((one.kind, one.name) for one in found)
    return [_row(one, double=counts[one.kind, one.name] > 1) for one in found]


def check_all(rows: list[dict[str, Any]]) -> dict[str, Exception]:
    """Import each plugin; return the errors of those that are broken, by `<role>.<name>`."""
    broken: dict[str, Exception] = {}
    for row in rows:
        try:
            _import(row)
        except Exception as error:  # noqa: BLE001  # a plugin may raise anything, and takes no other down
            broken[_label(row)] = error
    return broken


def _import(row: dict[str, Any]) -> None:
    from bb_ir import keys
    from bb_roles.registry import (
        component_class,
        component_spec,
        import_named,
        ops_spec,
        stage_function,
        stage_spec,
        type_spec,
        value_codec,
    )

    if row["role"] in keys.ROLES:
        spec = component_spec(row["role"], row["name"])
        component_class(spec)
        row["summary"] = spec.summary
    elif row["role"] == "op":
        declared = ops_spec(keys.PREFIX + row["name"])
        for name, path in declared.ops.items():
            import_named(path, f"op.{row['name']}: {name}")
        row["summary"] = f"{len(declared.ops)} ops: {', '.join(declared.ops)}"
    elif row["role"] == "type":
        name, _, version = row["name"].rpartition(".")
        found = type_spec(f"{name}/{version}")
        value_codec(found)
        row["summary"] = found.summary
    elif row["role"] == "stage":
        stage = stage_spec(row["name"])
        stage_function(stage)
        row["summary"] = stage.summary
        row["runs"] = f"before {stage.before}" if stage.before else f"after {stage.after}"
    else:
        importlib.import_module(row["module"])


def _kind(role: str) -> str:
    """Return the kind of plugin that was asked for.

    Raises:
        NoSuchRole: There is no such role.
    """
    from bb_ir import keys
    from bb_roles.registry import installed

    kind = role.replace("-", "_").lower()
    known = sorted({*keys.ROLES, *(one.kind for one in installed())})
    if kind and kind not in known:
        raise NoSuchRole(
            f"{role!r} is no role",
            expected=f"there are {', '.join(known)}",
            fix=did_you_mean(kind, known) or "`bb plugins` lists what is installed, with roles",
        )
    return kind


def _row(one: Installed, *, double: bool) -> dict[str, Any]:
    return {
        "name": one.name,
        "role": one.kind,
        "version": one.version,
        "distribution": one.distribution,
        "module": one.value,
        "location": _location(one),
        "duplicate": double,
    }


def _location(one: Installed) -> str:
    """Return the folder that the plugin's code is in; finding it imports nothing."""
    try:
        spec = importlib.util.find_spec(one.value.partition(".")[0])
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        return one.location
    origin = Path(spec.origin)
    return str(origin.parent.parent if origin.name == "__init__.py" else origin.parent)


def _short(folder: str) -> str:
    """Return a folder as people would write it from here."""
    path, here, home = Path(folder), Path.cwd(), Path.home()
    if path.is_relative_to(here):
        return str(path.relative_to(here))
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else folder


def _label(row: dict[str, Any]) -> str:
    return f"{row['role']}.{row['name']}"


def _show_one(kind: str, name: str, rows: list[dict[str, Any]], *, as_json: bool) -> None:
    """Import one plugin and print what there is to know about it.

    Raises:
        UnknownPluginError: Nobody provides it.
        PluginError: It is broken, or is provided twice.
    """
    from bb_ir import keys

    if kind in keys.ROLES or not rows:
        from bytesandbrains.components import describe

        page = describe(kind, name)
        more: dict[str, Any] = {"summary": page.summary, "class": page.cls, "ops": list(page.ops)}
        fields = [one._asdict() for one in page.fields]
    else:
        _import(rows[0])
        more = {"summary": rows[0].get("summary", ""), "ops": list[str]()}
        fields = []
    told = {**rows[0], **more, "fields": fields}
    if as_json:
        print_json({"plugin": told})
    else:
        _print_one(told, configured=kind in keys.ROLES)


def _print_one(told: dict[str, Any], *, configured: bool) -> None:
    from rich.markup import escape

    from bytesandbrains.cli._screen import Screen, table

    screen = Screen()
    screen.print(f"[bold]{escape(_label(told))}[/]")
    told["location"] = _short(told["location"])
    facts = ("summary", "runs", "version", "distribution", "class", "location")
    shown = [[fact, escape(told[fact])] for fact in facts if told.get(fact)]
    shown += [["" if at else "ops", escape(op)] for at, op in enumerate(told["ops"])]
    screen.print(table(["", ""], shown))
    if not configured:
        return
    screen.print()
    if not told["fields"]:
        screen.print("it takes no configuration")
        return
    columns = ["name", "type", "default", "meaning"]
    cells = [
        [
            f"[bold]{escape(one['name'])}[/]",
            escape(one["type"]),
            escape(one["default"]) or "must be given",
            escape(one["meaning"]),
        ]
        for one in told["fields"]
    ]
    screen.print(table(columns, cells))


def _print(
    rows: list[dict[str, Any]],
    broken: dict[str, Exception],
    role: str,
    *,
    check: bool,
    located: bool,
) -> None:
    from rich.markup import escape

    from bytesandbrains.cli._screen import Screen, table

    if not rows:
        click.echo(f"no plugin {f'of role {role} ' if role else ''}is installed")
        return
    told = check or any(row["duplicate"] for row in rows)
    columns = ["role", "name", "version", "distribution"]
    columns += [*(["state"] if told else []), *(["from"] if located else [])]
    cells = [
        [
            row["role"],
            f"[bold]{escape(row['name'])}[/]",
            row["version"],
            escape(row["distribution"]),
            *([_state(row)] if told else []),
            *([escape(_short(row["location"]))] if located else []),
        ]
        for row in rows
    ]
    Screen().print(table(columns, cells))
    for error in broken.values():
        click.echo("\n" + as_text(error, width=screen_width()), err=True)


def _state(row: dict[str, Any]) -> str:
    if row["duplicate"]:
        return "[red]provided twice[/]"
    return {"broken": "[red]broken[/]", "ok": "[green]ok[/]"}.get(row.get("state", ""), "")
