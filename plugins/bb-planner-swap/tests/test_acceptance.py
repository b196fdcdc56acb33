"""The acceptance cases of weight swaps, by their number: manifests, differences, plans, checks."""

import subprocess
import sys

import numpy as np
import pytest

from bb_ir.plan import (
    Digest,
    DigestAlgorithm,
    FileChunk,
    OptimizerPolicy,
    SwapPlan,
    TensorSpan,
    WeightManifest,
    changes,
    chunk_digest,
    validate,
)
from bb_planner_swap._swap import MEDIA, Settings, Swap
from bb_planner_swap.optimizer import preview_optimizer
from bb_plans.errors import RanksUnfit
from bb_plans.groups import (
    consumer_sets,
    tensor_parallel_groups,
    verify_consumers,
    verify_groups,
)
from bb_plans.manifests import manifest_of_folder
from bb_roles import SwapRequest

MIB = 1 << 20
KINDS = ("mem", "device")


def folder(root, **files):
    """Write files of some bytes (a number makes that many) and return their manifest."""
    root.mkdir()
    for name, data in files.items():
        path = root / name.replace("__", "/").replace("_", ".", 1)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(data) if isinstance(data, int) else data)
    return manifest_of_folder(root, "demo", root.name)


def made(new, old=None, bucket_bytes=32 * MIB, destination="mem"):
    plan = Swap(Settings(bucket_bytes, destination)).plan(SwapRequest(new, from_=old))
    assert not [one for one in validate(plan, media=MEDIA) if not one.warning]
    return plan


def sized(**sizes):
    """Return a manifest of chunks of some sizes."""
    chunks = (
        FileChunk(name, 0, size, digest=Digest(DigestAlgorithm.BLAKE3, name.encode().ljust(32)))
        for name, size in sizes.items()
    )
    return WeightManifest("demo", "1", tuple(chunks))


def buckets(plan):
    """Return what is in each bucket: number to (path, offset in the bucket)."""
    found = {}
    for op in plan.ops:
        number = int(op.dst.rpartition("/")[2])
        found.setdefault(number, []).append((op.src.removeprefix("file://"), op.dst_offset))
    return found


@pytest.mark.parametrize("destination", KINDS, ids=lambda kind: f"P4-{kind}")
def test_demo(tmp_path, destination):
    old = folder(tmp_path / "prev", embedding_bin=b"a" * 15)
    new = folder(tmp_path / "next", embedding_bin=b"b" * 18, layer1_bin=b"c" * 13)

    plan = made(new, old, destination=destination)

    assert [(op.length, op.src_offset, op.dst_offset, op.dst) for op in plan.ops] == [
        (18, 0, 0, f"{destination}://bucket/0"),
        (13, 0, 18, f"{destination}://bucket/0"),
    ]
    assert plan.total_bytes == 31


@pytest.mark.parametrize("row", ["H1"])
def test_manifest_of_nested_files(tmp_path, row):
    made_of = folder(tmp_path / "m", emb_bin=5, layer0__w_bin=10)

    assert [(c.path, c.length) for c in made_of.files] == [("emb.bin", 5), ("layer0/w.bin", 10)]


@pytest.mark.parametrize("row", ["H2"])
def test_delta_is_what_changed_and_what_is_new(tmp_path, row):
    old = folder(tmp_path / "prev", t0=b"same", t1=b"old")
    new = folder(tmp_path / "next", t0=b"same", t1=b"new", t2=b"more")

    assert {op.src for op in made(new, old).ops} == {"file://t1", "file://t2"}


@pytest.mark.parametrize("destination", KINDS)
@pytest.mark.parametrize(
    ("sizes", "expected", "loads", "warnings"),
    [
        pytest.param(
            {"a": 6, "b": 5, "c": 4, "d": 3},
            {0: [("a", 0)], 1: [("b", 0), ("d", 5)], 2: [("c", 0)]}, [6, 8, 4], 0, id="H3",
        ),
        pytest.param(
            {"a": 20, "b": 5, "c": 4, "d": 3},
            {0: [("a", 0)], 1: [("b", 0), ("d", 5)], 2: [("c", 0)]}, [20, 8, 4], 1, id="H4",
        ),
    ],
)  # fmt: skip
def test_packing(sizes, expected, loads, warnings, destination):
    plan = made(sized(**sizes), bucket_bytes=8, destination=destination)

    assert buckets(plan) == expected
    inside = {}
    for op in plan.ops:
        inside[op.dst] = inside.get(op.dst, 0) + op.length
    assert [*inside.values()] == loads
    told = validate(plan, media=MEDIA)
    assert [(one.rule, one.warning) for one in told] == [("bytes", True)] * warnings


@pytest.mark.parametrize("row", ["H5"])
def test_changed_new_and_removed(tmp_path, row):
    old = folder(tmp_path / "prev", a=4 * MIB, b=2 * MIB, gone=b"x")
    new = folder(tmp_path / "next", a=4 * MIB, b=b"b" * 2 * MIB, c=b"c" * 3 * MIB, d=b"d" * 524288)

    plan = made(new, old, bucket_bytes=4 * MIB)

    assert plan.total_bytes == 5_767_168
    assert buckets(plan) == {0: [("c", 0), ("d", 3_145_728)], 1: [("b", 0)]}
    assert [chunk.path for chunk in plan.deletes] == ["gone"]
    groups = consumer_sets(plan, groups={0: [0, 1]}, members={"b": 0})
    assert groups == {"bucket/0": None, "bucket/1": (0, 1)}


@pytest.mark.parametrize("row", ["H7"])
def test_consumers_of_buckets(row):
    report = verify_consumers([None, [0, 1, 1], [3, 4], []], 4, required=True)

    assert (report.buckets, report.missing, report.duplicates, report.empty) == (
        4,
        (0,),
        (1,),
        (3,),
    )
    assert report.out_of_range == {2: (4,)}
    assert (len(report.problems), len(report.warnings)) == (2, 2)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        pytest.param(OptimizerPolicy.OPTIMIZER_ATTENUATE, (100, 100, 0, 0), id="H9-attenuate"),
        pytest.param(OptimizerPolicy.OPTIMIZER_PRESERVE, (200, 0, 0, 0), id="H9-preserve"),
        pytest.param(OptimizerPolicy.OPTIMIZER_RESET, (100, 0, 100, 0), id="H9-reset"),
        pytest.param(OptimizerPolicy.OPTIMIZER_UNSPECIFIED, (200, 0, 0, 0), id="H9-none"),
    ],
)
def test_optimizer_preview(policy, expected):
    def version(label):
        contents = [f"{number}/{label if number < 100 else ''}" for number in range(200)]
        chunks = (
            FileChunk(
                "w", number * 8, 8,
                digest=Digest(DigestAlgorithm.BLAKE3, content.encode().ljust(32)),
                tensor=TensorSpan(f"t{number}", "float32", (2,), 0, 8),
            )
            for number, content in enumerate(contents)
        )  # fmt: skip
        return WeightManifest("m", label, tuple(chunks))

    old, new = version("1"), version("2")
    adds, shared, deletes = changes(old, new)
    plan = SwapPlan(
        "p", old, new, adds=adds, shared=shared, deletes=deletes, optimizer_policy=policy
    )

    assert preview_optimizer(plan) == expected


@pytest.mark.parametrize("row", ["H10"])
def test_tensor_parallel_groups(row):
    assert tensor_parallel_groups(8, 4) == {0: (0, 1, 2, 3), 1: (4, 5, 6, 7)}
    with pytest.raises(RanksUnfit, match="6 ranks in groups of 4"):
        tensor_parallel_groups(6, 4)


@pytest.mark.parametrize("row", ["H11"])
def test_groups_that_cannot_be(row):
    report = verify_groups({0: [0, 1, 9], 1: [1, 2]}, 4)

    assert report.out_of_range == {0: (9,)}
    assert report.overlapping == (1,)
    assert (len(report.problems), len(report.warnings)) == (1, 1)


@pytest.mark.parametrize("row", ["H13"])
def test_identical_folders(tmp_path, row):
    old, new = (folder(tmp_path / name, a=b"a" * 100, b=b"b") for name in ("prev", "next"))

    plan = made(new, old)

    assert (plan.ops, plan.total_bytes, len(plan.shared)) == ((), 0, 2)


@pytest.mark.parametrize("row", ["H14-empty-prev"])
def test_from_nothing(tmp_path, row):
    old, new = folder(tmp_path / "prev"), folder(tmp_path / "next", a=b"a", b=b"bb")

    assert [op.length for op in made(new, old).ops] == [2, 1]


@pytest.mark.parametrize("row", ["H14-empty-next"])
def test_to_nothing(tmp_path, row):
    old, new = folder(tmp_path / "prev", a=b"a", b=b"bb"), folder(tmp_path / "next")

    plan = made(new, old)

    assert (plan.ops, [chunk.path for chunk in plan.deletes]) == ((), ["a", "b"])


@pytest.mark.parametrize("row", ["H14-zero-bytes"])
@pytest.mark.parametrize("destination", ["mem", "store"])
def test_file_without_bytes(tmp_path, row, destination):
    (op,) = made(folder(tmp_path / "m", zero=b""), destination=destination).ops

    assert (op.length, op.src) == (0, "file://zero")


@pytest.mark.parametrize("row", ["H14-space"])
def test_name_with_a_space(tmp_path, row):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a file.bin").write_bytes(b"data")

    (op,) = made(manifest_of_folder(tmp_path / "m", "demo", "1")).ops

    assert op.src == "file://a file.bin"


@pytest.mark.parametrize("row", ["H14-npy"])
def test_npy_has_data_and_header_apart(tmp_path, row):
    (tmp_path / "m").mkdir()
    np.save(tmp_path / "m" / "w.npy", np.ones((2, 2), np.float32))

    made_of = manifest_of_folder(tmp_path / "m", "demo", "1")

    ((length, shape),) = [(c.length, c.tensor.shape) for c in made_of.files if c.tensor]
    assert (length, shape) == (16, (2, 2))
    plan = made(made_of)
    assert {op.digest for op in plan.ops} == {chunk_digest(c) for c in made_of.files}


FLIP = """
from bb_plans.hashing import digest_of
from bb_plans.deltas import decode, encode
from bb_plans.errors import DifferenceDamaged
new, old = b"new bytes of a chunk", b"old bytes of a chunk"
for codec in ("raw", "sparse", "xorz"):
    told = bytearray(encode(codec, new, old))
    told[-1] ^= 1
    try:
        decode(codec, told, old, len(new), digest_of(new))
    except DifferenceDamaged:
        print(codec)
"""


@pytest.mark.parametrize("options", [[], ["-O"]], ids=["H15", "H15-O"])
def test_flipped_byte_is_found_out(options):
    done = subprocess.run(
        [sys.executable, *options, "-c", FLIP], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["raw", "sparse", "xorz"]


@pytest.mark.parametrize("row", ["H16"])
def test_toy(tmp_path, row):
    old = folder(tmp_path / "prev", a=1024)
    new = folder(tmp_path / "next", a=1024, b=b"b" * 2048)

    plan = made(new, old, bucket_bytes=MIB)

    assert (plan.total_bytes, [*buckets(plan)]) == (2048, [0])
