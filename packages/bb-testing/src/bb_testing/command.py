"""The contract of commands that plugins add to `bb`, as tests.

A command is run as `bb` runs it: found by its name, in a folder of its own, with standard output
and standard error apart.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from bb_roles import CommandSpec
from bb_roles.entry_points import find
from bb_roles.light import HEAVY
from bb_roles.registry import check_spec, command_object, command_spec
from bb_testing._base import Suite

if TYPE_CHECKING:
    import click
    from click.testing import Result

__all__ = ["CommandSuite"]

#: Exit codes of `bb`: usage is wrong, an input is wrong; and the plugin has a defect.
_USAGE: Final = 2
_INPUT: Final = 3
_DEFECT: Final = 70
#: Prints which of some libraries the import of a module brings.
_LOADED: Final = """
import importlib, json, sys
path, module, heavy = json.load(sys.stdin)
sys.path[:] = path
importlib.import_module(module)
print(json.dumps(sorted(set(heavy) & set(sys.modules))))
"""


class CommandSuite(Suite):
    """Inherit it in a class named `Test...` and write `spec`, `main`, `runs` and `mistakes`.

    The plugin has to be installed, which `pip install -e .` does: `bb` finds it by its entry point.
    """

    def spec(self) -> CommandSpec:
        """Return the declaration of the command: what its hook `bb_command` returns."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def spec(self)`")

    def main(self) -> click.Command:
        """Return the command line that the command is part of: `bytesandbrains.cli.main`."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def main(self)`")

    def runs(self, folder: Path) -> Sequence[Sequence[str]]:
        """Return what may follow the command's name, one list of words for each run.

        Args:
            folder: An empty folder, where commands are run; what they read is written here.
        """
        raise NotImplementedError(f"{type(self).__qualname__} needs `def runs(self, folder)`")

    def mistakes(self, folder: Path) -> Sequence[Sequence[str]]:
        """Return words of users who did something wrong; none by default.

        Args:
            folder: As above.
        """
        return []

    def test_declaration_fits(self) -> None:
        """`bb` finds what the declaration names, and it is a command of click."""
        import click

        spec: object = self.spec()
        assert isinstance(spec, CommandSpec), f"spec() returned a {type(spec).__name__}"
        check_spec(spec)
        assert find(spec.point), f"{spec.point} is not installed: pip install -e ."
        assert command_spec(spec.name) == spec, f"{spec.point} is declared otherwise elsewhere"
        command: object = command_object(spec)
        assert isinstance(command, click.Command), (
            f"{spec.command} is a {type(command).__name__}: write @click.command() above it"
        )

    def test_imports_are_light(self) -> None:
        """The help of a command comes at once: large libraries are imported inside functions."""
        spec = self.spec()
        modules = [one.value for one in find(spec.point)] + [spec.command.partition(":")[0]]
        for module in modules:
            done = subprocess.run(  # noqa: S603  # this Python, with a module of the plugin
                [sys.executable, "-c", _LOADED],
                input=json.dumps([sys.path, module, HEAVY]),
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{module} cannot be imported:\n{done.stderr}"
            heavy = json.loads(done.stdout.rpartition("\n")[0].rpartition("\n")[2])
            assert not heavy, (
                f"{module} imports {', '.join(heavy)}: import it inside the function that needs it"
            )

    def test_bb_lists_it(self) -> None:
        """`bb --help` shows its name."""
        done = _run(self.main(), ["--help"])
        names = [line.split()[0] for line in done.output.splitlines() if line.split()]
        assert self.spec().name in names, f"bb --help does not list it:\n{done.output}"

    def test_help_tells_everything(self) -> None:
        """`--help` says what the command does, and what each option means."""
        import click

        done = _run(self.main(), [self.spec().name, "--help"])
        assert done.exit_code == 0, f"--help ends with {done.exit_code}:\n{done.output}"
        command = command_object(self.spec())
        for one in _commands(command):
            assert one.help, f"{one.name} has no docstring, from which its help is made"
            bare = [p.name for p in one.params if isinstance(p, click.Option) and not p.help]
            assert not bare, f"option {bare[0]!r} of {one.name} has no help"

    def test_unknown_options_are_wrong_usage(self) -> None:
        """A word that it does not know ends with exit code 2, and nothing is done."""
        done = _run(self.main(), [self.spec().name, "--no-such-option-as-this"])
        assert done.exit_code == _USAGE, (
            f"an unknown option ends with {done.exit_code} instead of {_USAGE}: let click parse"
        )

    def test_runs_end_well(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What it is made for ends with exit code 0."""
        runs = self._words(self.runs, tmp_path, monkeypatch)
        assert runs, "runs() needs a run at least"
        for words in runs:
            done = _run(self.main(), words)
            assert done.exit_code == 0, _told(words, done)

    def test_json_is_json(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """With `--json`, standard output is one JSON document and nothing else."""
        if not self._has_json():
            pytest.skip("the command has no --json")
        for words in self._words(self.runs, tmp_path, monkeypatch):
            asked = words if "--json" in words else [*words, "--json"]
            done = _run(self.main(), asked)
            assert done.exit_code == 0, _told(asked, done)
            try:
                json.loads(done.stdout)
            except ValueError as error:
                told = f"{' '.join(asked)} prints what is no JSON ({error}):\n{done.stdout}"
                raise AssertionError(told) from None

    def test_mistakes_are_explained(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A user's mistake ends with exit code 2 or 3, and a reason on standard error."""
        mistakes = self._words(self.mistakes, tmp_path, monkeypatch)
        for words in mistakes:
            done = _run(self.main(), words)
            assert done.exit_code != _DEFECT, (
                f"{_told(words, done)}\nit counts as a defect of the plugin: raise a subclass of "
                "bb_ir.errors.BytesAndBrainsError, with expected= or fix="
            )
            assert done.exit_code in (_USAGE, _INPUT), _told(words, done)
            assert done.stderr.strip(), f"{' '.join(words)} says nothing on standard error"

    def test_mistakes_leave_no_text_among_json(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With `--json`, whoever reads standard output meets no text, whatever happens."""
        if not self._has_json():
            pytest.skip("the command has no --json")
        for words in self._words(self.mistakes, tmp_path, monkeypatch):
            done = _run(self.main(), [*words, "--json"])
            assert _is_json_or_nothing(done.stdout), (
                f"{' '.join(words)} --json prints text to standard output:\n{done.stdout}"
            )

    # Helpers

    def _words(self, what: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
        """Return command lines without `bb`, in whose folder the process now is."""
        monkeypatch.chdir(folder)
        return [[self.spec().name, *map(str, words)] for words in what(folder)]

    def _has_json(self) -> bool:
        return any("--json" in p.opts for p in command_object(self.spec()).params)


def _commands(command: Any) -> list[Any]:
    """Return a command, and all of a group."""
    inner = getattr(command, "commands", {}).values()
    return [command, *(one for each in inner for one in _commands(each))]


def _run(main: Any, words: Sequence[str]) -> Result:
    from click.testing import CliRunner

    make: Any = CliRunner
    try:
        runner = make(mix_stderr=False)  # click 8.1
    except TypeError:
        runner = make()
    done: Result = runner.invoke(main, list(words), prog_name="bb")
    return done


def _told(words: Sequence[str], done: Result) -> str:
    return f"`bb {' '.join(words)}` ends with {done.exit_code}:\n{done.output}"


def _is_json_or_nothing(text: str) -> bool:
    try:
        json.loads(text or "null")
    except ValueError:
        return False
    return True
