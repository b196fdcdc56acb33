"""Modules, losses and optimizers of users, for tests that name them `torch_parts:Name`."""

import torch
from torch import nn


class Plain(nn.Module):
    def __init__(self, inputs: int = 3, outputs: int = 4) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, x):
        return self.layer(x)


class Counting(Plain):
    """With a buffer of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("scratch", torch.ones(2), persistent=False)

    def forward(self, x):
        y = self.layer(x)
        if self.training:
            self.count += len(x)
            self.mean += y.detach().mean(dim=0)
        return y


class NeedsData(Plain):
    """It looks at numbers, which a module without data does not have."""

    def forward(self, x):
        return super().forward(x) * (2.0 if float(x.sum()) > 0 else 1.0)


class Two(Plain):
    def forward(self, x):
        return x, x


class Scalar(Plain):
    def forward(self, x):
        return super().forward(x).sum()


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LazyLinear(4)


class ComplexNumbers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spectrum = nn.Parameter(torch.ones(2, dtype=torch.complex64))


class Overwriting(Plain):
    """It writes to what it is given, and to its own parameters."""

    def forward(self, x):
        y = super().forward(x)
        x.mul_(0.0)
        return y


class Frozen(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.requires_grad_(requires_grad=False)


def annotated(width: int = 3) -> nn.Module:
    return Plain(width)


def not_annotated(width: int = 3):
    return Plain(width)


def lies() -> nn.Module:
    return 7


def strange() -> "NobodyKnows":  # noqa: F821
    return 7


def squares(prediction: torch.Tensor, target: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """Targets are whole numbers here, and stay so."""
    assert target.dtype == torch.int64
    return scale * ((prediction.sum(dim=1) - target) ** 2).mean()


def rows(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return prediction.sum(dim=1)


class Unsavable(torch.optim.SGD):
    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            self.state[group["params"][0]]["set"] = {1, 2}


class Broken(torch.optim.SGD):
    def step(self, closure=None):
        raise RuntimeError("no step today")


VALUE = 3


class Flat(Plain):
    def forward(self, x):
        return super().forward(x)[:, 0]
