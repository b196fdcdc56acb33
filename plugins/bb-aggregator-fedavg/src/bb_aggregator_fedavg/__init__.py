"""Federated averaging for bytesandbrains, streaming and independent of the order of arrival."""

from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the aggregator; its class is imported when it is built."""
    return ComponentSpec(
        role="aggregator",
        name="fedavg",
        cls="bb_aggregator_fedavg._fedavg:FedAvg",
        summary="mean weighted by examples; the same bits in any order of arrival",
    )
