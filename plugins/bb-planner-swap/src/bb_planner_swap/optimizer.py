"""What a swap does to the state of an optimizer, counted before it is done. Pure."""

from __future__ import annotations

from typing import NamedTuple

from bb_ir.plan import FileChunk, OptimizerPolicy, SwapPlan

__all__ = ["OptimizerPreview", "preview_optimizer"]


class OptimizerPreview(NamedTuple):
    """How many tensors keep their moments, and how.

    Attributes:
        preserved: Moments stay as they are.
        attenuated: Moments are multiplied by a factor.
        reset: Moments begin at zero: the policy says so, or the shape is another one.
        fresh: Tensors that the old version does not have; their moments begin at zero, too.
    """

    preserved: int
    attenuated: int
    reset: int
    fresh: int


def preview_optimizer(plan: SwapPlan) -> OptimizerPreview:
    """Count what the plan's `optimizer_policy` does to each tensor of the new version.

    Tensors of which nothing changed keep their moments whatever the policy is. A policy that is not
    given preserves.
    """
    before = {} if plan.from_ is None else _shapes(plan.from_.files)
    now = _shapes(() if plan.to is None else plan.to.files)
    updated = {*_shapes(plan.adds)}
    fresh = sum(tensor not in before for tensor in now)
    kept = [tensor for tensor in now if tensor in before]
    reshaped = {tensor for tensor in kept if before[tensor] != now[tensor]}
    changed = sum(tensor in updated and tensor not in reshaped for tensor in kept)
    same = len(kept) - changed - len(reshaped)
    match plan.optimizer_policy:
        case OptimizerPolicy.OPTIMIZER_ATTENUATE:
            return OptimizerPreview(same, changed, len(reshaped), fresh)
        case OptimizerPolicy.OPTIMIZER_RESET:
            return OptimizerPreview(same, 0, len(reshaped) + changed, fresh)
        case _:
            return OptimizerPreview(same + changed, 0, len(reshaped), fresh)


def _shapes(chunks: tuple[FileChunk, ...]) -> dict[tuple[str, str], tuple[str, tuple[int, ...]]]:
    """Return element type and shape of each tensor, by its file and name."""
    return {
        (chunk.path, chunk.tensor.name): (chunk.tensor.dtype, chunk.tensor.shape)
        for chunk in chunks
        if chunk.tensor is not None
    }
