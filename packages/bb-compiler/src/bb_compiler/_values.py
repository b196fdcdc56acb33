"""What `solve_types` knows of the values of one function while it goes through its ops."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from onnx import FunctionProto, ModelProto, NodeProto

from bb_compiler import _type_errors as errors
from bb_compiler._wording import label_of
from bb_compiler.errors import Findings, TypeMismatch
from bb_ir import keys, onnx_tools
from bb_ir.errors import SourceLine
from bb_ir.types import ANY, Type, meet

__all__ = ["Rows", "Values"]

Row = Mapping[str, Any]

#: So many ops at most are remembered on the way to where a value was made.
_LONGEST = 8


class Rows:
    """The bindings of a model, by class and slot.

    Args:
        model: A model with resolved slots.
    """

    def __init__(self, model: ModelProto) -> None:
        text = onnx_tools.get_meta(model, keys.RESOLVED, "{}")
        self._table: dict[str, dict[str, Row]] = json.loads(text)

    def of(self, node: NodeProto) -> Row:
        """Return the binding of an op's slot; nothing for an op without one."""
        rows = self._table.get(onnx_tools.get_meta(node, keys.CLASS), {})
        return rows.get(onnx_tools.get_meta(node, keys.SLOT), {})

    def note(self, model: ModelProto, inferred: Callable[[str, str], Mapping[str, Any]]) -> None:
        """Write into the rows of a model what is inferred of them, by class and slot."""
        places = [(cls, slot) for cls, rows in self._table.items() for slot in rows]
        told = {place: inferred(*place) for place in places}
        if not any(told.values()):
            return
        table = {
            cls: {
                slot: {**row, "inferred": told[cls, slot]} if told[cls, slot] else row
                for slot, row in rows.items()
            }
            for cls, rows in self._table.items()
        }
        onnx_tools.set_meta(model, keys.RESOLVED, json.dumps(table, sort_keys=True))


class Values:
    """Types of a function's values, and the ops that made them so.

    Args:
        function: The function.
        findings: Where complaints go.
    """

    def __init__(self, function: FunctionProto, findings: Findings) -> None:
        self.types = onnx_tools.types_of(function)
        self.makers = {name: node for node in function.node for name in node.output}
        self.findings = findings
        self._trails: dict[str, tuple[NodeProto, ...]] = {}

    def of(self, name: str) -> Type:
        """Return the type of a value as far as it is known."""
        return self.types.get(name, ANY)

    def narrow(self, node: NodeProto, name: str, known: Type) -> None:
        """Note what is known about a result beside what was declared of it."""
        met = meet(self.of(name), known)
        if met is None:
            self.findings.add(
                TypeMismatch(
                    f"{node.op_type} gives {label_of(name, node)!r} as {known}, but it is used as "
                    f"{self.of(name)}",
                    expected=f"a use as {known}",
                    where=errors.lines(node, *self.trail(name)),
                )
            )
        else:
            self.types[name] = met

    def follow(self, node: NodeProto, name: str, others: Sequence[NodeProto]) -> None:
        """Note that a result of an op has its type from what other ops made."""
        trail = (node, *(other for other in others if other is not node))
        # The ends matter most; and long chains of relays must not cost the square of their length.
        self._trails[name] = (
            trail if len(trail) <= _LONGEST else (*trail[: _LONGEST - 1], trail[-1])
        )

    def trail(self, name: str) -> tuple[NodeProto, ...]:
        """Return the ops that made a value what it is, the nearest first."""
        maker = self.makers.get(name)
        return self._trails.get(name, () if maker is None else (maker,))

    def use(self, node: NodeProto, at: int) -> errors.Use:
        """Return one value that an op is given, for a complaint."""
        name = node.input[at]
        return errors.Use(node, at, self.of(name), self.trail(name))

    def lines(self, node: NodeProto, *names: str) -> tuple[SourceLine, ...]:
        """Return the line of an op, and those that lead to where values were made."""
        return errors.lines(node, *(one for name in names for one in self.trail(name)))
