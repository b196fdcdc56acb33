"""Who shares a prefix: exactly, and nearly."""

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from bb_planner_kvcache.errors import BadColumn
from bb_planner_kvcache.prefixes import (
    block_hashes,
    clusters,
    near_clusters,
    prefix_ids,
    signatures,
)

sequences = st.lists(st.lists(st.integers(0, 1), max_size=9), max_size=8)


def ragged(given):
    offsets = np.cumsum([0, *map(len, given)])
    return np.array([one for each in given for one in each], np.int64), offsets


@given(sequences)
def test_blocks_are_equal_where_all_tokens_up_to_their_end_are(given):
    hashes, ends = block_hashes(*ragged(given), block=2)

    seen = {}
    for number, each in enumerate(given):
        mine = hashes[ends[number] : ends[number + 1]].tolist()
        assert len(mine) == len(each) // 2
        for at, found in enumerate(mine):
            seen.setdefault(tuple(each[: 2 * at + 2]), set()).add(found)
    assert all(len(found) == 1 for found in seen.values())
    assert len(seen) == len({one for found in seen.values() for one in found})


def test_a_chain_is_blake3_of_the_parent_and_the_tokens():
    tokens = np.arange(32)

    hashes, _ = block_hashes(tokens, np.array([0, 32]), root=b"model")

    first = blake3(blake3(b"model").digest() + tokens[:16].astype("<u4").tobytes()).digest()
    second = blake3(first + tokens[16:].astype("<u4").tobytes()).digest()
    assert hashes.tolist() == [int.from_bytes(one[:8], "little") for one in (first, second)]


@given(sequences)
def test_prefixes_are_the_first_blocks_or_all_of_a_short_one(given):
    found = prefix_ids(*ragged(given), block=2, depth=2).tolist()

    keys = [tuple(each[: min(len(each) // 2, 2) * 2 or len(each)]) for each in given]
    assert len({*zip(keys, found, strict=True)}) == len({*keys}) == len({*found})


def test_roots_set_prefixes_apart():
    given = ragged([[1] * 20])

    assert prefix_ids(*given, root=b"a") != prefix_ids(*given, root=b"b")


def test_likeness_is_that_of_the_sets():
    rng = np.random.default_rng(3)
    base = rng.integers(0, 1000, 400)
    half = base.copy()
    half[200:] = rng.integers(0, 1000, 200)
    other = rng.integers(0, 1000, 400)

    signed = signatures(*ragged([base.tolist(), half.tolist(), other.tolist()]), hashes=1024)

    def alike(one):
        return (signed[0] == signed[one]).mean()

    assert alike(1) == pytest.approx(1 / 3, abs=0.08)  # a half in common, of one and a half
    assert alike(2) < 0.05


def test_short_sequences_have_signatures_too():
    signed = signatures(*ragged([[7], [7], [8], [], [7, 8]]), hashes=8)

    assert (signed[0] == signed[1]).all()
    assert len({one.tobytes() for one in signed}) == 4
    assert not signed[3].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, ">i2"])
def test_numbers_of_any_width_and_order_are_numbers(dtype):
    tokens, offsets = ragged([[1, 2], [], [1, 2, 3, 4, 5, 6], [9]])
    strange = tokens.astype(dtype), offsets.astype(dtype)

    assert (signatures(*strange) == signatures(tokens, offsets)).all()
    assert (prefix_ids(*strange, block=2) == prefix_ids(tokens, offsets, block=2)).all()
    assert (near_clusters(*strange) == near_clusters(tokens, offsets)).all()


def test_signatures_do_not_depend_on_what_else_is_signed(monkeypatch):
    given = ragged(np.random.default_rng(2).integers(0, 9, (20, 12)).tolist())
    whole = signatures(*given)

    monkeypatch.setattr("bb_planner_kvcache.prefixes._CHUNK", 3)

    assert (signatures(*given) == whole).all()


def test_near_duplicates_meet_and_others_do_not():
    rng = np.random.default_rng(1)
    base = rng.integers(0, 50_000, 80)
    near = [base.copy() for _ in range(6)]
    for at, one in enumerate(near):
        one[-1 - at] = 60_000  # one token differs
    others = [rng.integers(0, 50_000, 80) for _ in range(20)]

    found = near_clusters(*ragged([one.tolist() for one in [*near, *others]]))

    assert found[:6].tolist() == [0] * 6
    assert found[6:].tolist() == [*range(6, 26)]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30)), max_size=40))
def test_clusters_are_connected_components(items):
    keys = np.array(items, np.int64).reshape(len(items), 3).T

    found = clusters(keys).tolist()

    expected = [*range(len(items))]
    for _ in items:
        for a, one in enumerate(items):
            for b, other in enumerate(items):
                if any(x == y for x, y in zip(one, other, strict=True)):
                    expected[a] = expected[b] = min(expected[a], expected[b])
    assert found == expected


def test_a_long_chain_is_one_cluster():
    size = 5000
    left = np.arange(size) // 2
    right = (np.arange(size) + 1) // 2 + size

    assert not clusters(np.stack([left, right])).any()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: block_hashes(np.zeros(3), np.array([0, 3])), "tokens is"),
        (lambda: block_hashes(np.zeros(3, int), np.array([0, 2])), "offsets are"),
        (lambda: block_hashes(np.zeros(3, int), np.array([0, 3, 2, 3])), "offsets are"),
        (lambda: block_hashes(np.zeros(3, int), np.zeros(0, int)), "offsets are"),
        (lambda: prefix_ids(np.array([-1]), np.array([0, 1])), "token ids are -1"),
        (lambda: prefix_ids(np.array([1 << 32]), np.array([0, 1])), "token ids are"),
        (lambda: prefix_ids(np.zeros(9, int), np.array([0, 5, 3, 9], np.uint64)), "offsets are"),
        (lambda: clusters(np.arange(3)), "keys are"),
        (lambda: block_hashes(np.zeros(3, int), np.array([0, 3]), block=0), "block is 0"),
        (lambda: prefix_ids(np.zeros(3, int), np.array([0, 3]), depth=0), "depth is 0"),
        (lambda: signatures(np.zeros(3, int), np.array([0, 3]), hashes=12), "hashes is 12"),
        (lambda: signatures(np.zeros(3, int), np.array([0, 3]), gram=0), "gram is 0"),
        (lambda: near_clusters(np.zeros(3, int), np.array([0, 3]), bands=5), "bands is 5"),
    ],
)
def test_bad_arguments_are_refused(call, text):
    with pytest.raises(BadColumn, match=text):
        call()
