"""The suite of commands fails where a command is broken, and passes where it is not."""

import textwrap

import pytest

from bb_testing.command import CommandSuite

pytest_plugins = ["pytester"]

GOOD = """
import json

import click

from bb_ir.errors import BytesAndBrainsError

class Refused(BytesAndBrainsError):
    pass

class Count(click.Command):
    def __init__(self, name, do=None, help="Count the words of FILE.", told="Print JSON."):
        file = click.Argument(["file"])
        option = click.Option(["--json", "as_json"], is_flag=True, help=told)
        super().__init__(name, params=[file, option], callback=do or count, help=help)

def words_of(file):
    try:
        with open(file) as opened:
            return len(opened.read().split())
    except OSError as error:
        raise Refused(f"{file} cannot be read", fix="give a file") from error

def count(file, as_json):
    number = words_of(file)
    click.echo(json.dumps({"words": number}) if as_json else f"{number} words")
"""

#: Test -> a command `broken`; and text in place of `"words", "command"` of its declaration.
BROKEN = {
    "test_declaration_fits": ("broken = Count('broken')", "api=(99, 0)"),
    "test_declaration_fits ": (
        "class Broken:\n    params = []\n    def invoke(self): ...\nbroken = Broken()",
        "",
    ),
    "test_imports_are_light": ("import numpy\nbroken = Count('broken')", ""),
    "test_bb_lists_it": ("broken = Count('broken')", "hidden"),
    "test_help_tells_everything": ("broken = Count('broken', help='')", ""),
    "test_help_tells_everything ": ("broken = Count('broken', told='')", ""),
    "test_unknown_options_are_wrong_usage": (
        "broken = Count('broken')\nbroken.context_settings = {'ignore_unknown_options': True}",
        "",
    ),
    "test_runs_end_well": (
        """
        def do(file, as_json):
            count(file, as_json)
            raise Refused("there are too few")
        broken = Count('broken', do)
        """,
        "",
    ),
    "test_json_is_json": (
        """
        def do(file, as_json):
            click.echo("counting")
            count(file, as_json)
        broken = Count('broken', do)
        """,
        "",
    ),
    "test_mistakes_are_explained": (
        """
        def do(file, as_json):
            len(open(file).read())
            count(file, as_json)
        broken = Count('broken', do)
        """,
        "",
    ),
    "test_mistakes_are_explained ": (
        """
        def do(file, as_json):
            try:
                count(file, as_json)
            except Refused:
                raise SystemExit(3)
        broken = Count('broken', do)
        """,
        "",
    ),
    "test_mistakes_are_explained  ": (
        """
        def do(file, as_json):
            try:
                count(file, as_json)
            except Refused as error:
                click.echo(str(error), err=True)
        broken = Count('broken', do)
        """,
        "",
    ),
    "test_mistakes_leave_no_text_among_json": (
        """
        def do(file, as_json):
            try:
                count(file, as_json)
            except Refused as error:
                click.echo("that did not work")
                raise
        broken = Count('broken', do)
        """,
        "",
    ),
}

SUITE = """
from bb_roles import CommandSpec
from bb_testing.command import CommandSuite
from bytesandbrains.cli import main

class Suite(CommandSuite):
    module, more = "words0", {}

    def spec(self):
        return CommandSpec(self.module, f"{self.module}:broken", **self.more)

    def main(self):
        return main

    def runs(self, folder):
        (folder / "file.txt").write_text("two words")
        return [["file.txt"]]

    def mistakes(self, folder):
        return [["missing.txt"], []]
"""
DECLARATION = """
from bb_roles import CommandSpec, hookimpl

@hookimpl
def bb_command():
    return CommandSpec({name!r}, "{name}:broken"{more})
"""


def install(pytester, name: str, source: str, *, more: str = "", point: str = "") -> None:
    """Write a command, its declaration and the metadata by which they are found."""
    pytester.path.joinpath(f"{name}.py").write_text(GOOD + textwrap.dedent(source))
    pytester.path.joinpath(f"{name}_light.py").write_text(DECLARATION.format(name=name, more=more))
    info = pytester.path / f"{name}-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0\n")
    points = f"[bytesandbrains.v1]\n{point or f'command.{name}'} = {name}_light\n"
    (info / "entry_points.txt").write_text(points)


def test_every_test_bites(tests_of):
    assert {name.strip() for name in BROKEN} == tests_of(CommandSuite)


def test_suite_fails_on_broken_commands_and_on_no_other(pytester, bites):
    install(pytester, "words0", "broken = Count('broken')")
    suites = [SUITE, "class Test0(Suite): ...\n"]
    for at, (source, said) in enumerate(BROKEN.values(), 1):
        hidden, more = said == "hidden", f", {said}" if "=" in said else ""
        install(
            pytester, f"words{at}", source, more=more, point=f"model.words{at}" if hidden else ""
        )
        suites.append(f"class Test{at}(Suite):\n    module = 'words{at}'\n")
        suites.append(f"    more = dict({said})\n" if more else "")

    bites("\n".join(suites), BROKEN.items())


@pytest.mark.parametrize("missing", ["spec", "main", "runs"])
def test_what_an_author_forgot_is_named(missing, tmp_path):
    suite = type("Mine", (CommandSuite,), {})()

    with pytest.raises(NotImplementedError, match=f"Mine needs `def {missing}"):
        suite.runs(tmp_path) if missing == "runs" else getattr(suite, missing)()
