"""What can be wrong with files of plans."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = ["BadPlanFile", "PlanLacks"]


class BadPlanFile(BytesAndBrainsError):
    """A file is no plan or manifest, or cannot be read.

    Met by `bb plan` before anything is planned or moved. The error says what the file holds; `bb
    plan swap`, `cache` and `manifest` write what can be read.
    """


class PlanLacks(BytesAndBrainsError):
    """A plan needs a place that was not given: a folder of files, a store, or tiers.

    Met by `bb plan apply` before anything is moved. The error names the op and the option: --files
    for `file://`, --store for `cas://`, --tiers for `tier://`. What an op reads has to be there; a
    file for a tier that is only written to is made.
    """
