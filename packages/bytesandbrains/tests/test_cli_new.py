"""`bb new` writes whole distributions; that their tests pass is seen in `tests/installs`."""

import ast
import compileall
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from bb_roles.registry import kinds
from bytesandbrains import _scaffold as scaffold
from bytesandbrains.cli import _new

KINDS = list(scaffold.TEMPLATES)
#: The longest name, one whose class is as long as classes may be, and the shortest.
NAMES = ["plugin-with-a-name-that-is-rather-longxx", "sixteen-letters-ab", "q"]
PLACEHOLDER = re.compile(r"\$\w|\$\{\w")


def written(bb, kind, name, *more):
    done = bb("new", kind, name, *more, "--json")
    assert done.code == 0, done.out
    return Path(done.json["project"]["folder"]), done.json


def test_kinds_of_the_command_are_those_that_have_templates():
    assert list(_new.KINDS) == KINDS
    assert list(_new.LICENSES) == list(scaffold.LICENSES)
    assert set(KINDS) == set(kinds())


@pytest.mark.parametrize("kind", KINDS)
def test_a_project_is_whole(bb, kind):
    folder, told = written(bb, kind, "acme-thing")

    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == set(told["project"]["files"])
    assert files >= {
        ".github/workflows/ci.yml", ".gitignore", "LICENSE", "README.md", "noxfile.py",
        "pyproject.toml", "src/acme_thing/__init__.py", "src/acme_thing/py.typed",
        f"src/acme_thing/_{kind}.py", "tests/test_behaviour.py", "tests/test_conformance.py",
    }  # fmt: skip
    assert (project["name"], project["license"]) == ("acme-thing", "Apache-2.0")
    (point,) = project["entry-points"]["bytesandbrains.v1"].items()
    assert point == (told["project"]["point"], "acme_thing")
    assert point[0].startswith(f"{kind}.acme-thing")
    assert any(one.startswith("bb-roles~=") for one in project["dependencies"])
    assert any(one.startswith("bb-testing~=") for one in project["optional-dependencies"]["test"])


@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_filled_in(bb, kind):
    folder, _ = written(bb, kind, "acme-thing")

    for path in (p for p in folder.rglob("*") if p.is_file() and p.suffix != ".yml"):
        assert not PLACEHOLDER.search(path.read_text()), path
    actions = (folder / ".github/workflows/ci.yml").read_text()
    assert "nox -s tests-${{ matrix.python }}" in actions
    assert compileall.compile_dir(folder, quiet=1)


@pytest.mark.parametrize("kind", KINDS)
def test_light_module_imports_the_contract_and_its_own_ops_alone(bb, kind):
    folder, _ = written(bb, kind, "acme-thing")

    tree = ast.parse((folder / "src/acme_thing/__init__.py").read_text())
    found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert found <= {"bb_roles", "acme_thing._ops"}
    assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))


@pytest.mark.parametrize("kind", KINDS)
def test_every_function_of_the_sources_is_explained(bb, kind):
    folder, _ = written(bb, kind, "acme-thing")

    for path in folder.rglob("src/**/*.py"):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), path
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path}: {node.name}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_project_is_well_formed_whatever_its_name(bb, kind):
    assert len(NAMES[0]) == 40
    for name in NAMES:
        folder, _ = written(bb, kind, name)
        for what in (["format", "--diff"], ["check"]):
            command = ["ruff", *what, "--isolated", "--no-cache", "."]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{name}\n{done.stdout}\n{done.stderr}"


def test_a_codec_says_what_programs_may_send(bb):
    folder, _ = written(bb, "codec", "acme-thing")

    declaration = (folder / "src/acme_thing/__init__.py").read_text()
    assert '"Encode.encoded": "bytes"' in declaration


def test_people_are_told_what_is_next(bb):
    done = bb("new", "aggregator", "acme-thing", "--into", "projects")

    assert done.code == 0
    assert "wrote projects/acme-thing: 11 files" in done.out
    assert '  cd projects/acme-thing\n  pip install -e ".[test]"\n  pytest\n' in done.out
    assert "bb plugins show aggregator.acme-thing" in done.out
    assert "make src/acme_thing/_aggregator.py do what you want" in done.out


def test_a_kind_may_be_written_with_a_dash(bb):
    assert bb("new", "peer-selector", "acme-thing").code == 0


def test_an_unknown_kind_is_a_usage_error_that_lists_the_kinds(bb):
    done = bb("new", "agregator", "acme-thing")

    assert done.code == 2
    assert "peer_selector" in done.err


@pytest.mark.parametrize(
    ("licence", "text"),
    [
        ("Apache-2.0", "Apache License"),
        ("MIT", "Permission is hereby granted"),
        ("BSD-3-Clause", "Redistribution and use"),
        ("proprietary", "All rights reserved"),
    ],
)
def test_a_licence_can_be_chosen(bb, licence, text):
    options = ("--license", licence, "--author", "Ada Lovelace")
    folder, _ = written(bb, "codec", "acme-thing", *options)

    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    licensed = (folder / "LICENSE").read_text()
    assert text in licensed
    assert project["license"] == scaffold.LICENSES[licence]
    assert project["authors"] == [{"name": "Ada Lovelace"}]
    assert licence == "Apache-2.0" or "Ada Lovelace" in licensed


@pytest.mark.parametrize("author", ['Ada "the first" Lovelace', "A\\B", "$name"])
def test_an_author_may_have_any_name(bb, author):
    folder, _ = written(bb, "codec", "acme-thing", "--license", "MIT", "--author", author)

    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["authors"] == [{"name": author}]
    assert author in (folder / "LICENSE").read_text()


# --- names


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("My_Agg", "my-agg"),
        ("MyAgg", "my-agg"),
        ("my.agg", "my-agg"),
        ("9lives", "lives"),
        ("-x", "x"),
        ("a--b", "a-b"),
        ("ä", "my-median"),
        ("x" * 41, "x" * 40),
        ("a/../b", "a-b"),
    ],
)
def test_a_name_that_is_none_is_refused_with_one_that_is(bb, name, near):
    done = bb("new", "aggregator", "--json", "--", name)

    assert done.code == 3
    (error,) = done.json["errors"]
    assert error["code"] == "BadName"
    assert f"{near!r}" in error["fix"]
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        ("aggregator", "lambda", "BadName"),
        ("aggregator", "json", "NameTaken"),
        ("aggregator", "numpy", "NameTaken"),
        ("model", "tensorflow", "NameTaken"),
        ("model", "tests", "NameTaken"),
        ("index", "scikit-learn", "NameTaken"),
        ("aggregator", "bytesandbrains", "NameTaken"),
        ("aggregator", "bb-roles", "NameTaken"),
        ("aggregator", "bb-aggregator-fedavg", "NameTaken"),
        ("aggregator", "krum", "NameTaken"),
        ("command", "doctor", "NameTaken"),
    ],
)
def test_a_name_that_is_taken_is_refused(bb, kind, name, code):
    done = bb("new", kind, name, "--json")

    assert done.code == 3
    assert [error["code"] for error in done.json["errors"]] == [code]
    assert not list(Path().iterdir())


def test_a_name_of_another_kind_is_free(bb):
    assert bb("new", "codec", "krum").code == 0


# --- files


def test_nothing_is_overwritten(bb):
    Path("acme-thing").mkdir()
    Path("acme-thing/notes.txt").write_text("mine")

    done = bb("new", "codec", "acme-thing")

    assert done.code == 3
    assert "error[FolderTaken]" in done.err
    assert [path.name for path in Path("acme-thing").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("what", ["file", "link"])
def test_neither_a_file_nor_a_link_is_replaced(bb, what):
    if what == "file":
        Path("acme-thing").write_text("mine")
    else:
        Path("acme-thing").symlink_to("elsewhere")

    assert "error[FolderTaken]" in bb("new", "codec", "acme-thing").err


def test_an_empty_folder_is_taken(bb):
    Path("acme-thing").mkdir()

    assert bb("new", "codec", "acme-thing").code == 0
    assert Path("acme-thing/pyproject.toml").is_file()


def test_what_cannot_be_written_leaves_nothing(bb):
    Path("taken").write_text("a file")

    done = bb("new", "codec", "acme-thing", "--into", "taken/deeper")

    assert done.code == 3
    assert "error[CannotCreate]" in done.err
    assert [path.name for path in Path().iterdir()] == ["taken"]
