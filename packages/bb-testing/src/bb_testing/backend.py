"""The contract of the backend role, as tests.

The oracle is the reference implementation in the `onnx` package, at opset 23. The suite calls
kernels as the engine does: attributes once, then inputs in order, `None` for one that is left out.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from bb_roles import Backend
from bb_testing._base import check_released
from bb_testing._fused import FusedOpsSuite

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tensor = NDArray[Any]

__all__ = ["FLOOR", "OPSET", "BackendSuite", "Case", "run_reference"]

#: The opset whose semantics a backend has.
OPSET = 23

#: The ops that programs may rely on, whatever the backend.
FLOOR: tuple[str, ...] = (
    "Abs", "Add", "Cast", "Concat", "Constant", "Div", "Equal", "Exp", "Gather", "Gemm", "Greater",
    "Identity", "Less", "Log", "MatMul", "Mul", "Neg", "Pow", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceSum", "Relu", "Reshape", "Sigmoid", "Slice", "Softmax", "Split", "Sqrt",
    "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze", "Where",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One call of one op.

    Attributes:
        op_type: Name of the op.
        about: What the case is about; with the op it names the test.
        inputs: Makes the inputs, fresh ones each time; `None` is one that is left out.
        attributes: The op's attributes, as plain values.
        outputs: How many results the op has.
    """

    op_type: str
    about: str
    inputs: Callable[[], Sequence[Tensor | None]]
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    outputs: int = 1

    def __str__(self) -> str:
        return f"{self.op_type}-{self.about}"


def run_reference(
    op_type: str,
    inputs: Sequence[Tensor | None],
    attributes: Mapping[str, Any] | None = None,
    outputs: int = 1,
) -> list[Tensor]:
    """Run one op in the reference implementation of the `onnx` package, at opset 23.

    Args:
        op_type: Name of an op of `ai.onnx`.
        inputs: Arrays, or `None` for an input that is left out.
        attributes: Plain values; a dtype is its number in `TensorProto.DataType`.
        outputs: How many results to return.
    """
    import numpy as np
    from onnx import helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    names = ["" if value is None else f"x{at}" for at, value in enumerate(inputs)]
    results = [f"y{at}" for at in range(outputs)]
    node = helper.make_node(op_type, names, results)
    for name, value in (attributes or {}).items():
        tensor: Any = value
        plain = numpy_helper.from_array(tensor) if isinstance(value, np.ndarray) else value
        node.attribute.append(helper.make_attribute(name, plain))
    given = {name: value for name, value in zip(names, inputs, strict=True) if value is not None}
    graph = helper.make_graph(
        [node],
        "one_op",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
            )
            for name, value in given.items()
        ],
        [helper.make_empty_tensor_value_info(name) for name in results],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    evaluator: Any = ReferenceEvaluator(model)
    # Its steps may overflow where its result does not.
    with np.errstate(all="ignore"):
        return [np.asarray(value) for value in evaluator.run(None, given)]


def _cases() -> tuple[Case, ...]:
    """Return the calls that every backend must answer as the reference does."""
    return (*_elementwise(), *_products(), *_folds(), *_shapes(), *_activations())


_BINARY = ("Add", "Sub", "Mul", "Div")
_ROUNDED = ("float32", "float64", "float16")
_WHOLE = ("int32", "int64")


def _draw(dtype: str, *shape: int, low: float = -4, high: float = 4) -> Tensor:
    """Return numbers that depend on dtype and shape only; integers are never 0."""
    import numpy as np

    rng = np.random.default_rng(sum(map(ord, dtype)) + 31 * len(shape) + sum(shape))
    if dtype == "bool":
        return np.asarray(rng.random(shape) < 0.5)
    values = rng.uniform(low, high, shape)
    if dtype.startswith("int"):
        values = np.where(values < 0, values - 1, values + 1)
    return np.asarray(values).astype(dtype)


def _ints(*values: int) -> Tensor:
    import numpy as np

    return np.array(values, np.int64)


def _elementwise() -> list[Case]:
    return [
        *(_pair(op, dtype, (2, 3), (2, 3)) for op in _BINARY for dtype in (*_ROUNDED, *_WHOLE)),
        *(_pair(op, "float32", *shapes) for op in _BINARY for shapes in _BROADCASTS),
        *(_pair(op, dtype, (3, 1), (1, 4)) for op in _COMPARISONS for dtype in _NUMBERS),
        *(_single(op, dtype) for op in ("Neg", "Abs") for dtype in _NUMBERS),
        *(_single(op, dtype, low=0.1) for op in ("Sqrt", "Exp", "Log") for dtype in _ROUNDED),
        Case("Pow", "keeps the dtype of the base",
             lambda: (_draw("float32", 4, low=0.5), _ints(2))),
        Case("Pow", "broadcasts", lambda: (_draw("float64", 3, 1, low=0.5), _draw("float64", 4))),
        Case("Where", "broadcasts three ways",
             lambda: (_draw("bool", 2, 1, 4), _draw("float32", 3, 1), _draw("float32", 4))),
        Case("Where", "takes integers",
             lambda: (_draw("bool", 3), _draw("int64", 3), _draw("int64"))),
        *(_cast(source, target) for source, target in _CASTS),
    ]  # fmt: skip


_NUMBERS = ("float32", "int32")
_COMPARISONS = ("Equal", "Greater", "Less")
_CASTS: tuple[tuple[str, int], ...] = (
    ("float32", 11), ("float64", 1), ("float32", 6), ("float32", 7), ("int64", 1),
    ("float32", 9), ("bool", 1), ("int64", 9), ("float32", 10), ("int64", 3),
)  # fmt: skip
_BROADCASTS: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((3, 1), (1, 4)), ((2, 3, 4), (4,)), ((), (2, 2)), ((2, 2), ()), ((), ()), ((0, 3), (1, 3)),
)  # fmt: skip


def _pair(op: str, dtype: str, one: tuple[int, ...], other: tuple[int, ...]) -> Case:
    about = f"{dtype} {list(one)} and {list(other)}"
    return Case(op, about, lambda: (_draw(dtype, *one), _draw(dtype, *other, low=-3, high=5)))


def _single(op: str, dtype: str, *, low: float = -4) -> Case:
    return Case(op, dtype, lambda: (_draw(dtype, 2, 3, low=low),))


def _cast(source: str, target: int) -> Case:
    return Case("Cast", f"{source} to {target}", lambda: (_draw(source, 2, 3),), {"to": target})


def _whole(op: str, dtype: str) -> Case:
    return Case(op, f"{dtype} stays", lambda: (_draw(dtype, 3, 4), _ints(1)))


def _products() -> list[Case]:
    def gemm() -> Sequence[Tensor]:
        return _draw("float32", 4, 2), _draw("float32", 3, 4), _draw("float32", 3)

    return [
        Case("MatMul", "matrices", lambda: (_draw("float32", 2, 3), _draw("float32", 3, 4))),
        Case("MatMul", "stacks broadcast",
             lambda: (_draw("float64", 2, 1, 2, 3), _draw("float64", 5, 3, 2))),
        Case("MatMul", "vectors", lambda: (_draw("float32", 3), _draw("float32", 3))),
        Case("MatMul", "integers", lambda: (_draw("int32", 2, 3), _draw("int32", 3, 2))),
        Case("Gemm", "plain", lambda: (_draw("float32", 2, 3), _draw("float32", 3, 4))),
        Case("Gemm", "all attributes", gemm,
             {"alpha": 0.5, "beta": 2.0, "transA": 1, "transB": 1}),
        Case("Gemm", "bias by column",
             lambda: (_draw("float64", 2, 3), _draw("float64", 3, 4), _draw("float64", 2, 1))),
    ]  # fmt: skip


def _folds() -> list[Case]:
    cases: list[Case] = []
    for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"):
        cases += [
            Case(op, "all axes", lambda: (_draw("float32", 2, 3),)),
            Case(op, "all axes to rank zero", lambda: (_draw("float32", 2, 3),), {"keepdims": 0}),
            Case(op, "an axis from the end", lambda: (_draw("float64", 2, 3, 4), _ints(-2))),
            Case(op, "two axes", lambda: (_draw("float32", 2, 3, 4), _ints(0, 2)),
                 {"keepdims": 0}),
            Case(op, "axes left out by None", lambda: (_draw("float32", 2, 3), None)),
            Case(op, "rank zero", lambda: (_draw("float32"),)),
        ]  # fmt: skip
    # For the other folds, releases of the reference implementation disagree about this.
    cases.append(
        Case("ReduceSum", "no axes and noop", lambda: (_draw("float32", 2, 3), _ints()),
             {"noop_with_empty_axes": 1})
    )  # fmt: skip
    cases += [
        _whole(op, dtype) for op in ("ReduceSum", "ReduceMax", "ReduceMin") for dtype in _WHOLE
    ]
    return cases


def _shapes() -> list[Case]:
    def x() -> Tensor:
        return _draw("float32", 2, 3, 4)

    def sliced(*numbers: int) -> Callable[[], Sequence[Tensor]]:
        return lambda: (x(), *(_ints(number) for number in numbers))

    return [
        Case("Reshape", "to a size", lambda: (x(), _ints(4, 6))),
        Case("Reshape", "copies 0, infers -1", lambda: (x(), _ints(0, -1))),
        Case("Reshape", "0 is 0 if asked", lambda: (_draw("float32", 0, 3), _ints(3, 0)),
             {"allowzero": 1}),
        Case("Transpose", "backwards by default", lambda: (x(),)),
        Case("Transpose", "by perm", lambda: (x(),), {"perm": [1, 0, 2]}),
        Case("Concat", "three", lambda: (x(), x(), _draw("float32", 2, 3, 1)), {"axis": -1}),
        Case("Concat", "one", lambda: (_draw("int64", 3),), {"axis": 0}),
        Case("Slice", "forward", sliced(1, 3, 2)),
        Case("Slice", "past the end", sliced(1, 1 << 62, -1, 2)),
        Case("Slice", "backward to the start", sliced(-1, -(1 << 62), 1, -1)),
        Case("Slice", "axes left out", lambda: (x(), _ints(0, 1), _ints(2, 3), None, _ints(1, 2))),
        Case("Split", "by lengths", lambda: (x(), _ints(1, 3)), {"axis": 2}, 2),
        Case("Split", "in equal parts", lambda: (x(),), {"axis": -2, "num_outputs": 3}, 3),
        Case("Split", "smaller last part", lambda: (_draw("float32", 7),), {"num_outputs": 3}, 3),
        Case("Squeeze", "all", lambda: (_draw("float32", 1, 3, 1),)),
        Case("Squeeze", "one axis", lambda: (_draw("float32", 1, 3, 1), _ints(-1))),
        Case("Squeeze", "to rank zero", lambda: (_draw("float32", 1), _ints(0))),
        Case("Unsqueeze", "two axes", lambda: (x(), _ints(0, -1))),
        Case("Unsqueeze", "rank zero", lambda: (_draw("float32"), _ints(0))),
        Case("Identity", "a tensor", lambda: (x(),)),
        Case("Identity", "rank zero", lambda: (_draw("int64"),)),
        Case("Constant", "a tensor", tuple, {"value": _draw("float32", 2, 2)}),
        Case("Constant", "a number", tuple, {"value_float": 0.5}),
        Case("Constant", "whole numbers", tuple, {"value_ints": [1, -2]}),
        Case("Gather", "rows", lambda: (x(), _ints(1, 0, 1))),
        Case("Gather", "from the end of an axis",
             lambda: (x(), _ints(-1, 0).reshape(2, 1)), {"axis": 1}),
        Case("Gather", "one element", lambda: (_draw("int64", 5), _ints(-2).reshape(()))),
    ]  # fmt: skip


def _activations() -> list[Case]:
    return [
        *(_single(op, dtype) for op in (*_POINTWISE, "Softmax") for dtype in _ROUNDED),
        *(Case(op, "rank zero", lambda: (_draw("float32"),)) for op in _POINTWISE),
        Case("Sigmoid", "large", lambda: (_draw("float32", 9, low=-1e4, high=1e4),)),
        Case("Softmax", "large", lambda: (_draw("float32", 3, 4, low=-1e4, high=1e4),)),
        Case("Softmax", "first axis", lambda: (_draw("float32", 3, 4),), {"axis": 0}),
    ]


_POINTWISE = ("Relu", "Sigmoid", "Tanh")
_CASES = _cases()
_every_case = pytest.mark.parametrize("case", _CASES, ids=str)


class BackendSuite(FusedOpsSuite):
    """Inherit it in a class named `Test...` and write `make`."""

    def make(self) -> Backend:
        """Return a fresh backend."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def make(self)`")

    def test_is_a_backend(self) -> None:
        """The component fills the role."""
        made = self.make()
        assert isinstance(made, Backend), (
            f"make() returned a {type(made).__name__}, which does not inherit bb_roles.Backend"
        )

    @pytest.mark.parametrize("op_type", ["NoSuchOp", "", "add", "ai.onnx.Add"])
    def test_unknown_op_gives_none(self, op_type: str) -> None:
        """The compiler asks for ops that a backend may not have; that is no error."""
        kernel = self.make().kernel(op_type, {}, 1)
        assert kernel is None, (
            f"kernel({op_type!r}, ...) returned {kernel!r}; return None for an op you do not have"
        )

    @_every_case
    def test_agrees_with_the_reference(self, case: Case) -> None:
        """Values, shape and dtype are those of the standard."""
        expected = run_reference(case.op_type, case.inputs(), case.attributes, case.outputs)
        for at, (y, wanted) in enumerate(zip(self._run(case), expected, strict=True)):
            _check_same(y, wanted, f"output {at} of {case}")

    @pytest.mark.parametrize("dtype", ["int32", "int64"])
    def test_integers_divide_towards_zero(self, dtype: str) -> None:
        """Where Python rounds down, the standard cuts, exactly, for large numbers too."""
        import numpy as np

        a = np.array([7, -7, 7, -7, 2**31 - 1, -(2**31) + 1], dtype)
        b = np.array([2, 2, -2, -2, 2, 2], dtype)
        (y,) = self._run(Case("Div", "towards zero", lambda: (a, b)))
        wanted = np.array([3, -3, -3, 3, 2**30 - 1, -(2**30) + 1], dtype)
        _check_same(y, wanted, f"Div of {a.tolist()} by {b.tolist()}")

    @_every_case
    def test_inputs_are_never_modified(self, case: Case) -> None:
        """A value has many readers."""
        inputs = case.inputs()
        before = [None if x is None else x.tobytes() for x in inputs]
        self._run(case, inputs)
        after = [None if x is None else x.tobytes() for x in inputs]
        assert before == after, f"{case} wrote to its inputs; write to fresh memory"

    @_every_case
    def test_frozen_inputs_are_enough(self, case: Case) -> None:
        """The engine marks values as not writable, and they may be views with gaps."""
        wanted = self._run(case)
        strange = [None if x is None else _frozen_view(x) for x in case.inputs()]
        for at, (y, other) in enumerate(zip(wanted, self._run(case, strange), strict=True)):
            _check_same(other, y, f"output {at} of {case}, run on read-only strided inputs")

    @_every_case
    def test_runs_are_deterministic(self, case: Case) -> None:
        """The same op on the same inputs gives the same bits, on every backend of the kind."""
        one, other = self._run(case), self._run(case)
        assert [y.tobytes() for y in one] == [y.tobytes() for y in other], (
            f"{case} gave two results for the same inputs; draw nothing, and keep the order of sums"
        )

    @_every_case
    def test_results_last(self, case: Case) -> None:
        """A kernel is called again while earlier results are in use."""
        kernel = self._kernel(case)
        kept = _listed(kernel(*case.inputs()), case)
        before = [y.tobytes() for y in kept]
        kernel(*(None if x is None else _other(x) for x in case.inputs()))
        assert before == [y.tobytes() for y in kept], (
            f"a second call of one kernel of {case} changed the first result; reuse no memory"
        )

    @_every_case
    def test_inputs_are_let_go(self, case: Case) -> None:
        """A kernel is called for months: it keeps neither what it was given nor what it gave."""
        kernel = self._kernel(case)
        inputs = [None if x is None else x.copy() for x in case.inputs()]
        results = _listed(kernel(*inputs), case)
        refs = [weakref.ref(x) for x in (*inputs, *results) if x is not None]
        if case.op_type == "Constant":
            refs = []  # its value belongs to the kernel
        del inputs, results
        check_released(refs, f"{len(refs)} arrays are still kept after {case} was run")

    # What the tests are made of.

    def _life(self, component: Backend, seed: int) -> Iterator[object]:
        for case in _CASES[seed % 7 :: len(_CASES) // 6]:
            kernel = component.kernel(case.op_type, case.attributes, case.outputs)
            assert kernel is not None, f"kernel({case.op_type!r}, ...) returned None"
            yield _listed(kernel(*case.inputs()), case)
        yield self._fused_life(component, seed)

    def _kernel(self, case: Case) -> Callable[..., Any]:
        kernel = self.make().kernel(case.op_type, case.attributes, case.outputs)
        assert kernel is not None, (
            f"kernel({case.op_type!r}, {dict(case.attributes)!r}, {case.outputs}) returned None; "
            f"every backend has {', '.join(FLOOR)}"
        )
        return kernel

    def _run(self, case: Case, inputs: Sequence[Tensor | None] | None = None) -> list[Tensor]:
        kernel = self._kernel(case)
        return _listed(kernel(*(case.inputs() if inputs is None else inputs)), case)


def _listed(result: Any, case: Case) -> list[Tensor]:
    """Return the results of a kernel as a list, after a look at their types."""
    import numpy as np

    results: list[Any] = [result]
    if case.outputs != 1:
        assert type(result) is tuple, (
            f"{case} has {case.outputs} outputs and returned a {type(result).__name__}; "
            "return a tuple"
        )
        results = [*result]
    assert len(results) == case.outputs, f"{case} returned {len(results)} results"
    for at, y in enumerate(results):
        assert isinstance(y, np.ndarray), (
            f"output {at} of {case} is a {type(y).__name__}; a tensor is a numpy array, also at "
            "rank zero, where numpy's own functions return scalars"
        )
    return results


#: Relative and absolute tolerance by dtype: a few units in the last place, for sums in any order.
_TOLERANCE = {"float16": (4e-3, 4e-3), "float32": (2e-6, 1e-6), "float64": (1e-12, 1e-14)}


def _check_same(y: Tensor, wanted: Tensor, what: str) -> None:
    import numpy as np

    assert y.dtype == wanted.dtype, f"{what} has dtype {y.dtype}, the standard says {wanted.dtype}"
    assert y.shape == wanted.shape, f"{what} has shape {y.shape}, the standard says {wanted.shape}"
    relative, absolute = _TOLERANCE.get(y.dtype.name, (0.0, 0.0))
    assert np.allclose(y, wanted, relative, absolute, equal_nan=True), (
        f"{what} is\n{y}\nand the standard says\n{wanted}"
    )


def _frozen_view(x: Tensor) -> Tensor:
    """Return an equal array that is not writable and, from rank one on, has gaps in memory."""
    import numpy as np

    if x.ndim:
        x = np.repeat(x, 2, axis=-1)[..., ::2]
    x.flags.writeable = False
    return x


def _other(x: Tensor) -> Tensor:
    """Return other values of the same shape, such that positions and shapes stay valid."""
    import numpy as np

    return x if x.dtype == np.int64 else np.asarray(x | x if x.dtype == np.bool_ else x + x)
