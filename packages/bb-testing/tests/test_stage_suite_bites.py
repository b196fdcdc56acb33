"""The suite of compiler stages fails where a stage is broken, and passes where it is not."""

import textwrap

import pytest

from bb_testing.stage import StageSuite

pytest_plugins = ["pytester"]

GOOD = """
import itertools

from onnx import ModelProto, StringStringEntryProto

import bytesandbrains as bb
from bb_ir.errors import BytesAndBrainsError
from bb_roles import StageSpec
from bb_testing.stage import StageSuite

counter = itertools.count()

class Sums(bb.Module):
    backend = bb.slots.Backend()

    def __init__(self, name="sum"):
        super().__init__()
        self.name = name

    def body(self, g):
        x = g.input("x", bb.tensor("float32", (4,)))
        g.output(self.name, x + x)

class BadName(BytesAndBrainsError):
    pass

def note(model, value):
    result = ModelProto()
    result.CopyFrom(model)
    kept = [one for one in result.metadata_props if one.key != "test.note"]
    del result.metadata_props[:]
    result.metadata_props.extend([*kept, StringStringEntryProto(key="test.note", value=value)])
    return result

def good(model):
    if any("bad" in function.output for function in model.functions):
        raise BadName("an output is called bad", fix="call it otherwise")
    return note(model, "seen")

class Suite(StageSuite):
    stage = "good"
    place = {"before": "solve_types"}

    def spec(self):
        return StageSpec("noted", f"{__name__}:{self.stage}", **self.place)

    def compiler(self):
        return bb.Compiler().bind_backend("backend", "numpy")

    def program(self):
        return Sums().build()

    def refused(self):
        return [Sums("bad").build()]
"""

#: Test -> a stage on which it must fail, and what else its suite says.
BROKEN = {
    "test_declaration_fits": (
        "def broken(model): return good(model)",
        'place = {"before": "solve_types", "after": "solve_types"}',
    ),
    "test_declaration_fits ": (
        "def broken(model): return good(model)",
        'place = {"after": "solve_type"}',
    ),
    "test_returns_a_model_that_onnx_accepts": (
        """
        def broken(model):
            result = good(model)
            del result.opset_import[:]
            return result
        """,
        "",
    ),
    "test_returns_a_model_that_onnx_accepts ": ("def broken(model): good(model)", ""),
    "test_input_is_left_as_it_is": (
        """
        def broken(model):
            result = good(model)
            model.doc_string = "seen"
            return result
        """,
        "",
    ),
    "test_equal_models_give_equal_models": (
        "def broken(model): return note(good(model), str(next(counter)))",
        "",
    ),
    "test_running_twice_is_running_once": (
        """
        def broken(model):
            result = good(model)
            result.doc_string += "again "
            return result
        """,
        "",
    ),
    "test_program_compiles_with_it": (
        """
        def broken(model):
            result = good(model)
            for function in result.functions:
                for node in function.node:
                    node.op_type = "Nonsense"
            return result
        """,
        "",
    ),
    "test_objections_are_errors_that_explain": (
        "def broken(model): return note(model, 'seen')",
        "",
    ),
    "test_objections_are_errors_that_explain ": (
        """
        def broken(model):
            if any("bad" in function.output for function in model.functions):
                raise ValueError("bad")
            return note(model, "seen")
        """,
        "",
    ),
    "test_objections_are_errors_that_explain  ": (
        """
        def broken(model):
            if any("bad" in function.output for function in model.functions):
                raise BadName("no")
            return note(model, "seen")
        """,
        "",
    ),
}


def written() -> str:
    """Return the source of a test module: `Test0` is of the good stage, then the broken ones."""
    parts = [GOOD, "class Test0(Suite): ...\n"]
    for at, (source, more) in enumerate(BROKEN.values(), 1):
        parts.append(textwrap.dedent(source).replace("broken", f"broken{at}"))
        parts.append(f'class Test{at}(Suite):\n    stage = "broken{at}"\n    {more}\n')
    return "\n".join(parts)


def test_every_test_bites(tests_of):
    assert {name.strip() for name in BROKEN} == tests_of(StageSuite)


def test_suite_fails_on_broken_stages_and_on_no_other(bites):
    bites(written(), BROKEN.items())


def test_what_is_not_declared_idempotent_is_not_tested_for_it(pytester):
    pytester.syspathinsert()
    source, _ = BROKEN["test_running_twice_is_running_once"]
    own = textwrap.dedent(source) + (
        'class Test0(Suite):\n    stage = "broken"\n    idempotent = False\n'
    )
    pytester.makepyfile(test_stages=GOOD + own)

    pytester.runpytest("-p", "no:randomly", "-q").assert_outcomes(passed=7, skipped=1)


@pytest.mark.parametrize("missing", ["spec", "compiler", "program"])
def test_what_an_author_forgot_is_named(missing):
    suite = type("Mine", (StageSuite,), {})()

    with pytest.raises(NotImplementedError, match=f"Mine needs `def {missing}"):
        getattr(suite, missing)()
