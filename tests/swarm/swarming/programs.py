"""Programs of tiny parts that do exact work, for thousands of runs in random worlds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import bb_dsl as dsl
from bb_compiler import Compiler
from bb_ir import keys, onnx_tools
from bb_protocol_registry.slots import Registry
from bb_runtime import Artifact, Options, load_artifact
from bb_testing import programs as tiny
from bytesandbrains.programs import FederatedAveraging
from swarming import parts

__all__ = ["PROGRAMS", "Case"]


class Case(NamedTuple):
    """A program, and in which worlds it is run.

    Attributes:
        artifact: The compiled program.
        peers: How many peers each class has.
        faulty: Classes whose peers fail and lie.
        more: What its scenario needs besides.
        folds: The region whose frames contribute to an aggregator, once each.
        parts: How many updates each of them contributes, its own included.
        asks: How often a round asks one client for an update at most.
        learns: Whether every round of honest updates brings it nearer to an optimum.
        spare: How many clients may fail without the quorum being missed.
        clocks: Whether it goes on by clocks for ever.
        config: Configuration of its components.
        options: Bounds of its Nodes.
    """

    artifact: Artifact
    peers: Mapping[str, int]
    faulty: tuple[str, ...] = ("client",)
    more: Mapping[str, Any] = {}
    folds: str = ""
    parts: int = 1
    asks: int = 1
    learns: bool = False
    spare: int = 0
    clocks: bool = False
    config: Mapping[str, Any] | None = None
    options: Options | None = None


class _Server(dsl.Module):
    """What most of the programs have."""

    peer_class = "server"
    peers = dsl.slots.PeerSelector(of="client")
    model = dsl.slots.Model()
    data = dsl.slots.DataSource()
    aggregator = dsl.slots.Aggregator()

    def ask(self, g: dsl.Graph, number: int, **options: Any) -> Any:
        """Record a fan-out, what the clients do, and their answers' way into the aggregator."""
        received = g.net_out(
            "weights", self.peers.sample(g, number), self.model.params(g), **options
        )
        self.model.load_params(g, received)
        metrics = self.model.fit(g, self.data.batches(g))
        reply = g.net_out("update", g.sender(received), self.model.params(g), metrics)
        return self.aggregator.contribute(g, *reply)

    def close(self, g: dsl.Graph, done: dsl.Gathered) -> None:
        """Record the end of a round."""
        averaged, summary = self.aggregator.aggregate(g, after=done)
        self.model.load_params(g, averaged)
        g.output("count", done.count)
        g.output("round", summary)


class Rounds(_Server):
    """Federated averaging whose rounds are a block of the program."""

    def body(self, g: dsl.Graph) -> None:
        """Record five rounds, two at a time."""
        with g.rounds(5, width=2, on_fail="continue"):
            done = g.gather(self.ask(g, 4), quorum=0.5, deadline="3s")
            self.close(g, done)


class Again(_Server):
    """Envelopes are sent again until they came."""

    def body(self, g: dsl.Graph) -> None:
        """Record a round with retries on both ways."""
        done = g.gather(self.ask(g, 6, retries=3), quorum=0.5, deadline="6s", wait="all")
        self.close(g, done)


class Clocked(_Server):
    """The server asks by its own clock, whether or not the last round is over."""

    def body(self, g: dsl.Graph) -> None:
        """Record a tick."""
        with g.every("2s", jitter="500ms", overlap="parallel"):
            self.close(g, g.gather(self.ask(g, 4), quorum=2, deadline="5s"))


class Turns(_Server):
    """One round asks its clients several times, and one after the other."""

    def body(self, g: dsl.Graph) -> None:
        """Record three turns with a fan-out each, then one turn per client."""
        with g.loop(3, deadline="20s"):
            folded = self.ask(g, 4)
            g.gather(folded, quorum=0.5, deadline="4s", on_short="continue")
        averaged, summary = self.aggregator.aggregate(g)
        self.model.load_params(g, averaged)
        with g.each(self.peers.sample(g, 3), deadline="20s") as one:
            asked = g.net_out("greet", one, self.model.params(g))
            slept = g.sleep("200ms", asked)
            back = g.net_out("greeted", g.sender(asked), slept)
            done = g.gather(back, deadline="2s", on_short="continue")
            g.output("greeted", done.count)
        g.output("round", summary)


class Streamed(_Server):
    """Clients answer in parts, and everybody opens what comes in the order of its sending."""

    def body(self, g: dsl.Graph) -> None:
        """Record a round; questions are sent again where they are lost, and parts are not."""
        received = g.net_out(
            "weights", self.peers.sample(g, 4), self.model.params(g), retries=2, ordered=True
        )
        self.model.load_params(g, received)
        with g.loop(3):
            metrics = self.model.fit(g, self.data.batches(g))
            part = g.net_out(
                "part", g.sender(received), self.model.params(g), metrics,
                retries=0, replies=3, ordered=True,
            )  # fmt: skip
        folded = self.aggregator.contribute(g, *part)
        self.close(g, g.gather(folded, quorum=0.5, deadline="6s"))


class Relay(dsl.Module):
    """The server asks leaves, which ask a helper each and answer when that has answered."""

    peer_class = "server"
    leaves = dsl.slots.PeerSelector(of="leaf")
    helpers = dsl.slots.PeerSelector(of="helper")
    model = dsl.slots.Model()
    data = dsl.slots.DataSource()
    aggregator = dsl.slots.Aggregator()

    def body(self, g: dsl.Graph) -> None:
        """Record two hops there and back."""
        asked = g.net_out("down", self.leaves.sample(g, 3), self.model.params(g))
        needed = g.net_out("help", self.helpers.sample(g, 2), asked)
        metrics = self.model.fit(g, self.data.batches(g, after=needed))
        answer = g.net_out("up", g.sender(needed), self.model.params(g), metrics)
        helped = g.gather(answer[0], quorum=1, deadline="2s", values=True)
        with g.at(helped.count):
            metrics = self.model.fit(g, self.data.batches(g, after=helped.count))
            back = g.net_out("back", g.sender(asked), self.model.params(g), metrics)
        done = g.gather(self.aggregator.contribute(g, *back), quorum=0.5, deadline="5s", wait="all")
        averaged, summary = self.aggregator.aggregate(g, after=done)
        self.model.load_params(g, averaged)
        g.output("round", summary)


class Handshake(dsl.Module):
    """Children of the round ask back before they count, then are talked to once more."""

    peer_class = "server"
    peers = dsl.slots.PeerSelector(of="client")
    model = dsl.slots.Model()

    def body(self, g: dsl.Graph) -> None:
        """Record three fan-outs, each of which goes to whoever is left."""
        got = g.net_out("ask", self.peers.sample(g, 5))
        told = g.net_out("tell", g.sender(got))
        back = g.net_out("confirm", g.sender(told))
        sure = g.gather(g.net_out("confirmed", g.sender(back)), deadline="3s")
        with g.at(told):
            one = self.model.params(g, after=sure.count)
        done = g.gather(one, quorum=0.4, deadline="6s")
        again = g.net_out("second", done.senders, self.model.params(g, after=done.count))
        g.output("count", g.gather(g.net_out("last", g.sender(again)), quorum=1).count)


class Gossip(dsl.Module):
    """Every peer trains by its own clock and pushes to another one, which mixes."""

    peer_class = "peer"
    neighbour = dsl.slots.PeerSelector(of="peer")
    model = dsl.slots.Model()
    data = dsl.slots.DataSource()
    aggregator = dsl.slots.Aggregator()

    def body(self, g: dsl.Graph) -> None:
        """Record a tick, and what the neighbour does."""
        with g.every("1s", jitter="300ms"):
            metrics = self.model.fit(g, self.data.batches(g))
            push = g.net_out("push", self.neighbour.sample(g, 1), self.model.params(g), metrics)
        self.aggregator.contribute(g, *push)
        own = self.model.params(g)
        self.aggregator.contribute(g, own, self.model.evaluate(g, self.data.batches(g)))
        mixed, summary = self.aggregator.aggregate(g)
        self.model.load_params(g, mixed)
        g.output("mixed", summary)


class Announced(dsl.Module):
    """Clients announce themselves, and are asked as long as their leases live."""

    peer_class = "server"
    servers = dsl.slots.PeerSelector(of="server")
    clients = dsl.slots.PeerSelector(of="client")
    registry = Registry()
    model = dsl.slots.Model()
    data = dsl.slots.DataSource()
    aggregator = dsl.slots.Aggregator()

    def bootstrap(self, g: dsl.Graph) -> None:
        """Record what a client does first, and then by its clock."""
        self.announce(g, "announce")
        with g.every("2s"):
            self.announce(g, "renew")

    def announce(self, g: dsl.Graph, edge: str) -> None:
        """Record an announcement and what comes back."""
        with g.at("client"):
            announced = g.net_out(edge, self.servers.current_view(g), self.registry.announce(g))
        lease = self.registry.register(g, announced)
        self.registry.accept(g, g.net_out(f"{edge}_lease", g.sender(announced), lease))

    def body(self, g: dsl.Graph) -> None:
        """Record a round among those who are there."""
        received = g.net_out("weights", self.clients.sample(g, 4), self.model.params(g))
        self.model.load_params(g, received)
        metrics = self.model.fit(g, self.data.batches(g))
        reply = g.net_out("update", g.sender(received), self.model.params(g), metrics)
        folded = self.aggregator.contribute(g, *reply)
        done = g.gather(folded, quorum=0.5, deadline="3s", wait="all")
        averaged, summary = self.aggregator.aggregate(g, after=done)
        self.model.load_params(g, averaged)
        g.output("round", summary)


#: What fills a slot where nothing else is said.
_PARTS: Mapping[str, Any] = {
    "aggregator": parts.Sum,
    "clients": "registry",
    "data": tiny.ListSource,
    "helpers": tiny.FixedPeers,
    "leaves": tiny.FixedPeers,
    "model": parts.Model,
    "neighbour": tiny.FixedPeers,
    "peers": tiny.FixedPeers,
    "registry": "registry",
    "servers": tiny.FixedPeers,
    "test": tiny.ListSource,
}


def _compiled(module: dsl.Module, **given: Any) -> Artifact:
    model = module.build()
    compiler = Compiler()
    for slot, facts in json.loads(onnx_tools.get_meta(model, keys.SLOTS)).items():
        compiler.bind(slot, given.get(slot) or _PARTS[slot], role=facts["role"])
    return load_artifact(compiler.compile(model))


def _averaging(quorum: float, deadline: str = "4s", **slots: Any) -> Artifact:
    module = FederatedAveraging(6, quorum=quorum, deadline=deadline)
    return _compiled(module, **{"aggregator": parts.FedAvg, **slots})


def _fedavg() -> Case:
    return Case(_averaging(0.5), {"server": 1, "client": 8}, folds="update")


def _all_fail() -> Case:
    faulty = ("server", "client")
    return Case(_averaging(1.0), {"server": 1, "client": 6}, faulty, folds="update")


def _rounds() -> Case:
    more = {"rounds": None}
    return Case(_compiled(Rounds()), {"server": 1, "client": 5}, more=more, folds="update")


def _again() -> Case:
    peers = {"server": 1, "client": 6}
    return Case(_compiled(Again()), peers, ("server", "client"), folds="update")


def _clocked() -> Case:
    more = {"rounds": 6, "until": "60s"}
    faulty = ("server", "client")
    peers = {"server": 1, "client": 5}
    return Case(_compiled(Clocked()), peers, faulty, more, folds="update", clocks=True)


def _turns() -> Case:
    return Case(_compiled(Turns()), {"server": 1, "client": 5}, folds="update", asks=3)


def _streamed() -> Case:
    peers = {"server": 1, "client": 5}
    return Case(_compiled(Streamed()), peers, ("server", "client"), folds="part", asks=3)


def _relay() -> Case:
    peers = {"server": 1, "leaf": 4, "helper": 3}
    return Case(_compiled(Relay()), peers, ("leaf", "helper"), folds="back")


def _handshake() -> Case:
    return Case(_compiled(Handshake()), {"server": 1, "client": 6}, ("server", "client"))


def _gossip() -> Case:
    more = {"rounds": 8, "start": "all", "until": "30s"}
    artifact = _compiled(Gossip(), aggregator=parts.FedAvg)
    return Case(artifact, {"peer": 5}, ("peer",), more, folds="push", parts=2, clocks=True)


def _announced() -> Case:
    config = {"registry": {"ttl_s": 6.0}}
    peers = {"server": 1, "client": 5}
    more = {"until": "2m", "pause": "2s"}
    artifact = _compiled(Announced())
    return Case(artifact, peers, more=more, folds="update", clocks=True, config=config)


def _deferring() -> Case:
    artifact = _averaging(0.5, model=parts.DeferringModel, aggregator=parts.DeferringSum)
    return Case(artifact, {"server": 1, "client": 6}, ("server", "client"), folds="update")


def _learning() -> Case:
    artifact = _averaging(0.5, "30s", model=parts.LinearModel, data=parts.LinearSource)
    config = {"model": {"size": 4}, "data": lambda index: {"value": float(index)}}
    more = {"rounds": 6}
    peers = {"server": 1, "client": 6}
    return Case(artifact, peers, more=more, folds="update", learns=True, spare=3, config=config)


def _crowded() -> Case:
    options = Options(max_frames=12, max_inbound_bytes=4_000, max_queued=3)
    config = {"model": {"size": 150}}
    artifact = _averaging(0.5, aggregator=parts.Sum)
    peers = {"server": 1, "client": 6}
    return Case(
        artifact, peers, ("server", "client"), folds="update", config=config, options=options
    )


#: By name; a seed runs the one of its number.
PROGRAMS: Mapping[str, Callable[[], Case]] = {
    make.__name__.strip("_"): cache(make)
    for make in (
        _fedavg, _all_fail, _rounds, _again, _clocked, _turns, _relay, _handshake, _gossip,
        _announced, _deferring, _learning, _crowded, _streamed,
    )
}  # fmt: skip
