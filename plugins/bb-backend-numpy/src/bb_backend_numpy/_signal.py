"""Windows and the Fourier transform of signals.

Windows are computed in float64 and rounded once. The formulas are those of the ONNX standard, whose
Hamming window has the factor 25/46 and not the rounded 0.54.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bb_backend_numpy._op import Op
from bb_backend_numpy._support import Factory, Tensor, dtype_of
from bb_backend_numpy.errors import KernelError
from bb_roles.contracts import Kernel

__all__ = ["TABLE"]

_FLOAT32 = 1


def _window(*factors: float) -> Factory:
    """Make the factory of a window: a sum of cosines of 0, 1, 2, ... turns."""

    def factory(op: Op) -> Kernel:
        dtype = dtype_of(op, "output_datatype", _FLOAT32)
        periodic = op.flag("periodic", default=True)

        def kernel(size: Tensor) -> Tensor:
            count = int(size.item())
            period = max(1, count if periodic else count - 1)
            turn = np.arange(count) * (2 * math.pi / period)
            y = np.zeros(count)
            for at, factor in enumerate(factors):
                y += factor * np.cos(turn * at)
            return y.astype(dtype)

        return kernel

    return factory


def _dft(op: Op) -> Kernel:
    inverse = op.flag("inverse", default=False)
    onesided = op.flag("onesided", default=False)
    transform: Any = {
        (False, False): np.fft.fft,
        (False, True): np.fft.rfft,
        (True, False): np.fft.ifft,
        (True, True): np.fft.irfft,
    }[inverse, onesided]
    needs_real, gives_real = onesided and not inverse, onesided and inverse

    def kernel(x: Tensor, length: Tensor | None = None, axis: Tensor | None = None) -> Tensor:
        along = -2 if axis is None else int(axis.item())
        _check_signal(x, along, needs_real=needs_real)
        wide = x.astype(np.float32) if x.dtype.itemsize < 4 else x
        z: Any = wide[..., 0] if wide.shape[-1] == 1 else wide[..., 0] + 1j * wide[..., 1]
        points = None if length is None else int(length.item())
        made = transform(z, points, along % x.ndim)
        parts = [made] if gives_real else [made.real, made.imag]
        return np.stack(parts, -1).astype(x.dtype, copy=False)

    return kernel


def _check_signal(x: Tensor, axis: int, *, needs_real: bool) -> None:
    if axis % x.ndim == x.ndim - 1:
        raise KernelError(
            f"DFT was asked to transform axis {axis} of {x.ndim}",
            expected="any axis but the last one, which holds real and imaginary parts",
            fix="Correct the axis.",
        )
    if needs_real and x.shape[-1] != 1:
        raise KernelError(
            f"DFT with onesided was given a signal of {x.shape[-1]} parts",
            expected="a last axis of 1: half a spectrum is enough for real signals only",
            fix="Leave onesided out.",
        )


TABLE: Mapping[str, Factory] = {
    "BlackmanWindow": _window(0.42, -0.5, 0.08),
    "DFT": _dft,
    "HammingWindow": _window(25 / 46, -21 / 46),
    "HannWindow": _window(0.5, -0.5),
}
