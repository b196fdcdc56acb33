"""A chain of codecs: updates thinned out, rounded and packed, in a twentieth of the bytes.

Clients send how far they came in a round instead of all parameters. Of such an update the largest
2 % matter most (`topk`), 8 bits of each are enough (`quantize`), and places and codes can be packed
(`zstd`). The first way makes one codec of the three. It forgets what it leaves out; the second way
has `topk` remember it and add it to the next update (error feedback), and chains the other two.
From the same few bytes the model learns faster, and ends near one that got whole updates.

    python docs/examples/compressed_updates.py
"""

from typing import Any, ClassVar

import bytesandbrains as bb
from bb_codec_topk.slots import TopK
from bb_dsl.slots import ProtocolHandle, Slot
from bb_ir.ops import OpSchema, Port, ops
from bb_ir.types import PARAMS
from bb_roles import Context, Protocol

CLIENTS = 10
ROUNDS = 20
SHARE = 0.02


class Progress(Protocol):
    """How far a model has come: a component of our own, with one op that changes nothing."""

    ops = ops(
        OpSchema(
            "Since",
            "since",
            (Port("now", PARAMS), Port("start", PARAMS)),
            (Port("update", PARAMS),),
            effect="reads",
        )
    )

    def since(self, ctx: Context, now: bb.ParameterSet, start: bb.ParameterSet) -> bb.ParameterSet:
        """Return parameters minus those that they began with."""
        return bb.ParameterSet.from_tensors({name: now[name] - start[name] for name in now.names})


class ProgressHandle(ProtocolHandle):
    """What `self.progress` is in a Module."""

    ops = Progress.ops

    def since(self, g: bb.Graph, now: bb.Output, start: bb.Output) -> bb.Output:
        """Record the op."""
        return self._record(g, "Since", now, start)[0]


class ProgressSlot(Slot[ProgressHandle]):
    """A place for it."""

    handle = ProgressHandle


class Whole(bb.Module):
    """One round of federated averaging of updates, which travel as they are."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    test = bb.slots.DataSource()
    progress = ProgressSlot()
    aggregator = bb.slots.Aggregator()

    bound: ClassVar[dict[str, tuple[str, dict[str, Any]]]] = {}

    def pack(self, g: bb.Graph, update: bb.Output) -> bb.Output:
        """Record what a client does to an update before it sends it."""
        return update

    def unpack(self, g: bb.Graph, sent: bb.Output) -> bb.Output:
        """Record what the server does to what came."""
        return sent

    def body(self, g: bb.Graph) -> None:
        """Record one round."""
        start = g.net_out("weights", self.peers.current_view(g), self.model.params(g))
        self.model.load_params(g, start)
        metrics = self.model.fit(g, self.data.batches(g))
        update = self.progress.since(g, self.model.params(g), start)
        sent, counts = g.net_out("update", g.sender(start), self.pack(g, update), metrics)
        folded = self.aggregator.contribute(g, self.unpack(g, sent), counts)
        mean, _ = self.aggregator.aggregate(g, after=g.gather(folded, deadline="30s"))
        applied = self.model.apply_delta(g, mean)
        g.output("test", self.model.evaluate(g, self.test.batches(g, after=applied)))


class Forgetting(Whole):
    """Three codecs as one; what is left out of an update is lost."""

    codec = bb.slots.Codec()

    bound: ClassVar = {
        "codec": (
            "chain",
            {"codecs": ["topk", "quantize", "zstd"], "configs": {"topk": {"share": SHARE}}},
        )
    }

    def pack(self, g: bb.Graph, update: bb.Output) -> bb.Output:
        """Thin out, round, pack."""
        return self.codec.encode(g, update)

    def unpack(self, g: bb.Graph, sent: bb.Output) -> bb.Output:
        """Go back the same way."""
        return self.codec.decode(g, sent)


class Remembering(Whole):
    """The same three; what is left out of an update is added to the next one."""

    thin = TopK()
    codec = bb.slots.Codec()

    bound: ClassVar = {
        "thin": ("topk", {"share": SHARE}),
        "codec": ("chain", {"codecs": ["quantize", "zstd"]}),
    }

    def pack(self, g: bb.Graph, update: bb.Output) -> bb.Output:
        """Thin out with error feedback, round, pack."""
        return self.codec.encode(g, self.thin.compress(g, update))

    def unpack(self, g: bb.Graph, sent: bb.Output) -> bb.Output:
        """Go back the same way."""
        return self.thin.decode(g, self.codec.decode(g, sent))


def federation_of(program: Whole) -> bb.LocalFederation:
    """Compile a program and install it on a server and its clients."""
    compiler = (
        bb.Compiler()
        .bind_peer_selector("peers", "static")
        .bind_model("model", "mlp", config={"layers": [64, 64, 10]})
        .bind_data_source("data", "digits")
        .bind_data_source("test", "digits")
        .bind_protocol("progress", Progress)
        .bind_aggregator("aggregator", "fedavg")
    )
    for slot, (name, config) in program.bound.items():
        compiler.bind_codec(slot, name, config=config)
    shares = {"split": "train", "partition": "dirichlet", "clients": CLIENTS}
    return bb.LocalFederation(
        compiler.compile(program.build()),
        nodes={"client": CLIENTS},
        config={"data": lambda index: {**shares, "client": index}, "test": {"split": "test"}},
    )


def received(node: bb.Node, edge: str) -> int:
    """Return how many bytes came to a Node over an edge, headers included."""
    return sum(
        metric.value
        for metric in node.metrics()
        if metric.name == "bb_envelope_bytes_total"
        and metric.labels["edge"].endswith(edge)
        and isinstance(metric.value, int)
    )


whole = 0
for kind in (Whole, Forgetting, Remembering):
    federation = federation_of(kind())
    results = [outputs["test"]["accuracy"] for outputs in federation.rounds(ROUNDS)]
    came = received(federation.server, "update")
    whole = whole or came
    accuracies = ", ".join(f"{results[at - 1]:.3f}" for at in (5, 10, ROUNDS))
    print(f"{kind.__name__}: {accuracies} after 5, 10 and {ROUNDS} rounds")
    print(f"  updates: {came:,} bytes, {whole - came:,} saved, {whole / came:.0f} times fewer")
