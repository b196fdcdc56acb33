"""Which quota holds for which row: of tenants, of places, and those that a request lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from bb_ir.plan import Quota
from bb_planner_kvcache._asked import Asked
from bb_planner_kvcache._columns import FAR, I64, codes_of
from bb_planner_kvcache.config import KvCacheConfig

__all__ = ["CapsOf", "of_places", "of_tenants"]

#: Takes rows, and returns the group of each and the cap of that group.
CapsOf = Callable[[NDArray[np.intp]], tuple[I64, I64]]


def of_tenants(asked: Asked, config: KvCacheConfig) -> Iterator[CapsOf]:
    """Yield the quotas of tenants."""
    if config.tenant_credits:
        yield lambda rows: _of_tenants(asked, config, rows)
    yield from _listed(asked, tenants=True)


def of_places(asked: Asked, config: KvCacheConfig, evictable: I64) -> Iterator[CapsOf]:
    """Yield the quotas of tiers of nodes, with the bytes that can be dropped there."""
    if config.enforce_tier_caps:
        room = np.where(asked.free < FAR, asked.free + evictable, FAR)
        caps = np.minimum(asked.bandwidth, room)
        yield lambda rows: (asked.dst[rows], caps[asked.dst[rows]])
    yield from _listed(asked, tenants=False)


def _of_tenants(asked: Asked, config: KvCacheConfig, rows: NDArray[np.intp]) -> tuple[I64, I64]:
    if not asked.size or int(asked.tenant.max()) < 0:  # nobody is named
        return rows, np.full(len(rows), FAR)
    tenant, dst = asked.tenant[rows], asked.dst[rows]
    caps = asked.tenant_caps
    if caps is None:
        return codes_of(tenant, dst), np.where(tenant < 0, FAR, config.tenant_credits_bytes)
    tier = asked.places.tier[dst]
    cap = np.full(len(rows), FAR)
    for one, at, limit in zip(*map(np.ndarray.tolist, caps), strict=True):
        cap[(tenant == one) & (tier == at)] = limit
    return codes_of(tenant, dst), cap


def _listed(asked: Asked, *, tenants: bool) -> Iterator[CapsOf]:
    """Yield the listed quotas, those that look at the same things together."""
    shapes: dict[tuple[bool, bool, bool], list[Quota]] = {}
    for quota in asked.quotas:
        shape = bool(quota.node), quota.tier >= 0, bool(quota.tenant)
        if shape[2] is tenants:
            shapes.setdefault(shape, []).append(quota)
    for shape, quotas in shapes.items():
        yield _caps_of(asked, shape, quotas)


def _caps_of(asked: Asked, shape: tuple[bool, bool, bool], quotas: list[Quota]) -> CapsOf:
    by_node, by_tier, by_tenant = shape

    def caps_of(rows: NDArray[np.intp]) -> tuple[I64, I64]:
        nothing = np.zeros(len(rows), np.int64)
        dst = asked.dst[rows]
        node = asked.places.node[dst] if by_node else nothing
        tier = asked.places.tier[dst] if by_tier else nothing
        tenant = asked.tenant[rows] if by_tenant else nothing
        cap = np.full(len(rows), FAR)
        for quota in quotas:
            mine = np.ones(len(rows), np.bool_)
            if by_node:
                mine &= node == _node(asked, quota.node)
            if by_tier:
                mine &= tier == quota.tier
            if by_tenant:
                mine &= tenant == asked.tenant_code(quota.tenant)
            cap[mine] = np.minimum(cap[mine], quota.limit)
        return codes_of(node, tier, tenant), cap

    return caps_of


def _node(asked: Asked, name: str) -> int:
    return asked.places.nodes.index(name) if name in asked.places.nodes else -2
