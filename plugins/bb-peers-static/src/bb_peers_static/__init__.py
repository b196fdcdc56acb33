"""A fixed list of peers for bytesandbrains, with seeded cohorts."""

from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the component."""
    return ComponentSpec(
        role="peer_selector",
        name="static",
        cls="bb_peers_static._static:Static",
        summary="A list of peers from the configuration; cohorts are drawn by seed.",
    )
