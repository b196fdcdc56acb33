"""What the standard says and neither its reference nor its cases check."""

import math
import warnings

import numpy as np
import pytest

from bb_backend_numpy._erf import erf
from bb_backend_numpy.errors import KernelError
from bb_backend_numpy.ops import SUPPORTED

F32 = np.float32


def ints(*values):
    return np.array(values, np.int64)


def floats(*values, dtype=F32):
    return np.array(values, dtype)


def same(y, expected):
    assert type(y) is np.ndarray
    expected = np.asarray(expected)
    assert y.dtype == expected.dtype
    assert y.shape == expected.shape
    np.testing.assert_array_equal(y, expected)


# -- arithmetic --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
def test_integers_divide_towards_zero_over_their_whole_range(run, dtype):
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    numbers = [least, least + 1, -7, -1, 0, 1, 7, most - 1, most]
    pairs = [(a, b) for a in numbers for b in numbers if b != 0 and (a, b) != (least, -1)]
    a, b = (np.array(column, dtype) for column in zip(*pairs, strict=True))
    expected = [abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1) for x, y in pairs]
    same(run("Div", a, b), np.array(expected, dtype))


def test_mod_takes_the_sign_of_the_divisor_and_fmod_of_the_dividend(run):
    a, b = ints(-7, 7), ints(3, -3)
    same(run("Mod", a, b), ints(2, -2))
    same(run("Mod", a, b, fmod=1), ints(-1, 1))
    same(run("Mod", floats(-7.5), floats(2), fmod=1), floats(-1.5))


def test_pow_keeps_the_dtype_of_the_base(run):
    same(run("Pow", floats(2, 3), ints(3, 2)), floats(8, 9))
    same(run("Pow", ints(2, 4), floats(3, 0.5)), ints(8, 2))
    same(run("Pow", np.array(2, F32), np.array(3, np.float64)), np.array(8, F32))


def test_integer_means_are_cut_towards_zero(run):
    same(run("ReduceMean", ints(-2, -1, -2), keepdims=0), np.array(-1))
    same(run("ReduceMean", np.array([1, 2], np.int32), keepdims=0), np.array(1, np.int32))


def test_integer_sums_keep_their_dtype_and_wrap(run):
    x = np.array([2**31 - 1, 1], np.int32)
    same(run("ReduceSum", x, keepdims=0), np.array(-(2**31), np.int32))


def test_clip_with_crossed_bounds_gives_the_upper_one(run):
    same(run("Clip", floats(0, 5, 9), np.array(6, F32), np.array(4, F32)), floats(4, 4, 4))
    same(run("Clip", floats(0, 5), None, np.array(4, F32)), floats(0, 4))
    same(run("Clip", floats(0, 5)), floats(0, 5))


def test_round_goes_to_even(run):
    same(run("Round", floats(0.5, 1.5, -2.5)), floats(0, 2, -2))


# -- folds -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op_type", "value"),
    [("ReduceSum", 0), ("ReduceProd", 1), ("ReduceMax", -np.inf), ("ReduceMin", np.inf),
     ("ReduceL1", 0), ("ReduceL2", 0), ("ReduceSumSquare", 0)],
)  # fmt: skip
def test_folding_nothing_gives_the_neutral_element(run, op_type, value):
    same(run(op_type, np.empty((2, 0), F32), ints(1)), np.full((2, 1), value, F32))


def test_extremes_of_no_integers_are_those_of_the_type(run):
    nothing = np.empty(0, np.int32)
    same(run("ReduceMax", nothing), np.array([-(2**31)], np.int32))
    same(run("ReduceMin", nothing), np.array([2**31 - 1], np.int32))
    same(run("ReduceMin", np.empty(0, bool)), np.array([True]))


@pytest.mark.parametrize(
    ("op_type", "expected"),
    [("ReduceSum", [-2, 3]), ("ReduceMean", [-2, 3]), ("ReduceMax", [-2, 3]),
     ("ReduceL1", [2, 3]), ("ReduceL2", [2, 3]), ("ReduceSumSquare", [4, 9])],
)  # fmt: skip
def test_noop_leaves_out_the_fold_and_nothing_else(run, op_type, expected):
    for axes in (None, ints()):
        same(run(op_type, floats(-2, 3), axes, noop_with_empty_axes=1), floats(*expected))


def test_log_sum_exp_survives_large_and_infinite_inputs(run):
    inf = np.inf
    x = floats([1e4, 1e4], [-1e4, -1e4], [inf, 0], [-inf, -inf])
    with np.errstate(divide="ignore"):
        y = run("ReduceLogSumExp", x, ints(1), keepdims=0)
    np.testing.assert_allclose(y, [1e4 + math.log(2), -1e4 + math.log(2), inf, -inf], 1e-6)


def test_half_precision_sums_do_not_lose_their_small_terms(run):
    x = np.ones(5000, np.float16)
    same(run("ReduceSum", x, keepdims=0), np.array(5000, np.float16))
    same(run("ReduceMean", x, keepdims=0), np.array(1, np.float16))


# -- activations -------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [np.linspace(-7, 7, 20001), np.logspace(-300, 0, 3001), np.zeros(1)])
def test_erf_is_right_to_the_last_places(x):
    expected = np.array([math.erf(value) for value in x])
    np.testing.assert_allclose(erf(x), expected, rtol=3e-16, atol=0)
    np.testing.assert_array_equal(erf(-x), -erf(x))


def test_erf_at_the_ends(run):
    same(run("Erf", floats(np.inf, -np.inf, 0)), floats(1, -1, 0))
    assert np.isnan(run("Erf", floats(np.nan)))
    assert math.copysign(1, run("Erf", floats(-0.0))[0]) == -1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    "op_type",
    ["Sigmoid", "Softplus", "Elu", "Selu", "Celu", "Gelu", "Tanh", "Mish", "HardSwish", "Softmax"],
)
def test_large_inputs_neither_warn_nor_leave_the_finite(run, op_type, dtype):
    x = np.array([-1e4, -800, -90, -1, 0, 1, 90, 800, 1e4], dtype)
    y = run(op_type, x)
    assert y.dtype == dtype
    assert np.isfinite(y).all()


def test_sigmoid_keeps_the_relative_precision_of_small_results(run):
    x = np.array([-80.0, -30.0, -5.0])
    np.testing.assert_allclose(run("Sigmoid", x), np.exp(x) / (1 + np.exp(x)), 1e-14)


def test_softmax_of_masked_entries(run):
    y = run("Softmax", floats([0, -np.inf, 0]))
    same(y, floats([0.5, 0, 0.5]))
    same(run("Softmax", np.empty((2, 0), F32)), np.empty((2, 0), F32))


@pytest.mark.parametrize("alpha", [-0.5, 0.0, 0.25, 1.0, 2.0])
def test_leaky_relu_for_any_slope(run, alpha):
    same(run("LeakyRelu", floats(-2, 0, 3), alpha=alpha), floats(-2 * alpha, 0, 3))


def test_relu_takes_integers_and_passes_nan_on(run):
    same(run("Relu", np.array([-3, 4], np.int8)), np.array([0, 4], np.int8))
    assert np.isnan(run("Relu", floats(np.nan)))


def test_dropout_lets_everything_through_and_refuses_to_train(run):
    x = floats(1, 2)
    assert run("Dropout", x, seed=3) is x
    y, mask = run("Dropout", x, np.array(0.5, F32), np.array(False), outputs=2)
    same(y, x)
    same(mask, np.array([True, True]))
    with pytest.raises(KernelError, match="training_mode is true"):
        run("Dropout", x, np.array(0.5, F32), np.array(True))


# -- shapes and positions ----------------------------------------------------------------------


def test_reshape_reads_zero_in_two_ways(run):
    same(run("Reshape", np.ones((2, 3), F32), ints(0, -1)), np.ones((2, 3), F32))
    same(run("Reshape", np.ones((0, 3), F32), ints(0, 7), allowzero=1), np.ones((0, 7), F32))


def test_slice_clamps_as_the_standard_says(run):
    x = np.arange(5)
    same(run("Slice", x, ints(-99), ints(-99), None, ints(-1)), ints(0))
    same(run("Slice", x, ints(99), ints(-99), None, ints(-2)), ints(4, 2, 0))
    same(run("Slice", x, ints(-99), ints(99)), x)
    same(run("Slice", x, ints(3), ints(1)), ints())


def test_negative_pads_cut(run):
    x = np.arange(6.0).reshape(2, 3)
    same(run("Pad", x, ints(0, -1, 1, 0)), [[1.0, 2.0], [4.0, 5.0], [0.0, 0.0]])
    same(run("Pad", x, ints(-1, 1), None, ints(-1), mode="edge"), [[1.0, 2, 2], [4.0, 5, 5]])


def test_pad_with_a_value_on_some_axes(run):
    x = np.array([[1, 2]])
    same(run("Pad", x, ints(1, 0), np.array(9), ints(-1)), np.array([[9, 1, 2]]))
    with pytest.raises(KernelError, match="3 widths for 2 axes"):
        run("Pad", x, ints(1, 0, 1))


def test_split_lengths_must_fit(run):
    with pytest.raises(KernelError, match=r"lengths \[1, 1\] for 2 outputs of 3"):
        run("Split", floats(1, 2, 3), ints(1, 1), outputs=2)


@pytest.mark.parametrize("axes", [(0, 0), (3,), (-4,)])
def test_unsqueeze_axes_must_fit(run, axes):
    with pytest.raises(KernelError, match="Unsqueeze was given the axes"):
        run("Unsqueeze", np.ones((2, 2)), ints(*axes))


def test_positions_outside_are_errors(run):
    with pytest.raises(IndexError):
        run("Gather", floats(1, 2), ints(2))
    with pytest.raises(IndexError):
        run("GatherElements", floats(1, 2), ints(-3))


def test_gather_elements_may_be_smaller_than_the_data(run):
    x = np.arange(9.0).reshape(3, 3)
    same(run("GatherElements", x, ints([2, 0])), [[6.0, 1.0]])


def test_gather_nd_with_batches(run):
    x = np.arange(8.0).reshape(2, 2, 2)
    same(run("GatherND", x, ints([[1]], [[0]]), batch_dims=1), [[[2.0, 3.0]], [[4.0, 5.0]]])
    same(run("GatherND", x, ints(1, -1, 0)), np.array(6.0))


@pytest.mark.parametrize(
    ("reduction", "expected"), [("add", 9), ("mul", 24), ("max", 4), ("min", 2), ("none", 3)]
)
def test_scatter_folds_repeated_positions(run, reduction, expected):
    x = floats(1, 4)
    y = run("ScatterND", x, ints([1], [1]), floats(2, 3), reduction=reduction)
    same(y, floats(1, expected))
    same(x, floats(1, 4))


def test_top_k_prefers_the_lower_position(run):
    values, positions = run("TopK", ints(1, 3, 3, 3, 0), ints(2), outputs=2)
    same(values, ints(3, 3))
    same(positions, ints(1, 2))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_top_k_knows_the_extremes_of_integers(run, dtype):
    info = np.iinfo(dtype)
    x = np.array([0, info.min, info.max], dtype)
    same(run("TopK", x, ints(1), outputs=2)[0], np.array([info.max], dtype))
    same(run("TopK", x, ints(1), outputs=2, largest=0)[0], np.array([info.min], dtype))


def test_one_hot_marks_nothing_for_positions_outside(run):
    y = run("OneHot", ints(-1, 5, -9), np.array(2), floats(0, 1))
    same(y, floats([0, 1], [0, 0], [0, 0]))


def test_range_counts_exactly(run):
    same(run("Range", np.array(10), np.array(3), np.array(-3)), ints(10, 7, 4))
    same(run("Range", *(np.array(v, F32) for v in (0, 1, 0.25))), floats(0, 0.25, 0.5, 0.75))
    large = 2**62
    same(run("Range", *(np.array(v) for v in (large, large + 3, 2))), ints(large, large + 2))
    same(run("Range", np.array(3), np.array(1), np.array(1)), ints())


def test_eye_like_takes_its_dtype_from_attribute_or_input(run):
    same(run("EyeLike", ints([0, 0], [0, 0])), np.eye(2, dtype=np.int64))
    same(run("EyeLike", ints([0, 0]), dtype=1, k=1), floats([0, 1]))


# -- products ----------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1.0, 0.5])
@pytest.mark.parametrize("beta", [1.0, 0.5, 0.0])
def test_gemm_of_integers_keeps_them(run, alpha, beta):
    a, b, c = ints([2, 4]), ints([1], [1]), ints([8])
    expected = ints([int(6 * alpha) + int(8 * beta)])
    same(run("Gemm", a, b, c, alpha=alpha, beta=beta), expected)
    same(c, ints([8]))


def test_layer_normalization_gives_its_mean_and_deviation(run):
    x = floats([1, 3], [2, 6])
    y, mean, deviation = run("LayerNormalization", x, floats(1, 1), outputs=3, epsilon=0.0)
    np.testing.assert_allclose(y, [[-1, 1], [-1, 1]], 1e-6)
    same(mean, floats([2], [4]))
    np.testing.assert_allclose(deviation, [[1], [0.5]], 1e-6)


# -- 16-bit floats and smaller -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op_type", "count"),
    [("Add", 2), ("Mul", 2), ("Div", 2), ("Pow", 2), ("Max", 2), ("Mean", 2), ("MatMul", 2),
     ("Exp", 1), ("Sqrt", 1), ("Erf", 1), ("Relu", 1), ("Sigmoid", 1), ("Tanh", 1), ("Gelu", 1),
     ("Softmax", 1), ("LogSoftmax", 1), ("Elu", 1), ("LeakyRelu", 1), ("HardSwish", 1),
     ("ReduceSum", 1), ("ReduceMean", 1), ("ReduceMax", 1), ("ReduceL2", 1),
     ("ReduceLogSumExp", 1), ("Softplus", 1), ("Shrink", 1), ("Neg", 1), ("Sum", 3)],
)  # fmt: skip
def test_bfloat16_stays_and_is_rounded_once(run, op_type, count):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    exact = [np.array([[1.5, 2.25], [0.5, 3.0]], F32) + n for n in range(count)]
    narrow = [x.astype(ml_dtypes.bfloat16) for x in exact]
    y, expected = run(op_type, *narrow), run(op_type, *exact)
    assert type(y) is np.ndarray
    assert y.dtype == ml_dtypes.bfloat16
    np.testing.assert_allclose(y.astype(F32), expected, rtol=2**-7)


def test_einsum_takes_bfloat16(run):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.ones((2, 3), ml_dtypes.bfloat16)
    y = run("Einsum", x, x, equation="ij,ij->i")
    assert y.dtype == ml_dtypes.bfloat16
    assert y.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("number", "largest", "beyond"),
    [(17, 448.0, np.nan), (18, 240.0, np.nan), (19, 57344.0, np.inf), (20, 57344.0, np.nan)],
)
def test_casts_to_8_bit_floats_saturate_unless_told_not_to(run, number, largest, beyond):
    pytest.importorskip("ml_dtypes")
    x = floats(1e6, -1e6, np.inf, 1.0, np.nan)
    y = run("Cast", x, to=number).astype(F32)
    np.testing.assert_array_equal(y, [largest, -largest, largest, 1, np.nan])
    with np.errstate(all="ignore"):
        y = run("Cast", x, to=number, saturate=0).astype(F32)
    np.testing.assert_array_equal(y, [beyond, -beyond, beyond, 1, np.nan])


def test_casts_between_numbers(run):
    same(run("Cast", floats(-1.9, 1.9), to=7), ints(-1, 1))
    same(run("Cast", floats(0, -0.0, np.nan, 0.1), to=9), [False, False, True, True])
    same(run("Cast", ints(200, -1), to=3), np.array([-56, -1], np.int8))
    x = floats(1)
    assert run("Cast", x, to=1) is x


# -- all ops -------------------------------------------------------------------------------------

RANK_ZERO = [
    "Abs", "Acos", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Cos", "Cosh", "Elu", "Erf",
    "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu",
    "Log", "Mean", "Mish", "Neg", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "ReduceSumSquare", "Relu", "Round", "Selu", "Shape", "Shrink", "Sigmoid", "Sign", "Sin",
    "Sinh", "Size", "Softplus", "Softsign", "Sqrt", "Squeeze", "Tan", "Tanh", "ThresholdedRelu",
    "Transpose", "Clip", "Sum", "Max", "Min", "Dropout",
]  # fmt: skip


@pytest.mark.parametrize("op_type", RANK_ZERO)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rank_zero_stays_an_array_of_its_dtype(run, op_type, dtype):
    x = np.array(0.5, dtype)
    y = run(op_type, x)
    assert type(y) is np.ndarray
    if y.dtype.kind == "f":
        assert y.dtype == dtype
        assert y.shape == ()
    if op_type != "Shape":
        np.testing.assert_array_equal(y.reshape(1), run(op_type, x.reshape(1)).reshape(1))


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div", "Pow", "Less", "Max", "Mean"])
def test_two_of_rank_zero_stay_arrays(run, op_type):
    y = run(op_type, np.array(3, F32), np.array(2, F32))
    assert type(y) is np.ndarray
    assert y.shape == ()
    assert y.dtype == (bool if op_type == "Less" else F32)


def test_constants_cannot_be_written_to_and_do_not_follow_their_source(run):
    source = floats(1, 2)
    y = run("Constant", value=source)
    source[0] = 9
    same(y, floats(1, 2))
    with pytest.raises(ValueError, match="read-only"):
        y[0] = 5


def test_views_share_memory_with_their_input(run):
    x = np.ones((2, 3), F32)
    assert run("Identity", x) is x
    for y in (
        run("Reshape", x, ints(6)),
        run("Transpose", x),
        run("Unsqueeze", x, ints(0)),
        run("Slice", x, ints(0), ints(1)),
        run("Expand", x, ints(4, 2, 3)),
    ):
        assert np.shares_memory(x, y)


def test_warnings_tell_of_infinite_results_only(run):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with np.errstate(divide="warn", invalid="warn", over="warn"):
            run("Softmax", floats(1e4, -1e4))
            with pytest.raises(RuntimeWarning):
                run("Exp", floats(1e4))


def test_kernels_of_one_numpy_function_carry_it(backend):
    assert backend.kernel("Add", {}, 1).__wrapped__ is np.add
    assert backend.kernel("Exp", {}, 1).__wrapped__ is np.exp


def test_supported_ops_are_sorted_and_have_no_double():
    assert list(SUPPORTED) == sorted(set(SUPPORTED))
