"""It agrees with the backend on numpy, within rounding, on generated inputs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bb_backend_onnxruntime._backend import OnnxRuntimeBackend
from bb_roles.registry import bound_class
from bb_testing import environment

ours = OnnxRuntimeBackend(OnnxRuntimeBackend.Config(), environment(slot="backend"))
numpy_class = bound_class("backend", "numpy")
theirs = numpy_class(numpy_class.Config(), environment(slot="backend"))

_agreeing = settings(deadline=None, max_examples=25)
_values = st.floats(-4, 4, width=16)
_dtypes = st.sampled_from(["float32", "float64"])


def agree(op_type, *inputs, outputs=1, **attributes):
    made = ours.kernel(op_type, attributes, outputs)(*inputs)
    with np.errstate(all="ignore"):
        wanted = theirs.kernel(op_type, attributes, outputs)(*inputs)
    for y, other in zip(*([r] if outputs == 1 else r for r in (made, wanted)), strict=True):
        assert (type(y), y.dtype, y.shape) == (np.ndarray, other.dtype, other.shape)
        assert not y.flags.writeable
        assert np.allclose(y, other, 2e-5, 2e-5, equal_nan=True), (y, other)


@st.composite
def some(draw, least=0, elements=_values):
    shape = draw(arrays.array_shapes(min_dims=least, max_dims=3, min_side=1, max_side=4))
    return draw(arrays.arrays(draw(_dtypes), shape, elements=elements))


_UNARY = (
    "Abs", "Atan", "Ceil", "Celu", "Cos", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish",
    "Identity", "IsNaN", "LeakyRelu", "Log", "Neg", "Reciprocal", "Relu", "Round", "Selu",
    "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Tanh", "Mish", "Gelu",
)  # fmt: skip


@pytest.mark.parametrize("op_type", _UNARY)
@_agreeing
@given(some())
def test_one_input(op_type, x):
    x = x.astype(np.float32)
    agree(op_type, x)
    if op_type in {"Abs", "Neg", "Relu", "Exp", "Sqrt", "Sigmoid", "Floor"}:
        agree(op_type, x.astype(np.float64))


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div", "Max", "Min", "Less", "Greater"])
@_agreeing
@given(arrays.mutually_broadcastable_shapes(num_shapes=2, max_dims=3), _dtypes, st.data())
def test_two_inputs_broadcast(op_type, shapes, dtype, data):
    a, b = (
        data.draw(arrays.arrays(dtype, shape, elements=_values)) for shape in shapes.input_shapes
    )
    agree(op_type, a, b)


@pytest.mark.parametrize("op_type", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2"])
@_agreeing
@given(some(1), st.data())
def test_folds(op_type, x, data):
    axes = np.array(data.draw(arrays.valid_tuple_axes(x.ndim, min_size=1)), np.int64)
    agree(op_type, x, axes, keepdims=data.draw(st.integers(0, 1)))


@_agreeing
@given(some(1), st.data())
def test_shapes(x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    agree("Softmax", x, axis=axis)
    agree("Concat", x, x, axis=axis)
    agree("Transpose", x)
    agree("Unsqueeze", x, np.array([0], np.int64))
    agree("Split", x, np.array([1, x.shape[axis] - 1], np.int64), outputs=2, axis=axis)


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, -0.0])
@pytest.mark.parametrize("op_type", ["Abs", "Exp", "Neg", "Sigmoid", "Sqrt", "Tanh", "IsInf"])
def test_special_values(op_type, special):
    agree(op_type, np.array([special, 1], np.float32))


def test_ops_of_the_numpy_backend_are_there():
    from bb_backend_numpy.ops import SUPPORTED

    needed = {
        "BitShift": {"direction": "LEFT"}, "Cast": {"to": 1}, "Concat": {"axis": 0},
        "Constant": {"value_int": 1}, "DepthToSpace": {"blocksize": 2},
        "Einsum": {"equation": "i->i"}, "GroupNormalization": {"num_groups": 2}, "LRN": {"size": 3},
        "SpaceToDepth": {"blocksize": 2},
    }  # fmt: skip
    outputs = {"DynamicQuantizeLinear": 3, "TopK": 2}
    lacking = [
        op_type
        for op_type in SUPPORTED
        if ours.kernel(op_type, needed.get(op_type, {}), outputs.get(op_type, 1)) is None
    ]
    assert lacking == []
