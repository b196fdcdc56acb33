"""Declares `acme.graph/2`: edges have weights."""

from bb_roles import TypeSpec, hookimpl


@hookimpl
def bb_type() -> TypeSpec:
    """Name the classes; neither is imported here."""
    return TypeSpec(
        name="acme.graph/2",
        cls="acme_graph.graphs:WeightedGraph",
        codec="acme_graph.codecs:WeightedGraphCodec",
        summary="A directed graph with weights.",
    )
