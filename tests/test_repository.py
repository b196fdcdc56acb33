"""The tree keeps its own rules: every member whole, one version, every import declared."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
MEMBERS = {path.parent.name: path.parent for path in sorted(ROOT.glob("p*/*/pyproject.toml"))}
PLUGINS = [name for name, folder in MEMBERS.items() if folder.parent.name == "plugins"]
CORE = [name for name in MEMBERS if name not in PLUGINS]
# Distributions that are imported under another name than their own.
IMPORTED_AS = {"protobuf": "google", "scikit-learn": "sklearn"}


def toml(path: str | Path) -> dict:
    return tomllib.loads((ROOT / path).read_text())


SETTINGS = toml("pyproject.toml")
RELEASE = toml("release.toml")
# Too large to be installed everywhere.
APART = [Path(folder).name for folder in RELEASE["lockstep"]["apart"]]
PROJECTS = {name: toml(folder / "pyproject.toml")["project"] for name, folder in MEMBERS.items()}
CONTRACTS = {contract["id"]: contract for contract in SETTINGS["tool"]["importlinter"]["contracts"]}


def import_name(distribution: str) -> str:
    return IMPORTED_AS.get(distribution, distribution.replace("-", "_"))


def requirements(name: str, *, extras: bool = False) -> list[Requirement]:
    more = PROJECTS[name].get("optional-dependencies", {}) if extras else {}
    lines = [*PROJECTS[name].get("dependencies", []), *(line for e in more.values() for line in e)]
    return [Requirement(line) for line in lines]


def reachable(name: str) -> set[str]:
    """Return what a member may import: what it asks for, and what its siblings ask for."""
    found = {import_name(name)}
    for requirement in requirements(name, extras=True):
        found.add(import_name(requirement.name))
        if requirement.name in MEMBERS:
            found |= reachable(requirement.name)
    return found


def is_of_import(handler: ast.ExceptHandler) -> bool:
    caught = ast.unparse(handler.type) if handler.type else ""
    return caught in {"ImportError", "ModuleNotFoundError"}


def always_run(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what is beneath, without what only type checkers read and what may be missing."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Try) and any(map(is_of_import, child.handlers)):
            continue
        yield child
        yield from always_run(child)


def imports(tree: ast.AST) -> Iterator[str]:
    for node in always_run(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module)


@pytest.mark.parametrize("name", MEMBERS)
def test_member_is_whole(name):
    folder, package = MEMBERS[name], import_name(name)

    for part in ["README.md", f"src/{package}/__init__.py", f"src/{package}/py.typed", "tests"]:
        assert (folder / part).exists(), f"{folder.relative_to(ROOT)} has no {part}"
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert PROJECTS[name]["name"] == name
    assert PROJECTS[name]["description"]


@pytest.mark.parametrize("name", MEMBERS)
def test_member_has_the_one_version_and_the_one_range_of_pythons(name):
    assert PROJECTS[name]["version"] == RELEASE["tool"]["bumpversion"]["current_version"]
    assert PROJECTS[name]["requires-python"] == ">=3.11,<3.14"


@pytest.mark.parametrize("name", CORE)
def test_core_pins_its_siblings_exactly(name):
    version = PROJECTS[name]["version"]

    loose = [
        str(wanted)
        for wanted in requirements(name, extras=True)
        if wanted.name in CORE and wanted.specifier != SpecifierSet(f"=={version}")
    ]

    assert not loose


@pytest.mark.parametrize("name", PLUGINS)
def test_plugin_depends_on_the_contract_alone(name):
    contract = f"bb-roles~={PROJECTS['bb-roles']['version']}"
    slots = f"bb-dsl~={PROJECTS['bb-dsl']['version']}"
    extras = PROJECTS[name].get("optional-dependencies", {})
    ours = [
        str(wanted)
        for wanted in requirements(name, extras=True)
        # Planners and executors stand on it; it is beside the engine, and needs the contract alone.
        if wanted.name in MEMBERS and str(wanted) != f"bb-plans~={PROJECTS['bb-plans']['version']}"
    ]

    # One that brings a slot class needs the recorder for it, and runs without.
    assert ours == ([contract, slots] if "dsl" in extras else [contract])
    assert extras.get("dsl", [slots]) == [slots]


@pytest.mark.parametrize("name", PLUGINS)
def test_plugin_is_found_by_the_name_of_its_role(name):
    points = PROJECTS[name]["entry-points"]["bytesandbrains.v1"]

    for point, module in points.items():
        assert re.fullmatch(r"[a-z_]+\.[a-z0-9_-]+", point)
        assert module == import_name(name)


@pytest.mark.parametrize("name", MEMBERS)
def test_every_import_is_declared(name):
    known = reachable(name) | sys.stdlib_module_names

    undeclared = [
        f"{path.relative_to(ROOT)}: {module}"
        for path in (MEMBERS[name] / "src").rglob("*.py")
        for module in imports(ast.parse(path.read_text()))
        if module.partition(".")[0] not in known
    ]

    assert not undeclared


def test_facade_brings_every_plugin_in_its_extra_all_but_those_apart():
    extras = PROJECTS["bytesandbrains"]["optional-dependencies"]
    brought = {Requirement(line).name for line in [*extras["demo"], *extras["all"]]}

    assert set(PLUGINS) - set(APART) <= brought
    assert brought.isdisjoint(APART)


def test_members_apart_are_plugins():
    assert set(APART) <= set(PLUGINS)


def test_import_contracts_name_every_member():
    # What is apart is not installed where import-linter runs. It imports what it asks for
    # (`test_every_import_is_declared`), and that is the contract alone.
    apart = {import_name(name) for name in APART}
    ours = {import_name(name) for name in MEMBERS} - apart
    plugins = {import_name(name) for name in PLUGINS} - apart
    layered = {name for layer in CONTRACTS["layers"]["layers"] for name in layer.split(" | ")}

    assert set(SETTINGS["tool"]["importlinter"]["root_packages"]) == ours
    assert layered == ours - plugins
    assert set(CONTRACTS["plugins"]["source_modules"]) == plugins
    assert set(CONTRACTS["plugins"]["forbidden_modules"]) == layered - {
        "bb_roles",
        "bb_ir",
        "bb_plans",
    }
    assert set(CONTRACTS["plugins-apart"]["modules"]) == plugins
    assert set(CONTRACTS["core-without-plugins"]["forbidden_modules"]) == plugins
    assert set(SETTINGS["tool"]["ruff"]["lint"]["isort"]["known-first-party"]) == ours | apart


def test_constraints_are_names_and_versions_only():
    lines = (ROOT / "constraints.txt").read_text().splitlines()[1:]

    assert lines
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[\w.+!]+", line)] == []


def test_changelog_fragments_have_a_known_kind():
    kinds = {kind["directory"] for kind in RELEASE["tool"]["towncrier"]["type"]}
    fragments = [p.name for p in (ROOT / "changes").glob("*.md")]

    assert [n for n in fragments if not re.fullmatch(rf"[\w+-]+\.({'|'.join(kinds)})\.md", n)] == []


def test_script_of_continuous_integration_is_bash():
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)
