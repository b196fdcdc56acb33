"""Round trips by Jacobson and Karn, and how odd a silence is."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb_runtime._estimates import LONGEST_NS, RoundTrip, Silence
from bb_runtime._health import score

SECOND = 10**9


def test_the_first_round_trip_is_the_mean_and_half_of_it_the_deviation():
    trip = RoundTrip()
    assert trip.wait_ns(SECOND) == SECOND, "nothing is known"
    trip.observe(300_000_000)
    assert (trip.mean_ns, trip.deviation_ns) == (300_000_000, 150_000_000)
    assert trip.wait_ns(SECOND) == 900_000_000


def test_later_round_trips_count_an_eighth_and_a_quarter():
    trip = RoundTrip()
    trip.observe(800)
    trip.observe(1600)
    assert (trip.mean_ns, trip.deviation_ns) == (900, 500)
    trip.observe(100)
    assert (trip.mean_ns, trip.deviation_ns) == (800, 575)


def test_a_wait_has_bounds():
    trip = RoundTrip()
    trip.observe(1)
    assert trip.wait_ns(SECOND) == 200_000_000
    trip.observe(10**15)
    assert trip.wait_ns(SECOND) == LONGEST_NS


def test_waits_stay_doubled_until_a_message_that_was_sent_once_comes_back():
    trip = RoundTrip()
    trip.observe(SECOND)
    before = trip.wait_ns(1)
    trip.timed_out(1)
    trip.timed_out(2)
    trip.timed_out(1)  # another message, which waited once
    assert trip.wait_ns(1) == 4 * before
    trip.observe(SECOND)
    assert trip.wait_ns(1) <= before


@given(st.lists(st.integers(0, 10**12), max_size=50))
def test_estimates_stay_between_what_was_seen(samples):
    trip = RoundTrip()
    for sample in samples:
        trip.observe(sample)
    if samples:
        assert min(samples) - 1 <= trip.mean_ns <= max(samples)
    assert RoundTrip(*trip.state()).state() == trip.state()


def test_nobody_is_suspected_before_it_was_heard_in_time():
    silence = Silence()
    for _ in range(2):
        silence.observe(SECOND)
        assert silence.phi(10**15) == 0.0


def test_silence_grows_odd_with_time_and_less_so_for_peers_that_vary():
    steady, varying = Silence(), Silence()
    for number in range(40):
        steady.observe(SECOND)
        varying.observe(SECOND if number % 2 else 3 * SECOND)
    times = [SECOND, 2 * SECOND, 3 * SECOND, 5 * SECOND]
    assert [steady.phi(t) for t in times] == sorted(steady.phi(t) for t in times)
    assert steady.phi(SECOND) == pytest.approx(math.log10(2))
    assert steady.phi(4 * SECOND) > 8 > varying.phi(4 * SECOND)
    assert steady.phi(10**15) == 300.0, "as odd as it gets"
    assert Silence(*steady.state()).state() == steady.state()


@given(st.lists(st.integers(1, 10**12), min_size=3, max_size=20), st.floats(0.31, 299))
def test_shortest_odd_silence_is_found(samples, threshold):
    silence = Silence()
    for sample in samples:
        silence.observe(sample)
    shortest = silence.odd_after(threshold)
    assert silence.phi(shortest) > threshold >= silence.phi(shortest - 1)


def test_no_silence_is_odd_of_whom_nothing_is_known_or_where_none_may_be():
    assert Silence().odd_after(1.0) >= 2**62
    assert Silence(9, 1e9, 0.0).odd_after(300.0) >= 2**62


def test_health_falls_with_failures_and_doubt():
    assert score(0, 0.0, 8.0) == 1.0
    assert score(1, 0.0, 8.0) == 0.5
    assert score(0, 4.0, 8.0) == 0.5
    assert score(0, 9.0, 8.0) == 0.0
    assert score(10**6, 0.0, 8.0) > 0
