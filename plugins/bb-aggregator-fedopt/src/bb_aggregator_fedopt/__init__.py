"""Server optimizers for bytesandbrains: FedAvgM, FedAdagrad, FedYogi and FedAdam."""

from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the aggregator; its class is imported when it is built."""
    return ComponentSpec(
        role="aggregator",
        name="fedopt",
        cls="bb_aggregator_fedopt._fedopt:FedOpt",
        summary="a server optimizer on the weighted mean: FedAvgM, FedAdagrad, FedYogi, FedAdam",
    )
