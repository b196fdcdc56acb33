"""Blocks of a cache: how many bytes they have, and which follow one another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from bb_planner_kvcache.errors import BadColumn

__all__ = ["Dtype", "PageRange", "block_bytes", "block_ranges"]

Dtype = Literal["fp32", "fp16", "bf16", "fp8"]

_WIDTH: Final = {"fp32": 4, "fp16": 2, "bf16": 2, "fp8": 1}


class PageRange(NamedTuple):
    """Blocks of a layer that follow one another.

    Attributes:
        layer: The layer.
        start: First block.
        end: Last block.
    """

    layer: int
    start: int
    end: int


def block_bytes(kv_heads: int, block_size: int, head_size: int, dtype: Dtype = "fp16") -> int:
    """Return the bytes of a block: keys and values of some tokens in one layer.

    Args:
        kv_heads: Heads of keys and values.
        block_size: Tokens of a block.
        head_size: Elements of a head.
        dtype: Type of an element.

    Raises:
        BadColumn: A number is less than 1, or there is no such type.
    """
    if min(kv_heads, block_size, head_size) < 1:
        raise BadColumn(
            f"{kv_heads} heads, {block_size} tokens and {head_size} elements", expected="1 or more"
        )
    if dtype not in _WIDTH:
        raise BadColumn(f"dtype is {dtype!r}", expected=f"one of {', '.join(_WIDTH)}")
    return 2 * kv_heads * block_size * head_size * _WIDTH[dtype]


def block_ranges(blocks: Iterable[tuple[int, int]]) -> tuple[PageRange, ...]:
    """Return blocks, given as pairs of layer and number, as ranges, by layer and number.

    A block that is given twice counts once.
    """
    found: list[PageRange] = []
    for layer, block in sorted(set(blocks)):
        if found and (found[-1].layer, found[-1].end + 1) == (layer, block):
            found[-1] = found[-1]._replace(end=block)
        else:
            found.append(PageRange(layer, block, block))
    return tuple(found)
