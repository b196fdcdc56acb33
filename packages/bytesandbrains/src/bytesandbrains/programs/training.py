"""Training on one Node alone: what a federation is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bb_dsl as dsl

if TYPE_CHECKING:
    from bb_dsl import Graph

__all__ = ["LocalTraining"]


class LocalTraining(dsl.Module):
    """Some passes over a Node's own data, then a measurement on its `test` data.

    On all examples it is centralized training; on one client's part it is what that client can do
    without the others. The model and its optimizer go on where the last invocation ended. Outputs:
    `train` (metrics of the passes) and `test` (metrics of the model after them).

    Args:
        epochs: Passes over the data in one invocation.
    """

    model = dsl.slots.Model()
    data = dsl.slots.DataSource()
    test = dsl.slots.DataSource()

    def __init__(self, *, epochs: int = 1) -> None:
        super().__init__()
        self.epochs = epochs

    def body(self, g: Graph) -> None:
        """Record one invocation."""
        trained = self.model.fit(g, self.data.batches(g, epochs=self.epochs))
        g.output("train", trained)
        g.output("test", self.model.evaluate(g, self.test.batches(g, after=trained)))
