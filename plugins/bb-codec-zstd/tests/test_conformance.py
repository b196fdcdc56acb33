import ml_dtypes
import numpy as np

from bb_codec_zstd._zstd import Zstd, ZstdConfig
from bb_ir.params import ParameterSet
from bb_testing.codec import CodecSuite
from bb_testing.context import environment


class TestParameters(CodecSuite):
    exact = True

    def make(self):
        return Zstd(ZstdConfig(), environment("codec"))

    def sample(self, rng):
        return ParameterSet.from_tensors(
            {
                "weight": rng.standard_normal((20, 7)).astype(np.float32),
                "steps": rng.integers(-1000, 1000, (3, 5)),
                "wide": rng.standard_normal((2, 3, 4)),
                "scale": np.float32(rng.standard_normal()),
                "flags": rng.integers(0, 2, 6).astype(bool),
                "narrow": rng.standard_normal((4, 3)).astype(ml_dtypes.bfloat16),
                "none": np.zeros((0, 4), np.float32),
            },
            metadata={"epoch": "3"},
        )


class TestBytes(CodecSuite):
    exact = True

    def make(self):
        return Zstd(ZstdConfig(takes="bytes", level=1), environment("codec"))

    def sample(self, rng):
        return rng.integers(0, 7, 900).astype(np.uint8).tobytes()
