"""Declares `acme.graph/1`: nodes and edges."""

from bb_roles import TypeSpec, hookimpl


@hookimpl
def bb_type() -> TypeSpec:
    """Name the classes; neither is imported here."""
    return TypeSpec(
        name="acme.graph/1",
        cls="acme_graph.graphs:Graph",
        codec="acme_graph.codecs:GraphCodec",
        max_bytes=1 << 16,
        summary="A directed graph.",
    )
