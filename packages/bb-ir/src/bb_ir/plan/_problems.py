"""What the rules are told, and what they say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from bb_ir.plan._tables import Table
from bb_ir.plan.messages import TransferOp
from bb_ir.plan.places import Medium

__all__ = ["Problem", "Quota", "Surroundings", "late", "problem_of"]

_SECOND_NS = 10**9


class Problem(NamedTuple):
    """Something that is wrong with a plan.

    Attributes:
        rule: Which rule says so; a key of `RULES`.
        at: The field, such as `ops[3].src_offset`.
        found: What is wrong with it.
        op: Index of the op; `None` when it is about none.
        warning: Whether the plan can be carried out all the same.
    """

    rule: str
    at: str
    found: str
    op: int | None = None
    warning: bool = False

    def __str__(self) -> str:
        return f"{'warning' if self.warning else 'error'} ({self.rule}) {self.at}: {self.found}"


class Quota(NamedTuple):
    """What ops may move at most, all together.

    Attributes:
        limit: In bytes.
        node: Only ops to this node; to any when empty.
        tier: Only ops to this tier; to any when -1.
        tenant: Only ops of this tenant; of any when empty.
    """

    limit: int
    node: str = ""
    tier: int = -1
    tenant: str = ""


class Surroundings(NamedTuple):
    """What a plan is held against besides itself; fields as `validate` takes them.

    `table` is the plan as columns, which tell quickly that a rule is kept; `None` for none.
    """

    media: Mapping[str, Medium]
    regions: Mapping[str, int]
    quotas: tuple[Quota, ...]
    lane_rate: int
    table: Table | None = None


def problem_of(rule: str, index: int, field: str, found: str, *, warning: bool = False) -> Problem:
    """Return a problem of an op."""
    return Problem(rule, f"ops[{index}].{field}", found, index, warning)


def late(ops: Iterable[TransferOp], start_ns: int, rate: int) -> Iterator[Problem]:
    """Yield ops that their lane cannot do in time, at some bytes per second, as warnings."""
    if rate <= 0:
        return
    ends: dict[str, int] = {}
    for index, op in enumerate(ops):
        if not op.lane:
            continue
        size = op.encoded_length or op.length
        ends[op.lane] = ends.get(op.lane, start_ns) + size * _SECOND_NS // rate
        if 0 < op.deadline_ns < ends[op.lane]:
            over = (ends[op.lane] - op.deadline_ns) / 1e6
            told = f"lane {op.lane[:80]!r} is done {over:.3f} ms too late"
            yield problem_of("time", index, "deadline_ns", told, warning=True)
