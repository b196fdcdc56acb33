"""Lists and records of tensors, parameters, bytes, peers and plugins' values, there and back."""

import contextlib
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bb_ir.errors import WireError
from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bb_ir.types import (
    ANY,
    BYTES,
    PARAMS,
    TRIGGER,
    Type,
    custom,
    custom_names,
    list_of,
    local,
    params,
    parse_type,
    peers,
    record,
    scalar,
    senders,
    tensor,
)
from bb_ir.values import MAX_VALUES, NO_CODECS, Encoded, ValueCodec, decode_value, encode_value

INT64, FLOAT64, BOOL, STRING = (scalar(kind) for kind in ("int64", "float64", "bool", "string"))
PEERS = [PeerId.from_seed(b"containers", n) for n in range(3)]


class Word:
    """A value of a plugin's type: a text in capitals."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Word) and other.text == self.text

    __hash__ = None


def read_word(data: memoryview) -> Word:
    text = bytes(data).decode("ascii")
    if text != text.upper():
        raise ValueError(f"{text!r} is not in capitals")
    return Word(text)


WORD = ValueCodec(
    "test.word/1", lambda v: isinstance(v, Word), lambda v: v.text.encode("ascii"), read_word, 8
)
CODECS = {WORD.name: WORD}
WORDS = custom(WORD.name)


def encode(value, declared: Type, codecs=CODECS) -> bytes:
    data, codec, shape = encode_value(value, declared, codecs)
    assert (codec, shape) == (0, ())
    return bytes(data)


def decode(declared: Type, data, codecs=CODECS):
    return decode_value(declared, 0, data, (), codecs)


def refusal(value, declared: Type, codecs=CODECS) -> WireError:
    with pytest.raises(WireError) as caught:
        encode_value(value, declared, codecs)
    return caught.value


def rejected(declared: Type, data: bytes, codecs=CODECS) -> WireError:
    with pytest.raises(WireError) as caught:
        decode(declared, data, codecs)
    return caught.value


def same(a, b) -> bool:
    """Equal, and of the same types all the way down."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[name], b[name]) for name in a)
    return a == b


# --- any type with a value of it -------------------------------------------------------------

names = st.sampled_from(["a", "b", "loss", "ü", "layer.0/w"])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
arrays = st.sampled_from(["float32", "float64", "int8", "bool", "uint16"]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
)


def tensor_type(array) -> st.SearchStrategy[Type]:
    return st.sampled_from(
        [tensor(), tensor(array.dtype.name), tensor(array.dtype.name, array.shape)]
    )


singles = st.one_of(
    arrays.flatmap(lambda array: st.tuples(tensor_type(array), st.just(array))),
    st.dictionaries(names, arrays, min_size=1, max_size=2)
    .map(ParameterSet.from_tensors)
    .flatmap(lambda one: st.tuples(st.sampled_from([PARAMS, one.layout.type]), st.just(one))),
    st.tuples(st.just(BYTES), st.binary(max_size=99)),
    st.tuples(st.just(peers("client")), st.lists(st.sampled_from(PEERS), max_size=3).map(tuple)),
    st.tuples(st.just(WORDS), st.text("ABC", max_size=8).map(Word)),
    st.tuples(st.just(INT64), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just(FLOAT64), st.floats(allow_nan=False)),
    st.tuples(st.just(BOOL), st.booleans()),
    st.tuples(st.just(STRING), texts),
    st.tuples(st.just(TRIGGER), st.none()),
    st.tuples(st.just(record()), st.dictionaries(texts, st.integers(0, 9), max_size=2)),
)


def in_record(fields: dict) -> tuple[Type, dict]:
    return record({n: t for n, (t, _) in fields.items()}), {n: v for n, (_, v) in fields.items()}


def in_list(one: tuple[Type, object], length: int) -> tuple[Type, list]:
    return list_of(one[0]), [one[1]] * length


typed = st.recursive(
    singles,
    lambda inner: (
        st.dictionaries(names, inner, max_size=3).map(in_record)
        | st.builds(in_list, inner, st.integers(0, 3))
    ),
    max_leaves=6,
).filter(lambda one: one[0].kind in ("list", "record"))


@given(typed)
def test_containers_come_back(one):
    declared, value = one

    back = decode(declared, encode(value, declared))

    assert same(back, value)


@given(typed)
def test_what_a_type_says_is_sendable_is_sent(one):
    declared, value = one

    assert declared.sendable
    assert encode(value, parse_type(str(declared))) == encode(value, declared)


@given(typed, st.data())
def test_changed_bytes_are_a_value_of_the_type_or_rejected(one, data):
    declared, value = one
    changed = bytearray(encode(value, declared))
    places = st.integers(0, max(0, len(changed) - 1))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(places)
        cut = data.draw(st.sampled_from([0, 0, 1, 2, 64]))
        changed[at : at + cut] = data.draw(st.binary(max_size=3) | st.just(b"\xff" * 9))

    try:
        found = decode(declared, bytes(changed))
    except WireError:
        return
    assert encode(found, declared)


@given(typed, st.binary(max_size=200))
def test_bytes_from_a_stranger_are_decoded_or_rejected(one, data):
    with contextlib.suppress(WireError):
        assert encode(decode(one[0], data), one[0])


# --- the form --------------------------------------------------------------------------------


def test_the_bytes_are_what_they_were():
    declared = record({"n": INT64, "w": list_of(tensor("uint8", (None,)))})
    value = {"n": 1, "w": [np.array([7, 8], np.uint8), np.array([9], np.uint8)]}

    head = bytes([8, 2, 2, 2, 1, 2, 1, 2, 1, 1])
    whole = struct.pack("<I", len(head)) + head
    whole += bytes(64 - len(whole))
    whole += struct.pack("<q", 1) + bytes(56) + b"\x07\x08" + bytes(62) + b"\x09"
    assert encode(value, declared) == whole


def test_tensors_and_parameters_are_aligned_read_only_views_of_the_buffer():
    weights = ParameterSet.from_tensors({"w": np.arange(1000, dtype=np.float32)})
    declared = record({"name": STRING, "delta": PARAMS, "grads": list_of(tensor("float64"))})
    value = {"name": "x", "delta": weights, "grads": [np.ones(3), np.zeros((2, 2))]}
    buffer = np.frombuffer(encode(value, declared), np.uint8)

    back = decode(declared, buffer.data)

    for array in (*back["grads"], back["delta"]["w"]):
        assert np.shares_memory(array, buffer)
        assert not array.flags.writeable
        assert (array.ctypes.data - buffer.ctypes.data) % 64 == 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True


@pytest.mark.parametrize(
    "text",
    ["record", "list(record)", "record(a:int64,b:list(string))", "record(a:record,b:trigger)"],
)
def test_containers_of_plain_data_keep_their_form(text):
    value = {"a": 1} if text == "record" else None
    value = value or ([{"a": 1}] if text.startswith("list") else None)
    value = value or ({"a": 1, "b": ["x"]} if "string" in text else {"a": {"x": 2}, "b": None})

    data = encode(value, parse_type(text))

    assert data[0] in (0x32, 0x3A)  # the tags of a list and a record in a protobuf `Value`
    assert decode(parse_type(text), data) == value


def test_what_is_larger_than_plain_data_may_be_stands_in_a_typed_record():
    declared = record({"image": BYTES, "label": INT64})
    value = {"image": bytes(3 << 20), "label": 4}

    assert decode(declared, encode(value, declared)) == value


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text", "part"),
    [
        ({"a": [np.zeros(2)]}, "record(a:list(tensor(float32)))", "value.a[0]: The tensor holds"),
        ({"a": np.zeros(2)}, "record(a:tensor[3])", "value.a: The tensor has the shape [2]"),
        ({"a": 1}, "record(a:params)", "value.a: The value is of type int"),
        ({}, "record(a:params)", "lacks a"),
        ({"a": b"", "b": 1}, "record(a:bytes)", "has b besides"),
        ([("a", b"")], "record(a:bytes)", "type list"),
        (b"ab", "list(bytes)", "type bytes"),
        ([["x"]], "list(list(peers(client)))", "value[0][0]: The value is of type str"),
        ([{"a": "x"}], "list(record(a:custom(test.word/1)))", "value[0].a: The value is of type"),
        ([Word("abcdefghi")], "list(custom(test.word/1))", "takes 9 bytes"),
        ([b""] * MAX_VALUES, "list(bytes)", "more than 65536 values"),
    ],
)
def test_a_value_that_does_not_fit_names_its_place(value, text, part):
    assert part in refusal(value, parse_type(text)).found


def test_a_list_that_contains_itself_is_refused():
    loop: list[object] = []
    loop.append(loop)

    assert "value[0][0]" in refusal(loop, list_of(list_of(BYTES))).found


@pytest.mark.parametrize(
    "declared",
    [list_of(ANY), record({"a": PARAMS, "b": ANY}), record({"a": tensor(), "b": senders("c")}),
     list_of(local("x")), record({"a": custom("")})],
    ids=str,
)  # fmt: skip
def test_what_is_not_sendable_is_refused_both_ways(declared):
    assert not declared.sendable
    assert refusal(1, declared).fix
    assert rejected(declared, b"").fix


def whole(head: bytes, body: bytes = b"", *, length: int | None = None) -> bytes:
    start = struct.pack("<I", len(head) if length is None else length) + head
    return start + bytes(-len(start) % 64) + body


@pytest.mark.parametrize(
    ("text", "data", "part"),
    [
        ("list(bytes)", b"", "0 bytes"),
        ("list(bytes)", b"\x00\x00\x00\x00", "breaks off: there are 4 of 64"),
        ("list(bytes)", whole(b"", length=2**32 - 1), "4294967295 bytes to describe"),
        ("list(bytes)", whole(b"", length=61), "breaks off"),
        ("list(bytes)", whole(b""), "end inside a varint"),
        ("list(bytes)", whole(b"\xff" * 8 + b"\x7f"), "items breaks off"),
        ("list(bytes)", whole(b"\x80\x00"), "not the shortest"),
        ("list(bytes)", whole(b"\x02\x00"), "2 items breaks off"),
        ("list(bytes)", whole(b"\x01\x02", b"x"), "2 bytes breaks off"),
        ("list(bytes)", whole(b"\x01\x01", b"xy"), "after its last value"),
        ("list(bytes)", whole(b"\x00\x00"), "after its last value"),
        ("list(tensor)", whole(b"\x01\x00\x01" + b"\xff" * 8 + b"\x7f"), "dimensions breaks off"),
        ("list(tensor)", whole(b"\x01\x00\x01\x02\x00\xff" + b"\xff" * 7 + b"\x7f"), "shape"),
        ("list(tensor)", whole(b"\x01\x04\x63\x01\x01", b"abcd"), "elements of number 99"),
        ("list(tensor(float32)[2])", whole(b"\x01\x04\x01\x01\x01", b"abcd"), "shape [1]"),
        ("list(tensor)", whole(b"\x01\x00\x01\x09" + b"\x00" * 9), "9 dimensions"),
        ("record(a:custom(test.word/1))", whole(b"\x03", b"abc"), "not in capitals"),
        ("record(a:custom(test.word/1))", whole(b"\x09", b"ABCDEFGHI"), "takes 9 bytes"),
        ("record(a:params)", whole(b"\x03", b"abc"), "image is damaged"),
        ("list(list(bytes))", whole(b"\x01"), "1 items breaks off"),
    ],
)
def test_damaged_bytes_are_rejected(text, data, part):
    assert part in rejected(parse_type(text), data).found


def test_more_values_than_allowed_are_rejected():
    head = b"\x80\x80\x04" + bytes(MAX_VALUES)

    assert "more than 65536 values" in rejected(list_of(BYTES), whole(head)).found


def test_a_claim_of_many_items_allocates_nothing():
    data = whole(b"\xff" * 8 + b"\x7f" + bytes(100))
    rejected(list_of(tensor()), data)

    tracemalloc.start()
    try:
        rejected(list_of(tensor()), data)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


# --- types of plugins ------------------------------------------------------------------------


def test_a_plugins_value_comes_back():
    assert decode(WORDS, encode(Word("AB"), WORDS)) == Word("AB")


def test_a_lent_buffer_is_not_copied():
    array = np.arange(4, dtype=np.int32)
    lending = ValueCodec("test.lent/1", lambda _: True, lambda v: v, lambda data: data, 99)

    found = encode_value(array, custom("test.lent/1"), {lending.name: lending}).data

    assert isinstance(found, memoryview)
    assert found.readonly
    assert np.shares_memory(np.asarray(found), array)
    back = decode_value(custom("test.lent/1"), 0, found, (), {lending.name: lending})
    assert back.readonly
    assert np.shares_memory(np.asarray(back), array)


def test_an_empty_buffer_of_any_kind_is_no_bytes():
    lending = ValueCodec("test.lent/1", lambda _: True, lambda v: v, bytes, 99)

    assert encode_value(np.zeros((0, 3)), custom("test.lent/1"), {lending.name: lending}) == (
        Encoded(b"")
    )


def test_a_value_of_another_class_is_refused():
    error = refusal("AB", WORDS)

    assert "type str" in error.found
    assert error.expected == "custom(test.word/1)"


def test_the_limit_is_checked_before_the_codec_runs():
    ran = []
    codec = ValueCodec("test.word/1", lambda _: True, str.encode, ran.append, 8)

    assert "takes 9 bytes" in rejected(WORDS, b"A" * 9, {codec.name: codec}).found
    assert ran == []
    assert rejected(WORDS, b"A" * 9).expected.startswith("at most 8 bytes")


def test_a_codec_that_raises_is_a_wire_error_that_names_the_type():
    assert "custom(test.word/1)" in refusal(Word("ä"), WORDS).found
    assert isinstance(refusal(Word("ä"), WORDS).__cause__, UnicodeEncodeError)
    assert "not in capitals" in rejected(WORDS, b"ab").found
    assert isinstance(rejected(WORDS, b"ab").__cause__, ValueError)


@pytest.mark.parametrize("given", [None, "text", np.zeros((4, 4))[:, 1]], ids=str)
def test_a_codec_that_gives_no_buffer_is_a_wire_error(given):
    codec = ValueCodec("test.word/1", lambda _: True, lambda _: given, bytes, 999)

    assert "cannot encode" in refusal(1, WORDS, {codec.name: codec}).found


def test_a_codec_that_makes_something_else_is_rejected():
    codec = ValueCodec("test.word/1", lambda v: isinstance(v, Word), bytes, bytes, 8)

    assert "made a bytes" in rejected(WORDS, b"A", {codec.name: codec}).found


def test_a_type_without_a_codec_names_those_there_are():
    other = custom("test.word/2")

    assert "custom(test.word/2)" in refusal(Word("A"), other).found
    assert refusal(Word("A"), other).expected == "one of test.word/1"
    assert "custom(test.word/2)" in rejected(other, b"A").found
    assert refusal(Word("A"), WORDS, NO_CODECS).expected == "one of none"


def test_names_of_plugins_types_are_found_wherever_they_stand():
    text = "record(a:list(custom(x/1)),b:custom(y/2),c:record(d:custom(x/1)),e:params)"

    assert custom_names(parse_type(text)) == ("x/1", "y/2")
    assert custom_names(params({"w": tensor()})) == custom_names(ANY) == ()
