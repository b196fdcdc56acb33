"""Plans from files to files: what `bb plan` and `bb demo plans` are made of.

Planners and executors are plugins, found by their names.
"""

from __future__ import annotations

from bytesandbrains.plans._caches import cache_plan, tier_files, trace_source
from bytesandbrains.plans._carrying import carry_out, rehearse, simulated
from bytesandbrains.plans._comparing import Compared, compare_bytes
from bytesandbrains.plans._errors import BadPlanFile, BytesDamaged, PlanLacks
from bytesandbrains.plans._files import read_manifest, read_plan, write_plan
from bytesandbrains.plans._making import (
    Bundle,
    bundle_arenas,
    bundle_digests,
    executor,
    planner,
    swap_bundle,
    swap_in_place,
)

__all__ = [
    "BadPlanFile",
    "Bundle",
    "BytesDamaged",
    "Compared",
    "PlanLacks",
    "bundle_arenas",
    "bundle_digests",
    "cache_plan",
    "carry_out",
    "compare_bytes",
    "executor",
    "planner",
    "read_manifest",
    "read_plan",
    "rehearse",
    "simulated",
    "swap_bundle",
    "swap_in_place",
    "tier_files",
    "trace_source",
    "write_plan",
]
