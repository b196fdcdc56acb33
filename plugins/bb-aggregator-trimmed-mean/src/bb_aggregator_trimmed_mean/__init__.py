"""Coordinate-wise trimmed mean for bytesandbrains: extremes do not count."""

from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the aggregator; its class is imported when it is built."""
    return ComponentSpec(
        role="aggregator",
        name="trimmed-mean",
        cls="bb_aggregator_trimmed_mean._trimmed_mean:TrimmedMean",
        summary="coordinate-wise mean without the largest and smallest values",
    )
