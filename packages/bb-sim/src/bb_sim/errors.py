"""What the simulator can object to. An error's code is the name of its class."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = ["BadScenario", "SimulationError", "UnknownPeers"]


class SimulationError(BytesAndBrainsError):
    """A simulation cannot begin.

    What all errors of the simulator are kinds of; it is caught, never raised itself.
    """


class BadScenario(SimulationError):
    """A scenario cannot be read, or says what makes no sense.

    Met at `read_scenario`, at `simulate` and by `bb sim`, before anything runs. The error names the
    table or the field.
    """


class UnknownPeers(BadScenario):
    """A scenario names peers that it does not have, or a class that the program does not have.

    Peers read like `client`, `client[3]`, `client[0:10]` or `client[10%]`, counted from 0.
    """
