"""Declares a codec between graphs and tensors."""

from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Say which types it takes and gives."""
    return ComponentSpec(
        role="codec",
        name="adjacency",
        cls="acme_graph.components:Adjacency",
        summary="A graph as its adjacency matrix.",
        types={
            "Encode.value": "custom(acme.graph/1)",
            "Encode.encoded": "tensor(uint8)[n,n]",
            "Decode.encoded": "tensor(uint8)[n,n]",
            "Decode.value": "custom(acme.graph/1)",
        },
    )
