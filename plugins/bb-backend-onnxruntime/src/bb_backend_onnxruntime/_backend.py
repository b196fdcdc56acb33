"""The backend itself: which ops there are, and a function for one or for many.

A session needs the dtypes of its inputs. A fused graph usually says them, and its session is made
at install. Where nothing is said, as for a single op, a session is made when dtypes are first met,
and kept. Whether an op exists at all is always found out at install, by making a session of it.

Most CPU kernels of ONNX Runtime know no 16-bit floats: it casts to float32 before them and back
behind them, and leaves out the casts between two ops, whose roundings are then lost. So graphs in
which there are such floats run op by op, unless the configuration gives up equal bits.

ONNX Runtime 1.32 divides the least int32 or int64 by -1 with the processor's own instruction,
which ends the process. Before `Div` these are looked for, and get the quotient that the shorter
integers have: the least number itself. Graphs that divide integers therefore run op by op, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

import numpy as np
from onnx import NodeProto, defs

from bb_backend_onnxruntime._drafts import NUMBERS, Draft, Signature, declared, node_of, schema_of
from bb_backend_onnxruntime._sessions import OnnxRuntimeConfig, Sessions
from bb_backend_onnxruntime.errors import DtypeUnsupported, OpRefused, RunFailed
from bb_roles.contracts import Backend, Environment, Kernel
from bb_roles.fused import FusedGraph, FusedNode, compose

__all__ = ["OnnxRuntimeBackend"]

#: Ops of graphs, and ops that draw random numbers, which only a component's context may draw.
_LEFT_OUT: Final = frozenset({
    "Bernoulli", "If", "ImageDecoder", "Loop", "Multinomial", "RandomNormal", "RandomNormalLike",
    "RandomUniform", "RandomUniformLike", "Scan", "SequenceMap",
})  # fmt: skip
#: Position of the input of `Dropout` that asks for random numbers.
_TRAINING_MODE: Final = 2
#: What is tried, in order, to find out whether an op exists.
_TRIED: Final = tuple(
    np.dtype(name)
    for name in ("float32", "int64", "bool", "uint8", "int32", "float64", "int8", "float16")
)
#: Numbers in `TensorProto.DataType` of the 16-bit floats, and of all floats that pass.
_HALVES: Final = frozenset({10, 16})
_FLOATS: Final = frozenset({1, 10, 11, 16})
#: How ONNX writes those two.
_SPELLED: Final = {"float32": "float", "float64": "double"}


class OnnxRuntimeBackend(Backend):
    """Tensor ops of ONNX opset 23 on ONNX Runtime's CPU kernels.

    Ops that the compiler fused run as one session. Results are arrays of their own memory that
    nobody can write to. What there is depends on the release of ONNX Runtime; control flow,
    sequences, texts, random numbers and `Dropout` in training mode are not there. Tensors are of
    the float, integer and bool dtypes that numpy itself has.

    Results are those of ONNX Runtime: close to those of `backend.numpy`, not the same bits. On
    machines with other instruction sets they may differ in the last place.
    """

    Config: ClassVar[type] = OnnxRuntimeConfig

    def __init__(self, config: OnnxRuntimeConfig, env: Environment) -> None:
        super().__init__(config, env)
        self._sessions = Sessions(config)
        self._exact = config.optimize == "none"

    def kernel(self, op_type: str, attributes: Mapping[str, Any], outputs: int) -> Kernel | None:
        """Return a function for one op, or `None` when this backend does not have it.

        Raises:
            OpRefused: An attribute is unknown, missing or has a bad value, or the op cannot have
                that many outputs.
        """
        schema = None if op_type in _LEFT_OUT else schema_of(op_type)
        if schema is None:
            return None
        node = node_of(schema, attributes, outputs)
        made = self._found(schema, node, outputs)
        if made is None:
            return None
        known = dict([made])

        def make(given: Signature) -> Kernel:
            return self._sessions.function(Draft.of_op(node, len(given), outputs), given)

        kernel = _by_dtypes(known, make)
        guard = _GUARDS.get(op_type)
        return kernel if guard is None else guard(kernel)

    def compile(self, graph: FusedGraph) -> Kernel | None:
        """Return a function for ops that run together, or `None` when it does not have one of them.

        Raises:
            DtypeUnsupported: The program declares dtypes that ONNX Runtime has no kernels for.
            OpRefused: As `kernel` does, or ONNX Runtime does not load the graph.
        """
        schemas = [None if n.op_type in _LEFT_OUT else schema_of(n.op_type) for n in graph.nodes]
        for schema, node in zip(schemas, graph.nodes, strict=True):
            if schema is None:
                return None
            node_of(schema, node.attributes, len(node.outputs))
        if any(n.op_type == "Dropout" and any(n.inputs[_TRAINING_MODE:]) for n in graph.nodes):
            return super().compile(graph)
        draft, given = Draft.of_graph(graph), declared(graph)
        if given is None and any(self._op(node) is None for node in graph.nodes):
            return None

        def make(given: Signature) -> Kernel:
            if self._must_be_apart(draft, given):
                return compose(graph, [self._needed_op(node) for node in graph.nodes])
            return self._sessions.function(draft, given)

        return _by_dtypes({} if given is None else {given: make(given)}, make)

    def _must_be_apart(self, draft: Draft, given: Signature) -> bool:
        """Say whether a graph has to run op by op."""
        kinds = draft.kinds(given)
        halves = any(kind in _HALVES for kind in kinds.values())
        divides = [name for n in draft.nodes if n.op_type == "Div" for name in n.output]
        overflows = any(kinds.get(name, 0) not in _FLOATS for name in divides)
        return overflows or (self._exact and halves)

    def _op(self, node: FusedNode) -> Kernel | None:
        return self.kernel(node.op_type, node.attributes, len(node.outputs))

    def _needed_op(self, node: FusedNode) -> Kernel:
        kernel = self._op(node)
        if kernel is None:
            raise DtypeUnsupported(
                f"ONNX Runtime has no kernel of op {node.op_type} for any dtype",
                expected="ops that ONNX Runtime implements on the CPU",
                fix="bind another backend",
            )
        return kernel

    def _found(
        self, schema: defs.OpSchema, node: NodeProto, outputs: int
    ) -> tuple[Signature, Kernel] | None:
        """Return dtypes that the op takes, with its function for them, or None if there are none.

        Raises:
            OpRefused: ONNX Runtime has the op and refuses it as it is.
        """
        why: DtypeUnsupported | OpRefused | None = None
        for given in _signatures(schema):
            try:
                draft = Draft.of_op(node, len(given), outputs)
                return given, self._sessions.function(draft, given)
            except (DtypeUnsupported, OpRefused) as error:
                why = why or error  # the first choice is the most usual one
        if isinstance(why, OpRefused):
            raise why
        return None


def _signatures(schema: defs.OpSchema) -> list[Signature]:
    """Return what to try an op on: its needed inputs, in dtypes that the standard lets them have.

    Inputs that share a type parameter have the same types, so they get the same dtype.
    """
    needed = schema.inputs[: max(schema.min_input, min(1, len(schema.inputs)))]
    if not needed:
        return [()]
    found: dict[Signature, None] = {}
    for wish in _TRIED:
        chosen = tuple(_chosen(formal.types, wish) for formal in needed)
        if None not in chosen:
            found[chosen] = None
    return list(found)


def _chosen(types: set[str], wish: np.dtype[Any]) -> np.dtype[Any] | None:
    fitting = (d for d in (wish, *_TRIED, *NUMBERS) if f"tensor({_spelled(d)})" in types)
    return next(fitting, None)


def _spelled(dtype: np.dtype[Any]) -> str:
    return _SPELLED.get(dtype.name, dtype.name)


def _by_dtypes(known: dict[Signature, Kernel], make: Callable[[Signature], Kernel]) -> Kernel:
    """Return a function that picks the one for the dtypes it is given, and makes it if need be."""

    def call(*inputs: Any) -> Any:
        given = tuple(None if x is None else x.dtype for x in inputs)
        run = known.get(given)
        if run is None:
            run = known[given] = make(given)
        return run(*inputs) if None not in given else run(*(x for x in inputs if x is not None))

    return call


def _inferring(kernel: Kernel) -> Kernel:
    """Refuse to draw random numbers."""

    def infer(*inputs: Any) -> Any:
        asked = inputs[_TRAINING_MODE:]
        if asked and asked[0] is not None and asked[0].any():
            raise RunFailed(
                "Dropout was asked to drop: its input training_mode is true",
                expected="training_mode false or left out; this backend draws no random numbers",
                fix="train inside a model component, or leave training_mode out",
            )
        return kernel(*inputs)

    return infer


def _dividing(kernel: Kernel) -> Kernel:
    """Divide integers without the one quotient that has no place in its dtype."""

    def divide(a: Any, b: Any) -> Any:
        if a.dtype.kind == "i" and a.dtype == b.dtype and (b == -1).any():
            try:
                overflowing = (b == -1) & (a == np.iinfo(a.dtype).min)
            except ValueError:  # shapes that do not broadcast, about which ONNX Runtime says more
                return kernel(a, b)
            b = np.where(overflowing, b.dtype.type(1), b)
        return kernel(a, b)

    return divide


def _once(kernel: Kernel) -> Kernel:
    """Hold a constant: no session runs, and no copy is made, each time that it is asked for."""
    held = kernel()

    def hold() -> Any:
        return held

    return hold


_GUARDS: Final[Mapping[str, Callable[[Kernel], Kernel]]] = {
    "Constant": _once,
    "Div": _dividing,
    "Dropout": _inferring,
}
