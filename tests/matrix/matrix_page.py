"""Writes down what the matrix found: `python tests/matrix/matrix_page.py KEPT PAGE`."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
HEAD = """\
# Compatibility

What was tried, and not only promised: the tests of each plugin alone with the core on
Python {python}, once with the newest versions of what it depends on and once with the oldest it
allows; and the tests of all plugins together on every Python, with the newest. Tried on {day}:
`nox -s matrix matrix-all` tries it again, `nox -s matrix-page` writes this page.

## Each plugin alone

| Plugin | Newest | Oldest | With (newest / oldest) |
|---|---|---|---|
"""
TOGETHER = """
## All together

| Python | Tests | With |
|---|---|---|
"""


def main(kept: Path, page: Path) -> None:
    """Write the page; a combination that was not tried is left open."""
    found = {file.stem: json.loads(file.read_text()) for file in sorted(kept.glob("*.json"))}
    latest = max((file.stat().st_mtime for file in kept.glob("*.json")), default=0)
    day = datetime.fromtimestamp(latest, UTC).date()
    text = HEAD.format(python="3.11", day=day)
    for plugin in sorted({name.rpartition("-")[0] for name in found} - {"all"}):
        newest, oldest = (found.get(f"{plugin}-{which}") for which in ("newest", "oldest"))
        cells = (outcome(newest), outcome(oldest), versions(plugin, newest, oldest))
        text += f"| `{plugin}` | {' | '.join(cells)} |\n"
    text += TOGETHER
    for python in ("3.11", "3.12", "3.13"):
        one = found.get(f"all-{python}")
        text += f"| {python} | {outcome(one)} | {', '.join(key_versions(one))} |\n"
    page.write_text(text)


def outcome(one: dict[str, Any] | None) -> str:
    """Return a cell: how many tests passed, or what did not."""
    if one is None:
        return "not tried"
    bad = one["failures"] + one["errors"]
    passed = one["tests"] - bad - one["skipped"]
    return f"**{bad} of {one['tests']} failed**" if bad else f"{passed:,} passed"


def versions(plugin: str, *tried: dict[str, Any] | None) -> str:
    """Return the versions of what a plugin itself asks for, newest and oldest."""
    metadata = (ROOT / "plugins" / plugin / "pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[(.*?)\]", metadata, re.DOTALL | re.MULTILINE)
    asked = re.findall(r'"([A-Za-z0-9_-]+)', listed[1] if listed else "")
    cells: list[str] = []
    for name in asked:
        if not name.startswith("bb-"):
            found = " / ".join(version_of(name, one) for one in tried)
            cells.append(f"{name} {found}")
    return ", ".join(cells) or "nothing of others"


def key_versions(one: dict[str, Any] | None) -> list[str]:
    """Return the versions that readers ask for first."""
    names = ("numpy", "onnx", "onnxruntime", "protobuf", "scikit-learn", "pyarrow")
    return [f"{name} {version_of(name, one)}" for name in names] if one else []


def version_of(name: str, one: dict[str, Any] | None) -> str:
    """Return the version of a distribution in what was installed."""
    for line in one["installed"] if one else ():
        if line.partition("==")[0].lower() == name.lower():
            return str(line.partition("==")[2])
    return "?"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
