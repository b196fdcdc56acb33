"""The public names are written down; changing them is a decision, not a slip."""

import ast
import importlib
import inspect
import pkgutil
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
WRITTEN = Path(__file__).with_name("public_api.txt")
LOCKSTEP = tomllib.loads((ROOT / "release.toml").read_text())["lockstep"]
# What is too large to be installed everywhere: where it is not, its names stay as they are written.
APART = {Path(folder).name.replace("-", "_") for folder in LOCKSTEP["apart"]}
ABSENT = {name for name in APART if find_spec(name) is None}
PACKAGES = sorted({p.parent.name for p in ROOT.glob("p*/*/src/*/__init__.py")} - ABSENT)
MEANT_OR_NOT = """the public names are not those of tests/public_api.txt.

new:
  {new}
missing:
  {missing}

Two ways to put that right:
- a name that nobody outside needs: make it private, by an underscore before it or its module;
- a name that users are meant to have: pytest tests/test_public_api.py --update-public-api
  and commit the change, with a fragment in changes/ that tells users."""


def modules_of(package: str) -> Iterator[ModuleType]:
    """Yield the package and all of its modules that have no underscore."""
    top = importlib.import_module(package)
    yield top
    for found in pkgutil.walk_packages(top.__path__, f"{package}."):
        if "._" not in found.name:
            yield importlib.import_module(found.name)


def defined_in(module: ModuleType) -> Iterator[str]:
    """Yield the names that a module without `__all__` binds itself, not those it imports."""
    for node in ast.parse(inspect.getsource(module)).body:
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Assign():
                yield from (t.id for t in node.targets if isinstance(t, ast.Name))


def public_names() -> list[str]:
    """Return every public name of every member, with its module."""
    return sorted(
        {
            f"{module.__name__}.{name}"
            for package in PACKAGES
            for module in modules_of(package)
            for name in getattr(module, "__all__", None) or defined_in(module)
            if not name.startswith("_")
        }
    )


def test_public_names_are_as_written(request):
    elsewhere = [n for n in WRITTEN.read_text().split() if n.partition(".")[0] in ABSENT]
    now = sorted([*public_names(), *elsewhere])
    if request.config.getoption("--update-public-api"):
        WRITTEN.write_text("\n".join(now) + "\n")

    written = WRITTEN.read_text().split()

    new, missing = sorted(set(now) - set(written)), sorted(set(written) - set(now))
    told = MEANT_OR_NOT.format(new="\n  ".join(new), missing="\n  ".join(missing))
    assert not new + missing, told
    assert written == now, (
        "sort tests/public_api.txt: pytest tests/test_public_api.py --update-public-api"
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_every_promised_name_is_there(package):
    lacking = [
        f"{module.__name__}.{name}"
        for module in modules_of(package)
        for name in getattr(module, "__all__", ())
        if not hasattr(module, name)
    ]

    assert not lacking
