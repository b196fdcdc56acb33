"""Errors of plans: what cannot be read or written, and what is not sound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bb_ir.errors import BytesAndBrainsError

if TYPE_CHECKING:
    from bb_ir.plan._problems import Problem

__all__ = ["InvalidPlan", "PlanFormatError"]


class PlanFormatError(BytesAndBrainsError):
    """Bytes or a text are no plan, or a value in a plan cannot be written down.

    Met where plans are read and written: a field that the schema does not have, a value of the
    wrong type, a number out of range, a text or list that is too long. The error names the field.
    Ask for the plan again; one that was written by a newer version needs a newer version to read.
    """


class InvalidPlan(BytesAndBrainsError):
    """A plan can be read, and is not sound: carrying it out would do harm or fail halfway.

    Met at `bb_ir.plan.check` and wherever a plan is about to be carried out. The error names the
    first thing that is wrong and counts the others, which are in its `problems`; nothing was
    moved. Whoever made the plan has to make another one.

    Args:
        found: The first thing that is wrong.
        expected: The rule that says so.
        fix: What to do.
        problems: All that `bb_ir.plan.validate` found, warnings included.
    """

    def __init__(
        self, found: str, *, expected: str, fix: str, problems: tuple[Problem, ...] = ()
    ) -> None:
        super().__init__(found, expected=expected, fix=fix)
        self.problems = problems
