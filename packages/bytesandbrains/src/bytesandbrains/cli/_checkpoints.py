"""Where `bb sim` writes how far it is, and goes on from."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from bb_ir.errors import BytesAndBrainsError
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
    """The checkpoint in a folder.

    Attributes:
        file: Where it is.
        failed: Why the last one could not be written; a simulation goes on all the same.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / CHECKPOINT
        self.failed: BytesAndBrainsError | None = None
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
        try:
            simulation.resume(data)
        except BytesAndBrainsError as error:
            error.where = (str(self.file), *error.where)
            raise
        return simulation.rounds_told

    def save_sometimes(self, simulation: Simulation) -> None:
        """Write one if the last is old enough."""
        if time.monotonic() >= self._saved + _EVERY:
            self.save(simulation)

    def save(self, simulation: Simulation) -> bool:
        """Write one, as a whole; returns whether it is there."""
        from bb_sim import NoCheckpointNow
        from bytesandbrains._files import CannotWrite, write_atomically

        try:
            data = simulation.checkpoint()
        except NoCheckpointNow:
            return False  # the next chance is soon
        self._saved = time.monotonic()
        try:
            write_atomically(self.file, data)
        except CannotWrite as error:
            self.failed = error
            return False
        self.failed = None
        return True
