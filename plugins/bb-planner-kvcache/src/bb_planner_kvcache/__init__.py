"""Plans which pages of a KV cache move in a window, for bytesandbrains."""

from bb_roles import PlannerSpec, hookimpl


@hookimpl
def bb_planner() -> PlannerSpec:
    """Declare the planner: what it is called, and what it makes plans for."""
    return PlannerSpec(
        name="kvcache",
        cls="bb_planner_kvcache.planner:KvCachePlanner",
        plans=("cache",),
        summary="Moves of KV-cache pages in one window: joined, within quotas, least slack first.",
    )
