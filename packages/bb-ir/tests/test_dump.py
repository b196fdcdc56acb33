"""State that is written down comes back as it was, or not at all."""

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb_ir.dump import dump, load
from bb_ir.errors import DumpError
from bb_ir.params import ParameterSet
from bb_testing.strategies import peer_ids, tensors


class Pair(NamedTuple):
    left: Any
    right: Any


KINDS = {"pair": Pair}
ARRAYS = tensors(finite=False)
PEERS = peer_ids()
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
LEAVES = PLAIN | ARRAYS | PEERS
KEYS = st.text() | st.integers() | st.booleans() | PEERS
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.tuples(inner, inner).map(lambda two: Pair(*two))
    ),
    max_leaves=20,
)


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, float):
        return a.hex() == b.hex() if not math.isnan(a) else math.isnan(b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@given(TREES)
def test_what_is_written_comes_back(value):
    written = dump(value, kinds=KINDS)

    assert same(load(written, kinds=KINDS), value)
    assert dump(load(written, kinds=KINDS), kinds=KINDS) == written


@given(TREES, st.data())
def test_damage_is_found(value, data):
    written = bytearray(dump(value, kinds=KINDS))
    at = data.draw(st.integers(0, len(written) - 1))
    written[at] ^= data.draw(st.integers(1, 255))
    if 6 <= at < 8:
        return  # reserved: means nothing

    with pytest.raises(DumpError):
        load(bytes(written), kinds=KINDS)


@given(TREES, st.data())
def test_what_breaks_off_is_found(value, data):
    written = dump(value, kinds=KINDS)

    with pytest.raises(DumpError):
        load(written[: data.draw(st.integers(0, len(written) - 1))], kinds=KINDS)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_an_error_of_ours(data):
    with pytest.raises(DumpError):
        load(data)


@given(st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda inner: st.lists(inner)
       | st.dictionaries(st.sampled_from("tdkpasifbxv"), inner, max_size=2)))  # fmt: skip
def test_any_outline_is_refused_or_read(tree):
    import json
    import zlib

    text = json.dumps({"value": tree, "segments": [[0, 4, "float32", [1]]]}).encode()
    body = len(text).to_bytes(8, "little") + text + bytes(-(20 + len(text)) % 64) + bytes(64)
    data = b"BBD1" + (1).to_bytes(2, "little") + bytes(2) + zlib.crc32(body).to_bytes(4, "little")

    try:
        load(data + body)
    except DumpError:
        return


def test_what_is_shared_stays_one():
    params = ParameterSet.from_tensors({"w": np.arange(1000.0)})
    array = np.arange(1000)

    written = dump([params, array, {"again": params, "also": array}])
    first, second, third = load(written)

    assert first is third["again"]
    assert second is third["also"]
    assert len(written) < 1.2 * (params.nbytes + array.nbytes)
    assert first == params


def test_arrays_cannot_be_written():
    with pytest.raises(ValueError, match="read-only"):
        load(dump(np.zeros(3)))[0] = 1


def test_numpy_scalars_stay_what_they_are():
    found = load(dump([np.float32(1.5), np.int64(7), np.bool_(True)]))

    assert [type(one) for one in found] == [np.float32, np.int64, np.bool_]
    assert found == [1.5, 7, True]


@pytest.mark.parametrize("value", [object(), {1, 2}, iter([]), np.array(["a"]), np.array([{}])])
def test_what_cannot_be_written_is_named(value):
    with pytest.raises(DumpError, match=r"value\['x'\]\[1\]"):
        dump({"x": [1, value]})


def test_nesting_has_a_limit():
    value: list[Any] = []
    for _ in range(200):
        value = [value]

    with pytest.raises(DumpError, match="100 deep"):
        dump(value)


def test_a_later_version_is_refused():
    written = bytearray(dump(1))
    written[4] = 2

    with pytest.raises(DumpError, match="version 2"):
        load(bytes(written))


def test_a_kind_that_is_not_known_is_refused():
    with pytest.raises(DumpError, match="pair"):
        load(dump(Pair(1, 2), kinds=KINDS))
