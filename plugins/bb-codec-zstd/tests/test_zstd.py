import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bb_codec_zstd import bb_component
from bb_codec_zstd._zstd import Zstd, ZstdConfig
from bb_codec_zstd.errors import FrameDamaged, InvalidSetting, ValueTooLarge, WrongKind
from bb_ir.errors import BytesAndBrainsError
from bb_ir.params import ParameterSet
from bb_ir.types import parse_type
from bb_roles.config import build_config
from bb_roles.errors import ConfigError
from bb_roles.registry import component_class
from bb_testing.context import FakeContext, environment

CTX = FakeContext()


def make(**fields):
    return Zstd(ZstdConfig(**fields), environment("codec"))


def frame_of(content, **options):
    return zstandard.ZstdCompressor(**options).compress(content)


def claiming(size, rest=b"\1\0\0"):
    """A frame without a checksum whose header claims a size in eight bytes."""
    return b"\x28\xb5\x2f\xfd\xe0" + size.to_bytes(8, "little") + rest


# ---- there and back


@given(st.binary(max_size=5000), st.integers(1, 19))
@settings(deadline=None)
@example(b"", 1)
@example(b"\0", 22)
def test_bytes_come_back_from_every_level(value, level):
    encoded = make(takes="bytes", level=level).encode(CTX, value)
    assert make(takes="bytes").decode(CTX, encoded) == value


@given(
    st.dictionaries(
        st.text(max_size=5).filter("__metadata__".__ne__), st.lists(st.floats(width=32)), max_size=4
    )
)
def test_parameters_come_back_bit_for_bit_also_what_is_not_finite(given_):
    tensors = {name: np.array(values, np.float32) for name, values in given_.items()}
    value = ParameterSet.from_tensors({**tensors, "n": np.arange(3)}, metadata={"epoch": "3"})
    codec = make()
    decoded = codec.decode(CTX, codec.encode(CTX, value))
    assert decoded.to_bytes() == value.to_bytes()


def test_decoded_parameters_are_read_only():
    codec = make()
    decoded = codec.decode(CTX, codec.encode(CTX, ParameterSet.from_tensors({"w": np.ones(9)})))
    assert not decoded["w"].flags.writeable


def test_a_frame_of_parameters_holds_a_safetensors_file():
    value = ParameterSet.from_tensors({"w": np.arange(9.0)})
    encoded = make().encode(CTX, value)
    assert zstandard.ZstdDecompressor().decompress(encoded) == value.to_bytes()
    assert zstandard.get_frame_parameters(encoded).has_checksum


def test_a_frame_that_another_tool_wrote_is_decoded():
    value = b"abc" * 100_000
    encoded = frame_of(value, level=7, write_checksum=False)
    assert make(takes="bytes").decode(CTX, encoded) == value


def test_what_repeats_shrinks():
    value = ParameterSet.from_tensors({"w": np.zeros(1_000_000, np.float32)})
    assert len(make().encode(CTX, value)) < value.nbytes / 1000


def test_noise_grows_by_a_few_bytes_only():
    noise = np.random.default_rng(0).bytes(300_000)
    assert len(make(takes="bytes").encode(CTX, noise)) < len(noise) + 64


@pytest.mark.parametrize("size", [1, 131_071, 131_072, 131_073, 5_000_000])
@pytest.mark.parametrize("level", [1, 3, 19])
def test_the_densest_frames_are_within_what_a_frame_can_hold(size, level):
    codec = make(takes="bytes", level=level)
    assert codec.decode(CTX, codec.encode(CTX, bytes(size))) == bytes(size)


# ---- limits


def test_the_limit_is_the_largest_value():
    codec = make(takes="bytes", max_bytes=1000)
    assert codec.decode(CTX, codec.encode(CTX, bytes(1000))) == bytes(1000)
    with pytest.raises(ValueTooLarge, match="the value has 1001 bytes"):
        codec.encode(CTX, bytes(1001))
    with pytest.raises(ValueTooLarge, match="holds 1001 bytes"):
        codec.decode(CTX, make(takes="bytes").encode(CTX, bytes(1001)))


def test_a_bomb_is_refused_before_memory_is_taken():
    bomb = frame_of(bytes(1 << 26))
    assert len(bomb) < 4096
    refused(make(takes="bytes", max_bytes=1 << 20), bomb, ValueTooLarge)


@pytest.mark.parametrize("size", [1 << 20, 1 << 30, (1 << 30) + 1, 1 << 63, (1 << 64) - 2])
def test_a_claim_is_refused_before_memory_is_taken(size):
    kind = FrameDamaged if size <= 1 << 30 else ValueTooLarge
    refused(make(takes="bytes"), claiming(size), kind)


def refused(codec, frame, kind):
    tracemalloc.start()
    with pytest.raises(kind):
        codec.decode(CTX, frame)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 18


def test_decoding_takes_the_memory_of_the_value_once():
    frame, codec = frame_of(bytes(1 << 24)), make(takes="bytes")
    tracemalloc.start()
    codec.decode(CTX, frame)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (1 << 24) + (1 << 20)


# ---- what is refused

WHOLE = frame_of(b"some text that is long enough, long enough" * 20, write_checksum=True)
DAMAGED = {
    "nothing": b"",
    "a header alone": WHOLE[:5],
    "the magic number alone": WHOLE[:4],
    "no frame": b"some text",
    "a skippable frame": b"\x50\x2a\x4d\x18\0\0\0\0",
    "a skippable frame first": b"\x50\x2a\x4d\x18\0\0\0\0" + WHOLE,
    "cut": WHOLE[:-1],
    "more bytes": WHOLE + b"\0",
    "two frames": WHOLE + WHOLE,
    "another checksum": WHOLE[:-1] + bytes([WHOLE[-1] ^ 1]),
    "no size": frame_of(b"abc" * 50, write_content_size=False),
    "a size that is not true": claiming(100, b"\x19\0\0abc"),
    "more than it says": claiming(2, b"\x19\0\0abc"),
    "empty and going on": claiming(0, b"\x19\0\0abc"),
    "a dictionary": zstandard.ZstdCompressor(
        dict_data=zstandard.train_dictionary(
            2000, [bytes([n % 7, n % 5]) * (50 + n % 11) for n in range(800)]
        )
    ).compress(b"abc" * 50),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_frames_are_refused(damage):
    with pytest.raises(FrameDamaged, match="this frame cannot be decoded"):
        make(takes="bytes").decode(CTX, DAMAGED[damage])


def test_the_frame_that_is_damaged_here_is_right_without_it():
    assert make(takes="bytes").decode(CTX, WHOLE).startswith(b"some text")
    assert make(takes="bytes").decode(CTX, claiming(3, b"\x19\0\0abc")) == b"abc"


@given(st.data())
def test_any_changed_byte_is_refused(data):
    at = data.draw(st.integers(0, len(WHOLE) - 1))
    frame = bytearray(WHOLE)
    frame[at] ^= data.draw(st.integers(1, 255))
    try:
        decoded = make(takes="bytes").decode(CTX, bytes(frame))
    except (FrameDamaged, ValueTooLarge):
        return
    # What is reserved, or says how much memory a stream needs, changes nothing.
    assert at == 4
    assert decoded == make(takes="bytes").decode(CTX, WHOLE)


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_refused_or_decoded(tail, headed):
    frame = b"\x28\xb5\x2f\xfd" + tail if headed else tail
    for takes in ("params", "bytes"):
        try:
            make(takes=takes, max_bytes=1 << 20).decode(CTX, frame)
        except (FrameDamaged, ValueTooLarge):
            continue


def test_a_frame_of_bytes_is_no_parameter_set():
    with pytest.raises(FrameDamaged, match="it holds no parameter set"):
        make().decode(CTX, WHOLE)
    with pytest.raises(FrameDamaged, match="it holds no parameter set"):
        make().decode(CTX, make(takes="bytes").encode(CTX, b""))


@pytest.mark.parametrize("value", [np.ones(3), {"w": 1}, None, "text", bytearray(b"x")])
@pytest.mark.parametrize("takes", ["params", "bytes"])
def test_only_what_the_codec_takes_is_taken(takes, value):
    with pytest.raises(WrongKind, match=f"a {type(value).__name__} was to be encoded"):
        make(takes=takes).encode(CTX, value)
    with pytest.raises(WrongKind, match=f"a {type(value).__name__} was to be decoded"):
        make(takes=takes).decode(CTX, value)


def test_bytes_and_parameters_are_not_mixed_up():
    with pytest.raises(WrongKind, match="expected"):
        make(takes="bytes").encode(CTX, ParameterSet.from_tensors({}))
    with pytest.raises(WrongKind, match="expected"):
        make(takes="params").encode(CTX, b"abc")


@pytest.mark.parametrize(
    "config",
    [
        {"takes": "text"},
        {"level": 0},
        {"level": 23},
        {"level": True},
        {"level": 3.0},
        {"max_bytes": 0},
        {"max_bytes": (1 << 40) + 1},
    ],
    ids=str,
)
def test_configuration_out_of_range_is_refused(config):
    with pytest.raises(InvalidSetting, match=f"{next(iter(config))} is"):
        make(**config)


def test_every_error_is_one_of_ours_and_a_value_error():
    for kind in (FrameDamaged, InvalidSetting, ValueTooLarge, WrongKind):
        assert issubclass(kind, BytesAndBrainsError)
        assert issubclass(kind, ValueError)


# ---- the plugin


def test_the_plugin_declares_the_class_and_imports_nothing_heavy():
    assert component_class(bb_component()) is Zstd
    code = "import sys, bb_codec_zstd; sys.exit(bool({'numpy', 'zstandard'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_types_follow_from_the_configuration():
    for takes in ("params", "bytes"):
        told = Zstd.value_types(ZstdConfig(takes=takes))
        assert told["Encode.value"] == told["Decode.value"] == takes
        assert {**told, **bb_component().types} == told
        assert all(parse_type(text).sendable for text in told.values())


def test_the_configuration_is_checked_by_the_contract():
    config = build_config(Zstd.Config, {"takes": "bytes", "level": 9, "max_bytes": 100}, "codec")
    assert config == ZstdConfig("bytes", 9, 100)
    with pytest.raises(ConfigError):
        build_config(Zstd.Config, {"level": 50}, "codec")
