"""Krum and multi-Krum for bytesandbrains: the updates that lie closest to others."""

from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the aggregator; its class is imported when it is built."""
    return ComponentSpec(
        role="aggregator",
        name="krum",
        cls="bb_aggregator_krum._krum:Krum",
        summary="Krum and multi-Krum: the updates that lie closest to others",
    )
