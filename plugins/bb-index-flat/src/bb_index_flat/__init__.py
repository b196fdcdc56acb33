"""Exact nearest-neighbour search for bytesandbrains, in numpy."""

from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the component."""
    return ComponentSpec(
        role="index",
        name="flat",
        cls="bb_index_flat._flat:Flat",
        summary="Exact nearest neighbours: squared Euclidean, inner product or cosine.",
    )
