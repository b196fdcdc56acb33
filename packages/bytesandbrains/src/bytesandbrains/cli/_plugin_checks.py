"""Checks what is installed: each plugin is imported, and what that costs is looked at.

A plugin may raise anything, and takes no other one down.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from bytesandbrains.cli._errors import CliError

__all__ = ["Finding", "check_all", "check_plugins"]

#: What a light module may cost, in seconds of CPU. Those of ours take 1 to 3 ms.
_SECONDS = 0.1
#: Packages that say which bb-roles belongs to them; to require one of them is enough.
_OURS = frozenset({"bb-ops", "bb-roles", "bb-runtime", "bytesandbrains"})


class SlowPlugin(CliError):
    """The module that declares a plugin takes long to import.

    Met at `bb plugins --check`. That module is imported whenever somebody looks the plugin up, so
    its author imports large libraries elsewhere: in the module that holds the class, or inside
    functions.
    """


class TakenName(CliError):
    """A plugin adds a command that `bb` has itself.

    Met at `bb plugins --check`. The plugin's command is never run; its author gives it another
    name.
    """


class NoRange(CliError):
    """A distribution does not say for which versions of the contract it was written.

    Met at `bb plugins --check`. Its author adds bb-roles with a range to the distribution's
    dependencies, so that pip does not install it beside a version that it does not fit.
    """


class Finding(NamedTuple):
    """Something that is wrong with a plugin.

    Attributes:
        label: The name of its entry point.
        state: One word for it.
        error: What is wrong, and the fix.
        fatal: Whether it has to be put right; else it is a warning.
    """

    label: str
    state: str
    error: Exception
    fatal: bool = True


def check_plugins(rows: list[dict[str, Any]]) -> list[Finding]:
    """Check plugins, each in every way.

    Args:
        rows: As `describe_all` gives them; those that work get a summary.
    """
    broken = check_all(rows)
    findings = [Finding(label, "broken", error) for label, error in broken.items()]
    findings += _taken(rows)
    findings += _slow([row for row in rows if _label(row) not in broken])
    findings += _without_range(rows)
    return findings


def check_all(rows: list[dict[str, Any]]) -> dict[str, Exception]:
    """Import each plugin; return the errors of those that are broken, by `<role>.<name>`."""
    broken: dict[str, Exception] = {}
    for row in rows:
        try:
            row["summary"] = _import(_label(row))
        except Exception as error:  # noqa: BLE001  # a plugin may raise anything, and takes no other down
            broken[_label(row)] = error
    return broken


def _import(label: str) -> str:
    """Import a plugin and all that it names; return its summary."""
    from bb_roles.registry import load, plugin_spec
    from bb_roles.spec import CommandSpec, OpsSpec

    spec = plugin_spec(label)
    if isinstance(spec, CommandSpec):
        from bytesandbrains.cli._added import find_command

        find_command(spec.name)
    load(spec)
    if isinstance(spec, OpsSpec) and not spec.summary:
        return f"{len(spec.ops)} ops: {', '.join(spec.ops)}"
    return spec.summary


def _taken(rows: list[dict[str, Any]]) -> list[Finding]:
    from bytesandbrains.cli._main import COMMANDS

    return [
        Finding(
            _label(row),
            "shadowed",
            TakenName(
                f"plugin {_label(row)} of {row['distribution']} has the name of a command of `bb`",
                expected=f"another name than {', '.join(COMMANDS)}",
                fix=f"uninstall {row['distribution']}, or tell its authors; `bb {row['name']}` "
                "does what it always did",
            ),
        )
        for row in rows
        if row["role"] == "command" and row["name"] in COMMANDS
    ]


def _slow(rows: list[dict[str, Any]]) -> list[Finding]:
    from bytesandbrains.cli._import_costs import import_costs

    costs = import_costs(sorted({row["module"] for row in rows}), _SECONDS)
    findings: list[Finding] = []
    for row in rows:
        cost, label = costs[row["module"]], _label(row)
        for library, importer in cost.heavy.items():
            error = SlowPlugin(
                f"plugin {label} imports {library} to declare itself: {importer} does",
                expected=f"that {row['module']}, which is imported whenever somebody looks the "
                "plugin up, imports nothing large",
                fix=f"let {importer} import {library} inside functions, or name the class as "
                "'module:Class' and import it there",
            )
            findings.append(Finding(label, "slow", error))
        if not cost.heavy and cost.seconds > _SECONDS:
            error = SlowPlugin(
                f"plugin {label} takes {cost.seconds * 1e3:.0f} ms of CPU to declare itself",
                expected=f"less than {_SECONDS * 1e3:.0f} ms for {row['module']}, which is "
                "imported whenever somebody looks the plugin up",
                fix=f"python -X importtime -c 'import {row['module']}' tells what takes so long",
            )
            findings.append(Finding(label, "slow", error, fatal=False))
    return findings


def _without_range(rows: list[dict[str, Any]]) -> list[Finding]:
    from bb_roles.entry_points import find

    findings: list[Finding] = []
    for row in rows:
        owners = [one for one in find(_label(row)) if one.distribution == row["distribution"]]
        if any(_is_ours(text) for one in owners for text in one.requires):
            continue
        error = NoRange(
            f"{row['distribution']} does not say which versions of bb-roles {_label(row)} fits",
            expected='dependencies = ["bb-roles~=..."] in its pyproject.toml',
            fix="add it; pip then keeps apart what does not fit",
        )
        findings.append(Finding(_label(row), "no range", error))
    return findings


def _is_ours(requirement: str) -> bool:
    """Tell whether a requirement is one of a range of our versions."""
    found = re.match(r"([\w.-]+)\s*(?:\[[^]]*\])?\s*\(?[<>=~!]", requirement)
    return found is not None and re.sub(r"[-_.]+", "-", found[1]).lower() in _OURS


def _label(row: dict[str, Any]) -> str:
    return f"{row['role']}.{row['name']}" if row["name"] else str(row["role"])
