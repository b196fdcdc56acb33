"""Consumer sets and groups of ranks: who needs which bucket."""

import pytest

from bb_ir.plan import (
    Digest,
    DigestAlgorithm,
    FileChunk,
    SwapPlan,
    TensorSpan,
    TransferKind,
    TransferOp,
    WeightManifest,
)
from bb_plans.errors import RanksUnfit
from bb_plans.groups import (
    Split,
    consumer_sets,
    distribute,
    tensor_parallel_groups,
    verify_consumers,
)


def plan(*buckets):
    """Return a plan that fills buckets with tensors of 4 bytes, given by their names."""
    chunks, ops = [], []
    for at, names in enumerate(buckets):
        for name in names:
            digest = Digest(DigestAlgorithm.BLAKE3, name.encode().ljust(32))
            span = TensorSpan(name, "float32", (1,), 0, 4)
            chunks.append(FileChunk(f"{name}.bin", 0, 4, digest=digest, tensor=span))
            ops.append(
                TransferOp(
                    TransferKind.STORAGE2H, f"file://{name}.bin", f"mem://bucket/{at}", 4,
                    lane=f"bucket/{at}", digest=digest,
                )
            )  # fmt: skip
    return SwapPlan("p", to=WeightManifest("m", "1", tuple(chunks)), ops=tuple(ops),
                    adds=tuple(chunks))  # fmt: skip


# --- who needs what


def test_patterns_say_who_and_a_bucket_has_all_of_its_chunks():
    made = plan(["attn.q", "mlp.down"], ["mlp.up"])

    found = consumer_sets(made, ranks={"*.up": [2], "*.q": [0, 1], "mlp.d*": [3]})

    assert found == {"bucket/0": (0, 1, 3), "bucket/1": (2,)}


def test_what_is_told_counts_more_than_groups_and_those_more_than_the_split():
    made = plan("a", "b", "c")

    found = consumer_sets(
        made, ranks={"a": [5]}, groups={7: (1, 2)}, members={"[ab]": 7}, tensor_parallel=4
    )

    assert found == {"bucket/0": (5,), "bucket/1": (1, 2), "bucket/2": (0, 1, 2, 3)}


def test_bucket_is_for_all_as_soon_as_one_tensor_is():
    made = plan(["a", "norm"], ["a2"])

    assert consumer_sets(made, ranks={"a*": [1]}) == {"bucket/0": None, "bucket/1": (1,)}


def test_what_is_in_several_tensors_is_for_the_ranks_of_all():
    one = plan(["a", "b"])
    both = FileChunk("c.bin", 0, 4, digest=one.ops[0].digest, tensor=one.adds[1].tensor)
    made = SwapPlan("p", ops=one.ops[:1], adds=(one.adds[0], both))

    assert consumer_sets(made, ranks={"a": [0], "b": [2]}) == {"bucket/0": (0, 2)}


def test_nobody_may_be_told():
    assert consumer_sets(plan("a"), ranks={"a": []}, tensor_parallel=4) == {"bucket/0": ()}


def test_without_anything_told_it_is_everyone():
    assert consumer_sets(plan("a")) == {"bucket/0": None}


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


# --- a whole split


def test_bytes_are_counted_for_each_rank():
    made = plan(["a.0", "a.1"], ["b"], ["c"])
    split = Split(4, tensor_parallel=2, members={"a.*": 0}, ranks={"b": [3]})

    told = distribute(made, split)

    assert [(one.lane, one.ops, one.nbytes, one.ranks) for one in told.buckets] == [
        ("bucket/0", 2, 8, (0, 1)),
        ("bucket/1", 1, 4, (3,)),
        ("bucket/2", 1, 4, None),
    ]
    assert told.rank_bytes == (12, 12, 4, 8)
    assert told.warnings == ()


def test_world_is_as_wide_as_what_is_named():
    assert Split().world == 1
    assert Split(tensor_parallel=4).world == 4
    assert Split(groups={0: [0, 5]}, ranks={"*": [7]}).world == 8


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"world": 6, "tensor_parallel": 4}, "6 ranks in groups of 4"),
        ({"world": 2, "groups": {1: [1, 2]}}, "group 1 has ranks [2], of a world of 2"),
        ({"world": 2, "ranks": {"a*": [-1]}}, "'a*' is for ranks [-1]"),
        ({"world": 2, "members": {"a*": 3}}, "group 3, which there is not"),
        ({"world": -1}, "a world of -1 ranks"),
    ],
)
def test_splits_that_do_not_fit(given, told):
    with pytest.raises(RanksUnfit) as caught:
        Split(**given)
    assert told in caught.value.found


@pytest.mark.parametrize(
    ("asked", "told"),
    [({"required": True}, "bucket 1 has no"), ({"whole_groups": True}, "a part of group 0")],
)
def test_buckets_that_are_not_for_whom_they_must_be(asked, told):
    groups = {0: [0, 1], 1: [2, 3]}

    with pytest.raises(RanksUnfit) as caught:
        distribute(plan("a", "c"), Split(4, groups=groups, ranks={"a": [0]}, **asked))
    assert told in caught.value.found


def test_first_problems_are_told_and_the_others_counted():
    with pytest.raises(RanksUnfit, match="and 2 more"):
        Split(1, ranks={name: [1] for name in "abcde"})


def test_what_is_odd_is_told():
    split = Split(3, groups={0: [0, 1], 1: [1]}, ranks={"a": [2]})

    assert distribute(plan("a"), split).warnings == (
        "ranks [1] are in several groups",
        "bucket 0 has ranks [2], which are in no group",
    )
