"""What columns are worked on with, against the same in plain Python."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb_planner_kvcache._asked import Heat, lookup
from bb_planner_kvcache._columns import (
    FAR,
    Spans,
    codes_of,
    constant,
    cut_out,
    fit,
    merged,
    order_of,
    running_ends,
    starts,
)

small = st.integers(0, 4)
wide = st.one_of(small, st.integers(-(1 << 61), 1 << 61))
spans = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 20), st.integers(0, 5)), max_size=12)


def column(values):
    return np.array(list(values), np.int64)


def as_spans(given):
    return Spans(*(column(c) for c in ([g for g, _, _ in given], [s for _, s, _ in given],
                                       [s + n for _, s, n in given])))  # fmt: skip


def pages(spans):
    return {
        (group, page)
        for group, first, last in zip(*map(np.ndarray.tolist, spans), strict=True)
        for page in range(first, last + 1)
    }


@given(st.lists(st.tuples(wide, small, wide), max_size=40))
def test_order_is_that_of_sorted(rows):
    columns = [column(row[at] for row in rows) for at in range(3)]

    order = order_of(*columns)

    assert order.tolist() == sorted(range(len(rows)), key=lambda at: (rows[at], at))


def test_constant_columns_change_no_order():
    assert order_of(constant(7, 3), column([2, 1, 0])).tolist() == [2, 1, 0]


@given(st.lists(st.tuples(wide, wide, small), min_size=1, max_size=40))
def test_codes_are_the_same_for_the_same(rows):
    codes = codes_of(*(column(row[at] for row in rows) for at in range(3))).tolist()

    assert len({*zip(codes, rows, strict=True)}) == len({*codes}) == len({*rows})


def greedy(group, cap, size, unit, rank):
    """Return what is taken, one item after the other."""
    taken, room, seen = [0] * len(group), {}, set()
    for at in sorted(range(len(group)), key=lambda one: (rank[one], one)):
        limit = cap[group[at]]
        left = room.setdefault(group[at], limit)
        if size[at] <= left:
            taken[at] = size[at]
        elif group[at] not in seen and size[at] > limit:
            taken[at] = limit // unit[at] * unit[at]
        seen.add(group[at])
        room[group[at]] -= taken[at]
    return taken


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 30), st.integers(1, 5), small), max_size=60
    ),
    st.lists(st.one_of(st.integers(0, 120), st.just(FAR)), min_size=3, max_size=3),
)
def test_filling_up_is_what_a_loop_does(items, caps):
    group, parts, unit, rank = (column(one[at] for one in items) for at in range(4))
    size = parts * unit

    taken = fit(group, column(caps)[group], size, unit, rank)

    assert taken.tolist() == greedy(
        group.tolist(), caps, size.tolist(), unit.tolist(), rank.tolist()
    )


def test_filling_up_goes_on_when_every_other_item_is_too_large():
    size = column([9 if at % 2 else 1 for at in range(200)])

    taken = fit(constant(0, 200), np.full(200, 100), size, constant(1, 200), np.arange(200))

    assert taken.tolist() == greedy([0] * 200, [100], size.tolist(), [1] * 200, [*range(200)])


@given(spans)
def test_merged_spans_have_the_same_pages_and_touch_nowhere(given):
    found = merged(as_spans(given))

    rows = [*zip(*map(np.ndarray.tolist, found), strict=True)]
    assert pages(found) == pages(as_spans(given))
    assert all(a[0] < b[0] or a[2] + 1 < b[1] for a, b in pairwise(rows))


@given(spans.filter(bool), spans.filter(bool))
def test_what_is_cut_out_is_gone_and_nothing_else(given, holes):
    whole, gone = as_spans(given), merged(as_spans(holes))

    owner, start, end = cut_out(whole, gone)

    assert pages(Spans(whole.group[owner], start, end)) == pages(whole) - pages(gone)
    for at in range(len(given)):
        mine = owner == at
        one = Spans(*(part[at : at + 1] for part in whole))
        left = pages(Spans(whole.group[owner[mine]], start[mine], end[mine]))
        assert left == pages(one) - pages(gone)


@pytest.mark.parametrize("far", [1, 1 << 60], ids=["near", "far"])
def test_running_ends_begin_anew_in_each_group(far):
    group, end = column([0, 0, 0, 1, 1]), column([5, 3, 7, 2, 1]) * far

    found = running_ends(starts(group), end)

    assert (found // far).tolist() == [5, 5, 7, 2, 2]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4), small), min_size=1, max_size=20),
    st.sampled_from([1, 10**8]),
)
def test_of_heat_that_is_told_twice_the_most_counts(rows, scale):
    layer, page, hits = (column(row[at] for row in rows) for at in range(3))
    heat = Heat(layer, page * scale, hits.astype(float), hits.astype(float), hits)
    asked = [(one, at) for one in range(4) for at in range(6)]

    found = lookup(heat, column(a for a, _ in asked), column(b for _, b in asked) * scale)

    for key, at in zip(asked, found.tolist(), strict=True):
        known = [row for row in rows if row[:2] == key]
        assert (hits[at] if at >= 0 else None) == max((row[2] for row in known), default=None)
