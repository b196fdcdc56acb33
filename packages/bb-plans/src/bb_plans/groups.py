"""Which ranks need which bucket, and whether that can be right: pure functions over plans.

Ranks are the workers of one model that is split among them (tensor parallelism); a consumer set is
the ranks that get a bucket (a lane of a plan). Plans know nothing of either: whoever moves bytes
among ranks does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from bb_ir.plan import SwapPlan, chunk_digest
from bb_plans.errors import RanksUnfit

__all__ = [
    "BucketUse",
    "ConsumerReport",
    "Distribution",
    "GroupReport",
    "Split",
    "consumer_sets",
    "distribute",
    "tensor_parallel_groups",
    "verify_consumers",
    "verify_groups",
]

Groups = Mapping[int, Sequence[int]]
_WIDEST: Final = 1 << 20
#: Problems that an error tells; the rest is counted.
_TOLD: Final = 3


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


@dataclass(frozen=True, slots=True)
class Split:
    """How a model is split among ranks: who needs which tensors.

    A tensor that no pattern matches is for all ranks. `ranks` counts more than `members`.

    Attributes:
        world: How many ranks there are; 0 for as many as are named.
        tensor_parallel: Size of groups of neighbouring ranks, where `groups` names none; 1 for no
            groups.
        groups: Ranks by group.
        members: Groups by pattern of names, as `consumer_sets` reads them.
        ranks: Ranks by pattern of names.
        required: Whether every bucket must have a consumer set of its own.
        whole_groups: Whether a bucket that a rank of a group needs must be for the whole group.

    Raises:
        RanksUnfit: They do not fit together.
    """

    world: int = 0
    tensor_parallel: int = 1
    groups: Groups = field(default_factory=dict[int, Sequence[int]])
    members: Mapping[str, int] = field(default_factory=dict[str, int])
    ranks: Mapping[str, Sequence[int]] = field(default_factory=dict[str, Sequence[int]])
    required: bool = False
    whole_groups: bool = False

    def __post_init__(self) -> None:
        named = [rank for table in (self.groups, self.ranks) for r in table.values() for rank in r]
        if not self.world:
            world = max([self.tensor_parallel - 1, *named], default=0) + 1
            object.__setattr__(self, "world", world)
        if not 1 <= self.world <= _WIDEST:
            raise RanksUnfit(f"a world of {self.world} ranks", expected=f"1 to {_WIDEST}")
        if not self.groups and self.tensor_parallel != 1:
            made = tensor_parallel_groups(self.world, self.tensor_parallel)
            object.__setattr__(self, "groups", made)
        problems = list(verify_groups(self.groups, self.world).problems)
        problems += [
            f"{pattern!r} is for ranks {list(bad)}, of a world of {self.world}"
            for pattern, ranks in self.ranks.items()
            if (bad := _outside(ranks, self.world))
        ]
        problems += [
            f"{pattern!r} is for group {group}, which there is not"
            for pattern, group in self.members.items()
            if group not in self.groups
        ]
        _refuse(problems, fix="correct who needs what")


class BucketUse(NamedTuple):
    """A bucket, and who needs it.

    Attributes:
        lane: Its lane in the plan.
        ops: How many ops fill it.
        nbytes: Bytes in it.
        ranks: Who needs it; `None` for all ranks.
    """

    lane: str
    ops: int
    nbytes: int
    ranks: tuple[int, ...] | None


class Distribution(NamedTuple):
    """Who needs which bucket of a plan.

    Attributes:
        buckets: The buckets, in the order of the plan.
        rank_bytes: Bytes that each rank needs.
        warnings: What is odd.
    """

    buckets: tuple[BucketUse, ...]
    rank_bytes: tuple[int, ...]
    warnings: tuple[str, ...]


def distribute(plan: SwapPlan, split: Split) -> Distribution:
    """Return who needs which bucket of a plan, checked.

    Args:
        plan: The plan; its lanes are the buckets.
        split: How the model is split.

    Raises:
        RanksUnfit: A bucket cannot be for those that it would be for.
    """
    sets = consumer_sets(plan, ranks=split.ranks, groups=split.groups, members=split.members)
    groups = verify_groups(split.groups, split.world)
    report = verify_consumers(
        list(sets.values()), split.world, required=split.required, groups=split.groups,
        whole_groups=split.whole_groups,
    )  # fmt: skip
    _refuse(report.problems, fix="correct who needs what, or take smaller buckets")
    counts, nbytes = dict.fromkeys(sets, 0), dict.fromkeys(sets, 0)
    for op in plan.ops:
        counts[op.lane] += 1
        nbytes[op.lane] += op.length
    buckets = tuple(BucketUse(at, counts[at], nbytes[at], ranks) for at, ranks in sets.items())
    by_rank = [0] * split.world
    for bucket in buckets:
        for rank in range(split.world) if bucket.ranks is None else bucket.ranks:
            by_rank[rank] += bucket.nbytes
    return Distribution(buckets, tuple(by_rank), (*groups.warnings, *report.warnings))


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

    A bucket's set is the union over the tensors in it, and all ranks as soon as one of them is for
    all. For a tensor counts what says most: `ranks`; else `groups` with `members`; else, if the
    model is split, all of its ranks.

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
    tables = (ranks or {}, by_group)
    found: dict[str, set[int] | None] = {}
    for op in plan.ops:
        so_far = found.setdefault(op.lane, set())
        for name in names.get(op.digest, ("",)):
            told = _of_tensor(name, tables, every)
            so_far = None if so_far is None or told is None else so_far | {*told}
        found[op.lane] = so_far
    return {lane: None if told is None else tuple(sorted(told)) for lane, told in found.items()}


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


def _refuse(problems: Sequence[str], *, fix: str) -> None:
    if problems:
        more = f"; and {len(problems) - _TOLD:,} more" if len(problems) > _TOLD else ""
        raise RanksUnfit("; ".join(problems[:_TOLD]) + more, fix=fix)


def _outside(ranks: Sequence[int], world: int) -> tuple[int, ...]:
    return tuple(sorted({rank for rank in ranks if not 0 <= rank < world}))


def _of_tensor(
    name: str, tables: Sequence[Mapping[str, Sequence[int]]], every: tuple[int, ...] | None
) -> Sequence[int] | None:
    """Return the ranks of all patterns that match, in the first table with one; else `every`."""
    for table in tables:
        found = [ranks for pattern, ranks in table.items() if fnmatchcase(name, pattern)]
        if found:
            return [rank for ranks in found for rank in ranks]
    return every


def _against(groups: Groups, ranks: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the groups of which a set has a part only, and its ranks that are in none."""
    here = {*ranks}
    parts = [name for name, members in groups.items() if here & {*members} and {*members} - here]
    known = {rank for members in groups.values() for rank in members}
    return parts, sorted(here - known)
