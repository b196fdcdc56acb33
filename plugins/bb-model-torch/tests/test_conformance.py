"""The contract of models, for modules and optimizers of many kinds."""

from typing import ClassVar

import numpy as np
import torch
from torch import nn

from bb_model_torch.model import TorchConfig, TorchModel
from bb_testing import ModelSuite, environment


class TorchSuite(ModelSuite):
    cls: ClassVar = TorchModel
    config: ClassVar = {}
    arguments: ClassVar = {"layers": [3, 8, 4], "activation": "tanh"}

    def make(self):
        config = {"arguments": self.arguments, "device": "cpu", **self.config}
        return self.cls(TorchConfig(**config), environment("model", seed=1))

    def batch(self):
        rng = np.random.default_rng(5)
        y = np.arange(24) % 4
        x = np.eye(4)[y, :3] + 0.1 * rng.standard_normal((24, 3))
        return x.astype("float64" if self.config.get("dtype") == "float64" else "float32"), y


class TestPlainDescent(TorchSuite):
    pass


class TestMomentum(TorchSuite):
    config: ClassVar = {
        "optimizer_arguments": {"momentum": 0.9, "weight_decay": 0.01},
        "lr": 0.05,
        "keep_optimizer_state": True,
    }


class TestAdamWInDouble(TorchSuite):
    config: ClassVar = {"optimizer": "AdamW", "dtype": "float64", "max_grad_norm": 1.0}
    tolerance = 1e-5


class TestDropout(TorchSuite):
    arguments: ClassVar = {"layers": [3, 32, 4], "dropout": 0.3}
    config: ClassVar = {"optimizer": "Adam", "lr": 0.01, "seed": 4, "threads": 1}


class TestHalfPrecision(TorchSuite):
    config: ClassVar = {"dtype": "bfloat16", "lr": 0.5}
    tolerance = None  # differences of 0.001 vanish in 8 bits


class TestLinearRegression(TorchSuite):
    arguments: ClassVar = {"inputs": 3, "outputs": 1}
    config: ClassVar = {"module": "linear", "loss": "mse"}

    def batch(self):
        x, _ = super().batch()
        return x, (x @ [1.0, -2.0, 0.5] + 3.0).astype("float32")


class TestConvolution(TorchSuite):
    """Images as rows; running statistics are exchanged, the count of batches stays."""

    arguments: ClassVar = {"height": 4, "width": 4, "filters": [6], "outputs": 4,
                           "batch_norm": True, "activation": "tanh"}  # fmt: skip
    config: ClassVar = {"module": "cnn"}
    tolerance = None  # the largest of four neighbours jumps

    def batch(self):
        rng = np.random.default_rng(5)
        y = np.arange(24) % 4
        x = np.eye(16)[4 * y] + 0.1 * rng.standard_normal((24, 16))
        return x.astype("float32"), y


class Words(nn.Module):
    """A bag of words, with tied weights, a frozen table and a buffer of counts."""

    def __init__(self, words: int = 12, width: int = 5) -> None:
        super().__init__()
        self.table = nn.Embedding(words, width)
        self.fixed = nn.Embedding(words, width).requires_grad_(requires_grad=False)
        self.up = nn.Linear(width, words, bias=False)
        self.up.weight = self.table.weight
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("seen", torch.zeros(words, dtype=torch.int64))

    def forward(self, x):
        if self.training:
            self.seen += torch.bincount(x.flatten(), minlength=len(self.seen))
        return self.scale * self.up((self.table(x) + self.fixed(x)).mean(dim=1))[:, :4]


class WordsModel(TorchModel):
    module = Words
    optimizer = torch.optim.RMSprop
    loss = nn.CrossEntropyLoss


class TestWords(TorchSuite):
    cls: ClassVar = WordsModel
    arguments: ClassVar = {}
    config: ClassVar = {"integer_inputs": "indices", "lr": 0.02, "accuracy": True}

    def batch(self):
        y = np.arange(24) % 4
        return np.stack([y, y + 4, (y * 5) % 12], axis=1).astype("int32"), y


class TestTrainablePart(TestWords):
    config: ClassVar = {**TestWords.config, "exchange": "trainable", "loss": "cross_entropy"}
