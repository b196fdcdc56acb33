"""Parameters in 16, 8 or 4 bits for bytesandbrains."""

from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the component."""
    return ComponentSpec(
        role="codec",
        name="quantize",
        cls="bb_codec_quantize._quantize:Quantize",
        summary="Parameters as int8, int4, float16 or bfloat16, rounded to nearest or by chance.",
        types={
            "Encode.value": "params",
            "Encode.encoded": "params",
            "Decode.encoded": "params",
            "Decode.value": "params",
        },
    )
