"""Federated averaging (McMahan et al. 2017), synchronous, over a sampled cohort."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import bb_dsl as dsl

if TYPE_CHECKING:
    from bb_dsl import Graph, Output

__all__ = ["CompressedAveraging", "FederatedAveraging"]


class FederatedAveraging(dsl.Module):
    """One round of federated averaging.

    The server samples a cohort, sends it the parameters, and averages what the clients send
    back, weighted by their numbers of examples. Outputs: `round` (a record with `count`,
    `examples` and mean training metrics) and, with `evaluate`, `test` (metrics of the new
    global model on the slot `test`).

    Args:
        cohort: Clients asked in a round.
        epochs: Passes over a client's data in a round.
        quorum: Share of the cohort that must answer.
        deadline: How long the server waits for the cohort, such as `"30s"`, or
            `"auto, at most 30s"` to give up clients that take longer than clients usually do.
        evaluate: Whether the server measures the new model on its `test` data source.
    """

    peer_class = "server"
    #: What `bb compile` and `bb run` bind where nothing else is said.
    bindings: ClassVar[dict[str, str]] = {"peers": "static", "aggregator": "fedavg"}
    peers = dsl.slots.PeerSelector(of="client")
    model = dsl.slots.Model()
    data = dsl.slots.DataSource()
    aggregator = dsl.slots.Aggregator()
    test = dsl.slots.DataSource()

    def __init__(
        self,
        cohort: int,
        *,
        epochs: int = 1,
        quorum: float = 0.8,
        deadline: str = "30s",
        evaluate: bool = False,
    ) -> None:
        super().__init__()
        self.cohort = cohort
        self.epochs = epochs
        self.quorum = quorum
        self.deadline = deadline
        self.evaluate = evaluate

    def body(self, g: Graph) -> None:
        """Record one round."""
        cohort = self.peers.sample(g, self.cohort)
        received = g.net_out("weights", cohort, self.model.params(g))
        self.model.load_params(g, received)
        metrics = self.model.fit(g, self.data.batches(g, epochs=self.epochs))
        told = self.encoded(g, self.model.params(g))
        answer, counts = g.net_out("update", g.sender(received), told, metrics)
        folded = self.aggregator.contribute(g, self.decoded(g, answer), counts)
        done = g.gather(folded, quorum=self.quorum, deadline=self.deadline, wait="all")
        averaged, summary = self.aggregator.aggregate(g, after=done)
        loaded = self.model.load_params(g, averaged)
        g.output("round", summary)
        if self.evaluate:
            batches = self.test.batches(g, after=loaded)
            g.output("test", self.model.evaluate(g, batches))

    def encoded(self, _g: Graph, update: Output) -> Output:
        """Record what a client sends in the place of its parameters: these themselves."""
        return update

    def decoded(self, _g: Graph, answer: Output) -> Output:
        """Record what the server takes from an answer: all of it."""
        return answer


class CompressedAveraging(FederatedAveraging):
    """Federated averaging whose updates travel as the slot `codec` encodes them.

    A client sends its parameters, not what changed in them: a codec that leaves out small numbers
    is made for something else. Arguments and outputs are those of `FederatedAveraging`.
    """

    codec = dsl.slots.Codec()

    def encoded(self, g: Graph, update: Output) -> Output:
        """Record that a client encodes its parameters."""
        return self.codec.encode(g, update)

    def decoded(self, g: Graph, answer: Output) -> Output:
        """Record that the server decodes them."""
        return self.codec.decode(g, answer)
