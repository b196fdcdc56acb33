"""A random key for each peer, such that the n smallest keys are a weighted sample.

Efraimidis and Spirakis ("Weighted random sampling with a reservoir", Information Processing
Letters 97, 2006): give each item of weight w the key -log(u)/w with u uniform in (0, 1); the n
smallest keys are then what n draws without replacement give, each in proportion to the weights
of those that are left. Cohen and Kaplan ("Summarizing data using bottom-k sketches", PODC 2007):
when u is a hash of the item, samples of different sets agree wherever they can. So a peer that
joins or leaves can only take or leave a place of its own.

The hash is the output function of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), twice, each
time mixed with a number that was drawn for this cohort. It is no cryptographic one: who knows the
seed of a Node knows its cohorts anyway.

Everything here is integers and operations that IEEE 754 rounds exactly, each done by itself, so
keys have the same bits on every machine; that is why the logarithm is written out.

This file draws nothing and knows no peers, only their marks.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["exponential_keys", "mark_of"]

_U64 = NDArray[np.uint64]

_LN2: Final = 0.6931471805599453
_SQRT_HALF: Final = 0.7071067811865476
#: Terms of the series below: |s| is at most 0.172, so the first one left out is below 2**-60.
_TERMS: Final = 12


def mark_of(raw: bytes) -> int:
    """Return 64 bits that stand for a name."""
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little")


def exponential_keys(marks: _U64, nonces: _U64, rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return exponentially distributed keys, float64 (n,), at least 0 and finite.

    Args:
        marks: What stands for each item, uint64 (n,).
        nonces: Two random numbers, uint64 (2,).
        rates: Weight of each item, positive, float64 (n,).
    """
    mixed = _mix(_mix(marks + nonces[0]) ^ nonces[1])
    # 52 bits and a half: exact, and neither 0 nor 1.
    uniform = ((mixed >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    keys: NDArray[np.float64] = -_log(uniform) / rates
    return keys


def _mix(values: _U64) -> _U64:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the natural logarithm of positive numbers by log(m) = 2 artanh((m - 1)/(m + 1))."""
    mantissa, exponent = np.frexp(values)
    small = mantissa < _SQRT_HALF
    mantissa = np.where(small, mantissa * 2.0, mantissa)
    power = exponent.astype(np.float64) - small
    s = (mantissa - 1.0) / (mantissa + 1.0)
    square = s * s
    series = np.zeros_like(s)
    for term in range(_TERMS - 1, -1, -1):
        series = series * square + 1.0 / (2 * term + 1)
    found: NDArray[np.float64] = power * _LN2 + 2.0 * s * series
    return found
