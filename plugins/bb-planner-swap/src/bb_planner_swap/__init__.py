"""Plans of weight swaps: what is new, packed in buckets."""

from bb_roles import PlannerSpec, hookimpl


@hookimpl
def bb_planner() -> PlannerSpec:
    """Declare the planner."""
    return PlannerSpec(
        name="swap",
        cls="bb_planner_swap._swap:Swap",
        plans=("swap",),
        summary="What is new between two versions of a model, packed in buckets.",
    )
