"""Approximate nearest-neighbour search for bytesandbrains, over usearch."""

from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the component."""
    return ComponentSpec(
        role="index",
        name="usearch",
        cls="bb_index_usearch._usearch:Usearch",
        summary="Approximate nearest neighbours in a graph: squared Euclidean, product or cosine.",
    )
