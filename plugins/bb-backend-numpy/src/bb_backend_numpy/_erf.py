"""The error function, without scipy.

Two polynomials in float64, fitted for this project with mpmath at the Chebyshev points:

- `|x| < 1`: `erf(x) = x * S(x**2)`;
- `1 <= |x| < 6`: `erf(|x|) = 1 - exp(-x**2) * L(t)` with `t = (|x| - 3) / (|x| + 3)`; from 6 on
  the result is 1.

Against `math.erf` on 205,000 points of [-7, 7] and down to 1e-300: absolute error at most 1.2e-16,
relative at most 2.5e-16. Other float dtypes are computed in float64 and rounded once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["erf"]

_SMALL = (
    1.1283791670955126e00,
    -3.7612638903183748e-01,
    1.1283791670954882e-01,
    -2.6866170645077334e-02,
    5.2239776248232230e-03,
    -8.5483269811296655e-04,
    1.2055331122299266e-04,
    -1.4925595519506043e-05,
    1.6461004480962034e-06,
    -1.6350354461959655e-07,
    1.4660051998394848e-08,
    -1.1373902296430911e-09,
    5.9589307431349414e-11,
)
_LARGE = (
    1.7900115118138996e-01,
    -3.2623356004303722e-01,
    2.4560380171233093e-01,
    -1.5011593650077584e-01,
    7.1665837197969998e-02,
    -2.4392499318790832e-02,
    4.2691363332362370e-03,
    7.0774644369385519e-04,
    -5.9706195679688908e-04,
    4.5255196027134940e-05,
    6.4056619475625728e-05,
    -1.2859259504338054e-05,
    -7.9779125741962825e-06,
    2.1117933447968880e-06,
    1.2461711322993858e-06,
    -2.6734815877681176e-07,
    -2.0221725943520625e-07,
)
#: Elements per pass: the temporaries of one pass stay in the processor's cache.
_BLOCK = 1 << 13


def erf(x: NDArray[Any]) -> NDArray[Any]:
    """Return the error function of each element, in the dtype of `x`."""
    flat = x.reshape(-1)
    result = np.empty(flat.shape, x.dtype)
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK].astype(np.float64)
        result[start : start + _BLOCK] = _erf(block)
    return result.reshape(x.shape)


def _erf(x: NDArray[np.float64]) -> NDArray[np.float64]:
    size = np.abs(x)
    small = np.minimum(size, 1.0)
    large = np.minimum(np.maximum(size, 1.0), 6.0)
    near_zero = x * _polynomial(_SMALL, small * small)
    tail = _polynomial(_LARGE, (large - 3.0) / (large + 3.0)) * np.exp(-large * large)
    return np.where(size < 1.0, near_zero, np.copysign(1.0 - tail, x))


def _polynomial(coefficients: tuple[float, ...], x: NDArray[np.float64]) -> NDArray[np.float64]:
    result = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        result *= x
        result += coefficient
    return result
