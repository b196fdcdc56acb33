"""Caches and streams: small traces by hand, and the same as plain loops do."""

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb_planner_kvcache.errors import BadColumn
from bb_planner_kvcache.simulator import compare, hits, stream_times

POLICIES = ("lru", "fifo", "sieve", "s3fifo", "heat")
traces = st.lists(st.integers(-3, 9), max_size=80)
A, B, C, D, E = range(5)


def told(trace, capacity, policy):
    return "".join("x" if one else "." for one in hits(np.array(trace), capacity, policy))


@pytest.mark.parametrize(
    ("policy", "trace", "expected"),
    [
        # The third miss drops B, which was asked for longest ago, or A, which came first.
        ("lru", [A, B, A, C, A, B], "..x.x."),
        ("fifo", [A, B, A, C, A, B], "..x..."),
        # A was asked for, so the hand spares it and drops B; it then stands at C.
        ("sieve", [A, B, A, C, A, B, C], "..x.x.."),
        # Nobody was asked for: the hand goes on from the oldest page.
        ("sieve", [A, B, C, B], "...x"),
        # A has two hits, B has one more recent one: B is the colder one.
        ("heat", [A, A, A, B, C, A], ".xx..x"),
    ],
)
def test_known_traces(policy, trace, expected):
    assert told(trace, 2, policy) == expected


def test_s3fifo_keeps_what_returns_when_others_pass_by():
    trace = [A, B, A, B, A, B, *range(10, 30), A, B]

    assert told(trace, 10, "s3fifo")[-2:] == "xx"
    assert told(trace, 10, "lru")[-2:] == ".."


def test_s3fifo_takes_a_remembered_page_into_the_large_queue():
    trace = [A, *range(10, 20), A, *range(20, 40), A]

    assert told(trace, 10, "s3fifo")[11] == "."
    assert told(trace, 10, "s3fifo")[-1] == "x"


def naive(trace, capacity, policy):
    """Return the hits of a cache that looks at all of its pages for the one to drop."""
    held, found = OrderedDict(), []
    for at, page in enumerate(trace):
        found.append(page in held)
        if page not in held and len(held) == capacity:
            del held[min(held, key=held.get)]
        if page not in held or policy == "lru":
            held[page] = at
    return found


@pytest.mark.parametrize("policy", ["lru", "fifo"])
@given(trace=traces, capacity=st.integers(1, 6))
def test_hits_are_those_of_a_naive_cache(policy, trace, capacity):
    found = hits(np.array(trace, np.int64), capacity, policy)

    assert found.tolist() == naive(trace, capacity, policy)


def naive_sieve(trace, capacity):
    """Return the hits of SIEVE on a list, the oldest page first."""
    queue, asked, found, hand = [], {}, [], None
    for page in trace:
        found.append(page in queue)
        if page in queue:
            asked[page] = True
            continue
        if len(queue) == capacity:
            at = queue.index(hand) if hand in queue else 0
            while asked[queue[at]]:
                asked[queue[at]] = False
                at = (at + 1) % len(queue)
            hand = queue[at + 1] if at + 1 < len(queue) else None
            queue.pop(at)
        queue.append(page)
        asked[page] = False
    return found


@given(traces, st.integers(1, 6))
def test_hits_are_those_of_a_naive_sieve(trace, capacity):
    found = hits(np.array(trace, np.int64), capacity, "sieve")

    assert found.tolist() == naive_sieve(trace, capacity)


@pytest.mark.parametrize("policy", POLICIES)
@given(trace=traces, capacity=st.integers(1, 20))
def test_no_policy_holds_more_than_there_is_room_for(policy, trace, capacity):
    found = hits(np.array(trace, np.int64), capacity, policy)

    seen = set()
    for page, hit in zip(trace, found, strict=True):
        assert not hit or page in seen
        seen.add(page)
    if capacity >= len(seen):
        assert (~found).sum() == len(seen), "a page was dropped where there was room"
    assert hits(np.array([*range(capacity + 1)] * 3), capacity, policy).sum() <= 2 * capacity


def test_old_hits_of_a_long_trace_do_not_overflow():
    trace = np.arange(200_000) % 7

    assert hits(trace, 3, "heat").sum() < 200_000
    assert hits(trace, 7, "heat").sum() == 200_000 - 7


def test_policies_are_compared_on_one_trace():
    trace = np.random.default_rng(1).zipf(1.3, 20_000) % 1000

    shares = compare(trace, 50)

    assert {*shares} == {*POLICIES}
    assert shares["lru"] == hits(trace, 50, "lru").mean()
    assert shares["s3fifo"] > shares["lru"] > shares["fifo"]
    assert compare(np.zeros(0, np.int64), 3)["lru"] == 0.0


@pytest.mark.parametrize(
    ("pages", "capacity", "policy", "text"),
    [
        (np.zeros((2, 2), int), 3, "lru", "pages is"),
        (np.zeros(3), 3, "lru", "pages is"),
        ([1, 2], 3, "lru", "pages is"),
        (np.zeros(3, int), 0, "lru", "capacity is 0"),
        (np.zeros(3, int), 3, "mru", "policy is 'mru'"),
    ],
)
def test_bad_traces_are_refused(pages, capacity, policy, text):
    with pytest.raises(BadColumn, match=text):
        hits(pages, capacity, policy)


def ops(**columns):
    size = len(columns["bytes"])
    usual = {"node": [0] * size, "tier_dst": [1] * size, "overlap": [1] * size, "layer": [0] * size}
    return {name: np.array(one) for name, one in (usual | columns).items()}


def test_the_move_of_least_slack_runs_first():
    moves = ops(bytes=[100, 100], priority=[9.0, 1.0])

    found = stream_times(moves, window_ms=10, tier_caps={1: 100}, layer_ms={0: 15.0}, streams=1)

    assert found.finish_ms.tolist() == [20.0, 10.0]
    assert found[:4] == (0.5, 15.0, 100.0, 2)


def test_streams_share_what_a_tier_takes():
    moves = ops(bytes=[100] * 3, overlap=[1, 1, 2], priority=[1.0, 2.0, 3.0], node=[0, 0, 1])

    found = stream_times(moves, window_ms=10, tier_caps={1: 100}, layer_ms={}, streams=2)

    assert found.finish_ms.tolist() == [20.0, 20.0, 10.0]


def test_a_layer_is_reached_after_all_before_it():
    moves = ops(bytes=[10, 10, 10], priority=[1.0, 2.0, 3.0], layer=[0, 2, 5])
    layers = {0: 0.5, 2: 5.0}  # others take 1 ms: they are reached after 0.5, 6.5 and 9.5 ms

    found = stream_times(moves, window_ms=10, tier_caps={1: 30}, layer_ms=layers, streams=1)

    assert found.finish_ms.round(6).tolist() == [3.333333, 6.666667, 10.0]
    assert found.timeliness == 0.0
    rest = stream_times(moves, window_ms=9, tier_caps={1: 30}, layer_ms=layers, streams=1)
    assert rest.timeliness == pytest.approx(2 / 3)


def test_nothing_to_move_is_on_time():
    found = stream_times(ops(bytes=[], priority=[]), window_ms=10, tier_caps={}, layer_ms={})

    assert found[:4] == (1.0, 0.0, 0.0, 0)


@pytest.mark.parametrize("bad", [{"streams": 0}, {"tier_caps": {1: 0}}])
def test_streams_that_move_nothing_are_refused(bad):
    given = {"window_ms": 10, "tier_caps": {}, "layer_ms": {}} | bad

    with pytest.raises(BadColumn, match="1 or more"):
        stream_times(ops(bytes=[1], priority=[1.0]), **given)
