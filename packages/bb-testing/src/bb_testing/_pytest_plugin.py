"""Fixtures that every plugin's tests get by installing bb-testing."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import numpy as np

    from bb_testing.federations import SimulatedFederation

__all__ = ["bb_install", "federation", "local_federation", "seeded"]


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
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {owner}\nVersion: 0\nRequires-Dist: bb-roles>=0\n"
        )
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


@pytest.fixture
def federation() -> Iterator[Callable[..., SimulatedFederation]]:
    """Return `make(program, bind=None, *, config=None, **scenario)`: a federation in the simulator.

    The program is compiled with what `bind` says of its slots, unless it is compiled already; the
    keywords are those of `bb_testing.federations.scenario_of`: `peers={"client": 10}, rounds=3,
    seed=1, loss=0.1, crash={"client[0]": "2s"}, lie={"client[1]": "nan"}`. Returns a
    `SimulatedFederation` to run and to look at; it is closed after the test.
    """
    from bb_testing.federations import SimulatedFederation, compile_program, scenario_of

    made: list[SimulatedFederation] = []

    def make(program: Any, bind: Any = None, *, config: Any = None, **said: Any) -> Any:
        found = SimulatedFederation(compile_program(program, bind), scenario_of(**said), config)
        made.append(found)
        return found

    yield make
    for one in made:
        one.close()


@pytest.fixture
def local_federation() -> Iterator[Callable[..., Any]]:
    """Return `make(program, bind=None, *, nodes=None, config=None, seed=0)`: Nodes on a local bus.

    It gives a `bytesandbrains.LocalFederation` of real Nodes and real envelopes, whose `bus` is a
    `LocalBus`; it is closed after the test.
    """
    from bb_testing import federations

    made: list[Any] = []

    def make(program: Any, bind: Any = None, **how: Any) -> Any:
        found = federations.local_federation(program, bind, **how)
        made.append(found)
        return found

    yield make
    for one in made:
        one.close()


@pytest.fixture
def seeded(request: pytest.FixtureRequest) -> np.random.Generator:
    """Return a generator seeded by the test's name: each test has its own, the same each time."""
    import numpy as np

    name: str = request.node.nodeid.partition("::")[2]
    key = hashlib.blake2b(name.encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(key, "little"))


def _group() -> str:
    # Imported late: pytest loads this module even where no plugin is tested.
    from bb_roles import ENTRY_POINT_GROUP

    return ENTRY_POINT_GROUP
