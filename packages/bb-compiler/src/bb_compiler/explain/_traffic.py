"""How many envelopes a round takes: each edge multiplied along its fan-out.

One round is one run of every region that no message opens, one turn of every block, and all that
follows from it. A send to a cohort counts once per peer, and so does everything that those peers
send in turn. What a program leaves open is taken as one peer, and said to be assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from onnx import FunctionProto, NodeProto

from bb_compiler._sizes import EdgeBytes, Span
from bb_compiler.explain._info import EdgeInfo, Traffic
from bb_ir import keys, onnx_tools

__all__ = ["Counts", "FanOut", "count", "sum_up"]

#: (phase, region): a bootstrap has regions of its own.
Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class FanOut:
    """How many peers one send addresses, and how that is known."""

    count: int
    known_by: str


@dataclass
class Counts:
    """How often everything happens in one round.

    Attributes:
        phases: Phase of each edge.
        fan_outs: Peers that one frame sends each edge to.
        envelopes: Envelopes of each edge.
        frames: Frames of each region.
    """

    phases: dict[str, str] = field(default_factory=dict[str, str])
    fan_outs: dict[str, FanOut] = field(default_factory=dict[str, FanOut])
    envelopes: dict[str, int] = field(default_factory=dict[str, int])
    frames: dict[Place, int] = field(default_factory=dict[Place, int])


def count(
    functions: Iterable[FunctionProto],
    edges: Mapping[str, Mapping[str, Any]],
    regions: Mapping[Place, str],
    cohort: Mapping[str, int],
) -> Counts:
    """Count frames and envelopes of one round.

    Args:
        functions: All targets.
        edges: Rows of the artifact's table by name.
        regions: The parent of each region, or an empty text.
        cohort: Sizes of cohorts that the user gave, by class.
    """
    found = Counts()
    for function in functions:
        _find_sends(function, edges, cohort, found)
    waiting = {name: row for name, row in edges.items() if name in found.fan_outs}
    for place, parent in regions.items():
        if place[1] not in edges and not parent:
            found.frames[place] = 1
    while waiting:
        if not _step(waiting, regions, found):
            break  # a stranger's table that goes in circles: those edges are never sent
    _fill_blocks(regions, found)
    return found


def sum_up(edges: Iterable[EdgeInfo], times: Callable[[EdgeInfo], int]) -> Traffic:
    """Add up what is sent when each edge is sent so many times."""
    sent = [(edge, times(edge)) for edge in edges if times(edge)]
    zero = Span(0, 0)
    return Traffic(
        envelopes=sum(count for _, count in sent),
        payload_bytes=sum((edge.bytes.payload.times(n) for edge, n in sent), zero),
        envelope_bytes=sum((edge.bytes.envelope.times(n) for edge, n in sent), zero),
        unknown=tuple(edge.name for edge, _ in sent if _is_unknown(edge.bytes)),
    )


def _is_unknown(bytes_: EdgeBytes) -> bool:
    return bytes_.envelope.most is None


def _step(
    waiting: dict[str, Mapping[str, Any]], regions: Mapping[Place, str], found: Counts
) -> bool:
    """Count the edges whose sending region is counted; return whether there was one."""
    _fill_blocks(regions, found)
    ready = [name for name, row in waiting.items() if _place_of(name, row, found) in found.frames]
    for name in ready:
        row = waiting.pop(name)
        place = _place_of(name, row, found)
        # In so many turns of a block, which counts as one.
        often = max(1, int(row.get("replies") or 1))
        found.envelopes[name] = found.frames[place] * found.fan_outs[name].count * often
        # What an edge opens runs once per envelope, as a frame of its own or as a child.
        found.frames[(place[0], name)] = found.envelopes[name]
    return bool(ready)


def _place_of(name: str, row: Mapping[str, Any], found: Counts) -> Place:
    return found.phases[name], str(row["sent_in"])


def _fill_blocks(regions: Mapping[Place, str], found: Counts) -> None:
    """Let blocks take one turn per frame of the region in which they stand."""
    missing = [place for place in regions if place not in found.frames]
    for _ in range(len(missing)):
        before = len(missing)
        for phase, name in missing:
            parent = (phase, regions[(phase, name)])
            if parent in found.frames and not _is_edge(name, found):
                found.frames[(phase, name)] = found.frames[parent]
        missing = [place for place in missing if place not in found.frames]
        if len(missing) == before:
            return


def _is_edge(region: str, found: Counts) -> bool:
    return region in found.fan_outs


def _find_sends(
    function: FunctionProto,
    edges: Mapping[str, Mapping[str, Any]],
    cohort: Mapping[str, int],
    found: Counts,
) -> None:
    made_by = {name: node for node in function.node for name in node.output}
    phase = onnx_tools.get_meta(function, keys.PHASE, "body")
    for node in function.node:
        edge = onnx_tools.get_meta(node, keys.EDGE)
        if node.op_type != keys.SEND or edge not in edges or not node.input:
            continue
        found.phases[edge] = phase
        maker = made_by.get(node.input[0])
        found.fan_outs[edge] = _fan_out(maker, edges[edge], cohort, edges, found.fan_outs)


def _fan_out(
    maker: NodeProto | None,
    row: Mapping[str, Any],
    cohort: Mapping[str, int],
    edges: Mapping[str, Mapping[str, Any]],
    known: Mapping[str, FanOut],
) -> FanOut:
    """Return how many peers a send addresses, by what made its list of peers."""
    op = maker.op_type if maker is not None else ""
    if op == keys.SENDER:
        return FanOut(1, "answer")
    if op == keys.GATHER:
        return _gathered(row, edges, known)
    size = cohort.get(str(row["to"]))
    if size is not None:
        return FanOut(size, "cohort")
    drawn = onnx_tools.attributes(maker).get("n") if maker is not None else None
    if op == "Sample" and isinstance(drawn, int):
        return FanOut(drawn, "sample")
    return FanOut(1, "assumed")


def _gathered(
    row: Mapping[str, Any], edges: Mapping[str, Mapping[str, Any]], known: Mapping[str, FanOut]
) -> FanOut:
    """Return how many answered: those who were asked, by the edge whose answers were gathered."""
    reply = edges.get(str(row["answers"]), {})
    asked = known.get(str(reply.get("answers", "")))
    return FanOut(asked.count, "gather") if asked else FanOut(1, "assumed")
