"""Pass 5: the region of every op, and the rules that hold between regions."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import NamedTuple

from onnx import FunctionProto, ModelProto, NodeProto

from bb_compiler._blocks import captured_pairs, is_child_block, is_root_block
from bb_compiler._deadlines import is_measured, said_ns
from bb_compiler._placement import Placement, place
from bb_compiler._placement_errors import lines_of
from bb_compiler._rounds import early_rounds, empty_rounds
from bb_compiler.errors import (
    CompileError,
    DeadlineInversion,
    Findings,
    MixedDeadlines,
    QuorumUnreachable,
)
from bb_ir import keys, onnx_tools
from bb_ir.durations import format_duration


def infer_regions(model: ModelProto) -> ModelProto:
    """Stamp each op with its region, and each function with its regions.

    Raises:
        CompileError: A value leaves its fan-out without a gather, regions that no frame sees
            together meet in one op, an inner gather may outlast an outer one, one of two gathers
            of the same answers measures, a quorum is larger than the number of peers asked,
            nothing contributes to a round, or a round is taken before its replies are there.
    """
    result = ModelProto()
    result.CopyFrom(model)
    findings = Findings()
    classes: tuple[str, ...] = ()
    for function in result.functions:
        placement = place(function, classes)
        classes = classes or placement.classes
        gathers = _Gathers(function, placement)
        for problem in (
            *placement.region_problems,
            *_inversions(gathers),
            *_mixed(gathers),
            *_unreachable(function, gathers),
            *empty_rounds(function, placement),
            *early_rounds(function, placement),
        ):
            findings.add(problem)
        for node, where in zip(function.node, placement.nodes, strict=True):
            onnx_tools.set_meta(node, keys.REGION, where.region)
        table = [dataclasses.asdict(region) for region in placement.regions.values()]
        onnx_tools.set_meta(function, keys.REGIONS, json.dumps(table))
    findings.done()
    return result


def _inversions(gathers: _Gathers) -> Iterator[CompileError]:
    """Find gathers and blocks that may take longer than what waits for them."""
    for outer in gathers.outer():
        for inner in gathers.behind(outer.asked):
            if inner.bound_ns > outer.bound_ns:
                yield _inversion(inner, outer)


def _mixed(gathers: _Gathers) -> Iterator[CompileError]:
    """Find answers that one gather gives up by what is measured, and another waits for."""
    for edge, nodes in gathers.answers.items():
        measured = [node for node in nodes if is_measured(node)]
        patient = [node for node in nodes if not is_measured(node)]
        if measured and patient:
            yield MixedDeadlines(
                f"answers on edge {edge!r} are given up by what is measured, and another gather "
                "waits for the same ones",
                expected="deadline='auto' in all gathers of the same answers, or in none",
                where=lines_of(measured[0], patient[0]),
            )


def _unreachable(function: FunctionProto, gathers: _Gathers) -> Iterator[CompileError]:
    """Find gathers that want more answers than the sample they ask has peers."""
    samples = {
        name: node
        for node in function.node
        if node.domain == keys.role_domain("peer_selector") and node.op_type == "Sample"
        for name in node.output
    }
    for block in filter(is_root_block, function.node):
        pairs = captured_pairs(block, function.node)
        samples.update({inside: samples[old] for old, inside in pairs if old in samples})
    asked_of = {
        onnx_tools.get_meta(node, keys.EDGE): samples[node.input[0]]
        for node in function.node
        if node.domain == keys.WIRE and node.op_type == keys.SEND and node.input[0] in samples
    }
    for standing in gathers.standing.values():
        for node, asked, _ in standing:
            facts = onnx_tools.attributes(node)
            quorum = str(facts.get("quorum", ""))
            sample = asked_of.get(asked)
            if sample is None or not quorum.startswith("#") or facts.get("on_short") == "continue":
                continue
            wanted, most = int(quorum[1:]), int(onnx_tools.attributes(sample).get("n", 0))
            if 0 < most < wanted:
                yield QuorumUnreachable(
                    f"{wanted} answers are wanted, and at most {most} peers are asked",
                    expected=f"quorum={most} at most, a share such as quorum=1.0, or a sample of "
                    f"at least {wanted}",
                    where=lines_of(node, sample),
                )


class _Standing(NamedTuple):
    """A gather or a block: the region that it waits for, and how long at most; 0 for unknown."""

    node: NodeProto
    asked: str
    bound_ns: int


class _Gathers:
    """The gathers of a function with deadlines of their own, by where they stand."""

    def __init__(self, function: FunctionProto, placement: Placement) -> None:
        self.regions = placement.regions
        homes = {
            name: placement.regions[where.region].name
            for node, where in zip(function.node, placement.nodes, strict=True)
            for name in node.output
        }
        edges = {
            name: onnx_tools.get_meta(node, keys.EDGE)
            for node in function.node
            if node.domain == keys.WIRE and node.op_type == keys.SEND
            for name in node.output
        }
        sends = {
            onnx_tools.get_meta(node, keys.EDGE): said_ns(node)
            for node in function.node
            if node.domain == keys.WIRE and node.op_type == keys.SEND
        }
        #: Region -> gathers and blocks in it.
        self.standing: dict[str, list[_Standing]] = {}
        #: Edge -> gathers of the answers on it.
        self.answers: dict[str, list[NodeProto]] = {}
        for node, where in zip(function.node, placement.nodes, strict=True):
            if node.domain == keys.SYSCALL and node.op_type == keys.GATHER:
                value = node.input[0]
                replies = self.regions.get(edges.get(value) or homes.get(value, ""))
                asked = replies.answers if replies else ""
                bound = said_ns(node)
                if is_measured(node):
                    bound = bound or sends.get(asked, 0)
                self.standing.setdefault(where.region, []).append(_Standing(node, asked, bound))
                if asked and replies:
                    self.answers.setdefault(replies.name, []).append(node)
            elif is_child_block(node):
                turns, bound = onnx_tools.get_meta(node, keys.OPENS), said_ns(node)
                self.standing.setdefault(where.region, []).append(_Standing(node, turns, bound))
        self.children: dict[str, list[str]] = {}
        for region in self.regions.values():
            self.children.setdefault(region.parent, []).append(region.name)

    def outer(self) -> Iterator[_Standing]:
        """Yield what says how long it waits."""
        for standing in self.standing.values():
            yield from (one for one in standing if one.asked and one.bound_ns)

    def behind(self, region: str) -> Iterator[_Standing]:
        """Yield what a frame of a region may wait for, and what is behind that."""
        waiting, seen = [region], {region}
        while waiting:
            here = waiting.pop()
            nearer = list(self.children.get(here, ()))
            for one in self.standing.get(here, ()):
                yield one
                nearer.append(one.asked)
            waiting += [name for name in dict.fromkeys(nearer) if name and name not in seen]
            seen.update(nearer)


def _inversion(inner: _Standing, outer: _Standing) -> DeadlineInversion:
    short, long = format_duration(outer.bound_ns), format_duration(inner.bound_ns)
    here, around = inner.node.op_type, outer.node.op_type
    what = "this gather may wait" if here == keys.GATHER else f"this {here.lower()} block may take"
    waiting = (
        "the gather that waits for its peer's answer"
        if around == keys.GATHER
        else f"the {around.lower()} block around it"
    )
    return DeadlineInversion(
        f"{what} {long}, but {waiting} gives up after {short}",
        expected=f"a deadline of at most {short} here, or of at least {long} there",
        where=lines_of(inner.node, outer.node),
    )
