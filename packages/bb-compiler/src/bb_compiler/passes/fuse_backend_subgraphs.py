"""Pass 16: tensor ops that run together become one call.

Ops are made one call only where nobody can tell but by the time it takes. They are of one slot and
one region, they wait for the same gathers, and nothing but tensor ops of that slot runs between
them: so no op is moved across an effect. The ops of other kinds that they need may take their
time, so each op of a call must need the same ones as all the others; else a value would come later
than it did. The exception is an op whose readers are all in the call: its value may come as late
as they run. Ops that draw random numbers, and those that hold graphs of their own, stay as they
are, and so does one op alone. Along the data the set of needs only grows, so no two calls need
each other, and the ops can always be put in order again.

A call is an ONNX function in a domain of its own. It holds the ops as they were recorded, with
their lines, and imports nothing but `ai.onnx`: a backend can build a model of it. Constants that
only its ops read go with them. Its name is made of its content, so that it changes when what is
computed does, and not when a line moves; of two with equal content the second is numbered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count, takewhile

from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto, helper

from bb_ir import keys, onnx_tools
from bb_ir.hashing import content_hash, stable_name

#: Ops that are not a function of their inputs.
_RANDOM = frozenset(
    ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
     "RandomUniformLike")
)  # fmt: skip
#: What belongs to the call, and not to the ops inside it.
_OF_CALL = (keys.SLOT, keys.CLASS, keys.REGION, keys.AFTER, keys.ORDER)
#: Reads the outputs of a function.
_CALLER = -1


def fuse_backend_subgraphs(model: ModelProto) -> ModelProto:
    """Turn tensor ops that run together on one slot into calls of functions of their own."""
    result = ModelProto()
    result.CopyFrom(model)
    names = {function.name for function in result.functions}
    for target in onnx_tools.targets(result):
        ops = _Ops(target)
        groups = _groups(ops)
        calls: dict[int, NodeProto] = {}
        for group in groups:
            function = _function(ops, group)
            function.name = _free_name(content_hash(function), names)
            names.add(function.name)
            result.functions.append(function)
            calls[group[0]] = _call(ops, group, function)
        if calls:
            order = _in_order(ops, groups)
            onnx_tools.set_nodes(target, [calls.get(at, ops.nodes[at]) for at in order])
    if len(names) > len(model.functions):
        del result.opset_import[:]
        result.opset_import.extend(onnx_tools.opsets(n for f in result.functions for n in f.node))
    return result


@dataclass
class _Segment:
    """Neighbours among the ops that wait for the same: fusable ones of one slot, or another op."""

    slot: str
    ops: list[int] = field(default_factory=list[int])


class _Ops:
    """The ops of a target by number, and what each waits for and needs.

    Attributes:
        readers: Of each op, the ops that read it or come after it.
        needs: Of each op, the ops that may let it wait, as the bits of a number.
        pieces: The ops of each region by the gathers that they wait for: what runs in one go.
        constants: Ops that give the same tensor whenever they run.
    """

    def __init__(self, target: FunctionProto) -> None:
        self.target = target
        self.nodes: Sequence[NodeProto] = tuple(target.node)
        self.makers = {name: at for at, node in enumerate(self.nodes) for name in node.output}
        self.makers.pop("", None)
        self.reads = [[*filter(None, node.input), *_follows(node)] for node in self.nodes]
        self.readers: list[list[int]] = [[] for _ in self.nodes]
        for at in range(len(self.nodes)):
            for made_by in self.before(at):
                self.readers[made_by].append(at)
        for name in target.output:
            if name in self.makers:
                self.readers[self.makers[name]].append(_CALLER)
        self.constants = self._find_constants()
        self.needs: list[int] = []
        self.pieces: dict[tuple[str, frozenset[int]], list[_Segment]] = {}
        self._cut()

    def before(self, at: int) -> list[int]:
        """Return the ops whose values an op reads or comes after."""
        return list(dict.fromkeys(self.makers[n] for n in self.reads[at] if n in self.makers))

    def slot(self, at: int) -> str:
        return onnx_tools.get_meta(self.nodes[at], keys.SLOT)

    def _find_constants(self) -> set[int]:
        followed = {name for node in self.nodes for name in _follows(node)}
        return {
            at
            for at, node in enumerate(self.nodes)
            if _fusable(node)
            and node.op_type == "Constant"
            and not self.reads[at]
            and not followed.intersection(node.output)
        }

    def _cut(self) -> None:
        waits: list[frozenset[int]] = []
        for at, node in enumerate(self.nodes):
            before = self.before(at)
            self.needs.append(0)
            for one in before:
                self.needs[at] |= self.needs[one] | self._own_bit(one)
            piece = frozenset[int]().union(*(waits[one] for one in before))
            waits.append(frozenset({at}) if _takes(node) else piece)
            if at not in self.constants and not _begins(node):
                self._append(at, piece)

    def _own_bit(self, at: int) -> int:
        node = self.nodes[at]
        return 0 if _fusable(node) or _begins(node) else 1 << at

    def _append(self, at: int, waits: frozenset[int]) -> None:
        node = self.nodes[at]
        stands = node
        if _takes(node) and node.input[0] in self.makers:
            stands = self.nodes[self.makers[node.input[0]]]  # a child runs it as its last op
        segments = self.pieces.setdefault((onnx_tools.get_meta(stands, keys.REGION), waits), [])
        slot = self.slot(at) if _fusable(node) else ""
        if not slot or not segments or segments[-1].slot != slot:
            segments.append(_Segment(slot))
        segments[-1].ops.append(at)


def _fusable(node: NodeProto) -> bool:
    if onnx_tools.domain_of(node) != keys.ONNX or node.op_type in _RANDOM:
        return False
    if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
        return False  # it draws when it is told to train
    graphs = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
    return bool(onnx_tools.get_meta(node, keys.SLOT)) and not any(
        attribute.type in graphs or attribute.ref_attr_name for attribute in node.attribute
    )


def _begins(node: NodeProto) -> bool:
    """Whether an op stands for what its region begins with, and so is never waited for."""
    return (node.domain, node.op_type) in ((keys.WIRE, keys.RECEIVE), (keys.SYSCALL, keys.TURN))


def _takes(node: NodeProto) -> bool:
    """Whether an op takes values out of the region of its first input, once that has ended."""
    return node.domain == keys.SYSCALL and node.op_type in (keys.GATHER, keys.LAST)


def _follows(node: NodeProto) -> list[str]:
    return onnx_tools.meta_list(node, keys.AFTER) + onnx_tools.meta_list(node, keys.ORDER)


def _groups(ops: _Ops) -> list[list[int]]:
    """Return the ops of each call in order, constants included."""
    found: list[list[int]] = []
    for segment in (each for segments in ops.pieces.values() for each in segments):
        alike: dict[int, list[int]] = defaultdict(list)
        for at, needs in sorted(_needs_as_called(ops, segment).items()):
            alike[needs].append(at)
        found += [group for group in alike.values() if len(group) > 1]
    groups = {at: group for group in found for at in group}
    for at in sorted(ops.constants):
        users = {id(groups.get(reader)): groups.get(reader) for reader in ops.readers[at]}
        group = users.popitem()[1] if len(users) == 1 else None
        if group is not None and ops.slot(group[-1]) == ops.slot(at):
            group.append(at)
    return sorted(sorted(group) for group in found)


def _needs_as_called(ops: _Ops, segment: _Segment) -> dict[int, int]:
    """Return what each op of a segment may wait for: what its readers do, if these agree."""
    needs: dict[int, int] = {}
    for at in reversed(segment.ops):
        wanted = {needs.get(reader) for reader in ops.readers[at]}
        only = wanted.pop() if len(wanted) == 1 else None
        needs[at] = ops.needs[at] if only is None else only
    return needs


def _function(ops: _Ops, group: Sequence[int]) -> FunctionProto:
    """Return the function of a group, without a name."""
    nodes = [ops.nodes[at] for at in group]
    made = list(dict.fromkeys(filter(None, (name for node in nodes for name in node.output))))
    inside = set(made)
    read = dict.fromkeys(name for node in nodes for name in node.input)
    inputs = [name for name in read if name and name not in inside]
    outputs = _read_outside(ops, group)
    function = FunctionProto(domain=keys.FUSED, node=nodes)
    function.input.extend(inputs)
    function.output.extend(name for name in made if name in outputs)
    function.opset_import.append(helper.make_opsetid("", keys.OPSET))
    types = {info.name: info for info in ops.target.value_info}
    function.value_info.extend(types[name] for name in (*inputs, *made) if name in types)
    for node in function.node:
        for key in _OF_CALL:
            onnx_tools.set_meta(node, key, "")
    return function


def _read_outside(ops: _Ops, group: Sequence[int]) -> set[str]:
    """Return the values that somebody else reads; those of the last op when nobody does."""
    members = set(group)
    outside = {reader for at in group for reader in ops.readers[at]} - members
    read = {name for reader in outside - {_CALLER} for name in ops.reads[reader]}
    found = read.union(ops.target.output).intersection(
        name for at in group for name in ops.nodes[at].output
    )
    return found or set(filter(None, ops.nodes[group[-1]].output))


def _free_name(content: str, taken: set[str]) -> str:
    names = (stable_name("fused" if n == 1 else f"fused.{n}", content) for n in count(1))
    return next(name for name in names if name not in taken)


def _call(ops: _Ops, group: Sequence[int], function: FunctionProto) -> NodeProto:
    """Return the op that stands for a group."""
    nodes = [ops.nodes[at] for at in group if at not in ops.constants]
    call = helper.make_node(function.name, function.input, function.output, domain=keys.FUSED)
    for key in (keys.SOURCE, keys.SLOT, keys.CLASS, keys.PLACED, keys.REGION):
        onnx_tools.set_meta(call, key, onnx_tools.get_meta(nodes[0], key))
    onnx_tools.set_meta(call, keys.SCOPE, _scope(nodes))
    inside = {name for at in group for name in ops.nodes[at].output}
    for key in (keys.AFTER, keys.ORDER):
        named = dict.fromkeys(name for node in nodes for name in onnx_tools.meta_list(node, key))
        onnx_tools.set_meta(call, key, ",".join(name for name in named if name not in inside))
    return call


def _scope(nodes: Iterable[NodeProto]) -> str:
    """Return the innermost call of a sub-module that all of some ops stand in."""
    paths = (onnx_tools.get_meta(node, keys.SCOPE).split(".") for node in nodes)
    common = takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))
    return ".".join(parts[0] for parts in common)


def _in_order(ops: _Ops, groups: Iterable[Sequence[int]]) -> list[int]:
    """Return the ops in an order that calls can stand in, each by the first of its ops.

    Each stands where it stood, or as early after that as what it reads allows. What has to make
    room for a call is of another region or waits for other gathers, so ops of one stretch that are
    no tensor ops keep their order.
    """
    unit = list(range(len(ops.nodes)))
    for group in groups:
        for at in group:
            unit[at] = group[0]
    edges = {
        (unit[one], unit[at])
        for at in range(len(unit))
        for one in ops.before(at)
        if unit[one] != unit[at]
    }
    return _sorted(set(unit), edges)


def _sorted(units: set[int], edges: set[tuple[int, int]]) -> list[int]:
    """Return numbers such that each comes after those it must follow, small ones first."""
    following: dict[int, list[int]] = defaultdict(list)
    open_edges = dict.fromkeys(units, 0)
    for before, after in edges:
        following[before].append(after)
        open_edges[after] += 1
    ready = [one for one, left in open_edges.items() if not left]
    heapify(ready)
    order: list[int] = []
    while ready:
        order.append(heappop(ready))
        for after in following[order[-1]]:
            open_edges[after] -= 1
            if not open_edges[after]:
                heappush(ready, after)
    assert len(order) == len(open_edges), "two calls need each other"
    return order
