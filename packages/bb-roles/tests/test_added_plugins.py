"""Plugins of all kinds that have a name of their own: found by it, and each way to be broken."""

import subprocess
import sys

import pytest

from bb_ir import keys
from bb_roles.errors import UnknownPluginError
from bb_roles.registry import installed, kinds, load, plugin_spec

#: Kinds of which the declaration names one thing; that of a type names a class and its codec.
NAMES_ONE = ["command", "executor", "planner", "stage", "transport"]
NOT_A_SPEC = "from bb_roles import hookimpl\n@hookimpl\ndef bb_{kind}(): return 3"


def test_kinds_are_the_roles_and_what_else_can_be_added():
    assert set(keys.ROLES) < set(kinds())
    assert {"command", "executor", "op", "planner", "stage", "transport", "type"} <= set(kinds())


def test_a_plugin_is_found(bb_install, added):
    module = bb_install(added.point, added.source(more=', summary="Looks."'))

    spec = added.spec(added.name)

    assert (spec.name, spec.summary, spec.point) == (added.name, "Looks.", added.point)
    assert plugin_spec(added.point) == spec
    assert module in sys.modules
    assert added.point in {f"{one.kind}.{one.name}" for one in installed(added.kind)}


@pytest.mark.parametrize("added", NAMES_ONE, indirect=True)
def test_what_it_names_is_imported(bb_install, added):
    module = bb_install(added.point, added.source())

    found = added.load(added.spec(added.name))

    assert found is getattr(sys.modules[module], added.parts["named"])
    assert found is load(plugin_spec(added.point))


@pytest.mark.parametrize(
    ("added", "field", "listed"),
    [
        ("executor", "moves", ("H2H",)),
        ("planner", "plans", ("swap",)),
        ("transport", "schemes", ("unix", "tcp/tls/ws")),
    ],
    indirect=["added"],
)
def test_what_it_lists_is_in_its_declaration(bb_install, added, field, listed):
    bb_install(added.point, added.source())

    assert getattr(added.spec(added.name), field) == listed


@pytest.mark.parametrize(
    ("api", "text"),
    [
        ("(2, 0)", "contract 2.0"),
        ("(1, 9)", "contract 1.9"),
        ("(1, -1)", "contract 1.-1"),
        ("None", "contract None"),
        ("'1.0'", "contract '1.0'"),
    ],
)
def test_another_contract(bb_install, refused, added, api, text):
    bb_install(added.point, added.source(more=f", api={api}"))

    refused(lambda: added.spec(added.name), f"plugin {added.point}", f"written for {text}")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("1/0", "ZeroDivisionError"),
        ("", "no hook bb_{kind}"),
        ("from bb_roles import hookimpl\n@hookimpl\ndef bb_ops(): ...", "no hook bb_{kind}"),
        (NOT_A_SPEC, "declares a int"),
    ],
)
def test_no_declaration(bb_install, refused, added, source, text):
    bb_install(added.point, source.format(kind=added.kind))

    refused(lambda: added.spec(added.name), f"plugin {added.point}", text.format(kind=added.kind))


def test_declaration_of_another_name(bb_install, refused, added):
    bb_install(added.point, added.source(name=added.other))

    refused(
        lambda: added.spec(added.name),
        f"plugin {added.point} declares itself as {added.point_of(added.other)}",
    )


def test_an_unknown_name_says_what_there_is(bb_install, refused, added):
    bb_install(added.point, added.source())
    shown = added.point.partition(".")[2]

    refused(
        lambda: added.spec(added.other),
        f"no plugin provides {added.point_of(added.other)}",
        f"did you mean {shown!r}?",
        kind=UnknownPluginError,
    )


def test_two_owners_are_both_named(bb_install, refused, added):
    bb_install(added.point, added.source(), "acme-rules")
    bb_install(added.point, added.source(), "other-rules")

    refused(lambda: added.spec(added.name), "acme-rules, other-rules")


@pytest.mark.parametrize("point", ["transprot.pigeons", "krum", "", ".x"])
def test_a_kind_that_there_is_none_of(refused, point):
    refused(lambda: plugin_spec(point), "is of no kind that there is", "aggregator")


# --- what only some kinds have


@pytest.mark.parametrize(
    ("added", "texts", "listed"),
    [
        (kind, texts, listed)
        for kind, *texts, wrong in (
            ("executor", "declares moves=", "a tuple of H2D", ["'H2H'", "['H2H']", "('h2h',)"]),
            ("planner", "declares plans=", '("swap",)', ["'swap'", "['swap']", "('swaps',)"]),
            (
                "transport",
                "declares schemes=",
                "a tuple of protocols",
                ["'tcp'", "['tcp']", "('TCP',)", "('/tcp',)"],
            ),
        )
        for listed in ["()", "(3,)", "None", *wrong]
    ],
    indirect=["added"],
)
def test_lists_of_what_there_is_none_of(bb_install, refused, added, texts, listed):
    bb_install(added.point, added.source(listed=listed))

    refused(lambda: added.spec(added.name), f"plugin {added.point}", *texts)


@pytest.mark.parametrize(
    ("added", "named", "text"),
    [
        ("command", "Gone", "cannot be imported"),
        ("command", "NUMBER", "no click command"),
        ("executor", "Gone", "cannot be imported"),
        ("executor", "Half", "lacks close, submit"),
        ("executor", "hookimpl", "is no Executor"),
        ("planner", "Gone", "cannot be imported"),
        ("planner", "Half", "lacks plan"),
        ("planner", "hookimpl", "is no Planner"),
        ("stage", "Gone", "cannot be imported"),
        ("stage", "Look", "is no function"),
        ("stage", "NUMBER", "is no function"),
        ("transport", "Gone", "cannot be imported"),
        ("transport", "Half", "lacks dial, listen"),
        ("transport", "hookimpl", "is no Transport"),
        ("type", "Gone", "has no 'Gone'"),
        ("type", "hookimpl", "which is no class"),
    ],
    indirect=["added"],
)
def test_what_it_names_does_not_fit(bb_install, refused, added, named, text):
    bb_install(added.point, added.source(named=named))
    spec = added.spec(added.name)

    refused(lambda: added.load(spec), f"plugin {added.point}", text)


@pytest.mark.parametrize("added", ["command"], indirect=True)
@pytest.mark.parametrize("name", ["-look", "Look", "look at", "9", "a--b", "a_b"])
def test_a_command_that_nobody_can_type(bb_install, refused, added, name):
    bb_install(added.point_of(name), added.source(name=name))

    refused(lambda: added.spec(name), "a name that nobody can type")


@pytest.mark.parametrize("contract", ["Executor, bb_roles.Report", "Planner, bb_roles.SwapRequest"])
def test_contracts_need_neither_plans_nor_protobuf(contract):
    code = (
        f"import sys, bb_roles; bb_roles.{contract}; "
        "assert not {'bb_ir.plan', 'google.protobuf', 'numpy'} & sys.modules.keys()"
    )

    subprocess.run([sys.executable, "-c", code], check=True)
