"""ONNX tensor ops on ONNX Runtime."""

from bb_roles import ComponentSpec, hookimpl

__all__ = ["bb_component"]


@hookimpl
def bb_component() -> ComponentSpec:
    """Offer the backend `onnxruntime`."""
    return ComponentSpec(
        role="backend",
        name="onnxruntime",
        cls="bb_backend_onnxruntime._backend:OnnxRuntimeBackend",
        summary="tensor ops of ONNX opset 23 on ONNX Runtime, fused ones as one session",
    )
