import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bb_index_flat import _search, bb_component
from bb_index_flat._flat import Flat, FlatConfig
from bb_index_flat.errors import (
    InvalidSetting,
    StateMismatch,
    UnknownId,
    VectorMismatch,
    VectorOutOfRange,
)
from bb_ir.errors import BytesAndBrainsError
from bb_roles import State
from bb_roles.config import build_config
from bb_roles.errors import ConfigError
from bb_roles.registry import component_class
from bb_testing.context import FakeContext, environment
from bb_testing.neighbours import check_neighbours, exact_distance, exact_search

CTX = FakeContext()
METRICS = ["l2", "ip", "cosine"]


def make(**config):
    return Flat(FlatConfig(**config), environment("index"))


def draw(count, dim=5, seed=0):
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def filled(vectors, **config):
    index = make(**config)
    index.add(CTX, vectors)
    return index


# ---- the nearest


# Few different values, so that distances are often equal; and values of every size.
coarse = st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0])
wild = st.floats(-(2.0**60), 2.0**60, width=32)


@pytest.mark.parametrize("metric", METRICS)
@settings(deadline=None)
@given(data=st.data(), k=st.integers(1, 12), elements=st.sampled_from([coarse, wild]))
def test_search_is_that_of_a_naive_one_bit_for_bit(metric, data, k, elements):
    dim = data.draw(st.integers(1, 4))

    def batch(most):
        shape = (data.draw(st.integers(0, most)), dim)
        drawn = data.draw(arrays(np.float32, shape, elements=elements))
        drawn[(drawn.astype("f8") ** 2).sum(axis=1) < 2.0**-100] = 1.0  # no direction
        return drawn

    vectors, queries = batch(20), batch(5)
    found = filled(vectors, metric=metric).search(CTX, queries, k=k)
    check_neighbours(found, exact_search(metric, vectors, queries, k))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [1, 3, 8, 130])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_search_over_many_blocks_is_that_of_a_naive_one(metric, dim, offset, monkeypatch):
    monkeypatch.setattr(_search, "_PAIRS", 64)
    monkeypatch.setattr(_search, "_QUERIES", 4)
    monkeypatch.setattr(_search, "_ELEMENTS", 300)
    vectors, queries = draw(300, dim) + np.float32(offset), draw(10, dim, seed=1)
    vectors[100:110] = vectors[200:210]
    found = filled(vectors, metric=metric).search(CTX, queries, k=7)
    check_neighbours(found, exact_search(metric, vectors, queries, 7))


@pytest.mark.parametrize("metric", METRICS)
@settings(deadline=None)
@given(st.randoms(use_true_random=False))
def test_adding_and_removing_is_that_of_a_dictionary(metric, random):
    index, stored, given_ = make(metric=metric, dim=3), {}, 0
    for turn in range(12):
        vectors = draw(random.randrange(60), 3, seed=random.randrange(1 << 20))
        ids = index.add(CTX, vectors).tolist()
        assert ids == list(range(given_, given_ + len(vectors)))
        given_ += len(vectors)
        stored.update(zip(ids, vectors, strict=True))
        gone = random.sample(sorted(stored), random.randrange(len(stored) + 1))
        index.remove(CTX, np.array(gone, np.int64))
        for i in gone:
            del stored[i]
        queries = draw(3, 3, seed=turn)
        expected = exact_search(metric, list(stored.values()), queries, 5, list(stored))
        check_neighbours(index.search(CTX, queries, k=5), expected)


@pytest.mark.parametrize("metric", METRICS)
def test_equal_distances_come_in_the_order_of_ids(metric):
    index = filled(np.repeat(draw(1, 40), 500, axis=0), metric=metric)
    ids, distances = index.search(CTX, draw(3, 40, seed=1), k=20)
    assert ids.tolist() == [list(range(20))] * 3
    assert (distances == distances[:, :1]).all()


@pytest.mark.parametrize("metric", METRICS)
def test_distance_of_a_pair_depends_on_nothing_else(metric):
    vectors, queries = draw(700, 67), draw(40, 67, seed=1)
    ids, distances = filled(vectors, metric=metric).search(CTX, queries, k=700)
    for query in (0, 17, 39):
        for place in (0, 1, 350, 699):
            vector = vectors[ids[query, place]]
            alone = filled(vector[None], metric=metric).search(CTX, queries[[query]], k=1)[1]
            assert (
                alone[0, 0]
                == distances[query, place]
                == exact_distance(metric, queries[query], vector)
            )


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [1, 64, 1000])
@settings(deadline=None)
@given(scale=st.sampled_from([2.0**-40, 1e-6, 1.0, 1e6, 2.0**50]), offset=st.floats(-4, 4))
@example(scale=2.0**50, offset=4.0)
def test_no_bound_is_above_its_distance(metric, dim, scale, offset):
    """Pairs are passed over by this bound, so a single one too high would lose a neighbour."""
    vectors = ((draw(50, dim) + offset) * scale).astype(np.float32)
    queries = ((draw(9, dim, seed=1) + offset) * scale * 3).astype(np.float32)
    # An offset can bring a short vector to nearly nothing, which has no direction.
    shortest = min(
        (block.astype(np.float64) ** 2).sum(axis=1).min() for block in (vectors, queries)
    )
    assume(metric != "cosine" or shortest >= 2.0**-99)
    index = filled(vectors, metric=metric)
    block, of = index._store.rows, _search._Queries(queries, metric)
    bounds = of.lower_bounds(block)
    for column in range(50):
        best = _search._Best(9, 1)
        lines = np.arange(9)
        best.distances[:, 0] = of.distances(block, lines, np.full(9, column))
        assert (bounds[:, [column]] <= of.limits(best)).all()


def test_distances_of_each_metric_are_those_of_the_documentation():
    vectors = np.array([[3, 4], [0, 2], [-1, 0]], np.float32)
    query = np.array([[0, 1]], np.float32)
    expected = {
        "l2": ([1, 2, 0], [1, 2, 18]),
        "ip": ([0, 1, 2], [-4, -2, 0]),
        "cosine": ([1, 0, 2], [0, np.float32(1 - 4 / 5), 1]),
    }
    for metric, (ids, distances) in expected.items():
        found = filled(vectors, metric=metric).search(CTX, query, k=3)
        assert found[0].tolist() == [ids]
        assert found[1].tolist() == [distances]


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_a_vector_is_at_distance_zero_from_itself(metric):
    vectors = draw(200, 33) * 7
    ids, distances = filled(vectors, metric=metric).search(CTX, vectors, k=1)
    assert ids[:, 0].tolist() == list(range(200))
    assert (distances == 0).all()


def test_longest_vectors_have_finite_distances():
    vectors = np.array([[2.0**62], [-(2.0**62)]], np.float32)
    for metric in METRICS:
        _, distances = filled(vectors, metric=metric).search(CTX, vectors, k=2)
        assert np.isfinite(distances).all()


def test_a_zero_query_has_equal_products_with_all():
    ids, distances = filled(draw(9), metric="ip").search(CTX, np.zeros((1, 5)), k=3)
    assert ids.tolist() == [[0, 1, 2]]
    assert str(distances[0, 0]) == "0.0"


def test_memory_of_a_search_does_not_grow_with_the_vectors():
    queries = draw(300, 16, seed=1)

    def peak(count):
        index = filled(draw(count, 16))
        tracemalloc.start()
        index.search(CTX, queries, k=10)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    assert peak(80_000) < 1.5 * peak(20_000)


def test_all_ties_take_bounded_memory():
    index = filled(np.ones((30_000, 4), np.float32))
    tracemalloc.start()
    index.search(CTX, np.ones((64, 4), np.float32), k=3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200 << 20  # all pairs at once would be some 120 bytes for each of 1.9 million


# ---- deferred searches


def search_later(index, queries, **how):
    context = FakeContext(keeps=True)
    index.search(context, queries, **how)
    return context.works


def test_searches_above_the_limit_are_deferred():
    """Queries times vectors times length decide, those of removed vectors included."""
    queries, vectors = draw(3), draw(40)
    assert len(search_later(filled(vectors, defer_above=3 * 40 * 5 - 1), queries)) == 1
    assert search_later(filled(vectors, defer_above=3 * 40 * 5), queries) == []
    assert search_later(filled(vectors, defer_above=None), queries) == []
    assert search_later(filled(vectors), queries) == []


def test_a_deferred_search_sees_the_vectors_as_they_were():
    vectors, queries = draw(500), draw(4, seed=1)
    index = filled(vectors, defer_above=0)
    expected = index.search(CTX, queries, k=7)
    works = [search_later(index, queries, k=7)[0] for _ in range(2)]
    index.add(CTX, queries)
    works[0].run()
    index.remove(CTX, np.arange(450))  # so many that what is left is moved
    index.add(CTX, draw(1000, seed=3))
    works[1].run()
    index.close()

    for work in works:
        for part, own in zip(work.result(), expected, strict=True):
            assert part.tobytes() == own.tobytes()


def test_bad_queries_are_refused_before_anything_is_deferred():
    index = filled(draw(9), defer_above=0)
    with pytest.raises(VectorMismatch):
        search_later(index, draw(2, 7))
    with pytest.raises(InvalidSetting):
        search_later(index, draw(2), k=0)


# ---- the store


def test_vectors_are_moved_seldom_as_they_are_added():
    index, places = make(dim=2), set()
    for _ in range(1000):
        index.add(CTX, draw(1, 2))
        places.add(index._store.rows.vectors.ctypes.data)
    assert len(places) < 12


def test_memory_of_removed_vectors_is_given_back():
    index = filled(draw(10_000, 8))
    index.remove(CTX, np.arange(0, 10_000 - 10))
    assert len(index._store.rows) < 1000
    assert index.add(CTX, draw(1, 8)).tolist() == [10_000]


def test_an_id_may_be_named_twice_in_one_removal():
    index = filled(draw(4))
    index.remove(CTX, np.array([2, 2, 0]))
    assert index.search(CTX, draw(1), k=4)[0].tolist()[0].count(-1) == 2


def test_first_vectors_fix_the_dimension():
    index = make()
    assert index.search(CTX, draw(2, 9), k=1)[0].tolist() == [[-1], [-1]]
    assert index.add(CTX, draw(0, 9)).tolist() == []
    index.add(CTX, draw(1, 3))
    with pytest.raises(VectorMismatch, match=r"float32\[1, 9\]") as caught:
        index.add(CTX, draw(1, 9))
    assert caught.value.expected == "real numbers of shape [n, 3]"


def test_refused_vectors_do_not_fix_the_dimension():
    index = make()
    with pytest.raises(VectorOutOfRange):
        index.add(CTX, np.full((1, 9), np.nan))
    assert index.add(CTX, draw(1, 3)).tolist() == [0]


# ---- what is refused


@pytest.mark.parametrize(
    ("value", "metric", "found"),
    [
        (np.nan, "l2", "vector 1 holds nan"),
        (-np.inf, "ip", "vector 1 holds -inf"),
        (1e300, "l2", "vector 1 has length 1e\\+300"),
        (2.0**63, "cosine", "vector 1 has length 9.22e\\+18"),
        (0.0, "cosine", "vector 1 has length 0"),
        (1e-20, "cosine", "vector 1 has length 1e-20"),
    ],
)
def test_vectors_that_cannot_be_measured_are_refused(value, metric, found):
    vectors = np.array([[1.0, 0.0], [value, 0.0]])
    index = make(metric=metric)
    for call in (index.add, index.search):
        with pytest.raises(VectorOutOfRange, match=found):
            call(CTX, vectors)


@pytest.mark.parametrize(
    "config", [{"dim": 0}, {"dim": (1 << 20) + 1}, {"metric": "l1"}, {"defer_above": -1}]
)
def test_configuration_out_of_range_is_refused(config):
    with pytest.raises(InvalidSetting):
        make(**config)
    with pytest.raises(ConfigError):
        build_config(Flat.Config, config, "index")


def test_every_error_is_one_of_ours_and_a_value_error():
    for kind in (InvalidSetting, StateMismatch, UnknownId, VectorMismatch, VectorOutOfRange):
        assert issubclass(kind, BytesAndBrainsError)
        assert issubclass(kind, ValueError)


# ---- state


def test_a_state_without_vectors_empties_the_index():
    for saved in (State(), make().save()):
        index = filled(draw(3))
        index.load(saved)
        assert index.search(CTX, draw(1), k=1)[0].tolist() == [[-1]]
        assert index.add(CTX, draw(1, 2)).tolist() == [0]


def changed(**parts):
    state = filled(draw(3)).save()
    tensors = {**state.tensors, **{k: v for k, v in parts.items() if isinstance(v, np.ndarray)}}
    data = {k: v for k, v in parts.items() if k not in tensors}
    return State({k: v for k, v in tensors.items() if v.size}, {**state.data, **data})


@pytest.mark.parametrize(
    "state",
    [
        changed(metric="ip"),
        changed(vectors=draw(3, 4)),
        changed(vectors=draw(3).astype("f8")),
        changed(vectors=draw(15).ravel()),
        changed(vectors=np.full((3, 5), np.nan, np.float32)),
        changed(ids=np.array([0, 1])),
        changed(ids=np.array([0.0, 1.0, 2.0])),
        changed(ids=np.array([0, 2, 1])),
        changed(ids=np.array([0, 1, 1])),
        changed(ids=np.array([-1, 1, 2])),
        changed(ids=np.array([0, 1, 3])),
        changed(ids=np.array([], np.int64)),
        changed(next_id=None),
        changed(next_id=2.5),
    ],
)
def test_a_damaged_state_is_refused_whole(state):
    index = filled(draw(7, seed=4), dim=5)
    with pytest.raises(StateMismatch, match="the saved state does not fit"):
        index.load(state)
    assert index.add(CTX, draw(1)).tolist() == [7]


def test_a_closed_index_holds_nothing():
    index = filled(draw(3))
    index.close()
    assert index._store is None


# ---- the plugin


def test_the_plugin_declares_the_class_and_imports_nothing_heavy():
    assert component_class(bb_component()) is Flat
    code = "import sys, bb_index_flat; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_configuration_is_checked_by_the_contract():
    config = build_config(Flat.Config, {"dim": 8, "metric": "cosine"}, "index")
    assert config == FlatConfig(8, "cosine")
