"""Small programs that provoke errors: read from `cases/`, and run.

Each file in `cases/` is a section of the page on errors. Its docstring introduces the section, what
follows is run before each of its programs, and each program begins with a line

    # %% Kind: text; text

that names the error it provokes (with its package in front where two have the name) and what its
first sentence must hold. Lines that the error must quote end with `# (1)`, `# (2)`, in its order;
readers do not see these marks. A program that ends with `# $ command` is a file `program.py` for
that command of `bb`; any other one is run. What stands in comments below `# file: NAME` is another
file beside it.

Nothing here judges; `test_every_error.py` and `page.py` do.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import linecache
import os
import pkgutil
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import click
from click.testing import CliRunner

from bb_ir.errors import BytesAndBrainsError
from bb_roles import entry_points
from bytesandbrains.cli import main
from bytesandbrains.cli._errors import as_data, as_text, flatten

__all__ = ["ABSTRACT", "Case", "Section", "Told", "error_classes", "run", "sections"]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
#: Files of cases in the order in which a user meets the errors.
ORDER = (
    "recording", "compiling", "installing", "running", "simulating", "data_and_wire", "swapping",
    "executing", "storing", "plugins", "components", "command_line",
)  # fmt: skip
#: Classes that only stand for others: they are caught, never raised.
ABSTRACT = frozenset(
    {
        "BuildError",
        "CliError",
        "CompileError",
        "PlansError",
        "SimulationError",
        "StoreError",
        "TransportError",
    }
)
#: What the page may mention; plugins of others, wherever they are installed, must not change it.
PLUGINS = (
    "aggregator.fedavg", "aggregator.fedopt", "aggregator.krum", "aggregator.median",
    "aggregator.trimmed-mean", "backend.numpy", "backend.onnxruntime", "codec.chain",
    "codec.quantize", "codec.topk", "codec.zstd", "data_source.arrays", "data_source.digits",
    "data_source.parquet", "data_source.trace", "executor.cpu", "index.flat", "index.usearch",
    "model.mlp", "model.sklearn", "peer_selector.random", "peer_selector.registry",
    "peer_selector.static", "planner.kvcache", "planner.swap",
    "protocol.gossip", "protocol.registry", "protocol.swap",
)  # fmt: skip
_CELL = re.compile(r"^# %% (\S+?)(?:: (.*))?$", re.MULTILINE)
_MARK = re.compile(r"  # \((\d)\)$", re.MULTILINE)
_COMMAND = re.compile(r"^# \$ (.+)\n", re.MULTILINE)
_FILE = re.compile(r"^# file: (\S+)\n((?:#(?! file: )(?: .*)?\n)+)", re.MULTILINE)


@dataclass(frozen=True)
class Case:
    """One program, and what it must provoke.

    Attributes:
        kind: The class of the error.
        names: Texts that say what is wrong.
        source: The program, with its marks.
        command: The command of `bb` that is given it, or empty.
        files: Other files beside it, by name.
        before: What is run before it.
    """

    kind: type[BytesAndBrainsError]
    names: tuple[str, ...]
    source: str
    command: str
    files: dict[str, str]
    before: str

    @property
    def program(self) -> str:
        """The program as readers see it."""
        return _MARK.sub("", self.source)

    @property
    def marked(self) -> list[int]:
        """The lines that the error must quote, in the order of the marks."""
        found = {
            int(mark[1]): number
            for number, line in enumerate(self.source.splitlines(), 1)
            if (mark := _MARK.search(line))
        }
        return [found[mark] for mark in sorted(found)]


@dataclass(frozen=True)
class Section:
    """The cases of one file."""

    name: str
    title: str
    about: str
    before: str
    cases: tuple[Case, ...]


class Told(NamedTuple):
    """What a user is told: the error as data, and as it is printed."""

    error: dict[str, Any]
    printed: str
    raised: BytesAndBrainsError | None


def packages() -> list[str]:
    """Return the import names of this repository's distributions that all developers have."""
    lockstep = tomllib.loads((ROOT / "release.toml").read_text())["lockstep"]
    apart = {ROOT / folder for folder in lockstep["apart"]}
    found = ROOT.glob("p*/*/src/*/__init__.py")
    return sorted(path.parent.name for path in found if path.parents[2] not in apart)


@cache
def error_classes() -> tuple[type[BytesAndBrainsError], ...]:
    """Return every error class of this repository, by importing every module of it."""
    for name in packages():
        module = importlib.import_module(name)
        for one in pkgutil.walk_packages(module.__path__, f"{name}."):
            if not one.name.endswith("__main__"):
                importlib.import_module(one.name)
    own = tuple(f"{name}." for name in packages())
    found = {one for one in _below(BytesAndBrainsError) if f"{one.__module__}.".startswith(own)}
    return tuple(sorted(found, key=lambda one: (one.__module__, one.__name__)))


def _below(kind: type[Any]) -> Iterator[type[Any]]:
    for one in kind.__subclasses__():
        yield one
        yield from _below(one)


def sections() -> list[Section]:
    """Read all cases."""
    return [_section(name) for name in ORDER]


def _section(name: str) -> Section:
    text = (HERE / "cases" / f"{name}.py").read_text()
    starts = list(_CELL.finditer(text))
    head = text[: starts[0].start()]
    tree = ast.parse(head)
    title, _, about = (ast.get_docstring(tree) or "").partition("\n\n")
    before = "\n".join(head.splitlines()[tree.body[0].end_lineno :]).strip() + "\n"
    ends = [cell.start() for cell in starts[1:]] + [len(text)]
    cases = tuple(
        _case(cell[1], cell[2] or "", text[cell.end() : end].strip() + "\n", before)
        for cell, end in zip(starts, ends, strict=True)
    )
    return Section(name, title.rstrip("."), about, before, cases)


def _case(name: str, names: str, text: str, before: str) -> Case:
    command = _COMMAND.search(text)
    text = _COMMAND.sub("", text)
    files = {
        name: re.sub(r"^# ?", "", lines, flags=re.MULTILINE) for name, lines in _FILE.findall(text)
    }
    source = _FILE.sub("", text).strip()
    texts = tuple(part for part in names.split("; ") if part)
    return Case(
        kind=_kind(name),
        names=texts,
        source=source and f"{source}\n",
        command=command[1] if command else "",
        files=files,
        before=before,
    )


def _kind(name: str) -> type[BytesAndBrainsError]:
    package, _, own = name.rpartition(".")
    found = [
        one
        for one in error_classes()
        if one.__name__ == own and package in ("", one.__module__.partition(".")[0])
    ]
    if len(found) != 1:
        raise LookupError(f"{name}: {len(found)} classes of that name: {found}")
    return found[0]


def run(case: Case, folder: Path) -> Told:
    """Run a program in an empty folder, and return what it provokes.

    Raises:
        AssertionError: It provokes nothing.
    """
    for name, text in {"program.py": case.program, **case.files}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    with _in(folder):
        told = _call(case.command) if case.command else _execute(case)
    return told._replace(printed=told.printed.replace(str(folder), "."))


def _execute(case: Case) -> Told:
    module = ModuleType("program")
    module.__file__ = str(Path.cwd() / "program.py")
    sys.modules["program"] = module
    exec(compile(case.before, "before.py", "exec"), module.__dict__)  # noqa: S102  # ours
    try:
        with redirect_stdout(StringIO()):
            exec(compile(case.program, module.__file__, "exec"), module.__dict__)  # noqa: S102  # ours
    except BytesAndBrainsError as error:
        printed = "\n\n".join(click.unstyle(as_text(one)) for one in flatten(error))
        return Told(as_data(error), printed, error)
    raise AssertionError(f"the program for {case.kind.__name__} provokes nothing")


def _call(command: str) -> Told:
    words = shlex.split(command)
    settings = [word for word in words if re.match(r"[A-Z_]+=", word)]
    os.environ.update(dict(word.split("=", 1) for word in settings))
    arguments = words[len(settings) + 1 :]
    _forget()
    structured = json.loads(_invoke([*arguments, "--json"]).stdout)
    _forget()
    done = _invoke(arguments)
    assert done.exit_code, f"`{command}` succeeds"
    errors = structured["errors"] if "errors" in structured else _failures(structured)
    return Told(errors[0], done.stderr.strip(), None)


def _failures(structured: dict[str, Any]) -> list[dict[str, Any]]:
    if "plugins" in structured:
        return [row["error"] for row in structured["plugins"] if row["error"]]
    return [one for done in structured["rounds"] for one in done["failures"]]


def _invoke(arguments: list[str]) -> Any:
    try:
        runner = CliRunner(mix_stderr=False)  # type: ignore[call-arg,unused-ignore]  # click 8.1
    except TypeError:
        runner = CliRunner()
    return runner.invoke(main, arguments, prog_name="bb")


@contextmanager
def _in(folder: Path) -> Iterator[None]:
    """Work in a folder as a user would, and leave nothing behind."""
    here, path, environment = Path.cwd(), list(sys.path), dict(os.environ)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    _forget()
    try:
        with _only_our_plugins():
            yield
    finally:
        os.chdir(here)
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(environment)
        _forget()


@contextmanager
def _only_our_plugins() -> Iterator[None]:
    """Hide the plugins of others; BB_PLUGINS would do that too, and errors would mention it."""
    read, here = entry_points._entry_points, str(Path.cwd())

    def own() -> list[Any]:
        return [
            one
            for one in read()
            if one.name in PLUGINS
            or one.name.startswith("op.")
            or str(one.dist.locate_file("")) == here  # one that the case itself brings
        ]

    entry_points._entry_points = own  # type: ignore[assignment]
    try:
        yield
    finally:
        entry_points._entry_points = read


def _forget() -> None:
    sys.modules.pop("program", None)
    for name in [one for one in linecache.cache if Path(one).name in ("program.py", "before.py")]:
        del linecache.cache[name]  # the next program has other lines
    inspect.modulesbyfile.clear()
