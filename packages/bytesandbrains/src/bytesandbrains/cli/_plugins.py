"""`bb plugins`: what is installed, what it can be told, and whether it works."""

from __future__ import annotations

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
    from bytesandbrains.cli._plugin_checks import Finding

__all__ = ["command", "describe_all"]

_SHOW = "show"


class NoSuchRole(CliError):
    """A kind of plugin is named that does not exist.

    `bb plugins ROLE` takes the roles, and kinds such as `op` and `type`.
    """


class AmbiguousPlugin(CliError):
    """A name is that of several plugins, of different kinds.

    `bb plugins show NAME` takes a name alone where one plugin has it; write the kind before it
    otherwise, as in `aggregator.krum`.
    """


@_session.command
@click.argument("what", metavar="[ROLE | [show] NAME]", nargs=-1)
@click.option(
    "--check",
    is_flag=True,
    help="Import each plugin; say which ones are broken, or slow down all others, and the fix.",
)
@click.pass_context
def command(ctx: click.Context, /, *, what: tuple[str, ...], check: bool, as_json: bool) -> None:
    """List the plugins that are installed, all or those of one ROLE, or show or check one of them.

    Listing reads metadata and imports none of them; -v shows where each one is. `bb plugins show
    NAME` imports one plugin and shows what its configuration takes: types, defaults, limits, units.
    NAME is ROLE.NAME, or the name alone where only one plugin has it, also without `show` and
    with --check. BB_PLUGINS=role.name,... in the environment hides all others.
    """
    asked, showing = _read(what)
    try:
        kind, name = _point(asked) if showing else _kind(asked)
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
            _show(kind, name, rows, as_json=as_json)
            return
    findings = _findings(rows) if check else []
    hidden = _unprovided()
    if as_json:
        print_json({"plugins": rows, **({"unprovided": hidden} if hidden else {})})
    else:
        _print(rows, findings, kind, check=check, located=_session.of(ctx).verbose > 0)
        for one in hidden:
            near = f": did you mean {one['near']!r}?" if one["near"] else ""
            told = f"BB_PLUGINS names {one['name']!r}, which nobody provides{near}"
            click.echo(told, err=True)
    ctx.exit(Exit.FAILED if any(one.fatal for one in findings) else Exit.OK)


def describe_all(kind: str = "") -> list[dict[str, Any]]:
    """Return what is installed, from metadata alone; doubles are marked."""
    from bb_roles.entry_points import installed

    found = installed(kind)
    counts = Counter(one.label for one in found)
    return [_row(one, double=counts[one.label] > 1) for one in found]


def _unprovided() -> list[dict[str, str]]:
    """Return the names in BB_PLUGINS that nobody provides, and what may have been meant."""
    from bb_roles.entry_points import unprovided

    return [{"name": name, "near": near} for name, near in unprovided().items()]


def _findings(rows: list[dict[str, Any]]) -> list[Finding]:
    """Check plugins, and write into their rows what was found."""
    from bytesandbrains.cli._plugin_checks import check_plugins

    findings = check_plugins(rows)
    for row in rows:
        own = [one for one in findings if one.label == _label(row)]
        fatal = [one for one in own if one.fatal]
        row["state"] = fatal[0].state if fatal else "ok"
        row["error"] = as_data(fatal[0].error) if fatal else None
        row["warnings"] = [as_data(one.error) for one in own if not one.fatal]
    return findings


def _read(what: tuple[str, ...]) -> tuple[str, bool]:
    """Return what was asked for, and whether one plugin is to be shown."""
    showing = what[:1] == (_SHOW,)
    rest = what[1:] if showing else what
    if len(rest) > 1 or (showing and not rest):
        raise click.UsageError("give one ROLE or NAME, or `show` and one NAME")
    return (rest[0] if rest else ""), showing


def _kind(asked: str) -> tuple[str, str]:
    """Return the kind that was asked for, and the name if there is one, or alone.

    Raises:
        AmbiguousPlugin: Several have the name.
        NoSuchRole: There is no such kind, and no plugin of that name.
    """
    from bb_roles.registry import installed, kinds

    role, _, name = asked.partition(".")
    kind = role.replace("-", "_").lower()
    known = sorted({*kinds(), *(one.kind for one in installed())})
    if not kind or kind in known:
        return kind, name
    if any(one.name == asked for one in installed()):
        return _point(asked)
    raise NoSuchRole(
        f"{role!r} is no role",
        expected=f"there are {', '.join(known)}",
        fix=did_you_mean(kind, [*known, *dict.fromkeys(one.name for one in installed())])
        or "`bb plugins` lists what is installed, with roles",
    )


def _point(asked: str) -> tuple[str, str]:
    """Return kind and name of a plugin that is named with its kind, or alone.

    Raises:
        AmbiguousPlugin: Several have the name.
        NoSuchRole: It has a kind that there is none of.
        UnknownPluginError: None has it.
    """
    from bb_roles.errors import UnknownPluginError
    from bb_roles.registry import installed, kinds

    kind = asked.partition(".")[0].replace("-", "_").lower()
    owners = sorted({one.label for one in installed() if one.name == asked})
    if len(owners) > 1:
        raise AmbiguousPlugin(
            f"{asked!r} is the name of several plugins",
            expected=f"one of {', '.join(owners)}",
            fix=f"bb plugins show {owners[0]}",
        )
    if owners:
        found, _, name = owners[0].partition(".")
        return found, name
    if "." in asked and kind in kinds():
        return kind, asked.partition(".")[2]
    names = sorted({one.name for one in installed()})
    raise UnknownPluginError(
        f"no plugin is called {asked!r}",
        expected="ROLE.NAME, or a name that one plugin has",
        fix=did_you_mean(asked, names) or "`bb plugins` lists what is installed",
    )


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


def _label(row: dict[str, Any]) -> str:
    return f"{row['role']}.{row['name']}" if row["name"] else str(row["role"])


def _show(kind: str, name: str, rows: list[dict[str, Any]], *, as_json: bool) -> None:
    from bytesandbrains.cli._plugin_page import page_of, print_page

    told = {**(rows[0] if rows else {}), **page_of(f"{kind}.{name}")}
    if as_json:
        print_json({"plugin": told})
    else:
        print_page(told)


def _print(
    rows: list[dict[str, Any]], findings: list[Finding], kind: str, *, check: bool, located: bool
) -> None:
    from rich.markup import escape

    from bytesandbrains.cli._screen import Screen, short, table

    if not rows:
        click.echo(f"no plugin {f'of role {kind} ' if kind else ''}is installed")
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
            *([escape(short(row["location"]))] if located else []),
        ]
        for row in rows
    ]
    Screen().print(table(columns, cells))
    for one in findings:
        text = as_text(one.error, width=screen_width())
        click.echo("\n" + (text if one.fatal else text.replace("error[", "warning[", 1)), err=True)


def _state(row: dict[str, Any]) -> str:
    if row["duplicate"]:
        return "[red]provided twice[/]"
    state = row.get("state", "")
    if state == "ok":
        return "[yellow]ok, with a warning[/]" if row["warnings"] else "[green]ok[/]"
    return f"[red]{state}[/]"
