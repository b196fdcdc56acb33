"""Cases that plans of earlier systems set, by their row: what is kept, and what is done otherwise.

P1, P2, P3 and P5 are cases of acceptance, D-1 to D-7 defects that must not come back.
"""

import dataclasses
import json

import pytest

from bb_ir._proto import plan_pb2
from bb_ir.plan import (
    CachePlan,
    Digest,
    DigestAlgorithm,
    FileChunk,
    KvPageRef,
    Rejected,
    SwapPlan,
    SwapWindow,
    TransferKind,
    TransferOp,
    WeightManifest,
    from_bytes,
    from_earlier_json,
    from_json,
    sealed,
    to_bytes,
    to_earlier_json,
    to_json,
    validate,
)

#: Writers with their readers.
FORMS = {
    "earlier JSON": (to_earlier_json, from_earlier_json),
    "JSON": (to_json, from_json),
    "protobuf": (to_bytes, from_bytes),
}


def row(number, names=FORMS):
    """Parametrize over forms, with the row in the id."""
    cases = [pytest.param(*FORMS[name], id=f"{number}-{name}") for name in names]
    return pytest.mark.parametrize(("write", "read"), cases)


P1 = CachePlan(
    "cache-1",
    (TransferOp(
        TransferKind.H2D, "tier://n0/tier0", "tier://n0/tier1", 4096, note="",
        kv_refs=(KvPageRef("qkv", 1, 2, 3),),
    ),),
)  # fmt: skip
P1_EARLIER = """\
{
  "plan_id": "cache-1",
  "ops": [
    {
      "kind": "H2D",
      "src": "tier://n0/tier0",
      "dst": "tier://n0/tier1",
      "length": 4096,
      "src_offset": 0,
      "dst_offset": 0,
      "kv_refs": [
        {
          "tensor": "qkv",
          "page": 1,
          "head": 2,
          "layer": 3
        }
      ],
      "note": ""
    }
  ],
  "prefetch": [],
  "evict": []
}"""
P2 = SwapPlan(
    "swap-v1",
    WeightManifest("demo", "v0", (FileChunk("w", 0, 15, "sha256:" + "5" * 64),)),
    WeightManifest("demo", "v1", (FileChunk("w", 0, 16, "sha256:" + "b" * 64),)),
    (TransferOp(TransferKind.STORAGE2H, "file://w", "device://bucket/0", 16),),
    SwapWindow(0, 1_000_000),
)
P2_EARLIER = """\
{
  "plan_id": "swap-v1",
  "manifest_from": {
    "model_id": "demo",
    "version": "v0",
    "files": [
      {
        "path": "w",
        "offset": 0,
        "length": 15,
        "sha256": "sha256:5555555555555555555555555555555555555555555555555555555555555555"
      }
    ]
  },
  "manifest_to": {
    "model_id": "demo",
    "version": "v1",
    "files": [
      {
        "path": "w",
        "offset": 0,
        "length": 16,
        "sha256": "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
      }
    ]
  },
  "ops": [
    {
      "kind": "STORAGE2H",
      "src": "file://w",
      "dst": "device://bucket/0",
      "length": 16,
      "src_offset": 0,
      "dst_offset": 0,
      "kv_refs": [],
      "note": null
    }
  ],
  "window": {
    "t_start_ns": 0,
    "t_deadline_ns": 1000000
  }
}"""


# The cases.


@row("P1")
def test_a_cache_plan_is_the_same_after_it_was_written(write, read):
    assert read(CachePlan, write(P1)) == P1
    assert write(read(CachePlan, write(P1))) == write(P1)


@row("P2")
def test_a_swap_plan_is_the_same_after_it_was_written(write, read):
    assert read(SwapPlan, write(P2)) == P2
    assert write(read(SwapPlan, write(P2))) == write(P2)


@pytest.mark.parametrize(
    ("plan", "text"),
    [pytest.param(P1, P1_EARLIER, id="P1-1.9"), pytest.param(P2, P2_EARLIER, id="P2-1.10")],
)
def test_the_earlier_text_is_exact_in_both_directions(plan, text):
    assert to_earlier_json(plan) == text
    assert from_earlier_json(type(plan), text) == plan


@pytest.mark.parametrize(
    "names",
    [
        pytest.param({"manifest_from": "from", "manifest_to": "to"}, id="P2-from, to"),
        pytest.param({"t_start_ns": "start_ns", "t_deadline_ns": "deadline_ns"}, id="P2-start_ns"),
    ],
)
def test_a_swap_plan_may_have_the_other_names(names):
    text = P2_EARLIER
    for name, other in names.items():
        text = text.replace(f'"{name}"', f'"{other}"')

    assert text != P2_EARLIER
    assert from_earlier_json(SwapPlan, text) == P2


P3 = dataclasses.replace(
    P2,
    ops=(
        dataclasses.replace(
            P2.ops[0], src_offset=2**63, dst_offset=2**63, note="", priority=-(2**63)
        ),
    ),
)


@row("P3", ["JSON", "protobuf"])
def test_large_offsets_survive_every_form(write, read):
    told = write(P3)

    assert read(SwapPlan, told) == P3
    through = from_bytes(SwapPlan, to_bytes(from_json(SwapPlan, to_json(P3))))
    assert through == P3
    assert write(through) == told


@pytest.mark.parametrize("name", [pytest.param("srcOffset", id="P3-text"),
                                  pytest.param("dstOffset", id="P3-text too")])  # fmt: skip
def test_large_offsets_are_texts_in_json(name):
    assert json.loads(to_json(P3))["ops"][0][name] == "9223372036854775808"


def digest(number):
    return Digest(DigestAlgorithm.SHA256, bytes([number]) * 32)


def swap(*files, at):
    """A plan that brings files into one bucket, op after op, reading where `at` says."""
    chunks = [
        FileChunk(path, 0, length, digest=digest(i)) for i, (path, length) in enumerate(files)
    ]
    ops, end = [], 0
    for chunk, begin in zip(chunks, at, strict=True):
        ops.append(TransferOp(
            TransferKind.STORAGE2H, f"file://{chunk.path}", "mem://bucket/0", chunk.length,
            begin, end, digest=chunk.digest,
        ))  # fmt: skip
        end += chunk.length
    return SwapPlan("s", to=WeightManifest("m", "1", (*chunks,)), ops=(*ops,), adds=(*chunks,))


@pytest.mark.parametrize(
    ("begin", "length"),
    [pytest.param(1, 18, id="P5-begins late"), pytest.param(18, 18, id="P5-begins at the end"),
     pytest.param(0, 19, id="P5-too long"), pytest.param(2**64 - 18, 18, id="P5-far away")],
)  # fmt: skip
def test_reading_past_the_end_of_a_file_is_told_with_the_op(begin, length):
    sound = swap(("layer1.bin", 13), ("embedding.bin", 18), at=(0, 0))
    wrong = dataclasses.replace(sound.ops[1], src_offset=begin, length=length)

    found = validate(dataclasses.replace(sound, ops=(sound.ops[0], wrong)))

    assert validate(sound) == ()
    assert {(one.rule, one.op, one.at) for one in found} == {("range", 1, "ops[1].src_offset")}


# The defects.

ALL_FIELDS = TransferOp(
    TransferKind.H2STORAGE, "mem://a", "file://b", 1, 2, 3, (KvPageRef("kv", 4, 5, 6, digest(7)),),
    "n", "id", ("dep",), "lane", 8, -9, "tenant", digest(10), "zstd", 11, digest(12), 13, 14,
    "sink",
)  # fmt: skip


def test_d1_dataclasses_and_generated_classes_are_each_other():
    defaults = TransferOp()
    names = [field.name for field in dataclasses.fields(TransferOp)]
    assert all(getattr(ALL_FIELDS, name) != getattr(defaults, name) for name in names)

    generated = plan_pb2.TransferOp.FromString(to_bytes(ALL_FIELDS))

    assert {field.name for field, _ in generated.ListFields()} == {*names}
    assert from_bytes(TransferOp, generated.SerializeToString()) == ALL_FIELDS
    made = plan_pb2.TransferOp(kind=plan_pb2.H2STORAGE, src="mem://a", length=1, deps=["dep"])
    read = from_bytes(TransferOp, made.SerializeToString())
    assert read == TransferOp(TransferKind.H2STORAGE, "mem://a", length=1, deps=("dep",))
    assert plan_pb2.TransferOp.FromString(to_bytes(read)) == made


@pytest.mark.parametrize(
    ("src", "dst", "kind"),
    [
        pytest.param("mem://a", "file://b", TransferKind.H2STORAGE, id="D-2-host to storage"),
        pytest.param("mem://a", "mem://b", TransferKind.H2H, id="D-2-host to host"),
        pytest.param("net://a/x", "mem://b", TransferKind.NET2H, id="D-2-network"),
        pytest.param("file://a", "file://b", TransferKind.STORAGE2STORAGE, id="D-2-storage"),
    ],
)
def test_there_is_one_kind_for_every_way(src, dst, kind):
    sound = [
        one
        for one in TransferKind
        if not validate(CachePlan(ops=(TransferOp(one, src, dst, kv_refs=(KvPageRef("kv"),)),)))
    ]

    assert sound == [kind]


@pytest.mark.parametrize(
    ("write", "read"),
    [pytest.param(*FORMS[name], id=f"D-5-{name}") for name in ("JSON", "protobuf")],
)
@pytest.mark.parametrize("wrap", [False, True], ids=["bare", "sealed"])
def test_deadline_and_priority_arrive_as_numbers(write, read, wrap):
    plan = CachePlan(
        "c", (dataclasses.replace(ALL_FIELDS, note="cluster=1"),), window_ms=20, now_ns=5
    )
    given = sealed(plan, producer="test 1", created_ns=1) if wrap else plan

    got = read(type(given), write(given))

    op = (got.cache if wrap else got).ops[0]
    assert (op.deadline_ns, op.priority, op.tenant, op.lane) == (8, -9, "tenant", "lane")
    assert (op.fanout, op.overlap, op.note) == (13, 14, "cluster=1")


@pytest.mark.parametrize(("write", "read"), [pytest.param(*FORMS[n], id=f"D-6-{n}") for n in FORMS])
def test_what_is_admitted_is_not_prefetched(write, read):
    kept, hint, gone = KvPageRef("kv", 5), KvPageRef("kv", 6), KvPageRef("kv", 7)
    plan = CachePlan(
        "c", prefetch=(hint,), evict=(gone,), admission=(kept,), rejected=(Rejected("r", "late"),)
    )

    got = read(CachePlan, write(plan))

    assert (got.prefetch, got.evict) == ((hint,), (gone,))
    newer = write is not to_earlier_json  # which has no word for it, and must not use another one
    assert got.admission == ((kept,) if newer else ())
    assert got.rejected == (plan.rejected if newer else ())


def test_d7_offsets_in_the_bucket_are_none_in_the_file():
    files = ("embedding.bin", 18), ("layer1.bin", 13)

    assert validate(swap(*files, at=(0, 0))) == ()
    found = validate(swap(*files, at=(0, 18)))
    assert [(one.rule, one.op, one.at) for one in found] == [("range", 1, "ops[1].src_offset")]
