"""Linear models of scikit-learn for bytesandbrains, trained batch by batch."""

from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the component."""
    return ComponentSpec(
        role="model",
        name="sklearn",
        cls="bb_model_sklearn._linear:Linear",
        summary="scikit-learn's linear models: SGD, perceptron, passive-aggressive.",
    )
