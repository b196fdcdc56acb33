"""How fast a Node is written down and restored, against one copy of its parameters."""

from __future__ import annotations

from statistics import median
from typing import Any

import numpy as np
from do_nothing import Echo, parameters
from measure import Effort, Row, Times, interleave, shown_ratio

import bb_dsl as dsl
import bb_runtime as rt
from bb_compiler import Compiler
from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bb_roles import State

_COUNTS = (1_000_000, 25_000_000)
_PEER = PeerId.from_seed(0, 0)


class Kept(Echo):
    """A model whose parameters are its state."""

    def save(self) -> State:
        return State(dict(self.kept.items()))

    def load(self, state: State) -> None:
        self.kept = ParameterSet.from_tensors(dict(state.tensors))


class Holds(dsl.Module):
    """A program with a model."""

    model = dsl.slots.Model()

    def body(self, g: dsl.Graph) -> None:
        g.output("params", self.model.params(g))


def measure(effort: Effort) -> dict[str, Any]:
    """Measure a Node that holds a model and nothing else."""
    model = Compiler().bind_model("model", Kept).compile(Holds().build())
    artifact = rt.load_artifact(model)
    counts = [effort.size(count, 1_000) for count in _COUNTS]
    return {"counts": counts, "times": [_measure(artifact, count, effort) for count in counts]}


def _measure(artifact: rt.Artifact, count: int, effort: Effort) -> dict[str, Times]:
    Kept.first = parameters(count)
    node = rt.install(_PEER, [], artifact, ["Holds"])
    data = node.snapshot()
    image = np.asarray(Kept.first.image)
    return interleave(
        {
            "copy": image.copy,
            "snapshot": node.snapshot,
            "restore": lambda: node.restore(data),
        },
        effort,
    )


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table."""
    found: list[Row] = []
    for count, times in zip(result["counts"], result["times"], strict=True):
        for what in ("snapshot", "restore"):
            speed = 4 * count / median(times[what]) / 1e6
            found.append(
                Row(
                    "",
                    f"{what} of a Node with {count:,} parameters, against one copy of them",
                    "",
                    f"{speed:,.0f} MB/s",
                    shown_ratio(times[what], times["copy"]),
                )
            )
    return found
