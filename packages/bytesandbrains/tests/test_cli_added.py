"""Commands that plugins add: listed from metadata, imported when run, blamed for what they do."""

import sys

import pytest

COMMAND = """
import click

from bb_ir.errors import BytesAndBrainsError
from bb_roles import CommandSpec, hookimpl

class Empty(BytesAndBrainsError):
    pass

@click.command()
@click.argument("what", default="")
def greet(what):
    "Greets."
    if what == "crash":
        raise KeyError("nobody")
    if what == "refuse":
        raise Empty("there is nobody", fix="bring somebody")
    click.echo("hello " + what)

@hookimpl
def bb_command():
    return CommandSpec({name!r}, __name__ + ":{command}")
"""


def greeting(name="greet", command="greet"):
    return COMMAND.format(name=name, command=command)


def test_help_lists_it_without_importing_it(bb, bb_install):
    module = bb_install("command.greet", "raise SystemExit('not to be imported')", "acme-greetings")

    done = bb("--help")

    assert done.code == 0
    assert "Commands of plugins:\n  greet  from acme-greetings 0" in done.out
    assert module not in sys.modules


def test_help_says_nothing_of_plugins_that_add_no_command(bb, bb_install):
    bb_install("model.greet", "raise SystemExit('not to be imported')")

    assert "Commands of plugins" not in bb("--help").out


def test_it_runs_and_no_other_plugin_is_imported(bb, bb_install):
    other = bb_install("command.other", "raise SystemExit('not to be imported')")
    bb_install("command.greet", greeting())

    done = bb("greet", "you")

    assert (done.code, done.out) == (0, "hello you\n")
    assert other not in sys.modules


def test_its_own_help_and_usage_errors_are_clicks(bb, bb_install):
    bb_install("command.greet", greeting())

    assert "Greets." in bb("greet", "--help").out
    assert bb("greet", "--loud").code == 2


def test_an_error_of_its_own_says_what_to_do(bb, bb_install):
    bb_install("command.greet", greeting())

    done = bb("greet", "refuse")

    assert done.code == 3
    assert "error[Empty]: there is nobody\n  fix: bring somebody" in done.err


def test_a_defect_is_blamed_on_its_distribution(bb, bb_install):
    bb_install("command.greet", greeting(), "acme-greetings")

    done = bb("greet", "crash")

    assert done.code == 1
    assert "command 'greet' of acme-greetings 0 failed: KeyError: 'nobody'" in done.err
    assert "report it to the authors of acme-greetings" in " ".join(done.err.split())


def test_a_command_of_bb_cannot_be_taken(bb, bb_install):
    bb_install("command.doctor", greeting("doctor"))

    assert "fingerprint" in bb("doctor", "--json").json
    assert "Commands of plugins" not in bb("--help").out

    checked = bb("plugins", "--check", "command", "--json")

    (row,) = [row for row in checked.json["plugins"] if row["name"] == "doctor"]
    assert checked.code == 1
    assert (row["state"], row["error"]["code"]) == ("shadowed", "TakenName")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("import no_such_library", "No module named 'no_such_library'"),
        (greeting(command="gone"), "cannot be imported"),
        (greeting(command="Empty"), "no click command"),
        (greeting("other"), "declares itself as command.other"),
    ],
)
def test_a_broken_command_takes_nothing_down(bb, bb_install, source, text):
    bb_install("command.greet", source)

    done = bb("greet")

    assert done.code == 3
    assert "error[PluginError]: plugin command.greet" in done.err
    assert text in done.err
    assert bb("plugins", "model").code == 0
    assert bb("--help").code == 0


def test_something_that_only_looks_like_a_command(bb, bb_install):
    source = greeting(command="fake") + "\nclass Fake:\n    def invoke(self): ...\nfake = Fake()\n"
    bb_install("command.greet", source)

    done = bb("greet")

    assert done.code == 3
    assert "which is a Fake" in done.err


def test_two_owners_of_a_command_are_both_named(bb, bb_install):
    bb_install("command.greet", greeting(), "acme-greetings")
    bb_install("command.greet", greeting(), "other-greetings")

    done = bb("greet")

    assert done.code == 3
    assert "acme-greetings, other-greetings" in done.err


def test_a_misspelt_command_of_a_plugin_is_recognized(bb, bb_install):
    bb_install("command.greet", "raise SystemExit('not to be imported')")

    done = bb("gret")

    assert done.code == 2
    assert "Did you mean 'greet'?" in done.err
