"""Programs of tiny parts that do exact work, for thousands of runs in random worlds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import bb_dsl as dsl
from bb_compiler import Compiler
from bb_roles.registry import bound_class
from bb_runtime import Artifact, load_artifact
from bb_testing import programs as parts
from bytesandbrains.programs import FederatedAveraging

__all__ = ["PROGRAMS", "Case"]


class Case(NamedTuple):
    """A program, and in which worlds it is run.

    Attributes:
        artifact: The compiled program.
        peers: How many peers each class has.
        faulty: Classes whose peers fail and lie.
        more: What its scenario needs besides.
    """

    artifact: Artifact
    peers: Mapping[str, int]
    faulty: tuple[str, ...]
    more: Mapping[str, Any]


class Rounds(dsl.Module):
    """Federated averaging whose rounds are a block of the program."""

    peer_class = "server"
    peers = dsl.slots.PeerSelector(of="client")
    model = dsl.slots.Model()
    data = dsl.slots.DataSource()
    aggregator = dsl.slots.Aggregator()

    def body(self, g: dsl.Graph) -> None:
        """Record five rounds, two at a time."""
        with g.rounds(5, width=2, on_fail="continue"):
            received = g.net_out("weights", self.peers.sample(g, 4), self.model.params(g))
            self.model.load_params(g, received)
            metrics = self.model.fit(g, self.data.batches(g))
            reply = g.net_out("update", g.sender(received), self.model.params(g), metrics)
            folded = self.aggregator.contribute(g, *reply)
            done = g.gather(folded, quorum=0.5, deadline="3s", on_short="continue")
            g.output("count", done.count)


class Gossip(dsl.Module):
    """Every peer trains by its own clock, and pushes to another one."""

    peer_class = "peer"
    neighbour = dsl.slots.PeerSelector(of="peer")
    model = dsl.slots.Model()
    data = dsl.slots.DataSource()

    def body(self, g: dsl.Graph) -> None:
        """Record a tick, and what the neighbour does."""
        with g.every("1s", jitter="300ms"):
            self.model.fit(g, self.data.batches(g))
            theirs = g.net_out("push", self.neighbour.sample(g, 1), self.model.params(g))
        self.model.load_params(g, theirs)
        g.output("got", self.model.evaluate(g, self.data.batches(g)))


def _compiled(module: dsl.Module, **slots: Any) -> Artifact:
    compiler = Compiler()
    for slot, part in slots.items():
        compiler.bind(slot, part)
    return load_artifact(compiler.compile(module.build()))


@cache
def _fedavg(quorum: float) -> Artifact:
    return _compiled(
        FederatedAveraging(6, quorum=quorum, deadline="4s"),
        peers=parts.FixedPeers,
        model=parts.CountingModel,
        data=parts.ListSource,
        aggregator=bound_class("aggregator", "fedavg"),
    )


@cache
def _rounds() -> Artifact:
    return _compiled(
        Rounds(),
        peers=parts.FixedPeers,
        model=parts.CountingModel,
        data=parts.ListSource,
        aggregator=parts.SumAggregator,
    )


@cache
def _gossip() -> Artifact:
    return _compiled(
        Gossip(), neighbour=parts.FixedPeers, model=parts.CountingModel, data=parts.ListSource
    )


PROGRAMS: tuple[Callable[[], Case], ...] = (
    lambda: Case(_fedavg(0.5), {"server": 1, "client": 8}, ("client",), {}),
    lambda: Case(_fedavg(1.0), {"server": 1, "client": 6}, ("server", "client"), {}),
    lambda: Case(_rounds(), {"server": 1, "client": 5}, ("client",), {"rounds": None}),
    lambda: Case(_gossip(), {"peer": 5}, ("peer",), {"rounds": 8, "start": "all", "until": "30s"}),
)
