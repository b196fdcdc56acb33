"""Coordinate-wise median for bytesandbrains: fewer than half may lie."""

from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the aggregator; its class is imported when it is built."""
    return ComponentSpec(
        role="aggregator",
        name="median",
        cls="bb_aggregator_median._median:Median",
        summary="coordinate-wise median; bounded while fewer than half are attackers",
    )
