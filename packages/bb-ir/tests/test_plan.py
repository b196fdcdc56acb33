"""Plans: lossless both ways, one text and one digest, and only errors of ours for damage."""

import copy
import dataclasses
import gc
import hashlib
import json
import pickle
import typing
from enum import IntEnum

import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bb_ir._proto import plan_pb2
from bb_ir.plan import (
    CachePlan,
    Digest,
    DigestAlgorithm,
    FileChunk,
    KvPageRef,
    Plan,
    PlanFormatError,
    Rejected,
    SwapPlan,
    SwapWindow,
    TensorSpan,
    TransferKind,
    TransferOp,
    WeightManifest,
    _bulk,
    _json,
    _twins,
    _wire,
    binary,
    chunk_digest,
    content_digest,
    digest_text,
    from_bytes,
    from_earlier_json,
    from_json,
    messages,
    parse_digest,
    sealed,
    to_bytes,
    to_earlier_json,
    to_json,
    validate,
)
from bb_ir.plan._fields import RANGES, rows

MESSAGES = [cls for cls in vars(messages).values() if dataclasses.is_dataclass(cls)]
ENUMS = [
    cls
    for name in messages.__all__
    if isinstance(cls := getattr(messages, name), type) and issubclass(cls, IntEnum)
]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def of_row(row):
    """A strategy of the values that a field can hold."""
    if row.kind == "message":
        value = of_class(row.of)
    elif row.kind == "enum":
        value = st.sampled_from(row.of)
    else:
        value = {"string": texts, "bytes": st.binary(max_size=64)}.get(row.kind)
        value = value if value is not None else st.integers(*RANGES[row.kind])
    if row.many:
        return st.lists(value, max_size=2).map(tuple)
    return st.none() | value if row.default is None else value


def of_class(cls):
    fields = {row.name: of_row(row) for row in rows(cls) if (cls, row.name) != (Plan, "swap")}
    return st.fixed_dictionaries({}, optional=fields).map(lambda given: cls(**given))


plans = of_class(CachePlan) | of_class(SwapPlan) | of_class(Plan)
slow = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


# The schema.


@pytest.mark.parametrize("cls", MESSAGES)
def test_messages_are_those_of_the_schema(cls):
    told = plan_pb2.DESCRIPTOR.message_types_by_name[cls.__name__]
    kinds = {9: "string", 12: "bytes", 13: "uint32", 4: "uint64", 3: "int64", 14: "enum"}
    wanted = [
        (f.name, f.json_name, f.number, kinds.get(f.type, "message"), f.is_repeated)
        for f in sorted(told.fields, key=lambda f: f.number)
    ]

    ours = [(row.proto, row.json, row.number, row.kind, row.many) for row in rows(cls)]

    assert ours == wanted
    named = [f.message_type or f.enum_type for f in sorted(told.fields, key=lambda f: f.number)]
    assert [row.of and row.of.__name__ for row in rows(cls)] == [n and n.name for n in named]


@pytest.mark.parametrize("cls", MESSAGES)
def test_fields_have_the_python_types_of_their_kind(cls):
    hints = typing.get_type_hints(cls)
    plain = {"string": str, "bytes": bytes, "uint32": int, "uint64": int, "int64": int}
    for row in rows(cls):
        held = row.of or plain[row.kind]
        if row.many:
            assert hints[row.name] == tuple[held, ...]
        else:
            assert hints[row.name] == (held if row.default is not None else held | None)


def test_every_message_and_enum_of_the_schema_has_a_class():
    assert {cls.__name__ for cls in MESSAGES} == set(plan_pb2.DESCRIPTOR.message_types_by_name)
    assert {cls.__name__ for cls in ENUMS} == set(plan_pb2.DESCRIPTOR.enum_types_by_name)
    for cls in ENUMS:
        told = plan_pb2.DESCRIPTOR.enum_types_by_name[cls.__name__].values
        assert {one.name: one.number for one in told} == {m.name: m.value for m in cls}


def test_numbers_of_the_earlier_schema_are_kept():
    earlier = {
        "FileChunk": "path offset length sha256",
        "WeightManifest": "model_id version files",
        "SwapWindow": "t_start_ns t_deadline_ns",
        "KvPageRef": "tensor page head layer",
        "TransferOp": "kind src dst length src_offset dst_offset kv_refs note",
        "CachePlan": "plan_id ops prefetch evict",
        "SwapPlan": "plan_id from to ops window",
    }
    for name, fields in earlier.items():
        told = plan_pb2.DESCRIPTOR.message_types_by_name[name].fields_by_name
        assert [told[field].number for field in fields.split()] == [
            *range(1, 1 + len(fields.split()))
        ]
    kinds = ["KIND_UNSPECIFIED", "H2D", "D2H", "P2P", "STORAGE2H"]
    assert [TransferKind[kind] for kind in kinds] == [0, 1, 2, 3, 4]


# Round trips.


@slow
@given(plans)
@example(SwapPlan(ops=(TransferOp(src_offset=2**63, dst_offset=2**64 - 1, note=""),)))
@example(SwapPlan(from_=WeightManifest(), window=SwapWindow()))
def test_bytes_and_json_lose_nothing(plan):
    assert from_bytes(type(plan), to_bytes(plan)) == plan
    assert from_json(type(plan), to_json(plan)) == plan
    assert from_json(type(plan), to_json(plan).encode()) == plan


@slow
@given(plans)
def test_json_is_that_of_protobuf(plan):
    proto = getattr(plan_pb2, type(plan).__name__)
    theirs = proto.FromString(to_bytes(plan))

    assert json_format.Parse(to_json(plan), proto()) == theirs
    assert from_json(type(plan), json_format.MessageToJson(theirs)) == plan
    assert json.loads(to_json(plan)) == json_format.MessageToDict(theirs)


@slow
@given(plans)
def test_json_of_what_was_read_is_the_same_text(plan):
    shuffled = json.dumps(json.loads(to_json(plan)), indent=3, sort_keys=True)

    assert to_json(from_json(type(plan), shuffled)) == to_json(plan)


def test_canonical_json_is_this_text():
    op = TransferOp(TransferKind.H2H, "mem://ä", "mem://b", 2**63, priority=-1, fanout=3)
    plan = SwapPlan(
        "p", to=WeightManifest("m", "1", (FileChunk("w", digest=Digest(1, b"\xff")),)), ops=(op,)
    )
    plan = dataclasses.replace(plan, window=SwapWindow(0, 5))
    fixed = dataclasses.replace(
        plan,
        to=WeightManifest(
            "m", "1", (FileChunk("w", digest=Digest(DigestAlgorithm.SHA256, b"\xff")),)
        ),
    )

    assert to_json(fixed) == (
        '{"planId":"p","to":{"modelId":"m","version":"1","files":[{"path":"w","digest":'
        '{"algorithm":"SHA256","value":"/w=="}}]},"ops":[{"kind":"H2H","src":"mem://ä",'
        '"dst":"mem://b","length":"9223372036854775808","priority":"-1","fanout":3}],'
        '"window":{"tDeadlineNs":"5"}}'
    )
    with pytest.raises(PlanFormatError, match="is a int"):
        to_json(plan)


# Whole columns at a time, and value by value.


def outcome(function, *given):
    """What comes of a call: a value, or what an error of ours says."""
    try:
        return function(*given)
    except PlanFormatError as error:
        return error.found, error.expected, error.fix, error.where


def without_columns(monkeypatch):
    """Send all that is read and written through the code that looks at each value."""
    monkeypatch.setattr(_twins, "canonical", lambda _: None)
    monkeypatch.setattr(_twins, "read", lambda *_: None)
    monkeypatch.setattr(binary, "table_of", lambda *_: None)
    monkeypatch.setattr(_bulk, "read", lambda *_: None)


def both(function, *given):
    """The outcomes of a call by columns, however few messages there are, and by values."""
    with pytest.MonkeyPatch.context() as patch:
        without_columns(patch)
        slow = outcome(function, *given)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binary, "_MANY", 0)
        return outcome(function, *given), slow


@slow
@given(plans)
@example(SwapPlan(to=WeightManifest(files=(FileChunk(tensor=TensorSpan(shape=(0, 2**64 - 1))),))))
@example(CachePlan('\x00\x1f\x7f\u2028"\\/ü😀', rejected=(Rejected(), Rejected("", "", "é"))))
@example(SwapPlan(ops=(TransferOp(note=""), TransferOp(), TransferOp(deps=("", "a"), priority=-1))))
@example(CachePlan("\0", ops=tuple(TransferOp(src="a\0" * n, tenant="ä") for n in range(9))))
@example(CachePlan(ops=(TransferOp(kv_refs=(KvPageRef(), KvPageRef("x", model=Digest()))),) * 3))
def test_columns_write_what_values_do(plan):
    for write in (to_json, to_bytes):
        fast, slow = both(write, plan)
        assert fast == slow
    assert _twins.canonical(plan).decode() == _json.value_by_value(plan)
    assert _twins.read(type(plan), to_json(plan).encode()) == plan
    for fast, slow in (
        both(from_json, type(plan), to_json(plan)),
        both(from_bytes, type(plan), to_bytes(plan)),
    ):
        assert fast == slow == plan


@slow
@given(plans, st.data())
def test_columns_read_what_values_do(plan, data):
    told, whole = to_json(plan), bytearray(to_bytes(plan) or b"\0")
    at, cut = data.draw(st.integers(0, len(told))), data.draw(st.integers(0, 3))
    put = data.draw(st.sampled_from([*'"{}[]:,0-1.eE\\ tfn\0ü\ud800', ""]))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))

    for read, given_ in (
        (from_json, told[:at] + put + told[at + cut :]),
        (from_bytes, bytes(whole)),
    ):
        fast, slow = both(read, type(plan), given_)
        assert fast == slow


@pytest.mark.parametrize(
    "text",
    [
        '{"planId":""}',
        '{"nowNs":"0"}',
        '{"nowNs":""}',
        '{"nowNs":7}',
        '{"nowNs":"7","nowNs":"7"}',
        '{"nowNs":"1,2"}',
        '{"nowNs":"-0"}',
        '{"nowNs":" 1"}',
        '{"nowNs":"1_0"}',
        '{"nowNs":"\u0661"}',
        '{"nowNs":"%s"}' % ("9" * 5000),
        '{"nowNs":"18446744073709551616"}',
        '{"ops":[{"fanout":1.0}]}',
        '{"ops":[{"fanout":4294967296}]}',
        '{"ops":[{"fanout":"1"}]}',
        '{"ops":[{"kind":"KIND_UNSPECIFIED"}]}',
        '{"ops":[{"kind":"_value_"}]}',
        '{"ops":[{"note":null}]}',
        '{"ops":[{"priority":"-1"},{"priority":"1,-2"},{}]}',
        '{"ops":[null]}',
        '{"ops":[{"digest":{"value":"/x=="}}]}',
        '{"ops":[{"digest":{"value":"%s"}}]}' % ("A" * 88),
        '{"evict":[{"head":true}]}',
        '{"planId":"\\u0041"}',
        '{"planId":"%s"}' % ("x" * 5000),
        '{"planId":"\\ud800"}',
        '{"planId":"x"} ',
        '{"planId":5}',
        '{"ops":[{"note":"null"}]}',
        '{"ops":[{"digest":"null"}]}',
        '{"ops":[{"digest":{"value":5}}]}',
        '{"ops":[{"deps":[5]}]}',
        '{"ops":[{"deps":["a,b"]}]}',
        '{"ops":[{"kind":4}]}',
        '{"ops":[{"kind":"4"}]}',
        '{"ops":"null"}',
        '{"nowNs":"true"}',
        '{"nowNs":"5.0"}',
        '{"nowNs":5e0}',
        '{"nowNs":"\\u0035"}',
        '{"nowNs":"18446744073709551615"}',
        '{"planId":"a\\"b"}',
        '{"planId":"a\\u0022b"}',
        '{"ops":[{"priority":"9223372036854775808"}]}',
        '{"ops":[{"priority":"-0"}]}',
        "\ufeff{}",
        "{}",
    ],
)
def test_columns_take_nothing_that_values_refuse(text):
    for given_ in (text, text.encode("utf-8", "surrogatepass")):
        fast, slow = both(from_json, CachePlan, given_)
        assert fast == slow


#: Ops as bytes that mean something else field by field than all together.
OPS = [
    [b"\x20\x05\x20\x07", b""],  # one has its length twice, the other has none
    [b"\x20\x05", b"\x22\x01\x07"],  # as a list, which the schema does not have there
    [b"\x20\x00", b"\x20\x05"],  # a default that nobody writes
    [b"\x20\x85\x00", b"\x20\x05"],  # a number in more bytes than it needs
    [b"\x28\x01\x20\x05", b"\x20\x05"],  # in another order
    [b"\x7a\x02\x12\x00", b"\x7a\x00"],  # digests that say nothing
    [b"\x7a\x03\x12\x01x\x7a\x02\x08\x01", b""],  # a digest in two parts
    [b"\x42\x00", b"", b"\x42\x01x"],  # notes, of which one is empty
    [b"\x3a\x00\x3a\x02\x10\x05", b"", b"\x3a\x02\x18\x01"],  # two pages, none, and one
]


@pytest.mark.parametrize("ops", OPS)
def test_bytes_mean_by_columns_what_they_mean_one_by_one(ops):
    data = b"".join(b"\x12" + bytes([len(op)]) + op for op in ops)

    fast, slow = both(from_bytes, CachePlan, data)

    assert fast == slow


def test_lists_of_numbers_that_are_not_packed_are_read_too():
    for data in (b"\x18\x05", b"\x18\x05\x18\x06", b"\x1a\x02\x05\x06"):
        fast, slow = both(from_bytes, TensorSpan, data)
        assert fast == slow
        assert fast.shape[0] == 5


def test_lists_of_the_same_chunks_are_written_as_what_they_are():
    chunks = tuple(
        FileChunk(f"w{n}", 0, n, digest=Digest(DigestAlgorithm.SHA256, bytes(n))) for n in range(3)
    )
    others = (*chunks[:2], dataclasses.replace(chunks[2], length=9))
    for adds in (chunks, others, chunks[:2], tuple(reversed(chunks))):
        plan = SwapPlan(to=WeightManifest("m", "1", chunks), adds=adds, shared=chunks[:1])
        for write in (to_json, to_bytes):
            fast, slow = both(write, plan)
            assert fast == slow


def test_what_would_take_too_much_memory_is_written_one_by_one(monkeypatch):
    plan = CachePlan(ops=tuple(TransferOp(src="x" * n, deps=("a",) * n) for n in range(20)))
    told = both(to_bytes, plan)[1]
    for most in (10, 300, 1000):
        monkeypatch.setattr(_wire, "_MOST_CELLS", most)
        assert both(to_bytes, plan)[0] == told


def test_empty_texts_in_lists_are_no_numbers():
    fast, slow = both(from_json, TensorSpan, '{"shape":[""]}')

    assert fast == slow
    assert "whole number" in fast[1]


@pytest.mark.parametrize("length", [600, 1025])
def test_plans_of_many_ops_go_by_columns(monkeypatch, length):
    refs = (KvPageRef("kv", 5), KvPageRef("kv", 7, node="ü"))
    ops = tuple(
        TransferOp(
            TransferKind(1 + index % 8), f"mem://{index}", "mem://b", index,
            kv_refs=refs[: index % 3], op_id=f"{index}",
            deps=(f"{index - 1}",) * (index % 2), note=None if index % 5 else "",
            digest=Digest(DigestAlgorithm.SHA256, bytes(32)) if index % 4 else None,
        )
        for index in range(length)
    )  # fmt: skip
    plan = CachePlan("many", ops)
    told, data = _json.value_by_value(plan), both(to_bytes, plan)[1]

    def never(*args):
        raise AssertionError("one value after the other")

    for module, name in ((_json, "fit"), (_json, "_message"), (binary, "_fill"), (binary, "_read")):
        monkeypatch.setattr(module, name, never)

    assert to_json(plan) == told
    assert from_json(CachePlan, told) == plan
    assert to_bytes(plan) == data
    assert from_bytes(CachePlan, data) == plan


def test_what_columns_make_are_the_messages_themselves():
    read = from_json(CachePlan, '{"ops":[{"length":"1"}]}').ops[0]

    assert type(read) is TransferOp
    assert hash(read) == hash(TransferOp(length=1))
    assert pickle.loads(pickle.dumps(read)) == read
    with pytest.raises(dataclasses.FrozenInstanceError):
        read.length = 2


@pytest.mark.parametrize("cls", MESSAGES)
def test_messages_are_what_frozen_dataclasses_are(cls):
    told = [(field.name, field.default) for field in dataclasses.fields(cls)]
    one, names = cls(), [name for name, _ in told]

    assert told == [(row.name, row.default) for row in rows(cls)]
    assert repr(one) == f"{cls.__name__}({', '.join(f'{n}={v!r}' for n, v in told)})"
    assert dataclasses.asdict(one) == dict(told)
    assert cls(*[value for _, value in told]) == one == cls(**dict(told))
    assert one != dataclasses.replace(one, **{names[0]: "other"})
    assert hash(one) == hash(cls())
    for same in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert same == one
        assert type(same) is cls
    for change in (
        lambda: setattr(one, names[0], 1),
        lambda: setattr(one, "nothing", 1),
        lambda: delattr(one, names[0]),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            change()
    with pytest.raises(TypeError):
        cls(nothing=1)
    with pytest.raises(TypeError):
        cls(*range(len(names) + 1))


def test_collections_of_garbage_do_not_go_through_messages():
    op = TransferOp(kv_refs=(KvPageRef(),), digest=Digest())

    assert not any(map(gc.is_tracked, (op, op.kv_refs[0], op.digest)))
    assert not gc.is_tracked(from_bytes(CachePlan, to_bytes(CachePlan(ops=(op,)))).ops[0])


def test_texts_and_bytes_of_other_classes_are_written_as_such():
    class Word(str):
        __slots__ = ()

    plan = CachePlan(Word("x"), ops=(TransferOp(op_id=Word()),))

    assert to_json(plan) == '{"planId":"x","ops":[{}]}'
    assert from_bytes(CachePlan, to_bytes(plan)) == plan


# Digests.


def test_digest_is_over_name_and_canonical_json():
    plan = CachePlan("a name", now_ns=7)
    told = hashlib.sha256(b'bb.plan.v1.CachePlan\n{"nowNs":"7"}').digest()

    assert content_digest(plan) == Digest(DigestAlgorithm.SHA256, told)
    assert digest_text(content_digest(plan)) == f"sha256:{told.hex()}"
    assert content_digest(CachePlan()) != content_digest(SwapPlan())


@slow
@given(plans, plans)
def test_plans_that_say_different_things_have_different_digests(one, other):
    def said(plan):
        held = (plan.cache or plan.swap) if isinstance(plan, Plan) else plan
        return dataclasses.replace(held, plan_id="") if held else None

    if said(one) is None or said(other) is None:
        return
    assert (content_digest(one) == content_digest(other)) == (said(one) == said(other))


def test_envelope_carries_the_digest_of_its_plan():
    plan = sealed(CachePlan("x"), producer="mine 1", created_ns=5, label="for you")

    assert plan.plan_id == digest_text(content_digest(CachePlan()))
    assert validate(plan) == ()
    changed = dataclasses.replace(plan, cache=CachePlan("x", now_ns=1))
    assert [problem.rule for problem in validate(changed)] == ["envelope"]


@pytest.mark.parametrize("text", ["", "sha256:", "md5:" + "0" * 64, "sha256:" + "A" * 64, "é"])
def test_texts_that_are_no_digests(text):
    with pytest.raises(PlanFormatError, match="is no digest"):
        parse_digest(text)


def test_digest_of_a_chunk_may_stand_in_either_field():
    digest = Digest(DigestAlgorithm.SHA256, bytes(32))
    text = "sha256:" + "0" * 64

    assert chunk_digest(FileChunk(sha256=text)) == chunk_digest(FileChunk(digest=digest)) == digest
    assert chunk_digest(FileChunk(sha256=text, digest=digest)) == digest
    assert chunk_digest(FileChunk()) is None
    with pytest.raises(PlanFormatError, match="another digest"):
        chunk_digest(FileChunk(sha256="sha256:" + "1" * 64, digest=digest))
    with pytest.raises(PlanFormatError, match="sha256"):
        chunk_digest(FileChunk(sha256="blake3:" + "1" * 64))
    with pytest.raises(PlanFormatError, match="3 bytes"):
        digest_text(Digest(DigestAlgorithm.SHA256, b"abc"))


# Damage.


@slow
@given(plans, st.data())
def test_damaged_bytes_are_a_plan_or_an_error_of_ours(plan, data):
    whole = bytearray(to_bytes(plan) or b"\0")
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        read = from_bytes(type(plan), cut)
    except PlanFormatError:
        return
    assert from_bytes(type(plan), to_bytes(read)) == read


@slow
@given(plans, st.data())
def test_damaged_json_is_a_plan_or_an_error_of_ours(plan, data):
    text = to_json(plan)
    at = data.draw(st.integers(0, len(text)))
    put = data.draw(st.sampled_from('"{}[]:,0-1.eE\\ tfn\0ü\ud800') | st.just(""))
    try:
        read = from_json(type(plan), text[:at] + put + text[at + data.draw(st.integers(0, 3)) :])
    except PlanFormatError:
        return
    assert from_json(type(plan), to_json(read)) == read


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(
            st.sampled_from([r.json for c in MESSAGES for r in rows(c)]), below, max_size=4
        )
    ),
    max_leaves=12,
)


@slow
@given(anything)
def test_any_json_is_a_plan_or_an_error_of_ours(value):
    for read in (from_json, from_earlier_json):
        try:
            plan = read(SwapPlan, json.dumps(value))
        except PlanFormatError:
            continue
        validate(plan)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"planID":""}', "did you mean 'planId'"),
        ('{"planId":"","planId":""}', "comes twice"),
        ('{"planId":null}', "is null"),
        ('{"nowNs":1.0}', "is 1.0"),
        ('{"nowNs":true}', "is true"),
        ('{"nowNs":"01"}', 'is "01"'),
        ('{"nowNs":-1}', "is -1"),
        ('{"nowNs":"18446744073709551616"}', "is 18446744073709551616"),
        ('{"ops":{}}', "is an object"),
        ('{"ops":[{"kind":"h2d"}]}', "`$.ops[0].kind` is"),
        ('{"ops":[{"kind":1}]}', "is 1"),
        ('{"ops":[{"digest":{"value":"/x=="}}]}', 'is "/x=="'),
        ('{"ops":[{"digest":{"value":"é"}}]}', "base64"),
        ('{"planId":"\\ud800"}', "half a character"),
        ("[]", "is a list"),
        ("[" * 100_000, "is no JSON"),
        ('{"nowNs":' + "1" * 5_000 + "}", ""),
        ("", "is no JSON"),
        (b"\xff\xff{}", "is no JSON"),
        ('{"planId":"' + "x" * 5_000 + '"}', "5000 characters"),
    ],
)
def test_json_that_is_no_plan_is_refused(text, told):
    with pytest.raises(PlanFormatError) as caught:
        from_json(CachePlan, text)

    assert told in str(caught.value)
    assert caught.value.expected or caught.value.fix


def test_bytes_that_the_schema_does_not_have_are_refused():
    op = plan_pb2.CachePlan(ops=[plan_pb2.TransferOp()])
    unknown = b"\xf8\x01\x05"  # field 31, a number
    nested = b"\x12\x03" + unknown
    with pytest.raises(PlanFormatError, match="schema lacks"):
        from_bytes(CachePlan, unknown)
    with pytest.raises(PlanFormatError, match="schema lacks"):
        from_bytes(CachePlan, op.SerializeToString() + nested)
    with pytest.raises(PlanFormatError, match="`kind` is 99"):
        from_bytes(CachePlan, b"\x12\x02\x08\x63")
    with pytest.raises(PlanFormatError, match="cannot read"):
        from_bytes(CachePlan, b"\x0a\x01\xff")  # a text that is no UTF-8
    with pytest.raises(PlanFormatError, match="at most 64"):
        from_bytes(Digest, b"\x12\x41" + bytes(65))


@pytest.mark.parametrize(
    "plan",
    [
        CachePlan(now_ns=-1),
        CachePlan(now_ns=True),
        CachePlan(now_ns=10**5000),
        CachePlan(ops=[TransferOp()]),
        CachePlan(ops=(None,)),
        CachePlan(ops=(KvPageRef(),)),
        CachePlan(plan_id=b"x"),
        CachePlan(ops=(TransferOp(digest=Digest(value="x")),)),
        SwapPlan(to=CachePlan()),
        Plan(cache=CachePlan(), swap=SwapPlan()),
    ],
)
def test_values_that_do_not_fit_are_refused_and_named(plan):
    for write in (to_bytes, to_json):
        with pytest.raises(PlanFormatError) as caught:
            write(plan)
        assert caught.value.expected
    assert [problem.rule for problem in validate(plan)] == ["field"]


def test_what_is_too_long_is_refused_unread_and_unwritten(monkeypatch):
    monkeypatch.setattr(binary, "MAX_BYTES", 100)
    monkeypatch.setattr("bb_ir.plan.text.MAX_BYTES", 100)
    monkeypatch.setattr("bb_ir.plan._json.MAX_BYTES", 100)
    plan = CachePlan(plan_id="x" * 101)

    for write in (to_bytes, to_json):
        with pytest.raises(PlanFormatError, match=r"at most|has 1"):
            write(plan)
    for read, data in ((from_bytes, b"\0" * 101), (from_json, " " * 101)):
        with pytest.raises(PlanFormatError, match="has 101 bytes"):
            read(CachePlan, data)


# The earlier form.


def test_earlier_cache_plan_field_by_field():
    op = TransferOp(
        TransferKind.H2D, "tier://n0/tier0", "tier://n0/tier1", 4096, 4096, 4096,
        (KvPageRef("qkv", 1, 2, 3),), "cluster=0 fanout=1 overlap=1", op_id="new", fanout=2,
    )  # fmt: skip

    text = to_earlier_json(CachePlan("cache-1", (op,), (KvPageRef("kv", 9),), now_ns=5))

    assert (
        text
        == """\
{
  "plan_id": "cache-1",
  "ops": [
    {
      "kind": "H2D",
      "src": "tier://n0/tier0",
      "dst": "tier://n0/tier1",
      "length": 4096,
      "src_offset": 4096,
      "dst_offset": 4096,
      "kv_refs": [
        {
          "tensor": "qkv",
          "page": 1,
          "head": 2,
          "layer": 3
        }
      ],
      "note": "cluster=0 fanout=1 overlap=1"
    }
  ],
  "prefetch": [
    {
      "tensor": "kv",
      "page": 9,
      "head": 0,
      "layer": 0
    }
  ],
  "evict": []
}"""
    )


def test_earlier_swap_plan_field_by_field():
    old = WeightManifest("demo", "prev", (FileChunk("old/e.bin", 0, 15, "sha256:5d73"),))
    op = TransferOp(TransferKind.STORAGE2H, "file:///new/e.bin", "device://bucket/0", 18)
    plan = SwapPlan("swap-next", old, WeightManifest("demo", "next"), (op,), SwapWindow(1, 2))

    told = json.loads(to_earlier_json(plan))

    assert [*told] == ["plan_id", "manifest_from", "manifest_to", "ops", "window"]
    assert [*told["manifest_from"]] == ["model_id", "version", "files"]
    file = {"path": "old/e.bin", "offset": 0, "length": 15, "sha256": "sha256:5d73"}
    assert list(told["manifest_from"]["files"][0].items()) == list(file.items())
    assert told["ops"][0]["note"] is None
    assert told["ops"][0]["kv_refs"] == []
    assert list(told["window"].items()) == [("t_start_ns", 1), ("t_deadline_ns", 2)]
    assert from_earlier_json(SwapPlan, to_earlier_json(plan)) == plan


def test_earlier_reader_takes_the_other_names_and_what_is_missing():
    text = """{"plan_id": "s", "from": {"version": "v0"}, "to": {"version": "v1"},
        "ops": [{"src": "a", "dst": "b", "length": 16}],
        "window": {"start_ns": 0, "deadline_ns": 1000000}}"""

    plan = from_earlier_json(SwapPlan, text)

    assert plan == SwapPlan(
        "s", WeightManifest(version="v0"), WeightManifest(version="v1"),
        (TransferOp(TransferKind.STORAGE2H, "a", "b", 16),), SwapWindow(0, 1_000_000),
    )  # fmt: skip
    empty = SwapPlan(from_=WeightManifest(), to=WeightManifest(), window=SwapWindow())
    assert from_earlier_json(SwapPlan, "{}") == empty
    assert from_earlier_json(SwapPlan, to_earlier_json(SwapPlan())) == empty
    assert from_earlier_json(CachePlan, "{}") == CachePlan()


@pytest.mark.parametrize(
    "text",
    [
        '{"id": "x"}',
        '{"to": {}, "manifest_to": {}}',
        '{"ops": [{"kind": "NET2H"}]}',
        '{"ops": [{"length": "16"}]}',
        '{"ops": [{"digest": {}}]}',
        '{"ops": 3}',
        '{"window": []}',
        '{"window": {"t_start_ns": -1}}',
    ],
)
def test_earlier_reader_refuses_what_it_would_lose(text):
    with pytest.raises(PlanFormatError) as caught:
        from_earlier_json(SwapPlan, text)
    assert caught.value.expected


def test_earlier_writer_has_no_words_for_newer_kinds():
    with pytest.raises(PlanFormatError, match="NET2H"):
        to_earlier_json(CachePlan(ops=(TransferOp(TransferKind.NET2H),)))
