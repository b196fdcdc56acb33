"""Which rounds of aggregation can never hold anything, and which are taken before all is there.

A round belongs to the frame at the end of a frame's line of parents. So what is contributed in
replies to it and in turns of its blocks is of the same round, and what another invocation, tick or
message starts is of another. A slot's ops of one region run as they were recorded, and turns of a
block end before what follows; replies come when they come, so something has to wait for them.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import FunctionProto, NodeProto

from bb_compiler._blocks import is_block
from bb_compiler._placement import Placement
from bb_compiler._placement_errors import lines_of
from bb_compiler._wording import where_it_stands
from bb_compiler.errors import AggregatesEarly, NothingContributed
from bb_ir import keys, onnx_tools
from bb_ir.ops import schema_of

__all__ = ["early_rounds", "empty_rounds"]


def empty_rounds(function: FunctionProto, placement: Placement) -> Iterator[NothingContributed]:
    """Find ops that close a round to which no op of its slot can have given anything."""
    closing: list[tuple[NodeProto, str, str]] = []
    giving: dict[str, dict[str, NodeProto]] = {}
    for node, where in zip(function.node, placement.nodes, strict=True):
        schema = schema_of(node)
        if keys.role_of(node.domain) != "aggregator" or schema is None:
            continue
        slot, root = onnx_tools.get_meta(node, keys.SLOT), _root(placement, where.region)
        if schema.closes_round:
            closing.append((node, slot, root))
        elif schema.effect == "writes":
            giving.setdefault(slot, {}).setdefault(root, node)
    for node, slot, root in closing:
        if root not in giving.get(slot, {}):
            yield _nothing(node, slot, placement, root, giving)


def early_rounds(function: FunctionProto, placement: Placement) -> Iterator[AggregatesEarly]:
    """Find ops that close a round while replies that contribute to it may be under way."""
    rounds = _Rounds(function, placement)
    for closing in rounds.closing:
        for giving in rounds.giving:
            reply = rounds.reply_between(closing, giving)
            if reply and not rounds.waits(closing, reply):
                yield _early(rounds, closing, giving, reply)
                break


class _Rounds:
    """The ops of aggregators in one function, and what each op of it comes after."""

    def __init__(self, function: FunctionProto, placement: Placement) -> None:
        self.nodes = function.node
        self.regions = placement.regions
        self.homes = [where.region for where in placement.nodes]
        self.closing: list[int] = []
        self.giving: list[int] = []
        self._makers = {name: at for at, node in enumerate(self.nodes) for name in node.output}
        self._openers: dict[str, int] = {}
        #: Slot and region -> its ops so far; the last of them comes before the next.
        self._last: dict[tuple[str, str], int] = {}
        self._before: dict[int, int] = {}
        for at, node in enumerate(self.nodes):
            self._note(at, node)

    def _note(self, at: int, node: NodeProto) -> None:
        slot = onnx_tools.get_meta(node, keys.SLOT)
        if slot:
            place = slot, self.homes[at]
            if place in self._last:
                self._before[at] = self._last[place]
            self._last[place] = at
        edge = onnx_tools.get_meta(node, keys.EDGE)
        if edge or is_block(node):
            self._openers[edge or onnx_tools.get_meta(node, keys.OPENS)] = at
        schema = schema_of(node)
        if keys.role_of(node.domain) != "aggregator" or schema is None:
            return
        if schema.closes_round:
            self.closing.append(at)
        elif schema.effect == "writes":
            self.giving.append(at)

    def reply_between(self, closing: int, giving: int) -> str:
        """Return the region of replies that a contribution comes in, seen from what closes."""
        slots = {onnx_tools.get_meta(self.nodes[at], keys.SLOT) for at in (closing, giving)}
        here, there = self._line(self.homes[closing]), self._line(self.homes[giving])
        if len(slots) > 1 or here[-1] != there[-1] or there[0] in here:
            return ""
        below = there[next(at for at, region in enumerate(there) if region in here) - 1]
        return "" if self.regions[below].kind else below

    def waits(self, closing: int, reply: str) -> bool:
        """Whether an op comes after a gather over replies, or after some time."""
        waiting, seen = [closing], {closing}
        while waiting:
            at = waiting.pop()
            node = self.nodes[at]
            if node.domain == keys.SYSCALL and node.op_type == keys.SLEEP:
                return True  # whoever waits for a time takes what has come by then
            if self.gathers(node, reply):
                return True
            fresh = [one for one in self._causes(at) if one not in seen]
            seen.update(fresh)
            waiting += fresh
        return False

    def gathers(self, node: NodeProto, reply: str) -> bool:
        """Whether an op is a gather over a region."""
        if node.domain != keys.SYSCALL or node.op_type != keys.GATHER:
            return False
        return self._home_of(node.input[0]) == reply

    def _home_of(self, value: str) -> str:
        at = self._makers.get(value)
        if at is None:
            return ""
        return onnx_tools.get_meta(self.nodes[at], keys.EDGE) or self.homes[at]

    def _causes(self, at: int) -> Iterator[int]:
        """Yield the ops that an op comes after: by its values, its slot, or its region."""
        node = self.nodes[at]
        for name in (*node.input, *onnx_tools.meta_list(node, keys.AFTER)):
            if name in self._makers:
                yield self._makers[name]
        for found in (self._before.get(at), self._openers.get(self.homes[at])):
            if found is not None:
                yield found

    def _line(self, region: str) -> list[str]:
        line = [region]
        while parent := self.regions[line[-1]].parent:
            line.append(parent)
        return line


def _early(rounds: _Rounds, closing: int, giving: int, reply: str) -> AggregatesEarly:
    node, gives = rounds.nodes[closing], rounds.nodes[giving]
    done = next((one for one in rounds.nodes if rounds.gathers(one, reply)), None)
    slot = onnx_tools.get_meta(node, keys.SLOT)
    return AggregatesEarly(
        f"{node.op_type} of slot {slot!r} waits for no reply {reply!r}, in which {gives.op_type} "
        "folds what was sent, so it would run before they answered",
        expected="to run once the replies were gathered",
        fix=f"done = g.gather(...) is there: self.{slot}.aggregate(g, after=done)"
        if done is not None
        else f"done = g.gather(folded), then self.{slot}.aggregate(g, after=done)",
        where=lines_of(node, gives, done),
    )


def _root(placement: Placement, region: str) -> str:
    while parent := placement.regions[region].parent:
        region = parent
    return region


def _nothing(
    node: NodeProto,
    slot: str,
    placement: Placement,
    root: str,
    giving: dict[str, dict[str, NodeProto]],
) -> NothingContributed:
    elsewhere = giving.get(slot, {})
    others = [name for name, rounds in giving.items() if root in rounds]
    nearest = next(iter(elsewhere.values()), giving[others[0]][root] if others else None)
    if elsewhere:
        apart = where_it_stands(placement.regions[next(iter(elsewhere))])
        why = f"; what contributes to it is of another round, that of {apart}"
    elif others:
        why = f"; here something contributes to slot {others[0]!r}"
    else:
        why = ""
    return NothingContributed(
        f"{node.op_type} of slot {slot!r} takes the result of a round of "
        f"{where_it_stands(placement.regions[root])}, to which nothing contributes{why}",
        expected=f"self.{slot}.contribute(g, params, metrics) in the same round: in a reply to "
        "what it sent, in a block of it, or beside the aggregate",
        fix=f"aggregate slot {others[0]!r}, or contribute to {slot!r}"
        if others and not elsewhere
        else "contribute what arrives to this slot before the round is aggregated",
        where=lines_of(node, nearest),
    )
