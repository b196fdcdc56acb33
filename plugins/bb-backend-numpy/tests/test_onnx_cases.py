"""The published test cases of the ONNX standard, as the `onnx` package carries them.

All cases whose ops this backend has are run, also those of whole graphs: the standard defines many
ops by a graph of others, and publishes that graph with data. `_why_not` is the full list of what
is left out.
"""

import warnings
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from bb_backend_numpy.ops import SUPPORTED

pytestmark = pytest.mark.slow

_OPSET = 23
#: How many op types this backend has at least, so that none is lost unseen.
_FEWEST_OPS = 142
_MODERN_TYPES = {
    getattr(TensorProto, name)
    for name in ("FLOAT8E8M0", "INT2", "UINT2")
    if hasattr(TensorProto, name)
}


@pytest.fixture(scope="module")
def published():
    """Return the cases that a backend with these ops could be asked to run."""
    if int(np.__version__.partition(".")[0]) < 2:
        pytest.skip("onnx writes its cases with names that numpy has since version 2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        cases = collect_testcases(None)
    return [case for case in cases if _ops(case) <= set(SUPPORTED)]


@pytest.fixture(scope="module")
def runnable(published):
    return [case for case in published if _why_not(case) is None]


@pytest.mark.parametrize("op_type", SUPPORTED)
def test_op_answers_every_published_case(backend, published, runnable, op_type):
    assert any(_ops(case) == {op_type} for case in published), "the standard has no case for it"
    chosen = [case for case in runnable if _ops(case) == {op_type}]
    assert chosen, "every case for it is left out"
    failures = [text for case in chosen if (text := _failure(backend, case))]
    assert not failures, "\n".join(failures)


def test_many_op_types_are_covered(backend, published, runnable, capsys):
    """Run the cases of single ops, count those that agree, and show the count."""
    chosen = [case for case in runnable if len(_ops(case)) == 1]
    failing = {op for case in chosen if _failure(backend, case) for op in _ops(case)}
    covered = {op for case in chosen for op in _ops(case)} - failing
    with capsys.disabled():
        print(  # noqa: T201  # this count is what the test is for
            f"\nONNX opset {_OPSET}: {len(covered)} op types agree with the standard, of "
            f"{len(_testable())} that have published cases; {len(chosen)} cases of single ops and "
            f"{len(runnable) - len(chosen)} of graphs run, "
            f"{len(published) - len(runnable)} left out"
        )
    assert covered == set(SUPPORTED)
    assert len(covered) >= _FEWEST_OPS


def _testable():
    """Return the ops of the standard at this opset that have a published case of their own."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    return {op for case in cases if len(_ops(case)) == 1 for op in _ops(case) if _in_opset(op)}


def _in_opset(op_type):
    try:
        return not onnx.defs.get_schema(op_type, _OPSET, "").deprecated
    except onnx.defs.SchemaError:
        return False


def test_published_graphs_of_several_ops_agree(backend, runnable):
    chosen = [case for case in runnable if len(_ops(case)) > 1]
    assert len(chosen) > 200
    failures = [text for case in chosen if (text := _failure(backend, case))]
    assert not failures, "\n".join(failures)


def test_few_cases_are_left_out(published):
    reasons = Counter(_why_not(case) for case in published)
    run = reasons.pop(None)
    assert sum(reasons.values()) < 0.08 * run, reasons


def _ops(case):
    return {node.op_type for node in case.model.graph.node}


def _why_not(case):
    """Return why a case is left out, or None if it is run."""
    graph = case.model.graph
    values = [*graph.input, *graph.output]
    if any(value.type.WhichOneof("value") != "tensor_type" for value in values):
        return "sequences and optionals are no tensors"
    types = {value.type.tensor_type.elem_type for value in values}
    if TensorProto.STRING in types:
        return "texts are no tensors here"
    if types & _MODERN_TYPES:
        return f"an element type of an opset after {_OPSET}"
    if any(_has_other_attributes(node) for node in graph.node):
        return f"written for an opset whose attributes are not those of opset {_OPSET}"
    if "training" in case.name:
        return "this backend infers; it does not train"
    return None


def _has_other_attributes(node):
    schema = onnx.defs.get_schema(node.op_type, _OPSET, node.domain)
    return any(attribute.name not in schema.attributes for attribute in node.attribute)


def _failure(backend, case):
    """Run one case; return what went wrong, or nothing."""
    for given, wanted in case.data_sets:
        try:
            made = _run(backend, case.model, [_array(value) for value in given])
            for y, expected in zip(made, wanted, strict=True):
                _check_same(y, _array(expected), case)
        except (AssertionError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            return f"{case.name}: {error}"
    return None


def _run(backend, model, inputs):
    values = {value.name: x for value, x in zip(model.graph.input, inputs, strict=True)}
    values |= {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        attributes = {attribute.name: _plain(attribute) for attribute in node.attribute}
        kernel = backend.kernel(node.op_type, attributes, len(node.output))
        with np.errstate(all="ignore"):
            result = kernel(*(values[name] if name else None for name in node.input))
        results = (result,) if len(node.output) == 1 else result
        values.update(zip(node.output, results, strict=True))
    return [values[value.name] for value in model.graph.output]


def _plain(attribute):
    value = helper.get_attribute_value(attribute)
    if attribute.type == AttributeProto.TENSOR:
        return numpy_helper.to_array(value)
    if attribute.type == AttributeProto.STRING:
        return value.decode()
    return value


def _array(value):
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def _check_same(y, expected, case):
    assert type(y) is np.ndarray
    assert y.dtype == expected.dtype
    assert y.shape == expected.shape
    if y.dtype.kind not in "fV":
        np.testing.assert_array_equal(y, expected)
        return
    # The published tolerance suits float32; the last place of a 16-bit float is larger than it.
    last_place = {"float16": 2**-10, "bfloat16": 2**-7}.get(y.dtype.name, 0.0)
    relative, absolute = max(case.rtol, 2 * last_place), max(case.atol, last_place)
    np.testing.assert_allclose(
        y.astype(np.float64), expected.astype(np.float64), relative, absolute
    )
