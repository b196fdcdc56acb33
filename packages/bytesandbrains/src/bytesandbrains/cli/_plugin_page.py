"""What there is to know about one plugin: for it, that one is imported."""

from __future__ import annotations

from typing import Any

__all__ = ["page_of", "print_page"]


def page_of(point: str) -> dict[str, Any]:
    """Return what a plugin declares, and what its configuration takes, as plain data.

    Raises:
        UnknownPluginError: Nobody provides it.
        PluginError: It is broken, or is provided twice.
    """
    from bb_roles.registry import load, plugin_spec
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
    from bytesandbrains.components import describe, fields_of

    spec = plugin_spec(point)
    if isinstance(spec, ComponentSpec):
        page = describe(spec.role, spec.name)
        fields = [one._asdict() for one in page.fields]
        return {
            "summary": page.summary,
            "class": page.cls,
            "ops": list(page.ops),
            "configured": True,
            "fields": fields,
        }
    loaded = load(spec)
    told: dict[str, Any] = {"summary": getattr(spec, "summary", ""), "ops": [], "fields": []}
    told["configured"] = isinstance(spec, ExecutorSpec | PlannerSpec | TransportSpec)
    match spec:
        case OpsSpec():
            told["summary"] = spec.summary or f"{len(spec.ops)} ops: {', '.join(spec.ops)}"
            told["ops"] = list(map(str, spec.schemas.values()))
        case StageSpec():
            told["runs"] = f"before {spec.before}" if spec.before else f"after {spec.after}"
        case TypeSpec():
            told["class"], told["limit"] = spec.cls, f"{spec.max_bytes} bytes"
        case CommandSpec():
            told["class"], told["run"] = spec.command, f"bb {spec.name} --help"
        case ExecutorSpec():
            told["class"], told["moves"] = spec.cls, ", ".join(spec.moves)
        case PlannerSpec():
            told["class"], told["plans"] = spec.cls, ", ".join(spec.plans)
        case TransportSpec():
            told["class"], told["schemes"] = spec.cls, ", ".join(spec.schemes)
    if told["configured"]:
        told["fields"] = [one._asdict() for one in fields_of(loaded.Config, spec.point)]
    return told


def print_page(told: dict[str, Any]) -> None:
    """Print it for people."""
    from rich.markup import escape

    from bytesandbrains.cli._screen import Screen, short, table

    screen = Screen()
    screen.print(f"[bold]{escape(told['role'])}.{escape(told['name'])}[/]")
    told["location"] = short(told["location"])
    facts = (
        "summary", "runs", "run", "plans", "moves", "schemes", "limit", "version", "distribution",
        "class", "location",
    )  # fmt: skip
    shown = [[fact, escape(told[fact])] for fact in facts if told.get(fact)]
    shown += [["" if at else "ops", escape(op)] for at, op in enumerate(told["ops"])]
    screen.print(table(["", ""], shown))
    if not told["configured"]:
        return
    screen.print()
    if not told["fields"]:
        screen.print("it takes no configuration")
        return
    columns = ["name", "type", "default", "limits", "unit", "meaning"]
    kept = [name for name in columns if any(row.get(name) for row in told["fields"])]
    screen.print(table(kept, [_cells(row, kept) for row in told["fields"]]))


def _cells(row: dict[str, Any], columns: list[str]) -> list[str]:
    from rich.markup import escape

    cells = [escape(row[name]) for name in columns]
    cells[0] = f"[bold]{cells[0]}[/]"
    if "default" in columns and not row["default"]:
        cells[columns.index("default")] = "must be given"
    return cells
