"""PyTorch models for bytesandbrains: any module, any optimizer, on CPU and GPU."""

from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the component."""
    return ComponentSpec(
        role="model",
        name="torch",
        cls="bb_model_torch.model:TorchModel",
        summary="Any PyTorch module, trained by any of its optimizers, on CPU or GPU.",
    )
