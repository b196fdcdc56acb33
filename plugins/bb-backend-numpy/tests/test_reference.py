"""Properties: on generated inputs each op agrees with the reference implementation."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bb_testing.backend import run_reference

settings.register_profile("oracle", deadline=None, max_examples=20, database=None)
_oracle = settings(
    settings.get_profile("oracle"),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

FLOATS = ("float32", "float64")
NUMBERS = (*FLOATS, "int32", "int64")
ALL_NUMBERS = (*NUMBERS, "float16", "int8", "int16", "uint8", "uint32", "uint64")


def _elements(dtype, low, high):
    if np.dtype(dtype).kind == "u":
        return st.integers(max(0, int(low)), int(high))
    if np.dtype(dtype).kind == "i":
        return st.integers(int(low), int(high))
    if dtype == "bool":
        return st.booleans()
    return st.floats(low, high, width=16)


def tensors(dtype, shape, low=-8, high=8):
    return arrays.arrays(dtype, shape, elements=_elements(dtype, low, high))


def shapes(least=0, most=3):
    return arrays.array_shapes(min_dims=least, max_dims=most, min_side=1, max_side=3)


@st.composite
def broadcastable(draw, dtypes, count, low=-8, high=8):
    dtype = draw(st.sampled_from(dtypes))
    found = draw(arrays.mutually_broadcastable_shapes(num_shapes=count, max_dims=3, max_side=3))
    return [draw(tensors(dtype, shape, low, high)) for shape in found.input_shapes]


def agree(run, op_type, inputs, outputs=1, tolerance=None, **attributes):
    expected = run_reference(op_type, inputs, attributes, outputs)
    with np.errstate(all="ignore"):
        made = run(op_type, *inputs, outputs=outputs, **attributes)
    for y, wanted in zip(made if outputs > 1 else [made], expected, strict=True):
        assert type(y) is np.ndarray
        assert y.dtype == wanted.dtype
        assert y.shape == wanted.shape
        _close(y, wanted, tolerance)


def _close(y, wanted, tolerance):
    if y.dtype.kind != "f":
        np.testing.assert_array_equal(y, wanted)
        return
    relative = tolerance or {2: 4e-3, 4: 1e-5, 8: 1e-12}[y.dtype.itemsize]
    np.testing.assert_allclose(y, wanted, relative, relative)


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul"])
@_oracle
@given(broadcastable(ALL_NUMBERS, 2))
def test_arithmetic(run, op_type, inputs):
    agree(run, op_type, inputs)


@_oracle
@given(broadcastable((*FLOATS, "float16", "int8", "int32", "int64", "uint8"), 2, low=1), st.data())
def test_div(run, inputs, data):
    signs = data.draw(st.sampled_from([(1, 1), (-1, 1), (1, -1)]))
    if inputs[0].dtype.kind != "u":
        inputs = [(x * sign).astype(x.dtype) for x, sign in zip(inputs, signs, strict=True)]
    agree(run, "Div", inputs)


@pytest.mark.parametrize("fmod", [0, 1])
@_oracle
@given(broadcastable(("int8", "int32", "int64", "uint8"), 2, low=1), st.booleans())
def test_mod(run, fmod, inputs, negative):
    if negative and inputs[0].dtype.kind != "u":
        inputs[0] = -inputs[0]
    agree(run, "Mod", inputs, fmod=fmod)


@_oracle
@given(st.sampled_from(("float32", "float64", "int32", "int64")), st.data())
def test_pow(run, dtype, data):
    base = data.draw(tensors(dtype, (2, 3), 1, 4))
    exponent = data.draw(tensors(data.draw(st.sampled_from(NUMBERS)), (3,), 0, 3))
    agree(run, "Pow", [base, exponent])


@pytest.mark.parametrize("op_type", ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"])
@_oracle
@given(broadcastable(ALL_NUMBERS, 2, high=2, low=-1))
def test_comparisons(run, op_type, inputs):
    agree(run, op_type, inputs)


@pytest.mark.parametrize("op_type", ["And", "Or", "Xor"])
@_oracle
@given(broadcastable(("bool",), 2))
def test_logic(run, op_type, inputs):
    agree(run, op_type, inputs)


@pytest.mark.parametrize("op_type", ["Max", "Min", "Sum", "Mean"])
@_oracle
@given(st.integers(1, 4).flatmap(lambda n: broadcastable(FLOATS, n)))
def test_variadic(run, op_type, inputs):
    # The reference's Mean adds in place, so its first input must have the shape of the result.
    inputs[0] = np.broadcast_to(inputs[0], np.broadcast_shapes(*(x.shape for x in inputs)))
    agree(run, op_type, inputs)


UNARY = {
    "Abs": (-8, 8), "Acos": (-1, 1), "Acosh": (1, 8), "Asin": (-1, 1), "Asinh": (-8, 8),
    "Atan": (-8, 8), "Atanh": (-0.875, 0.875), "Ceil": (-8, 8), "Celu": (-8, 8), "Cos": (-8, 8),
    "Cosh": (-8, 8), "Elu": (-8, 8), "Erf": (-8, 8), "Exp": (-8, 8), "Floor": (-8, 8),
    "Gelu": (-8, 8), "HardSigmoid": (-8, 8), "HardSwish": (-8, 8), "LeakyRelu": (-8, 8),
    "Log": (0.125, 8), "Mish": (-8, 8), "Neg": (-8, 8), "Reciprocal": (0.125, 8), "Relu": (-8, 8),
    "Round": (-8, 8), "Selu": (-8, 8), "Shrink": (-8, 8), "Sigmoid": (-8, 8), "Sign": (-8, 8),
    "Sin": (-8, 8), "Sinh": (-8, 8), "Softplus": (-8, 8), "Softsign": (-8, 8), "Sqrt": (0, 8),
    "Tan": (-1, 1), "Tanh": (-8, 8), "ThresholdedRelu": (-8, 8), "Identity": (-8, 8),
}  # fmt: skip


@pytest.mark.parametrize("op_type", sorted(UNARY))
@_oracle
@given(st.data())
def test_one_input(run, op_type, data):
    low, high = UNARY[op_type]
    # The reference fails or widens at rank zero, and rounds its error function to float32.
    shape = data.draw(shapes(1))
    tolerance = 1e-6 if op_type in {"Erf", "Gelu"} else None
    x = data.draw(tensors(data.draw(st.sampled_from(FLOATS)), shape, low, high))
    agree(run, op_type, [x], tolerance=tolerance)


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax", "Hardmax"])
@_oracle
@given(st.data())
def test_along_an_axis(run, op_type, data):
    x = data.draw(tensors(data.draw(st.sampled_from(FLOATS)), data.draw(shapes(1))))
    agree(run, op_type, [x], axis=data.draw(st.integers(-x.ndim, x.ndim - 1)))


FOLDS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
         "ReduceSumSquare", "ReduceLogSumExp", "ReduceLogSum")  # fmt: skip


@pytest.mark.parametrize("op_type", FOLDS)
@_oracle
@given(st.data())
def test_folds(run, op_type, data):
    # For integers the reference widens the squares, and takes logarithms as it pleases.
    exact = op_type in {
        "ReduceSum",
        "ReduceMean",
        "ReduceMax",
        "ReduceMin",
        "ReduceProd",
        "ReduceL1",
    }
    dtype = data.draw(st.sampled_from(NUMBERS if exact else FLOATS))
    x = data.draw(tensors(dtype, data.draw(shapes(1)), 1, 4))
    axes = data.draw(arrays.valid_tuple_axes(x.ndim, min_size=1))
    agree(run, op_type, [x, np.array(axes, np.int64)], keepdims=data.draw(st.integers(0, 1)))


@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
@_oracle
@given(st.data())
def test_positions_of_extremes(run, op_type, data):
    x = data.draw(tensors(data.draw(st.sampled_from(NUMBERS)), data.draw(shapes(1)), -2, 2))
    flags = {name: data.draw(st.integers(0, 1)) for name in ("keepdims", "select_last_index")}
    agree(run, op_type, [x], axis=data.draw(st.integers(-x.ndim, x.ndim - 1)), **flags)


@_oracle
@given(st.data())
def test_cum_sum(run, data):
    x = data.draw(tensors(data.draw(st.sampled_from(NUMBERS)), data.draw(shapes(1))))
    flags = {name: data.draw(st.integers(0, 1)) for name in ("exclusive", "reverse")}
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    agree(run, "CumSum", [x, np.array(axis, np.int64)], **flags)


@_oracle
@given(st.data())
def test_slice(run, data):
    x = data.draw(tensors("float32", data.draw(shapes(1))))
    axes = data.draw(arrays.valid_tuple_axes(x.ndim, min_size=1))
    count = len(axes)
    # A start before the first element, going backwards, is told apart in test_semantics.
    starts = [data.draw(st.integers(-x.shape[axis], 5)) for axis in axes]
    ends = data.draw(st.lists(st.integers(-9, 9), min_size=count, max_size=count))
    steps = data.draw(st.lists(st.sampled_from([1, 2, -1, -2]), min_size=count, max_size=count))
    agree(run, "Slice", [x, *(np.array(v, np.int64) for v in (starts, ends, axes, steps))])


@_oracle
@given(st.data())
def test_gather(run, data):
    x = data.draw(tensors("float32", data.draw(shapes(1))))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    size = x.shape[axis]
    indices = data.draw(tensors("int64", data.draw(shapes(0, 2)), -size, size - 1))
    agree(run, "Gather", [x, indices], axis=axis)


@_oracle
@given(st.data())
def test_gather_and_scatter_elements(run, data):
    x = data.draw(tensors("float32", data.draw(shapes(1))))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    indices = data.draw(tensors("int64", x.shape, -x.shape[axis], x.shape[axis] - 1))
    agree(run, "GatherElements", [x, indices], axis=axis)
    updates = data.draw(tensors("float32", x.shape))
    agree(run, "ScatterElements", [x, indices % x.shape[axis], updates], axis=axis, reduction="add")


@_oracle
@given(st.data())
def test_top_k(run, data):
    x = data.draw(tensors(data.draw(st.sampled_from(NUMBERS)), data.draw(shapes(1)), -2, 2))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    k = np.array([data.draw(st.integers(1, x.shape[axis]))], np.int64)
    flags = {"largest": data.draw(st.integers(0, 1)), "axis": axis}
    values, positions = run("TopK", x, k, outputs=2, **flags)
    expected, _ = run_reference("TopK", [x, k], flags, 2)
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(np.take_along_axis(x, positions, axis), values)


@_oracle
@given(st.data())
def test_joins_and_cuts(run, data):
    x = data.draw(tensors("float32", data.draw(shapes(1))))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    agree(run, "Concat", [x, x, x], axis=axis)
    cut = data.draw(st.integers(0, x.shape[axis]))
    agree(run, "Split", [x, np.array([cut, x.shape[axis] - cut], np.int64)], outputs=2, axis=axis)


@_oracle
@given(st.data())
def test_shapes_of_views(run, data):
    x = data.draw(tensors("float32", data.draw(shapes(1))))
    agree(run, "Transpose", [x], perm=data.draw(st.permutations(range(x.ndim))))
    agree(run, "Flatten", [x], axis=data.draw(st.integers(-x.ndim, x.ndim)))
    agree(run, "Reshape", [x, np.array([-1, x.shape[-1]], np.int64)])
    start, end = (data.draw(st.integers(-x.ndim, 4)) for _ in range(2))
    agree(run, "Shape", [x], start=start, end=end)
    agree(run, "Size", [x])
    axes = data.draw(arrays.valid_tuple_axes(x.ndim + 1, min_size=1, max_size=1))
    agree(run, "Unsqueeze", [x, np.array(axes, np.int64)])


@_oracle
@given(st.data())
def test_expand_and_tile(run, data):
    x, like = data.draw(broadcastable(FLOATS, 2))
    agree(run, "Expand", [x, np.array(like.shape, np.int64)])
    repeats = data.draw(tensors("int64", (x.ndim,), 0, 3))
    agree(run, "Tile", [x, repeats])


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
@_oracle
@given(st.data())
def test_pad(run, mode, data):
    x = data.draw(tensors("float32", data.draw(arrays.array_shapes(min_side=3, max_dims=3))))
    pads = data.draw(tensors("int64", (2 * x.ndim,), 0, 2))
    agree(run, "Pad", [x, pads], mode=mode)


@_oracle
@given(broadcastable(FLOATS, 2), st.data())
def test_where(run, inputs, data):
    chosen = data.draw(tensors("bool", np.broadcast_shapes(*(x.shape for x in inputs))))
    agree(run, "Where", [chosen, *inputs])


@_oracle
@given(
    x=tensors("float32", (2, 3)),
    low=st.none() | st.floats(-4, 4, width=16),
    high=st.none() | st.floats(-4, 4, width=16),
)
def test_clip(run, x, low, high):
    bounds = [None if b is None else np.array(b, np.float32) for b in (low, high)]
    agree(run, "Clip", [x, *bounds] if high is not None else [x, *bounds[:1]])


@_oracle
@given(st.data())
def test_gemm(run, data):
    dtype = data.draw(st.sampled_from(FLOATS))
    flags = {name: data.draw(st.integers(0, 1)) for name in ("transA", "transB")}
    factors = {name: data.draw(st.sampled_from([1.0, 0.5, 0.0])) for name in ("alpha", "beta")}
    a = data.draw(tensors(dtype, (3, 2) if flags["transA"] else (2, 3)))
    b = data.draw(tensors(dtype, (4, 3) if flags["transB"] else (3, 4)))
    c = data.draw(tensors(dtype, data.draw(st.sampled_from([(), (4,), (2, 1), (2, 4)]))))
    agree(run, "Gemm", [a, b, c], **flags, **factors)


@_oracle
@given(st.data())
def test_normalizations(run, data):
    x = data.draw(tensors("float32", (2, 4, 3)))
    scale, bias = (data.draw(tensors("float32", (4,))) for _ in range(2))
    mean = data.draw(tensors("float32", (4,)))
    var = data.draw(tensors("float32", (4,), 1, 4))
    agree(run, "BatchNormalization", [x, scale, bias, mean, var])
    axis = data.draw(st.sampled_from([-1, -2, 1]))
    weights = data.draw(tensors("float32", x.shape[axis:]))
    kernel_inputs = [x + np.arange(24, dtype=np.float32).reshape(x.shape), weights, weights]
    agree(run, "LayerNormalization", kernel_inputs, axis=axis)


@_oracle
@given(st.integers(-5, 5), st.integers(-5, 5), st.sampled_from([1, 2, -1, -3]))
def test_range(run, start, limit, delta):
    for dtype in NUMBERS:
        agree(run, "Range", [np.array(v, dtype) for v in (start, limit, delta)])


@_oracle
@given(st.data())
def test_one_hot(run, data):
    indices = data.draw(tensors("int64", data.draw(shapes(0, 2)), -4, 3))
    axis = data.draw(st.integers(-indices.ndim - 1, indices.ndim))
    values = np.array([2, 5], data.draw(st.sampled_from(NUMBERS)))
    agree(run, "OneHot", [indices, np.array(4, np.int64), values], axis=axis)
