"""What all parts of a simulation look at: who there is, what lies between them, and the time.

This is built once and decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from bb_runtime import Artifact
from bb_runtime.artifact import Target
from bb_sim._draws import Draws
from bb_sim._events import Events
from bb_sim._links import Links
from bb_sim._population import Population
from bb_sim._recorder import Recorder
from bb_sim._timetable import Paces, Timetable
from bb_sim.scenario import Scenario

__all__ = ["World"]


@dataclass(frozen=True, slots=True)
class World:
    """The surroundings of the peers of one simulation.

    Attributes:
        artifact: The program.
        main: The target that is invoked.
        scenario: What was asked for.
        population: Who there is.
        draws: All chance.
        links: What becomes of an envelope on its way.
        table: When peers start and stop, and who is cut off.
        paces: How long work takes.
        events: What is still to happen.
        recorder: What happened.
    """

    artifact: Artifact
    main: Target
    scenario: Scenario
    population: Population
    draws: Draws
    links: Links
    table: Timetable
    paces: Paces
    events: Events
    recorder: Recorder
