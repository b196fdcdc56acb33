"""`bb doctor`: the facts that a report of a problem needs."""

from __future__ import annotations

from typing import Any

import click

from bytesandbrains.cli import _session
from bytesandbrains.cli._errors import Exit, as_data, as_text, screen_width
from bytesandbrains.cli._json import print_json

__all__ = ["command"]


@_session.command
@click.pass_context
def command(ctx: click.Context, /, *, as_json: bool) -> None:
    """Show versions, plugins, BLAS, CPU, and the fingerprint.

    Two machines with one fingerprint are promised the same bits for the same seed. It is taken
    with one thread for BLAS, as `bb demo` runs and notes it. The exit code is 1 when a plugin is
    broken.
    """
    from bytesandbrains.cli._plugin_checks import check_all
    from bytesandbrains.cli._plugins import describe_all
    from bytesandbrains.demo.environment import one_blas_thread
    from bytesandbrains.fingerprint import fingerprint

    with one_blas_thread():
        facts = fingerprint()
    rows = describe_all()
    broken = check_all(rows)
    if as_json:
        plugins = [
            {**row, "state": "broken" if f"{row['role']}.{row['name']}" in broken else "ok"}
            for row in rows
        ]
        errors = {name: as_data(error) for name, error in broken.items()}
        print_json({**facts.to_dict(), "plugins": plugins, "broken": errors})
    else:
        _print(facts.to_dict(), rows, broken)
    ctx.exit(Exit.FAILED if broken else Exit.OK)


def _print(facts: dict[str, Any], rows: list[dict[str, Any]], broken: dict[str, Exception]) -> None:
    from rich.markup import escape

    from bytesandbrains.cli._screen import Screen, table

    cpu, blas = facts["cpu"], facts["blas"]
    threads = blas["threads"]
    lines = [
        ("fingerprint", facts["fingerprint"]),
        ("python", f"{facts['python']} ({facts['implementation']})"),
        ("platform", facts["platform"]),
        ("cpu", f"{cpu['model']}, {cpu['count']} cores"),
        ("cpu features", ", ".join(cpu["features"]) or "unknown"),
        ("blas", f"{blas['name']} {blas['version']}, {threads or 'unknown number of'} thread(s)"),
        *(facts["versions"].items()),
        ("plugins", _health(rows, broken)),
    ]
    console = Screen()
    console.print(table(("", ""), [(f"[bold]{escape(n)}[/]", escape(v)) for n, v in lines]))
    for error in broken.values():
        click.echo("\n" + as_text(error, width=screen_width()), err=True)


def _health(rows: list[dict[str, Any]], broken: dict[str, Exception]) -> str:
    good = [r for r in rows if f"{r['role']}.{r['name']}" not in broken]
    state = f"{len(rows) - len(good)} broken" if broken else "all load"
    return f"{len(rows)} installed, {state}"
