"""Gossip averaging for bytesandbrains: push, push-pull and push-sum, without a server."""

from bb_protocol_gossip._ops import OPS
from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the component."""
    return ComponentSpec(
        role="protocol",
        name="gossip",
        cls="bb_protocol_gossip._gossip:Gossip",
        summary="All peers come to one mean by exchanges between two: push, push-pull, push-sum.",
        ops=OPS,
    )
