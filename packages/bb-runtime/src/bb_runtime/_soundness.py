"""Checks that the regions and blocks of a target fit together, before it is lowered.

The compiler writes nothing else; an artifact of a stranger may, and must be refused when it is
installed instead of failing in the middle of a frame.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from bb_ir import keys
from bb_ir.framework_ops import METRIC_KINDS
from bb_runtime._program import begins, is_block, is_gather, is_last
from bb_runtime.artifact import Op, RegionInfo, Target
from bb_runtime.errors import InvalidArtifact

__all__ = ["check_target"]

_OVERLAPS = ("queue", "skip", "parallel")
#: How many inputs of its own each kind of block may have.
_INPUTS = {"Each": (1,), "Loop": (0, 1), "When": (1,), "Rounds": (0, 1), "Every": (0,), "On": (0,)}


def check_target(target: Target) -> None:
    """Check the regions and blocks of a target.

    Raises:
        InvalidArtifact: They do not fit together.
    """
    regions = {info.name: info for info in target.regions}
    _check_regions(target, regions)
    turns = {op.region: op for op in target.ops if begins(op) and op.domain == keys.SYSCALL}
    opened: Counter[str] = Counter()
    for op in target.ops:
        _demand(op.region in regions, target, f"{op.name} stands in the region {op.region!r}")
        if is_block(op):
            opened[op.opens] += 1
            _check_block(target, op, regions, turns.get(op.opens))
    for info in target.regions:
        wanted = 1 if info.kind else 0
        _demand(opened[info.name] == wanted, target, f"{opened[info.name]} blocks open {info.name}")
    _demand(all(regions[name].kind for name in turns), target, "a Turn stands in no block's region")
    made_in = {name: op.region for op in target.ops for name in op.outputs}
    for op in target.ops:
        if op.domain == keys.SYSCALL:
            _check_op(target, op, regions.get(made_in.get(next(iter(op.inputs), ""), "")))


def _check_regions(target: Target, regions: dict[str, RegionInfo]) -> None:
    _demand(len(regions) == len(target.regions), target, "two regions have one name")
    for info in target.regions:
        _demand(
            _whole(info.deadline_ns, 1),
            target,
            f"the deadline of {info.name} is {info.deadline_ns!r}",
        )
        seen = {info.name}
        while info.parent:
            _demand(info.parent in regions, target, f"{info.name} is a part of {info.parent!r}")
            _demand(info.parent not in seen, target, f"{info.parent} is a part of itself")
            seen.add(info.parent)
            info = regions[info.parent]  # noqa: PLW2901  # up the line


def _check_block(target: Target, op: Op, regions: dict[str, RegionInfo], turn: Op | None) -> None:
    what = f"the block {op.name} opens {op.opens!r}"
    info = regions.get(op.opens)
    child = op.name in keys.CHILD_BLOCKS
    if info is None or turn is None:
        raise _unsound(target, f"{what}, which is no region with a Turn")
    around = op.region if child else ""
    _demand(
        info.kind == op.name.lower() and info.parent == around,
        target, f"{what}, which is a {info.kind or 'region'} in {info.parent or 'nothing'}",
    )  # fmt: skip
    facts = op.attributes
    captured = facts.get("captured", 0)
    _demand(
        _whole(captured, 0, 0 if child else len(op.inputs)), target,
        f"{what} and hands over {captured!r} of its {len(op.inputs)} inputs",
    )  # fmt: skip
    own = len(op.inputs) - captured
    _demand(own in _INPUTS[op.name], target, f"{what} and has {own} inputs of its own")
    brings = captured + (facts.get("items", 1) if op.name == "Each" else 1)
    _demand(len(turn.outputs) == brings, target, f"{what}, whose Turn gives {len(turn.outputs)}")
    wrong = [key for key, right in _facts(op.name, facts) if not right]
    _demand(not wrong, target, f"{what} with {', '.join(f'{k}={facts.get(k)!r}' for k in wrong)}")


def _facts(kind: str, facts: dict[str, Any]) -> Iterable[tuple[str, bool]]:
    """Return the attributes of a block, and whether each is as it must be."""
    if kind in ("Loop", "Rounds"):
        yield "times", _whole(facts.get("times", 1))
    if kind in keys.CHILD_BLOCKS:
        yield "deadline_ns", _whole(facts.get("deadline_ns", 0), 0)
    if kind == "Rounds":
        yield "width", _whole(facts.get("width"), 1)
        yield "on_fail", facts.get("on_fail") in ("stop", "continue")
    if kind in ("Every", "On"):
        yield "overlap", facts.get("overlap") in _OVERLAPS
    if kind == "On":
        yield "topic", isinstance(facts.get("topic"), str)
    if kind == "Every":
        period = facts.get("period_ns")
        yield "period_ns", _whole(period, 1)
        most = period - 1 if isinstance(period, int) else 0
        yield "jitter_ns", _whole(facts.get("jitter_ns"), 0, most)


def _check_op(target: Target, op: Op, source: RegionInfo | None) -> None:
    """Check an op of the engine; `source` is the region that makes its first input."""
    kind = "" if source is None else source.kind
    if op.name in (keys.PUBLISH, keys.OUTPUT):
        key = "topic" if op.name == keys.PUBLISH else "name"
        named = isinstance(op.attributes.get(key), str) and len(op.inputs) == 1
        _demand(named, target, f"{op.name} has {len(op.inputs)} inputs and no {key}")
    elif op.name == keys.SLEEP:
        right = _whole(op.attributes.get("duration_ns"), 1) and len(op.inputs) < 2
        _demand(right and len(op.outputs) == 1, target, "a Sleep of no duration")
    elif op.name == keys.METRIC:
        named = isinstance(op.attributes.get("name"), str) and len(op.inputs) == 1
        right = named and op.attributes.get("kind") in METRIC_KINDS
        _demand(right, target, "a Metric without a name or a kind")
    elif op.name == keys.UNTIL:
        _demand(len(op.inputs) == 2 and bool(kind), target, "an Until ends no block")
    elif is_last(op):
        _demand(kind in _CHILD_KINDS and bool(op.outputs), target, "a Last is of no block")
    if (is_gather(op) or is_last(op)) and source is not None and kind:
        right = source.parent == op.region and bool(source.parent)
        _demand(right, target, f"{op.name} in {op.region} is of the block {source.name}")


_CHILD_KINDS = tuple(name.lower() for name in keys.CHILD_BLOCKS)


def _whole(value: object, least: int | None = None, most: int | None = None) -> bool:
    if isinstance(value, bool) or not isinstance(value, int):
        return False
    return (least is None or value >= least) and (most is None or value <= most)


def _demand(right: bool, target: Target, found: str) -> None:  # noqa: FBT001  # what is demanded
    if not right:
        raise _unsound(target, found)


def _unsound(target: Target, found: str) -> InvalidArtifact:
    return InvalidArtifact(
        f"the regions of {target.short} do not fit together: {found}",
        expected="what this version's compiler writes",
        fix="compile the program again",
    )
