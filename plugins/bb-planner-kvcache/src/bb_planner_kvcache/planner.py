"""The planner: requests in, plans or columns out."""

from __future__ import annotations

from typing import Any, ClassVar

from bb_ir.plan import CachePlan, Quota
from bb_planner_kvcache._asked import Asked
from bb_planner_kvcache._demands import read_demands
from bb_planner_kvcache._planning import plan_window
from bb_planner_kvcache._plans import cache_plan
from bb_planner_kvcache._tables import read_tables
from bb_planner_kvcache.config import KvCacheConfig
from bb_planner_kvcache.window import Window
from bb_roles import CacheRequest, Planner, SwapRequest
from bb_roles.errors import UnplannableRequest

__all__ = ["KvCachePlanner"]

_LAST_NS = 9 * 10**18
_MOST_MS = 10**9


class KvCachePlanner(Planner):
    """Moves pages of a KV cache where they are needed, within quotas, least slack first.

    It joins pages that touch to moves, never mixing page sizes, moves no page twice, cuts a move
    that is too large for its tier instead of starving behind it, and lets smaller ones pass. Every
    demand is met, held, or rejected with one of the reasons in `bb_planner_kvcache.window.REASONS`.

    Args:
        config: A `KvCacheConfig`.
    """

    Config: ClassVar[type] = KvCacheConfig

    def plan(self, request: CacheRequest | SwapRequest) -> CachePlan:
        """Return the plan of a window.

        Raises:
            UnplannableRequest: It is not about pages, a number or name in it cannot be, or more
                demands are rejected than a plan can list.
        """
        asked = _read(request)
        return cache_plan(asked, plan_window(asked, self.config))

    def columns(self, request: CacheRequest) -> Window:
        """Return the plan of a window as columns, for windows of many thousand demands.

        Raises:
            UnplannableRequest: As `plan` does.
        """
        return plan_window(_read(request), self.config)


def _read(request: Any) -> Asked:
    if not isinstance(request, CacheRequest):
        raise UnplannableRequest(
            f"a {type(request).__name__} is not about pages", expected="a CacheRequest"
        )
    _whole("now_ns", request.now_ns, 0, _LAST_NS)
    _whole("window_ms", request.window_ms, 1, _MOST_MS)
    if not isinstance(request.quotas, tuple):
        raise UnplannableRequest(f"`quotas` is {request.quotas!r:.80}", expected="a tuple")
    for quota in request.quotas:
        if not isinstance(quota, Quota):
            raise UnplannableRequest(f"a quota is {quota!r:.80}", expected="a bb_ir.plan.Quota")
        _whole("limit of a quota", quota.limit, 0, 1 << 62)
        _whole("tier of a quota", quota.tier, -1, 9999)
    if request.tables is None:
        return read_demands(request)
    if request.demands or request.held:
        raise UnplannableRequest(
            "demands are given one by one and as columns",
            expected="`tables` alone, or `demands` and `held`",
        )
    return read_tables(request, request.tables)


def _whole(field: str, value: Any, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise UnplannableRequest(f"{field} is {value!r:.80}", expected=f"{least} to {most}")
