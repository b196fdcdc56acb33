"""Peers that a registry knows, for bytesandbrains, with seeded cohorts."""

from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the component."""
    return ComponentSpec(
        role="peer_selector",
        name="registry",
        cls="bb_peers_registry._members:Members",
        summary="The live members of the registry in slot `registry`; cohorts are drawn by seed.",
        depends={"registry": "protocol"},
    )
