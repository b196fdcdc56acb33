"""A small federation in a virtual world, for all tests here."""

import pytest

from bb_roles.registry import bound_class
from bb_sim import Scenario, Simulation
from bytesandbrains.programs import FederatedAveraging


@pytest.fixture(scope="session")
def artifact(compiled):
    """Federated averaging over all clients that there are, with parts that do tiny work."""
    made = {}

    def artifact_(cohort=8, **settings):
        key = (cohort, *sorted(settings.items()))
        if key not in made:
            parts = {}
            if name := settings.pop("aggregator", ""):
                parts["aggregator"] = bound_class("aggregator", name)
            made[key] = compiled(FederatedAveraging(cohort, **settings), **parts)
        return made[key]

    return artifact_


@pytest.fixture
def simulation(artifact):
    """Make a simulation of so many clients, all of whom are asked."""

    def simulation_(clients=8, *, config=None, program=None, **given):
        how = ("options", "late", "digest", "by_reference")
        chosen = {name: given.pop(name) for name in how if name in given}
        scenario = Scenario(**{"peers": {"client": clients}, "rounds": 3, **given})
        each = config or {"data": lambda index: {"value": index + 1.0}}
        return Simulation(artifact(clients, **(program or {})), scenario, config=each, **chosen)

    return simulation_
