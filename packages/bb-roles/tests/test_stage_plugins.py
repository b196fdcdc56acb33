"""Stages that plugins add: their names, and where they stand; the rest is as for all plugins."""

import pytest

from bb_roles.registry import stage_spec


@pytest.fixture
def added(plugins):
    return plugins["stage"]


@pytest.mark.parametrize(
    ("place", "found"),
    [('after="solve_types"', ("", "solve_types")), ('before="place"', ("place", ""))],
)
def test_a_stage_says_where_it_stands(bb_install, added, place, found):
    bb_install(added.point, added.source(place=place))

    spec = stage_spec("look")

    assert (spec.before, spec.after) == found


def test_names_may_have_dots(bb_install, added):
    bb_install("stage.acme.look", added.source(name="acme.look"))

    assert stage_spec("acme.look").name == "acme.look"


@pytest.mark.parametrize("place", ["", 'before="solve_types", after="solve_types"'])
def test_a_stage_stands_in_one_place(bb_install, refused, added, place):
    bb_install(added.point, added.source(place=place))

    refused(lambda: stage_spec("look"), "plugin stage.look", "exactly one of them")


@pytest.mark.parametrize("name", ["a,b", "9", "-"])
def test_name_that_no_list_of_stages_can_hold(bb_install, refused, added, name):
    bb_install(f"stage.{name}", added.source(name=name))

    refused(lambda: stage_spec(name), "has a name that no stage can have")
