"""Values as bytes: every type there and back, and what is refused on either side."""

import contextlib
import subprocess
import sys
import typing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb_ir._proto.core_pb2 import Value
from bb_ir.errors import WireError
from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bb_ir.types import (
    ANY,
    BYTES,
    ONNX_DTYPES,
    PARAMS,
    TRIGGER,
    Type,
    custom,
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
from bb_ir.values import MAX_PLAIN_BYTES, Encoded, decode_value, encode_value
from bb_testing.strategies import plain_data, tensors

NUMERIC = [name for name in ONNX_DTYPES if name not in {"string", "bfloat16"}]
INT64, FLOAT64, BOOL, STRING = (scalar(kind) for kind in ("int64", "float64", "bool", "string"))
METRICS = record({"examples": INT64, "loss": FLOAT64})

int64s = st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
plain = plain_data()
KINDS = [
    tensor(), tensor("float32", ("n", 2)), tensor("bool"), PARAMS, params({"w": tensor("float32")}),
    INT64, FLOAT64, BOOL, STRING, BYTES, TRIGGER, peers("client"), list_of(INT64),
    list_of(record()), record(), METRICS, record({"inner": METRICS, "names": list_of(STRING)}),
]  # fmt: skip


def there_and_back(value, declared: Type):
    data, codec, shape = encode_value(value, declared)
    return decode_value(declared, codec, memoryview(bytes(data)), shape)


def refusal(value, declared: Type) -> WireError:
    with pytest.raises(WireError) as caught:
        encode_value(value, declared)
    return caught.value


def rejected(declared: Type, data: bytes, codec: int = 0, shape: tuple[int, ...] = ()) -> WireError:
    with pytest.raises(WireError) as caught:
        decode_value(declared, codec, data, shape)
    return caught.value


def same(a, b) -> bool:
    """Equal, and of the same types all the way down: 1, 1.0 and True differ."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[name], b[name]) for name in a)
    return a == b


# --- scalars ---------------------------------------------------------------------------------


@given(int64s)
def test_integers_come_back(value):
    assert same(there_and_back(value, INT64), value)


@given(st.floats(allow_nan=False))
def test_floats_come_back(value):
    assert same(there_and_back(value, FLOAT64), value)


@given(st.binary(max_size=100))
def test_bytes_come_back(value):
    assert same(there_and_back(value, BYTES), value)


@given(texts)
def test_texts_come_back(value):
    assert same(there_and_back(value, STRING), value)


@pytest.mark.parametrize(
    ("value", "declared", "data"),
    [
        (1, INT64, "0100000000000000"),
        (-2, INT64, "feffffffffffffff"),
        (1.0, FLOAT64, "000000000000f03f"),
        (True, BOOL, "01"),
        ("ä", STRING, "c3a4"),
        (b"\x00a", BYTES, "0061"),
        (None, TRIGGER, ""),
    ],
)
def test_the_bytes_are_what_they_were(value, declared, data):
    assert encode_value(value, declared) == Encoded(bytes.fromhex(data), 0, ())
    assert same(there_and_back(value, declared), value)


@pytest.mark.parametrize(
    ("value", "declared", "plain_value"),
    [
        (np.int8(-3), INT64, -3),
        (np.uint64(7), INT64, 7),
        (np.array(7), INT64, 7),
        (np.float32(0.5), FLOAT64, 0.5),
        (np.int64(2), FLOAT64, 2.0),
        (3, FLOAT64, 3.0),
        (np.True_, BOOL, True),
        (np.str_("x"), STRING, "x"),
        (np.bytes_(b"x"), BYTES, b"x"),
        (bytearray(b"xy"), BYTES, b"xy"),
        (memoryview(b"a-b-")[::2], BYTES, b"ab"),
        (memoryview(np.zeros((2, 0))), BYTES, b""),
        ("anything", TRIGGER, None),
    ],
)
def test_a_value_that_means_the_same_is_taken(value, declared, plain_value):
    assert same(there_and_back(value, declared), plain_value)


@pytest.mark.parametrize(
    ("value", "declared"),
    [
        (True, INT64),
        (1.0, INT64),
        ("1", INT64),
        (2**63, INT64),
        (np.uint64(2**63), INT64),
        (np.array([1]), INT64),
        (np.datetime64(1, "ns"), INT64),
        (None, FLOAT64),
        (True, FLOAT64),
        (10**400, FLOAT64),
        (1j, FLOAT64),
        (1, BOOL),
        (b"x", STRING),
        ("\ud800", STRING),
        ("x", BYTES),
        (np.zeros(2, np.uint8), BYTES),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_name(value, declared):
    error = refusal(value, declared)

    assert error.expected == str(declared)
    assert "The value is" in error.found


def test_a_long_value_is_not_printed_whole():
    assert len(refusal("x" * 10_000, INT64).found) < 100


@pytest.mark.parametrize(
    ("declared", "data"),
    [
        (INT64, bytes(7)),
        (FLOAT64, bytes(9)),
        (BOOL, b""),
        (BOOL, b"\x02"),
        (STRING, b"\xff"),
        (STRING, b"\xed\xa0\x80"),
        (TRIGGER, b"x"),
    ],
)
def test_bytes_of_another_size_or_range_are_rejected(declared, data):
    assert rejected(declared, data).expected == str(declared)


@pytest.mark.parametrize("declared", [INT64, BYTES, TRIGGER, PARAMS, METRICS, peers()], ids=str)
def test_codec_and_shape_belong_to_tensors(declared):
    assert "codec 1" in rejected(declared, b"", codec=1).found
    assert "1 dimensions" in rejected(declared, b"", shape=(1,)).found


def test_whole_bytes_are_not_copied():
    value = b"x" * 10_000

    assert encode_value(value, BYTES).data is value
    assert decode_value(BYTES, 0, memoryview(value)) is value
    assert decode_value(BYTES, 0, memoryview(value)[1:]) == value[1:]


def test_any_contiguous_buffer_can_be_decoded():
    buffer = memoryview(np.array([[513]], "<i8"))

    assert decode_value(INT64, 0, buffer) == 513


# --- tensors ---------------------------------------------------------------------------------

arrays = tensors(st.sampled_from(NUMERIC), finite=False)


@given(arrays)
def test_tensors_come_back_bit_by_bit(array):
    back = there_and_back(array, tensor())

    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()


@given(arrays)
def test_a_declared_type_fits_its_own_tensor_alone(array):
    declared = tensor(array.dtype.name, array.shape)

    data, codec, shape = encode_value(array, declared)

    assert codec == ONNX_DTYPES[array.dtype.name]
    assert shape == array.shape
    rejected(declared, bytes(data), codec, (*shape, 1))
    rejected(declared, bytes(data) + b"\0", codec, shape)
    rejected(declared, bytes(data), codec % 7 + 1, shape)


def test_bfloat16_comes_back():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = np.array([1.5, -2], ml_dtypes.bfloat16)

    back = there_and_back(array, tensor("bfloat16"))

    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(6.0).reshape(2, 3).T,
        np.arange(12.0)[::2],
        np.arange(3, dtype=">f4"),
        np.float32(2.5),
        np.array(7),
        np.zeros((0, 3)),
    ],
    ids=["fortran", "transposed", "strided", "big endian", "scalar", "0-d", "empty"],
)
def test_the_layout_in_memory_does_not_matter(array):
    back = there_and_back(array, tensor())

    np.testing.assert_array_equal(back, array)
    assert back.shape == array.shape


def test_a_tensor_is_a_view_both_ways():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)

    data, codec, shape = encode_value(array, tensor())
    back = decode_value(tensor(), codec, data, shape)

    assert np.shares_memory(array, back)
    assert isinstance(data, memoryview)
    assert data.readonly


def test_bfloat16_without_its_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)

    assert rejected(tensor(), bytes(2), ONNX_DTYPES["bfloat16"], (1,)).fix


@pytest.mark.parametrize("shape", [(2, 3), (0,), ()])
def test_a_decoded_tensor_cannot_be_made_writable(shape):
    data, codec, dims = encode_value(np.ones(shape), tensor())

    back = decode_value(tensor(), codec, bytearray(data), dims)

    with pytest.raises(ValueError, match="WRITEABLE"):
        back.flags.writeable = True


@pytest.mark.parametrize(
    ("value", "declared"),
    [
        (np.array(["x"]), tensor()),
        (np.array([object()]), tensor()),
        (np.array([1 + 2j]), tensor()),
        (np.zeros(2), tensor("float32")),
        (np.zeros(2), tensor("float64", (3,))),
        (np.zeros(2), tensor("float64", (2, 1))),
        (np.zeros((2, 3)), tensor("", ("n", 4))),
        (np.zeros((1,) * 9), tensor()),
        ([1.0], tensor()),
        (1.0, tensor()),
        (None, tensor()),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(value, declared):
    assert refusal(value, declared).expected


def test_open_dimensions_fit_any_length():
    declared = tensor("float64", ("n", None, 3))

    assert there_and_back(np.zeros((2, 5, 3)), declared).shape == (2, 5, 3)


@pytest.mark.parametrize(
    ("data", "codec", "shape"),
    [
        (b"", 1, (1,)),
        (bytes(4), 1, (2,)),
        (bytes(8), 1, (2**63, 2**63)),
        (b"", 1, (0, 2**63)),
        (b"", 1, (2**40, 0, 2**40)),
        (b"", 2, (0,) * 9),
        (bytes(4), 0, (1,)),
        (bytes(4), 8, (1,)),
        (bytes(4), 99, (1,)),
        (b"\x02", 9, (1,)),
    ],
)
def test_a_shape_that_does_not_fit_its_bytes_is_rejected(data, codec, shape):
    rejected(tensor(), data, codec, shape)


def test_string_tensors_are_refused():
    rejected(tensor("string"), b"x", ONNX_DTYPES["string"], (1,))
    refusal(np.array(["x"]), tensor("string"))


# --- parameter sets --------------------------------------------------------------------------


@pytest.fixture
def weights() -> ParameterSet:
    return ParameterSet.from_tensors(
        {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(4)}
    )


def test_a_parameter_set_is_its_image_both_ways(weights):
    data, codec, shape = encode_value(weights, PARAMS)
    back = decode_value(PARAMS, codec, data, shape)

    assert back == weights
    assert (codec, shape) == (0, ())
    assert np.shares_memory(back["w"], weights["w"])


def test_declared_parameters_are_held_against_the_tensors(weights):
    fits = params({"w": tensor("float32", (2, None)), "n": tensor("int64", ())})

    assert there_and_back(weights, fits) == weights
    for other in (
        params({"w": tensor("float32")}),
        params({"w": tensor(), "n": tensor(), "b": tensor()}),
        params({"w": tensor("float64"), "n": tensor()}),
        params({"w": tensor("float32", (3, 2)), "n": tensor()}),
    ):
        refusal(weights, other)
        rejected(other, weights.to_bytes())


@pytest.mark.parametrize("name", ["a b", "", "w[0]"])
def test_an_image_with_names_that_no_type_can_have_is_rejected(name):
    image = ParameterSet.from_tensors({name: np.zeros(2)}).to_bytes()

    error = rejected(params({"w": tensor()}), image)

    assert "lacks or adds" in error.found


def test_a_damaged_image_is_rejected(weights):
    image = weights.to_bytes()

    assert "damaged" in rejected(PARAMS, image[:-1]).found
    rejected(PARAMS, b"")
    refusal({"w": np.zeros(2)}, PARAMS)


# --- peers -----------------------------------------------------------------------------------

PEERS = tuple(PeerId.from_seed(1, index) for index in range(3))


@given(st.lists(st.sampled_from(PEERS), max_size=5))
def test_peers_come_back_in_order(found):
    assert there_and_back(found, peers("client")) == tuple(found)


@pytest.mark.parametrize("value", [PEERS[0], "peer", [PEERS[0], PEERS[0].raw], None])
def test_other_things_are_no_peers(value):
    refusal(value, peers())


@pytest.mark.parametrize("data", [b"\x00", b"\x05abc", b"\x03\x00\x02a", b"\xff" * 256])
def test_damaged_peers_are_rejected(data):
    rejected(peers(), data)


# --- lists and records -----------------------------------------------------------------------


@given(st.dictionaries(texts, plain, max_size=5))
def test_open_records_carry_plain_data_in_order(value):
    assert same(there_and_back(value, record()), value)


@given(st.lists(int64s))
def test_lists_come_back(value):
    assert same(there_and_back(tuple(value), list_of(INT64)), value)


def test_declared_records_come_back_as_declared():
    declared = record({"a": METRICS, "b": list_of(BOOL), "c": BYTES, "d": TRIGGER, "e": record()})
    value = {
        "c": bytearray(b"x"),
        "a": {"loss": np.float32(0.5), "examples": np.int32(3)},
        "b": (True, np.False_),
        "d": None,
        "e": {"any": [1, {"thing": None}], "real": np.float64(1.5), "flat": np.array(2)},
    }

    back = there_and_back(value, declared)

    expected = {
        "a": {"examples": 3, "loss": 0.5},
        "b": [True, False],
        "c": b"x",
        "d": None,
        "e": {"any": [1, {"thing": None}], "real": 1.5, "flat": 2},
    }
    assert same(back, expected)


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ({"loss": 0.5}, "lacks examples"),
        ({"examples": 1, "loss": 0.5, "extra": 1}, "has extra besides"),
        ({"examples": 1.0, "loss": 0.5}, "value.examples is of type float 1.0"),
        ({"examples": 1, "loss": "low"}, "value.loss is of type str 'low'"),
        ([("examples", 1)], "type list"),
    ],
)
def test_a_record_that_does_not_fit_names_the_field(value, part):
    assert part in refusal(value, METRICS).found


@pytest.mark.parametrize(
    ("value", "declared", "part"),
    [
        ([1, True], list_of(INT64), "value[1]"),
        ({1: 2}, record(), "A name in The value"),
        ({"a": {"b": np.zeros(3)}}, record(), "value.a.b is of type ndarray"),
        ({"a": object()}, record(), "no plain data"),
        ({"a": 2**63}, record(), "value.a"),
        ("text", list_of(STRING), "type str"),
        ([None] * MAX_PLAIN_BYTES, list_of(TRIGGER), "1048576 items"),
        (["x" * MAX_PLAIN_BYTES], list_of(STRING), "bytes"),
    ],
)
def test_what_is_no_plain_data_is_refused_with_its_place(value, declared, part):
    assert part in refusal(value, declared).found


def nested(depth: int) -> dict[str, typing.Any]:
    return {"x": nested(depth - 1) if depth > 1 else 1}


def test_nesting_ends_at_sixteen():
    assert there_and_back(nested(16), record()) == nested(16)
    assert "too deep" in refusal(nested(17), record()).found


def test_a_list_that_contains_itself_is_refused():
    loop: list[object] = []
    loop.append(loop)

    assert "too deep" in refusal({"loop": loop}, record()).found


def enclosed(data: bytes, depth: int) -> bytes:
    """Put a serialized `Value` into lists of one item, by hand: protobuf would refuse to."""
    for mark in b"\x0a\x32" * depth:
        data = bytes([mark, *varint(len(data))]) + data
    return data


def varint(number: int) -> list[int]:
    return [number] if number < 128 else [number & 127 | 128, *varint(number >> 7)]


@pytest.mark.parametrize("depth", [17, 100, 10_000])
def test_deep_messages_are_rejected(depth):
    data = enclosed(Value(integer=1).SerializeToString(), depth)

    rejected(list_of(record()), data)


def test_sixteen_levels_of_message_are_read():
    data = enclosed(Value(integer=1).SerializeToString(), 15)
    message = Value(record={"fields": [{"name": "x", "value": Value.FromString(data)}]})

    assert decode_value(record(), 0, message.SerializeToString())
    message.record.fields[0].value.CopyFrom(Value.FromString(enclosed(data, 1)))
    assert "levels deep" in rejected(record(), message.SerializeToString()).found


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (METRICS, Value(integer=1)),
        (METRICS, Value()),
        (METRICS, Value(record={})),
        (record(), Value(list={})),
        (record(), Value(record={"fields": [{"name": "a", "value": {}}]})),
        (record(), Value(record={"fields": [{"name": "a", "value": {"integer": 1}}] * 2})),
        (
            record({"a": FLOAT64}),
            Value(record={"fields": [{"name": "a", "value": {"integer": 1}}]}),
        ),
        (list_of(INT64), Value(list={"items": [{"whole": 1}, {"boolean": True}]})),
        (list_of(INT64), Value(list={"items": [{"integer": 1}]})),
        (list_of(FLOAT64), Value(list={"items": [{"whole": 1}]})),
    ],
)
def test_messages_of_another_type_are_rejected(declared, message):
    rejected(declared, message.SerializeToString())


@given(int64s)
def test_declared_integer_takes_as_many_bytes_as_any_other(value):
    declared = record({"a": INT64, "b": list_of(INT64)})
    data = encode_value({"a": value, "b": [0, value]}, declared).data

    assert len(data) == len(encode_value({"a": 0, "b": [0, 0]}, declared).data)
    assert decode_value(declared, 0, data) == {"a": value, "b": [0, value]}


def test_integer_whose_kind_is_open_is_as_short_as_it_can_be():
    sizes = [len(encode_value({"a": value}, record()).data) for value in (1, 2**40)]

    assert sizes[0] < sizes[1]


def test_long_messages_are_rejected_unread():
    assert "1048577 bytes" in rejected(record(), bytes(MAX_PLAIN_BYTES + 1)).found
    assert "no message" in rejected(record(), b"\xff").found


# --- all of them -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "declared", [ANY, local("batches"), senders("client"), list_of(ANY), custom("")], ids=str
)
def test_what_means_nothing_elsewhere_is_refused_both_ways(declared):
    assert refusal(1, declared).fix
    assert rejected(declared, b"").fix


@given(
    st.sampled_from(KINDS),
    st.integers(0, 20) | st.integers(0, 2**32 - 1),
    st.binary(max_size=64),
    st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 4), max_size=8).map(tuple),
)
def test_bytes_from_a_stranger_are_decoded_or_rejected(declared, codec, data, shape):
    with contextlib.suppress(WireError):
        decode_value(declared, codec, memoryview(data), shape)


@given(st.sampled_from([k for k in KINDS if k.kind != "tensor"]), st.binary(max_size=64))
def test_plain_bytes_from_a_stranger_are_decoded_or_rejected(declared, data):
    try:
        value = decode_value(declared, 0, data)
    except WireError:
        return
    assert encode_value(value, declared)


@pytest.mark.parametrize("declared", KINDS, ids=str)
def test_types_survive_their_text_form(declared):
    assert parse_type(str(declared)) == declared


def test_importing_it_imports_neither_numpy_nor_onnx():
    code = (
        "import sys; from bb_ir import values, types;"
        "values.encode_value({'a': 1}, types.record());"
        "print({'numpy', 'onnx'} & set(sys.modules))"
    )

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "set()"


def test_arrays_by_name_are_no_parameter_set_yet_and_it_says_what_makes_one():
    with pytest.raises(WireError) as caught:
        encode_value({"w": np.zeros(2)}, PARAMS)

    assert "ParameterSet.from_tensors(value)" in caught.value.fix
