"""The page on components says what the components of this repository can be told."""

import tomllib
from pathlib import Path

from bb_ir import keys
from bytesandbrains.components import describe, markdown

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/reference/components.md"


def published() -> list[tuple[str, str]]:
    """Return role and name of every component that all developers have installed."""
    lockstep = tomllib.loads((ROOT / "release.toml").read_text())["lockstep"]
    points = [
        name.partition(".")
        for file in ROOT.glob("p*/*/pyproject.toml")
        if str(file.parent.relative_to(ROOT)) not in lockstep["apart"]
        for name in tomllib.loads(file.read_text())["project"]
        .get("entry-points", {})
        .get("bytesandbrains.v1", {})
    ]
    return sorted((role, name) for role, _, name in points if role in keys.ROLES)


def test_page_is_what_the_components_say():
    now = markdown(describe(role, name) for role, name in published())

    assert PAGE.read_text() == now, (
        "write it anew: python -m bytesandbrains.components > docs/reference/components.md"
    )
