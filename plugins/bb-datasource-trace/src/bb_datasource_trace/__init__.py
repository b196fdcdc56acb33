"""Recorded request traces, and the tables that a planner of KV caches makes of them."""

from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the component."""
    return ComponentSpec(
        role="data_source",
        name="trace",
        cls="bb_datasource_trace._trace:Trace",
        summary="Requests for pages of a KV cache, reduced from a recorded trace.",
    )
