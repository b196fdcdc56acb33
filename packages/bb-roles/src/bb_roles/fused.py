"""Tensor ops that the compiler made into one call: what a backend is given, and how it is run.

`compose` writes a graph out as straight Python over kernels, one line per op, with values as
locals that are dropped on the line of their last reader. So nothing is looked up or counted
between two ops, and when one raises, the number of the line says which (`raised_at`). The text
holds numbers only, never a name from an artifact; it is written once per graph, however many
Nodes are installed. Nothing here may know what an op computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType, TracebackType

    from onnx import FunctionProto

__all__ = ["FusedGraph", "FusedNode", "compose", "raised_at"]

#: File name of the written code in tracebacks.
_FILE = "<bb fused>"
#: Lines of the text before that of the first op.
_FIRST_LINE = 3


@dataclass(frozen=True, eq=False, slots=True)
class FusedNode:
    """One op of `ai.onnx`.

    Attributes:
        op_type: Name of the op.
        attributes: Its attributes as plain values, as `Backend.kernel` is given them.
        inputs: Names of the values it reads; an empty one is left out.
        outputs: Names of the values it makes; an empty one is not wanted.
    """

    op_type: str
    attributes: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def constant(self) -> bool:
        """Whether it gives the same tensor each time."""
        return self.op_type == "Constant" and not self.inputs


@dataclass(frozen=True, eq=False)
class FusedGraph:
    """Ops of one backend that run together; `FusedGraph.of` makes one.

    Attributes:
        name: Name of the function in the artifact.
        inputs: Names of what it is given, in order.
        outputs: Names of what it returns, in order.
        nodes: Its ops, each after those whose values it reads.
        data: The function, serialized.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[FusedNode, ...]
    data: bytes = field(repr=False)

    @staticmethod
    def of(function: FunctionProto) -> FusedGraph:
        """Return the graph of an ONNX function all of whose nodes are ops of `ai.onnx`."""
        from bb_ir import onnx_tools

        return FusedGraph(
            name=function.name,
            inputs=tuple(function.input),
            outputs=tuple(function.output),
            nodes=tuple(
                FusedNode(n.op_type, onnx_tools.attributes(n), tuple(n.input), tuple(n.output))
                for n in function.node
            ),
            data=function.SerializeToString(deterministic=True),
        )

    @cached_property
    def function(self) -> FunctionProto:
        """The ONNX function, with the types of its values: what a model can be built of."""
        from onnx import FunctionProto

        return FunctionProto.FromString(self.data)

    @cached_property
    def code(self) -> CodeType:
        """The compiled factory of its Python function, for `compose`."""
        return compile(_text(self), _FILE, "exec")


def compose(graph: FusedGraph, kernels: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
    """Return a function that runs the ops of a graph in order.

    Constants are made now, once.

    Args:
        graph: What to run.
        kernels: One function per node, as `Backend.kernel` returns it.
    """
    space: dict[str, Any] = {}
    exec(graph.code, space)  # noqa: S102  # text of our own, numbers only
    pairs = zip(graph.nodes, kernels, strict=True)
    run: Callable[..., Any] = space["make"](*(k() if node.constant else k for node, k in pairs))
    return run


def raised_at(trace: TracebackType | None) -> int | None:
    """Return which node of a composed graph raised, by the outermost of its lines in a traceback.

    `None` when no composed graph is in the traceback.
    """
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _FILE:
            return max(0, trace.tb_lineno - _FIRST_LINE)
        trace = trace.tb_next
    return None


def _text(graph: FusedGraph) -> str:
    places = {name: f"i{at}" for at, name in enumerate(graph.inputs)}
    last = {n: at for at, node in enumerate(graph.nodes) for n in node.inputs if n}
    kept = set(graph.outputs)
    lines = [_line(at, node, places, last, kept) for at, node in enumerate(graph.nodes)]
    kernels = ",".join(f"k{at}" for at in range(len(graph.nodes)))
    given = ",".join(places[name] for name in graph.inputs)
    results = ",".join(places[name] for name in graph.outputs)
    returned = results if len(graph.outputs) == 1 else f"({results})"
    body = "".join(f"  {line}\n" for line in lines)
    return f"def make({kernels}):\n def run({given}):\n{body}  return {returned}\n return run\n"


def _line(
    at: int, node: FusedNode, places: dict[str, str], last: Mapping[str, int], kept: set[str]
) -> str:
    """Write one op; an empty line for a constant, which stands where its kernel would."""
    if node.constant:
        places[node.outputs[0]] = f"k{at}"
        return ""
    reads = ",".join(places[name] if name else "None" for name in node.inputs)
    spent = [n for n in dict.fromkeys(node.inputs) if n and last[n] == at and n not in kept]
    # A constant belongs to the graph, not to this run of it.
    drops = [places[name] for name in spent if not places[name].startswith("k")]
    wanted = [name if name in last or name in kept else "" for name in node.outputs]
    if not any(wanted) and len(wanted) == 1:
        return ";".join([f"k{at}({reads})", *(f"{place}=None" for place in drops)])
    places.update((name, f"a{at}_{n}") for n, name in enumerate(wanted) if name)
    if not all(wanted):
        drops.append("_")
    stores = ",".join(places[name] if name else "_" for name in wanted)
    return ";".join([f"{stores}=k{at}({reads})", *(f"{place}=None" for place in drops)])
