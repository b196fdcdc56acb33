"""Consumer sets and groups of ranks; what a swap does to an optimizer's state."""

import pytest

from bb_ir.plan import Digest, DigestAlgorithm, FileChunk, SwapPlan, TensorSpan, WeightManifest
from bb_planner_swap._swap import Settings, Swap
from bb_planner_swap.errors import RanksUnfit
from bb_planner_swap.groups import consumer_sets, tensor_parallel_groups, verify_consumers
from bb_planner_swap.optimizer import preview_optimizer
from bb_roles import SwapRequest


def tensor(name, length=4, shape=(1,)):
    digest = Digest(DigestAlgorithm.BLAKE3, f"{name}{shape}".encode().ljust(32))
    span = TensorSpan(name, "float32", shape, 0, length)
    return FileChunk(f"{name}.bin", 0, length, digest=digest, tensor=span)


def plan(*chunks, old=None):
    new = WeightManifest("m", "1", chunks)
    return Swap(Settings(8)).plan(SwapRequest(new, from_=old and WeightManifest("m", "0", old)))


# --- who needs what


def test_patterns_say_who_and_a_bucket_has_all_of_its_chunks():
    made = plan(tensor("mlp.up"), tensor("mlp.down"), tensor("attn.q"))

    found = consumer_sets(made, ranks={"*.up": [2], "*.q": [0, 1], "mlp.d*": [3]})

    assert found == {"bucket/0": (0, 1, 3), "bucket/1": (2,)}


def test_what_is_told_counts_more_than_groups_and_those_more_than_the_split():
    made = plan(tensor("a", 8), tensor("b", 8), tensor("c", 8))

    found = consumer_sets(
        made, ranks={"a": [5]}, groups={7: (1, 2)}, members={"[ab]": 7}, tensor_parallel=4
    )

    assert found == {"bucket/0": (5,), "bucket/1": (1, 2), "bucket/2": (0, 1, 2, 3)}


def test_nobody_may_be_told():
    assert consumer_sets(plan(tensor("a")), ranks={"a": []}, tensor_parallel=4) == {"bucket/0": ()}


def test_without_anything_told_it_is_everyone():
    assert consumer_sets(plan(tensor("a"))) == {"bucket/0": None}


@pytest.mark.parametrize(("world", "size"), [(6, 4), (4, 8), (0, 1), (4, 0), (4, -2), (1 << 40, 1)])
def test_groups_that_do_not_fit(world, size):
    with pytest.raises(RanksUnfit):
        tensor_parallel_groups(world, size)


def test_parts_of_groups_are_problems_when_groups_are_whole():
    groups = tensor_parallel_groups(4, 2)

    report = verify_consumers([[0], [0, 1], None], 4, groups=groups, whole_groups=True)
    lenient = verify_consumers([[0], [0, 1], None], 4, groups=groups)

    assert report.problems == ("bucket 0 has a part of group 0",)
    assert lenient.problems == report.warnings == ()


def test_ranks_of_no_group_are_odd():
    report = verify_consumers([[0, 3]], 4, groups={0: [0]})

    assert report.warnings == ("bucket 0 has ranks [3], which are in no group",)


def test_sets_that_are_right_have_nothing_wrong():
    report = verify_consumers([[0, 1], [2, 3]], 4, required=True)

    assert report == (2, (), (), {}, (), (), ())


# --- optimizers


def test_tensors_that_are_new_or_of_another_shape_begin_at_zero():
    old = (tensor("same"), tensor("wide"))
    made = plan(tensor("same"), tensor("wide", 8, (2,)), tensor("more"), old=old)

    assert preview_optimizer(made) == (1, 0, 1, 1)


def test_plan_of_nothing_keeps_nothing():
    assert preview_optimizer(SwapPlan("p")) == (0, 0, 0, 0)
