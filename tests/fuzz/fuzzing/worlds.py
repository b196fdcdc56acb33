"""Programs whose Nodes are handed what strangers may send.

Everything here is the same in every process, identities and numbers of frames included, so that an
envelope that was sent in one is one that is expected in another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

import bb_dsl as bb
from bb_compiler import Compiler
from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bb_ir.types import BYTES, PARAMS, Type, list_of, params, peers, record, scalar, tensor
from bb_runtime import Artifact, Node, Options, Ship, install, load_artifact
from bb_testing.programs import CountingModel, FixedPeers, ListSource, SumAggregator, Wire

__all__ = [
    "OPTIONS", "SECOND", "VALUES", "World", "artifact", "federation", "ids", "installed", "model",
    "world",
]  # fmt: skip

SECOND = 10**9
#: So many peers there are: the server, two clients, and a stranger.
_PEERS = 4
#: Bounds that an input can reach.
OPTIONS = Options(
    max_frames=40, max_queued=8, max_envelope_bytes=1 << 20, max_inbound_bytes=4 << 20,
    max_deferred=8, max_unsent_bytes=1 << 20,
)  # fmt: skip

_METRICS = record({"examples": scalar("int64"), "loss": scalar("float64")})
_IMAGE = record({"image": tensor("uint8", (None, 2)), "label": scalar("string")})
#: A value of every kind that can be sent, and what its port declares.
VALUES: dict[str, tuple[Type, Any]] = {
    "known": (tensor("float32", (None, 3)), np.ones((2, 3), np.float32)),
    "open": (tensor(), np.arange(6, dtype=np.int16).reshape(1, 2, 3)),
    "large": (tensor("float64", ("n",)), np.arange(520.0)),
    "flags": (tensor("bool", (4,)), np.array([True, False, True, True])),
    "half": (tensor("bfloat16"), None),
    "weights": (PARAMS, ParameterSet.from_tensors({"w": np.ones((2, 2)), "b": np.ones(3, "i4")})),
    "declared": (
        params({"w": tensor("float64", (2,))}), ParameterSet.from_tensors({"w": np.ones(2)}),
    ),
    "count": (scalar("int64"), -5),
    "real": (scalar("float64"), 0.5),
    "flag": (scalar("bool"), True),
    "text": (scalar("string"), "caf\u00e9"),
    "raw": (BYTES, bytes(range(200))),
    "long": (BYTES, bytes(4200)),
    "who": (peers("client"), None),
    "free": (record(), {"a": [1, 2.5, None, {"b": "c"}], "d": b"e", "f": True}),
    "metrics": (_METRICS, {"examples": 3, "loss": 0.25}),
    "images": (
        list_of(_IMAGE), [{"image": np.zeros((2, 2), np.uint8), "label": "zero"}] * 2,
    ),
    "mixed": (
        record({"p": PARAMS, "who": peers(), "b": BYTES, "in": list_of(list_of(BYTES))}), None,
    ),
}  # fmt: skip


@cache
def ids() -> tuple[PeerId, ...]:
    """Return the server, two clients, and a stranger."""
    found = tuple(PeerId.from_seed(b"fuzz", n) for n in range(_PEERS))
    _complete(found)
    return found


def _complete(found: tuple[PeerId, ...]) -> None:
    """Put in the values that need peers, or a library that is slow to import."""
    import ml_dtypes

    weights = VALUES["weights"][1]
    VALUES["who"] = VALUES["who"][0], list(found)
    VALUES["half"] = VALUES["half"][0], np.ones(3, ml_dtypes.bfloat16)
    mixed = {"p": weights, "who": [found[0]], "b": b"bytes", "in": [[b"a"], [], [b"b", b""]]}
    VALUES["mixed"] = VALUES["mixed"][0], mixed


class Everything(bb.Module):
    """Sends a value of every kind, gets it back, and averages updates that were made small."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    codec = bb.slots.Codec()
    aggregator = bb.slots.Aggregator()

    def body(self, g: bb.Graph) -> None:
        """Record two exchanges; the second one may be sent again."""
        values = [g.input(name, type_) for name, (type_, _) in VALUES.items()]
        cohort = self.peers.current_view(g)
        asked = g.net_out("ask", cohort, *values)
        told = g.net_out("tell", g.sender(asked[0]), *asked)
        g.output("told", g.gather(told[0]).count)
        with g.each(g.gather(told[1], values=True).values) as one:
            g.output("one", one)
        weights = g.net_out("weights", cohort, self.model.params(g), retries=2)
        self.model.load_params(g, weights)
        metrics = self.model.fit(g, self.data.batches(g))
        small = self.codec.encode(g, self.model.params(g))
        update = g.net_out("update", g.sender(weights), small, metrics, retries=1)
        folded = self.aggregator.contribute(g, self.codec.decode(g, update[0]), update[1])
        done = g.gather(folded, quorum=0.5, deadline="10s", on_short="continue")
        averaged, _ = self.aggregator.aggregate(g, after=done)
        g.output("averaged", averaged)


class Blocks(bb.Module):
    """Blocks of every kind, clocks, events and random numbers, so that there is much to store."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        """Record blocks, of which some wait for an answer."""
        with g.every("1s", jitter="100ms", overlap="skip"):
            g.output("tick", self.model.params(g))
        with g.on("news") as news:
            g.output("heard", news)
        with g.rounds(3, width=2, on_fail="continue"), g.loop(2) as turn:
            asked = g.net_out("ask", self.peers.current_view(g), g.sleep("2s", turn))
            told = g.net_out("tell", g.sender(asked), asked)
            done = g.gather(told, values=True, deadline="20s", on_short="continue")
            g.output("answers", done.count)


_PARTS: dict[str, Any] = {
    "peers": FixedPeers,
    "model": CountingModel,
    "data": ListSource,
    "codec": "quantize",
    "aggregator": SumAggregator,
}
_MODULES: dict[str, Callable[[], bb.Module]] = {"Everything": Everything, "Blocks": Blocks}


@cache
def model(name: str) -> bytes:
    """Return a compiled program."""
    ids()
    recorded = _MODULES[name]()
    compiler = Compiler()
    for slot, part in _PARTS.items():
        if hasattr(recorded, slot):
            compiler.bind(slot, part, role="codec" if slot == "codec" else "")
    return compiler.compile(recorded.build()).SerializeToString(deterministic=True)


@cache
def artifact(name: str) -> Artifact:
    """Return a compiled program that was read."""
    return load_artifact(model(name))


def installed(name: str, number: int, **more: Any) -> Node:
    """Return a fresh Node, the server's for number 0, authorized to all but the stranger."""
    read = artifact(name)
    target = name if number == 0 else f"{name}.client"
    config = {"peers": {"peers": ids()[1:3]}} if number == 0 else {}
    node = install(
        ids()[number], [], read, [target], config, seed=7, options=OPTIONS, **more
    )  # fmt: skip
    node.authorize(ids()[0], "server")
    for peer in ids()[1:3]:
        node.authorize(peer, "client")
    return node


def inputs_of(name: str) -> dict[str, Any]:
    """Return what the body of a program is given."""
    return {key: value for key, (_, value) in VALUES.items()} if name == "Everything" else {}


class World(NamedTuple):
    """A Node that waits for strangers.

    Attributes:
        program: What it runs.
        number: Which peer it is.
    """

    program: str
    number: int

    def node(self, **more: Any) -> Node:
        """Return the Node, in the middle of what it does."""
        made = installed(self.program, self.number, **more)
        if self.number == 0:
            made.invoke(self.program, inputs_of(self.program))
            if self.program == "Blocks":
                made.poll()
                made.publish("news", 3)
                made.advance(2 * SECOND)
        made.poll()
        return made


_WORLDS = (World("Everything", 0), World("Everything", 1), World("Blocks", 0))


def world(number: int) -> World:
    """Return one of a few worlds; any number is one's."""
    return _WORLDS[number % len(_WORLDS)]


class Sent(NamedTuple):
    """An envelope that was sent, whole."""

    source: int
    to: int
    data: bytes


@cache
def federation(program: str) -> Sequence[Sent]:
    """Return all envelopes of one run of a program."""
    nodes = [World(program, number).node() for number in (1, 2)]
    server = installed(program, 0)
    wire = Wire(server, *nodes)
    server.invoke(program, inputs_of(program))
    wire.poll()
    found: list[Sent] = []
    while len(found) < 40:
        if not wire.flying:
            wire.advance(2 * SECOND)  # a program may sleep
        if not wire.flying:
            break
        packet = wire.flying[0]
        ship: Ship = packet.ship
        ends = (ids().index(packet.source), ids().index(ship.to))
        found.append(Sent(*ends, ship.envelope.to_bytes()))
        wire.deliver()
    assert not wire.failures(), wire.failures()
    return tuple(found)
