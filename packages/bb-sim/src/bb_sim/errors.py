"""What the simulator can object to. An error's code is the name of its class."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = ["BadCheckpoint", "BadScenario", "NoCheckpointNow", "SimulationError", "UnknownPeers"]


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


class BadCheckpoint(SimulationError):
    """A checkpoint cannot be gone on from: it is damaged, or was taken of something else.

    Met at `Simulation.resume` and at `bb sim --resume`. Program, components, configuration and
    scenario have to be those that it was taken of; only the number of rounds and the time at which
    to stop may differ. The simulation is to be made anew.
    """


class NoCheckpointNow(SimulationError):
    """A checkpoint was asked for while a Node cannot be written down.

    Met at `Simulation.checkpoint`, when a frame holds a value that means nothing in another process
    or waits for a device. Nothing has changed: go on, and ask again later.
    """
