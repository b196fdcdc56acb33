"""Links: what their draws look like, and that nothing else moves them."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb_sim import Link, Scenario
from bb_sim._draws import Draws
from bb_sim._links import Links
from bb_sim._peer import SkewedClock
from bb_sim._population import Population

MS = 10**6
MANY = 20_000


def links(link, clients=3, seed=1, **between):
    scenario = Scenario(links=link, between=between.get("between", {}))
    population = Population.of({"server": 1, "client": clients}, seed)
    return Links(scenario, population, Draws(seed))


def fates(link, **more):
    found = links(link, **more)
    return [found.delays(0, 1, number) for number in range(MANY)]


def test_as_many_are_lost_as_the_scenario_says():
    lost = sum(not fate for fate in fates(Link(loss=0.1)))

    assert lost == pytest.approx(0.1 * MANY, rel=0.1)


def test_as_many_arrive_twice_as_the_scenario_says():
    twice = sum(len(fate) == 2 for fate in fates(Link(duplicate=0.25)))

    assert twice == pytest.approx(0.25 * MANY, rel=0.1)


def test_even_jitter_is_even():
    delays = [delay / MS for (delay,) in fates(Link("20ms", "10ms"))]

    assert 20 <= min(delays) < 20.1
    assert 29.9 < max(delays) < 30
    assert statistics.fmean(delays) == pytest.approx(25, rel=0.01)


def test_heavy_jitter_has_the_median_and_the_tail_that_it_should():
    delays = sorted(delay / MS for (delay,) in fates(Link("20ms", "10ms", "heavy")))

    assert delays[MANY // 2] == pytest.approx(30, rel=0.05)
    assert delays[MANY * 9 // 10] == pytest.approx(110, rel=0.1)
    assert delays[-1] <= 20 + 100 * 10


def test_held_up_envelopes_are_overtaken():
    delays = [delay for (delay,) in fates(Link("20ms", reorder=0.1, reorder_by="1s"))]

    held = [delay for delay in delays if delay > 20 * MS]
    assert len(held) == pytest.approx(0.1 * MANY, rel=0.1)
    assert max(held) < 1020 * MS


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 1_000))
def test_nothing_arrives_sooner_than_was_said(source, to, number):
    rough = links(Link("5ms", "50ms", "heavy", loss=0.3, duplicate=0.5, reorder=0.5))

    soonest = rough.soonest(source, to, number)

    assert all(delay >= soonest for delay in rough.delays(source, to, number))
    assert soonest >= rough.fastest


def test_draws_of_a_link_do_not_depend_on_other_peers():
    few, many = (links(Link("5ms", "50ms"), clients=n) for n in (3, 300))

    assert [few.delays(0, 1, n) for n in range(50)] == [many.delays(0, 1, n) for n in range(50)]


def test_links_and_directions_have_draws_of_their_own():
    one = links(Link("5ms", "50ms"))

    ways = [(0, 1), (1, 0), (0, 2), (2, 0)]
    assert len({tuple(one.delays(*way, n) for n in range(20)) for way in ways}) == 4


def test_later_rules_win_field_by_field():
    between = {
        "server -> client": Link("100ms", loss=0.5),
        "server -> client[1]": Link("300ms"),
    }
    one = links(Link("10ms", "1ms"), between=between)

    assert one.between(0, 1)[:2] == (100 * MS, 1 * MS)
    assert one.between(0, 2)[:2] == (300 * MS, 1 * MS)
    assert one.between(0, 2).loss == 0.5
    assert one.between(1, 0)[:2] == (10 * MS, 1 * MS)
    assert one.fastest == 10 * MS


@given(st.integers(0, 10**10), st.integers(-(10**8), 10**8), st.integers(0, 10**13))
def test_skewed_clock_reaches_an_instant_when_it_shows_it(offset, drift, true):
    clock = SkewedClock(offset, drift)

    reached = clock.reaches(clock.shown(true))

    assert clock.shown(reached) >= clock.shown(true)
    assert reached <= true


def test_population_names_its_peers():
    population = Population.of({"server": 1, "client": 20}, 0)
    draws = Draws(0)

    assert [population.name(n) for n in (0, 1, 20)] == ["server", "client[0]", "client[19]"]
    assert population.select("server, client[2:4]", draws, "") == (0, 3, 4)
    assert population.select("client[18:]", draws, "") == (19, 20)
    part = population.select("client[25%]", draws, "")
    assert len(part) == 5
    assert set(part) <= set(range(1, 21))
    assert part != population.select("client[25%]", Draws(1), "")
    assert len(set(population.ids)) == 21
