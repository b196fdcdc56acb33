import json
import subprocess
import sys
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bb_codec_quantize import bb_component
from bb_codec_quantize._quantize import Quantize, QuantizeConfig
from bb_codec_quantize.errors import (
    EncodingDamaged,
    InvalidSetting,
    NotParameters,
    ValueNotFinite,
)
from bb_ir.errors import BytesAndBrainsError
from bb_ir.params import ParameterSet
from bb_ir.types import parse_type
from bb_roles.config import build_config
from bb_roles.errors import ConfigError
from bb_roles.registry import component_class
from bb_testing.context import FakeContext, environment
from bb_testing.strategies import tensors

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = [np.dtype("f8"), np.dtype("f4"), np.dtype("f2"), BFLOAT16]
UNITS = {"float64": 2.0**-52, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
SMALLEST = {"float64": 5e-324, "float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133}
INTEGERS = {"int8": 127, "int4": 7}
CONFIGS = [
    QuantizeConfig(to=to, per=per, rounding=rounding)
    for to in ("int8", "int4", "float16", "bfloat16")
    for per in ("tensor", "channel")
    for rounding in ("nearest", "stochastic")
]
EVERY_CONFIG = pytest.mark.parametrize(
    "config", CONFIGS, ids=lambda c: f"{c.to}-{c.per}-{c.rounding}"
)


def make(config=None, **fields):
    return Quantize(config or QuantizeConfig(**fields), environment("codec"))


def params(**tensors):
    return ParameterSet.from_tensors(tensors)


def there_and_back(config, given_, seed=0):
    codec = make(config)
    return codec.decode(FakeContext(), codec.encode(FakeContext(seed=seed), given_))


def scaled(tensor, scale):
    """Return other numbers of the same dtype; with a small scale also those that are denormal."""
    return np.asarray((tensor.astype(np.float64) * scale).astype(tensor.dtype))


#: By dtype, up to what a code can stand for with its step.
LARGEST = {"float16": 1e4, "bfloat16": 3e38, "float32": 3e38, "float64": 1.7e308}
floats = st.builds(
    scaled,
    st.one_of([tensors(dtype, magnitude=most) for dtype, most in LARGEST.items()]),
    st.sampled_from([1.0, 1e-3, 1e-30, 1e-310]),
)


def largest(tensor, per):
    """The largest magnitude that each element's step comes from, float64."""
    exact = np.abs(tensor.astype(np.float64))
    if per == "channel" and tensor.ndim > 1:
        axes = tuple(range(1, tensor.ndim))
        return np.broadcast_to(exact.max(axis=axes, keepdims=True, initial=0), exact.shape)
    return np.broadcast_to(exact.max(initial=0), exact.shape)


def step(exact, reach, to):
    """How far apart the numbers are that a code can stand for, where a value is."""
    if to in INTEGERS:
        return reach / INTEGERS[to]
    digits, below = {"float16": (10, 2.0**-28), "bfloat16": (7, 2.0**-126)}[to]
    # The least are equally far apart, and so small only in bfloat16 that nobody sees them.
    near = np.maximum(np.abs(exact), np.ldexp(1.0, np.frexp(reach)[1] - 1) * below)
    return np.where(reach == 0, 0.0, np.ldexp(1.0, np.frexp(near)[1] - 1 - digits))


# ---- there and back


@EVERY_CONFIG
@settings(deadline=None)
@given(tensor=floats, seed=st.integers(0, 99))
@example(tensor=np.array([1e-45, -1e-45], np.float32), seed=0)
@example(tensor=np.array([5e-324, 0.0]), seed=0)
@example(tensor=np.array([np.finfo("f8").max, -1.0]), seed=0)
@example(tensor=np.array(2.5, np.float16), seed=0)
def test_error_is_at_most_half_a_step_or_one(config, tensor, seed):
    decoded = there_and_back(config, params(w=tensor), seed)["w"]
    assert decoded.dtype == tensor.dtype
    assert decoded.shape == tensor.shape
    reach, exact = largest(tensor, config.per), tensor.astype(np.float64)
    steps = 0.5 if config.rounding == "nearest" else 1.0
    rounding = UNITS[tensor.dtype.name] * reach + SMALLEST[tensor.dtype.name]
    error = np.abs(decoded.astype(np.float64) - exact)
    assert (error <= step(exact, reach, config.to) * steps * (1 + 1e-12) + rounding).all()
    assert (decoded[tensor == 0] == 0).all()
    if config.to in INTEGERS:
        whole = np.abs(exact) == reach
        assert (decoded[whole] == tensor[whole]).all()


@EVERY_CONFIG
@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=5).filter("__metadata__".__ne__), floats, max_size=5))
def test_layout_comes_back_byte_for_byte(config, given_):
    given_ = {**given_, "n": np.arange(3), "flag": np.array(True), "u": np.zeros((0, 2), "u1")}
    value = ParameterSet.from_tensors(given_, metadata={"epoch": "3", "bb.codec": "mine"})
    decoded = there_and_back(config, value)
    assert decoded.layout == value.layout
    for name in ("n", "flag", "u"):
        assert decoded[name].tobytes() == value[name].tobytes()


@EVERY_CONFIG
@given(st.dictionaries(st.from_regex(r"[a-z.]{1,8}", fullmatch=True), floats, max_size=5))
@settings(deadline=None)
def test_type_of_what_is_encoded_follows_from_that_of_the_original(config, given_):
    given_ = {**given_, "N": np.arange(3), "U": np.zeros((0, 2), "u1")}
    plain = ParameterSet.from_tensors(given_)
    marked = ParameterSet.from_tensors(dict(reversed(given_.items())), metadata={"epoch": "3"})

    told = Quantize.infer_types(config, "Encode", (plain.layout.type,))

    for value in (plain, marked):
        encoded = Quantize(config, environment()).encode(FakeContext(), value)
        assert encoded.layout.type == told["encoded"]
        assert encoded.layout.metadata == value.layout.metadata


@pytest.mark.parametrize(
    ("op", "given_"),
    [
        ("Decode", "params(w:tensor(float32)[3])"),
        ("Encode", "any"),
        ("Encode", "params"),
        ("Encode", "params(w:tensor)"),
        ("Encode", "params(w:tensor(float32))"),
        ("Encode", "params(w:tensor[3])"),
        ("Encode", "params(w:tensor(float32)[n])"),
        ("Encode", "params(w:tensor(string)[3])"),
    ],
)
def test_nothing_is_said_where_the_original_is_not_known(op, given_):
    assert Quantize.infer_types(QuantizeConfig(), op, (parse_type(given_),)) is None


@EVERY_CONFIG
def test_a_set_laid_out_by_others_is_taken(config):
    header = (
        b'{"b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]},'
        b'"a":{"dtype":"BOOL","shape":[],"data_offsets":[0,1]},'
        b'"c":{"dtype":"F64","shape":[1,1],"data_offsets":[9,17]}}'
    )
    data = b"\1" + np.array([1, -1], "f4").tobytes() + np.array([3.0]).tobytes()
    value = ParameterSet.from_image(len(header).to_bytes(8, "little") + header + data)
    decoded = there_and_back(config, value)

    assert decoded.layout == ParameterSet.from_tensors(dict(value.items())).layout
    assert {n: a.tobytes() for n, a in decoded.items()} == {
        n: a.tobytes() for n, a in value.items()
    }


@EVERY_CONFIG
@pytest.mark.parametrize("size", [1, 2, 3, 32_767, 32_768, 32_769, 70_001])
def test_tensors_of_any_size_are_packed(config, size):
    values = np.random.default_rng(size).integers(-7, 8, (2, size)).astype(np.float32)
    values[:, 0] = 7
    if config.to == "int8":
        values[:, 0] = 127
    assert (there_and_back(config, params(w=values, b=values[0]))["w"] == values).all()


def test_codes_are_those_of_the_documentation():
    value = params(w=np.array([-7, 0, 3.4, 7, 1], np.float32))
    eight, four = (make(to=to).encode(FakeContext(), value) for to in ("int8", "int4"))
    assert eight["codes"].view(np.int8).tolist() == [-127, 0, 62, 127, 18]
    assert four["codes"].tolist() == [0x81, 0xFB, 0x89]
    assert eight["scales"].tolist() == four["scales"].tolist() == [7.0]
    assert four["layout"].tobytes() == (
        b'{"codec":"quantize/1","to":"int4","per":"tensor","tensors":{"w":["float32",[5]]}}'
    )
    assert dict(four.layout.metadata) == {}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("to", ["float16", "bfloat16"])
def test_short_floats_are_those_of_a_cast(to, dtype):
    values = np.random.default_rng(3).standard_normal((50, 40)).astype(np.float32).astype(dtype)
    values[0, :4] = 0.0, -0.0, 1.0, -2.5
    short = np.dtype(np.float16) if to == "float16" else BFLOAT16

    decoded = there_and_back(QuantizeConfig(to=to, per="channel"), params(w=values))["w"]

    assert decoded.tobytes() == values.astype(short).astype(dtype).tobytes()


@pytest.mark.parametrize("to", ["float16", "bfloat16"])
@pytest.mark.parametrize("scale", [1e-38, 1e-6, 1e6, 3.4e38])
def test_short_floats_neither_overflow_nor_vanish(to, scale):
    values = (np.linspace(-1, 1, 101) * scale).astype(np.float32)

    decoded = there_and_back(QuantizeConfig(to=to), params(w=values))["w"]

    share = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[to]
    assert np.isfinite(decoded).all()
    assert np.allclose(decoded, values, rtol=share * (1 + 1e-6), atol=0)


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_largest_numbers_stay_finite_where_rounding_up_ends_the_range(rounding):
    for dtype in ("float64", "float32", "float16", BFLOAT16):
        values = np.array([ml_dtypes.finfo(dtype).max, -ml_dtypes.finfo(dtype).max, 0], dtype)
        for seed in range(8):
            config = QuantizeConfig(to="bfloat16", rounding=rounding)
            decoded = there_and_back(config, params(w=values), seed)["w"].astype("f8")
            assert np.allclose(decoded, values.astype("f8"), rtol=2.0**-7, atol=0)


def test_a_channel_has_its_own_scale():
    value = params(w=np.array([[1, 2], [100, 200]], np.float32), b=np.array([1, 2], np.float32))
    encoded = make(per="channel").encode(FakeContext(), value)
    assert encoded["scales"].tolist() == [2, 200, 2]
    assert make().encode(FakeContext(), value)["scales"].tolist() == [200, 2]


def test_any_codec_decodes_what_another_encoded():
    value = params(w=np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4))
    for config in CONFIGS:
        encoded = make(config).encode(FakeContext(), value)
        assert make().decode(FakeContext(), encoded) == make(config).decode(FakeContext(), encoded)


@EVERY_CONFIG
def test_decoded_values_are_encoded_without_further_loss(config):
    value = params(w=np.random.default_rng(0).standard_normal((6, 40)).astype(np.float32))
    once = there_and_back(config, value)
    nearest = QuantizeConfig(to=config.to, per=config.per)
    assert there_and_back(nearest, once) == once


# ---- rounding by chance


@pytest.mark.parametrize("to", ["int8", "int4", "float16", "bfloat16"])
def test_stochastic_rounding_is_unbiased(to):
    exact = np.array([1.0, 0.123, -0.456, 0.789, -0.0011, 0.0], np.float32)
    codec, count = make(to=to, rounding="stochastic"), 4000
    value = params(w=exact)
    drawn = [
        codec.decode(FakeContext(), codec.encode(FakeContext(seed=seed), value))["w"]
        for seed in range(count)
    ]
    # A draw is one of two neighbours: its standard deviation is at most half a step.
    allowed = 5 * step(exact.astype("f8"), np.float64(1), to) / 2 / np.sqrt(count)
    assert (np.abs(np.mean(drawn, axis=0, dtype=np.float64) - exact) <= allowed).all()
    assert len({one.tobytes() for one in drawn}) > 1


def test_stochastic_rounding_draws_from_the_context_alone():
    value = params(w=np.random.default_rng(0).standard_normal(500).astype(np.float32))
    codec = make(rounding="stochastic")
    one, again, other = (codec.encode(FakeContext(seed=seed), value) for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_rounding_to_nearest_draws_nothing():
    class NoRandom(FakeContext):
        def rng(self):
            raise AssertionError

    make().encode(NoRandom(), params(w=np.ones(3, np.float32)))


# ---- size


@pytest.mark.parametrize(
    ("to", "least", "most"),
    [
        ("int8", 3.95, 4.0),
        ("int4", 7.85, 8.0),
        ("float16", 1.98, 2.0),
        ("bfloat16", 1.98, 2.0),
    ],
)
@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_large_sets_of_float32_shrink_by_the_ratio_of_widths(to, least, most, per):
    rng = np.random.default_rng(0)
    value = params(
        first=rng.standard_normal((784, 512)).astype(np.float32),
        bias=rng.standard_normal(512).astype(np.float32),
        second=rng.standard_normal((512, 512)).astype(np.float32),
    )
    encoded = make(to=to, per=per).encode(FakeContext(), value)
    assert least < value.nbytes / encoded.nbytes < most


def test_encoding_takes_little_more_memory_than_its_result():
    value = params(w=np.random.default_rng(0).standard_normal(4_000_000).astype(np.float32))
    codec = make(rounding="stochastic")
    tracemalloc.start()
    codec.encode(FakeContext(), value)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6_000_000


# ---- what is refused


@EVERY_CONFIG
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(config, dtype, bad):
    values = np.ones((3, 4), dtype)
    values[1, 2] = bad
    with pytest.raises(ValueNotFinite, match="'w' holds a value"):
        make(config).encode(FakeContext(), params(v=np.ones(2), w=values))


@pytest.mark.parametrize("value", [np.ones(3, np.float32), {"w": np.ones(3)}, None, b""])
def test_only_parameter_sets_are_taken(value):
    with pytest.raises(NotParameters, match=r"was to be encoded"):
        make().encode(FakeContext(), value)
    with pytest.raises(NotParameters, match=r"was to be decoded"):
        make().decode(FakeContext(), value)


def encoded(**fields):
    value = params(
        w=np.linspace(-1, 1, 15, dtype=np.float32).reshape(3, 5),
        half=np.ones(3, np.float16),
        flag=np.array([True, False]),
        n=np.arange(4),
    )
    return make(**fields).encode(FakeContext(), value)


def changed(base, *, metadata=None, **parts):
    kept = {
        name: array for name, array in {**dict(base.items()), **parts}.items() if array is not None
    }
    meta = {**dict(base.layout.metadata), **(metadata or {})}
    return ParameterSet.from_tensors(kept, metadata=meta)


def patched(array, at, value):
    array = array.copy()
    array[at] = value
    return array


def text(**entries):
    """What an encoded set says of how it was made, with some of it changed."""
    told = {**json.loads(EIGHT["layout"].tobytes()), **entries}
    return spelled(json.dumps(told, separators=(",", ":")).encode())


def spelled(data):
    return changed(EIGHT, layout=np.frombuffer(data, np.uint8))


FOUR, EIGHT, HALF = encoded(to="int4"), encoded(), encoded(to="float16")
BRAIN = encoded(to="bfloat16")
TOLD = EIGHT["layout"].tobytes()
DAMAGED = {
    "no tensors": ParameterSet.from_tensors({}),
    "another codec": text(codec="quantize/2"),
    "another width": text(to="int4"),
    "another wide one": text(to="float16"),
    "no such codes": text(to="int16"),
    "codes that are a number": text(to=8),
    "codes that are a list": text(to=["int8"]),
    "other groups": text(per="channel"),
    "no such groups": text(per="row"),
    "groups that are a mapping": text(per={}),
    "tensors that are a list": text(tensors=[]),
    "a tensor that is a number": text(tensors={"w": 3}),
    "a tensor without a shape": text(tensors={"w": ["float32"]}),
    "a shape that is a text": text(tensors={"w": ["float32", "ab"]}),
    "a shape with a bool": text(tensors={"w": ["float32", [True]]}),
    "a negative shape": text(tensors={"w": ["float32", [-1]]}),
    "a dtype that is none": text(tensors={"w": ["float31", [1]]}),
    "a dtype that is a list": text(tensors={"w": [[], [1]]}),
    "a name that no tensor has": text(tensors={"__metadata__": ["float32", [1]]}),
    "a name that is no text": text(tensors={"\ud800": ["float32", [1]]}),
    "spelled with a space": spelled(TOLD.replace(b":", b": ", 1)),
    "a name twice": spelled(TOLD.replace(b'{"n":', b'{"n":["int64",[4]],"n":')),
    "too deep": spelled(b"[" * 100_000),
    "a list": spelled(b"[]"),
    "a number too long": spelled(b"1" * 5_000),
    "no codes": changed(EIGHT, codes=None),
    "more tensors": changed(EIGHT, more=np.zeros(1)),
    "codes cut": changed(EIGHT, codes=EIGHT["codes"][:-1]),
    "codes added": changed(EIGHT, codes=np.append(EIGHT["codes"], np.uint8(0))),
    "codes in lines": changed(EIGHT, codes=EIGHT["codes"][None]),
    "codes retyped": changed(EIGHT, codes=EIGHT["codes"].view(np.int8)),
    "code out of range": changed(EIGHT, codes=patched(EIGHT["codes"], 3, 128)),
    "nibble out of range": changed(FOUR, codes=patched(FOUR["codes"], 3, 0x08)),
    "half that is infinite": changed(HALF, codes=patched(HALF["codes"], 1, 0x7C)),
    "half that is not a number": changed(HALF, codes=patched(HALF["codes"], 1, 0x7E)),
    "half out of range": changed(HALF, codes=patched(HALF["codes"], 1, 0x79)),
    "bfloat16 out of range": changed(BRAIN, codes=patched(BRAIN["codes"], 1, 0x41)),
    "bfloat16 that is not a number": changed(BRAIN, codes=patched(BRAIN["codes"], 1, 0x7F)),
    "padding used": changed(FOUR, codes=patched(FOUR["codes"], 7, 0x99)),
    "scale cut": changed(EIGHT, scales=EIGHT["scales"][:-1]),
    "scale negative": changed(EIGHT, scales=patched(EIGHT["scales"], 0, -1)),
    "scale nan": changed(EIGHT, scales=patched(EIGHT["scales"], 0, np.nan)),
    "scale nan that signals": changed(
        EIGHT, scales=patched(EIGHT["scales"].view("u4"), 0, 0x7FA00000).view("f4")
    ),
    "scale infinite": changed(EIGHT, scales=patched(EIGHT["scales"], 0, np.inf)),
    "scale too large": changed(EIGHT, scales=patched(EIGHT["scales"], 1, 1e6)),
    "scale too fine": changed(EIGHT, scales=patched(EIGHT["scales"], 1, 1.0001)),
    "scales wide": changed(EIGHT, scales=EIGHT["scales"].astype("f8")),
    "scales whole": changed(EIGHT, scales=EIGHT["scales"].astype("i4")),
    "kept cut": changed(EIGHT, kept=EIGHT["kept"][1:]),
    "bool of two": changed(EIGHT, kept=patched(EIGHT["kept"], -1, 2)),
    "layout cut": changed(EIGHT, layout=EIGHT["layout"][:-1]),
    "layout empty": changed(EIGHT, layout=EIGHT["layout"][:0]),
    "layout damaged": changed(EIGHT, layout=patched(EIGHT["layout"], 12, 255)),
    "huge claim": text(tensors={"w": ["float32", [1 << 40]]}),
    "huge and empty": text(tensors={"w": ["float32", [1 << 40, 0]]}),
    "huger than any memory": text(tensors={"w": ["float32", [1 << 70]]}),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_sets_are_refused_before_memory_is_taken(damage):
    codec = make()
    tracemalloc.start()
    with pytest.raises(EncodingDamaged, match="this set cannot be decoded"):
        codec.decode(FakeContext(), DAMAGED[damage])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_the_sets_that_are_damaged_here_are_right_without_it():
    for whole in (FOUR, EIGHT, HALF, BRAIN):
        assert make().decode(FakeContext(), changed(whole)).names == ("n", "w", "half", "flag")


@given(st.data())
def test_any_changed_byte_is_refused_or_decoded(data):
    image = bytearray(data.draw(st.sampled_from([FOUR, EIGHT, HALF, BRAIN])).to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        image[data.draw(st.integers(0, len(image) - 1))] = data.draw(st.integers(0, 255))
    try:
        value = ParameterSet.from_image(bytes(image))
    except BytesAndBrainsError:
        return
    try:
        decoded = make().decode(FakeContext(), value)
    except EncodingDamaged:
        return
    assert ParameterSet.from_image(decoded.to_bytes()) == decoded
    assert all(np.isfinite(decoded[n].astype("f8")).all() for n in decoded)


@pytest.mark.parametrize(
    "config", [{"to": "int16"}, {"to": 8}, {"to": ["int8"]}, {"per": "row"}, {"rounding": "up"}]
)
def test_configuration_out_of_range_is_refused(config):
    with pytest.raises(InvalidSetting, match=f"{next(iter(config))} is"):
        make(**config)


def test_every_error_is_one_of_ours_and_a_value_error():
    for kind in (EncodingDamaged, InvalidSetting, NotParameters, ValueNotFinite):
        assert issubclass(kind, BytesAndBrainsError)
        assert issubclass(kind, ValueError)


# ---- the plugin


def test_the_plugin_declares_the_class_and_imports_nothing_heavy():
    assert component_class(bb_component()) is Quantize
    code = "import sys, bb_codec_quantize; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_configuration_is_checked_by_the_contract():
    given_ = {"to": "int4", "per": "channel", "rounding": "stochastic"}
    config = build_config(Quantize.Config, given_, "codec")
    assert config == QuantizeConfig("int4", "channel", "stochastic")
    with pytest.raises(ConfigError):
        build_config(Quantize.Config, {"to": "int5"}, "codec")
