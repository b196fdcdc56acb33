"""The suite of ops fails where an op is broken, and passes where it is not."""

import textwrap

import pytest

from bb_testing.ops import OpsSuite

pytest_plugins = ["pytester"]

GOOD = """
import os
import random
import threading

import numpy as np

from bb_ir.ops import Attribute, OpSchema, Port, ops
from bb_ir.types import scalar, tensor
from bb_roles import OpsSpec
from bb_testing.ops import OpsSuite

X = Port("x", tensor("float32", ("n",)))
OPS = ops(
    OpSchema("Scale", "scale", (X,), (X, Port("n", scalar("int64"))), (Attribute("by", 2.0),)),
    OpSchema("Largest", "largest", (X,), (Port("top", tensor("float32", ("k",))),),
             (Attribute("k"),)),
)
SEEN = []

def scale(x, *, by):
    if not np.isfinite(x).all():
        raise ValueError("x holds what is no finite number")
    return x * np.float32(by), len(x)

def largest(x, *, k):
    return np.sort(x)[-k:]

class Suite(OpsSuite):
    domain, schemas = "test-ops", OPS
    replaced = {}

    def spec(self):
        functions = {"Scale": "scale", "Largest": "largest", **self.replaced}
        paths = {name: f"{__name__}:{found}" for name, found in functions.items()}
        return OpsSpec(self.domain, paths, schemas=self.schemas)

    def calls(self):
        x = np.array([3, 1, 2], np.float32)
        return [("Scale", [x], {}), ("Largest", [x], {"k": 2}), ("Scale", [-x], {"by": 0.5})]

    def refused(self):
        return [("Scale", [np.array([np.nan], np.float32)], {})]
"""

#: Test -> what breaks the op `Scale`, and what else its suite says.
BROKEN = {
    "test_declaration_fits": ("", 'domain = "ai.bytesandbrains.wire"'),
    "test_declaration_fits ": ("", 'replaced = {"Scale": "no_such_function"}'),
    "test_declaration_fits  ": ("", 'schemas = {"Scale": OPS["Scale"]}'),
    "test_functions_take_what_their_schemas_say": ("def broken(x): return scale(x, by=2.0)", ""),
    "test_every_op_is_called": ("", "def calls(self): return super().calls()[:1]"),
    "test_every_op_is_called ": (
        "",
        'def calls(self): return [*super().calls(), ("Scale", [], {})]',
    ),
    "test_results_are_of_the_types_that_are_inferred": (
        "def broken(x, *, by): return scale(x, by=by)[0][1:], 2",
        "",
    ),
    "test_results_are_of_the_types_that_are_inferred ": (
        "def broken(x, *, by): return scale(x, by=by)[0].astype(np.float64), 3",
        "",
    ),
    "test_results_are_of_the_types_that_are_inferred  ": (
        "def broken(x, *, by): return scale(x, by=by)[0]",
        "",
    ),
    "test_same_call_gives_the_same_bits": (
        """
        def broken(x, *, by):
            SEEN.append(1)
            return scale(x, by=by + len(SEEN))
        """,
        "",
    ),
    "test_inputs_are_left_as_they_are": (
        """
        def broken(x, *, by):
            result = scale(x, by=by)
            x *= 2
            return result
        """,
        "",
    ),
    "test_inputs_are_left_as_they_are ": (
        """
        def broken(x, *, by):
            x *= 1  # changes nothing, and cannot be done to what a Node gives
            return scale(x, by=by)
        """,
        "",
    ),
    "test_needs_no_clock_no_dice_and_no_files": (
        "def broken(x, *, by): return scale(x, by=by + 0 * random.random())",
        "",
    ),
    "test_needs_no_clock_no_dice_and_no_files ": (
        "def broken(x, *, by): return scale(x, by=by + 0 * len(os.listdir('.')))",
        "",
    ),
    "test_hash_seed_makes_no_difference": (
        "def broken(x, *, by): return scale(x, by=by + hash('a word') % 1000)",
        "",
    ),
    "test_calls_in_several_threads_at_once": (
        """
        def broken(x, *, by):
            KEPT.by = getattr(KEPT, "by", 1 + (threading.current_thread() is not MAIN))
            return scale(x, by=by * KEPT.by)
        KEPT, MAIN = threading.local(), threading.main_thread()
        """,
        "",
    ),
    "test_objections_explain": (
        "def broken(x, *, by): return x * np.float32(by), len(x)",
        "",
    ),
    "test_objections_explain ": (
        """
        def broken(x, *, by):
            if np.isnan(x).any():
                raise IndexError("list index out of range")
            return scale(x, by=by)
        """,
        "",
    ),
    "test_objections_explain  ": (
        """
        def broken(x, *, by):
            SEEN2.extend(x[np.isnan(x)])
            return scale(x, by=by + len(SEEN2))
        SEEN2 = []
        """,
        "",
    ),
}


def written() -> str:
    """Return the source of a test module: `Test0` is of good ops, then the broken ones."""
    parts = [GOOD, "class Test0(Suite): ...\n"]
    for at, (source, more) in enumerate(BROKEN.values(), 1):
        parts.append(textwrap.dedent(source).replace("broken", f"broken{at}"))
        said = more or f'replaced = {{"Scale": "broken{at}"}}'
        parts.append(f"class Test{at}(Suite):\n    {said}\n")
    return "\n".join(parts)


def test_every_test_bites(tests_of):
    assert {name.strip() for name in BROKEN} == tests_of(OpsSuite)


def test_suite_fails_on_broken_ops_and_on_no_other(bites):
    bites(written(), BROKEN.items())


@pytest.mark.parametrize("missing", ["spec", "calls"])
def test_what_an_author_forgot_is_named(missing):
    suite = type("Mine", (OpsSuite,), {})()

    with pytest.raises(NotImplementedError, match=f"Mine needs `def {missing}"):
        getattr(suite, missing)()
