import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bb_index_usearch import _held, bb_component
from bb_index_usearch._usearch import Usearch, UsearchConfig
from bb_index_usearch.errors import (
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
METRICS = ["l2sq", "ip", "cosine"]


def make(**config):
    return Usearch(UsearchConfig(**config), environment("index"))


def draw(count, dim=5, seed=0):
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def filled(vectors, **config):
    index = make(**config)
    index.add(CTX, vectors)
    return index


def recall(found, expected):
    pairs = zip(found[0].tolist(), expected[0].tolist(), strict=True)
    return sum(len(set(a) & set(b)) for a, b in pairs) / expected[0].size


def bits(index):
    state = index.save()
    return {name: (t.dtype, t.shape, t.tobytes()) for name, t in state.tensors.items()}, state.data


# ---- the nearest


@pytest.mark.parametrize("metric", METRICS)
@settings(deadline=None)
@given(data=st.data(), k=st.integers(1, 12))
def test_few_vectors_are_searched_exactly(metric, data, k):
    dim, coarse = data.draw(st.integers(1, 4)), st.sampled_from([-2.0, -1.0, 1.0, 2.0])

    def batch(most):
        shape = (data.draw(st.integers(0, most)), dim)
        return data.draw(arrays(np.float32, shape, elements=coarse))

    vectors, queries = batch(40), batch(5)
    found = filled(vectors, metric=metric, batch=16).search(CTX, queries, k=k)
    check_neighbours(found, exact_search(metric, vectors, queries, k))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [3, 32])
def test_recall_of_the_graph(metric, dim):
    vectors, queries = draw(2000, dim), draw(40, dim, seed=1)
    index = filled(vectors, metric=metric, batch=500)
    assert len(index._held.graph) == 2000
    found, expected = index.search(CTX, queries), exact_search(metric, vectors, queries, 10)

    assert recall(found, expected) >= 0.95
    for line in range(40):
        measured = [exact_distance(metric, queries[line], vectors[i]) for i in found[0][line]]
        assert found[1][line].tolist() == measured
        assert (found[1][line] >= expected[1][line]).all()


@pytest.mark.parametrize("metric", METRICS)
def test_recall_after_removing_and_adding(metric):
    vectors, queries = draw(2400, 16), draw(30, 16, seed=1)
    index = filled(vectors[:2000], metric=metric, batch=256)
    gone = np.arange(0, 2000, 3)
    index.remove(CTX, gone)
    index.add(CTX, vectors[2000:])
    kept = np.setdiff1d(np.arange(2400), gone)

    found = index.search(CTX, queries)

    assert not set(found[0].ravel().tolist()) & set(gone.tolist())
    assert recall(found, exact_search(metric, vectors[kept], queries, 10, kept.tolist())) >= 0.95


def test_a_graph_is_really_walked(monkeypatch):
    """Else the tests of recall would say nothing."""
    index = filled(draw(2000, 16), batch=500)
    asked = []
    monkeypatch.setattr(_held, "_look_at_all", lambda *given_: asked.append(len(given_[1])))
    assert index.search(CTX, draw(5, 16, seed=1), k=10)[0].min() >= 0
    index.search(CTX, draw(5, 16, seed=1), k=1000)
    assert asked == [0, 5]


def test_what_the_graph_misses_is_looked_for(monkeypatch):
    """A graph that names removed vectors only still gives k of the others."""
    vectors, queries = draw(500, 8), draw(3, 8, seed=1)
    index = filled(vectors, batch=100)
    index.remove(CTX, np.arange(20))
    graph = index._held.graph
    monkeypatch.setattr(graph, "candidates", lambda asked, _: [np.arange(20)] * len(asked))

    found = index.search(CTX, queries, k=5)

    check_neighbours(found, exact_search("l2sq", vectors[20:], queries, 5, range(20, 500)))


@pytest.mark.parametrize("metric", METRICS)
@settings(deadline=None, max_examples=20)
@given(st.randoms(use_true_random=False))
def test_adding_and_removing_is_that_of_a_dictionary(metric, random):
    index, stored, given_ = make(metric=metric, dim=3, batch=16), {}, 0
    for turn in range(10):
        vectors = draw(random.randrange(60), 3, seed=random.randrange(1 << 20))
        ids = index.add(CTX, vectors).tolist()
        assert ids == list(range(given_, given_ + len(vectors)))
        given_ += len(vectors)
        stored.update(zip(ids, vectors, strict=True))
        gone = random.sample(sorted(stored), random.randrange(len(stored) + 1))
        index.remove(CTX, np.array(gone, np.int64))
        for i in gone:
            del stored[i]
        k = len(stored) + 1  # so many that all are looked at
        expected = exact_search(
            metric, list(stored.values()), draw(2, 3, seed=turn), k, list(stored)
        )
        check_neighbours(index.search(CTX, draw(2, 3, seed=turn), k=k), expected)


def test_equal_vectors_are_found():
    index = filled(np.repeat(draw(1, 40), 500, axis=0), batch=100)
    ids, distances = index.search(CTX, draw(3, 40, seed=1), k=20)
    assert all(len(set(line)) == 20 for line in ids.tolist())
    assert (distances == distances[:, :1]).all()


@pytest.mark.parametrize("metric", METRICS)
def test_longest_vectors_have_finite_distances(metric):
    length = 2.0**31 if metric == "cosine" else 2.0**62
    vectors = np.array([[length], [-length]] * 200, np.float32)
    index = filled(vectors, metric=metric, batch=100)
    ids, distances = index.search(CTX, vectors[:2], k=3)
    assert np.isfinite(distances).all()
    assert (ids[0] % 2 == 0).all()
    assert (ids[1] % 2 == 1).all()


def test_shortest_vectors_have_a_cosine():
    vectors = (draw(400, 6) / np.linalg.norm(draw(400, 6), axis=1)[:, None]).astype(np.float32)
    short = (vectors * np.float32(2.0**-30)).astype(np.float32)
    index = filled(short, metric="cosine", batch=100)
    ids, _ = index.search(CTX, vectors, k=1)
    assert np.mean(ids[:, 0] == np.arange(400)) >= 0.99


def test_l2_is_read_as_in_index_flat():
    vectors = draw(300)
    assert bits(filled(vectors, metric="l2")) == bits(filled(vectors))


# ---- one index for one history


@settings(deadline=None, max_examples=20)
@given(cuts=st.lists(st.integers(0, 400), max_size=8), moved=st.integers(0, 9))
def test_cuts_and_snapshots_leave_no_trace(cuts, moved):
    """The same vectors in other calls, saved and loaded in between, give the same bytes."""
    vectors = draw(400, 6)
    whole = filled(vectors, batch=32)
    places = [0, *sorted(cuts), 400]
    parts = make(batch=32)
    for at, (start, stop) in enumerate(pairwise(places)):
        parts.add(CTX, vectors[start:stop])
        if at == moved:
            loaded = make(batch=32)
            loaded.load(parts.save())
            parts = loaded

    assert bits(parts) == bits(whole)


def test_a_loaded_index_goes_on_as_the_first():
    first = filled(draw(700, 6), batch=64)
    first.remove(CTX, np.arange(0, 700, 4))
    second = make(batch=64)
    second.load(first.save())
    for index in (first, second):
        index.add(CTX, draw(333, 6, seed=2))
        index.remove(CTX, np.arange(1, 700, 2))
        index.add(CTX, draw(99, 6, seed=3))

    assert bits(first) == bits(second)
    queries = draw(9, 6, seed=4)
    check_neighbours(first.search(CTX, queries), second.search(CTX, queries))


def test_memory_of_removed_vectors_is_given_back():
    index = filled(draw(1000, 8), batch=50)
    index.remove(CTX, np.arange(900))
    assert len(index._held.graph) <= 100
    assert index.add(CTX, draw(1, 8)).tolist() == [1000]


def test_an_id_may_be_named_twice_in_one_removal():
    index = filled(draw(20), batch=16)
    index.remove(CTX, np.array([2, 2, 0, 18, 18]))
    assert index.search(CTX, draw(1), k=20)[0].tolist()[0].count(-1) == 3


def test_first_vectors_fix_the_dimension():
    index = make()
    assert index.search(CTX, draw(2, 9), k=1)[0].tolist() == [[-1], [-1]]
    assert index.add(CTX, draw(0, 9)).tolist() == []
    index.add(CTX, draw(1, 3))
    with pytest.raises(VectorMismatch, match=r"float32\[1, 9\]") as caught:
        index.add(CTX, draw(1, 9))
    assert caught.value.expected == "real numbers of shape [n, 3]"


# ---- what is refused


@pytest.mark.parametrize(
    ("value", "metric", "found"),
    [
        (np.nan, "l2sq", "vector 1 holds nan"),
        (-np.inf, "ip", "vector 1 holds -inf"),
        (1e300, "l2sq", r"vector 1 has length 1e\+300"),
        (2.0**63, "l2sq", r"vector 1 has length 9.22e\+18"),
        (2.0**32, "cosine", r"vector 1 has length 4.29e\+09"),
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


def signalling(count, dim=5):
    """Return vectors with a NaN that processors warn of; such bytes come from damage."""
    vectors = draw(count, dim)
    vectors.view(np.uint32)[0, 0] = 0x7F800001
    return vectors


@pytest.mark.parametrize(
    "config",
    [
        {"dim": 0},
        {"dim": (1 << 16) + 1},
        {"metric": "l1"},
        {"connectivity": 1},
        {"connectivity": 257},
        {"expansion_add": 0},
        {"expansion_search": 1 << 20},
        {"batch": 15},
    ],
)
def test_configuration_out_of_range_is_refused(config):
    with pytest.raises(InvalidSetting, match=f"{next(iter(config))} is"):
        make(**config)
    with pytest.raises(ConfigError):
        build_config(Usearch.Config, config, "index")


def test_every_error_is_one_of_ours_and_a_value_error():
    for kind in (InvalidSetting, StateMismatch, UnknownId, VectorMismatch, VectorOutOfRange):
        assert issubclass(kind, BytesAndBrainsError)
        assert issubclass(kind, ValueError)


# ---- state


def test_a_state_without_vectors_empties_the_index():
    for saved in (State(), make().save(), make(dim=5).save()):
        index = filled(draw(3))
        index.load(saved)
        assert index.search(CTX, draw(1), k=1)[0].tolist() == [[-1]]
        assert index.add(CTX, draw(1)).tolist() == [0]


def with_nan(graph):
    graph[8:12] = np.frombuffer(b"\x01\x00\x80\x7f", np.uint8)
    return graph


def changed(**parts):
    """Return a state of 48 vectors in the graph and 2 besides, with something else in it."""
    state = filled(draw(50), batch=16).save()
    tensors = {**state.tensors, **{k: v for k, v in parts.items() if isinstance(v, np.ndarray)}}
    data = {k: v for k, v in parts.items() if k not in tensors}
    return State({k: v for k, v in tensors.items() if v.size}, {**state.data, **data})


@pytest.mark.parametrize(
    "state",
    [
        changed(metric="ip"),
        changed(connectivity=8),
        changed(vectors=draw(2, 4)),
        changed(vectors=draw(2).astype("f8")),
        changed(vectors=draw(10).ravel()),
        changed(vectors=np.full((2, 5), np.nan, np.float32)),
        changed(vectors=signalling(2)),
        changed(graph=with_nan(filled(draw(48), batch=16).save().tensors["graph"])),
        changed(ids=np.array([48])),
        changed(ids=np.array([48.0, 49.0])),
        changed(ids=np.array([49, 48])),
        changed(ids=np.array([47, 48])),
        changed(ids=np.array([48, 50])),
        changed(ids=np.array([], np.int64)),
        changed(labels=np.arange(1, 49)),
        changed(labels=np.arange(47)),
        changed(labels=np.array([], np.int64)),
        changed(alive=np.ones(48)),
        changed(alive=np.array([], np.bool_)),
        changed(graph=np.zeros(7, np.uint8)),
        changed(graph=np.zeros(7000, np.uint8)),
        changed(graph=np.zeros((9, 9), np.uint8)),
        changed(graph=np.zeros(9)),
        changed(graph=filled(draw(32, 4), batch=16).save().tensors["graph"]),
        changed(graph=filled(draw(48), batch=16, metric="ip").save().tensors["graph"]),
        changed(graph=filled(draw(48), batch=16, connectivity=8).save().tensors["graph"]),
        changed(graph=filled(draw(64), batch=16).save().tensors["graph"]),
        changed(next_id=None),
        changed(next_id=2.5),
        changed(next_id=49),
    ],
)
def test_a_damaged_state_is_refused_whole(state):
    index = filled(draw(7, seed=4), dim=5)
    with pytest.raises(StateMismatch, match="the saved state does not fit"):
        index.load(state)
    assert index.add(CTX, draw(1)).tolist() == [7]


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_no_damaged_graph_reaches_the_library(data):
    """Cut, lengthened or with other bytes: refused, or a sound graph that can be searched."""
    state = STATE
    graph = state.tensors["graph"].copy()
    for at in data.draw(st.lists(st.integers(0, len(graph) - 1), max_size=4)):
        graph[at] = data.draw(st.integers(0, 255))
    stop = data.draw(st.one_of(st.just(len(graph)), st.integers(0, len(graph) + 20)))
    graph = np.resize(graph, stop) if stop else graph[:0]
    index = make(batch=16)
    try:
        index.load(State({**state.tensors, "graph": graph}, state.data))
    except StateMismatch:
        return
    ids, _ = index.search(CTX, draw(5), k=3)
    assert ((ids >= 0) & (ids < 120)).all()


STATE = filled(draw(120), batch=16).save()


@pytest.mark.parametrize("what", ["neighbour", "count", "level", "entry", "highest"])
def test_an_edge_to_nowhere_is_refused(what):
    """Each would make the library read memory that is not its own."""
    graph = STATE.tensors["graph"].copy()
    head = 8 + 112 * 20
    nodes = head + 64 + 40 + 2 * 112
    at, size = {
        "neighbour": (nodes + 14, 4),
        "count": (nodes + 10, 4),
        "level": (nodes + 8, 2),
        "entry": (head + 64 + 32, 8),
        "highest": (head + 64 + 24, 8),
    }[what]
    graph[at : at + size] = np.frombuffer((5000).to_bytes(size, "little"), np.uint8)
    with pytest.raises(StateMismatch, match="in its graph"):
        make(batch=16).load(State({**STATE.tensors, "graph": graph}, STATE.data))


def test_a_closed_index_holds_nothing():
    index = filled(draw(3))
    index.close()
    assert index._held is None


# ---- the plugin


def test_the_plugin_declares_the_class_and_imports_nothing_heavy():
    assert component_class(bb_component()) is Usearch
    code = (
        "import sys, bb_index_usearch; sys.exit('numpy' in sys.modules or 'usearch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_readme_runs():
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102


def test_the_configuration_is_checked_by_the_contract():
    config = build_config(Usearch.Config, {"dim": 8, "metric": "cosine"}, "index")
    assert config == UsearchConfig(8, "cosine")


@pytest.mark.parametrize("first", ["usearch.index", "onnxruntime"])
def test_library_can_be_imported_beside_onnxruntime(first):
    """Some versions end the process when the other one is imported after them."""
    pytest.importorskip("onnxruntime")
    second = {"usearch.index": "onnxruntime", "onnxruntime": "usearch.index"}[first]
    command = [sys.executable, "-c", f"import {first}, {second}"]

    assert subprocess.run(command, check=False).returncode == 0  # ours
