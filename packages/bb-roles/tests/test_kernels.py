import importlib.util
import sys

import numpy as np
import pytest

from bb_roles.collecting._finite import all_finite
from bb_roles.kernels import compiled, wants_numba

NUMBA = importlib.util.find_spec("numba") is not None
ENGINES = ["numpy", *(["numba"] if NUMBA else [])]
needs_numba = pytest.mark.skipif(not NUMBA, reason="numba is not installed")


def total(values):
    found = 0.0
    for at in range(values.size):
        found += values[at]
    return found


def divided(one, other):
    return one / other


def test_whoever_names_an_engine_gets_it():
    assert wants_numba("numba", 1)
    assert not wants_numba("numpy", 1 << 30)


def test_small_vectors_are_left_to_numpy_unless_asked_otherwise():
    assert not wants_numba("auto", (1 << 16) - 1)
    assert wants_numba("auto", 1 << 16) == NUMBA


def test_without_numba_large_vectors_are_left_to_numpy(monkeypatch):
    monkeypatch.setattr("bb_roles.kernels.find_spec", lambda _: None)
    assert not wants_numba("auto", 1 << 30)


def test_without_numba_a_kernel_is_an_import_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(ImportError, match="numba"):
        compiled(lambda: None)


@needs_numba
@pytest.mark.parametrize("reassociate", [False, True])
def test_a_kernel_returns_what_the_function_does(reassociate):
    values = np.arange(1000.0)  # every sum of these is exact, in any order
    assert compiled(total, reassociate=reassociate)(values) == total(values)


@needs_numba
def test_a_kernel_divides_by_zero_as_ieee_754_says():
    assert compiled(divided)(1.0, 0.0) == np.inf


@needs_numba
def test_a_kernel_that_cannot_be_kept_on_disk_is_compiled_all_the_same(monkeypatch):
    numba = importlib.import_module("numba")

    def njit(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    real = numba.njit
    monkeypatch.setattr(numba, "njit", njit)
    assert compiled(lambda x: x + 1)(1) == 2


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("wrong", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("place", [0, 69_999])
def test_one_value_that_is_not_finite_is_found_anywhere(engine, dtype, wrong, place):
    values = np.full(70_000, np.finfo(dtype).max, dtype)
    assert all_finite(values, engine)
    values[place] = wrong
    assert not all_finite(values, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_unaligned_and_empty_vectors_are_looked_at_too(engine):
    values = np.zeros(4 * 1000 + 1, np.uint8)[1:].view(np.float32)
    assert not values.flags.aligned
    assert all_finite(values, engine)
    values[7] = np.nan
    assert not all_finite(values, engine)
    assert all_finite(values[:0], engine)
