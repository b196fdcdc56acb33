"""Writes the page on errors: `python tests/errors/page.py > docs/reference/errors.md`.

What an error means is the docstring of its class; what it looks like comes from running the program
that provokes it. `test_every_error.py` compares the page with what this module writes.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from harness import ABSTRACT, Case, Section, error_classes, run, sections

from bb_ir.errors import BytesAndBrainsError

__all__ = ["main", "markdown"]

_HEAD = """\
# Errors

Every error that this project raises on purpose says what was found, where, what was expected and
what to do. It has a `code`, which stays the same while the text may change, and `found`,
`expected`, `fix` and `where` as attributes; the code is the name of its class unless this page says
otherwise. All of them are `bb.BytesAndBrainsError`. Each section below shows a short program and
what is printed.

This page is written by `python tests/errors/page.py > docs/reference/errors.md`, from the code and
by running the programs.
"""
_ABSTRACT = """\
## What to catch

| Class | Stands for |
|---|---|
"""


def markdown() -> str:
    """Return the page."""
    told = sections()
    parts = [_HEAD, _contents(told), _ABSTRACT + "".join(map(_row, _bases()))]
    return "\n".join([*parts, *(text for one in told for text in _section(one))])


def main() -> None:
    """Print the page."""
    sys.stdout.write(markdown())


def _contents(told: list[Section]) -> str:
    lines = (
        f"- [{one.title}](#{_anchor(one.title)}): "
        + ", ".join(f"[`{_name(case.kind)}`](#{_anchor(_title(case.kind))})" for case in one.cases)
        for one in told
    )
    return "\n".join(lines) + "\n"


def _bases() -> list[type[BytesAndBrainsError]]:
    """Return the classes that others are kinds of, those that are only caught included."""
    found = {base for one in error_classes() for base in one.__bases__}
    found |= {one for one in error_classes() if one.__name__ in ABSTRACT}
    ours = (one for one in found if issubclass(one, BytesAndBrainsError) and _home(one))
    return sorted(ours, key=lambda one: (one is not BytesAndBrainsError, one.__name__))


def _row(kind: type[BytesAndBrainsError]) -> str:
    return f"| `{_home(kind)}.{_name(kind)}` | {_summary(kind)} |\n"


def _section(told: Section) -> Iterator[str]:
    yield f"## {told.title}\n"
    yield f"{told.about}\n"
    if told.before.strip():
        yield f"The programs of this section begin with\n\n```py\n{told.before}```\n"
    for case in told.cases:
        yield from _case(case)


def _case(case: Case) -> Iterator[str]:
    kind = case.kind
    yield f"### {_title(kind)}\n"
    yield _meaning(kind)
    yield _kinds(kind)
    if case.source:
        yield f"```py\n{case.program}```\n"
    for name, text in case.files.items():
        language = {".py": "py", ".toml": "toml"}.get(Path(name).suffix, "text")
        yield f"`{name}`:\n\n```{language}\n{text}```\n"
    if case.command:
        yield f"```console\n$ {case.command}\n```\n"
    with tempfile.TemporaryDirectory() as folder:
        printed = run(case, Path(folder).resolve()).printed
    yield f"```text\n{printed}\n```\n"


def _title(kind: type[BytesAndBrainsError]) -> str:
    """Return the heading of a class; where two have one name, each has its package beside it."""
    twice = Counter(one.__name__ for one in error_classes())[kind.__name__] > 1
    package = kind.__module__.partition(".")[0]
    return f"`{kind.__name__}` of `{package}`" if twice else f"`{kind.__name__}`"


def _name(kind: type[BytesAndBrainsError]) -> str:
    return kind.__name__


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _summary(kind: type[BytesAndBrainsError]) -> str:
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())


def _meaning(kind: type[BytesAndBrainsError]) -> str:
    """Return a class's docstring up to its first section of arguments or attributes."""
    text = inspect.getdoc(kind) or ""
    return re.split(r"\n\n(?:Args|Attributes):\n", text)[0] + "\n"


def _kinds(kind: type[BytesAndBrainsError]) -> str:
    bases = " and ".join(f"`{base.__name__}`" for base in kind.__bases__)
    code = "" if kind.code == kind.__name__ else f" Its code is `{kind.code}`."
    home = f", in `{_home(kind)}`" if _home(kind) else ""
    return f"A kind of {bases}{home}.{code}\n"


def _home(kind: type[BytesAndBrainsError]) -> str:
    """Return the module that users import a class from; nothing for one that is caught by none."""
    parts = itertools.takewhile(lambda part: not part.startswith("_"), kind.__module__.split("."))
    home = ".".join(parts)
    return home if hasattr(importlib.import_module(home), kind.__name__) else ""


if __name__ == "__main__":
    main()
