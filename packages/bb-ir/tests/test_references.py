"""Values by reference are what their bytes would say, and weigh as much."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb_ir.errors import WireError
from bb_ir.params import ParameterSet
from bb_ir.references import crosser, header_size, hop_size, own_size, payload_of
from bb_ir.types import Type, parse_type
from bb_ir.values import decode_value, encode_value
from bb_ir.wire import DEFAULT_LIMITS, PRELUDE_SIZE, EnvelopeTemplate, Hop

WHOLE = st.integers(-(2**63), 2**63 - 1)
PLAIN = st.one_of(
    WHOLE, st.floats(), st.booleans(), st.text(max_size=8), st.none(), st.binary(max_size=5),
    WHOLE.map(np.int64), st.floats().map(np.float64), st.lists(st.integers(0, 9), max_size=3),
)  # fmt: skip
RECORDS = st.dictionaries(st.text(max_size=6), PLAIN, max_size=6)
DECLARED = parse_type("record(examples:int64,loss:float64)")


def by_bytes(value, declared: Type):
    data, codec, shape = encode_value(value, declared)
    return decode_value(declared, codec, data, shape), memoryview(data).nbytes, codec, shape


def check(value, declared: Type) -> None:
    expected, size, codec, shape = by_bytes(value, declared)
    crossed = crosser(declared)(value)
    assert (crossed.size, crossed.codec, crossed.shape) == (size, codec, shape)
    assert repr(crossed.value) == repr(expected)
    assert type(crossed.value) is type(expected)


@given(RECORDS)
def test_open_records_arrive_as_by_bytes(value):
    check(value, Type("record"))


@given(WHOLE, st.floats(), st.booleans())
def test_declared_records_arrive_as_by_bytes(examples, loss, turned):
    fields = {"examples": examples, "loss": loss}
    check(dict(reversed(fields.items())) if turned else fields, DECLARED)


@pytest.mark.parametrize(
    "value", [{"examples": 1.0, "loss": 1.0}, {"examples": 1}, {"examples": 1, "loss": True}, 3]
)
def test_records_that_do_not_fit_are_refused_as_by_bytes(value):
    with pytest.raises(WireError) as expected:
        by_bytes(value, DECLARED)
    with pytest.raises(WireError) as found:
        crosser(DECLARED)(value)

    assert str(found.value) == str(expected.value)


def test_a_receiver_s_record_is_its_own():
    sent = {"examples": 1, "loss": 0.5}

    received = crosser(DECLARED)(sent).value

    assert received == sent
    assert received is not sent


@pytest.mark.parametrize(
    ("value", "declared"),
    [
        (None, "trigger"),
        (7, "int64"),
        (np.float32(0.5), "float64"),
        ("text", "string"),
        ([1, 2], "list(int64)"),
        (b"x" * 5000, "bytes"),
    ],
)
def test_other_values_arrive_as_by_bytes(value, declared):
    check(value, parse_type(declared))


def test_tensors_are_read_only_and_not_copied():
    array = np.arange(6.0).reshape(2, 3)

    crossed = crosser(parse_type("tensor(float64)"))(array)

    assert np.shares_memory(crossed.value, array)
    assert not crossed.value.flags.writeable
    assert (crossed.size, crossed.shape) == (48, (2, 3))


def test_parameter_sets_are_handed_over_as_they_are():
    params = ParameterSet.from_tensors({"w": np.ones(2000, np.float32)})

    crossed = crosser(Type("params"))(params)

    assert crossed.value is params
    assert crossed.size == len(params.image)


def test_a_parameter_set_that_does_not_fit_is_refused_also_after_one_that_did():
    cross = crosser(parse_type("params(w:tensor(float32)[2])"))
    cross(ParameterSet.from_tensors({"w": np.ones(2, np.float32)}))

    with pytest.raises(WireError):
        cross(ParameterSet.from_tensors({"v": np.ones(2, np.float32)}))


COUNTERS = st.integers(0, 2**64 - 1)
HOPS = st.builds(Hop, COUNTERS, COUNTERS, st.binary(max_size=64), st.sampled_from([b"", bytes(16)]))
FILLS = st.one_of(
    st.binary(max_size=300).map(lambda data: (data, parse_type("bytes"))),
    st.integers(4000, 9000).map(lambda size: (bytes(size), parse_type("bytes"))),
    st.lists(st.integers(0, 300), max_size=3).map(
        lambda shape: (np.zeros([min(n, 30) for n in shape], np.float32), parse_type("tensor"))
    ),
    RECORDS.map(lambda value: (value, Type("record"))),
)


@given(
    COUNTERS, COUNTERS, COUNTERS, st.integers(1, 2**64 - 1), st.lists(HOPS, max_size=3),
    st.none() | HOPS, st.lists(FILLS, max_size=6), COUNTERS,
)  # fmt: skip
def test_weights_are_those_of_what_is_written(  # noqa: PLR0917  # drawn
    edge, incarnation, number, remaining, chain, nearest, values, first
):
    after = first % max(1, number)
    program = bytes(range(16))
    fills = [encode_value(value, of) for value, of in values]
    template = EnvelopeTemplate(
        program=program, edge=edge, incarnation=incarnation, chain=chain, fills=fills
    )
    built = template.build(number, remaining_ns=remaining, nearest=nearest, after=after)

    crossed = [crosser(of)(value) for value, of in values]
    payload, segments, header = payload_of(crossed, DEFAULT_LIMITS.header // 2)
    header += header_size(program, edge, incarnation) + own_size(number, remaining, after)
    header += sum(map(hop_size, [*chain, *([nearest] if nearest else [])]))

    assert (payload, segments) == (built.payload_length, len(built.segments))
    assert PRELUDE_SIZE + header == built.head_length
