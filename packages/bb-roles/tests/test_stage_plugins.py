"""Stages that plugins add: found by name, and every way in which they can be broken."""

import sys

import pytest

from bb_roles.errors import PluginError, UnknownPluginError
from bb_roles.registry import installed, stage_function, stage_spec


def plugin(name="look", stage="look", place='after="solve_types"', more="") -> str:
    """Return a module that declares a stage, and holds its function."""
    return f"""
from bb_roles import StageSpec, hookimpl

NUMBER = 3

class Look:
    pass

def look(model):
    return model

@hookimpl
def bb_stage():
    return StageSpec({name!r}, f"{{__name__}}:{stage}", {place}{more})
"""


def refused(call, *texts, kind=PluginError):
    with pytest.raises(kind) as caught:
        call()
    for text in texts:
        assert text in str(caught.value), str(caught.value)


def test_stage_of_a_plugin_is_found(bb_install):
    module = bb_install("stage.look", plugin(more=', summary="Looks."'))

    spec = stage_spec("look")

    assert (spec.before, spec.after, spec.summary) == ("", "solve_types", "Looks.")
    assert stage_function(spec) is sys.modules[module].look
    assert "look" in [one.name for one in installed("stage")]


def test_names_may_have_dots(bb_install):
    bb_install("stage.acme.look", plugin("acme.look"))

    assert stage_spec("acme.look").name == "acme.look"


def test_unknown_stage_names_what_is_there(bb_install):
    bb_install("stage.look", plugin())

    refused(
        lambda: stage_spec("lock"),
        "no plugin provides stage.lock",
        "did you mean 'look'?",
        kind=UnknownPluginError,
    )


def test_two_owners_are_both_named(bb_install):
    bb_install("stage.look", plugin(), "acme-rules")
    bb_install("stage.look", plugin(), "other-rules")

    refused(lambda: stage_spec("look"), "acme-rules, other-rules")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (plugin("other"), "declares itself as stage.other"),
        (plugin(more=", api=(2, 0)"), "written for contract 2.0"),
        (plugin(more=", api=(1, 9)"), "written for contract 1.9"),
        (plugin(place=""), "exactly one of them"),
        (plugin(place='before="solve_types", after="solve_types"'), "exactly one of them"),
        ("1/0", "ZeroDivisionError"),
        ("", "no hook bb_stage"),
        ("from bb_roles import hookimpl\n@hookimpl\ndef bb_stage(): return 3", "declares a int"),
    ],
)
def test_broken_declaration(bb_install, source, text):
    bb_install("stage.look", source)

    refused(lambda: stage_spec("look"), "plugin stage.look", text)


@pytest.mark.parametrize("name", ["a,b", "9", "-"])
def test_name_that_no_list_of_stages_can_hold(bb_install, name):
    bb_install(f"stage.{name}", plugin(name))

    refused(lambda: stage_spec(name), "has a name that no stage can have")


@pytest.mark.parametrize(
    ("stage", "text"),
    [
        ("nothing", "cannot be imported"),
        ("NUMBER", "is no function"),
        ("Look", "is no function"),
    ],
)
def test_broken_function(bb_install, stage, text):
    bb_install("stage.look", plugin(stage=stage))

    refused(lambda: stage_function(stage_spec("look")), "plugin stage.look", text)
