"""Floats summed in two words: exact, the same in any order, by any engine."""

import importlib.util
from fractions import Fraction
from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bb_ir.buffers import BufferPool
from bb_ir.params import ParameterSet
from bb_roles import State
from bb_roles.folding import FoldConfig, WeightedMean
from bb_roles.folding._grid import make_fold
from bb_roles.folding.errors import GridTooCoarse, UpdateOutOfRange
from bb_testing.context import FakeContext, environment

NUMBA = importlib.util.find_spec("numba") is not None
ENGINES = ["numpy", pytest.param("numba", marks=pytest.mark.skipif(not NUMBA, reason="no numba"))]
CTX = FakeContext()
#: One word leaves 62 - 60 bits for these, two leave 105 - 60.
BOUNDS = {"cohort": 1 << 10, "weight_max": (1 << 29) - 1, "value_max": 1 << 21}
K = 45

reals = st.floats(-(2.0**21), 2.0**21, width=32)
doubles = st.floats(-(2.0**21), 2.0**21)
weights = st.one_of(
    st.sampled_from([1, 2, 3, (1 << 29) - 1]), st.integers(1, (1 << 29) - 1)
)  # fmt: skip


def make(**config):
    return WeightedMean(FoldConfig(**{"wide": True, **BOUNDS, **config}), environment("aggregator"))


def params(*values, dtype="float32"):
    return ParameterSet.from_tensors({"w": np.array(values, dtype)})


def fold(aggregator, updates):
    for values, weight in updates:
        aggregator.contribute(CTX, values, {"examples": weight})
    return aggregator.aggregate(CTX)[0]


def rounded(value: Fraction) -> int:
    """Round to an integer, half to even, as Python does."""
    return round(value)


def split(total: int, low: int) -> tuple[int, int]:
    return total >> low, total & ((1 << low) - 1)


@given(st.lists(st.tuples(reals, weights), min_size=1, max_size=12))
def test_mean_is_that_of_python_integers(updates):
    result = fold(make(), [(params(x), w) for x, w in updates])
    total = sum(rounded(Fraction(x) * w * 2**K) for x, w in updates)
    whole = sum(w for _, w in updates)
    # One rounding to a binary64 each, then one to a float32.
    expected = np.float32(float(total) / (float(whole) * 2.0**K))
    assert result["w"].tobytes() == np.array([expected]).tobytes()


@given(st.lists(st.tuples(reals, weights), min_size=1, max_size=12))
def test_mean_is_near_the_exact_one(updates):
    result = fold(make(), [(params(x, dtype="float64"), w) for x, w in updates])
    exact = sum(Fraction(x) * w for x, w in updates) / sum(w for _, w in updates)
    error = abs(Fraction(float(result["w"][0])) - exact)
    assert error <= Fraction(1, 2 ** (K + 1)) + 3 * abs(exact) / 2**53


@settings(deadline=None)  # a kernel may have to be compiled
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@given(data=st.data())
def test_sum_is_that_of_python_integers(engine, dtype, data):
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    bound = 2.0**15
    numbers = st.floats(-bound, bound).map(lambda x: float(np.asarray(x).astype(kind)))
    low, bits = data.draw(st.sampled_from([(52, 60), (22, 24), (40, 50)]))
    weight = st.integers(1, 1 << 20)
    updates = data.draw(st.lists(st.tuples(st.tuples(numbers, numbers), weight), max_size=6))
    made = make_fold(
        dtype, 2, bits=bits, low=low, bounds=(1 << 15, 1), engine=engine, pool=BufferPool()
    )
    totals = [0, 0]
    for values, by in updates:
        assert made.add(np.array(values, kind), by)
        for at, x in enumerate(values):
            # Of float64 the product is rounded once before the grid.
            totals[at] += rounded(Fraction(x * by) * 2**bits)
    words = [split(total, low) for total in totals]
    assert made.save().tolist() == [high for high, _ in words] + [left for _, left in words]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_order_and_engine_change_no_bit(dtype):
    rng = np.random.default_rng(5)
    size = 70_003  # more than one tile, and not a multiple of a block
    updates = [
        (
            ParameterSet.from_tensors({"w": rng.uniform(-(2**20), 2**20, size).astype(dtype)}),
            int(rng.integers(1, 1 << 29)),
        )
        for _ in range(7)
    ]
    engines = ["numpy", "numba", "auto"] if NUMBA else ["numpy"]
    orders = [updates, updates[::-1], [updates[at] for at in rng.permutation(7)]]
    results = [fold(make(engine=e), order)["w"].tobytes() for e in engines for order in orders]
    assert all(one == other for one, other in pairwise(results))


@settings(deadline=None)
@pytest.mark.parametrize("engine", ENGINES)
@given(bad=st.integers(0, 5_000), value=st.sampled_from([np.nan, np.inf, -np.inf, 2.0**22]))
def test_update_that_is_refused_leaves_no_trace(engine, bad, value):
    rng = np.random.default_rng(7)
    good = ParameterSet.from_tensors({"w": rng.uniform(-1, 1, 5_001).astype(np.float32)})
    wrong = np.array(good["w"])
    wrong[bad] = value
    aggregator = make(engine=engine)
    aggregator.contribute(CTX, good, {"examples": 3})
    with pytest.raises(UpdateOutOfRange):
        aggregator.contribute(CTX, ParameterSet.from_tensors({"w": wrong}), {"examples": 9})
    assert aggregator.aggregate(CTX)[0]["w"].tobytes() == good["w"].tobytes()


def test_other_dtypes_of_an_update_are_taken_back():
    both = {"a": np.array([0.3], np.float64), "b": np.array([1.0], np.float32)}
    aggregator = make()
    aggregator.contribute(CTX, ParameterSet.from_tensors(both), {"examples": 5})
    bad = {"a": np.array([0.7], np.float64), "b": np.array([np.nan], np.float32)}
    with pytest.raises(UpdateOutOfRange):
        aggregator.contribute(CTX, ParameterSet.from_tensors(bad), {"examples": 2})
    assert float(aggregator.aggregate(CTX)[0]["a"][0]) == 0.3


def test_full_cohort_of_largest_updates_fits():
    aggregator = make(cohort=4, value_max=1 << 21)
    largest = [(params(2.0**21, -(2.0**21)), (1 << 29) - 1)] * 4
    assert fold(aggregator, largest)["w"].tolist() == [2.0**21, -(2.0**21)]


@given(st.lists(st.tuples(reals, weights), min_size=2, max_size=8), st.integers(1, 7))
def test_rounds_in_flight_are_saved(updates, stop):
    stop = min(stop, len(updates) - 1)
    straight = fold(make(), [(params(x), w) for x, w in updates])
    aggregator, again = make(), make()
    for x, w in updates[:stop]:
        aggregator.contribute(CTX, params(x), {"examples": w})
    saved = aggregator.save()
    again.load(saved)
    assert again.save().tensors["0.float32"].tolist() == saved.tensors["0.float32"].tolist()
    rest = [(params(x), w) for x, w in updates[stop:]]
    assert fold(again, rest)["w"].tobytes() == straight["w"].tobytes()


def test_round_of_one_word_does_not_go_on_in_two():
    small = {"cohort": 4, "weight_max": 8, "value_max": 2}
    aggregator = make(wide=False, **small)
    aggregator.contribute(CTX, params(1.0), {"examples": 1})
    with pytest.raises(GridTooCoarse, match="one word") as caught:
        make(**small).load(aggregator.save())
    assert "in two words" in str(caught.value.expected)
    make(**small).load(State())  # without rounds nothing was folded


def test_bounds_that_are_too_much_for_one_word_say_what_helps():
    with pytest.raises(GridTooCoarse, match="leave 2 bits") as caught:
        make(wide=False)
    assert "wide=True" in caught.value.fix
    assert make().save().data["bits"] == K


@pytest.mark.parametrize(
    ("cohort", "bits", "low"),
    [(1, 55, 52), (1 << 10, 45, 52), (1 << 11, 43, 51), (1 << 20, 25, 42)],
)
def test_two_words_leave_so_many_bits(cohort, bits, low):
    data = make(cohort=cohort).save().data
    assert (data["bits"], data["low"]) == (bits, low)


def test_two_words_may_be_too_few():
    with pytest.raises(GridTooCoarse, match="leave 23 bits") as caught:
        make(cohort=1 << 21)
    assert "wide" not in caught.value.fix
    assert "2**70" in str(caught.value.expected)


def test_integers_are_averaged_as_ever():
    updates = [(params(3, -7, dtype="int32"), 2), (params(4, -8, dtype="int32"), 1)]
    assert fold(make(), updates)["w"].tolist() == [3, -7]
