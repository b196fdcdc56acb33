"""What the planner makes of a request: sources, destinations, deadlines; only what is new."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb_ir.plan import (
    Digest,
    DigestAlgorithm,
    FileChunk,
    KvPolicy,
    OptimizerPolicy,
    SwapWindow,
    TensorSpan,
    TransferKind,
    WeightManifest,
    changes,
    chunk_digest,
    digest_text,
    validate,
)
from bb_planner_swap._delta import delta
from bb_planner_swap._swap import MEDIA, Settings, Swap
from bb_roles import ChunkSource, SwapRequest
from bb_roles.errors import ConfigError, UnplannableRequest

NAMES = st.sampled_from(["a", "b", "c", "layers.2.w", "layers.10.w", "d"])


def digest(content):
    return Digest(DigestAlgorithm.BLAKE3, content.encode().ljust(32, b"\1"))


def chunk(path, length, content=None, offset=0, tensor=""):
    span = TensorSpan(tensor, "uint8", (length,), 0, length) if tensor else None
    told = digest(f"{content or path}:{length}")
    return FileChunk(path, offset, length, digest=told, tensor=span)


def manifest(*chunks, version="2"):
    return WeightManifest("demo", version, chunks)


def plan(new, old=None, settings=None, **asked):
    return Swap(settings or Settings(8)).plan(SwapRequest(new, from_=old, **asked))


@st.composite
def manifests(draw):
    """Draw a manifest whose chunks share contents with others, and places with those of another."""
    made = []
    for path in draw(st.lists(NAMES, unique=True)):
        length, content = draw(st.integers(0, 20)), draw(st.sampled_from("uvwxyz"))
        at = draw(st.sampled_from([0, 5]))
        made.append(chunk(path, length, content, at, draw(st.sampled_from(["", path]))))
    return manifest(*made)


@given(
    old=st.none() | manifests(), new=manifests(), capacity=st.integers(1, 40),
    destination=st.sampled_from(["mem", "device", "store"]),
    order=st.sampled_from(["size", "layer"]),
)  # fmt: skip
def test_ops_bring_exactly_what_is_new(old, new, capacity, destination, order):
    made = plan(new, old, Settings(capacity, destination, order))

    assert (made.adds, made.shared, made.deletes) == changes(old or manifest(), new)
    brought = [op.digest for op in made.ops]
    assert len({*brought}) == len(brought), "nothing is brought twice"
    assert {*brought} == {chunk_digest(one) for one in made.adds}
    assert made.total_bytes == sum(op.length for op in made.ops)
    assert all(p.warning and p.rule == "bytes" for p in validate(made, media=MEDIA))


def first_fit(lengths, capacity):
    """Return the buckets of falling lengths, by the textbook: lists of positions."""
    buckets, room = [], []
    for at, length in enumerate(lengths):
        free = next((n for n, left in enumerate(room) if length <= left), len(buckets))
        if free == len(buckets):
            buckets.append([])
            room.append(max(capacity, length))
        buckets[free].append(at)
        # What is larger than a bucket is alone.
        room[free] = room[free] - length if length <= capacity else -1
    return buckets


@given(
    old=manifests(), new=manifests(), capacity=st.integers(1, 40),
    offered=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=8),
)  # fmt: skip
def test_it_is_what_an_oracle_plans_chunk_by_chunk(old, new, capacity, offered):
    base = old.files[0].digest if old.files else None
    sources = tuple(
        ChunkSource(new.files[which].digest, f"mem://offer/{number}", 3, "xorz", 9, wanted)
        for number, (which, based) in enumerate(offered)
        for wanted in [base if based else digest("not there")]
        if which < len(new.files)
    )

    made = plan(new, old, Settings(capacity), sources=sources)

    there = [(one.digest, one.length) for one in old.files]
    fresh = [one for one in new.files if (one.digest, one.length) not in there]
    once = {one.digest: one for one in reversed(fresh)}
    falling = sorted(once.values(), key=lambda one: (-one.length, one.path, one.offset))
    wanted = []
    for number, bucket in enumerate(first_fit([one.length for one in falling], capacity)):
        at = 0
        for one in (falling[position] for position in bucket):
            usable = [offer for offer in sources if offer.digest == one.digest
                      and offer.src_digest in (None, *(known for known, _ in there))]  # fmt: skip
            src, offset, codec = (
                (usable[0].src, 3, "xorz") if usable else (f"file://{one.path}", one.offset, "")
            )
            wanted.append(
                (f"mem://bucket/{number}", at, one.length, one.digest, src, offset, codec)
            )
            at += one.length
    assert [
        (op.dst, op.dst_offset, op.length, op.digest, op.src, op.src_offset, op.codec)
        for op in made.ops
    ] == wanted
    assert list(made.adds) == fresh
    assert list(made.shared) == [one for one in new.files if one not in fresh]


@given(old=manifests(), new=manifests())
def test_delta_is_that_of_the_messages(old, new):
    assert delta(old, new) == changes(old, new)


@pytest.mark.parametrize(
    "odd",
    [
        FileChunk("a", 0, 1, sha256="sha256:" + "1" * 64),
        FileChunk("a", 0, 1),
        FileChunk("a", 0, 99, digest=digest("x:1")),
        FileChunk("a", 0, 1, digest=Digest(DigestAlgorithm.SHA256, digest("x:1").value)),
    ],
    ids=["text", "none", "another length", "another algorithm"],
)
def test_delta_of_odd_chunks_is_that_of_the_messages(odd):
    usual = (chunk("b", 1, "x"), chunk("c", 1, "x"))
    for old, new in [
        (manifest(*usual), manifest(odd, *usual)),
        (manifest(*usual, odd), manifest(*usual)),
        (manifest(usual[0], odd, usual[1]), manifest(*usual, odd)),
        (manifest(odd), manifest(*usual)),
        (manifest(*usual), manifest(odd)),
    ]:
        assert delta(old, new) == changes(old, new)


def test_source_of_a_chunk_is_its_place_in_its_file():
    (op,) = plan(manifest(chunk("a", 3, offset=7))).ops

    assert (op.src, op.src_offset, op.length, op.dst_offset) == ("file://a", 7, 3, 0)


def test_what_is_there_twice_is_brought_once():
    made = plan(manifest(chunk("a", 3, "x"), chunk("b", 3, "x")))

    assert len(made.ops) == 1
    assert len(made.adds) == 2


def source(base=None, src="cas://blake3:" + "ab" * 32, codec="sparse", length=2):
    return ChunkSource(digest("a:6"), src, 5, codec, length, base and digest(base))


def test_encoded_source_is_used_where_its_base_is():
    old, new = manifest(chunk("a", 4)), manifest(chunk("a", 6))

    (op,) = plan(new, old, sources=(source("a:4"),)).ops

    assert (op.src, op.src_offset, op.codec, op.encoded_length, op.src_digest, op.length) == (
        "cas://blake3:" + "ab" * 32, 5, "sparse", 2, digest("a:4"), 6,
    )  # fmt: skip


@pytest.mark.parametrize("old", [None, manifest(chunk("a", 5))])
def test_source_whose_base_is_not_there_is_passed_over(old):
    sources = (source("a:4"), source(None, "mem://whole", "", 0))

    (op,) = plan(manifest(chunk("a", 6)), old, sources=sources).ops
    (alone,) = plan(manifest(chunk("a", 6)), old, sources=sources[:1]).ops

    assert (op.src, op.kind, op.codec) == ("mem://whole", TransferKind.H2H, "")
    assert (alone.src, alone.codec, alone.src_digest) == ("file://a", "", None)


def test_sources_of_other_chunks_are_passed_over():
    (op,) = plan(manifest(chunk("b", 6)), sources=(source(),)).ops

    assert op.src == "file://b"


@pytest.mark.parametrize(
    ("src", "destination", "kind"),
    [
        ("file://a", "mem", TransferKind.STORAGE2H),
        ("file://a", "device", TransferKind.STORAGE2H),
        ("file://a", "store", TransferKind.STORAGE2STORAGE),
        ("mem://a", "device", TransferKind.H2H),
        ("mem://a", "store", TransferKind.H2STORAGE),
        ("net://peer/a", "mem", TransferKind.NET2H),
        ("tier://n/tier0", "mem", TransferKind.STORAGE2H),
    ],
)
def test_kind_follows_from_both_ends(src, destination, kind):
    (op,) = plan(
        manifest(chunk("a", 6)), settings=Settings(8, destination),
        sources=(source(None, src, "raw", 2),),
    ).ops  # fmt: skip

    assert op.kind is kind


@pytest.mark.parametrize(
    ("src", "destination"), [("net://p/a", "store"), ("tier://n/tier2", "mem")]
)
def test_what_nothing_moves_is_refused(src, destination):
    with pytest.raises(UnplannableRequest, match="nothing moves"):
        plan(manifest(chunk("a", 6)), settings=Settings(8, destination),
             sources=(source(None, src),))  # fmt: skip


def test_store_gets_each_chunk_by_its_digest_in_lanes():
    made = plan(
        manifest(chunk("a", 6), chunk("b", 5), chunk("c", 3)), settings=Settings(8, "store")
    )

    assert [(op.dst, op.dst_offset, op.lane) for op in made.ops] == [
        (f"cas://{digest_text(digest('a:6'))}", 0, "bucket/0"),
        (f"cas://{digest_text(digest('b:5'))}", 0, "bucket/1"),
        (f"cas://{digest_text(digest('c:3'))}", 0, "bucket/1"),
    ]


def test_layers_are_in_the_order_of_their_numbers():
    new = manifest(*(chunk(f"f{n}", 3, tensor=f"layers.{n}.w") for n in (10, 2, 1)))

    made = plan(new, settings=Settings(6, order="layer"))

    assert [(op.src, op.lane) for op in made.ops] == [
        ("file://f1", "bucket/0"), ("file://f2", "bucket/0"), ("file://f10", "bucket/1"),
    ]  # fmt: skip


def test_numbers_of_any_length_and_script_can_be_in_names():
    new = manifest(
        *(chunk(f"f{n}", 1, tensor=t) for n, t in enumerate(["w٣", "w" + "9" * 99, "1", ""]))
    )

    assert len(plan(new, settings=Settings(6, order="layer")).ops) == 4


@pytest.mark.parametrize(("order", "due"), [("size", [2000, 2000]), ("layer", [1250, 2000])])
def test_ops_are_due_within_the_window(order, due):
    made = plan(
        manifest(chunk("a", 2), chunk("b", 6)), settings=Settings(6, order=order),
        window=SwapWindow(1000, 2000),
    )  # fmt: skip

    assert [op.deadline_ns for op in made.ops] == due


def test_without_a_window_nothing_is_due():
    assert [op.deadline_ns for op in plan(manifest(chunk("a", 2))).ops] == [0]


def test_policies_have_defaults():
    made = plan(manifest(chunk("a", 2)))

    assert made.kv_policy is KvPolicy.KV_FLUSH
    assert made.optimizer_policy is OptimizerPolicy.OPTIMIZER_PRESERVE


@pytest.mark.parametrize("size", [0, -1])
def test_a_bucket_has_room_for_something(size):
    with pytest.raises(ConfigError, match="bucket_bytes"):
        Settings(size)
