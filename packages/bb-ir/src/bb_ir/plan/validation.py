"""Whether a plan is sound: every rule is looked at, and everything wrong is listed.

`validate` is pure and total: it does no I/O, never raises for anything that is in a plan, and goes
on after the first finding. What only the place where a plan is carried out can know, such as how
large an arena is, is given to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from bb_ir.plan._fitting import misfits
from bb_ir.plan._problems import Problem, Quota, Surroundings
from bb_ir.plan._rules_cache import cache_problems
from bb_ir.plan._rules_ops import op_problems
from bb_ir.plan._rules_swap import swap_problems
from bb_ir.plan._tables import table_of
from bb_ir.plan.digests import SCHEMA_VERSION, content_digest, digest_text
from bb_ir.plan.errors import InvalidPlan
from bb_ir.plan.messages import CachePlan, Plan, SwapPlan
from bb_ir.plan.places import Medium

__all__ = ["RULES", "Problem", "Quota", "check", "validate"]

#: The rules there are, by the word that a problem has for them.
RULES: Final[Mapping[str, str]] = MappingProxyType({
    "field": "every value is of its field's type, in its range, and not too long",
    "envelope": "a `Plan` has schema version 1, one plan, and the content digest of it",
    "ids": "ids of ops are different",
    "order": "deps name ops of the plan, and with the order of lanes they make no circle",
    "place": "places can be read, and none leaves its root",
    "kind": "the kind of an op is from what its source is on to what its destination is on",
    "range": "an op reads inside a chunk, and neither reads nor writes past an end",
    "overlap": "no two ops write the same bytes, unless they bring the same to the same place",
    "chunk": "paths of chunks are safe; chunks of a manifest are different and do not overlap",
    "account": "adds and shared are exactly `to`, and brought; deletes what has no place in it",
    "bytes": "lengths add up to `total_bytes`, and no bucket holds more than `bucket_bytes`",
    "time": "a window begins before it ends, and no op is due outside of it; lanes are fast enough",
    "quota": "no quota is exceeded",
    "digest": "every op and every chunk of a swap has a digest, and they agree",
    "pages": "the pages of an op are different, all that it moves, and as long as the op",
    "request": "rejected requests have different ids, and a reason",
})  # fmt: skip


def validate(
    plan: CachePlan | SwapPlan | Plan,
    *,
    media: Mapping[str, Medium] | None = None,
    regions: Mapping[str, int] | None = None,
    quotas: tuple[Quota, ...] = (),
    lane_rate: int = 0,
) -> tuple[Problem, ...]:
    """Return everything that is wrong with a plan, ops in their order; nothing when it is sound.

    It takes time in proportion to n log n for n ops.

    Args:
        plan: The plan.
        media: What a scheme is on here, where that differs: `{"device": Medium.HOST}`.
        regions: How many bytes a place has, for those that are known.
        quotas: What the ops may move at most.
        lane_rate: Bytes per second of a lane, to see whether deadlines can be met; 0 to skip that.
    """
    table = table_of(type(plan), (plan,))
    if table is None:
        found = [Problem("field", m.at, f"{m.found}; expected {m.expected}") for m in misfits(plan)]
        if found:  # nothing else can be told of what does not even fit
            return tuple(found)
    around = Surroundings(media or {}, regions or {}, quotas, lane_rate, table)
    return tuple(_plan(plan, around) if isinstance(plan, Plan) else _content(plan, around))


def check(
    plan: CachePlan | SwapPlan | Plan,
    *,
    media: Mapping[str, Medium] | None = None,
    regions: Mapping[str, int] | None = None,
    quotas: tuple[Quota, ...] = (),
    lane_rate: int = 0,
) -> tuple[Problem, ...]:
    """Return the warnings about a plan that is sound otherwise; arguments are those of `validate`.

    Raises:
        InvalidPlan: It is not sound; its `problems` are all that `validate` gives.
    """
    found = validate(plan, media=media, regions=regions, quotas=quotas, lane_rate=lane_rate)
    errors = [one for one in found if not one.warning]
    if errors:
        first, others = errors[0], len(errors) - 1
        more = f", and {others} more" if others else ""
        raise InvalidPlan(
            f"{first.at}: {first.found}{more}",
            expected=RULES[first.rule],
            fix="make another plan; this one cannot be carried out",
            problems=found,
        )
    return found


def _plan(plan: Plan, around: Surroundings) -> Iterator[Problem]:
    if plan.schema_version != SCHEMA_VERSION:
        told = f"is {plan.schema_version} instead of {SCHEMA_VERSION}"
        yield Problem("envelope", "schema_version", told)
    content = plan.cache or plan.swap
    if content is None:
        yield Problem("envelope", "plan", "holds no plan")
        return
    digest = digest_text(content_digest(content))
    if plan.plan_id != digest:
        yield Problem("envelope", "plan_id", f"is {plan.plan_id[:80]!r} instead of {digest!r}")
    held = around.table and around.table.under("cache" if plan.cache else "swap")
    yield from _content(content, around._replace(table=held))


def _content(plan: CachePlan | SwapPlan, around: Surroundings) -> Iterator[Problem]:
    yield from op_problems(plan.ops, around, around.table and around.table.under("ops"))
    if isinstance(plan, SwapPlan):
        yield from swap_problems(plan, around)
    else:
        yield from cache_problems(plan, around)
