"""The backend itself: from the name of an op to its kernel.

Everything is decided when `kernel` is called: attributes are read and checked, and a closure for
just this op is made. Nothing is looked up while it runs. The families of ops must not know the
class; it knows their tables through `ops`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bb_backend_numpy._op import Op
from bb_backend_numpy.errors import KernelError
from bb_backend_numpy.ops import FACTORIES
from bb_roles.contracts import Backend, Kernel
from bb_roles.fused import FusedGraph, compose

__all__ = ["NumpyBackend"]

#: The fewest and the most outputs of ops that may have more than one.
_OUTPUTS: Mapping[str, tuple[int, int]] = {
    "BatchNormalization": (1, 3),
    "Dropout": (1, 2),
    "DynamicQuantizeLinear": (3, 3),
    "LayerNormalization": (1, 3),
    "SoftmaxCrossEntropyLoss": (1, 2),
    "Split": (1, 1 << 31),
    "TopK": (2, 2),
    "Unique": (1, 4),
}


class NumpyBackend(Backend):
    """Tensor ops of ONNX opset 23 on numpy arrays; `ops.SUPPORTED` names them.

    Results are always arrays, also at rank zero, and may be views of inputs, which nobody may
    write to in this system. The floating-point warnings of numpy follow the caller's
    `np.errstate`; they come only where the standard's own result is infinite or NaN.
    bfloat16 and the 8- and 4-bit types need the package `ml_dtypes`.
    """

    def kernel(self, op_type: str, attributes: Mapping[str, Any], outputs: int) -> Kernel | None:
        """Return a function for one op, or `None` when this backend does not have it.

        Raises:
            KernelError: An attribute is unknown, missing or has a bad value, or the op cannot
                have that many outputs.
        """
        factory = FACTORIES.get(op_type)
        if factory is None:
            return None
        _check_outputs(op_type, outputs)
        op = Op(op_type, attributes, outputs)
        made = factory(op)
        op.finish()
        return made

    def compile(self, graph: FusedGraph) -> Kernel | None:
        """Return a function for ops that run together, or `None` when it does not have one of them.

        Where only plain numpy functions read a value, nobody needs it to be an array at rank zero,
        and the bare function makes it: a call of Python less for each.

        Raises:
            KernelError: As `kernel` does.
        """
        kernels: list[Kernel] = []
        for node in graph.nodes:
            kernel = self.kernel(node.op_type, node.attributes, len(node.outputs))
            if kernel is None:
                return None
            kernels.append(kernel)
        return compose(graph, _bare(graph, kernels))


def _bare(graph: FusedGraph, kernels: Sequence[Kernel]) -> list[Kernel]:
    """Return kernels without their last check where numpy's scalars do no harm."""
    bare = [getattr(kernel, "__wrapped__", None) for kernel in kernels]
    checked = set(graph.outputs)
    for node, function in zip(graph.nodes, bare, strict=True):
        if function is None:
            checked.update(node.inputs)
    return [
        kernel if function is None or checked.intersection(node.outputs) else function
        for node, kernel, function in zip(graph.nodes, kernels, bare, strict=True)
    ]


def _check_outputs(op_type: str, outputs: int) -> None:
    fewest, most = _OUTPUTS.get(op_type, (1, 1))
    if fewest <= outputs <= most:
        return
    raise KernelError(
        f"{op_type} was asked for {outputs} outputs",
        expected=str(fewest) if fewest == most else f"{fewest} to {most}",
        fix="Record the op with the outputs that the standard gives it.",
    )
