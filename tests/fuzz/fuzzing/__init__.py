"""Everything of this project that reads bytes from outside, each as a target of fuzzing."""

from __future__ import annotations

from fuzzing._target import Finding, Target
from fuzzing.envelopes import CONTROLS, ENVELOPES
from fuzzing.names import ADDRESSES, TYPES
from fuzzing.parameters import PARAMETERS, VALUES_OF_TYPES
from fuzzing.plans import PLANS, TEXTS_OF_PLANS
from fuzzing.programs import ARTIFACTS, TEXTS_OF_MODELS
from fuzzing.settings import CONFIGS, SCENARIOS
from fuzzing.state import JOURNALS, SNAPSHOTS

__all__ = ["TARGETS", "Finding", "Target"]

#: All targets by name.
TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        ENVELOPES, CONTROLS, VALUES_OF_TYPES, PARAMETERS, SNAPSHOTS, JOURNALS, ARTIFACTS,
        TEXTS_OF_MODELS, TYPES, ADDRESSES, SCENARIOS, CONFIGS, PLANS, TEXTS_OF_PLANS,
    )
}  # fmt: skip
