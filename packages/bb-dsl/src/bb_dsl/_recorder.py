"""The recording itself: nodes, types and names of one function, and who owns a value.

What users call is in `_graph` and `_blocks`; nothing here knows what an op means.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from onnx import FunctionProto, NodeProto, helper

from bb_dsl._checks import check_name, part_of, to_attribute
from bb_dsl._output import Output
from bb_dsl._source import user_line
from bb_dsl.errors import DuplicateName, ForeignValue, NotAnOutput
from bb_ir import keys, onnx_tools
from bb_ir.errors import SourceLine
from bb_ir.types import Type

if TYPE_CHECKING:
    from bb_dsl._graph import Graph
    from bb_dsl._module import Module

__all__ = ["Recorder", "type_name"]

#: What no hint for a value's name may hold: names stand in comma-separated lists.
_ODD = re.compile(r"[^A-Za-z0-9_~-]+")


class Recorder:
    """What one function of a program has recorded so far."""

    def __init__(self, module: Module, path: str, parent: Graph | None = None) -> None:
        self.module = module
        self.path = path
        self.parent = parent
        self.root: Graph = parent.root if parent else cast("Graph", self)
        self.nodes: list[NodeProto] = []
        self.types: dict[str, Type] = {}
        self.inputs: list[str] = []
        self.outputs: dict[str, Output] = {}
        self.given: Mapping[str, Output] = {}
        self.called_at: tuple[SourceLine, ...] = ()
        self.functions: dict[str, FunctionProto] = parent.functions if parent else {}
        self.slots: dict[str, dict[str, str]] = parent.slots if parent else {}
        self.closed = False
        self._paths: dict[int, str] = {}
        #: Names of edges and of the regions that blocks open.
        self._edges: set[str] = set()
        #: Where each name of an edge, input or output was given first.
        self._named_at: dict[tuple[bool, str], SourceLine] = {}
        self._at: list[str] = []
        self._blocks: list[str] = []
        #: Blocks that nobody has entered yet: the call, and its line.
        self._unopened: dict[str, tuple[str, SourceLine]] = {}
        self._calls: dict[str, int] = {}
        #: Kind of each metric by its name; of the root, whose parts share them.
        self.metrics: dict[str, str] = {}
        self._backend = ""

    def own(self, value: object) -> Output:
        """Return a value that was recorded here, or say why it is none."""
        if not isinstance(value, Output):
            kind = type(value).__name__
            raise NotAnOutput(
                f"{value!r} is {'an' if kind[0] in 'aeiou' else 'a'} {kind}, not a recorded value",
                expected="what another op returned, g.input(...), or g.constant(...)",
                fix=part_of(value),
                where=user_line(),
            )
        if value.graph is not self:
            raise ForeignValue(
                f"value {value.label!r} was recorded in another Module or another build",
                fix="hand it to the sub-module by port name: self.part(g, port=value)",
                where=(user_line(), *value.graph.lines_of(value)),
            )
        return value

    def lines_of(self, value: Output) -> tuple[SourceLine, ...]:
        """Return the line that recorded a value, for an error; nothing for an input."""
        maker = self.maker_of(value.name)
        line = None if maker is None else onnx_tools.source_of(maker)
        return () if line is None else (line,)

    def maker_of(self, name: str) -> NodeProto | None:
        """Return the op that gives a value, or `None` for an input."""
        return next((node for node in self.nodes if name in node.output), None)

    def _fresh(self, hint: str, type_: Type) -> Output:
        # The dot keeps it apart from the names of ports, which users choose.
        name = f"{_ODD.sub('_', hint)}.{len(self.types)}"
        self.types[name] = type_
        return Output(cast("Graph", self), name, type_)

    def _append(
        self,
        domain: str,
        op_type: str,
        inputs: Sequence[Output | None],
        outputs: Sequence[str],
        attributes: Mapping[str, Any] | None = None,
    ) -> NodeProto:
        if self.closed:
            raise ForeignValue(
                f"the recording of {type_name(self)} has ended",
                fix="record inside body(g) or bootstrap(g)",
                where=user_line(),
            )
        names = ["" if value is None else value.name for value in inputs]
        node = helper.make_node(op_type, names, list(outputs), domain=domain)
        for name, value in sorted((attributes or {}).items()):
            node.attribute.append(to_attribute(op_type, name, value))
        onnx_tools.set_meta(node, keys.SOURCE, str(user_line()))
        if self._at:
            onnx_tools.set_meta(node, keys.AT, self._at[-1])
        if self._blocks:
            onnx_tools.set_meta(node, keys.BLOCK, self._blocks[-1])
        self.nodes.append(node)
        return node

    def _new_port(self, what: str, name: str) -> None:
        check_name(what, name)
        self._check_free(what, name, taken=name in self.inputs or name in self.outputs)

    def _check_free(self, what: str, name: str, *, taken: bool) -> None:
        key = (what == "edge", name)
        if taken:
            first = self._named_at.get(key)
            raise DuplicateName(
                f"{type_name(self)} has an {what} {name!r} already"
                if what == "edge"
                else f"{type_name(self)} has an input or output {name!r} already",
                fix="give each its own name",
                where=tuple(line for line in (user_line(), first) if line is not None),
            )
        self._named_at[key] = user_line()


def type_name(graph: Recorder) -> str:
    """Return the name of the class whose body a graph records."""
    return type(graph.module).__name__
