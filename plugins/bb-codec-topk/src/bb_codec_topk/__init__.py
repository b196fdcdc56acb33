"""The largest entries of an update for bytesandbrains; what is left out is sent later."""

from bb_codec_topk._ops import OPS
from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the component."""
    return ComponentSpec(
        role="codec",
        name="topk",
        cls="bb_codec_topk._topk:TopK",
        summary="The largest entries of an update; what is left out is added to the next one.",
        types={
            "Encode.value": "params",
            "Encode.encoded": "params",
            "Decode.encoded": "params",
            "Decode.value": "params",
        },
        ops=OPS,
    )
