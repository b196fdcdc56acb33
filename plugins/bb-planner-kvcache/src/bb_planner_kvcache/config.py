"""What can be set; names and defaults are those of an earlier planner where it has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from bb_roles.limits import Limits, check_limits

__all__ = ["Compat", "KvCacheConfig"]

Compat = Literal["none", "bcache"]


@dataclass(frozen=True)
class KvCacheConfig:
    """How a window is planned.

    A demand is looked at when it is popular or not late:
    `alpha * hits + beta * tenant_weight > pmin` or `slack > umin`, where slack is the time to its
    deadline, counted in fills (`est_fill_ms`).

    Attributes:
        pmin: Popularity above which a demand is looked at, however late it is.
        umin: Slack in fills above which a demand is looked at, however unpopular it is.
        alpha: Weight of the hits of the first page.
        beta: Weight of the tenant's weight.
        min_io_bytes: Moves of fewer bytes are put off; 0 for none.
        max_ops_per_tier: Most moves to one tier of one node.
        tenant_credits_bytes: What a tenant may move to one tier of one node in one window, when the
            request has no `tenant_caps`.
        reuse_hits: Pages of at least that many hits are to be kept in storage.
        max_prefetch: Most entries of `prefetch`, the pages that were put off; 0 for none.
        layer_bytes: Room of a layer in a place, for demands that do not say where it begins: page
            `p` of layer `l` is at `l * layer_bytes + p * page_bytes`.
        prefix_fanout: Whether neighbouring pages of different prefixes stay separate moves.
        tenant_credits: Whether tenants have quotas.
        admission: Whether the plan says which pages to keep in storage.
        eviction: Whether the plan drops pages where there is no room.
        overlap: Whether moves that take longer than their layer computes are cut into streams.
        enforce_tier_caps: Whether `tier_caps` limit what is moved.
        compat: `bcache` plans as the field's earlier planner did, its faults included; for
            comparison only, as such plans need not be sound.
    """

    pmin: Annotated[float, Limits()] = 1.0
    umin: Annotated[float, Limits(unit="fills")] = 0.0
    alpha: Annotated[float, Limits()] = 1.0
    beta: Annotated[float, Limits()] = 0.0
    min_io_bytes: Annotated[int, Limits(0, 1 << 60, unit="bytes")] = 512 << 10
    max_ops_per_tier: Annotated[int, Limits(1, 1 << 20, unit="ops")] = 64
    tenant_credits_bytes: Annotated[int, Limits(0, 1 << 60, unit="bytes")] = 32 << 20
    reuse_hits: Annotated[float, Limits(above=0, unit="hits")] = 10.0
    max_prefetch: Annotated[int, Limits(0, 1 << 20, unit="entries")] = 64
    layer_bytes: Annotated[int, Limits(1, 1 << 60, unit="bytes")] = 1 << 40
    prefix_fanout: bool = True
    tenant_credits: bool = True
    admission: bool = True
    eviction: bool = True
    overlap: bool = True
    enforce_tier_caps: bool = True
    compat: Compat = "none"

    def __post_init__(self) -> None:
        check_limits(self)
