"""What a swap does to an optimizer's state."""

from bb_ir.plan import Digest, DigestAlgorithm, FileChunk, SwapPlan, TensorSpan, WeightManifest
from bb_planner_swap._swap import Settings, Swap
from bb_planner_swap.optimizer import preview_optimizer
from bb_roles import SwapRequest


def tensor(name, length=4, shape=(1,)):
    digest = Digest(DigestAlgorithm.BLAKE3, f"{name}{shape}".encode().ljust(32))
    span = TensorSpan(name, "float32", shape, 0, length)
    return FileChunk(f"{name}.bin", 0, length, digest=digest, tensor=span)


def plan(*chunks, old=None):
    new = WeightManifest("m", "1", chunks)
    return Swap(Settings(8)).plan(SwapRequest(new, from_=old and WeightManifest("m", "0", old)))


def test_tensors_that_are_new_or_of_another_shape_begin_at_zero():
    old = (tensor("same"), tensor("wide"))
    made = plan(tensor("same"), tensor("wide", 8, (2,)), tensor("more"), old=old)

    assert preview_optimizer(made) == (1, 0, 1, 1)


def test_plan_of_nothing_keeps_nothing():
    assert preview_optimizer(SwapPlan("p")) == (0, 0, 0, 0)
