"""The neighbours that indexes are held against are those that the definitions say."""

import numpy as np
import pytest

from bb_testing.neighbours import check_neighbours, exact_distance, exact_search

VECTORS = np.array([[1, 0], [0, 2], [1, 0], [-3, 0]], np.float32)
QUERY = np.array([[2, 0]], np.float32)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("l2", [1, 8, 1, 25]),
        ("l2sq", [1, 8, 1, 25]),
        ("ip", [-2, 0, -2, 6]),
        ("cosine", [0, 1, 0, 2]),
    ],
)
def test_distances_are_those_of_the_definitions(metric, expected):
    found = [exact_distance(metric, QUERY[0], one) for one in VECTORS]

    assert found == expected
    assert {one.dtype for one in found} == {np.dtype("float32")}


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="'hamming'; l2"):
        exact_distance("hamming", QUERY[0], VECTORS[0])


def test_of_equal_distances_the_smaller_id_is_first_and_what_is_missing_is_told():
    ids, distances = exact_search("l2", VECTORS, QUERY, 5, ids=[9, 8, 7, 6])

    assert ids.tolist() == [[7, 9, 8, 6, -1]]
    assert distances.tolist() == [[1, 1, 8, 25, np.inf]]


@pytest.mark.parametrize(("place", "told"), [(0, "other neighbours"), (1, "distances differ")])
def test_another_result_is_told(place, told):
    expected = exact_search("l2", VECTORS, QUERY, 2)
    found = [one.copy() for one in expected]
    check_neighbours(tuple(found), expected)
    found[place][0, 0] += 1

    with pytest.raises(AssertionError, match=told):
        check_neighbours(tuple(found), expected)
