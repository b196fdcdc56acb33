"""Every role and every hook has a suite, a page, and plugins that show that it can be filled.

The tables say what stands where; what exists is found out, so a role, hook or plugin that is added
is held to the same without a change here, or with one line that says where its page is.
"""

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import bb_testing
from bb_ir.ops import ROLE_OPS
from bb_roles import hookspecs
from bb_roles.contracts import CONTRACTS
from bb_testing._base import Suite
from bb_testing._life import LivingSuite

ROOT = Path(__file__).parents[1]
PLUGINS = sorted(ROOT.glob("plugins/*/pyproject.toml"))
#: Where somebody may show how a hook is implemented: plugins, documentation, templates, tests.
PLACES = ("plugins", "packages", "docs", "tests")
TEXTS = frozenset({".py", ".md", ".tmpl"})


class Hook(NamedTuple):
    """What there is about a hook beside its docstring.

    Attributes:
        suites: Names of the suites of what it declares; a hook without any says why in `reason`.
        page: The page that tells authors how to write one.
        reason: Why there is no suite.
    """

    suites: tuple[str, ...]
    page: str
    reason: str = ""


def suite_of(role):
    return "".join(word.capitalize() for word in role.split("_")) + "Suite"


HOOKS = {
    "bb_component": Hook(tuple(map(suite_of, CONTRACTS)), "docs/tutorials/your-first-plugin.md"),
    "bb_type": Hook(("TypeSuite",), "docs/how-to/your-own-type.md"),
    "bb_stage": Hook(("StageSuite",), "docs/how-to/your-own-stage.md"),
    "bb_transport": Hook(("TransportSuite",), "docs/how-to/publish-a-plugin.md"),
    "bb_planner": Hook(("PlannerSuite",), "docs/reference/plans.md"),
    "bb_executor": Hook(("ExecutorSuite",), "docs/reference/executors.md"),
    "bb_command": Hook(
        (), "docs/reference/cli.md", "a command of click is tested by click's own runner"
    ),
    "bb_ops": Hook(
        (), "docs/reference/framework-ops.md", "programs of others cannot use ops of other domains"
    ),
}


def hooks():
    return sorted(name for name in vars(hookspecs) if name.startswith("bb_"))


def provided(pyproject):
    return tomllib.loads(pyproject.read_text())["project"]["entry-points"]["bytesandbrains.v1"]


def plugins_of(role):
    """Return the folders of our plugins of a role."""
    return [
        path.parent
        for path in PLUGINS
        if any(point.partition(".")[0] == role for point in provided(path))
    ]


def text_of_tests(plugin):
    return "\n".join(path.read_text() for path in sorted((plugin / "tests").glob("*.py")))


@cache
def texts():
    """Return all texts in which a hook may be implemented, but for its specification."""
    found = (path for place in PLACES for path in (ROOT / place).rglob("*"))
    return {
        path: path.read_text()
        for path in found
        if path.suffix in TEXTS and path.name != "hookspecs.py" and path != Path(__file__)
    }


# ---- roles


@pytest.mark.parametrize("role", CONTRACTS)
def test_role_has_a_suite_that_holds_for_all_components(role):
    suite = getattr(bb_testing, suite_of(role), None)

    assert suite is not None, f"bb_testing has no {suite_of(role)}"
    assert issubclass(suite, LivingSuite), "what holds for all components in use is not tested"


@pytest.mark.parametrize("role", CONTRACTS)
def test_role_has_a_page_with_its_methods_its_suite_and_an_example(role):
    page = ROOT / "docs/reference/roles" / f"{role.replace('_', '-')}.md"
    assert page.exists(), f"write {page.relative_to(ROOT)}"
    text = page.read_text()

    methods = [schema.method for schema in ROLE_OPS.get(role, {}).values()]
    assert [method for method in methods if f"`{method}(ctx" not in text] == []
    assert f"`{suite_of(role)}`" in text
    assert "```python" in text


@pytest.mark.parametrize("role", CONTRACTS)
def test_role_has_two_plugins_at_least(role):
    found = [path.name for path in plugins_of(role)]

    assert len(found) >= 2, f"{role} has {found}"


@pytest.mark.parametrize("plugin", [path.parent for path in PLUGINS], ids=lambda path: path.name)
def test_plugin_of_ours_is_held_against_the_suite_of_its_role(plugin):
    text = text_of_tests(plugin)
    roles = [point.partition(".")[0] for point in provided(plugin / "pyproject.toml")]

    missing = [role for role in roles if role in CONTRACTS and suite_of(role) not in text]
    assert not missing, f"{plugin.name} does not use {', '.join(map(suite_of, missing))}"


# ---- hooks


def test_every_hook_is_in_the_table():
    assert sorted(HOOKS) == hooks()


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_has_a_suite_or_a_reason_to_have_none(hook):
    suites, _, reason = HOOKS[hook]

    assert bool(suites) != bool(reason)
    for name in suites:
        assert issubclass(getattr(bb_testing, name), Suite)


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_has_a_page_that_tells_of_it(hook):
    page = ROOT / HOOKS[hook].page
    kind = hook.removeprefix("bb_").rstrip("s")

    assert page.exists(), f"{hook} has no page {HOOKS[hook].page}"
    assert re.search(rf"\b{kind}s?\b", page.read_text()), f"{page.name} does not tell of {hook}"


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_is_implemented_twice_at_least(hook):
    found = [str(p.relative_to(ROOT)) for p, text in texts().items() if f"def {hook}()" in text]

    assert len(found) >= 2, f"{hook} is implemented in {found} only"


# ---- suites


def public_suites():
    return sorted(name for name in bb_testing.__all__ if name.endswith("Suite"))


@pytest.mark.parametrize("name", public_suites())
def test_suite_is_public_documented_and_bitten(name):
    suite = getattr(bb_testing, name)
    kit = "\n".join(path.read_text() for path in (ROOT / "packages/bb-testing/tests").glob("*.py"))
    page = (ROOT / "docs/how-to/test-a-plugin.md").read_text()

    assert issubclass(suite, Suite)
    assert re.search(rf"\b{name}\b", kit), f"no broken component of the kit's tests fails {name}"
    assert f"`{name}`" in page, f"docs/how-to/test-a-plugin.md does not tell of {name}"


@pytest.mark.parametrize("name", public_suites())
def test_every_test_of_a_suite_explains_itself(name):
    suite = getattr(bb_testing, name)
    tests = [getattr(suite, test) for test in dir(suite) if test.startswith("test_")]

    silent = [test.__name__ for test in tests if not (test.__doc__ or "").strip().endswith(".")]
    assert not silent, f"{name} has tests without a docstring: {silent}"
