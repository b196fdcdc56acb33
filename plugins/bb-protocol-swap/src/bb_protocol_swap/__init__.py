"""Weight swaps for bytesandbrains: serving Nodes take over the next model without stopping."""

from bb_protocol_swap._ops import OPS
from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the component."""
    return ComponentSpec(
        role="protocol",
        name="swap",
        cls="bb_protocol_swap._swap:Swap",
        summary="Serving Nodes take over new weights in two phases, as differences, by digest.",
        ops=OPS,
    )
