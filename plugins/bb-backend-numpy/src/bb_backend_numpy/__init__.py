"""ONNX tensor ops on numpy arrays."""

from bb_roles import ComponentSpec, hookimpl

__all__ = ["bb_component"]


@hookimpl
def bb_component() -> ComponentSpec:
    """Offer the backend `numpy`."""
    return ComponentSpec(
        role="backend",
        name="numpy",
        cls="bb_backend_numpy._backend:NumpyBackend",
        summary="tensor ops of ONNX opset 23 on numpy arrays",
    )
