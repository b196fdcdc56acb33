"""Fills the templates in, and writes a project: all of it, or nothing."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template as Text
from typing import NamedTuple

from bb_ir.errors import BytesAndBrainsError
from bytesandbrains._scaffold._kinds import TEMPLATES, Template
from bytesandbrains._scaffold._names import Names

__all__ = ["LICENSES", "CannotCreate", "FolderTaken", "Project", "write_project"]

#: What may be asked for, and its SPDX identifier.
LICENSES = {
    "Apache-2.0": "Apache-2.0",
    "BSD-3-Clause": "BSD-3-Clause",
    "MIT": "MIT",
    "proprietary": "LicenseRef-Proprietary",
}
_END = ".tmpl"
#: What the formatter takes for a long line.
_WIDTH = 88
_IMPORT = re.compile(r"^from (\S+) import ([^(\n]+)$", re.MULTILINE)


class FolderTaken(BytesAndBrainsError):
    """There is something where a new project shall be written.

    Met at `bb new`, which overwrites nothing. Choose another name or folder (`--into`).
    """


class CannotCreate(BytesAndBrainsError):
    """A new project cannot be written.

    Met at `bb new`: a folder cannot be written to, or there is no room. Nothing is left behind.
    """


class Project(NamedTuple):
    """What was written.

    Attributes:
        folder: Where.
        names: Its names.
        files: Its files, relative to the folder, sorted.
    """

    folder: Path
    names: Names
    files: tuple[str, ...]


def write_project(kind: str, names: Names, into: Path, *, licence: str, author: str) -> Project:
    """Write a whole distribution.

    Args:
        kind: A key of `TEMPLATES`.
        names: Its names, checked.
        into: The folder that gets a folder of the project's name.
        licence: A key of `LICENSES`.
        author: Who holds the copyright.

    Raises:
        FolderTaken: There is something in its place.
        CannotCreate: It cannot be written.
    """
    folder = into / names.name
    if folder.is_symlink() or (folder.exists() and (folder.is_file() or any(folder.iterdir()))):
        raise FolderTaken(
            f"{str(folder)!r} is there already",
            expected="no such folder, or an empty one: nothing is overwritten",
            fix="choose another name, or another folder with --into",
        )
    texts = dict(sorted(dict(_texts(kind, names, licence, author)).items()))
    try:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{names.name}-", dir=into) as scratch:
            whole = Path(scratch, names.name)
            for name, text in texts.items():
                path = whole / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8", newline="\n")
            if folder.exists():
                folder.rmdir()
            shutil.move(whole, folder)
    except OSError as error:
        raise CannotCreate(
            f"{str(folder)!r} cannot be written: {error.strerror or error}",
            fix="choose a folder that can be written to with --into",
        ) from error
    return Project(folder, names, tuple(texts))


def _texts(kind: str, names: Names, licence: str, author: str) -> Iterator[tuple[str, str]]:
    """Yield the files of a project; a later one of the same name wins."""
    row, root = TEMPLATES[kind], files("bytesandbrains._scaffold").joinpath("templates")
    values = _values(kind, row, names, licence, author)
    usage = root.joinpath(kind, f"usage.md{_END}").read_text(encoding="utf-8")
    values["usage"] = Text(usage).substitute(values).strip()
    for folder in (*row.after, kind):
        for place, source in _templates(root.joinpath(folder), ""):
            if place != "usage.md":
                text = Text(source.read_text(encoding="utf-8")).substitute(values)
                yield place.replace("/package/", f"/{names.package}/"), _folded(text)
    source = root.joinpath("licenses", f"{LICENSES[licence]}{_END}")
    yield "LICENSE", Text(source.read_text(encoding="utf-8")).substitute(values)


def _templates(folder: Traversable, lead: str) -> Iterator[tuple[str, Traversable]]:
    for one in folder.iterdir():
        name = re.sub(r"^dot\.", ".", one.name)
        if one.is_dir():
            yield from _templates(one, f"{lead}{name}/")
        elif name.endswith(_END):
            yield f"{lead}{name.removesuffix(_END)}", one


def _values(kind: str, row: Template, names: Names, licence: str, author: str) -> dict[str, str]:
    ours = ".".join(version("bb-roles").split(".")[:2]) + ".0"
    needs = [f"bb-roles~={ours}", *row.needs]
    tests_need = [f"bb-testing~={ours}", "pytest>=8", *row.tests_need]
    return {
        **names._asdict(),
        "about": row.about,
        "author": author,
        "author_quoted": json.dumps(author, ensure_ascii=False),  # TOML quotes as JSON does
        "dependencies": _requirements(needs, ours),
        "extras": row.extras.replace("{range}", ours),
        "holds": row.holds,
        "kind": kind,
        "license": LICENSES[licence],
        "module": f"_{kind}",
        "summary": row.summary,
        "test_dependencies": _requirements(tests_need, ours),
        "year": str(datetime.now(UTC).year),
    }


def _requirements(given: list[str], ours: str) -> str:
    return ", ".join(f'"{one.replace("{range}", ours)}"' for one in given)


def _folded(text: str) -> str:
    """Sort the names of imports, and fold those that a long name made too long."""

    def fold(found: re.Match[str]) -> str:
        names = sorted((name.strip() for name in found[2].split(",")), key=_place)
        line = f"from {found[1]} import {', '.join(names)}"
        if len(line) <= _WIDTH:
            return line
        return f"from {found[1]} import (\n{''.join(f'    {name},{chr(10)}' for name in names)})"

    return _IMPORT.sub(fold, text)


def _place(name: str) -> tuple[int, str]:
    """Return where a name stands in an import: constants, then classes, then all others."""
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2
    return kind, name.lower()
