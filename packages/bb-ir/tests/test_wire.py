"""Envelopes: round trips, caps, and that damage and garbage are only ever refused."""

import itertools
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb_ir._proto.core_pb2 import Envelope
from bb_ir.errors import WireError
from bb_ir.types import tensor
from bb_ir.values import Encoded, encode_value
from bb_ir.wire import (
    ALIGNMENT,
    DEFAULT_LIMITS,
    FLAG_CONTROL,
    FLAG_RETRY,
    INLINE_LIMIT,
    MAX_CHAIN,
    MAX_FILLS,
    PRELUDE_SIZE,
    Ack,
    Built,
    EnvelopeHead,
    EnvelopeRefused,
    EnvelopeTemplate,
    Failed,
    FillIn,
    Hop,
    Later,
    Leaving,
    Prelude,
    Refused,
    Stale,
    WireLimits,
    build_envelope,
    fill_data,
    pack_prelude,
    read_header,
    read_prelude,
    split_payload,
)
from bb_testing.strategies import messages

PROGRAM = bytes(range(16))
PEER = b"\x00\x24" + bytes(36)
HOP = Hop(7, 8, PEER)
CONTROLS = [
    Ack(3, 4),
    Stale(9),
    Later(1_000),
    Refused("quota", 3, 4),
    Failed("timeout", 5, 6, 7, b"g" * 16),
    Leaving(),
]

uint64 = st.integers(0, 2**64 - 1)


def build(**changes):
    made = {"program": PROGRAM, "edge": 1, "incarnation": 2, "message_id": 3}
    return build_envelope(**{**made, **changes})


def read(data: bytes, limits: WireLimits = DEFAULT_LIMITS) -> EnvelopeHead:
    prelude = read_prelude(data, limits)
    return read_header(prelude, data[PRELUDE_SIZE : PRELUDE_SIZE + prelude.header_length], limits)


def payload_of(built: Built) -> memoryview:
    return memoryview(built.to_bytes())[len(built.head) :]


def frame(header: bytes, **changes) -> bytes:
    """Put a prelude before any bytes, with the right CRC."""
    prelude = Prelude(0, len(header), 0, 0, zlib.crc32(header))
    return pack_prelude(prelude._replace(**changes)) + header


def refusal(data: bytes, limits: WireLimits = DEFAULT_LIMITS) -> EnvelopeRefused:
    with pytest.raises(EnvelopeRefused) as caught:
        read(data, limits)
    return caught.value


def header(**changes) -> bytes:
    made = {"program": PROGRAM, "edge": 1, "incarnation": 2, "message_id": 3}
    return Envelope(**{**made, **changes}).SerializeToString()


# --- round trips -----------------------------------------------------------------------------


@given(messages(control=False))
def test_what_is_built_is_read_back(message):
    built = build_envelope(**message)

    head = read(built.head)

    assert head.program == message["program"]
    assert head.edge == message["edge"]
    assert head.incarnation == message["incarnation"]
    assert head.message_id == message["message_id"]
    assert head.remaining_ns == message["remaining_ns"]
    assert head.in_reply_to == message["in_reply_to"]
    assert head.chain == tuple(message["chain"])
    assert head.control is None
    assert head.retry == bool(message["flags"] & FLAG_RETRY)
    assert head.payload_length == built.payload_length
    assert [(f.codec, f.shape) for f in head.fills] == [(f[1], f[2]) for f in message["fills"]]
    data = fill_data(head, payload_of(built))
    assert [bytes(view) for view in data] == [bytes(fill.data) for fill in message["fills"]]


@pytest.mark.parametrize("control", CONTROLS, ids=lambda c: type(c).__name__)
def test_control_is_read_back(control):
    built = build(control=control)

    assert read(built.head).control == control
    assert read_prelude(built.head, DEFAULT_LIMITS).flags == FLAG_CONTROL
    assert built.payload_length == 0


@given(st.integers(1, 2**64 - 1), st.data())
def test_what_comes_first_is_read_back(message_id, data):
    after = data.draw(st.integers(0, message_id - 1))
    assert read(build(message_id=message_id, after=after).head).after == after


@pytest.mark.parametrize("after", [3, 4, -1, 2**64])
def test_what_comes_first_was_sent_before(after):
    with pytest.raises(WireError):
        build(message_id=3, after=after)


@given(messages(control=False), uint64, st.none() | st.integers(1, 2**64 - 1))
def test_a_template_says_what_a_plain_build_says(message, message_id, remaining_ns):
    shared = {k: v for k, v in message.items() if k not in {"message_id", "remaining_ns", "flags"}}

    made = EnvelopeTemplate(**shared).build(
        message_id, remaining_ns=remaining_ns, flags=message["flags"]
    )

    plain = {**message, "message_id": message_id, "remaining_ns": remaining_ns}
    assert made.to_bytes() == build_envelope(**plain).to_bytes()
    whole = Envelope.FromString(made.head[PRELUDE_SIZE:])
    assert Envelope.FromString(whole.SerializeToString()) == whole


def test_the_header_is_the_protobuf_message_of_the_same_fields():
    built = build(
        remaining_ns=5, in_reply_to=6, chain=[HOP], fills=[Encoded(b"x", 1, (1, 2)), Encoded(b"")]
    )

    assert Envelope.FromString(built.head[PRELUDE_SIZE:]) == Envelope(
        program=PROGRAM,
        edge=1,
        incarnation=2,
        message_id=3,
        remaining_ns=5,
        in_reply_to=6,
        chain=[{"frame": 7, "incarnation": 8, "peer": PEER}],
        fills=[{"inline": b"x", "codec": 1, "shape": [1, 2]}, {}],
    )


def test_a_hop_of_its_own_comes_nearest():
    template = EnvelopeTemplate(program=PROGRAM, edge=1, incarnation=2, chain=[HOP])
    own = Hop(1, 2, PEER, b"g" * 16)

    assert read(template.build(4, nearest=own).head).chain == (HOP, own)
    assert read(template.build(5).head).chain == (HOP,)


def test_large_segments_are_referred_to_and_small_ones_copied():
    large, small = np.zeros(INLINE_LIMIT + 1, np.uint8), np.zeros(INLINE_LIMIT, np.uint8)
    fills = [encode_value(array, tensor()) for array in (large, small)]

    built = build(fills=fills)
    large[:] = 1
    small[:] = 1

    data = fill_data(read(built.head), payload_of(built))
    assert [int(np.asarray(view).max()) for view in data] == [1, 0]
    assert len(built.segments) == 1


def test_many_small_values_do_not_burst_the_header():
    fills = [Encoded(bytes([n]) * INLINE_LIMIT) for n in range(8)]

    built = build(fills=fills)

    assert len(built.segments) == 6
    data = fill_data(read(built.head), payload_of(built))
    assert [bytes(view) for view in data] == [fill.data for fill in fills]


def test_small_segments_do_not_keep_a_larger_value_alive():
    array = np.zeros(INLINE_LIMIT, np.uint8)
    view = memoryview(array)

    built = build(fills=[Encoded(view)] * 8)

    assert all(segment.obj is not array for segment in built.segments)


def test_segments_start_at_multiples_of_64():
    built = build(fills=[Encoded(bytes(5000)), Encoded(b"y" * 4999)])

    padding = payload_of(built)[5000:5056]

    assert built.payload_length == 5056 + 5056
    assert bytes(padding) == bytes(56)
    assert bytes(payload_of(built)[5056:5057]) == b"y"


@given(messages(control=False))
def test_the_payload_can_be_written_into_a_lent_buffer(message):
    built = build_envelope(**message)
    buffer = memoryview(np.full(built.payload_length, 0xAA, np.uint8))

    built.write_into(buffer)

    assert built.payload_length % ALIGNMENT == 0
    assert built.head + bytes(buffer) == built.to_bytes()


def test_a_buffer_of_another_size_is_refused():
    with pytest.raises(WireError, match="0 bytes for a payload of 5056"):
        build(fills=[Encoded(bytes(5000))]).write_into(memoryview(bytearray()))


def test_multi_dimensional_views_are_segments_too():
    array = np.arange(6000, dtype=np.float32).reshape(60, 100)

    built = build(fills=[Encoded(memoryview(array))])

    assert bytes(built.segments[0]) == array.tobytes()


# --- what is handed out ----------------------------------------------------------------------


def test_views_of_a_payload_cannot_be_made_writable():
    built = build(fills=[Encoded(bytes(5000)), Encoded(b"abcd")])
    buffer = np.zeros(built.payload_length, np.uint8)

    views = fill_data(read(built.head), memoryview(buffer))

    for view in views:
        assert view.readonly
        array = np.frombuffer(view, np.uint8)
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True


def test_segments_that_are_sent_cannot_be_written_by_a_transport():
    built = build(fills=[Encoded(memoryview(bytearray(5000)))])

    with pytest.raises(TypeError):
        built.segments[0][0] = 1


def test_split_payload_gives_segments_alone():
    built = build(fills=[Encoded(b"in"), Encoded(b"a" * 5000), Encoded(b"in"), Encoded(b"b" * 70)])
    head = read(built.head)

    views = split_payload(head, payload_of(built))

    assert [fill.segment for fill in head.fills] == [-1, 0, -1, -1]
    assert [bytes(view) for view in views] == [b"a" * 5000]


def test_a_payload_of_another_length_is_refused():
    head = read(build(fills=[Encoded(bytes(5000))]).head)

    with pytest.raises(EnvelopeRefused) as caught:
        split_payload(head, memoryview(bytes(64)))

    assert caught.value.reason == "truncated"


# --- caps ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"header_length": 2**31}, "header_too_long"),
        ({"segments": 257}, "too_many_segments"),
        ({"payload_length": 2**63}, "payload_too_long"),
        ({"version": 2}, "unknown_version"),
        ({"flags": 0x100}, "unknown_flag"),
        ({"flags": FLAG_CONTROL, "payload_length": 64}, "control_with_payload"),
        ({"flags": FLAG_CONTROL, "segments": 1}, "control_with_payload"),
    ],
)
def test_a_prelude_is_judged_alone(changes, reason):
    bare = pack_prelude(Prelude(0, 20, 0, 0, 0)._replace(**changes))

    refused = refusal(bare)

    assert (refused.reason, refused.close) == (reason, False)
    assert refused.skip == changes.get("header_length", 20) + changes.get("payload_length", 0)
    assert refused.code == "EnvelopeRefused"


def test_a_wrong_magic_closes_the_stream():
    refused = refusal(b"BBE2" + build().head[4:])

    assert (refused.reason, refused.close, refused.skip) == ("bad_magic", True, 0)


def test_the_reserved_field_is_zero():
    head = bytearray(build().head)
    head[31] = 1

    assert refusal(bytes(head)).reason == "reserved"


def test_unknown_low_flags_are_ignored():
    data = frame(header(), flags=0b1111_1100)

    assert read(data).message_id == 3


def test_limits_can_be_widened():
    limits = WireLimits(header=64 * 1024)
    fills = [Encoded(bytes([n]) * INLINE_LIMIT) for n in range(8)]

    built = build(fills=fills, limits=limits)

    assert not built.segments
    assert refusal(built.head).reason == "header_too_long"
    assert len(read(built.head, limits).fills) == 8


def test_the_crc_is_checked_before_the_header_is_parsed():
    assert refusal(frame(b"\xff" * 30, header_crc=1)).reason == "bad_crc"
    assert refusal(frame(b"\xff" * 30)).reason == "bad_header"


def hop(**changes):
    return {"chain": [{"frame": 1, "peer": PEER, **changes}]}


def fills(*found):
    return {"fills": list(found)}


@pytest.mark.parametrize(
    ("fields", "prelude", "reason"),
    [
        ({"program": b""}, {}, "bad_program"),
        ({"program": bytes(17)}, {}, "bad_program"),
        ({"remaining_ns": 0}, {}, "bad_deadline"),
        (hop(peer=bytes(65)), {}, "bad_hop"),
        (hop(grant=bytes(15)), {}, "bad_hop"),
        ({"chain": [{"frame": 1}] * (MAX_CHAIN + 1)}, {}, "bad_hop"),
        ({"after": 3}, {}, "bad_header"),
        ({"after": 2**64 - 1}, {}, "bad_header"),
        (fills({"inline": bytes(INLINE_LIMIT + 1)}), {}, "bad_fill"),
        (fills({"shape": [1] * 9}), {}, "bad_fill"),
        (fills({"segment": 1, "inline": b"x"}), {}, "bad_fill"),
        (fills(*[{}] * (MAX_FILLS + 1)), {}, "bad_fill"),
        (fills({"length": 1, "inline": b"x"}), {"segments": 1, "payload_length": 64}, "bad_fill"),
        (fills({"length": 1, "segment": 1}), {"segments": 1, "payload_length": 64}, "bad_fill"),
        (fills({"length": 1}, {"length": 1}), {"segments": 2, "payload_length": 128}, "bad_fill"),
        (fills({"length": 1}), {"segments": 1, "payload_length": 63}, "bad_segments"),
        (fills({"length": 65}), {"segments": 1, "payload_length": 64}, "bad_segments"),
        (fills({"length": 2**64 - 1}), {"segments": 1, "payload_length": 0}, "bad_segments"),
        (fills({"length": 1}), {"segments": 2, "payload_length": 64}, "bad_segments"),
        ({}, {"segments": 1}, "bad_segments"),
        ({}, {"payload_length": 64}, "bad_segments"),
        ({"leaving": {}}, {}, "bad_control"),
        ({}, {"flags": FLAG_CONTROL}, "bad_control"),
        ({"leaving": {}, **hop()}, {"flags": FLAG_CONTROL}, "bad_control"),
        ({"leaving": {}, **fills({})}, {"flags": FLAG_CONTROL}, "bad_control"),
        ({"failed": {"grant": b"x"}}, {"flags": FLAG_CONTROL}, "bad_control"),
        ({"refused": {"reason": "x" * 257}}, {"flags": FLAG_CONTROL}, "bad_control"),
    ],
)
def test_a_header_that_breaks_a_limit_is_refused(fields, prelude, reason):
    assert refusal(frame(header(**fields), **prelude)).reason == reason


def test_a_header_cannot_claim_to_be_other_than_it_is():
    prelude = read_prelude(build().head, DEFAULT_LIMITS)

    with pytest.raises(EnvelopeRefused, match="bytes of header"):
        read_header(prelude, b"", DEFAULT_LIMITS)


def test_limits_hold_for_a_header_whoever_read_its_prelude():
    head = build().head
    prelude = read_prelude(head, DEFAULT_LIMITS)

    with pytest.raises(EnvelopeRefused) as caught:
        read_header(prelude, head[PRELUDE_SIZE:], WireLimits(header=8))

    assert caught.value.reason == "header_too_long"


def test_fields_of_a_later_version_are_ignored():
    later = header() + b"\x98\x06\x01"  # field 99, a varint

    assert read(frame(later)).message_id == 3


# --- garbage ---------------------------------------------------------------------------------


def rich() -> Built:
    fills = [Encoded(bytes(5000), 1, (50, 25)), Encoded(b"scalar!!")]
    return build(remaining_ns=10**10, chain=[HOP], fills=fills)


def read_or_refuse(data: bytes) -> EnvelopeHead | None:
    try:
        prelude = read_prelude(data, DEFAULT_LIMITS)
        rest = data[PRELUDE_SIZE : PRELUDE_SIZE + prelude.header_length]
        return read_header(prelude, rest, DEFAULT_LIMITS)
    except EnvelopeRefused:
        return None


def test_every_flipped_bit_is_refused_or_harmless():
    built = rich()
    whole = read(built.head)

    for at, bit in itertools.product(range(len(built.head)), range(8)):
        damaged = bytearray(built.head)
        damaged[at] ^= 1 << bit
        head = read_or_refuse(bytes(damaged))
        # Only the flags pass: the retry bit, and those that are ignored.
        assert head is None or (at == 6 and head._replace(retry=False) == whole)


def test_every_truncation_is_refused():
    data = rich().head

    for length in range(len(data)):
        assert refusal(data[:length]).reason == "truncated"


@given(st.binary(max_size=200))
def test_garbage_is_refused(data):
    assert read_or_refuse(data) is None


@given(st.binary(max_size=200), st.integers(0, 3), st.integers(0, 2**20), st.integers(0, 3))
def test_garbage_with_a_right_crc_is_refused_or_consistent(data, segments, payload, flags):
    framed = frame(data, segments=segments, payload_length=payload, flags=flags)

    head = read_or_refuse(framed)

    assert head is None or head.payload_length == payload


@given(st.data())
def test_a_damaged_message_with_a_right_crc_is_refused_or_consistent(data):
    built = rich()
    damaged = bytearray(built.head[PRELUDE_SIZE:])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))

    head = read_or_refuse(frame(bytes(damaged), segments=1, payload_length=5056))

    if head is not None:
        views = fill_data(head, payload_of(built))
        assert [len(view) for view in views] == [fill.length for fill in head.fills]


# --- senders' mistakes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"program": b"short"},
        {"edge": -1},
        {"incarnation": 2**64},
        {"message_id": -1},
        {"remaining_ns": 0},
        {"remaining_ns": -5},
        {"flags": 4},
        {"chain": [Hop(1, 2, bytes(65))]},
        {"chain": [Hop(1, 2, PEER, b"x")]},
        {"chain": [Hop(-1, 2, PEER)]},
        {"chain": [HOP] * 65},
        {"fills": [Encoded(b"")] * 1025},
        {"fills": [Encoded(bytes(5000))] * 257},
        {"fills": [Encoded(b"", -1)]},
        {"fills": [Encoded(b"", 0, (1,) * 9)]},
        {"fills": [Encoded(b"", 0, (-1,))]},
        {"fills": [Encoded(bytes(5000))], "limits": WireLimits(payload=5000)},
        {"fills": [Encoded(b"x")], "control": Leaving()},
        {"chain": [HOP], "control": Leaving()},
        {"control": Refused("x" * 257, 1, 2)},
        {"control": Failed("x", 1, 2, 3, b"x")},
        {"control": Ack(-1, 0)},
        {"chain": [Hop(1, 2, bytes(64), bytes(16))] * 64, "limits": WireLimits(header=4096)},
    ],
)
def test_what_no_receiver_would_take_cannot_be_built(changes):
    with pytest.raises(WireError) as caught:
        build(**changes)

    assert not isinstance(caught.value, EnvelopeRefused)


def test_a_full_chain_takes_no_other_hop():
    template = EnvelopeTemplate(program=PROGRAM, edge=1, incarnation=2, chain=[HOP] * 64)

    with pytest.raises(WireError, match="full chain"):
        template.build(1, nearest=HOP)


def test_a_prelude_holds_no_negative_numbers():
    with pytest.raises(WireError):
        pack_prelude(Prelude(0, -1, 0, 0, 0))


# fmt: off
def test_the_format_is_what_it_was():
    built = build(
        remaining_ns=5, chain=[Hop(1, 2, b"\x00\x01p", b"g" * 16)], fills=[Encoded(b"v", 1, (1,))]
    )

    assert built.head.hex() == (
        "42424531" "0100" "0000" "4f000000" "00000000" "0000000000000000" "a53dc038" "00000000"
        "0a10000102030405060708090a0b0c0d0e0f"  # program
        "110100000000000000" "1802"  # edge, incarnation
        "3a22" "090100000000000000" "1002" "1a03000170" "221067676767676767676767676767676767"
        "4208" "1801" "220176" "2a0101"  # fill: codec, inline, shape
        "2003" "2805"  # message id, what is left of the deadline
    )
# fmt: on


def test_importing_it_imports_neither_numpy_nor_onnx():
    code = "import sys, bb_ir.wire, bb_ir.values; print({'numpy', 'onnx'} & set(sys.modules))"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "set()"


def test_fills_are_plain_tuples():
    assert read(rich().head).fills == (
        (0, 5000, 1, (50, 25), b""),
        FillIn(-1, 8, 0, (), b"scalar!!"),
    )
