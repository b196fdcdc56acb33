"""A codec between the server and its clients: updates travel in a quarter of the bytes.

Clients answer with parameters in 8 bits; the server decodes each before it folds it in. What the
codec takes and gives is declared by its plugin, so the compiler checks both ends of the network:
a program that hands a tensor to it does not compile.

    python docs/examples/codec_bridge.py
"""

import bytesandbrains as bb

CLIENTS = 5


class Compressed(bb.Module):
    """One round of federated averaging in which updates are quantized."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    test = bb.slots.DataSource()
    codec = bb.slots.Codec()
    aggregator = bb.slots.Aggregator()

    def body(self, g: bb.Graph) -> None:
        """Record one round."""
        cohort = self.peers.current_view(g)
        received = g.net_out("weights", cohort, self.model.params(g))
        self.model.load_params(g, received)
        metrics = self.model.fit(g, self.data.batches(g, epochs=2))
        small = self.codec.encode(g, self.model.params(g))  # on the client
        sent, counts = g.net_out("update", g.sender(received), small, metrics)
        update = self.codec.decode(g, sent)  # on the server
        folded = self.aggregator.contribute(g, update, counts)
        done = g.gather(folded, deadline="30s")
        averaged, _ = self.aggregator.aggregate(g, after=done)
        self.model.load_params(g, averaged)
        g.output("test", self.model.evaluate(g, self.test.batches(g, after=averaged)))


class Careless(Compressed):
    """Hands a batch to the codec, which takes parameters."""

    def body(self, g: bb.Graph) -> None:
        """Record a mistake."""
        batch, _ = self.data.next_batch(g)
        g.output("small", self.codec.encode(g, batch))


def compiler() -> bb.Compiler:
    """Return a compiler with every slot bound."""
    return (
        bb.Compiler()
        .bind_peer_selector("peers", "static")
        .bind_model("model", "mlp", config={"layers": [64, 32, 10]})
        .bind_data_source("data", "digits")
        .bind_data_source("test", "digits")
        .bind_codec("codec", "quantize", config={"to": "int8"})
        .bind_aggregator("aggregator", "fedavg")
    )


try:
    bb.Compiler().bind_data_source("data", "digits").bind_codec("codec", "quantize").compile(
        Careless().build()
    )
except bb.CompileError as error:
    print(f"{error.code}: {error.found}, expected: {error.expected}")

federation = bb.LocalFederation(
    compiler().compile(Compressed().build()),
    nodes={"client": CLIENTS},
    config={
        "data": lambda index: {
            "split": "train",
            "partition": "iid",
            "clients": CLIENTS,
            "client": index,
        },
        "test": {"split": "test"},
    },
)
for number, outputs in enumerate(federation.rounds(10), start=1):
    if number in (1, 10):
        print(f"round {number}: accuracy {outputs['test']['accuracy']:.3f}")
