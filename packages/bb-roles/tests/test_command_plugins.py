"""Commands and transports that plugins add: found by name, and each way to be broken."""

import sys

import pytest

from bb_ir import keys
from bb_roles.errors import PluginError, UnknownPluginError
from bb_roles.registry import (
    command_object,
    command_spec,
    kinds,
    load,
    plugin_spec,
    transport_class,
    transport_spec,
)

COMMAND = """
from bb_roles import CommandSpec, hookimpl

NUMBER = 3

class Command:
    def invoke(self, ctx): ...

look = Command()

@hookimpl
def bb_command():
    return CommandSpec({name!r}, __name__ + ":{command}"{more})
"""

TRANSPORT = """
from bb_roles import Transport, TransportSpec, hookimpl

class Pigeons(Transport):
    async def listen(self, address): ...
    async def dial(self, address, peer=None): ...
    async def close(self): ...

class Half(Transport):
    async def close(self): ...

@hookimpl
def bb_transport():
    return TransportSpec({name!r}, __name__ + ":{cls}", {schemes}{more})
"""


def command(name="look", command="look", more=""):
    return COMMAND.format(name=name, command=command, more=more)


def transport(name="pigeons", cls="Pigeons", schemes='("unix", "tcp/tls/ws")', more=""):
    return TRANSPORT.format(name=name, cls=cls, schemes=schemes, more=more)


def refused(call, *texts, kind=PluginError):
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    for text in texts:
        assert text in str(caught.value), str(caught.value)


def test_kinds_are_the_roles_and_what_else_can_be_added():
    assert set(keys.ROLES) < set(kinds())
    assert {"command", "op", "stage", "transport", "type"} <= set(kinds())


def test_a_command_is_found(bb_install):
    module = bb_install("command.look", command(more=', summary="Looks."'))

    spec = command_spec("look")

    assert (spec.name, spec.summary, spec.point) == ("look", "Looks.", "command.look")
    assert command_object(spec) is sys.modules[module].look
    assert load(plugin_spec("command.look")) is sys.modules[module].look


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (command("other"), "declares itself as command.other"),
        (command(more=", api=(2, 0)"), "written for contract 2.0"),
        (command(more=", api=(1, -1)"), "written for contract 1.-1"),
        (command(more=", api=None"), "written for contract None"),
        (command(more=", api='1.0'"), "written for contract '1.0'"),
        (transport("look"), "no hook bb_command"),
        ("1/0", "ZeroDivisionError"),
    ],
)
def test_broken_declaration_of_a_command(bb_install, source, text):
    bb_install("command.look", source)

    refused(lambda: command_spec("look"), "plugin command.look", text)


@pytest.mark.parametrize("name", ["-look", "Look", "look at", "9", "a--b", "a_b"])
def test_name_that_nobody_can_type(bb_install, name):
    bb_install(f"command.{name}", command(name))

    refused(lambda: command_spec(name), "a name that nobody can type")


@pytest.mark.parametrize(
    ("named", "text"), [("gone", "cannot be imported"), ("NUMBER", "no click command")]
)
def test_broken_command(bb_install, named, text):
    bb_install("command.look", command(command=named))

    refused(lambda: command_object(command_spec("look")), "plugin command.look", text)


def test_a_transport_is_found(bb_install):
    module = bb_install("transport.pigeons", transport())

    spec = transport_spec("pigeons")

    assert spec.schemes == ("unix", "tcp/tls/ws")
    assert transport_class(spec) is sys.modules[module].Pigeons


@pytest.mark.parametrize("schemes", ["()", "'tcp'", "['tcp']", "(3,)", "('TCP',)", "('/tcp',)"])
def test_schemes_that_are_none(bb_install, schemes):
    bb_install("transport.pigeons", transport(schemes=schemes))

    refused(lambda: transport_spec("pigeons"), "plugin transport.pigeons declares schemes=")


@pytest.mark.parametrize(
    ("cls", "text"), [("Half", "lacks dial, listen"), ("hookimpl", "is not a Transport")]
)
def test_class_that_is_no_transport(bb_install, cls, text):
    bb_install("transport.pigeons", transport(cls=cls))

    refused(lambda: transport_class(transport_spec("pigeons")), "transport.pigeons", text)


def test_unknown_names_say_what_there_is(bb_install):
    bb_install("transport.pigeons", transport())

    refused(lambda: transport_spec("pigeon"), "did you mean 'pigeons'?", kind=UnknownPluginError)
    refused(lambda: command_spec("lok"), "no plugin provides", kind=UnknownPluginError)


@pytest.mark.parametrize("point", ["transprot.pigeons", "krum", "", ".x"])
def test_a_kind_that_there_is_none_of(bb_install, point):
    refused(lambda: plugin_spec(point), "is of no kind that there is", "aggregator")


def test_two_owners_are_both_named(bb_install):
    bb_install("transport.pigeons", transport(), "acme-birds")
    bb_install("transport.pigeons", transport(), "other-birds")

    refused(lambda: transport_spec("pigeons"), "acme-birds, other-birds")
