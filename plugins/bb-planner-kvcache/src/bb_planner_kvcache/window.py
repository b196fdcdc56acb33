"""What a planned window says, as columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bb_planner_kvcache._columns import I64
from bb_planner_kvcache._ops import OP_COLUMNS
from bb_planner_kvcache._states import REASONS

__all__ = ["OP_COLUMNS", "REASONS", "Window"]


@dataclass(frozen=True, slots=True)
class Window:
    """A planned window, as columns.

    Attributes:
        ops: The moves, least slack first, by the names in `OP_COLUMNS`.
        state: What becomes of each row of the request, as index of `REASONS` (int8).
        evict: Pages to drop: `place`, `layer`, `page_start`, `page_end`, `page_bytes`, `row` (of
            what is held).
        admission: Pages to keep in storage: `layer`, `page`, `page_bytes`, `row`.
        prefetch: Pages that were put off, least slack first: `layer`, `page_start`, `page_end`,
            `page_bytes`, `dst`, `row`.
    """

    ops: dict[str, NDArray[Any]]
    state: NDArray[np.int8]
    evict: dict[str, I64]
    admission: dict[str, I64]
    prefetch: dict[str, I64]
