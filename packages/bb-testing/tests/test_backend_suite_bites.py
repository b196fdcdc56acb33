"""The backend suite passes a right backend and fails broken ones, each for its own reason."""

import numpy as np
import onnx.reference
import pytest

from bb_testing.backend import FLOOR

# The inner runs forget what they import, and numpy cannot be loaded twice: both are loaded here.
assert np
assert onnx.reference

pytest_plugins = ["pytester"]

# Right by construction: it is the oracle. Each fault below spoils one thing about it.
BACKEND = """
import itertools

import numpy as np

from bb_ir.ids import PeerId
from bb_roles import Backend, Environment
from bb_roles.contracts import NoConfig
from bb_testing.backend import FLOOR, BackendSuite, run_reference


class Honest(Backend):
    ops = FLOOR

    def kernel(self, op_type, attributes, outputs):
        if op_type not in self.ops:
            return None

        def run(*inputs):
            made = run_reference(op_type, inputs, attributes, outputs)
            made = [self.spoil(op_type, y) for y in made]
            return made[0] if outputs == 1 else tuple(made)

        return run

    def spoil(self, op_type, y):
        return y


def fill(inputs):
    for x in inputs:
        if x is not None and x.flags.writeable and x.dtype.kind == "f":
            x.fill(0)


class WritesToInputs(Honest):
    def kernel(self, op_type, attributes, outputs):
        run = super().kernel(op_type, attributes, outputs)

        def filling(*inputs):
            result = run(*(None if x is None else x.copy() for x in inputs))
            fill(inputs)
            return result

        return run and filling


class NeedsWritableInputs(Honest):
    def kernel(self, op_type, attributes, outputs):
        run = super().kernel(op_type, attributes, outputs)

        def writing(*inputs):
            for x in inputs:
                if x is not None:
                    x[...] = x
            return run(*inputs)

        return run and writing


class LacksOps(Honest):
    ops = tuple(op for op in FLOOR if op != "Softmax")


class Widens(Honest):
    def spoil(self, op_type, y):
        return y.astype(np.float64) if op_type == "Exp" else y


class RoundsDown(Honest):
    def kernel(self, op_type, attributes, outputs):
        run = super().kernel(op_type, attributes, outputs)

        def divide(a, b):
            return a // b if a.dtype.kind == "i" else run(a, b)

        return divide if op_type == "Div" else run


class GivesScalars(Honest):
    def spoil(self, op_type, y):
        return y[()]


class GivesLists(Honest):
    def kernel(self, op_type, attributes, outputs):
        run = super().kernel(op_type, attributes, outputs)
        return (lambda *inputs: list(run(*inputs))) if op_type == "Split" else run


class RefusesUnknownOps(Honest):
    def kernel(self, op_type, attributes, outputs):
        if op_type not in self.ops:
            raise KeyError(op_type)
        return super().kernel(op_type, attributes, outputs)


class Wavers(Honest):
    turn = itertools.count()

    def spoil(self, op_type, y):
        wavers = op_type == "ReduceSum" and y.dtype.kind == "f" and next(self.turn) % 2
        return np.nextafter(y, np.inf, dtype=y.dtype) if wavers else y


class ReusesMemory(Honest):
    def kernel(self, op_type, attributes, outputs):
        run = super().kernel(op_type, attributes, outputs)
        kept = []

        def lazy(*inputs):
            y = run(*inputs)
            if not kept:
                kept.append(y.copy())
            kept[0][...] = y
            return kept[0]

        return lazy if op_type == "MatMul" else run


class KeepsInputs(Honest):
    def kernel(self, op_type, attributes, outputs):
        run, kept = super().kernel(op_type, attributes, outputs), []

        def keeping(*inputs):
            kept.extend(inputs)
            return run(*inputs)

        return run and keeping


class IgnoresAxes(Honest):
    def kernel(self, op_type, attributes, outputs):
        run = super().kernel(op_type, attributes, outputs)
        return (lambda x, axes=None: run(x)) if op_type == "ReduceMax" else run


class FusesLoosely(Honest):
    def compile(self, graph):
        run = super().compile(graph)

        def wide(*inputs):
            # In more digits than the dtype has: nearer to the truth, and not the same.
            wider = [x.astype(np.float64) for x in inputs]
            made = [y.astype(np.float32) for y in self.results(run(*wider), graph)]
            return made[0] if len(made) == 1 else tuple(made)

        return wide if graph.inputs and run else run

    def results(self, made, graph):
        return [made] if len(graph.outputs) == 1 else list(made)


class FusesInPlace(Honest):
    def compile(self, graph):
        run = super().compile(graph)

        def filling(*inputs):
            result = run(*(x.copy() for x in inputs))
            fill(inputs)
            return result

        return run and filling


class FusesWithOneBuffer(Honest):
    def compile(self, graph):
        run = super().compile(graph)
        kept = []

        def lazy(*inputs):
            made = run(*inputs)
            if len(graph.outputs) > 1:
                return made
            if not kept:
                kept.append(made.copy())
            kept[0][...] = made
            return kept[0]

        return run and lazy


class FusesToScalars(Honest):
    def compile(self, graph):
        run = super().compile(graph)

        def scalars(*inputs):
            made = run(*inputs)
            return made if len(graph.outputs) == 1 else tuple(y[()] for y in made)

        return run and scalars


class FusesToLists(Honest):
    def compile(self, graph):
        run = super().compile(graph)
        return (lambda *inputs: list(run(*inputs))) if len(graph.outputs) > 1 else run


class FusesWhatItLacks(Honest):
    def compile(self, graph):
        return lambda *inputs: inputs[0]


class FusesNothing(Honest):
    def compile(self, graph):
        return None


class TestBackend(BackendSuite):
    def make(self):
        return {name}(NoConfig(), Environment(peer=PeerId.from_seed(0), slot="backend"))
"""


@pytest.fixture
def run_suite(pytester):
    """Run the suite, or the tests of one name, on one of the backends above."""

    def run(name, test=""):
        pytester.makepyfile(BACKEND.replace("{name}", name))
        result = pytester.inline_run("-q", "-p", "no:randomly", "-k", test)
        passed, _, failed = result.listoutcomes()
        return [r.nodeid for r in passed], [r.longreprtext for r in failed]

    return run


def test_the_right_backend_passes(run_suite):
    passed, failed = run_suite("Honest")
    assert not failed
    assert {op for op in FLOOR if any(f"[{op}-" in test for test in passed)} == set(FLOOR)


def test_a_backend_that_fuses_nothing_passes(run_suite):
    passed, failed = run_suite("FusesNothing", "fused")
    assert passed
    assert not failed


@pytest.mark.parametrize(
    ("name", "caught_by", "says"),
    [
        ("FusesInPlace", "test_fused_ops_take_frozen_inputs_and_leave_them", "fresh memory"),
        ("FusesLoosely", "test_fused_ops_give_the_same_bits", "and the kernels one by one give"),
        ("FusesToLists", "test_fused_ops_give_the_same_bits", "returned a list"),
        ("FusesToScalars", "test_fused_ops_give_the_same_bits", "a tensor is a numpy array"),
        ("FusesWhatItLacks", "test_fused_ops_that_it_lacks_give_none", "an op it does not have"),
        ("FusesWithOneBuffer", "test_results_of_fused_ops_last", "reuse no memory"),
        ("GivesLists", "test_agrees_with_the_reference", "return a tuple"),
        ("GivesScalars", "test_agrees_with_the_reference", "a tensor is a numpy array"),
        ("IgnoresAxes", "test_agrees_with_the_reference", "the standard says (2, 1, 4)"),
        ("KeepsInputs", "test_inputs_are_let_go and Gather", "are still kept after"),
        ("LacksOps", "test_agrees_with_the_reference", "kernel('Softmax', {}, 1) returned None"),
        ("NeedsWritableInputs", "test_frozen_inputs_are_enough", "read-only"),
        ("RefusesUnknownOps", "test_unknown_op_gives_none", "KeyError"),
        ("ReusesMemory", "test_results_last", "reuse no memory"),
        ("RoundsDown", "test_integers_divide_towards_zero", "and the standard says"),
        ("Wavers", "test_runs_are_deterministic", "gave two results for the same inputs"),
        (
            "Widens",
            "test_agrees_with_the_reference",
            "has dtype float64, the standard says float32",
        ),
        ("WritesToInputs", "test_inputs_are_never_modified", "write to fresh memory"),
    ],
)
def test_a_broken_backend_is_caught(run_suite, name, caught_by, says):
    _, failed = run_suite(name, caught_by)
    assert any(says in text for text in failed)
