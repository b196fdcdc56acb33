"""Packing equals the textbook's, whatever the sizes are, interpreted and compiled."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bb_planner_swap import packing
from bb_planner_swap.errors import UnpackableChunks
from bb_planner_swap.packing import Packing, first_fit_decreasing, in_turn
from bb_roles import kernels

SIZES = st.lists(st.integers(0, 12), max_size=60)


def naive(lengths, capacity):
    """Return the buckets of first-fit decreasing, as a textbook has it."""
    filled, alone, buckets = [], set(), {}
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        size = lengths[index]
        fits = (b for b, load in enumerate(filled) if b not in alone and load + size <= capacity)
        bucket = next(fits, len(filled))
        if bucket == len(filled):
            filled.append(0)
            alone |= {bucket} if size > capacity else set()
        filled[bucket] += size
        buckets[index] = bucket
    return [buckets[index] for index in range(len(lengths))], filled


def columns(packed):
    """Return a packing as lists."""
    return Packing(*(column.tolist() for column in packed))


def check(packed, lengths, capacity):
    """Hold what must be so of any packing."""
    assert sorted(packed.order) == list(range(len(lengths)))
    ends = [0] * len(packed.sizes)
    for index in packed.order:
        assert packed.offsets[index] == ends[packed.buckets[index]], "no holes, no overlaps"
        ends[packed.buckets[index]] += lengths[index]
    assert ends == packed.sizes
    assert [packed.buckets[i] for i in packed.order] == sorted(packed.buckets)
    assert packed.oversize == [i for i, size in enumerate(lengths) if size > capacity]


@given(lengths=SIZES, capacity=st.integers(1, 12))
@example(lengths=[0, 0, 0], capacity=1)
@example(lengths=[], capacity=1)
def test_first_fit_is_that_of_the_textbook(lengths, capacity):
    packed = columns(first_fit_decreasing(lengths, capacity))

    assert (packed.buckets, packed.sizes) == naive(lengths, capacity)
    check(packed, lengths, capacity)


@given(lengths=SIZES, capacity=st.integers(1, 12))
def test_in_turn_keeps_the_order(lengths, capacity):
    packed = columns(in_turn(lengths, capacity))

    assert packed.order == list(range(len(lengths)))
    assert all(size <= capacity for size in packed.sizes) or packed.oversize
    for bucket, first in enumerate(map(packed.buckets.index, range(1, len(packed.sizes)))):
        assert packed.sizes[bucket] + lengths[first] > capacity, "closed with room for the next"
    check(packed, lengths, capacity)


@pytest.mark.parametrize("count", [3000])
@pytest.mark.parametrize("capacity", [50, 1000, 10**6])
def test_many_sizes(count, capacity):
    lengths = np.random.default_rng(capacity).integers(0, 600, count).tolist()

    packed = columns(first_fit_decreasing(lengths, capacity))

    assert (packed.buckets, packed.sizes) == naive(lengths, capacity)


def test_compiled_code_says_the_same(monkeypatch):
    pytest.importorskip("numba")
    lengths = np.random.default_rng(2).integers(0, 1 << 20, 4000).tolist()
    expected = columns(first_fit_decreasing(lengths, 4 << 20))
    compiled, calls = packing.compiled, []
    monkeypatch.setattr(packing, "_COMPILED_FROM", 1)
    monkeypatch.setattr(packing, "compiled", lambda one: calls.append(1) or compiled(one))

    found = columns(first_fit_decreasing(lengths, 4 << 20))

    assert found == expected
    assert calls == [1]


def test_without_numba_it_is_interpreted(monkeypatch):
    monkeypatch.setattr(packing, "_COMPILED_FROM", 1)
    monkeypatch.setattr(kernels, "find_spec", lambda _: None)
    monkeypatch.setattr(packing, "compiled", None)  # is not called

    assert first_fit_decreasing([6, 5, 4, 3], 8).buckets.tolist() == [0, 1, 2, 1]


def test_buckets_may_be_larger_than_any_machine_word():
    packed = columns(first_fit_decreasing([1 << 61, 5, 1 << 60], 1 << 80))

    assert packed.order == [0, 2, 1]
    assert packed.sizes == [(1 << 61) + (1 << 60) + 5]


def test_ties_keep_the_order_that_is_given():
    assert first_fit_decreasing([4, 4, 4, 4], 8).order.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("pack", [first_fit_decreasing, in_turn])
@pytest.mark.parametrize(
    ("lengths", "capacity"),
    [([1], 0), ([1, -1], 8), ([1 << 62], 8), ([1 << 61] * 2, 8), ([1 << 99], 8)],
)
def test_sizes_that_cannot_be(pack, lengths, capacity):
    with pytest.raises(UnpackableChunks):
        pack(lengths, capacity)
