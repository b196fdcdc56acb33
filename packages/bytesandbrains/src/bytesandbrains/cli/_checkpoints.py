"""Where `bb sim` writes how far it is, and goes on from."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from bytesandbrains.cli._errors import CliError

if TYPE_CHECKING:
    from bb_sim import Simulation

__all__ = ["CHECKPOINT", "Checkpoints", "NoCheckpoint"]

CHECKPOINT = "checkpoint.bbsim"
#: Real seconds between two of them: writing ten thousand peers down takes longer than a round.
_EVERY = 30.0


class NoCheckpoint(CliError):
    """`bb sim --resume` finds nothing to go on from.

    A simulation with `--out DIR` writes a checkpoint into that folder between rounds, about every
    half minute, when it is interrupted, and at its end.
    """


class Checkpoints:
    """The checkpoint in a folder."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / CHECKPOINT
        self._saved = time.monotonic()

    def resume(self, simulation: Simulation) -> int:
        """Go on from the checkpoint; returns how many rounds had ended.

        Raises:
            NoCheckpoint: There is none.
            BadCheckpoint: It is damaged, or of another simulation.
        """
        try:
            data = self.file.read_bytes()
        except OSError as error:
            raise NoCheckpoint(
                f"{str(self.file)!r} cannot be read: {error.strerror}",
                expected="the --out folder of a simulation that was interrupted or ended",
                fix="leave --resume out, to begin anew",
            ) from error
        simulation.resume(data)
        return simulation.rounds_told

    def save_sometimes(self, simulation: Simulation) -> None:
        """Write one if the last is old enough."""
        if time.monotonic() >= self._saved + _EVERY:
            self.save(simulation)

    def save(self, simulation: Simulation) -> bool:
        """Write one, as a whole; returns whether a Node could not be written down now."""
        from bb_sim import NoCheckpointNow
        from bytesandbrains._files import write_atomically

        try:
            write_atomically(self.file, simulation.checkpoint())
        except NoCheckpointNow:
            return False
        self._saved = time.monotonic()
        return True
