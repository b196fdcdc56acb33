"""Numbers of bytes, and rates, as people read them."""

from __future__ import annotations

__all__ = ["rate", "size"]

_KILO = 1024


def size(count: float) -> str:
    """Return a number of bytes as people read it."""
    if abs(count) < _KILO:
        return f"{count:,.0f} byte{'s'[: count != 1]}"
    for unit in ("KiB", "MiB", "GiB"):
        count /= _KILO
        if abs(count) < _KILO:
            return f"{count:,.1f} {unit}"
    return f"{count / _KILO:,.1f} TiB"


def rate(count: float, seconds: float) -> str:
    """Return bytes per second, in powers of ten as links and disks are sold."""
    each = count / max(seconds, 1e-9)
    return f"{each / 1e9:.2f} GB/s" if each >= 1e9 else f"{each / 1e6:.1f} MB/s"  # a giga
