"""Where each op of a recorded function stands: its peer class and its region.

The rules of the design, sections 5.3 and 5.4, in one walk over the ops in the order of recording:

* inputs of the Module stand in the region `main` of its own class;
* an op with located inputs stands in the deepest of their regions, which must be one line of
  ancestors;
* an op without any stands at the cursor: where the op before it stands, or in the region that
  the last send opened;
* `with g.at(...)` decides always;
* a send opens a region named after its edge. To peers, it is a region of its own; to return
  addresses, a child of the region whose frames they address;
* a gather stands in the parent of the region it gathers.

This module finds places and problems and changes nothing; two passes stamp what it found.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from onnx import FunctionProto, NodeProto

from bb_compiler.errors import (
    AmbiguousPlacement,
    CompileError,
    CrossClassDataflow,
    FanOutEscape,
    GatherOutsideFanOut,
    SenderOutsideMessage,
    SiblingRegions,
    UnknownPeerClass,
)
from bb_ir import keys, onnx_tools
from bb_ir.errors import SourceLine
from bb_ir.ops import role_op

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
        opened_in: Region that sends the edge, or empty.
        answers: Edge whose envelope carried the return address that this edge is sent to.
    """

    name: str
    cls: str
    parent: str = ""
    opened_in: str = ""
    answers: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an op stands, and how that was decided: `inputs`, `cursor` or `at`."""

    region: str
    how: str


@dataclass
class Placement:
    """What was found about one function."""

    regions: dict[str, Region]
    nodes: list[Place] = field(default_factory=list[Place])
    class_problems: list[CompileError] = field(default_factory=list[CompileError])
    region_problems: list[CompileError] = field(default_factory=list[CompileError])


def place(function: FunctionProto) -> Placement:
    """Find the place of every op of a function without calls."""
    return _Walk(function).run()


class _Walk:
    def __init__(self, function: FunctionProto) -> None:
        self.function = function
        own = onnx_tools.get_meta(function, keys.OWN_CLASS)
        self.own = own
        self.found = Placement({MAIN: Region(MAIN, own)})
        self.regions = self.found.regions
        self.types = onnx_tools.types_of(function)
        self.cursor = MAIN
        self.values: dict[str, Place] = {name: Place(MAIN, "inputs") for name in function.input}
        self.makers: dict[str, NodeProto] = {}
        #: Region whose frames a value of return addresses addresses, and the edge it answers.
        self.addresses: dict[str, tuple[str, str]] = {}
        #: Regions whose gathers a value depends on.
        self.gathered: dict[str, frozenset[str]] = {}

    def run(self) -> Placement:
        for node in self.function.node:
            self._enter(node)
            where = self._place(node)
            self.found.nodes.append(where)
            self._check_escape(node, where)
            self._outputs(node, where)
        return self.found

    def _enter(self, node: NodeProto) -> None:
        """Move the cursor to the place of a sub-module's call when its body begins."""
        regions = [self.values[v].region for v in onnx_tools.meta_list(node, keys.ENTER)
                   if v in self.values]  # fmt: skip
        if regions:
            self.cursor = max(regions, key=self._depth)

    def _place(self, node: NodeProto) -> Place:
        if node.op_type == keys.GATHER and node.domain == keys.SYSCALL:
            return self._place_gather(node)
        inputs = self._located(node)
        explicit = onnx_tools.get_meta(node, keys.AT)
        if explicit:
            region = self._explicit(node, explicit)
            self._check_inputs(node, inputs, region, explicit=True)
            return Place(region, "at")
        if not inputs:
            return Place(self.cursor, "cursor")
        region = max((self.values[v].region for v in inputs), key=self._depth)
        self._check_inputs(node, inputs, region, explicit=False)
        return Place(region, "inputs")

    def _located(self, node: NodeProto) -> list[str]:
        names = [*node.input, *onnx_tools.meta_list(node, keys.AFTER)]
        return [name for name in names if name in self.values]

    def _explicit(self, node: NodeProto, explicit: str) -> str:
        kind, _, name = explicit.partition(":")
        if kind == "value":
            return self.values[name].region if name in self.values else self.cursor
        wanted = self.own if name == keys.SELF_CLASS else name
        if self.regions[self.cursor].cls == wanted:
            return self.cursor
        for region in reversed(self.regions.values()):
            if region.cls == wanted:
                return region.name
        classes = ", ".join(dict.fromkeys(region.cls for region in self.regions.values()))
        self.found.class_problems.append(
            UnknownPeerClass(
                f"nothing here runs on class {wanted!r}",
                expected=f"one of {classes}",
                fix="place ops on a class after a net_out to its peers",
                where=_lines(node),
            )
        )
        return self.cursor

    def _place_gather(self, node: NodeProto) -> Place:
        value = node.input[0]
        inner = self.regions[self.values[value].region]
        if inner.parent:
            return Place(inner.parent, "inputs")
        self.found.region_problems.append(
            GatherOutsideFanOut(
                f"gather over {value!r}, which stands in region {inner.name!r} of class "
                f"{inner.cls!r}, where no replies arrive",
                expected="a value that was sent to g.sender(...) of a received value",
                where=_lines(node, self.makers.get(value)),
            )
        )
        return Place(inner.name, "inputs")

    def _outputs(self, node: NodeProto, where: Place) -> None:
        self.cursor = where.region
        results = where
        waits = frozenset[str]().union(
            *(self.gathered.get(v, frozenset()) for v in self._located(node))
        )
        if node.domain == keys.WIRE and node.op_type == keys.SEND:
            results, waits = Place(self._open(node, where.region), "inputs"), frozenset()
        if node.domain == keys.WIRE and node.op_type == keys.SENDER:
            self._remember_address(node, where.region, node.output[0])
        if node.domain == keys.SYSCALL and node.op_type == keys.GATHER:
            inner = self.values[node.input[0]].region
            waits = self.gathered.get(node.input[0], frozenset()) | {inner}
            self._remember_address(node, inner, node.output[2])
        for name in node.output:
            self.values[name] = results
            self.makers[name] = node
            self.gathered[name] = waits

    def _open(self, node: NodeProto, sent_in: str) -> str:
        name, to = onnx_tools.get_meta(node, keys.EDGE), node.input[0]
        if to in self.addresses:
            parent, answers = self.addresses[to]
            region = Region(name, self.regions[parent].cls, parent, sent_in, answers)
        else:
            region = Region(name, self._class_of(node, to), opened_in=sent_in)
        self.regions[name] = region
        self.cursor = name
        return name

    def _class_of(self, node: NodeProto, to: str) -> str:
        type_ = self.types.get(to)
        of = type_.of if type_ is not None and type_.kind == "peers" else ""
        if not of:
            self.found.class_problems.append(
                UnknownPeerClass(
                    f"edge {onnx_tools.get_meta(node, keys.EDGE)!r} goes to {to!r} ({type_}), "
                    "whose class is not known",
                    expected="peers of a PeerSelector(of=...), g.peers(name, of=...), "
                    "or a return address",
                    where=_lines(node, self.makers.get(to)),
                )
            )
        return self.own if of in ("", keys.SELF_CLASS) else of

    def _remember_address(self, node: NodeProto, region: str, out: str) -> None:
        inner = self.regions[region]
        if inner.opened_in:
            self.addresses[out] = (inner.opened_in, region)
            return
        if node.op_type == keys.SENDER:
            self.found.region_problems.append(
                SenderOutsideMessage(
                    f"{node.input[0]!r} stands in region {region!r}, which no message starts",
                    expected="a value that came by net_out",
                    where=_lines(node, self.makers.get(node.input[0])),
                )
            )

    # Checks

    def _check_inputs(
        self, node: NodeProto, inputs: list[str], region: str, *, explicit: bool
    ) -> None:
        line = self._line(region)
        for name in inputs:
            here = self.values[name].region
            if here not in line:
                self._report(node, name, inputs, region, explicit=explicit)
                return

    def _report(
        self, node: NodeProto, name: str, inputs: list[str], region: str, *, explicit: bool
    ) -> None:
        other = self.regions[self.values[name].region]
        mine = self.regions[region]
        partner = next((v for v in inputs if self.values[v].region == region), "")
        lines = _lines(node, self.makers.get(name), self.makers.get(partner))
        loose = [v for v in (name, partner) if v and self.values[v].how == "cursor"]
        both = (
            f"{name!r} of class {other.cls!r}, region {other.name!r}, and "
            f"{_quote(partner, node)} of class {mine.cls!r}, region {mine.name!r}"
        )
        if explicit and region in self._line(other.name):
            self.found.region_problems.append(_escape(node, name, other, lines))
        elif loose:
            op = self.makers[loose[0]].op_type
            self.found.class_problems.append(
                AmbiguousPlacement(
                    f"{op}, which gives {loose[0]!r}, stands where the op before it stands, but "
                    f"{node.op_type} uses it elsewhere: {both}",
                    fix=f"say where {op} runs: with g.at(value) or with g.at('class')",
                    where=lines,
                )
            )
        elif other.cls != mine.cls:
            self.found.class_problems.append(
                CrossClassDataflow(
                    f"{node.op_type} reads {both}",
                    expected="inputs that stand on one class",
                    fix="send one of them over with g.net_out",
                    where=lines,
                )
            )
        else:
            self.found.region_problems.append(
                SiblingRegions(
                    f"{node.op_type} reads {both}; no frame sees both",
                    fix="bring both values over in one net_out, or gather one of them",
                    where=lines,
                )
            )

    def _check_escape(self, node: NodeProto, where: Place) -> None:
        region = self.regions[where.region]
        line = self._line(where.region)
        for name in self._located(node):
            if node.op_type != keys.GATHER and self.gathered.get(name, frozenset()) & line:
                lines = _lines(node, self.makers.get(name))
                self.found.region_problems.append(_escape(node, name, region, lines))
                return
        schema = role_op(node.domain, node.op_type)
        if schema is not None and schema.closes_round and region.parent:
            reads = self._located(node)
            name = reads[0] if reads else node.output[0]
            lines = _lines(node, self.makers.get(name))
            self.found.region_problems.append(_escape(node, name, region, lines))

    def _line(self, region: str) -> set[str]:
        """Return a region and its ancestors."""
        line = {region}
        while self.regions[region].parent:
            region = self.regions[region].parent
            line.add(region)
        return line

    def _depth(self, region: str) -> int:
        return len(self._line(region))


def _escape(node: NodeProto, name: str, region: Region, lines: tuple[SourceLine, ...]) -> CompileError:
    return FanOutEscape(
        f"{node.op_type} uses {name!r}, which exists once for every reply on edge "
        f"{region.name!r}",
        expected="one value per round",
        fix="done = g.gather(value, ...) first, then use `after=done` or its values",
        where=lines,
    )


def _quote(name: str, node: NodeProto) -> str:
    return repr(name) if name else f"the place of {node.op_type}"


def _lines(*nodes: NodeProto | None) -> tuple[SourceLine, ...]:
    found = (onnx_tools.source_of(node) for node in nodes if node is not None)
    return tuple(dict.fromkeys(line for line in found if line is not None))
