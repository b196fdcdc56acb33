"""What `solve_types` has to say to users: one function for each thing that can be wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnx import NodeProto

from bb_compiler._placement_errors import lines_of
from bb_compiler._wording import label_of, value_text
from bb_compiler.errors import NotSendable, TypeMismatch
from bb_ir import keys, onnx_tools
from bb_ir.errors import SourceLine, did_you_mean
from bb_ir.type_texts import brief, clash
from bb_ir.types import Type
from bb_roles.errors import InputMisfit

__all__ = [
    "Use",
    "lines",
    "misnamed_field",
    "no_inference",
    "not_given",
    "not_sendable",
    "refused",
    "unfit",
]

_ORDINALS = {0: "first", 1: "second", 2: "third"}
#: So many lines at most lead from a use to where a value was made.
_LONGEST_WAY = 6


class Use:
    """One value that an op is given.

    Args:
        node: The op.
        at: Which of its inputs.
        known: The type of the value.
        trail: The ops that made it so, the nearest first; empty for an input of the program.
    """

    def __init__(self, node: NodeProto, at: int, known: Type, trail: Sequence[NodeProto]) -> None:
        self.node, self.at, self.known, self.trail = node, at, known, trail

    @property
    def name(self) -> str:
        """The value, as users know it."""
        maker = self.trail[0] if self.trail else None
        return value_text(self.node.input[self.at], maker, self.node)

    def __str__(self) -> str:
        place = _ORDINALS.get(self.at, f"{self.at + 1}th")
        return (
            f"{self.node.op_type} is given {self.name} of type {brief(self.known)} "
            f"as its {place} input{self._origin()}"
        )

    def _origin(self) -> str:
        """Say which op made the value, and where, when that is another class."""
        if not self.trail:
            return ""
        made = self.trail[-1]
        cls, slot = onnx_tools.get_meta(made, keys.CLASS), onnx_tools.get_meta(made, keys.SLOT)
        of = f" of slot {slot!r}" if slot else ""
        on = "" if cls == onnx_tools.get_meta(self.node, keys.CLASS) else f" on class {cls!r}"
        return f", made by {made.op_type}{of}{on}"


def lines(*nodes: NodeProto | None) -> tuple[SourceLine, ...]:
    """Return the lines that lead from a use to where a value was made."""
    found = lines_of(*nodes)
    if len(found) <= _LONGEST_WAY:
        return found
    return (*found[: _LONGEST_WAY - 1], found[-1])


def unfit(
    use: Use, expected: str, wanted: Type | None = None, others: Sequence[NodeProto] = ()
) -> TypeMismatch:
    """Complain about a value of another type than an op takes.

    Args:
        use: The value.
        expected: What the op takes, in words.
        wanted: The type that it takes, to tell what differs.
        others: Ops from which that type is known.
    """
    differs = "" if wanted is None else clash(use.known, wanted)
    slot = onnx_tools.get_meta(use.node, keys.SLOT)
    both = use.known.kind == "params" and wanted is not None and wanted.items is not None
    return TypeMismatch(
        f"{use}{differs and f': {differs}'}",
        expected=expected,
        fix=f"configure what fills slot {slot!r} so that both ends have the same parameters; "
        "a configuration of its own for a class is bind(..., on=<class>, config=...)"
        if both
        else "",
        where=lines(use.node, *use.trail, *others),
    )


def refused(use: Use, error: InputMisfit, sides: Sequence[Mapping[str, Any]]) -> TypeMismatch:
    """Complain about a value that a component, as it is configured, does not take.

    Args:
        use: The value.
        error: What the component says.
        sides: The bindings of who is given the value, and of who made it.
    """
    bound = [
        f"slot {row['slot']!r} is {row['component']!r}"
        + (f" with {row['config']}" if row.get("config") else ", not configured here")
        for row in sides
    ]
    return TypeMismatch(
        f"{use}: {error.found}; {' and '.join(bound)}",
        expected=error.expected,
        fix=error.fix,
        where=lines(use.node, *use.trail),
    )


def not_given(
    node: NodeProto, own: Type, needed: Type, others: Sequence[NodeProto]
) -> TypeMismatch:
    """Complain about an op that gives another type than those it belongs together with."""
    slot, cls = onnx_tools.get_meta(node, keys.SLOT), onnx_tools.get_meta(node, keys.CLASS)
    differs = clash(own, needed)
    return TypeMismatch(
        f"{node.op_type} of slot {slot!r} on class {cls!r} gives {brief(own)}, and "
        f"{others[0].op_type if others else 'the slot'} was given {brief(needed)}"
        f"{differs and f': what it gives {differs}'}",
        expected=f"one type of parameters in slot {slot!r}",
        fix=f"load into slot {slot!r} what a component of the same configuration gave",
        where=lines(node, *others),
    )


def misnamed_field(node: NodeProto, known: Type, maker: NodeProto | None) -> TypeMismatch:
    """Complain about a field that a record is known not to have."""
    name: str = onnx_tools.attributes(node)["name"]
    names = [field for field, _ in known.items or ()]
    return TypeMismatch(
        f"{value_text(node.input[0], maker, node)} is a record without a field {name!r}",
        expected=f"one of {', '.join(names)}" if names else "a record with fields",
        fix=did_you_mean(name, names),
        where=lines_of(node, maker),
    )


def no_inference(
    node: NodeProto, inputs: Mapping[str, Type], error: Exception, where: tuple[SourceLine, ...]
) -> TypeMismatch:
    """Complain about what ONNX's shape inference refuses."""
    given = ", ".join(f"{label_of(name)!r}: {known}" for name, known in inputs.items())
    why = str(error).splitlines()[-1].partition("] ")[2] or str(error)
    return TypeMismatch(
        f"{node.op_type} cannot take {given}: {why}",
        expected=f"element types and shapes that ONNX allows for {node.op_type}",
        fix="self.backend.op(g, 'Cast', x, to=...) changes an element type, "
        "self.backend.reshape(g, x, shape) a shape",
        where=where,
    )


def not_sendable(
    node: NodeProto,
    name: str,
    known: Type,
    maker: NodeProto | None,
    where: tuple[SourceLine, ...],
) -> NotSendable:
    """Complain about a value that cannot cross the network."""
    why, fix = _unsendable(known)
    if known.kind == "any" and maker is not None:
        fix = _how_to_know(maker)
    return NotSendable(
        f"{value_text(name, maker, node)} of type {brief(known)} cannot cross edge "
        f"{onnx_tools.get_meta(node, keys.EDGE)!r}: {why}",
        expected="tensors, parameters, metrics, numbers, texts, bytes or peers",
        fix=fix,
        where=where,
    )


def _how_to_know(maker: NodeProto) -> str:
    """Return how the type of what an op gives can be made known."""
    if maker.op_type == "Field":
        field = onnx_tools.attributes(maker)["name"]
        return f'say its type: g.field(record, "{field}", "float64")'
    slot = onnx_tools.get_meta(maker, keys.SLOT)
    if not slot:
        return f"say the types of what {maker.op_type} is given"
    return (
        f"let the component of slot {slot!r} tell what {maker.op_type} gives, by value_types or "
        "infer_types; they are asked where it is bound with a configuration, if only config={}"
    )


def _unsendable(known: Type) -> tuple[str, str]:
    """Return why a value cannot cross the network, and what to do instead."""
    if known.kind == "any":
        return "its type is not known", 'declare it: g.input("name", type)'
    if known.kind == "senders":
        return (
            "return addresses mean something on the Node that received them only",
            "send to them: g.net_out(name, g.sender(received), value)",
        )
    if known.kind == "local":
        return "it makes sense on its own Node only", "make it on the Node that needs it"
    if known.kind == "record":
        field, part = next(pair for pair in known.items or () if not pair[1].sendable)
        if part.kind == "any":
            fix = f'say it where it is read: g.field(record, "{field}", "float64")'
            return f"the type of its field {field!r} is not known", fix
        return f"its field {field!r} is of type {brief(part)}, which stays on its Node", (
            f"leave {field!r} out"
        )
    return "a part of it is of unknown type, or makes sense on its own Node only", (
        "send its parts that can travel"
    )
