"""Where each op of a recorded function stands: its peer class and its region.

The rules of the design, sections 5.3 and 5.4, in one walk over the ops in the order of recording:

* inputs of the Module stand in the region `main` of its own class;
* an op with located inputs stands in the deepest of their regions, which must be one line of
  ancestors;
* an op without any stands at the cursor: where the op before it stands, or in the region that
  the last send opened. An inlined sub-module begins at the place of its call;
* `with g.at(...)` decides always, and leaves the cursor where it was;
* a send opens a region named after its edge. To peers, it is a region of its own; to return
  addresses, a child of the region whose frames they address;
* a gather stands in the parent of the region it gathers;
* a block opens a region too: `each`, `loop` and `when` a child of the region that they stand in,
  `every`, `on` and `rounds` one of its own. What is recorded inside stands there, or in a region
  that a send inside opened. After the block, the cursor is back where the block stands.

A class `@self` is that of the place at which the sub-module it is written in was called. This
module finds places and problems and changes nothing; two passes stamp what it found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass, field

from onnx import FunctionProto, NodeProto

from bb_compiler import _block_errors as block_errors
from bb_compiler import _placement_errors as errors
from bb_compiler._answers import answered_by_send
from bb_compiler._blocks import (
    LexicalBlocks,
    captured,
    captured_pairs,
    is_block,
    is_child_block,
    is_last,
    is_turn,
)
from bb_compiler.errors import CompileError
from bb_ir import keys, onnx_tools
from bb_ir.ops import schema_of
from bb_ir.types import Type

__all__ = ["MAIN", "Place", "Placement", "Region", "place"]

#: The region that an invocation starts.
MAIN = "main"


@dataclass(frozen=True, slots=True)
class Region:
    """One region of a function.

    Attributes:
        name: `main`, or the name of the edge that opens it.
        cls: Peer class it runs on.
        parent: Region whose frames its frames are children of, or empty.
        opened_in: Region that sends the edge or holds the block, or empty.
        answers: Edge whose envelope carried the return address that this edge is sent to.
        kind: The block's op, in lower case; empty when a message or an invocation opens it.
    """

    name: str
    cls: str
    parent: str = ""
    opened_in: str = ""
    answers: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an op stands, and how that was decided: `inputs`, `away`, `cursor` or `at`.

    `away` is by inputs too, but the op uses a slot and the op before it stands on another class:
    a reader who follows the text may take it to run there.
    """

    region: str
    how: str


@dataclass
class Placement:
    """What was found about one function.

    Attributes:
        regions: All regions by name, in the order in which they are opened.
        nodes: Place of each op.
        types: Types that became known with the places: whose peers they are.
        class_problems: What is wrong with classes.
        region_problems: What is wrong with regions.
    """

    regions: dict[str, Region]
    nodes: list[Place] = field(default_factory=list[Place])
    types: dict[str, Type] = field(default_factory=dict[str, Type])
    class_problems: list[CompileError] = field(default_factory=list[CompileError])
    region_problems: list[CompileError] = field(default_factory=list[CompileError])

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that something runs on."""
        return tuple(dict.fromkeys(region.cls for region in self.regions.values()))


def place(function: FunctionProto, known: Collection[str] = ()) -> Placement:
    """Find the place of every op of a function without calls.

    Args:
        function: The function.
        known: Classes of the program; a bootstrap may start on each of them.
    """
    return _Walk(function, known).run()


class _Walk:
    def __init__(self, function: FunctionProto, known: Collection[str]) -> None:
        self.function = function
        self.own = onnx_tools.get_meta(function, keys.OWN_CLASS)
        bootstrap = onnx_tools.get_meta(function, keys.PHASE) == "bootstrap"
        #: Classes on which a region may start without a message.
        self.startable = known if bootstrap else ()
        self.found = Placement({MAIN: Region(MAIN, self.own)})
        self.regions = self.found.regions
        self.types = onnx_tools.types_of(function)
        self.cursor = MAIN
        self.values: dict[str, Place] = {name: Place(MAIN, "inputs") for name in function.input}
        self.makers: dict[str, NodeProto] = {}
        self.made_at: dict[str, int] = {}
        #: Values that an op in their own line of regions has read.
        self.confirmed: set[str] = set()
        #: Region -> it and its ancestors, the deepest first.
        self.lines: dict[str, tuple[str, ...]] = {MAIN: (MAIN,)}
        #: Region -> number of the op that opened it.
        self.opened_at: dict[str, int] = {MAIN: -1}
        self.last_of: dict[str, str] = {self.own: MAIN}
        #: Scope of an inlined sub-module -> class of the place of its call.
        self.scopes: dict[str, str] = {}
        #: Region whose frames a value of return addresses addresses, and the edge it answers.
        self.addresses: dict[str, tuple[str, str]] = {}
        self.blocks = LexicalBlocks(function.node)
        #: Block in which the op before was recorded.
        self.block = ""
        #: Block -> where the cursor goes when it ends.
        self.back: dict[str, str] = {}
        #: Results of a gather over turns that have no meaning there, and what each would be.
        self.without_peers: dict[str, tuple[NodeProto, str]] = {}

    def run(self) -> Placement:
        for number, node in enumerate(self.function.node):
            meta = onnx_tools.metadata(node)
            self._leave_blocks(meta.get(keys.BLOCK, ""))
            self._enter(meta)
            inputs = self._located(node, meta)
            where = self._place(node, meta, inputs)
            self.found.nodes.append(where)
            self._check_escape(node, inputs, where)
            self._check_blocks(node, inputs, where)
            self._outputs(number, node, meta, where)
        return self.found

    def _leave_blocks(self, block: str) -> None:
        """Move the cursor back to where a block stands when its `with` has ended."""
        while not self.blocks.holds(self.block, block):
            self.cursor = self.back[self.block]
            self.block = self.blocks.around(self.block)
        self.block = block

    def _enter(self, meta: dict[str, str]) -> None:
        """Move the cursor to the place of a sub-module's call when its body begins."""
        for entry in filter(None, meta.get(keys.ENTER, "").split(";")):
            scope, _, listed = entry.partition(":")
            regions = [self.values[v].region for v in listed.split(",") if v in self.values]
            regions = [region for region in regions if self._reaches(self.block, region)]
            if regions:
                self.cursor = max(regions, key=self._depth)
            self.scopes[scope] = self.regions[self.cursor].cls

    def _own_class(self, meta: dict[str, str]) -> str:
        return self.scopes.get(meta.get(keys.SCOPE, ""), self.own)

    # Where an op stands

    def _place(self, node: NodeProto, meta: dict[str, str], inputs: list[str]) -> Place:
        if _is_gather(node) or is_last(node):
            return self._place_gather(node, inputs)
        if is_turn(node):
            return Place(self.block, "inputs")  # its block says where it stands
        explicit = meta.get(keys.AT, "")
        if explicit:
            region = self._within(self._explicit(node, meta, explicit))
            self._check_inputs(node, inputs, region, explicit=True)
            return Place(region, "at")
        # What a block hands to its turns does not place it.
        deciding = inputs[: -count or None] if (count := captured(node)) else inputs
        if not deciding:
            self._check_inputs(node, inputs, self.cursor, explicit=False)
            return Place(self.cursor, "cursor")
        region = self._within(max((self.values[v].region for v in deciding), key=self._depth))
        self._check_inputs(node, inputs, region, explicit=False)
        moved = self.regions[region].cls != self.regions[self.cursor].cls
        return Place(region, "away" if moved and meta.get(keys.SLOT) else "inputs")

    def _within(self, region: str) -> str:
        """Return the block's region for an op inside whose inputs all come from around it."""
        around = self.lines.get(self.block, ())
        return self.block if region in around else region

    def _reaches(self, block: str, region: str) -> bool:
        """Whether a region is that of a block, or was opened from inside it."""
        while block and region and region != block:
            region = self.regions[region].opened_in
        return region == block or not block

    def _located(self, node: NodeProto, meta: dict[str, str]) -> list[str]:
        after = meta.get(keys.AFTER, "")
        names = [*node.input, *after.split(",")] if after else node.input
        return [name for name in names if name in self.values]

    def _explicit(self, node: NodeProto, meta: dict[str, str], explicit: str) -> str:
        kind, _, name = explicit.partition(":")
        if kind == "value":
            return self.values[name].region if name in self.values else self.cursor
        wanted = self._own_class(meta) if name == keys.SELF_CLASS else name
        region = self.cursor
        while region and self.regions[region].cls != wanted:
            region = self.regions[region].opened_in
        if region or wanted in self.last_of:
            return region or self._out_of_blocks(self.last_of[wanted])
        if wanted in self.startable:
            return self._add(Region(f"{MAIN}@{wanted}", wanted), len(self.found.nodes))
        known = (*self.found.classes, *self.startable)
        self.found.class_problems.append(errors.no_such_class(node, wanted, known))
        return self.cursor

    def _place_gather(self, node: NodeProto, inputs: list[str]) -> Place:
        value = node.input[0]
        inner, maker = self.regions[self.values[value].region], self.makers.get(value)
        if inner.kind and self.blocks.holds(inner.name, self.block):
            problem = block_errors.inside_its_block(node, value, inner, maker)
        elif inner.parent and (inner.kind or not is_last(node)):
            self._check_inputs(node, inputs[1:], inner.parent, explicit=False)
            if inner.kind and _is_gather(node) and (odd := block_errors.odd_options(node)):
                block = self.blocks.nodes[inner.name]
                problem = block_errors.gathers_turns(node, block, odd)
                self.found.region_problems.append(problem)
            return Place(inner.parent, "inputs")
        elif is_last(node) or inner.kind:
            problem = block_errors.no_last_turn(node, value, inner, maker)
        else:
            problem = errors.not_a_fan_out(node, value, inner, maker)
        self.found.region_problems.append(problem)
        return Place(self._out_of_blocks(inner.name), "inputs")

    def _out_of_blocks(self, region: str) -> str:
        """Return where a region's outermost block stands of those that have ended, or itself."""
        while block := self._ended_block(region):
            region = self.regions[block].opened_in
        return region

    def _ended_block(self, region: str) -> str:
        """Return the innermost block of a region's line whose `with` has ended, or nothing."""
        blocks = (one for one in self.lines[region] if self.regions[one].kind)
        return next((one for one in blocks if not self.blocks.holds(one, self.block)), "")

    # What an op gives

    def _outputs(self, number: int, node: NodeProto, meta: dict[str, str], where: Place) -> None:
        results = where
        if where.how != "at":
            self.cursor = where.region
        if node.domain == keys.WIRE and node.op_type == keys.SEND:
            results = Place(self._open(number, node, meta, where.region), "inputs")
        elif is_block(node):
            self._open_block(number, node, meta, where)
        elif is_turn(node):
            self._name_captured(node, meta)
        elif node.domain == keys.WIRE and node.op_type == keys.SENDER:
            # Of the value, not of the op: `with g.at(...)` may have put that somewhere else.
            came_in = self.values.get(node.input[0], where).region
            self._remember_address(node, came_in, node.output[0])
        elif node.domain == keys.SYSCALL and node.op_type in (keys.PASS_THROUGH, keys.SLEEP):
            if node.input and node.input[0] in self.addresses:  # they stay what they are
                self.addresses[node.output[0]] = self.addresses[node.input[0]]
                self._name_class(node.output[0], self.types[node.input[0]].of)
        elif node.domain == keys.SYSCALL and node.op_type == keys.ME:
            self._name_class(node.output[0], self.regions[where.region].cls)
        elif _is_gather(node) and self.regions[self.values[node.input[0]].region].kind:
            names = zip(node.output[1:3], ("missing", "senders"), strict=True)
            self.without_peers.update({name: (node, what) for name, what in names})
            self._name_class(node.output[1], self.regions[where.region].cls)
        elif _is_gather(node):
            inner = self.values[node.input[0]].region
            self._remember_address(node, inner, node.output[2])
            self._name_class(node.output[1], self._asked_class(inner))
        for name in node.output:
            self.values[name] = results
            self.makers[name] = node
            self.made_at[name] = number
            known = self.types.get(name)
            if known is not None and known.of == keys.SELF_CLASS and not is_turn(node):
                self._name_class(name, self._own_class(meta))

    def _open(self, number: int, node: NodeProto, meta: dict[str, str], sent_in: str) -> str:
        name, to = meta.get(keys.EDGE, ""), node.input[0]
        if to in self.addresses:
            parent, answers = self.addresses[to]
            self._check_answers_once(node, sent_in, answers)
            region = Region(name, self.regions[parent].cls, parent, sent_in, answers)
        else:
            region = Region(name, self._class_of(node, to), opened_in=sent_in)
        self.cursor = self._add(region, number)
        return name

    def _check_answers_once(self, node: NodeProto, sent_in: str, answers: str) -> None:
        """Check that no turn answers what a frame around its block was asked: one answer counts.

        Where more do, `check_replies` sees to it.
        """
        if int(onnx_tools.attributes(node).get("replies", 1)) > 1:
            return
        for one in self.lines[sent_in]:
            if one in (answers, self.regions[answers].parent):
                return
            block = self.blocks.nodes.get(one)
            if block is not None and onnx_tools.attributes(block).get("times") == 1:
                continue
            if self.regions[one].kind in ("each", "loop"):
                problem = block_errors.answers_every_turn(node, self.blocks.nodes[one])
                self.found.region_problems.append(problem)
                return

    def _open_block(self, number: int, node: NodeProto, meta: dict[str, str], where: Place) -> None:
        name, stands_in = meta.get(keys.OPENS, ""), where.region
        parent = stands_in if is_child_block(node) else ""
        kind = node.op_type.lower()
        self.back[name] = self.cursor
        region = Region(name, self.regions[stands_in].cls, parent, stands_in, kind=kind)
        self.cursor = self._add(region, number)

    def _name_captured(self, node: NodeProto, meta: dict[str, str]) -> None:
        """Give peers that are handed to a block's frames the class that they have outside."""
        block = self.blocks.nodes[meta.get(keys.OPENS, "")]
        for outside, inside in captured_pairs(block, [node]):
            known = self.types.get(outside)
            self._name_class(inside, known.of if known and known.kind == "peers" else "")

    def _add(self, region: Region, number: int) -> str:
        self.regions[region.name] = region
        self.lines[region.name] = (region.name, *self.lines.get(region.parent, ()))
        self.opened_at[region.name] = number
        self.last_of[region.cls] = region.name
        return region.name

    def _class_of(self, node: NodeProto, to: str) -> str:
        known = self.types.get(to)
        of = known.of if known is not None and known.kind == "peers" else ""
        maker = self.makers.get(to)
        addresses = maker is not None and maker.op_type in (keys.SENDER, keys.GATHER)
        if (
            not of and not addresses
        ):  # what is wrong with return addresses is told where they are made
            self.found.class_problems.append(errors.unknown_peers(node, to, known, maker))
        return of or self.own

    def _remember_address(self, node: NodeProto, region: str, out: str) -> None:
        inner = self.regions[region]
        while inner.kind and inner.parent:
            inner = self.regions[inner.parent]  # a turn answers what its frame was asked
        region = inner.name
        if inner.opened_in and not inner.kind:
            self.addresses[out] = (inner.opened_in, region)
            self._name_class(out, self.regions[inner.opened_in].cls)
        elif node.op_type == keys.SENDER:
            value = node.input[0]
            maker = self.makers.get(value)
            self.found.region_problems.append(errors.no_message(node, value, inner, maker))

    def _asked_class(self, region: str) -> str:
        """Return the class of the peers whose answers open a region."""
        opened_in = self.regions[region].opened_in
        return self.regions[opened_in].cls if opened_in else ""

    def _name_class(self, name: str, cls: str) -> None:
        if name in self.types and cls:
            self.types[name] = dataclasses.replace(self.types[name], of=cls)
            self.found.types[name] = self.types[name]

    # Checks

    def _check_inputs(
        self, node: NodeProto, inputs: list[str], region: str, *, explicit: bool
    ) -> None:
        line = self.lines[region]
        stray = next((name for name in inputs if self.values[name].region not in line), "")
        if stray:
            self._report(node, stray, inputs, region, explicit=explicit)
        else:
            self.confirmed.update(inputs)

    def _report(
        self, node: NodeProto, name: str, inputs: list[str], region: str, *, explicit: bool
    ) -> None:
        other, mine = self.regions[self.values[name].region], self.regions[region]
        if other.cls == mine.cls and self._ended_block(other.name):
            return  # told as an escape from the block
        partner = next((v for v in inputs if self.values[v].region == region), "")
        clash = errors.Clash(
            node, name, other, self.makers.get(name), partner, mine, self.makers.get(partner)
        )  # fmt: skip
        loose = next((v for v in (name, partner) if v and self._is_loose(v)), "")
        homes = {value: where.region for value, where in self.values.items()}
        came_by = None if explicit else answered_by_send(node, homes, self.regions)
        if came_by and not all(self._is_loose(value) for value in node.input[1:]):
            opener = self.function.node[self.opened_at[came_by.name]]
            self.found.class_problems.append(errors.meant_sender(clash, came_by, opener))
        elif explicit and region in self.lines[other.name]:
            self.found.region_problems.append(errors.escape_by_at(clash))
        elif loose:
            self.found.class_problems.append(errors.ambiguous(clash, loose, came_by))
        elif other.cls != mine.cls:
            self.found.class_problems.append(errors.cross_class(clash))
        else:
            self.found.region_problems.append(errors.siblings(clash))

    def _is_loose(self, name: str) -> bool:
        """Whether nothing but the cursor says where the op that makes a value stands."""
        return self.values[name].how == "cursor" and name not in self.confirmed

    def _check_escape(self, node: NodeProto, inputs: list[str], where: Place) -> None:
        region = self.regions[where.region]
        if not region.parent or _is_gather(node):
            return
        for name in inputs:
            here = self.values[name].region
            for inner in self.lines[region.name]:
                if inner == here:
                    break
                if not self.regions[inner].kind and self._waits_for(name, inner):
                    own = next((v for v in inputs if self.values[v].region == region.name), "")
                    makers = (self.makers.get(name), self.makers.get(own))
                    self.found.region_problems.append(
                        errors.escape_by_mixing(node, name, own, inner, makers)
                    )
                    return
        schema = schema_of(node)
        line = (self.regions[one] for one in self.lines[region.name])
        replies = next((one.name for one in line if one.parent and not one.kind), "")
        if schema is not None and schema.closes_round and replies:
            reads = inputs[0] if inputs else ""
            maker = self.makers.get(reads)
            self.found.region_problems.append(errors.escape_of_round(node, reads, replies, maker))

    def _check_blocks(self, node: NodeProto, inputs: list[str], where: Place) -> None:
        """Check that an op inside a block stands there, and that none outside reads its turns."""
        if not self._reaches(self.block, where.region):
            stray = next((v for v in inputs if self.values[v].region == where.region), "")
            problem = block_errors.outside_block(
                node, self.blocks.nodes[self.block], stray, self.regions[where.region],
                self.makers.get(stray),
            )  # fmt: skip
            self.found.region_problems.append(problem)
        for at, name in enumerate(inputs):
            home = around = self.values[name].region
            if at == 0 and self.regions[home].kind and (_is_gather(node) or is_last(node)):
                around = self.regions[home].parent
            if block := self._ended_block(around) if around else "":
                problem = block_errors.escapes_block(
                    node, name, self.blocks.nodes[block], self.makers.get(name),
                    replies=home != block,
                )  # fmt: skip
                self.found.region_problems.append(problem)
                return
            if name in self.without_peers:
                gather, what = self.without_peers[name]
                problem = block_errors.turns_are_no_peers(node, gather, what)
                self.found.region_problems.append(problem)
                return
        if block := self._ended_block(where.region):
            problem = block_errors.placed_in_block(node, self.blocks.nodes[block])
            self.found.region_problems.append(problem)

    def _waits_for(self, name: str, region: str) -> bool:
        """Whether a value depends on a gather over a region.

        Such a gather stands after the send that opened the region, so the search ends there.
        """
        waiting, seen = [name], {name}
        while waiting:
            value = waiting.pop()
            if self.made_at.get(value, -1) <= self.opened_at[region]:
                continue
            maker = self.makers[value]
            brings_out = _is_gather(maker) or is_last(maker)
            if brings_out and self.values[maker.input[0]].region == region:
                return True
            if maker.domain == keys.WIRE:
                continue
            fresh = [v for v in (*maker.input, *onnx_tools.meta_list(maker, keys.AFTER))
                     if v not in seen]  # fmt: skip
            seen.update(fresh)
            waiting.extend(fresh)
        return False

    def _depth(self, region: str) -> int:
        return len(self.lines[region])


def _is_gather(node: NodeProto) -> bool:
    return node.op_type == keys.GATHER and node.domain == keys.SYSCALL
