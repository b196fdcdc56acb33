"""Which round of a `g.rounds` block something belongs to that a Node reports.

Steps name regions, and the artifact says which region is in which block, so rounds are counted by
the frames of a block that have ended. With `width=` above 1 that is the order in which they end.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from bb_ir import keys

if TYPE_CHECKING:
    from bb_runtime import Artifact, Emitted, FrameEnded
    from bb_runtime.artifact import RegionInfo

__all__ = ["Turns", "samples"]


class Turns:
    """Counts the rounds of one invocation.

    Args:
        artifact: The program.
    """

    def __init__(self, artifact: Artifact) -> None:
        targets = artifact.targets.values()
        regions = {info.name: info for target in targets for info in target.regions}
        #: Target and output -> the block of rounds in which it is published.
        self._block_of = {
            (target.short, str(op.attributes["name"])): _block(op.region, regions)
            for target in targets
            for op in target.ops
            if (op.domain, op.name) == (keys.SYSCALL, keys.OUTPUT)
        }
        self._ended: Counter[str] = Counter()
        self._blocks = {info.name for info in regions.values() if info.kind == "rounds"}

    def __bool__(self) -> bool:
        """Whether the program has blocks of rounds."""
        return bool(self._blocks)

    def end(self, step: FrameEnded) -> None:
        """Take notice of a frame that ended."""
        if step.region in self._blocks:
            self._ended[step.region] += 1

    def of(self, step: Emitted) -> int | None:
        """Return the number of the round in which an output was published, if it was in one."""
        block = self._block_of.get((step.target, step.name), "")
        return self._ended[block] + 1 if block else None


def _block(region: str, regions: dict[str, RegionInfo]) -> str:
    """Return the block of rounds that a region is in, on this Node or behind its messages."""
    while info := regions.get(region):
        if info.kind == "rounds":
            return region
        region = info.parent or info.opened_in
    return ""


def samples(artifact: Artifact, slot: str) -> tuple[int, str]:
    """Return how many peers a slot is asked for at most, and of which class."""
    ops = [op for target in artifact.targets.values() for op in target.ops]
    asked = [int(op.attributes["n"]) for op in ops if op.slot == slot and op.name == "Sample"]
    return max(asked, default=0), str(artifact.slots.get(slot, {}).get("of", ""))
