"""A request, as the columns that a window is planned with.

Both forms of a request become an `Asked`; `_tables` reads columns, `_demands` single demands.
Nothing is planned here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bb_ir.plan import Medium, Quota, TransferKind
from bb_planner_kvcache._columns import I64

__all__ = ["KINDS", "MEDIA", "Asked", "Heat", "Held", "PageName", "Places", "TenantCaps"]

#: What a place is on, as a number.
MEDIA: Final = (Medium.STORAGE, Medium.HOST, Medium.DEVICE, Medium.NETWORK)

#: The kind of a move from one medium to another; where it is 0 there is none.
KINDS: Final = np.zeros((4, 4), np.int64)
KINDS[0, 0] = TransferKind.STORAGE2STORAGE
KINDS[0, 1] = TransferKind.STORAGE2H
KINDS[1, 0] = TransferKind.H2STORAGE
KINDS[1, 1] = TransferKind.H2H
KINDS[1, 2] = TransferKind.H2D
KINDS[2, 1] = TransferKind.D2H
KINDS[2, 2] = TransferKind.P2P
KINDS[3, 1] = TransferKind.NET2H


class Places(NamedTuple):
    """All places of a request, by number.

    Attributes:
        text: Returns what a plan calls a place.
        node: Number of each place's node, -1 when it is no tier.
        tier: Its tier, -1 when it is none.
        medium: What it is on, as index of `MEDIA`.
        nodes: Names of the nodes.
    """

    text: Callable[[int], str]
    node: I64
    tier: I64
    medium: I64
    nodes: Sequence[str]


class Heat(NamedTuple):
    """How often pages were hit; a page may be told of twice."""

    layer: I64
    page: I64
    hits: NDArray[np.float64]
    weight: NDArray[np.float64]
    size: I64


class Held(NamedTuple):
    """Pages that are in places already, least recently used first; ends are included."""

    place: I64
    stack: I64
    layer: I64
    start: I64
    end: I64
    page_bytes: I64
    name: Callable[[int], PageName]


class TenantCaps(NamedTuple):
    """Caps of tenants, on each node; a tenant and tier may come twice, and the last one holds."""

    tenant: I64
    tier: I64
    cap: I64


class PageName(NamedTuple):
    """What is told of a row's pages besides numbers.

    Attributes:
        tensor: Name of the cache's tensor.
        head: Attention head.
        model: Digest of the weights, or `None`.
    """

    tensor: str = "kv"
    head: int = 0
    model: Any = None


@dataclass(slots=True)
class Asked:
    """A request, checked.

    Attributes:
        size: How many demands.
        now_ns: When the window begins.
        window_ms: How long it is.
        src: Place of each demand's pages.
        dst: Place where they are needed.
        stack: What the pages belong to besides layer and size: pages of two stacks are different.
        layer: Layer.
        start: First page.
        end: Last page.
        page_bytes: Size of a page.
        deadline_ns: Until when; 0 for whenever.
        due: The deadline in some unit, no less than all others where there is none; for sorting.
        tick_ns: How long one of that unit is.
        fill_ms: How long a fill takes.
        tenant: On whose account; -1 for nobody.
        priority: Larger ones first.
        cluster: What has one prefix has one number.
        src_base: Where page 0 begins in `src`; `None` when the layout of the configuration holds.
        dst_base: Likewise in `dst`.
        places: All places.
        tenants: Returns the name of a tenant.
        requests: Returns the id of a demand, by its row.
        name: Returns what else is told of a demand's pages, by its row.
        heat: How often pages were hit.
        held: What is there already.
        bandwidth: What a place takes in the window, by its number; `FAR` for no limit.
        free: What it has room for.
        tenant_caps: Caps of tenants; `None` when the configuration has them.
        quotas: Other limits.
        latency: Layers, and how long each computes in ms; `None` when it is not known.
        shared_ids: Whether several demands may have one id.
    """

    size: int
    now_ns: int
    window_ms: int
    src: I64
    dst: I64
    stack: I64
    layer: I64
    start: I64
    end: I64
    page_bytes: I64
    deadline_ns: I64
    due: I64
    tick_ns: int
    fill_ms: NDArray[Any]
    tenant: I64
    priority: I64
    cluster: I64
    src_base: I64 | None
    dst_base: I64 | None
    places: Places
    tenants: Callable[[int], str]
    requests: Callable[[int], str]
    name: Callable[[int], PageName]
    heat: Heat | None
    held: Held | None
    bandwidth: I64
    free: I64
    tenant_caps: TenantCaps | None
    quotas: tuple[Quota, ...]
    tenant_code: Callable[[str], int]
    latency: tuple[I64, NDArray[np.float64]] | None
    shared_ids: bool

    def bases(self, rows: NDArray[np.intp], layer_bytes: int) -> tuple[I64, I64]:
        """Return where page 0 of rows begins, in their sources and destinations."""
        usual = self.layer[rows] * layer_bytes
        src = usual if self.src_base is None else self.src_base[rows]
        dst = usual if self.dst_base is None else self.dst_base[rows]
        return src, dst

    def joined_heat(self) -> tuple[Any, Any]:
        """Return hits of each demand's first page, and weights of its tenant, or one for all."""
        if self.heat is None or not len(self.heat.hits):
            return 0.0, 1.0
        found = lookup(self.heat, self.layer, self.start)
        known = found >= 0
        hits = np.where(known, self.heat.hits[found], 0.0)
        return hits, np.where(known, self.heat.weight[found], 1.0)


def lookup(heat: Heat, layer: I64, page: I64) -> NDArray[np.intp]:
    """Return the row of `heat` for each page, that of most hits; -1 where there is none."""
    wide = int(heat.page.max()) + 1
    height = int(heat.layer.max()) + 1
    inside = (layer < height) & (page < wide)
    if wide * height <= max(4 * len(page), 1 << 20):  # small enough for a table of all pages
        table = np.full(wide * height, -1, np.intp)
        keys, rows = heat.layer * wide + heat.page, np.arange(len(heat.page))
        table[keys] = rows
        if not (table[keys] == rows).all():  # told of twice
            order = np.argsort(heat.hits, kind="stable")
            table[keys] = -1
            np.maximum.at(table, keys[order], rows)  # positions in that order: most hits win
            table[keys] = order[table[keys]]
        return np.where(inside, table[np.where(inside, layer * wide + page, 0)], -1)
    order = np.lexsort((heat.hits, heat.page, heat.layer))
    keys = (heat.layer * wide + heat.page)[order]
    sought = np.where(inside, layer * wide + page, -1)
    at = np.searchsorted(keys, sought, "right") - 1
    return np.where((at >= 0) & (keys[at] == sought), order[at], -1)
