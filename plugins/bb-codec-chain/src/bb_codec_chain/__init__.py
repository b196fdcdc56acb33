"""Several codecs as one for bytesandbrains: each encodes what the one before it returned."""

from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the component."""
    return ComponentSpec(
        role="codec",
        name="chain",
        cls="bb_codec_chain._chain:Chain",
        summary="Several codecs as one; each encodes what the one before it returned.",
    )
