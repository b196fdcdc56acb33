import ml_dtypes
import numpy as np
import pytest

from bb_codec_quantize._quantize import Quantize, QuantizeConfig
from bb_ir.params import ParameterSet
from bb_testing.codec import CodecSuite
from bb_testing.context import environment


def sample(rng):
    return ParameterSet.from_tensors(
        {
            "weight": rng.standard_normal((20, 7)).astype(np.float32),
            "steps": rng.integers(-1000, 1000, (3, 5)),
            "bias": rng.standard_normal(9).astype(np.float32),
            "wide": rng.standard_normal((2, 3, 4)),
            "scale": np.float32(rng.standard_normal()),
            "flags": rng.integers(0, 2, 6).astype(bool),
            "narrow": rng.standard_normal((4, 3)).astype(ml_dtypes.bfloat16),
            "half": rng.standard_normal((5, 5)).astype(np.float16),
            "none": np.zeros((0, 4), np.float32),
        },
        metadata={"epoch": "3"},
    )


class QuantizeSuite(CodecSuite):
    config = QuantizeConfig()

    def make(self):
        return Quantize(self.config, environment("codec"))

    def sample(self, rng):
        return sample(rng)


class TestEightBits(QuantizeSuite):
    tolerance = 0.5 / 127


class TestFourBits(QuantizeSuite):
    config = QuantizeConfig(to="int4", per="channel")
    tolerance = 0.5 / 7


class TestStochasticEightBits(QuantizeSuite):
    config = QuantizeConfig(per="channel", rounding="stochastic")
    tolerance = 1 / 127


class TestStochasticFourBits(QuantizeSuite):
    config = QuantizeConfig(to="int4", rounding="stochastic")
    tolerance = 1 / 7


class TestFloat16(QuantizeSuite):
    config = QuantizeConfig(to="float16")
    tolerance = 2.0**-11


class TestBfloat16(QuantizeSuite):
    config = QuantizeConfig(to="bfloat16", per="channel")
    tolerance = 2.0**-8


class TestStochasticFloat16(QuantizeSuite):
    config = QuantizeConfig(to="float16", per="channel", rounding="stochastic")
    tolerance = 2.0**-10


class TestStochasticBfloat16(QuantizeSuite):
    config = QuantizeConfig(to="bfloat16", rounding="stochastic")
    tolerance = 2.0**-7


class TestSmallTiles(QuantizeSuite):
    """Tiles of a few elements, so that tensors and channels span many of them."""

    config = QuantizeConfig(to="int4", per="channel", rounding="stochastic")
    tolerance = 1 / 7

    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch):
        monkeypatch.setattr("bb_codec_quantize._levels._TILE", 6)
