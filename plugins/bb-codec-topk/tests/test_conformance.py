import ml_dtypes
import numpy as np

from bb_codec_topk._topk import TopK, TopKConfig
from bb_ir.params import ParameterSet
from bb_testing.codec import CodecSuite
from bb_testing.context import FakeContext, environment


class TopKSuite(CodecSuite):
    config = TopKConfig()

    def make(self):
        return TopK(self.config, environment("codec"))

    def sample(self, rng):
        return ParameterSet.from_tensors(
            {
                "weight": rng.standard_normal((20, 7)).astype(np.float32),
                "steps": rng.integers(-1000, 1000, (3, 5)),
                "wide": rng.standard_normal((2, 3, 4)),
                "scale": np.float32(rng.standard_normal()),
                "flags": rng.integers(0, 2, 6).astype(bool),
                "narrow": rng.standard_normal((4, 3)).astype(ml_dtypes.bfloat16),
                "half": rng.standard_normal((5, 5)).astype(np.float16),
                "none": np.zeros((0, 4), np.float32),
            },
            metadata={"epoch": "3"},
        )

    def story(self, story):
        for seed in range(3):
            story("Compress", self.sample(np.random.default_rng(seed)))


class TestAll(TopKSuite):
    """All entries are sent, so nothing is lost."""

    config = TopKConfig(share=1.0)
    exact = True


class TestTenth(TopKSuite):
    """What is left out is at most as large as the largest of its tensor."""

    config = TopKConfig(share=0.1)
    tolerance = 1.0


class TestFewPerTensor(TopKSuite):
    config = TopKConfig(k=3, per="tensor")
    tolerance = 1.0


class TestCompressingBefore(TopKSuite):
    """What is kept makes no difference to encoding and decoding, and goes along when saved."""

    config = TopKConfig(share=0.1, per="tensor")
    tolerance = 1.0

    def make(self):
        codec = super().make()
        codec.compress(FakeContext(round=1), self.sample(environment("sample").rng()))
        return codec
