"""The methods of a Backend slot: those ONNX ops that programs often need, and `op` for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bb_dsl._handle import SlotHandle
from bb_dsl._source import user_line
from bb_dsl.errors import BadOption
from bb_ir.types import ONNX_DTYPES

if TYPE_CHECKING:
    from bb_dsl._graph import Graph
    from bb_dsl._output import Output

__all__ = ["BackendHandle"]


class BackendHandle(SlotHandle):
    """Tensor ops of `ai.onnx`. Maths on values (`a + b`) uses the Module's Backend slot too.

    Methods are named after the operators of the ONNX standard, opset 23, and have their meaning:
    two operands are broadcast, axes may be negative.
    """

    role = "backend"

    def op(
        self,
        g: Graph,
        op_type: str,
        *inputs: Output | None,
        outputs: int = 1,
        **attributes: Any,
    ) -> Any:
        """Record any op of ONNX opset 23 by its name.

        Args:
            g: The graph.
            op_type: Name of the operator in the ONNX standard.
            inputs: Its inputs in order; `None` leaves an optional one out.
            outputs: How many outputs it has here.
            attributes: Its attributes.

        Returns:
            One Output, or a list when `outputs` is not 1.
        """
        made = g.onnx_op(self.full_name(g), op_type, inputs, attributes, outputs)
        return made[0] if outputs == 1 else made

    # Two operands

    def add(self, g: Graph, a: Output, b: Output) -> Output:
        """Record `a + b`."""
        return self._one(g, "Add", a, b)

    def sub(self, g: Graph, a: Output, b: Output) -> Output:
        """Record `a - b`."""
        return self._one(g, "Sub", a, b)

    def mul(self, g: Graph, a: Output, b: Output) -> Output:
        """Record `a * b`."""
        return self._one(g, "Mul", a, b)

    def div(self, g: Graph, a: Output, b: Output) -> Output:
        """Record `a / b`; integers are divided towards zero."""
        return self._one(g, "Div", a, b)

    def pow(self, g: Graph, a: Output, b: Output) -> Output:
        """Record `a ** b`, of the type of `a`."""
        return self._one(g, "Pow", a, b)

    def equal(self, g: Graph, a: Output, b: Output) -> Output:
        """Record `a == b`, a tensor of bool."""
        return self._one(g, "Equal", a, b)

    def greater(self, g: Graph, a: Output, b: Output) -> Output:
        """Record `a > b`, a tensor of bool."""
        return self._one(g, "Greater", a, b)

    def less(self, g: Graph, a: Output, b: Output) -> Output:
        """Record `a < b`, a tensor of bool."""
        return self._one(g, "Less", a, b)

    def matmul(self, g: Graph, a: Output, b: Output) -> Output:
        """Record a matrix product, batched over leading dimensions."""
        return self._one(g, "MatMul", a, b)

    def gemm(
        self, g: Graph, a: Output, b: Output, c: Output | None = None, **options: Any
    ) -> Output:
        """Record `alpha * a @ b + beta * c`; options are `alpha`, `beta`, `transA`, `transB`."""
        inputs = [a, b] if c is None else [a, b, c]
        return self._with(g, "Gemm", inputs, options)

    def where(self, g: Graph, condition: Output, a: Output, b: Output) -> Output:
        """Record `a` where the condition holds, else `b`."""
        return self._one(g, "Where", condition, a, b)

    # One operand

    def neg(self, g: Graph, x: Output) -> Output:
        """Record `-x`."""
        return self._one(g, "Neg", x)

    def abs(self, g: Graph, x: Output) -> Output:
        """Record the absolute value."""
        return self._one(g, "Abs", x)

    def sqrt(self, g: Graph, x: Output) -> Output:
        """Record the square root."""
        return self._one(g, "Sqrt", x)

    def exp(self, g: Graph, x: Output) -> Output:
        """Record the exponential."""
        return self._one(g, "Exp", x)

    def log(self, g: Graph, x: Output) -> Output:
        """Record the natural logarithm."""
        return self._one(g, "Log", x)

    def relu(self, g: Graph, x: Output) -> Output:
        """Record `max(x, 0)`."""
        return self._one(g, "Relu", x)

    def leaky_relu(self, g: Graph, x: Output, alpha: float = 0.01) -> Output:
        """Record `x` where it is positive, else `alpha * x`."""
        return self._with(g, "LeakyRelu", [x], {"alpha": float(alpha)})

    def gelu(self, g: Graph, x: Output) -> Output:
        """Record the Gaussian error linear unit, exact."""
        return self._one(g, "Gelu", x)

    def sigmoid(self, g: Graph, x: Output) -> Output:
        """Record the logistic function."""
        return self._one(g, "Sigmoid", x)

    def tanh(self, g: Graph, x: Output) -> Output:
        """Record the hyperbolic tangent."""
        return self._one(g, "Tanh", x)

    def softmax(self, g: Graph, x: Output, axis: int = -1) -> Output:
        """Record a softmax along an axis."""
        return self._with(g, "Softmax", [x], {"axis": axis})

    def identity(self, g: Graph, x: Output) -> Output:
        """Record the value itself."""
        return self._one(g, "Identity", x)

    def cast(self, g: Graph, x: Output, dtype: str) -> Output:
        """Record a change of element type, such as `"float32"`."""
        if dtype not in ONNX_DTYPES:
            raise BadOption(
                f"cast to {dtype!r}", expected=", ".join(ONNX_DTYPES), where=user_line()
            )
        return self._with(g, "Cast", [x], {"to": ONNX_DTYPES[dtype]})

    # Shapes

    def reshape(self, g: Graph, x: Output, shape: Sequence[int]) -> Output:
        """Record a change of shape; one dimension may be -1, and 0 keeps the old one."""
        return self._one(g, "Reshape", x, self._ints(g, x, shape))

    def transpose(self, g: Graph, x: Output, perm: Sequence[int] = ()) -> Output:
        """Record a permutation of the axes; reversed when `perm` is empty."""
        return self._with(g, "Transpose", [x], {"perm": list(perm)} if perm else {})

    def squeeze(self, g: Graph, x: Output, axes: Sequence[int] = ()) -> Output:
        """Record the removal of axes of length one, of all of them when none is given."""
        return self._one(g, "Squeeze", *self._axes(g, x, axes))

    def unsqueeze(self, g: Graph, x: Output, axes: Sequence[int]) -> Output:
        """Record new axes of length one at these places."""
        return self._one(g, "Unsqueeze", x, self._ints(g, x, axes))

    def concat(self, g: Graph, parts: Sequence[Output], axis: int = 0) -> Output:
        """Record joining tensors along an axis."""
        return self._with(g, "Concat", list(parts), {"axis": axis})

    def split(self, g: Graph, x: Output, sizes: Sequence[int], axis: int = 0) -> list[Output]:
        """Record cutting a tensor into parts of these lengths along an axis."""
        inputs = [x, self._ints(g, x, sizes)]
        return g.onnx_op(self.full_name(g), "Split", inputs, {"axis": axis}, len(sizes))

    def slice(
        self,
        g: Graph,
        x: Output,
        starts: Sequence[int],
        ends: Sequence[int],
        axes: Sequence[int] = (),
    ) -> Output:
        """Record the part from `starts` up to `ends`, along the first axes or those given."""
        bounds = [self._ints(g, x, part) for part in (starts, ends, axes) if part]
        return self._one(g, "Slice", x, *bounds)

    def gather(self, g: Graph, x: Output, indices: Output, axis: int = 0) -> Output:
        """Record picking entries of an axis by index."""
        return self._with(g, "Gather", [x, indices], {"axis": axis})

    def size(self, g: Graph, x: Output) -> Output:
        """Record the number of elements, a tensor of int64 of rank zero."""
        return self._one(g, "Size", x)

    def shape(self, g: Graph, x: Output) -> Output:
        """Record the dimensions, a vector of int64."""
        return self._one(g, "Shape", x)

    # Along axes

    def reduce_sum(
        self, g: Graph, x: Output, axes: Sequence[int] = (), *, keepdims: bool = True
    ) -> Output:
        """Record a sum over axes, over all when none is given."""
        return self._reduce(g, "ReduceSum", x, axes, keepdims=keepdims)

    def reduce_mean(
        self, g: Graph, x: Output, axes: Sequence[int] = (), *, keepdims: bool = True
    ) -> Output:
        """Record a mean over axes, over all when none is given."""
        return self._reduce(g, "ReduceMean", x, axes, keepdims=keepdims)

    def reduce_max(
        self, g: Graph, x: Output, axes: Sequence[int] = (), *, keepdims: bool = True
    ) -> Output:
        """Record a maximum over axes, over all when none is given."""
        return self._reduce(g, "ReduceMax", x, axes, keepdims=keepdims)

    def reduce_min(
        self, g: Graph, x: Output, axes: Sequence[int] = (), *, keepdims: bool = True
    ) -> Output:
        """Record a minimum over axes, over all when none is given."""
        return self._reduce(g, "ReduceMin", x, axes, keepdims=keepdims)

    def argmax(self, g: Graph, x: Output, axis: int = -1, *, keepdims: bool = False) -> Output:
        """Record the place of the maximum along an axis, a tensor of int64."""
        return self._with(g, "ArgMax", [x], {"axis": axis, "keepdims": int(keepdims)})

    def one_hot(self, g: Graph, labels: Output, classes: int, dtype: str = "float32") -> Output:
        """Record rows with a one at each label's place, (n,) to (n, classes)."""
        depth = g.constant_for(labels, classes, "int64")
        return self._one(g, "OneHot", labels, depth, g.constant_for(labels, [0, 1], dtype))

    def layer_normalization(
        self,
        g: Graph,
        x: Output,
        scale: Output,
        bias: Output | None = None,
        *,
        axis: int = -1,
        epsilon: float = 1e-5,
    ) -> Output:
        """Record a normalization to mean 0 and variance 1 over the last axes."""
        inputs = [x, scale] if bias is None else [x, scale, bias]
        return self._with(g, "LayerNormalization", inputs, {"axis": axis, "epsilon": epsilon})

    # Inside

    def _one(self, g: Graph, op_type: str, *inputs: Output) -> Output:
        return self._with(g, op_type, inputs, {})

    def _with(
        self, g: Graph, op_type: str, inputs: Sequence[Output], attributes: dict[str, Any]
    ) -> Output:
        return g.onnx_op(self.full_name(g), op_type, inputs, attributes, 1)[0]

    def _reduce(
        self, g: Graph, op_type: str, x: Output, axes: Sequence[int], *, keepdims: bool
    ) -> Output:
        return self._with(g, op_type, self._axes(g, x, axes), {"keepdims": int(keepdims)})

    def _axes(self, g: Graph, x: Output, axes: Sequence[int]) -> list[Output]:
        return [x, self._ints(g, x, axes)] if axes else [x]

    @staticmethod
    def _ints(g: Graph, beside: Output, values: Sequence[int]) -> Output:
        return g.constant_for(beside, list(values), "int64")
