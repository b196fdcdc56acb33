import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bb_codec_chain._chain as chain
from bb_codec_chain import bb_component
from bb_codec_chain._chain import Chain, ChainConfig
from bb_codec_chain.errors import ChainMisfit, ChainStateMisfit
from bb_ir.errors import BytesAndBrainsError
from bb_ir.params import ParameterSet
from bb_ir.types import ANY, parse_type
from bb_roles import Codec, ComponentSpec, State
from bb_roles.config import build_config
from bb_roles.errors import ConfigError, UnknownPluginError
from bb_roles.registry import bound_class, component_class
from bb_testing.context import FakeContext, environment

CTX = FakeContext()


def make(*codecs, **configs):
    return Chain(ChainConfig(codecs, configs), environment("codec"))


def params(**tensors):
    return ParameterSet.from_tensors(tensors)


class Remembering(Codec):
    """Takes bytes, puts what it learned behind them, and remembers what it is told."""

    types: ClassVar = {"Encode.value": "bytes", "Encode.encoded": "bytes"}
    made: ClassVar = []

    def __init__(self, config, env):
        super().__init__(config, env)
        self.learned, self.abandoned, self.closed = b"?", [], False
        self.made.append(self)

    def encode(self, ctx, value):
        return value + self.learned

    def decode(self, ctx, encoded):
        return encoded[: -len(self.learned)]

    def train(self, ctx, samples):
        self.learned = samples[0][-1:]

    def abandon(self, ctx):
        self.abandoned.append(ctx.round)

    def close(self):
        self.closed = True

    def save(self):
        return State(tensors={"t": np.ones(1)}, data={"learned": self.learned.decode()})

    def load(self, state):
        assert list(state.tensors) == ["t"]
        self.learned = state.data["learned"].encode()


class Deferring(Remembering):
    defers = ("encode",)


class Needing(Remembering):
    depends: ClassVar = {"other": Codec}


@pytest.fixture
def fakes(monkeypatch):
    """Three codecs that are not installed."""
    known = {"a": Remembering, "deferring": Deferring, "needing": Needing}
    real_spec, real_class = chain.component_spec, chain.component_class

    def spec_of(role, name):
        if name not in known:
            return real_spec(role, name)
        return ComponentSpec(role=role, name=name, cls=f"tests:{name}")

    def class_of(spec):
        return known.get(spec.name) or real_class(spec)

    monkeypatch.setattr(chain, "component_spec", spec_of)
    monkeypatch.setattr(chain, "component_class", class_of)
    monkeypatch.setattr(Remembering, "made", [])


# ---- there and back


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=50))
@settings(deadline=None)
def test_a_chain_is_its_codecs_one_after_the_other(values):
    value = params(w=np.array(values, np.float32))
    first, last = (
        cls(cls.Config(), environment("codec"))
        for cls in (bound_class("codec", name) for name in ("quantize", "zstd"))
    )
    encoded = make("quantize", "zstd").encode(CTX, value)
    assert encoded == last.encode(CTX, first.encode(CTX, value))
    assert make("quantize", "zstd").decode(CTX, encoded) == first.decode(
        CTX, first.encode(CTX, value)
    )


def test_three_codecs_take_less_than_two_and_keep_the_largest():
    update = np.random.default_rng(0).standard_normal((300, 200)).astype(np.float32)
    value = params(w=update)
    three = make("topk", "quantize", "zstd", topk={"share": 0.05})
    two = make("topk", "zstd", topk={"share": 0.05})
    assert len(three.encode(CTX, value)) < len(two.encode(CTX, value)) < value.nbytes / 10
    decoded = three.decode(CTX, three.encode(CTX, value))["w"]
    exact = two.decode(CTX, two.encode(CTX, value))["w"]
    assert np.count_nonzero(exact) == 3000
    assert np.abs(decoded - exact).max() <= np.abs(update).max() / 254 * 1.001


def test_errors_are_those_of_the_codecs():
    with pytest.raises(ValueError, match="a ndarray was to be encoded"):
        make("quantize", "zstd").encode(CTX, np.ones(3))
    with pytest.raises(ValueError, match="this frame cannot be decoded"):
        make("quantize", "zstd").decode(CTX, b"abc")


@given(st.data())
@settings(deadline=None)
def test_any_changed_byte_is_refused_or_decoded(data):
    codec = make("topk", "quantize", topk={"k": 3})
    value = params(w=np.arange(7, dtype=np.float32), n=np.arange(3))
    image = bytearray(codec.encode(CTX, value).to_bytes())
    image[data.draw(st.integers(0, len(image) - 1))] = data.draw(st.integers(0, 255))
    try:
        damaged = ParameterSet.from_image(bytes(image))
    except BytesAndBrainsError:
        return
    try:
        decoded = codec.decode(CTX, damaged)
    except ValueError:
        return
    assert all(np.isfinite(array.astype("f8")).all() for _, array in decoded.items())


# ---- what is told to each codec


def test_each_codec_learns_from_what_the_one_before_it_gives(fakes):
    codec = make("a", "a")
    codec.train(CTX, [b"xyz", b"other"])
    first, second = Remembering.made
    assert (first.learned, second.learned) == (b"z", b"z")
    assert codec.encode(CTX, b"xy") == b"xyzz"
    assert codec.decode(CTX, b"xyzz") == b"xy"


def test_frames_that_fail_and_the_end_are_told_to_all(fakes):
    codec = make("a", "zstd", "a", zstd={"takes": "bytes"})
    codec.abandon(FakeContext(round=7))
    codec.close()
    assert [(one.abandoned, one.closed) for one in Remembering.made] == [([7], True)] * 2


def test_each_codec_knows_its_place(fakes):
    make("a", "a")
    assert [one.env.slot for one in Remembering.made] == ["codec.0", "codec.1"]


def test_states_go_to_those_that_saved_them(fakes):
    codec, other = make("a", "a"), make("a", "a")
    first, second = Remembering.made[:2]
    first.learned, second.learned = b"1", b"2"
    other.load(codec.save())
    assert other.encode(CTX, b"x") == b"x12"


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"codecs": ["a"], "data": [{}]},
        {"codecs": ["a", "a"], "data": [{}]},
        {"codecs": ["a", "a"], "data": None},
    ],
    ids=str,
)
def test_a_state_of_another_chain_is_refused(fakes, data):
    with pytest.raises(ChainStateMisfit, match="a state of the codecs"):
        make("a", "a").load(State(data=data))


# ---- what does not fit


def test_codecs_that_do_not_fit_each_other_are_refused():
    with pytest.raises(ChainMisfit, match="'quantize' takes params, and codec 'zstd' gives bytes"):
        ChainConfig(("zstd", "quantize"))
    with pytest.raises(ChainMisfit, match="'zstd' takes bytes, and codec 'quantize' gives params"):
        ChainConfig(("quantize", "zstd"), {"zstd": {"takes": "bytes"}})


@pytest.mark.parametrize(
    ("codecs", "configs", "message"),
    [
        ((), {}, "a chain of 0 codecs"),
        (("quantize",) * 9, {}, "a chain of 9 codecs"),
        (("chain",), {}, "a chain stands in a chain"),
        (("deferring",), {}, "'deferring' defers its work"),
        (("needing",), {}, "'needing' needs the slots other"),
        (("quantize",), {"zstd": {}}, "a configuration for 'zstd', which is not in the chain"),
    ],
)
def test_what_cannot_stand_in_a_chain_is_refused(fakes, codecs, configs, message):
    with pytest.raises(ChainMisfit, match=message):
        ChainConfig(codecs, configs)


@pytest.mark.parametrize("name", ["no-such", "os:system", "bb_codec_zstd._zstd:Zstd", ""])
def test_only_installed_plugins_are_named(name):
    with pytest.raises(UnknownPluginError):
        ChainConfig((name,))


def test_configurations_of_codecs_are_checked():
    with pytest.raises(ConfigError, match="to"):
        ChainConfig(("quantize",), {"quantize": {"to": "int5"}})
    with pytest.raises(ConfigError, match="no configuration field 'bit'"):
        ChainConfig(("quantize",), {"quantize": {"bit": 4}})


def test_every_error_is_one_of_ours_and_a_value_error():
    for kind in (ChainMisfit, ChainStateMisfit):
        assert issubclass(kind, BytesAndBrainsError)
        assert issubclass(kind, ValueError)


# ---- types


def test_types_are_those_of_the_ends():
    told = Chain.value_types(ChainConfig(("quantize", "zstd")))
    assert told == {
        "Encode.value": "params",
        "Encode.encoded": "bytes",
        "Decode.encoded": "bytes",
        "Decode.value": "params",
    }


def test_the_type_of_what_is_encoded_follows_through_the_row():
    config = ChainConfig(("topk", "quantize"), {"topk": {"k": 3}})
    value = params(w=np.arange(7, dtype=np.float32), n=np.arange(3))
    encoded = Chain(config, environment("codec")).encode(CTX, value)
    told = Chain.infer_types(config, "Encode", (value.layout.type,))
    assert told == {"encoded": encoded.layout.type}
    assert Chain.infer_types(config, "Encode", (ANY,)) == {"encoded": parse_type("params")}
    assert Chain.infer_types(config, "Decode", (ANY,)) == {"value": parse_type("params")}
    assert Chain.infer_types(config, "Train", (ANY,)) is None


# ---- the plugin


def test_the_plugin_declares_the_class_and_imports_nothing_heavy():
    assert component_class(bb_component()) is Chain
    code = "import sys, bb_codec_chain; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_configuration_is_checked_by_the_contract():
    given_ = {"codecs": ["quantize", "zstd"], "configs": {"quantize": {"to": "int4"}}}
    config = build_config(Chain.Config, given_, "codec")
    assert config == ChainConfig(("quantize", "zstd"), {"quantize": {"to": "int4"}})
    with pytest.raises(ConfigError, match="takes params"):
        build_config(Chain.Config, {"codecs": ["zstd", "quantize"]}, "codec")
