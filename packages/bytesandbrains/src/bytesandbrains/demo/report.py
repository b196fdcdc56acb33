"""The files that a demo leaves: figures, times, the model. Written whole or not at all."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bytesandbrains._files import write_atomically

if TYPE_CHECKING:
    from bb_ir.params import ParameterSet
    from bytesandbrains.demo.baselines import Baselines
    from bytesandbrains.demo.federation import Round, Settings

__all__ = ["ARTIFACT", "CONFIG", "METRICS", "MODEL", "PLOT", "TIMINGS", "Report"]

ARTIFACT = "artifact.onnx"
CONFIG = "config.json"
METRICS = "metrics.json"
MODEL = "model.safetensors"
PLOT = "accuracy.png"
TIMINGS = "timings.json"


class Report:
    """The folder of one run.

    Files of an earlier run that this one does not write are removed at the end, so that what lies
    in the folder belongs together.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written: set[str] = set()

    def path(self, name: str) -> Path:
        """Return the path of one of the files."""
        return self.folder / name

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Write one of the files."""
        write_atomically(self.path(name), data)
        self._written.add(name)

    def write_config(self, config: dict[str, Any]) -> None:
        """Write the configuration with which `bb run` repeats the federation."""
        self.write(CONFIG, _json(config))

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Write the figures: the same bytes for the same figures."""
        self.write(METRICS, _json(metrics))

    def write_timings(self, timings: dict[str, Any]) -> None:
        """Write the times."""
        self.write(TIMINGS, _json(timings))

    def write_model(self, params: ParameterSet) -> None:
        """Write the model as a safetensors file."""
        self.write(MODEL, params.image)

    def remove_stale(self) -> None:
        """Remove what an earlier run left and this one did not write."""
        for name in {ARTIFACT, CONFIG, METRICS, MODEL, PLOT, TIMINGS} - self._written:
            with suppress(OSError):
                self.path(name).unlink()


def metrics_of(
    settings: Settings,
    rounds: list[Round],
    baselines: Baselines | None,
    params: ParameterSet | None,
    *,
    interrupted: bool,
) -> dict[str, Any]:
    """Return every figure of a run; no times and no paths, so that a seed decides every byte."""
    last = rounds[-1].to_dict() if rounds else None
    return {
        "settings": settings.to_dict(),
        "seed": settings.seed,
        "rounds": [one.to_dict() for one in rounds],
        "final": last,
        "baselines": baselines.to_dict() if baselines else None,
        "interrupted": interrupted,
        "model": {"sha256": params.digest(), "elements": params.count} if params else None,
    }


def _json(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, indent=2, sort_keys=True) + "\n").encode()
