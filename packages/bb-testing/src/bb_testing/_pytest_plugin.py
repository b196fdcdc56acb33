"""Fixtures that every plugin's tests get by installing bb-testing."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

__all__ = ["bb_install"]


@pytest.fixture
def bb_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Return `install(name, source, distribution="")`: a plugin that exists in this test only.

    `name` is the entry point's, `<role>.<name>`, and `source` the text of the module that it
    names. The plugin is found as if pip had installed it, in a distribution of its own unless one
    is named. Returns the name of the module.
    """
    home = tmp_path / "bb_install"
    made: list[str] = []

    def install(name: str, source: str, distribution: str = "") -> str:
        # The number of files keeps two distributions that claim one name apart.
        module = f"bb_tmp_{name.replace('.', '_')}_{len(made)}"
        owner = distribution or module
        info = home / f"{owner.replace('-', '_')}-0.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (home / f"{module}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {owner}\nVersion: 0\n")
        points = info / "entry_points.txt"
        known = points.read_text() if points.exists() else f"[{_group()}]\n"
        points.write_text(f"{known}{name} = {module}\n")
        if not made:
            monkeypatch.setattr(sys, "path", [str(home), *sys.path])
        made.append(module)
        importlib.invalidate_caches()
        return module

    yield install
    for module in made:
        sys.modules.pop(module, None)


def _group() -> str:
    # Imported late: pytest loads this module even where no plugin is tested.
    from bb_roles import ENTRY_POINT_GROUP

    return ENTRY_POINT_GROUP
