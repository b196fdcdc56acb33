"""What the federation is compared with, trained by the same program on the same network.

*Centralized*: one Node with all training examples, as many epochs as a client of the federation
can make at most (rounds times local epochs). It is what a federation gives up for not moving data.

*Local only*: each client alone with its own examples, for as many epochs. It is what a federation
gives to its members.

All three begin with the same parameters and are measured on the same held-out examples.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bytesandbrains.demo.federation import Settings

__all__ = ["Baselines", "centralized", "local_only"]


@dataclass(frozen=True)
class Baselines:
    """Test accuracies after each `epochs` passes, as many as the federation had rounds.

    Attributes:
        centralized: Of the network that saw all training examples.
        local_only: Of each client's own network.
    """

    centralized: list[float]
    local_only: list[list[float]]

    def to_dict(self) -> dict[str, Any]:
        """Return the curves and what they come to."""
        last = [curve[-1] for curve in self.local_only]
        return {
            "centralized": {"accuracy": self.centralized[-1], "curve": self.centralized},
            "local_only": {
                "mean": statistics.fmean(last),
                "min": min(last),
                "max": max(last),
                "stdev": statistics.stdev(last) if len(last) > 1 else 0.0,
                "accuracies": last,
                "curves": self.local_only,
            },
        }


def centralized(settings: Settings) -> list[float]:
    """Train one network on all training examples; return its test accuracies."""
    return _train(settings, _compile(settings), settings.train)


def local_only(settings: Settings) -> Iterator[list[float]]:
    """Train each client's own network; give the test accuracies of one client after the other."""
    artifact = _compile(settings)
    for client in range(settings.clients):
        yield _train(settings, artifact, settings.part(client))


def _compile(settings: Settings) -> Any:
    from bb_compiler import Compiler
    from bb_runtime import load_artifact
    from bytesandbrains.programs import LocalTraining

    compiled = (
        Compiler()
        .bind_model("model", "mlp")
        .bind_data_source("data", "digits")
        .bind_data_source("test", "digits")
        .compile(LocalTraining(epochs=settings.epochs).build())
    )
    return load_artifact(compiled)


def _train(settings: Settings, artifact: Any, data: dict[str, Any]) -> list[float]:
    from bytesandbrains.local import LocalFederation

    alone = LocalFederation(
        artifact,
        config={"data": data, "test": settings.test, "model": settings.model},
        seed=settings.seed,
    )
    curve = [float(outputs["test"]["accuracy"]) for outputs in alone.rounds(settings.rounds)]
    alone.close()
    return curve
