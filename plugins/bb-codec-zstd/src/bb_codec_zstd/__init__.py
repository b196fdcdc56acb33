"""Lossless compression for bytesandbrains: parameters or bytes as Zstandard frames."""

from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the component."""
    return ComponentSpec(
        role="codec",
        name="zstd",
        cls="bb_codec_zstd._zstd:Zstd",
        summary="Parameters or bytes as a Zstandard frame, without loss.",
        types={"Encode.encoded": "bytes", "Decode.encoded": "bytes"},
    )
