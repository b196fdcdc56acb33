"""The part of the backend contract that is about ops run together; `backend` holds the rest.

The oracle is the backend itself: its kernels, one by one. So a case need not say what is right,
and equal means equal bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from bb_roles import Backend
from bb_roles.fused import FusedGraph
from bb_testing._life import LivingSuite

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tensor = NDArray[Any]

__all__ = ["FusedOpsSuite", "GraphCase"]

#: An op of a graph: name, inputs, outputs, attributes.
Step = tuple[str, str, str, dict[str, Any]]


@dataclass(frozen=True)
class GraphCase:
    """Ops that run together.

    Attributes:
        about: What the case is about.
        given: Names of the inputs, with the shape of each.
        wanted: Names of the outputs.
        steps: The ops in order; names of values are parted by spaces, `_` is one left out.
        dtype: Element type of the inputs.
    """

    about: str
    given: dict[str, tuple[int, ...]]
    wanted: str
    steps: tuple[Step, ...]
    dtype: str = "float32"

    def __str__(self) -> str:
        return self.about.replace(" ", "-")

    def graph(self) -> FusedGraph:
        """Return the graph as a backend is given it."""
        from onnx import helper

        from bb_ir import keys

        nodes = [
            helper.make_node(op, _names(reads), _names(makes), **attributes)
            for op, reads, makes, attributes in self.steps
        ]
        function = helper.make_function(
            keys.FUSED, "fused", list(self.given), self.wanted.split(), nodes,
            [helper.make_opsetid("", keys.OPSET)],
        )  # fmt: skip
        return FusedGraph.of(function)

    def inputs(self, seed: int = 0) -> list[Tensor]:
        """Return inputs, the same ones for the same seed."""
        import numpy as np

        rng = np.random.default_rng(seed)
        drawn = (rng.uniform(-4, 4, shape) for shape in self.given.values())
        return [np.asarray(values).astype(self.dtype) for values in drawn]


def _names(text: str) -> list[str]:
    return ["" if name == "_" else name for name in text.split()]


def _number(value: float) -> dict[str, Any]:
    return {"value_float": value}


_X: dict[str, tuple[int, ...]] = {"x": (2, 3)}
_CASES = (
    GraphCase("a chain with constants", _X, "y", (
        ("Constant", "", "two", _number(2.0)),
        ("Mul", "x two", "a", {}),
        ("Constant", "", "one", _number(1.0)),
        ("Add", "a one", "b", {}),
        ("Relu", "b", "c", {}),
        ("Softmax", "c", "y", {"axis": -1}),
    )),
    GraphCase("roundings that must not be joined", _X | {"w": (2, 3), "b": (3,)}, "y", (
        ("Mul", "x w", "a", {}),
        ("Add", "a b", "c", {}),
        ("Sub", "c x", "d", {}),
        ("Div", "d w", "e", {}),
        ("Mul", "e e", "y", {}),
    )),
    GraphCase("a small network", _X | {"w": (3, 4), "b": (4,), "v": (4, 2)}, "loss h", (
        ("Gemm", "x w b", "h", {}),
        ("Tanh", "h", "t", {}),
        ("MatMul", "t v", "o", {}),
        ("ReduceMean", "o", "loss", {"keepdims": 0}),
    ), "float64"),
    GraphCase("a diamond with several outputs", _X, "low sum", (
        ("Split", "x", "low high", {"axis": 1, "num_outputs": 2}),
        ("Neg", "high", "n", {}),
        ("Abs", "high", "m", {}),
        ("Add", "n m", "sum", {}),
    )),
    GraphCase("rank zero inside and outside", {"x": (), "y": ()}, "b e", (
        ("Add", "x y", "a", {}),
        ("Mul", "a a", "b", {}),
        ("Constant", "", "axes", {"value_ints": [0]}),
        ("Sub", "b x", "c", {}),
        ("Unsqueeze", "c axes", "d", {}),
        ("Exp", "c", "e", {}),
        ("Concat", "d d", "unread", {"axis": 0}),
    )),
    GraphCase("half precision", _X, "y", (
        ("Mul", "x x", "a", {}),
        ("Add", "a x", "b", {}),
        ("Sigmoid", "b", "c", {}),
        ("Sub", "c b", "y", {}),
    ), "float16"),
    GraphCase("a view of an input beside it", _X, "t y", (
        ("Transpose", "x", "t", {}),
        ("Identity", "x", "i", {}),
        ("Neg", "i", "y", {}),
    )),
    GraphCase("no inputs", {}, "y", (
        ("Constant", "", "a", {"value_floats": [1.0, -2.0]}),
        ("Neg", "a", "b", {}),
        ("Add", "a b", "y", {}),
    )),
)  # fmt: skip
_every_graph = pytest.mark.parametrize("graph_case", _CASES, ids=str)


class FusedOpsSuite(LivingSuite):
    """Tests of `Backend.compile`; every `BackendSuite` has them."""

    def make(self) -> Backend:
        """Return a fresh backend."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def make(self)`")

    @_every_graph
    def test_fused_ops_give_the_same_bits(self, graph_case: GraphCase) -> None:
        """Nobody can tell whether the compiler fused ops, but by the time they take."""
        inputs = graph_case.inputs()
        found = self._fused(graph_case)(*inputs)
        for name, y, wanted in zip(
            graph_case.wanted.split(), found, self._one_by_one(graph_case, inputs), strict=True
        ):
            same = (y.dtype, y.shape, y.tobytes()) == (wanted.dtype, wanted.shape, wanted.tobytes())
            assert same, (
                f"{name} of {graph_case} is\n{y!r}\nand the kernels one by one give\n{wanted!r}"
            )

    @_every_graph
    def test_fused_ops_take_frozen_inputs_and_leave_them(self, graph_case: GraphCase) -> None:
        """A value has many readers, fused or not, and the engine marks it as not writable."""
        inputs = graph_case.inputs()
        frozen = graph_case.inputs()
        for x in frozen:
            x.flags.writeable = False
        run = self._fused(graph_case)
        wanted = [y.tobytes() for y in run(*frozen)]
        run(*inputs)
        assert [x.tobytes() for x in inputs] == [x.tobytes() for x in frozen], (
            f"{graph_case}, fused, wrote to its inputs; write to fresh memory"
        )
        assert [y.tobytes() for y in run(*inputs)] == wanted, (
            f"{graph_case}, fused, gave two results for the same inputs"
        )

    @_every_graph
    def test_results_of_fused_ops_last(self, graph_case: GraphCase) -> None:
        """The function is called again while earlier results are in use."""
        run = self._fused(graph_case)
        kept = run(*graph_case.inputs())
        before = [y.tobytes() for y in kept]
        run(*graph_case.inputs(seed=1))
        assert before == [y.tobytes() for y in kept], (
            f"a second call of {graph_case}, fused, changed the first result; reuse no memory"
        )

    def test_fused_ops_that_it_lacks_give_none(self) -> None:
        """The installer then finds out which op it is."""
        steps: tuple[Step, ...] = (("Neg", "x", "a", {}), ("NoSuchOp", "a", "y", {}))
        made = self.make().compile(GraphCase("unknown op", _X, "y", steps).graph())
        assert made is None, (
            f"compile(...) returned {made!r} for a graph with an op it does not have"
        )

    def _fused(self, case: GraphCase) -> Callable[..., list[Tensor]]:
        """Return the backend's function of a graph, with its results as a list."""
        graph = case.graph()
        made = self.make().compile(graph)
        if made is None:
            return lambda *inputs: self._one_by_one(case, inputs)
        return lambda *inputs: _listed(made(*inputs), len(graph.outputs), f"{case}, fused,")

    def _fused_life(self, component: Backend, seed: int) -> list[Tensor]:
        case = _CASES[seed % len(_CASES)]
        graph = case.graph()
        made = component.compile(graph)
        results = () if made is None else made(*case.inputs(seed))
        return [] if made is None else _listed(results, len(graph.outputs), f"{case}, fused,")

    def _one_by_one(self, case: GraphCase, inputs: Sequence[Tensor]) -> list[Tensor]:
        graph, backend = case.graph(), self.make()
        values: dict[str, Tensor | None] = {"": None, **dict(zip(case.given, inputs, strict=True))}
        for node in graph.nodes:
            kernel = backend.kernel(node.op_type, node.attributes, len(node.outputs))
            assert kernel is not None, f"kernel({node.op_type!r}, ...) returned None"
            made = kernel(*(values[name] for name in node.inputs))
            results = _listed(made, len(node.outputs), node.op_type)
            values.update(zip(node.outputs, results, strict=True))
        return [y for name in graph.outputs if (y := values[name]) is not None]


def _listed(result: Any, count: int, what: str) -> list[Tensor]:
    import numpy as np

    results: list[Any] = [result]
    if count != 1:
        kind: str = type(result).__name__
        assert type(result) is tuple, f"{what} has {count} outputs and returned a {kind}"
        results = [*result]
    assert len(results) == count, f"{what} has {count} outputs and returned {len(results)}"
    for at, y in enumerate(results):
        assert isinstance(y, np.ndarray), (
            f"output {at} of {what} is a {type(y).__name__}; a tensor is a numpy array"
        )
    return results
