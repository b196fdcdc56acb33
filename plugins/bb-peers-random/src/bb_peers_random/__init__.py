"""Weighted and stratified cohorts of known peers for bytesandbrains."""

from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the component."""
    return ComponentSpec(
        role="peer_selector",
        name="random",
        cls="bb_peers_random._random:Random",
        summary="Peers drawn by weight and spread over groups; a newcomer disturbs no other draw.",
    )
