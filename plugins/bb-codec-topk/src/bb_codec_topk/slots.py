"""The slot for top-k with error feedback: `codec = TopK()` in a Module, then `codec.compress(g)`.

This is the one module of the plugin that needs the recorder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from bb_codec_topk._ops import OPS
from bb_dsl.slots import CodecHandle, Slot

if TYPE_CHECKING:
    from bb_dsl import Graph, Output

    After: TypeAlias = Output | Sequence[Output] | None

__all__ = ["TopK", "TopKHandle"]


class TopKHandle(CodecHandle):
    """Ops of a codec, and `compress`, which remembers what it leaves out."""

    ops = OPS

    def compress(self, g: Graph, update: Output, *, after: After = None) -> Output:
        """Record encoding an update together with what former ones left; `decode` it elsewhere."""
        return self._record(g, "Compress", update, after=after)[0]


class TopK(Slot[TopKHandle]):
    """A slot for `codec.topk` in a program that uses its error feedback."""

    handle = TopKHandle
