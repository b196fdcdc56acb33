"""Lists, peers, and numbers out of gathered values."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb_ir.ids import PeerId
from bb_ops.lists import concat, item, length, number, reduce, without
from bb_runtime.errors import OpError

A, B, C = (PeerId.from_seed(b"lists", n) for n in range(3))
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


def test_length_and_item_of_lists_and_peers():
    assert length([]) == 0
    assert length((A, B)) == 2
    assert item([1, 2, 3], -1) == 3
    assert item([1, 2, 3], np.array([1])) == 2
    assert item((A, B), 1) == (B,)


@pytest.mark.parametrize("index", [3, -4])
def test_an_item_that_is_not_there_says_which_there_are(index):
    with pytest.raises(OpError, match=f"item {index} of a list of 3") as caught:
        item([1, 2, 3], index)
    assert caught.value.expected == "-3 to 2"


def test_an_empty_list_has_no_item():
    with pytest.raises(OpError) as caught:
        item([], 0)
    assert caught.value.expected == "a list with items"


@pytest.mark.parametrize("index", [True, 1.0, "0", None, np.array([0, 1])])
def test_an_index_is_a_whole_number(index):
    with pytest.raises(OpError, match="the index is"):
        item([1, 2, 3], index)


def test_concat_keeps_order_and_names_peers_once():
    assert concat([1, 2], [], [2]) == [1, 2, 2]
    assert concat((A, B), (B, C, A)) == (A, B, C)
    assert concat() == []


def test_without_leaves_out_peers_and_return_addresses():
    address = SimpleNamespace(peer=B, frame=3, incarnation=1)
    assert without((A, B, C, A), (C,)) == (A, B, A)
    assert without((A, B, C), (address,)) == (A, C)
    assert without((), (A,)) == ()


@pytest.mark.parametrize(
    "call", [length, concat, lambda v: item(v, 0), lambda v: reduce(v, how="sum")]
)
def test_what_is_no_list_is_named(call):
    with pytest.raises(OpError, match="of a ndarray"):
        call(np.ones(3))


def test_reductions_of_numbers_and_of_fields():
    values = [{"loss": 1.0, "examples": 3}, {"loss": 3.0, "examples": 1}]
    assert reduce([1, 2.5, np.float32(3)], how="sum") == 6.5
    assert reduce(values, how="mean", field="loss") == 2.0
    assert reduce(values, how="mean", field="loss", weight="examples") == 1.5
    assert reduce(values, how="min", field="examples") == 1.0
    assert reduce(values, how="max", field="loss") == 3.0
    assert reduce([np.array([4.0])], how="mean") == 4.0
    assert reduce([], how="sum") == 0.0


@pytest.mark.parametrize("how", ["mean", "min", "max"])
def test_nothing_has_no_mean_and_no_extreme(how):
    with pytest.raises(OpError, match=f"{how} of an empty list") as caught:
        reduce([], how=how)
    assert "g.length(values) > 0" in caught.value.fix


@pytest.mark.parametrize("how", ["mean", "min", "max", "sum"])
@pytest.mark.parametrize("place", [0, 1])
def test_what_is_not_a_number_shows_wherever_it_stands(how, place):
    values = [1.0, 2.0]
    values[place] = math.nan
    assert math.isnan(reduce(values, how=how))


@pytest.mark.parametrize("odd", ["1", None, True, np.ones(2), [1.0]])
def test_a_value_that_is_no_number_is_told_by_its_place(odd):
    with pytest.raises(OpError, match="value 1 is a"):
        reduce([1.0, odd], how="mean")
    with pytest.raises(OpError, match="field 'loss' of value 0 is a"):
        reduce([{"loss": odd}], how="mean", field="loss")


def test_a_record_without_the_field_says_what_it_has():
    with pytest.raises(OpError, match="value 0 is a dict with accuracy, examples"):
        reduce([{"accuracy": 1.0, "examples": 1}], how="mean", field="loss")
    with pytest.raises(OpError, match="value 0 is a float"):
        reduce([1.0], how="mean", field="loss")


@pytest.mark.parametrize("weights", [(0, 0), (-1, 2), (-1, -1)])
def test_weights_are_not_negative_and_not_all_nothing(weights):
    values = [{"x": 1.0, "w": weight} for weight in weights]
    with pytest.raises(OpError, match="the weights 'w' are"):
        reduce(values, how="mean", field="x", weight="w")


@given(st.lists(st.tuples(FINITE, st.integers(1, 10**6)), min_size=1), st.randoms())
def test_the_order_of_values_changes_no_bit(pairs, random):
    values = [{"x": x, "w": w} for x, w in pairs]
    shuffled = list(values)
    random.shuffle(shuffled)
    for how in ("mean", "sum", "min", "max"):
        assert reduce(values, how=how, field="x") == reduce(shuffled, how=how, field="x")
    weighted = reduce(values, how="mean", field="x", weight="w")
    assert weighted == reduce(shuffled, how="mean", field="x", weight="w")
    low, high = min(pairs)[0], max(pairs)[0]
    assert low - 1e-6 * abs(low) - 1e-300 <= weighted <= high + 1e-6 * abs(high) + 1e-300


def test_number_reads_what_holds_one():
    assert number(np.array(2, np.int32)) == 2.0
    assert number(True) is None
    assert number(np.array(["a"])) is None
