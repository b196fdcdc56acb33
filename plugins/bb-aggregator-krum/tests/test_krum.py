import importlib.util
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bb_aggregator_krum._distances import squared_distances
from bb_aggregator_krum._krum import Krum, KrumConfig
from bb_aggregator_krum.errors import InvalidSetting, TooFewUpdates, UpdateOutOfRange
from bb_ir.params import ParameterSet
from bb_testing.context import FakeContext, environment, peer_id

CTX = FakeContext()
ENGINES = ["numpy", *(["numba"] if importlib.util.find_spec("numba") else [])]


def params(vector, dtype="float32"):
    return ParameterSet.from_tensors({"w": np.array(vector, dtype)})


def krum(vectors, dtype="float32", **config):
    rule = Krum(KrumConfig(**config), environment("aggregator"))
    for vector in vectors:
        rule.contribute(CTX, params(vector, dtype), {"examples": 1})
    return rule.aggregate(CTX)[0]["w"]


def exact_distances(vectors):
    """From exact arithmetic, rounded once."""
    exact = [[Fraction(float(x)) for x in vector] for vector in vectors]
    return np.array(
        [
            [float(sum((a - b) ** 2 for a, b in zip(one, other, strict=True))) for other in exact]
            for one in exact
        ]
    )


def chosen(vectors, attackers, select):
    """The rule as the paper says it: positions by score."""
    far = exact_distances(vectors)
    closest = len(vectors) - attackers - 2
    scores = [sum(sorted(np.delete(row, at))[:closest]) for at, row in enumerate(far)]
    return sorted(sorted(range(len(vectors)), key=scores.__getitem__)[:select])


# ---- distances


scales = st.sampled_from([1.0, 1e-6, 1e6, 1e12, 1e30])
near = st.lists(st.floats(-10, 10, width=32), min_size=4, max_size=4)


@pytest.mark.parametrize("engine", ENGINES)
@given(st.lists(st.tuples(near, scales), min_size=1, max_size=7))
@example([([1.0] * 4, 1.0)] * 3)
@example([([1.0] * 4, 1e30), ([1.0] * 4, 1e-6), ([2.0] * 4, 1e-6), ([1.0] * 4, 1e12)])
@settings(deadline=None)  # the first example compiles
def test_distances_are_right_however_far_some_are(engine, parts):
    vectors = [np.array(vector) * scale for vector, scale in parts]
    found = squared_distances([vectors], len(vectors), engine)
    expected = exact_distances(vectors).reshape(len(vectors), len(vectors))
    assert (found == found.T).all()
    assert np.allclose(found, expected, rtol=2.0**-28, atol=0.0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [1, 255, 257, 70_001])
def test_distances_over_blocks_and_dtypes_add_up(engine, size):
    generator = np.random.default_rng(0)
    floats = list(generator.normal(size=(7, size)).astype("f4"))
    whole = list(generator.integers(-5, 5, (7, size)))
    found = squared_distances([floats, whole], 7, engine)
    for one in range(7):
        for other in range(7):
            apart = floats[one].astype("f8") - floats[other]
            expected = (apart**2).sum() + ((whole[one] - whole[other]) ** 2).sum()
            assert math.isclose(found[one, other], expected, rel_tol=2.0**-28)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", [3, 1000])
def test_short_floats_and_a_vector_that_is_alone(engine, size):
    generator = np.random.default_rng(0)
    vectors = list(generator.normal(size=(4, size)).astype("f2"))
    wide = [vector.astype("f8") for vector in vectors]
    found = squared_distances([vectors], 4, engine)
    assert np.allclose(found, squared_distances([wide], 4, engine), rtol=2.0**-28, atol=0.0)
    assert squared_distances([vectors[:1]], 1, engine).tolist() == [[0.0]]


@pytest.mark.parametrize("engine", ENGINES)
def test_no_vectors_have_no_distance(engine):
    assert squared_distances([], 3, engine).tolist() == [[0.0] * 3] * 3


# ---- the rule


@given(
    st.lists(
        st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3), min_size=5, max_size=9
    ),
    st.integers(0, 1),
    st.integers(1, 4),
)
def test_it_chooses_as_the_paper_says(vectors, attackers, select):
    closest = len(vectors) - attackers - 2
    far = exact_distances(np.array(vectors, "f4"))
    scores = sorted(sum(sorted(np.delete(row, at))[:closest]) for at, row in enumerate(far))
    if scores[select - 1] > scores[select] * (1 - 1e-6):
        return  # a tie, or nearly one
    best = chosen(np.array(vectors, "f4"), attackers, select)
    expected = np.mean([np.array(vectors[at], "f4").astype("f8") for at in best], axis=0)
    found = krum(vectors, attackers=attackers, select=select)
    assert np.allclose(found, expected.astype("f4"), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("spread", [1e-2, 1e-5])
def test_it_tells_updates_apart_that_are_nearly_equal(seed, spread):
    generator = np.random.default_rng(seed)
    base = generator.normal(size=2000)
    # How far each is from the base differs, so that scores do, too.
    vectors = [(base + spread * (1 + at / 5) * generator.normal(size=2000)) for at in range(9)]
    vectors = [vector.astype("f4") for vector in vectors]
    [best] = chosen([v[:200] for v in vectors], 2, 1)
    assert (krum([v[:200] for v in vectors], attackers=2) == vectors[best][:200]).all()


def chosen_in_long_double(vectors, attackers, select):
    """The same rule, quick enough for long vectors, with 11 bits more than a binary64."""
    wide = [vector.astype(np.longdouble) for vector in vectors]
    far = np.array([[np.sum((one - other) ** 2) for other in wide] for one in wide])
    closest = len(vectors) - attackers - 2
    scores = [np.sum(np.sort(np.delete(row, at))[:closest]) for at, row in enumerate(far)]
    return sorted(sorted(range(len(vectors)), key=scores.__getitem__)[:select])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("lie", [None, 1e3, 1e6, 1e30])
@pytest.mark.parametrize("spread", [1e-3, 1e-5, 1e-6])
@pytest.mark.parametrize("size", [300, 5_000, 70_000])
def test_liars_of_any_scale_leave_the_honest_their_digits(engine, lie, spread, size):
    generator = np.random.default_rng(size)
    for select in (1, 3):
        base = generator.normal(size=size)
        vectors = base * (1 + spread * generator.normal(size=(11, size)))
        if lie is not None:
            # One of them sorts before all others, and one behind: either may be the origin.
            vectors[2], vectors[7] = -lie * abs(generator.normal(size=size)), lie
        vectors = vectors.astype("f4")
        best = chosen_in_long_double(vectors, 3, select)
        expected = np.mean(vectors[best].astype("f8"), axis=0).astype("f4")
        found = krum(vectors, attackers=3, select=select, engine=engine)
        assert np.allclose(found, expected, rtol=2e-7, atol=0.0), (engine, lie, spread, size)


@pytest.mark.parametrize("lie", [1e6, 1e30, -3e38])
@pytest.mark.parametrize("place", [0, 8])
def test_a_distant_attacker_does_not_hide_one_that_is_near(lie, place):
    generator = np.random.default_rng(1)
    honest = [(1 + 1e-4 * generator.normal(size=50)).astype("f4") for _ in range(7)]
    close = np.full(50, 1.01, "f4")  # outside of the honest, though near as seen from the liar
    vectors = [*honest, close]
    vectors.insert(place, np.full(50, lie, "f4"))
    [best] = chosen(vectors, 2, 1)
    found = krum(vectors, attackers=2)
    assert (found == vectors[best]).all()
    assert any((found == one).all() for one in honest)


@given(
    st.lists(st.lists(st.integers(-2, 2), min_size=2, max_size=2), min_size=5, max_size=9),
    st.integers(1, 4),
    st.randoms(),
)
def test_ties_do_not_depend_on_the_order_of_arrival(vectors, select, random):
    def run(order):
        rule = Krum(KrumConfig(select=select), environment("aggregator"))
        for at, vector in order:
            rule.contribute(CTX, params(vector), {"examples": at + 1, "loss": at / 3})
        return rule.aggregate(CTX)

    numbered = list(enumerate(vectors))
    shuffled = list(numbered)
    random.shuffle(shuffled)
    assert run(numbered) == run(shuffled)


def test_the_summary_speaks_of_those_that_were_selected():
    rule = Krum(KrumConfig(attackers=1, select=2), environment("aggregator"))
    for at, value in enumerate([1.0, 2.0, 3.0, 4.0, 1e9]):
        metrics = {"examples": at + 1, "loss": value, "selected": 7.0}
        rule.contribute(CTX, params([value]), metrics)
    result, summary = rule.aggregate(CTX)
    assert result["w"].tolist() == [2.5]
    assert summary == {"count": 5, "examples": 15, "selected": 2, "loss": (2 * 2 + 3 * 3) / 5}


def test_integers_and_bools_of_the_selected_get_the_exact_mean():
    rule = Krum(KrumConfig(attackers=0, select=3), environment("aggregator"))
    for value in (1, 2, 4):
        tensors = {"i": np.array([value], np.uint8), "b": np.array([value > 1, value > 2])}
        rule.contribute(CTX, ParameterSet.from_tensors(tensors), {"examples": 1})
    result, _ = rule.aggregate(CTX)
    assert result["i"].tolist() == [2]
    assert result["b"].tolist() == [True, False]


def test_equal_updates_give_themselves():
    assert krum([[1.1, -2.2]] * 5, select=4).tolist() == np.array([1.1, -2.2], "f4").tolist()


# ---- what is refused


@pytest.mark.parametrize(
    ("config", "count", "needed"),
    [({}, 4, 5), ({"attackers": 0}, 2, 3), ({"attackers": 3}, 8, 9), ({"select": 6}, 6, 7)],
)
def test_too_few_updates_are_refused_and_more_may_come(config, count, needed):
    rule = Krum(KrumConfig(**config), environment("aggregator"))
    for at in range(count):
        rule.contribute(CTX, params([at]), {"examples": 1})
    with pytest.raises(TooFewUpdates, match=f"{count} updates") as caught:
        rule.aggregate(CTX)
    assert f"at least {needed}" in str(caught.value)
    rule.contribute(CTX, params([7]), {"examples": 1})
    assert rule.aggregate(CTX)[1]["count"] == needed


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_value_that_is_not_finite_is_refused_whoever_looks(engine, value):
    rule = Krum(KrumConfig(engine=engine), environment("aggregator"))
    vector = np.zeros(1000)
    vector[999] = value
    with pytest.raises(UpdateOutOfRange, match=rf"tensor 'w' .*{peer_id(2)} holds"):
        rule.contribute(FakeContext(sender=peer_id(2)), params(vector), {"examples": 1})


@pytest.mark.parametrize("value", [2.0**451, -(2.0**451)])
def test_a_value_whose_square_is_too_large_is_refused(value):
    rule = Krum(KrumConfig(), environment("aggregator"))
    with pytest.raises(UpdateOutOfRange, match=str(peer_id(2))):
        rule.contribute(
            FakeContext(sender=peer_id(2)), params([1.0, value], "float64"), {"examples": 1}
        )


def test_the_largest_value_that_is_taken_has_a_distance():
    vectors = [[2.0**450], [-(2.0**450)], [1.0], [1.5], [1.75]]
    assert krum(vectors, "float64", attackers=1).tolist() == [1.5]


@pytest.mark.parametrize(
    "config",
    [{"attackers": -1}, {"attackers": 2, "cohort": 6}, {"select": 0}, {"select": 5, "cohort": 5}],
)
def test_settings_that_no_cohort_fulfils_are_refused(config):
    with pytest.raises(InvalidSetting, match=r"(attackers|select) is"):
        KrumConfig(**config)
