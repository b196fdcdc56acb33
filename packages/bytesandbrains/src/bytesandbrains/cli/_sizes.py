"""Numbers of bytes, and rates, as people read them."""

from __future__ import annotations

__all__ = ["rate", "size", "span"]

_KILO = 1024
_SPANS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


def size(count: float) -> str:
    """Return a number of bytes as people read it."""
    if abs(count) < _KILO:
        return f"{count:,.0f} byte{'s'[: count != 1]}"
    for unit in ("KiB", "MiB", "GiB"):
        count /= _KILO
        if abs(count) < _KILO:
            return f"{count:,.1f} {unit}"
    return f"{count / _KILO:,.1f} TiB"


def span(seconds: float) -> str:
    """Return a time as people read it, with three digits."""
    scale, unit = next((one for one in _SPANS if seconds >= one[0]), _SPANS[-1])
    value = seconds / scale
    digits = 2 - sum(value >= bound for bound in (10, 100))
    return f"{value:,.{digits}f} {unit}"


def rate(count: float, seconds: float) -> str:
    """Return bytes per second, in powers of ten as links and disks are sold."""
    each = count / max(seconds, 1e-9)
    return f"{each / 1e9:.2f} GB/s" if each >= 1e9 else f"{each / 1e6:.1f} MB/s"  # a giga
