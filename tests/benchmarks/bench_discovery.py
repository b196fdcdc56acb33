"""What fifty more plugins cost that nobody uses: commands that list them, and one that does not.

Each sample is a new interpreter that finds fifty more distributions on its path. Their modules
raise when they are imported, so whoever does so fails.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from measure import Effort, Row, Times, interleave_scripts, shown

_PLUGINS = 50
_COMMANDS = {"help": ["--help"], "list": ["plugins"]}
_SCRIPT = """
import sys
sys.path.append({path!r})
from bytesandbrains.cli import main
sys.argv = ["bb", *{arguments!r}]
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
"""


def measure(effort: Effort) -> dict[str, Any]:
    """Measure each command with and without them."""
    with tempfile.TemporaryDirectory() as many, tempfile.TemporaryDirectory() as none:
        for number in range(_PLUGINS):
            write_plugin(Path(many), number)
        scripts = {
            f"{name} {which}": _SCRIPT.format(path=path, arguments=arguments)
            for name, arguments in _COMMANDS.items()
            for which, path in (("with", many), ("without", none))
        }
        return {"plugins": _PLUGINS, "seconds": interleave_scripts(scripts, effort, samples=9)}


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table."""
    times: dict[str, Times] = result["seconds"]
    found: list[Row] = []
    for name, arguments in _COMMANDS.items():
        own, bare = times[f"{name} with"], times[f"{name} without"]
        more = median(a - b for a, b in zip(own, bare, strict=True))
        found.append(
            Row(
                "G15",
                f"`bb {' '.join(arguments)}` with {result['plugins']} more plugins installed",
                "at most 60 ms more",
                f"{more * 1e3:.0f} ms more: {shown(own, 'ms', 1e3)}; "
                f"without {shown(bare, 'ms', 1e3)}",
                met=more <= 0.06,
            )
        )
    return found


def write_plugin(folder: Path, number: int) -> None:
    """Write a distribution as an installer leaves it, with one plugin."""
    name = f"bb_aggregator_unused{number}"
    (folder / f"{name}.py").write_text("raise AssertionError('a plugin that nobody uses')\n")
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n"
        "Summary: A plugin that nobody uses.\nRequires-Dist: bb-roles~=0.1.0\n"
    )
    (about / "entry_points.txt").write_text(
        f"[bytesandbrains.v1]\naggregator.unused{number} = {name}\n"
    )
    (about / "RECORD").write_text("")
