import numpy as np

from bb_codec_chain._chain import Chain, ChainConfig
from bb_ir.params import ParameterSet
from bb_testing.codec import CodecSuite
from bb_testing.context import environment


class ChainSuite(CodecSuite):
    config = ChainConfig(("quantize",))

    def make(self):
        return Chain(self.config, environment("codec"))

    def sample(self, rng):
        return ParameterSet.from_tensors(
            {
                "weight": rng.standard_normal((20, 7)).astype(np.float32),
                "steps": rng.integers(-1000, 1000, (3, 5)),
                "flags": rng.integers(0, 2, 6).astype(bool),
                "half": rng.standard_normal((5, 5)).astype(np.float16),
            },
            metadata={"epoch": "3"},
        )


class TestOne(ChainSuite):
    tolerance = 0.5 / 127


class TestRoundedAndCompressed(ChainSuite):
    config = ChainConfig(("quantize", "zstd"), {"quantize": {"rounding": "stochastic"}})
    tolerance = 1 / 127


class TestThinnedRoundedAndCompressed(ChainSuite):
    config = ChainConfig(("topk", "quantize", "zstd"), {"topk": {"share": 0.2}})
    tolerance = 1.0


class TestWithoutLoss(ChainSuite):
    config = ChainConfig(("topk", "zstd"), {"topk": {"share": 1.0}})
    exact = True
