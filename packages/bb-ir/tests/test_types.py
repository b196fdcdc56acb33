"""The lattice of types: its laws, its text, its edges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb_ir import types
from bb_ir.errors import TypeTextError
from bb_ir.types import (
    ANY,
    BYTES,
    ONNX_DTYPES,
    PARAMS,
    SCALARS,
    TRIGGER,
    Type,
    accepts,
    custom,
    list_of,
    local,
    meet,
    params,
    parse_type,
    peers,
    record,
    scalar,
    senders,
    tensor,
)

NAMES = st.sampled_from(["a", "b", "loss", "layer.0/weight", "acme.graph/1", "ünï"])
DIMS = st.one_of(st.none(), st.integers(0, 3), st.sampled_from(["n", "m", "batch"]))
TENSORS = st.builds(
    tensor,
    st.sampled_from(["", "float32", "int64"]),
    st.none() | st.lists(DIMS, max_size=2).map(tuple),
)
FLAT = st.one_of(
    st.sampled_from([ANY, BYTES, PARAMS, TRIGGER, *map(scalar, SCALARS)]),
    TENSORS,
    st.builds(peers, st.sampled_from(["", "client", "server"])),
    st.builds(senders, st.sampled_from(["", "client"])),
    st.builds(local, NAMES),
    st.builds(custom, st.sampled_from(["", "a/1", "a/2", "acme.graph/1"])),
)
TYPES = st.recursive(
    FLAT,
    lambda inner: st.one_of(
        st.builds(list_of, inner),
        st.builds(record, st.none() | st.dictionaries(NAMES, inner, max_size=2)),
        st.builds(params, st.dictionaries(NAMES, TENSORS, max_size=2)),
        st.builds(local, NAMES, st.dictionaries(NAMES, inner, max_size=2)),
    ),
    max_leaves=4,
)


@given(TYPES)
def test_text_gives_the_type_back(value):
    assert parse_type(str(value)) == value


@given(TYPES, TYPES)
def test_meet_is_commutative(a, b):
    assert meet(a, b) == meet(b, a)


@given(TYPES, TYPES, TYPES)
def test_meet_is_associative(a, b, c):
    def all_of(x, y, z):
        met = meet(x, y)
        return None if met is None else meet(met, z)

    assert all_of(a, b, c) == all_of(b, c, a)


@given(TYPES)
def test_meet_with_itself_is_itself(a):
    assert meet(a, a) == a
    assert accepts(a, a)


@given(TYPES, TYPES)
def test_both_accept_what_they_meet_in(a, b):
    met = meet(a, b)

    assert met is None or (accepts(a, met) and accepts(b, met))


@given(TYPES, TYPES)
def test_what_accepts_another_meets_it(a, b):
    if accepts(a, b):
        assert meet(a, b) is not None


@given(TYPES, TYPES, TYPES)
def test_accepts_is_transitive(a, b, c):
    if accepts(a, b) and accepts(b, c):
        assert accepts(a, c)


@given(TYPES)
def test_any_accepts_everything(a):
    assert accepts(ANY, a)
    assert meet(ANY, a) == a


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (tensor(), "tensor"),
        (tensor("float32"), "tensor(float32)"),
        (tensor("float32", (None, 64, "n")), "tensor(float32)[?,64,n]"),
        (tensor("", ()), "tensor[]"),
        (peers(), "peers"),
        (peers("client"), "peers(client)"),
        (list_of(tensor("int64", (3,))), "list(tensor(int64)[3])"),
        (record(), "record"),
        (record({}), "record()"),
        (record({"a": scalar("int64"), "b": ANY}), "record(a:int64,b:any)"),
        (params({"w": tensor("float32", (2, 3))}), "params(w:tensor(float32)[2,3])"),
        (local("batches"), "local(batches)"),
        (local("batches", {}), "local(batches)"),
        (local("x", {"a": tensor(), "b": ANY}), "local(x,a:tensor,b:any)"),
        (custom("acme.graph/1"), "custom(acme.graph/1)"),
    ],
)
def test_text_is_short(value, text):
    assert str(value) == text
    assert parse_type(text) == value


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("tensor", "tensor(float32)", "tensor(float32)"),
        ("tensor(float32)[?,64]", "tensor[8,?]", "tensor(float32)[8,64]"),
        ("tensor[n]", "tensor[?]", "tensor[n]"),
        ("tensor[n]", "tensor[4]", "tensor[4]"),
        ("tensor[n]", "tensor[m]", "tensor[m]"),
        ("tensor(float32)", "tensor(int64)", None),
        ("tensor[2]", "tensor[3]", None),
        ("tensor[2]", "tensor[2,2]", None),
        ("tensor", "params", None),
        ("peers", "peers(client)", "peers(client)"),
        ("peers(client)", "peers(server)", None),
        ("list(any)", "list(int64)", "list(int64)"),
        ("list(int64)", "list(float64)", None),
        ("record", "record(a:int64)", "record(a:int64)"),
        ("record(a:any)", "record(a:int64)", "record(a:int64)"),
        ("record(a:int64)", "record(b:int64)", None),
        ("record(a:int64)", "record(a:float64)", None),
        ("params", "params(w:tensor)", "params(w:tensor)"),
        ("int64", "float64", None),
        ("local(x)", "local(x,a:tensor)", "local(x,a:tensor)"),
        ("local(x,a:tensor[n])", "local(x,a:tensor[3])", "local(x,a:tensor[3])"),
        ("local(x,a:tensor)", "local(y,a:tensor)", None),
        ("local(x,a:tensor)", "local(x,b:tensor)", None),
    ],
)
def test_meet(a, b, expected):
    met = meet(parse_type(a), parse_type(b))

    assert met == (None if expected is None else parse_type(expected))


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("tensor[n]", "tensor[m]", True),
        ("tensor[m]", "tensor[n]", True),
        ("tensor[n]", "tensor[?]", True),
        ("tensor[?]", "tensor[n]", True),
        ("tensor[4]", "tensor[n]", False),
        ("tensor[n]", "tensor", False),
        ("tensor", "tensor[n]", True),
        ("tensor(float32)", "tensor", False),
        ("any", "local(x)", True),
        ("local(x)", "local(x,a:tensor)", True),
        ("local(x,a:tensor)", "local(x)", False),
        ("record", "record(a:int64)", True),
        ("record(a:any)", "record(a:int64)", True),
        ("record(a:int64)", "record(a:any)", False),
        ("peers(client)", "peers", False),
    ],
)
def test_accepts(wide, narrow, expected):
    assert accepts(parse_type(wide), parse_type(narrow)) is expected


@pytest.mark.parametrize(
    ("value", "sendable"),
    [
        (tensor(), True),
        (record(), True),
        (TRIGGER, True),
        (peers("client"), True),
        (ANY, False),
        (local("batches"), False),
        (local("batches", {"inputs": tensor("float32", (2,))}), False),
        (senders("client"), False),
        (list_of(ANY), False),
        (list_of(senders()), False),
        (record({"a": scalar("int64"), "b": local("x")}), False),
        (record({"a": scalar("int64")}), True),
        (custom("acme.graph/1"), True),
        (custom(""), False),
        (record({"a": list_of(custom("acme.graph/1")), "b": tensor()}), True),
    ],
)
def test_sendable(value, sendable):
    assert value.sendable is sendable


def test_fields_of_records():
    known = record({"loss": scalar("float64")})

    assert known.field("loss") == scalar("float64")
    assert known.field("accuracy") is None
    assert record().field("accuracy") == ANY


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "a name"),
        ("tensr", "tensor, params"),
        ("tensor(float33)", "float32, uint8"),
        ("tensor(float32", "')'"),
        ("tensor(float32)[2", "']'"),
        ("tensor[2 3]", "']'"),
        ("tensor x", "the end of the text"),
        ("list", "'('"),
        ("record(a)", "':'"),
        ("record(a:int64", "')'"),
        ("peers()", "a name"),
        ("list(" * 40 + "any" + ")" * 40, "at most 16 deep"),
        ("tensor[9223372036854775808]", "a length up to 9223372036854775807"),
        ("tensor[" + "9" * 5_000 + "]", "a length up to 9223372036854775807"),
    ],
)
def test_text_that_is_no_type(text, expected):
    with pytest.raises(TypeTextError) as caught:
        parse_type(text)

    assert expected in caught.value.expected
    assert len(caught.value.found) < 200


def test_a_long_text_is_read_and_not_remembered():
    """Whoever sends artifacts chooses their texts, and must not fill the memory with them."""
    long = params({f"layer.{number}": tensor("float32", (number,)) for number in range(1_000)})
    before = types._parse.cache_info().currsize

    assert parse_type(str(long)) == long
    assert types._parse.cache_info().currsize == before


@given(st.text("tensor()[]record,:?2 list", max_size=30))
def test_any_text_is_a_type_or_a_typed_error(text):
    try:
        found = parse_type(text)
    except TypeTextError:
        return
    assert parse_type(str(found)) == found


@pytest.mark.parametrize(
    "make",
    [
        lambda: tensor("float33"),
        lambda: tensor("float32", (-1,)),
        lambda: tensor("float32", (1 << 63,)),
        lambda: tensor("float32", (True,)),
        lambda: tensor("float32", ("?",)),
        lambda: tensor("float32", ("12",)),
        lambda: tensor("float32", (1.5,)),
        lambda: scalar("float32"),
        lambda: peers("a b"),
        lambda: senders("a,b"),
        lambda: local("a:b"),
        lambda: local("", {"a": tensor()}),
        lambda: local("x", {"a:b": tensor()}),
        lambda: custom("a(b"),
        lambda: custom("acme.graph"),
        lambda: custom("acme.graph/"),
        lambda: custom("acme.graph/0"),
        lambda: custom("acme.graph/01"),
        lambda: custom("acme.graph/1.2"),
        lambda: custom("acme graph/1"),
        lambda: custom("acme..graph/1"),
        lambda: custom("graphe\u0301/1"),
        lambda: record({"a:b": ANY}),
        lambda: record({"": ANY}),
        lambda: params({"a]": tensor()}),
    ],
)
def test_what_could_not_be_read_back_is_not_made(make):
    with pytest.raises(TypeTextError):
        make()


def test_element_types_have_the_numbers_of_onnx():
    from onnx import TensorProto

    names = {"float32": "FLOAT", "float64": "DOUBLE"}
    for name, number in ONNX_DTYPES.items():
        assert TensorProto.DataType.Value(names.get(name, name.upper())) == number


def test_types_are_values():
    assert {tensor("float32"), tensor("float32")} == {Type("tensor", "float32")}
    with pytest.raises(AttributeError):
        tensor().kind = "any"
