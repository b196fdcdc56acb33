"""Planners that plugins add: found by name, and each way to be broken."""

import subprocess
import sys

import pytest

from bb_roles.errors import PluginError, UnknownPluginError
from bb_roles.registry import kinds, load, planner_class, planner_spec, plugin_spec

SOURCE = """
from bb_roles import Planner, PlannerSpec, hookimpl

class Swaps(Planner):
    def plan(self, request): ...

class Half(Planner):
    pass

@hookimpl
def bb_planner():
    return PlannerSpec({name!r}, __name__ + ":{cls}", {plans}{more})
"""


def planner(name="swaps", cls="Swaps", plans='("swap",)', more=""):
    return SOURCE.format(name=name, cls=cls, plans=plans, more=more)


def refused(call, *texts, kind=PluginError):
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    for text in texts:
        assert text in str(caught.value), str(caught.value)


def test_a_planner_is_found(bb_install):
    module = bb_install("planner.swaps", planner(more=', summary="Swaps."'))

    spec = planner_spec("swaps")

    assert "planner" in kinds()
    assert (spec.point, spec.plans, spec.summary) == ("planner.swaps", ("swap",), "Swaps.")
    assert planner_class(spec) is load(plugin_spec("planner.swaps")) is sys.modules[module].Swaps


@pytest.mark.parametrize("plans", ["()", "'swap'", "['swap']", "('swaps',)", "(3,)", "None"])
def test_plans_that_there_are_none_of(bb_install, plans):
    bb_install("planner.swaps", planner(plans=plans))

    refused(lambda: planner_spec("swaps"), "plugin planner.swaps declares plans=", '("swap",)')


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (planner("other"), "declares itself as planner.other"),
        (planner(more=", api=(2, 0)"), "written for contract 2.0"),
        ("1/0", "ZeroDivisionError"),
        ("", "no hook bb_planner"),
    ],
)
def test_broken_declaration(bb_install, source, text):
    bb_install("planner.swaps", source)

    refused(lambda: planner_spec("swaps"), "plugin planner.swaps", text)


@pytest.mark.parametrize(
    ("cls", "text"),
    [("Half", "lacks plan"), ("hookimpl", "is not a Planner"), ("Gone", "cannot be imported")],
)
def test_class_that_is_no_planner(bb_install, cls, text):
    bb_install("planner.swaps", planner(cls=cls))

    refused(lambda: planner_class(planner_spec("swaps")), "planner.swaps", text)


def test_unknown_planner_says_what_there_is(bb_install):
    bb_install("planner.swaps", planner())

    refused(lambda: planner_spec("swapss"), "did you mean 'swaps'?", kind=UnknownPluginError)


def test_contract_needs_neither_plans_nor_protobuf():
    code = (
        "import sys, bb_roles; bb_roles.Planner, bb_roles.SwapRequest; "
        "assert not {'bb_ir.plan', 'google.protobuf', 'numpy'} & sys.modules.keys()"
    )

    subprocess.run([sys.executable, "-c", code], check=True)
