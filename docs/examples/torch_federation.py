"""Federated averaging of a PyTorch module: eight clients with different digits, a small network.

A module and an optimizer of PyTorch become a component by naming them in a class. Compiled with its
configuration, the program knows the module's parameters and what it takes: images of another size
do not compile. Parameters and the running statistics of the batch normalization are averaged.

It needs `bb-model-torch`, which no extra brings, as PyTorch is large: `pip install bb-model-torch`,
or `nox -s torch` in a clone.

    python torch_federation.py
"""

from typing import Any

import torch
from torch import nn

import bytesandbrains as bb
from bb_model_torch.model import TorchModel

CLIENTS = 8
ROUNDS = 10


class Net(nn.Module):
    """A convolutional network; rows of pixels go in, a number per class comes out."""

    def __init__(self, side: int = 8, filters: int = 16) -> None:
        super().__init__()
        self.side = side
        self.look = nn.Sequential(
            nn.Conv2d(1, filters, 3, padding=1), nn.BatchNorm2d(filters), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.name = nn.Linear(filters * (side // 2) ** 2, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (n, 10) for images (n, side * side)."""
        return self.name(self.look(x.reshape(-1, 1, self.side, self.side)).flatten(1))


class NetModel(TorchModel):
    """What is bound: which module, which optimizer, which loss."""

    module = Net
    optimizer = torch.optim.AdamW
    loss = nn.functional.cross_entropy


# One thread, so that the same bits come out on machines with any number of cores.
SETTINGS = {"lr": 0.005, "accuracy": True, "threads": 1, "device": "cpu"}


def compile_(**changes: Any) -> Any:
    """Bind all slots; with a configuration, types follow from it."""
    return (
        bb.Compiler()
        .bind_peer_selector("peers", "static")
        .bind_model("model", NetModel, config={**SETTINGS, **changes})
        .bind_data_source("data", "digits", config={"split": "train", "batch_size": 16})
        .bind_data_source("test", "digits")
        .bind_aggregator("aggregator", "fedavg")
        .compile(bb.programs.FederatedAveraging(CLIENTS, evaluate=True).build())
    )


def main() -> None:
    """Compile twice, once in vain, and train."""
    try:
        compile_(arguments={"side": 28})
    except bb.CompileError as error:
        # Two ops are given such images, Fit and Evaluate: the first complaint will do.
        first, *_ = getattr(error, "errors", [error])
        _, _, why = first.found.partition("slot 'data': ")
        print(f"{first.code}: {why.partition(';')[0]}")

    federation = bb.LocalFederation(
        compile_(arguments={"filters": 12}),
        nodes={"client": CLIENTS},
        config={
            "data": lambda i: {"partition": "dirichlet", "clients": CLIENTS, "client": i},
            "test": {"split": "test"},
        },
    )
    for number, outputs in enumerate(federation.rounds(ROUNDS), start=1):
        test = outputs["test"]
        print(f"round {number}: test loss {test['loss']:.3f}, accuracy {test['accuracy']:.3f}")
    params = federation.server.component("model").params(None)
    print(f"{len(params)} tensors, {params.count} numbers; statistics: look.1.running_mean")
    print("means", " ".join(f"{mean:.2f}" for mean in params["look.1.running_mean"][:4]))


if __name__ == "__main__":
    main()
