"""Membership by lease for bytesandbrains: members announce themselves, renew, and leave."""

from bb_protocol_registry._ops import OPS
from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the component."""
    return ComponentSpec(
        role="protocol",
        name="registry",
        cls="bb_protocol_registry._registry:Registry",
        summary="Who takes part: members announce themselves and hold leases that run out.",
        ops=OPS,
    )
