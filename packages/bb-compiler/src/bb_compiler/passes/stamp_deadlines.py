"""Pass 15: how long frames, and answers on edges, may take."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from onnx import FunctionProto, ModelProto, NodeProto

from bb_compiler._blocks import is_child_block
from bb_compiler._deadlines import is_measured, said_ns
from bb_ir import keys, onnx_tools

#: What a frame gets when nothing in it says more: 60 s.
FRAME_NS = 60 * 10**9
#: What the turns of a block get together when nobody knows how many there are, in turns.
UNKNOWN_TURNS = 60
#: No frame gets more than this, 146 years: clocks and envelopes count in 64 bits.
LONGEST_NS = 2**62


def stamp_deadlines(model: ModelProto) -> ModelProto:
    """Stamp a deadline on each region and edge.

    A frame may take the default, or twice what its gathers and sleeps may wait, whichever is more,
    and what the turns of its blocks may take together: what the block says, else a turn's deadline
    times the number of turns, 60 where that is not known. A gather without a deadline of its own
    waits as long as the frames that answer it may take. An edge carries what its send says, else
    what the gather over its answers waits, else the default or the deadline of the region it opens.
    A gather whose deadline follows what is measured waits at most what it says, else what the edge
    says that it asks on; the edge of its answers is marked.
    """
    result = ModelProto()
    result.CopyFrom(model)
    edges: list[dict[str, Any]] = json.loads(onnx_tools.get_meta(model, keys.EDGES, "[]"))
    budgets = _Budgets(result, edges)
    for function in result.functions:
        regions = json.loads(onnx_tools.get_meta(function, keys.REGIONS))
        for region in regions:
            region["deadline_ns"] = budgets.of_region(_key(function, region["name"]))
        onnx_tools.set_meta(function, keys.REGIONS, json.dumps(regions))
    for edge in edges:
        edge["deadline_ns"] = budgets.of_edge(edge["name"])
        edge.pop("auto", None)
        if edge["name"] in budgets.measured:
            edge["auto"] = True
    onnx_tools.set_meta(result, keys.EDGES, json.dumps(edges))
    return result


def _key(function: FunctionProto, region: str) -> tuple[str, str]:
    """Return a name for a region: `main` exists once in each phase."""
    return onnx_tools.get_meta(function, keys.PHASE), region


class _Budgets:
    """What gathers and sends say, and what follows from it."""

    def __init__(self, model: ModelProto, edges: list[dict[str, Any]]) -> None:
        asked = {edge["name"]: edge["answers"] for edge in edges}
        #: Region -> of each gather in it, how long it waits, the edge that it asks on, and whether
        #: its deadline follows what is measured.
        self.gathers: dict[tuple[str, str], list[tuple[int, str, bool]]] = {}
        #: Edges whose answers are given up by what is measured.
        self.measured: set[str] = set()
        self.sends: dict[str, int] = {}
        #: Region -> the blocks of its frames.
        self.blocks: dict[tuple[str, str], list[NodeProto]] = {}
        #: Region -> how long its frames sleep, one sleep after the other.
        self.sleeps: Counter[tuple[str, str]] = Counter()
        self.phases: dict[str, str] = {}
        self.known: dict[tuple[str, str], int] = {}
        for function in model.functions:
            phase = onnx_tools.get_meta(function, keys.PHASE)
            for region in json.loads(onnx_tools.get_meta(function, keys.REGIONS)):
                self.phases[region["name"]] = phase
            stands = {
                name: onnx_tools.get_meta(node, keys.REGION)
                for node in function.node
                for name in node.output
            }
            for node in filter(is_child_block, function.node):
                here = phase, onnx_tools.get_meta(node, keys.REGION)
                self.blocks.setdefault(here, []).append(node)
            for node in filter(_is_sleep, function.node):
                here = phase, onnx_tools.get_meta(node, keys.REGION)
                self.sleeps[here] += int(onnx_tools.attributes(node)["duration_ns"])
            for node, deadline in _with_deadlines(function):
                if node.op_type == keys.GATHER:
                    here = phase, onnx_tools.get_meta(node, keys.REGION)
                    answer = stands.get(node.input[0], "")
                    edge, auto = asked.get(answer, ""), is_measured(node)
                    self.gathers.setdefault(here, []).append((deadline, edge, auto))
                    self.measured.update([answer] if auto and edge else [])
                elif deadline:
                    self.sends[onnx_tools.get_meta(node, keys.EDGE)] = deadline
        self.waits: dict[str, int] = {}
        for deadline, edge, _ in (each for listed in self.gathers.values() for each in listed):
            self.waits[edge] = max(deadline, self.waits.get(edge, 0))

    def of_region(self, key: tuple[str, str]) -> int:
        if key not in self.known:
            self.known[key] = FRAME_NS  # until it is known, should regions wait for each other
            waits = sum(
                deadline or (self.of_edge(edge) if auto else self._answer(edge))
                for deadline, edge, auto in self.gathers.get(key, ())
            )
            waits += self.sleeps[key]
            known = max(FRAME_NS, 2 * waits) + self._turns(key)
            self.known[key] = min(known, LONGEST_NS)
        return self.known[key]

    def _turns(self, key: tuple[str, str]) -> int:
        """Return how long the turns of a frame's blocks may take."""
        return sum(self._together(key[0], node) for node in self.blocks.get(key, ()))

    def _together(self, phase: str, block: NodeProto) -> int:
        facts = onnx_tools.attributes(block)
        region = onnx_tools.get_meta(block, keys.OPENS)
        if facts.get("deadline_ns"):
            return int(facts["deadline_ns"])
        known = 1 if block.op_type == "When" else facts.get("times", UNKNOWN_TURNS)
        return int(known) * self.of_region((phase, region))

    def _answer(self, edge: str) -> int:
        """Return how long the frames may take that answer an edge, if that is more than usual."""
        answering = self.of_region((self.phases.get(edge, ""), edge)) if edge else 0
        return answering if answering > FRAME_NS else 0

    def of_edge(self, edge: str) -> int:
        said = self.sends.get(edge) or self.waits.get(edge)
        return said or self.of_region((self.phases.get(edge, ""), edge))


def _is_sleep(node: NodeProto) -> bool:
    return node.domain == keys.SYSCALL and node.op_type == keys.SLEEP


def _with_deadlines(function: FunctionProto) -> Iterator[tuple[NodeProto, int]]:
    """Yield gathers and sends with the deadlines they say, 0 for none."""
    for node in function.node:
        gather = node.domain == keys.SYSCALL and node.op_type == keys.GATHER
        if gather or (node.domain == keys.WIRE and node.op_type == keys.SEND):
            yield node, said_ns(node)
