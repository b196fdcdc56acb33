"""What this aggregator refuses, and why. Every refusal leaves the optimizer as it was.

What it refuses of updates and of rounds is in `bb_roles.folding.errors`.
"""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = ["InvalidSetting", "StateMismatch", "StepOutOfRange"]


class InvalidSetting(BytesAndBrainsError, ValueError):
    """A field of the configuration is out of its range, or the rule has no use for it.

    Met when the aggregator is built. Correct the field, or leave it out: each rule has defaults.
    """


class StepOutOfRange(BytesAndBrainsError, ValueError):
    """The optimizer's step takes a parameter beyond what the next round could fold.

    The round is over and the optimizer is as it was before it. Lower `lr`, raise `tau`, or raise
    `value_max` if the model really has such parameters.
    """


class StateMismatch(BytesAndBrainsError, ValueError):
    """A saved state is that of another rule.

    Met when an aggregator is loaded. Its moments mean nothing to the rule that is configured now:
    restore with the rule of the saved run.
    """
