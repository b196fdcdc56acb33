"""Which way to write a difference: what a sample says, and what the link and the cores cost.

`measure` and `choose` are pure. `measure_rates` reads a clock, once, when a program starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from bb_plans._raw import Bytes, Data, as_bytes
from bb_plans.deltas._codecs import decode, differing, encode
from bb_roles.errors import ConfigError

__all__ = ["Choice", "Rates", "Sample", "choose", "measure", "measure_rates"]

_BLOCKS: Final = 64
_BLOCK_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast things go here, in bytes per second; those of codecs count decoded bytes.

    All are above 0, else it raises `bb_roles.errors.ConfigError`.

    Attributes:
        link: Of the link that the difference crosses.
        sparse_encode: Of encoding with `sparse` where a fifth of the elements has changed; it is
            faster where fewer have.
        sparse_decode: Of decoding, likewise.
        xorz_encode: Of encoding with `xorz`.
        xorz_decode: Of decoding.
    """

    link: float
    sparse_encode: float = 0.25e9
    sparse_decode: float = 0.5e9
    xorz_encode: float = 0.5e9
    xorz_decode: float = 0.9e9

    def __post_init__(self) -> None:
        for field in fields(self):
            rate = getattr(self, field.name)
            if not rate > 0:
                raise ConfigError(f"{field.name} is {rate}", expected="bytes per second, above 0")


class Sample(NamedTuple):
    """What blocks of both versions say about the whole.

    Attributes:
        length: Bytes of the whole.
        changed: Share of the elements that differ, 0 to 1.
        sparse: Bytes that `sparse` would take.
        xorz: Bytes that `xorz` would take.
        exact: Whether the blocks were the whole.
    """

    length: int
    changed: float
    sparse: int
    xorz: int
    exact: bool


class Choice(NamedTuple):
    """The cheapest way to bring a chunk.

    Attributes:
        codec: `share`, `sparse`, `xorz` or `raw`.
        wire_bytes: Bytes that it takes, as far as the sample tells.
        seconds: What it costs: link, encoding and decoding one after the other.
    """

    codec: str
    wire_bytes: int
    seconds: float


def measure(new: Data, base: Data | None = None, *, width: int = 1) -> Sample:
    """Look at 64 blocks of 4 KiB, spread evenly, and tell what differences would take.

    It costs some milliseconds, whatever the length. Arguments are those of `encode`.

    Raises:
        UnknownDifference: There is no such width.
    """
    fresh = as_bytes(new)
    known = None if base is None else as_bytes(base)
    begins = _begins(len(fresh), width)
    exact = len(begins) == 1
    some = fresh if exact else _cut(fresh, begins)
    # A base that ends early is filled up with zeros, as `encode` does.
    others = known if exact or known is None else _cut(_padded(known, begins), begins)
    sparse, xorz = (
        _expected(codec, some, others, width, len(fresh)) for codec in ("sparse", "xorz")
    )
    return Sample(len(fresh), _changed(some, others, width), sparse, xorz, exact)


def choose(sample: Sample, rates: Rates, *, same: bool = False) -> Choice:
    """Return the way that takes least time: bytes over the link, plus work at both ends.

    Args:
        sample: What was measured.
        rates: How fast things go.
        same: Whether the digests are equal, so that nothing has to be sent.
    """
    if same:
        return Choice("share", 0, 0.0)
    size = sample.length
    sparse_work = size * min(2.0, 0.4 + 3 * sample.changed)
    ways = [
        Choice("raw", size, size / rates.link),
        Choice(
            "sparse", sample.sparse,
            sample.sparse / rates.link
            + sparse_work / rates.sparse_encode
            + sparse_work / rates.sparse_decode,
        ),
        Choice(
            "xorz", sample.xorz,
            sample.xorz / rates.link + size / rates.xorz_encode + size / rates.xorz_decode,
        ),
    ]  # fmt: skip
    return min(ways, key=lambda way: way.seconds)


def measure_rates(
    link: float, *, nbytes: int = 4 << 20, clock: Callable[[], float] = time.perf_counter
) -> Rates:
    """Return the rates of this machine: both codecs are run, on made-up weights in bfloat16.

    It takes some tens of milliseconds. Each codec is run twice and the faster run counts, as the
    first one also pays for imports and cold caches.

    Args:
        link: Bytes per second of the link.
        nbytes: Bytes to run over.
        clock: Returns seconds.
    """
    generator = np.random.default_rng(0)
    base = generator.integers(0, 1 << 16, nbytes // 2, np.uint16)
    changed = generator.random(nbytes // 2) < 0.2
    new = base ^ (changed * generator.integers(1, 16, nbytes // 2, np.uint16))
    found: list[float] = []
    for codec in ("sparse", "xorz"):
        encoded = encode(codec, new, base, width=2)
        spent = _fastest(clock, partial(encode, codec, new, base, width=2))
        back = _fastest(clock, partial(decode, codec, encoded, base, new.nbytes))
        found += [nbytes / spent, nbytes / back]
    return Rates(link, *found)


def _fastest(clock: Callable[[], float], work: Callable[[], object]) -> float:
    spent: list[float] = []
    for _ in range(2):
        start = clock()
        work()
        spent.append(clock() - start)
    return max(min(spent), 1e-9)


def _begins(length: int, width: int) -> list[int]:
    """Return where blocks begin, at elements; one block when all are the whole."""
    if length <= _BLOCKS * _BLOCK_BYTES:
        return [0]
    step = (length - _BLOCK_BYTES) / (_BLOCKS - 1)
    # Every other block first: either half of what is cut is spread over the whole.
    order = (*range(0, _BLOCKS, 2), *range(1, _BLOCKS, 2))
    return [int(number * step) // width * width for number in order]


def _cut(data: Bytes, begins: list[int]) -> Bytes:
    return np.concatenate([data[begin : begin + _BLOCK_BYTES] for begin in begins])


def _expected(codec: str, new: Bytes, base: Bytes | None, width: int, length: int) -> int:
    """Return what a codec would take for a length, of which these bytes are blocks.

    Tables of codes take the same in small and in large differences, so half of the blocks tell what
    each further byte takes.
    """
    taken = len(encode(codec, new, base, width=width))
    if len(new) == length:
        return taken
    half = len(new) // 2
    less = len(encode(codec, new[:half], None if base is None else base[:half], width=width))
    return round(taken + max(0, taken - less) / half * (length - len(new)))


def _padded(data: Bytes, begins: list[int]) -> Bytes:
    missing = max(begins) + _BLOCK_BYTES - len(data)
    return data if missing <= 0 else np.concatenate([data, np.zeros(missing, np.uint8)])


def _changed(new: Bytes, base: Bytes | None, width: int) -> float:
    elements = differing(new, base, width if len(new) % width == 0 else 1)
    return float(np.count_nonzero(elements) / max(1, len(elements)))
