"""Which ranks need which bucket, and whether that can be right: pure functions over plans.

Ranks are the workers of one model that is split among them (tensor parallelism); a consumer set is
the ranks that get a bucket. Plans know nothing of either: whoever moves bytes among ranks does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from bb_ir.plan import SwapPlan, chunk_digest
from bb_planner_swap.errors import RanksUnfit

__all__ = [
    "ConsumerReport",
    "GroupReport",
    "consumer_sets",
    "tensor_parallel_groups",
    "verify_consumers",
    "verify_groups",
]

Groups = Mapping[int, Sequence[int]]
_WIDEST: Final = 1 << 20


class GroupReport(NamedTuple):
    """What is wrong with groups of ranks.

    Attributes:
        out_of_range: Ranks that the world does not have, by group.
        overlapping: Ranks that are in several groups.
        problems: What makes them unusable, in words.
        warnings: What is odd.
    """

    out_of_range: Mapping[int, tuple[int, ...]]
    overlapping: tuple[int, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


class ConsumerReport(NamedTuple):
    """What is wrong with consumer sets; the lists hold numbers of buckets.

    Attributes:
        buckets: How many buckets there are.
        missing: Those that have no consumer set although one is required.
        empty: Those whose set is empty.
        out_of_range: Ranks that the world does not have, by bucket.
        duplicates: Those that name a rank twice.
        problems: What makes the sets unusable, in words.
        warnings: What is odd.
    """

    buckets: int
    missing: tuple[int, ...]
    empty: tuple[int, ...]
    out_of_range: Mapping[int, tuple[int, ...]]
    duplicates: tuple[int, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def tensor_parallel_groups(world: int, size: int) -> dict[int, tuple[int, ...]]:
    """Return groups of neighbouring ranks: for 8 ranks in groups of 4, 0 to 3 and 4 to 7.

    Raises:
        RanksUnfit: The size does not divide the number of ranks, or one of them is below 1.
    """
    if not 1 <= size <= world <= _WIDEST or world % size:
        raise RanksUnfit(
            f"{world} ranks in groups of {size}",
            expected="a number of ranks that the size of groups divides",
        )
    return {at: tuple(range(at * size, (at + 1) * size)) for at in range(world // size)}


def verify_groups(groups: Groups, world: int) -> GroupReport:
    """Look for ranks that the world does not have, and for those in several groups."""
    bad = {name: _outside(ranks, world) for name, ranks in groups.items()}
    bad = {name: ranks for name, ranks in bad.items() if ranks}
    counted: dict[int, int] = {}
    for ranks in groups.values():
        for rank in {*ranks}:
            counted[rank] = counted.get(rank, 0) + 1
    twice = tuple(sorted(rank for rank, count in counted.items() if count > 1))
    problems = tuple(
        f"group {name} has ranks {list(ranks)}, of a world of {world}"
        for name, ranks in bad.items()
    )
    warnings = (f"ranks {list(twice)} are in several groups",) if twice else ()
    return GroupReport(bad, twice, problems, warnings)


def consumer_sets(
    plan: SwapPlan,
    *,
    ranks: Mapping[str, Sequence[int]] | None = None,
    groups: Groups | None = None,
    members: Mapping[str, int] | None = None,
    tensor_parallel: int = 1,
) -> dict[str, tuple[int, ...] | None]:
    """Return the ranks that need each bucket (the lanes of a plan); `None` stands for all ranks.

    A bucket's set is the union over what is in it. What says most counts: `ranks`; else `groups`
    with `members`; else, if the model is split, all of its ranks.

    Args:
        plan: The plan.
        ranks: Ranks by pattern of names, such as `{"layers.*.mlp.*": [0, 1]}`; names are those of
            tensors, paths where there are none. `*` and `?` are as in `fnmatch`.
        groups: Ranks by group.
        members: Groups by pattern of names.
        tensor_parallel: Among how many ranks the model is split.
    """
    names: dict[object, list[str]] = {}
    for chunk in plan.adds:
        name = chunk.path if chunk.tensor is None else chunk.tensor.name or chunk.path
        names.setdefault(chunk_digest(chunk), []).append(name)
    by_group = {p: (groups or {}).get(group, ()) for p, group in (members or {}).items()}
    every = tuple(range(tensor_parallel)) if tensor_parallel > 1 else None
    lanes: dict[str, list[str]] = {}
    for op in plan.ops:
        lanes.setdefault(op.lane, []).extend(names.get(op.digest, ()))
    found: dict[str, tuple[int, ...] | None] = {}
    for lane, inside in lanes.items():
        told = [_union(inside, table) for table in (ranks or {}, by_group)]
        found[lane] = next((one for one in told if one is not None), every)
    return found


def verify_consumers(
    sets: Sequence[Sequence[int] | None],
    world: int,
    *,
    required: bool = False,
    groups: Groups | None = None,
    whole_groups: bool = False,
) -> ConsumerReport:
    """Look for buckets whose consumer sets cannot be right.

    Args:
        sets: Ranks of each bucket; `None` where there is no set.
        world: How many ranks there are.
        required: Whether every bucket must have a set.
        groups: Ranks by group; a rank outside of all of them is odd.
        whole_groups: Whether a set that has a rank of a group must have all of them.
    """
    given = {at: ranks for at, ranks in enumerate(sets) if ranks is not None}
    missing = tuple(at for at, ranks in enumerate(sets) if ranks is None) if required else ()
    empty = tuple(at for at, ranks in given.items() if not ranks)
    bad = {at: _outside(ranks, world) for at, ranks in given.items()}
    bad = {at: ranks for at, ranks in bad.items() if ranks}
    twice = tuple(at for at, ranks in given.items() if len({*ranks}) < len(ranks))
    problems = [f"bucket {at} has no consumer set" for at in missing]
    problems += [f"bucket {at} has ranks {list(r)}, of a world of {world}" for at, r in bad.items()]
    warnings = [f"bucket {at} names a rank twice" for at in twice]
    warnings += [f"bucket {at} has an empty consumer set" for at in empty]
    for at, ranks in given.items():
        parts, strangers = _against(groups or {}, ranks)
        if whole_groups:
            problems += [f"bucket {at} has a part of group {name}" for name in parts]
        if groups and strangers:
            warnings.append(f"bucket {at} has ranks {strangers}, which are in no group")
    return ConsumerReport(len(sets), missing, empty, bad, twice, tuple(problems), tuple(warnings))


def _outside(ranks: Sequence[int], world: int) -> tuple[int, ...]:
    return tuple(sorted({rank for rank in ranks if not 0 <= rank < world}))


def _union(names: Sequence[str], table: Mapping[str, Sequence[int]]) -> tuple[int, ...] | None:
    """Return the ranks of all names that a pattern matches; `None` when none does."""
    found = [
        ranks
        for pattern, ranks in table.items()
        if any(fnmatchcase(name, pattern) for name in names)
    ]
    return tuple(sorted({rank for ranks in found for rank in ranks})) if found else None


def _against(groups: Groups, ranks: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the groups of which a set has a part only, and its ranks that are in none."""
    here = {*ranks}
    parts = [name for name, members in groups.items() if here & {*members} and {*members} - here]
    known = {rank for members in groups.values() for rank in members}
    return parts, sorted(here - known)
