import itertools
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bb_aggregator_median._median import Median, MedianConfig
from bb_ir.params import ParameterSet
from bb_roles.collecting import ranked_tiles
from bb_testing.context import FakeContext, environment

CTX = FakeContext()


def median(*vectors, dtype="float32"):
    rule = Median(MedianConfig(), environment("aggregator"))
    for vector in vectors:
        update = ParameterSet.from_tensors({"w": np.array(vector, dtype)})
        rule.contribute(CTX, update, {"examples": 1})
    return rule.aggregate(CTX)[0]["w"]


def ranked(vectors, ranks):
    out = np.empty((len(ranks), vectors[0].size), vectors[0].dtype)
    for tile, rows in ranked_tiles(vectors, ranks):
        for at, row in enumerate(rows):
            out[at, tile] = row
    return out


# ---- ranks


@pytest.mark.parametrize("count", range(1, 13))
def test_the_network_sorts_whatever_it_is_given(count):
    # A network that sorts all sequences of zeros and ones sorts all sequences (Knuth).
    columns = list(itertools.product((0.0, 1.0), repeat=count))
    vectors = list(np.array(columns, np.float32).T.copy())
    assert (ranked(vectors, range(count)) == np.sort(vectors, axis=0)).all()


@pytest.mark.parametrize(
    ("count", "size"),
    [
        (13, 16_384),
        (20, 16_385),
        (31, 33_000),
        (64, 1),
        (127, 100),
        (128, 16_400),
        (129, 16_400),
        (300, 9_000),
    ],
)
def test_each_rank_is_right_alone_and_with_others(count, size):
    vectors = list(np.random.default_rng(count).integers(0, 50, (count, size)).astype("f4"))
    expected = np.sort(vectors, axis=0)
    for ranks in ([0], [count // 2], [count - 1], list(range(count // 3, count))):
        assert (ranked(vectors, ranks) == expected[ranks]).all()


# ---- the median


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 19, 20, 130, 131])
def test_it_is_the_median_of_each_coordinate(dtype, count):
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    values = np.random.default_rng(count).normal(size=(count, 20_000)).astype(kind)
    expected = np.median(values.astype("f8"), axis=0).astype(kind)
    assert (median(*values, dtype=kind) == expected).all()


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=7))
@example([2**63 - 1, 2**63 - 1])
@example([-(2**63), 2**63 - 1])
def test_integers_are_rounded_half_to_even_and_do_not_overflow(values):
    ordered = sorted(values)
    middle = Fraction(ordered[(len(values) - 1) // 2] + ordered[len(values) // 2], 2)
    assert int(median(*([x] for x in values), dtype="int64")[0]) == round(middle)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint64"])
def test_small_and_unsigned_integers_do_not_overflow(dtype):
    most = np.iinfo(dtype).max
    assert median([most, 0], [most - 2, 1], dtype=dtype).tolist() == [most - 1, 0]


def test_bools_are_what_most_say_and_false_in_a_tie():
    result = median([True, True], [True, False], [False, False], [True, True], dtype="bool")
    assert result.dtype == np.bool_
    assert result.tolist() == [True, False]


def test_the_middle_of_large_floats_does_not_overflow():
    most = np.finfo("f8").max
    assert median([most, 1.0], [most, 2.0], dtype="float64").tolist() == [most, 1.5]


def test_a_zero_is_positive_in_any_order():
    for signs in itertools.permutations([0.0, -0.0, -0.0]):
        assert not np.signbit(median(*([x] for x in signs)))[0]
    assert not np.signbit(median([-0.0]))[0]


@given(
    honest=st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=9),
    lie=st.sampled_from([3e38, -3e38, 0.0, 1e9]),
)
def test_fewer_than_half_cannot_move_it_out_of_what_the_others_sent(honest, lie):
    liars = [[lie]] * (len(honest) - 1)
    assert min(honest) <= median(*([x] for x in honest), *liars)[0] <= max(honest)


@given(
    st.lists(
        st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
        min_size=1,
        max_size=8,
    ),
    st.randoms(),
)
def test_the_order_of_arrival_does_not_change_a_bit(vectors, random):
    shuffled = list(vectors)
    random.shuffle(shuffled)
    one, other = (median(*order, dtype="float64") for order in (vectors, shuffled))
    assert one.tobytes() == other.tobytes()


def test_tensors_of_many_dtypes_are_taken_at_once():
    def one(x):
        tensors = {"f": np.full((2, 2), x, "f4"), "h": np.array(x, "f2"), "i": np.array([x, -x])}
        return ParameterSet.from_tensors({**tensors, "none": np.zeros((0, 3), np.int32)})

    rule = Median(MedianConfig(), environment("aggregator"))
    for x in (9, 1, 4):
        rule.contribute(CTX, one(x), {"examples": 1000 * x})
    result, summary = rule.aggregate(CTX)
    assert result["f"].tolist() == [[4.0, 4.0], [4.0, 4.0]]
    assert result["h"].tolist() == 4.0
    assert result["i"].tolist() == [4, -4]
    assert result["none"].shape == (0, 3)
    assert summary == {"count": 3, "examples": 14_000}
