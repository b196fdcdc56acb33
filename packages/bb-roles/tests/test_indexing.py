"""What indexes are given is checked in one place, and refused in words that help."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb_ir.errors import BytesAndBrainsError
from bb_roles.indexing import (
    Lengths,
    bad_state,
    check_ids,
    check_vectors,
    ids_are_sound,
    squares_of,
    unknown_id,
)
from bb_roles.indexing.errors import StateMismatch, UnknownId, VectorMismatch, VectorOutOfRange
from bb_testing.strategies import tensors

ANY = Lengths(None, 62)
COSINE = Lengths(-50, 62)


def check(given_, dim=5, lengths=ANY):
    return check_vectors(given_, dim=dim, most_dim=64, lengths=lengths)


# ---- vectors


@given(tensors(st.sampled_from(["float16", "float64", "int8", "uint32", "bfloat16"]), (3, 5)))
def test_real_numbers_of_any_dtype_become_float32(array):
    try:
        vectors, squares = check(np.asfortranarray(array))
    except VectorOutOfRange:
        assert (np.abs(array.astype("f8")) > 2.0**58).any()
        return
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    assert (vectors == array.astype(np.float32)).all()
    assert (squares == (vectors.astype("f8") ** 2).sum(axis=1)).all()


def test_what_fits_is_not_copied():
    array = np.ones((2, 5), np.float32)

    assert check(array)[0] is array


def test_bytes_in_another_order_are_read():
    assert check(np.ones((1, 2), ">f4"), 2)[0].tolist() == [[1, 1]]


def test_an_index_without_a_dimension_takes_what_it_could_have():
    assert check(np.ones((2, 64)), None)[0].shape == (2, 64)
    with pytest.raises(VectorMismatch):
        check(np.ones((2, 65)), None)


@pytest.mark.parametrize(
    "given_",
    [
        np.zeros(5),
        np.zeros((2, 2, 5)),
        np.zeros((2, 4)),
        np.zeros((2, 0)),
        np.zeros((2, 5), complex),
        np.zeros((2, 5), bool),
        np.array([["a"] * 5]),
        5.0,
    ],
    ids=lambda g: f"{np.asarray(g).dtype}{np.shape(g)}",
)
def test_what_is_no_batch_of_vectors_is_refused(given_):
    with pytest.raises(VectorMismatch, match="the vectors are") as caught:
        check(given_)
    assert caught.value.expected == "real numbers of shape [n, 5]"


@pytest.mark.parametrize(
    ("value", "lengths", "found"),
    [
        (np.nan, ANY, "vector 1 holds nan"),
        (-np.inf, ANY, "vector 1 holds -inf"),
        (1e300, ANY, "vector 1 has length 1e\\+300"),
        (2.0**63, COSINE, "vector 1 has length 9.22e\\+18"),
        (0.0, COSINE, "vector 1 has length 0"),
        (1e-20, COSINE, "vector 1 has length 1e-20"),
    ],
)
def test_vectors_that_cannot_be_measured_are_refused(value, lengths, found):
    with pytest.raises(VectorOutOfRange, match=found) as caught:
        check(np.array([[1.0, 0.0], [value, 0.0]]), 2, lengths)
    assert str(lengths) in caught.value.expected


def test_limits_are_within():
    for power in (-50, 62):
        assert check(np.array([[2.0**power, 0.0]]), 2, COSINE)
    assert check(np.zeros((1, 2)), 2)


def test_signalling_nan_is_refused_without_a_warning():
    vectors = np.ones((3, 5), np.float32)
    vectors.view(np.uint32)[0, 0] = 0x7F800001
    with pytest.raises(VectorOutOfRange, match="vector 0 holds nan"):
        check(vectors)
    assert np.isnan(squares_of(vectors)).tolist() == [True, False, False]


# ---- ids


@pytest.mark.parametrize("dtype", ["int64", "uint8", "int32"])
def test_ids_become_int64(dtype):
    found = check_ids(np.array([3, 1], dtype))

    assert found.dtype == np.int64
    assert found.tolist() == [3, 1]


def test_no_ids_are_ids_of_any_dtype():
    assert check_ids(np.array([])).tolist() == []


@pytest.mark.parametrize("ids", [0, [[0]], [0.0], [True], ["0"]])
def test_what_is_no_vector_of_integers_is_refused(ids):
    with pytest.raises(VectorMismatch, match="the ids are"):
        check_ids(np.asarray(ids))


def test_too_large_ids_are_as_unknown():
    given_ = np.array([(1 << 63) + 1], np.uint64)

    assert check_ids(given_)[0] < 0
    assert f"ids[0] is {given_[0]}, which no stored vector has" in str(unknown_id(given_, 0))


@pytest.mark.parametrize(
    ("ids", "count", "next_id", "sound"),
    [
        ([], 0, 0, True),
        ([0, 4], 2, 5, True),
        ([0, 4], 2, 1 << 80, True),
        ([0, 4], 2, 4, False),
        ([0, 4], 3, 5, False),
        ([4, 0], 2, 5, False),
        ([0, 0], 2, 5, False),
        ([-1, 0], 2, 5, False),
        ([], 0, -1, False),
        ([], 0, None, False),
        ([], 0, 1.0, False),
        ([], 0, True, False),
    ],
)
def test_saved_ids_ascend_below_the_next_one(ids, count, next_id, sound):
    assert ids_are_sound(np.array(ids, np.int64), count, next_id) == sound


def test_saved_ids_are_int64():
    assert not ids_are_sound(np.array([0, 1], np.int32), 2, 2)
    assert not ids_are_sound(np.array([[0, 1]]), 2, 2)


# ---- errors


def test_every_error_is_one_of_ours_and_a_value_error():
    for kind in (StateMismatch, UnknownId, VectorMismatch, VectorOutOfRange):
        assert issubclass(kind, BytesAndBrainsError)
        assert issubclass(kind, ValueError)


def test_a_state_that_does_not_fit_is_told():
    error = bad_state("its metric is 'ip'", "'l2'")

    assert isinstance(error, StateMismatch)
    assert "does not fit: its metric is 'ip'" in str(error)


def test_bfloat16_is_a_number():
    assert check(np.ones((1, 5), ml_dtypes.bfloat16))[0].tolist() == [[1.0] * 5]
