"""The validator: a sound plan has no problem, and each rule is broken on its own."""

import dataclasses
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bb_ir.plan import (
    RULES,
    CachePlan,
    Digest,
    DigestAlgorithm,
    FileChunk,
    InvalidPlan,
    KvPageRef,
    Medium,
    Plan,
    PlanFormatError,
    Quota,
    Rejected,
    SwapPlan,
    SwapWindow,
    TensorSpan,
    TransferKind,
    TransferOp,
    WeightManifest,
    check,
    parse_place,
    places,
    validate,
    validation,
)
from bb_ir.plan.places import alike, unsafe

NOW = 1_000_000_000
KIB = 1024


def digest(number):
    return Digest(DigestAlgorithm.SHA256, bytes([number]) * 32)


def chunk(path, length, number, offset=0, **more):
    return FileChunk(path, offset, length, digest=digest(number), **more)


def bring(one, bucket=0, at=0, **more):
    """The op that brings a chunk into a bucket in host memory."""
    facts = {"src_offset": one.offset, "dst_offset": at, "digest": one.digest, **more}
    return TransferOp(
        TransferKind.STORAGE2H, f"file://{one.path}", f"mem://bucket/{bucket}", one.length, **facts
    )


SAME, OLD, NEW = chunk("same", 4, 1), chunk("emb", 15, 2), chunk("emb", 18, 3)
GONE, FRESH = chunk("gone", 3, 4), chunk("layer1", 13, 5)
SWAP = SwapPlan(
    "swap-next",
    WeightManifest("m", "0", (SAME, OLD, GONE)),
    WeightManifest("m", "1", (SAME, NEW, FRESH)),
    (
        bring(NEW, op_id="a", lane="disk"),
        bring(FRESH, at=18, op_id="b", deps=("a",), lane="disk", deadline_ns=NOW + 5),
    ),
    SwapWindow(NOW, NOW + 10),
    deletes=(GONE,),
    adds=(NEW, FRESH),
    shared=(SAME,),
    total_bytes=31,
    bucket_bytes=32,
)


def page_op(first, count, size=256 * KIB, **more):
    ref = KvPageRef("kv", first, page_count=count, page_bytes=size)
    facts = {"src_offset": first * size, "dst_offset": first * size, "kv_refs": (ref,), **more}
    return TransferOp(
        TransferKind.STORAGE2H, "tier://n0/tier0", "tier://n0/tier1", count * size, **facts
    )


CACHE = CachePlan(
    "cache-1",
    (page_op(0, 2, tenant="t"), page_op(3, 2, deadline_ns=NOW + 5)),
    evict=(KvPageRef("kv", 9),),
    window_ms=20,
    now_ns=NOW,
    rejected=(Rejected("r1", "quota"),),
)


def ops(plan, index, **changes):
    """A plan with one op changed."""
    changed = list(plan.ops)
    changed[index] = dataclasses.replace(changed[index], **changes)
    return dataclasses.replace(plan, ops=tuple(changed))


def but(plan, **changes):
    return dataclasses.replace(plan, **changes)


def old(*files):
    """A plan that deletes all there is."""
    return but(SWAP, from_=WeightManifest(files=files), deletes=files)


def test_sound_plans_have_no_problem():
    assert validate(SWAP) == ()
    assert validate(CACHE) == ()
    assert validate(CachePlan()) == ()
    assert check(SWAP) == ()


def test_a_swap_from_nothing_and_one_without_ops_are_sound():
    new = SWAP.to
    first = SwapPlan(to=WeightManifest(files=(NEW,)), ops=(bring(NEW),), adds=(NEW,))

    assert validate(first) == ()
    assert validate(SwapPlan(from_=new, to=new, shared=new.files)) == ()


#: Rule, where, and a plan that breaks it and nothing else.
BROKEN = {
    "twice the same id": ("ids", "ops[1].op_id", ops(SWAP, 1, op_id="a", deps=())),
    "an unknown dep": ("order", "ops[1].deps[0]", ops(SWAP, 1, deps=("z",))),
    "an op that waits for itself": ("order", "ops[1].deps", ops(SWAP, 1, deps=("b",))),
    "no such scheme": ("place", "ops[0].dst", ops(SWAP, 0, dst="disk://x")),
    "no scheme": ("place", "ops[0].dst", ops(SWAP, 0, dst="bucket/0")),
    "a path that leaves": ("place", "ops[0].dst", ops(SWAP, 0, dst="mem://a/../../b")),
    "an absolute path": ("place", "ops[0].dst", ops(SWAP, 0, dst="file:///etc/passwd")),
    "a drive": ("place", "ops[0].dst", ops(SWAP, 0, dst="file://C:/x")),
    "a backslash": ("place", "ops[0].dst", ops(SWAP, 0, dst="file://a\\b")),
    "an empty path": ("place", "ops[0].dst", ops(SWAP, 0, dst="mem://")),
    "a long path": ("place", "ops[0].dst", ops(SWAP, 0, dst="mem://" + "x" * 2000)),
    "a blob without digest": ("place", "ops[0].dst", ops(SWAP, 0, dst="cas://abc")),
    "a tier without number": ("place", "ops[0].dst", ops(SWAP, 0, dst="tier://n0/fast")),
    "no kind": ("kind", "ops[0].kind", ops(SWAP, 0, kind=TransferKind.KIND_UNSPECIFIED)),
    "another kind": ("kind", "ops[0].kind", ops(SWAP, 0, kind=TransferKind.H2D)),
    "a tier of another medium": ("kind", "ops[0].kind", ops(CACHE, 0, dst="tier://n0/tier2")),
    "a file that is in no manifest": ("range", "ops[0].src", ops(SWAP, 0, src="file://other")),
    "bytes past the end of a chunk": ("range", "ops[1].src_offset", ops(SWAP, 1, src_offset=18)),
    "bytes past any end": ("range", "ops[0].dst_offset", ops(SWAP, 0, dst_offset=2**64 - 1)),
    "a codec without its length": ("range", "ops[0].encoded_length", ops(SWAP, 0, codec="zstd")),
    "a length without its codec": (
        "range", "ops[0].encoded_length", ops(SWAP, 0, encoded_length=3),
    ),
    "one op over another": ("overlap", "ops[1].dst_offset", ops(SWAP, 1, dst_offset=17)),
    "a path of a chunk that leaves": ("chunk", "from_.files[0].path", old(chunk("../x", 1, 1))),
    "a chunk past any end": (
        "chunk", "from_.files[0].length", old(chunk("gone", 2**64 - 1, 1, 1)),
    ),
    "a tensor of another size": (
        "chunk", "from_.files[0].tensor", old(but(GONE, tensor=TensorSpan("t", end=4))),
    ),
    "chunks that overlap": ("chunk", "from_.files[1]", old(GONE, chunk("gone", 3, 7, 2))),
    "nothing that shall be": (
        "account", "to", SwapPlan(from_=WeightManifest(files=(GONE,)), deletes=(GONE,)),
    ),
    "an add that no op brings": ("account", "adds[1]", but(SWAP, ops=SWAP.ops[:1], total_bytes=18)),
    "pages with a gap": (
        "pages", "ops[0].kv_refs",
        ops(CACHE, 0, kv_refs=(KvPageRef("kv", page_bytes=256 * KIB),
                               KvPageRef("kv", 2, page_bytes=256 * KIB))),
    ),
    "a chunk that is not told": ("account", "to.files[0]", but(SWAP, shared=())),
    "an add that nobody wants": ("account", "adds[2]", but(SWAP, adds=(NEW, FRESH, OLD))),
    "a delete that is missing": ("account", "from_.files[2]", but(SWAP, deletes=())),
    "a delete of what is kept": ("account", "deletes[1]", but(SWAP, deletes=(GONE, OLD))),
    "another sum": ("bytes", "total_bytes", but(SWAP, total_bytes=32)),
    "a bucket that is too full": ("bytes", "ops[1].length", but(SWAP, bucket_bytes=30)),
    "a window that ends first": (
        "time", "window.t_start_ns", but(ops(SWAP, 1, deadline_ns=0), window=SwapWindow(2, 1)),
    ),
    "a deadline outside": ("time", "ops[1].deadline_ns", ops(SWAP, 1, deadline_ns=NOW + 11)),
    "an op without a digest": ("digest", "ops[0].digest", ops(SWAP, 0, digest=None)),
    "an op with another digest": ("digest", "ops[0].digest", ops(SWAP, 0, digest=digest(9))),
    "half a digest": (
        "digest", "ops[0].src_digest", ops(SWAP, 0, src_digest=Digest(DigestAlgorithm(1), b"x")),
    ),
    "a chunk without a digest": (
        "digest", "to.files[0].digest",
        but(SWAP, from_=None, deletes=(), to=WeightManifest(files=(FileChunk("z", 0, 1),)),
            adds=(), shared=(FileChunk("z", 0, 1),), ops=(), total_bytes=0),
    ),
    "a text that is no digest": (
        "digest", "from_.files[0].digest", old(FileChunk("z", sha256="x")),
    ),
    "no pages": ("pages", "ops[0].kv_refs", ops(CACHE, 0, kv_refs=())),
    "pages of other sizes": (
        "pages", "ops[0].kv_refs",
        ops(CACHE, 0, kv_refs=(*CACHE.ops[0].kv_refs, KvPageRef("kv", 7, page_bytes=1))),
    ),
    "more bytes than pages": ("pages", "ops[0].length", ops(CACHE, 0, length=512 * KIB - 1)),
    "no whole pages": (
        "pages", "ops[0].length",
        ops(CACHE, 0, length=5, kv_refs=(KvPageRef("kv", page_count=2),)),
    ),
    "a page twice": (
        "pages", "ops[0].kv_refs[1]",
        ops(CACHE, 0, length=1024 * KIB,
            kv_refs=(*CACHE.ops[0].kv_refs, KvPageRef("kv", 1, page_count=2, page_bytes=256 * KIB)),
            dst_offset=4096 * KIB),
    ),
    "pages past any end": ("pages", "evict[0]", but(CACHE, evict=(KvPageRef(page=2**64 - 1),))),
    "a request told twice": (
        "request", "rejected[1].request", but(CACHE, rejected=(Rejected("r", "x"),) * 2),
    ),
    "no reason": ("request", "rejected[0].reason", but(CACHE, rejected=(Rejected("r"),))),
    "another version": (
        "envelope", "schema_version", Plan(2, "", cache=CACHE),
    ),
    "no plan": ("envelope", "plan", Plan(1)),
    "a list that is none": ("field", "ops", but(CACHE, ops=[])),
}  # fmt: skip
#: Two problems cannot be had apart: an id that is wrong with another version.
ALSO = {"another version": {"envelope"}}


@pytest.mark.parametrize("name", BROKEN)
def test_each_rule_is_held(name):
    rule, at, plan = BROKEN[name]

    found = validate(plan)

    assert (rule, at) in {(one.rule, one.at) for one in found if not one.warning}, found
    assert {one.rule for one in found} == ALSO.get(name, {rule}), found
    index = int(at[4:].partition("]")[0]) if at.startswith("ops[") else None
    told = next(one for one in found if (one.rule, one.at) == (rule, at))
    assert told.op == index
    assert at in str(told)
    with pytest.raises(InvalidPlan) as caught:
        check(plan)
    assert caught.value.problems == found
    assert caught.value.expected == RULES[found[0].rule]


def test_every_rule_is_broken_here():
    assert {rule for rule, _, _ in BROKEN.values()} == RULES.keys() - {"quota"}


def test_everything_wrong_is_listed_with_the_index_of_its_op():
    plan = ops(ops(SWAP, 0, src="x", digest=None), 1, length=2**64 - 1, deadline_ns=1)

    found = validate(plan)

    assert [(one.rule, one.op) for one in found] == [
        ("place", 0), ("range", 1), ("digest", 0), ("range", 1), ("bytes", None), ("bytes", 1),
        ("time", 1),
    ]  # fmt: skip
    with pytest.raises(InvalidPlan, match=f"and {len(found) - 1} more"):
        check(plan)


def test_ops_of_a_lane_keep_their_order():
    plan = ops(ops(SWAP, 1, deps=()), 0, deps=("b",))

    found = [one for one in validate(plan) if one.rule == "order"]

    assert [one.op for one in found] == [0, 1]  # a waits for b, which comes after it in the lane
    assert validate(ops(plan, 1, lane="other")) == ()


def test_the_same_bytes_may_be_brought_twice():
    twice = but(SWAP, ops=(*SWAP.ops, but(SWAP.ops[0], op_id="")), total_bytes=0, bucket_bytes=0)

    assert validate(twice) == ()
    assert validate(ops(twice, 2, digest=digest(8)))


def test_all_ops_under_a_long_one_are_found():
    long = TransferOp(TransferKind.H2H, "mem://a", "mem://b", 100)
    short = [but(long, length=1, dst_offset=at) for at in (10, 50, 99, 100)]
    kv = (KvPageRef("kv"),)
    plan = CachePlan(ops=tuple(but(op, kv_refs=kv) for op in (*short, long)))

    assert [one.op for one in validate(plan) if one.rule == "overlap"] == [0, 1, 2]


def test_one_op_that_fits_no_bucket_is_a_warning():
    plan = SwapPlan(to=WeightManifest(files=(NEW,)), ops=(bring(NEW),), adds=(NEW,), bucket_bytes=8)

    assert [(one.rule, one.warning) for one in check(plan)] == [("bytes", True)]


def test_blobs_are_found_by_the_digest_of_a_chunk():
    blob = f"cas://sha256:{FRESH.digest.value.hex()}"

    assert validate(ops(SWAP, 1, src=blob)) == ()
    assert [one.rule for one in validate(ops(SWAP, 1, src=blob, src_offset=1))] == ["range"]


def test_many_chunks_of_one_file_are_each_found():
    parts = tuple(chunk("all", 4, number, offset=4 * number) for number in range(200))
    brought = tuple(bring(one, at=one.offset) for one in parts)
    plan = SwapPlan(to=WeightManifest(files=parts), ops=brought, adds=parts)

    assert validate(plan) == ()
    across = ops(plan, 7, src_offset=4 * 7 + 1)
    assert [(one.rule, one.op) for one in validate(across)] == [("range", 7)]


def test_a_chunk_of_either_version_may_be_read():
    old, new = chunk("all", 8, 1), (chunk("all", 4, 2), chunk("all", 4, 3, offset=4))
    keep = TransferOp(TransferKind.STORAGE2H, "file://all", "mem://kept", 8, digest=old.digest)
    plan = SwapPlan(
        "s", WeightManifest(files=(old,)), WeightManifest(files=new),
        (keep, *(bring(one, at=one.offset) for one in new)), adds=new,
    )  # fmt: skip

    assert validate(plan) == ()


def test_an_add_may_come_in_parts():
    half = [bring(NEW, digest=digest(40 + i), src_offset=9 * i, at=9 * i) for i in (0, 1)]
    half = [but(op, length=9) for op in half]
    plan = but(SWAP, ops=(*half, but(SWAP.ops[1], deps=())))

    assert validate(plan) == ()
    lost = but(plan, ops=(half[0], plan.ops[2]), total_bytes=22)
    assert [(one.rule, one.at) for one in validate(lost)] == [("account", "adds[0]")]


def test_ops_that_may_bring_anything_leave_it_open():
    """Parts from the network have digests of their own, which no chunk has."""
    part = TransferOp(TransferKind.NET2H, "net://p/emb", "mem://bucket/0", 9, digest=digest(50))
    parts = (part, but(part, dst_offset=9, src_offset=9, digest=digest(51)))
    plan = but(SWAP, ops=(*parts, but(SWAP.ops[1], deps=())))

    assert validate(plan) == ()
    assert [one.at for one in validate(but(plan, ops=plan.ops[1:], total_bytes=22))] == ["adds[0]"]


@pytest.mark.parametrize(
    "more",
    [
        {"kv_refs": (KvPageRef("kv", 0, page_bytes=KIB), KvPageRef("kv", 2, 1, page_bytes=KIB))},
        {"kv_refs": (KvPageRef("kv", 1, page_bytes=KIB), KvPageRef("kv", 0, page_bytes=KIB))},
        {"src_offset": KIB, "dst_offset": KIB},
        {"src": "file://packed", "dst_offset": 7 * KIB},
    ],
    ids=["two stacks", "another order", "not by number", "a file"],
)
def test_gaps_are_told_only_where_pages_lie_by_number(more):
    apart = (KvPageRef("kv", 0, page_bytes=KIB), KvPageRef("kv", 2, page_bytes=KIB))
    op = but(page_op(0, 2, KIB, kv_refs=apart), **more)

    assert validate(CachePlan(ops=(op,))) == ()


def test_what_is_encoded_is_read_elsewhere():
    plan = ops(SWAP, 0, src="cas://sha256:" + "0" * 64, codec="zstd", encoded_length=5)

    assert validate(plan) == ()


def test_surroundings_are_what_the_caller_knows():
    on_device = ops(SWAP, 1, dst="device://bucket/0")

    assert [one.rule for one in validate(on_device)] == ["kind"]
    assert validate(on_device, media={"device": Medium.HOST}) == ()
    assert [
        (one.rule, one.at) for one in validate(SWAP, regions={"mem://bucket/0": 30})
    ] == [("range", "ops[1].dst_offset")]  # fmt: skip
    assert validate(SWAP, regions={"mem://bucket/0": 31}) == ()


@pytest.mark.parametrize(
    ("quota", "op"),
    [
        (Quota(1024 * KIB), None),
        (Quota(1024 * KIB - 1), 1),
        (Quota(0), 0),
        (Quota(512 * KIB - 1, tenant="t"), 0),
        (Quota(512 * KIB, tenant="t"), None),
        (Quota(0, tenant="other"), None),
        (Quota(0, node="n0", tier=1), 0),
        (Quota(0, node="n0", tier=2), None),
        (Quota(0, node="n1"), None),
    ],
)
def test_quotas(quota, op):
    found = validate(CACHE, quotas=(quota,))

    assert [(one.rule, one.op) for one in found] == ([] if op is None else [("quota", op)])


def test_lanes_that_are_too_slow_are_a_warning():
    fast = validate(SWAP, lane_rate=10**12)
    slow = validate(SWAP, lane_rate=10**9)  # 31 bytes take 31 ns, and there are 5

    assert fast == ()
    assert [(one.rule, one.op, one.warning) for one in slow] == [("time", 1, True)]
    assert check(SWAP, lane_rate=10**9) == slow


def test_pages_that_come_too_late_are_a_warning():
    assert [one.warning for one in validate(ops(CACHE, 1, deadline_ns=NOW - 1))] == [True]


@pytest.mark.parametrize("text", ["file://%2e%2e/x", "mem://ä", "tier://n0/tier12", "net://p/x"])
def test_places_are_taken_literally(text):
    assert parse_place(text).path == text.partition("://")[2]


letters = st.text(st.sampled_from("ab.-/ :\\\nä0"), max_size=6)
paths = letters | st.sampled_from([
    "a" * 1024, "a" * 1025, f"sha256:{'0' * 64}", f"sha256:{'0' * 64}\n", f"md5:{'0' * 64}",
    "n/tier1",
])  # fmt: skip


@given(paths)
def test_paths_that_are_safe_at_a_glance_keep_every_rule(path):
    fast = unsafe(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "_PLAIN", re.compile("(?!)"))
        assert fast == unsafe(path)


@given(st.sampled_from(["file", "mem", "device", "net", "cas", "tier", "http", ""]), paths)
def test_a_place_that_stands_for_others_is_as_sound(scheme, path):
    def outcome(text):
        try:
            found = parse_place(text)
        except PlanFormatError:
            return None
        return found.scheme, found.medium, found.tier

    for text in (f"{scheme}://{path}", f"{scheme}{path}"):
        assert outcome(alike(text)) == outcome(text)


def test_many_places_have_one_that_stands_for_them():
    texts = [f"file://layer{n}/w.bin" for n in range(3)] + [
        f"cas://blake3:{n:064}" for n in range(3)
    ]

    assert len({*map(alike, texts)}) == 2


def test_tiers_are_storage_host_and_devices():
    media = [parse_place(f"tier://n/tier{number}").medium for number in range(4)]

    assert media == [Medium.STORAGE, Medium.HOST, Medium.DEVICE, Medium.DEVICE]
    with pytest.raises(PlanFormatError, match="tier"):
        parse_place("tier://n/tier01")


small = st.integers(0, 3) | st.sampled_from([2**63, 2**64 - 1])
words = st.sampled_from(["", "a", "b", "file://a", "mem://a", "tier://a/tier1", "cas://a", "../a"])
digests = st.none() | st.builds(
    Digest, st.sampled_from(DigestAlgorithm), st.sampled_from([b"", b"x" * 32])
)
chunks = st.lists(
    st.builds(
        FileChunk, words, small, small, words, digests,
        st.none() | st.builds(TensorSpan, words, begin=small, end=small),
    ),
    max_size=3,
).map(tuple)  # fmt: skip
refs = st.lists(st.builds(KvPageRef, words, small, page_count=small, page_bytes=small), max_size=3)
moves = st.lists(
    st.builds(
        TransferOp, st.sampled_from(TransferKind), words, words, small, small, small,
        refs.map(tuple), op_id=words, deps=st.lists(words, max_size=2).map(tuple), lane=words,
        deadline_ns=small, digest=digests, codec=words, encoded_length=small, src_digest=digests,
    ),
    max_size=4,
).map(tuple)  # fmt: skip
manifests = st.none() | st.builds(WeightManifest, files=chunks)
windows = st.none() | st.builds(SwapWindow, small, small)
wild = st.builds(
    SwapPlan, words, manifests, manifests, moves, windows, chunks, chunks, chunks,
    total_bytes=small, bucket_bytes=small,
) | st.builds(CachePlan, words, moves, now_ns=small, evict=refs.map(tuple))  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(wild, st.integers(0, 5), small)
def test_the_validator_is_total(plan, rate, limit):
    found = validate(plan, lane_rate=rate, quotas=(Quota(limit),), regions={"mem://a": limit})

    assert {one.rule for one in found} <= RULES.keys()
    assert all(one.op is None or f"ops[{one.op}]" in one.at for one in found)
    assert found == validate(
        plan, lane_rate=rate, quotas=(Quota(limit),), regions={"mem://a": limit}
    )


def by_values(plan, **known):
    """What the validator finds when no column tells it that a rule is kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "table_of", lambda *_: None)
        return validate(plan, **known)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(wild, st.integers(0, 5), small)
def test_columns_hide_nothing(plan, rate, limit):
    known = {"lane_rate": rate, "quotas": (Quota(limit),), "regions": {"mem://a": limit}}

    assert validate(plan, **known) == by_values(plan, **known)


def of_field(message, name):
    """Other values for a field of a message, of which some break a rule."""
    value = getattr(message, name)
    if isinstance(value, TransferKind):
        return st.sampled_from(TransferKind)
    if isinstance(value, int):
        return st.sampled_from([0, 1, value + 1, max(0, value - 1), 2**63, 2**64 - 1])
    if isinstance(value, tuple):
        return st.sampled_from([(), value, value + value, value[::-1]])
    if isinstance(value, Digest) or "digest" in name:
        return digests | st.sampled_from([digest(1), digest(3)])
    if isinstance(value, str):
        return words | st.sampled_from(["a", "b", "sha256:" + "3" * 64, "file://emb", "mem://x"])
    return st.just(value)


def a_little_wrong(plan):
    """A sound plan of which a few fields are others."""

    @st.composite
    def draw_one(draw):
        changed = plan
        for _ in range(draw(st.integers(1, 3))):
            changed = draw(one_other(changed))
        return changed

    return draw_one()


@st.composite
def one_other(draw, message):
    name = draw(st.sampled_from([field.name for field in dataclasses.fields(message)]))
    value = getattr(message, name)
    entries = isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0])
    if entries and draw(st.booleans()):
        at = draw(st.integers(0, len(value) - 1))
        value = (*value[:at], draw(one_other(value[at])), *value[at + 1 :])
    elif dataclasses.is_dataclass(value) and draw(st.booleans()):
        value = draw(one_other(value))
    else:
        value = draw(of_field(message, name))
    return dataclasses.replace(message, **{name: value})


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=300)
@given(a_little_wrong(SWAP) | a_little_wrong(CACHE), st.sampled_from([{}, {"mem://bucket/0": 31}]))
def test_columns_hide_nothing_of_what_is_nearly_right(plan, regions):
    known = {"regions": regions, "quotas": (Quota(2**20, tier=1),), "lane_rate": 10**9}
    swap = plan if isinstance(plan, SwapPlan) else None
    whole = Plan(1, "x", cache=None if swap else plan, swap=swap)

    assert validate(plan, **known) == by_values(plan, **known)
    assert validate(whole, **known) == by_values(whole, **known)


@pytest.mark.parametrize("name", BROKEN)
def test_columns_see_every_broken_rule(name):
    _, _, plan = BROKEN[name]

    assert validate(plan) == by_values(plan)
