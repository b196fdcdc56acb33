"""What the published cases of the newer families leave open."""

import numpy as np
import pytest

from bb_backend_numpy.errors import KernelError

F32 = np.float32


def test_ignored_classes_count_nothing_even_when_they_are_no_classes(run):
    scores = np.array([[0.0, 1], [np.inf, 0], [2, 0]], F32)
    labels = np.array([0, -100, 1])
    logs = np.log(np.array([[0.25, 0.75], [0.5, 0.5], [0.5, 0.5]], F32))
    mean = run("NegativeLogLikelihoodLoss", logs, labels, ignore_index=-100)
    np.testing.assert_allclose(mean, np.mean([-np.log(0.25), -np.log(0.5)]), 1e-6)
    with np.errstate(all="ignore"):
        each = run("SoftmaxCrossEntropyLoss", scores, labels, ignore_index=-100, reduction="none")
    assert each[1] == 0
    assert np.isfinite(each).all()


def test_mean_of_losses_divides_by_the_weights_that_count(run):
    logs = np.log(np.array([[0.25, 0.75], [0.5, 0.5]], F32))
    weight = np.array([3, 1], F32)
    y = run("NegativeLogLikelihoodLoss", logs, np.array([0, 1]), weight)
    np.testing.assert_allclose(y, (3 * -np.log(0.25) - np.log(0.5)) / 4, 1e-6)


def test_cross_entropy_of_large_scores_is_finite(run):
    scores = np.array([[1e4, -1e4]], F32)
    y = run("SoftmaxCrossEntropyLoss", scores, np.array([1]))
    assert y == 2e4
    assert y.dtype == F32


def test_quantizing_zeros_or_nothing_gives_zeros(run):
    for x in (np.zeros((2, 3), F32), np.zeros((0,), F32)):
        y, scale, zero = run("DynamicQuantizeLinear", x, outputs=3)
        assert (y.shape, y.dtype, y.any()) == (x.shape, np.uint8, np.False_)
        assert (scale.shape, scale, zero.shape, zero) == ((), 0, (), 0)


@pytest.mark.parametrize("seed", range(5))
def test_quantized_numbers_are_within_half_a_step(run, seed):
    x = np.random.default_rng(seed).normal(2, 3, 100).astype(F32)
    y, scale, zero = run("DynamicQuantizeLinear", x, outputs=3)
    back = (y.astype(F32) - zero.astype(F32)) * scale
    assert np.abs(back - x).max() <= scale * 1.001


def test_integer_products_take_a_zero_for_each_row_and_column(run):
    a, b = np.array([[1, 2], [3, 4]], np.uint8), np.array([[5, 6], [7, 8]], np.uint8)
    a_zero, b_zero = np.array([1, 3], np.uint8), np.array([5, 6], np.uint8)
    y = run("MatMulInteger", a, b, a_zero, b_zero)
    wanted = np.array([[0, 1], [0, 1]]) @ np.array([[0, 0], [2, 2]])
    np.testing.assert_array_equal(y, wanted.astype(np.int32))
    assert y.dtype == np.int32


def test_unique_in_order_of_appearance(run):
    x = np.array([3, 1, 3, 2, 1])
    values, firsts, inverse, counts = run("Unique", x, outputs=4, sorted=0)
    assert values.tolist() == [3, 1, 2]
    assert firsts.tolist() == [0, 1, 3]
    assert values[inverse].tolist() == x.tolist()
    assert counts.tolist() == [2, 2, 1]
    assert run("Unique", x).tolist() == [1, 2, 3]
    assert run("Unique", np.zeros(0)).shape == (0,)


def test_a_spectrum_goes_back_to_its_signal(run):
    for size in (7, 8):
        x = np.random.default_rng(size).normal(size=(2, size, 1))
        length = np.array(size)
        half = run("DFT", x, length, onesided=1)
        assert half.shape == (2, size // 2 + 1, 2)
        np.testing.assert_allclose(run("DFT", half, length, onesided=1, inverse=1), x, atol=1e-12)
        whole = run("DFT", run("DFT", x), inverse=1)
        np.testing.assert_allclose(whole[..., :1], x, atol=1e-12)


def test_signals_that_cannot_be_transformed_are_refused(run):
    with pytest.raises(KernelError, match="axis -1"):
        run("DFT", np.zeros((2, 4, 1)), None, np.array(-1))
    with pytest.raises(KernelError, match="2 parts"):
        run("DFT", np.zeros((2, 4, 2)), onesided=1)


@pytest.mark.parametrize("op_type", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("size", [0, 1, 2, 9])
def test_windows_are_symmetric_or_periodic(run, op_type, size):
    y = run(op_type, np.array(size), periodic=0)
    assert (y.dtype, y.shape) == (F32, (size,))
    np.testing.assert_allclose(y, y[::-1], atol=1e-6)
    longer = run(op_type, np.array(size + 1), periodic=0, output_datatype=11)
    if size:
        np.testing.assert_allclose(
            run(op_type, np.array(size), output_datatype=11), longer[:-1], atol=1e-15
        )


def test_three_axes_need_the_number_of_heads(run):
    x, cache = np.zeros((1, 2, 8), F32), np.zeros((1, 2, 2), F32)
    with pytest.raises(KernelError, match="0 heads"):
        run("RotaryEmbedding", x, cache, cache)
    assert run("RotaryEmbedding", x, cache, cache, num_heads=2).shape == x.shape


def test_rotation_keeps_lengths(run):
    rng = np.random.default_rng(0)
    x, angles = rng.normal(size=(2, 3, 4, 6)), rng.normal(size=(2, 4, 3))
    for interleaved in (0, 1):
        y = run("RotaryEmbedding", x, np.cos(angles), np.sin(angles), interleaved=interleaved)
        np.testing.assert_allclose((y * y).sum(-1), (x * x).sum(-1), 1e-12)


def test_crops_and_pads_about_the_middle(run):
    x = np.arange(5, dtype=F32)
    assert run("CenterCropPad", x, np.array([2])).tolist() == [1, 2]
    assert run("CenterCropPad", x, np.array([8])).tolist() == [0, 0, 1, 2, 3, 4, 0, 0]
    assert run("CenterCropPad", x[np.newaxis], np.array([7]), axes=[-1]).shape == (1, 7)


def test_determinants_of_stacks_and_of_nothing(run):
    x = np.stack([np.eye(3), 2 * np.eye(3)]).astype(F32)
    assert run("Det", x).tolist() == [1, 8]
    assert run("Det", np.zeros((0, 2, 2), F32)).shape == (0,)
    assert run("Det", np.eye(2)).shape == ()
