import itertools
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bb_aggregator_trimmed_mean._trimmed_mean import TrimmedMean, TrimmedMeanConfig
from bb_aggregator_trimmed_mean.errors import InvalidSetting, TooFewUpdates
from bb_ir.params import ParameterSet
from bb_roles.collecting import ranked_tiles
from bb_testing.context import FakeContext, environment

CTX = FakeContext()


def trimmed(*vectors, trim=1, dtype="float32"):
    rule = TrimmedMean(TrimmedMeanConfig(trim=trim), environment("aggregator"))
    for vector in vectors:
        update = ParameterSet.from_tensors({"w": np.array(vector, dtype)})
        rule.contribute(CTX, update, {"examples": 1})
    return rule.aggregate(CTX)[0]["w"]


@pytest.mark.parametrize("count", range(1, 13))
def test_the_network_sorts_whatever_it_is_given(count):
    # A network that sorts all sequences of zeros and ones sorts all sequences (Knuth).
    columns = np.array(list(itertools.product((0, 1), repeat=count)), np.uint8)
    [(_, rows)] = ranked_tiles(list(columns.T.copy()), range(count))
    assert (np.array(rows) == np.sort(columns.T, axis=0)).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(("count", "trim"), [(1, 0), (3, 1), (20, 4), (21, 10), (130, 3)])
def test_it_is_the_mean_of_what_is_left(dtype, count, trim):
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    values = np.random.default_rng(count).normal(size=(count, 20_000)).astype(kind)
    kept = np.sort(values.astype("f8"), axis=0)[trim : count - trim]
    total = sum(kept[1:], start=kept[0].copy())
    expected = (total / len(kept)).astype(kind)
    assert (trimmed(*values, trim=trim, dtype=kind) == expected).all()


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=7))
@example([2**63 - 1] * 4)
@example([-(2**63)] * 5)
def test_integers_get_the_exact_mean_rounded_half_to_even(values):
    kept = sorted(values)[1:-1]
    result = trimmed(*([x] for x in values), dtype="int64")
    assert int(result[0]) == round(Fraction(sum(kept), len(kept)))


@given(st.lists(st.integers(0, 2**64 - 1), min_size=3, max_size=7))
@example([2**64 - 1] * 7)
def test_large_unsigned_integers_do_not_overflow(values):
    kept = sorted(values)[1:-1]
    result = trimmed(*([x] for x in values), dtype="uint64")
    assert int(result[0]) == round(Fraction(sum(kept), len(kept)))


def test_bools_are_what_most_of_those_kept_say():
    result = trimmed([True, False], [True, False], [False, True], dtype="bool")
    assert result.dtype == np.bool_
    assert result.tolist() == [True, False]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=8))
@example([1.7976931348623157e308] * 5)
@example([1.7976931348623157e308] * 3 + [-1.7976931348623157e308] * 3)
@example([5e-324] * 4)
def test_it_lies_within_what_was_kept_and_is_near_the_exact_mean(values):
    kept = sorted(values)[1:-1]
    result = float(trimmed(*([x] for x in values), dtype="float64")[0])
    exact = sum(map(Fraction, kept)) / len(kept)
    largest = max(abs(Fraction(x)) for x in kept)
    assert kept[0] <= result <= kept[-1]
    assert abs(Fraction(result) - exact) <= largest * 10 / 2**52 + Fraction(10, 2**1074)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(3, 9))
def test_equal_updates_give_themselves(value, count):
    assert trimmed(*[[value]] * count, dtype="float64")[0] == value


def test_a_zero_is_positive_in_any_order():
    for signs in itertools.permutations([0.0, -0.0, -0.0, -0.0]):
        assert not np.signbit(trimmed(*([x] for x in signs)))[0]


@given(
    honest=st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=9),
    lies=st.lists(st.sampled_from([3e38, -3e38, 0.0]), min_size=2, max_size=2),
)
def test_as_many_as_are_trimmed_cannot_move_it_out_of_what_the_others_sent(honest, lies):
    result = trimmed(*([x] for x in [*lies, *honest]), trim=2)[0]
    assert min(honest) <= result <= max(honest)


@given(
    st.lists(
        st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
        min_size=3,
        max_size=8,
    ),
    st.randoms(),
)
def test_the_order_of_arrival_does_not_change_a_bit(vectors, random):
    shuffled = list(vectors)
    random.shuffle(shuffled)
    one, other = (trimmed(*order, dtype="float64") for order in (vectors, shuffled))
    assert one.tobytes() == other.tobytes()


def test_too_few_updates_are_refused_and_more_may_come():
    rule = TrimmedMean(TrimmedMeanConfig(trim=2), environment("aggregator"))
    update = ParameterSet.from_tensors({"w": np.ones(2, "f4")})
    for _ in range(4):
        rule.contribute(CTX, update, {"examples": 1})
    with pytest.raises(TooFewUpdates, match="4 updates") as caught:
        rule.aggregate(CTX)
    assert "at least 5 updates" in str(caught.value)
    rule.contribute(CTX, update, {"examples": 1})
    assert rule.aggregate(CTX)[1]["count"] == 5


@pytest.mark.parametrize("config", [{"trim": -1}, {"trim": 2, "cohort": 4}, {"trim": 512}])
def test_a_trim_that_no_cohort_has_is_refused(config):
    with pytest.raises(InvalidSetting, match="trim is"):
        TrimmedMeanConfig(**config)


def test_the_largest_trim_that_a_cohort_has_is_taken():
    assert TrimmedMeanConfig(trim=2, cohort=5).trim == 2
