"""What can be wrong with files of plans."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = ["BadPlanFile", "BytesDamaged", "PlanLacks"]


class BadPlanFile(BytesAndBrainsError):
    """A file is no plan or manifest, or cannot be read.

    Met by `bb plan` before anything is planned or moved. The error says what the file holds; `bb
    plan swap`, `cache` and `manifest` write what can be read.
    """


class BytesDamaged(BytesAndBrainsError):
    """An op of a plan would bring other bytes than its digest says: what it reads was changed.

    Found by `bb plan verify`, which moves nothing; `bb plan apply` finds it, too, and commits
    nothing. Copy the bundle again, or what lies at the place that the error names.

    Args:
        found: What is wrong.
        expected: The digest.
        fix: What to do.
        where: The op.
        op: Its number in the plan, from 0.
        place: The place whose bytes are others.
    """

    def __init__(
        self, found: str, *, expected: str, fix: str, where: str, op: int, place: str
    ) -> None:
        super().__init__(found, expected=expected, fix=fix, where=where)
        self.op, self.place = op, place


class PlanLacks(BytesAndBrainsError):
    """A plan needs a place that was not given: a folder of files, a store, or tiers.

    Met by `bb plan apply` before anything is moved. The error names the op and the option: --files
    for `file://`, --store for `cas://`, --tiers for `tier://`. What an op reads has to be there; a
    file for a tier that is only written to is made.
    """
