"""A multilayer perceptron for bytesandbrains, in numpy."""

from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the component."""
    return ComponentSpec(
        role="model",
        name="mlp",
        cls="bb_model_mlp._mlp:Mlp",
        summary="Multilayer perceptron classifier in numpy; SGD with momentum.",
    )
