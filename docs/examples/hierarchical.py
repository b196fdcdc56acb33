"""Hierarchical federated averaging: clients, edge aggregators, cloud.

The cloud asks the edges, each edge asks its own clients: a fan-out inside a fan-out. Each edge
averages what its clients send and passes one update on, so the cloud's traffic grows with the
edges, not with the clients. The inner gather must give up before the outer one does, and the
compiler checks that.

    python hierarchical.py
"""

from typing import Any

import bytesandbrains as bb

EDGES, CLIENTS = 3, 9


class Hierarchy(bb.Module):
    """One round over two levels."""

    peer_class = "cloud"
    edges = bb.slots.PeerSelector(of="edge")
    clients = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    test = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def __init__(self, inner: str = "10s") -> None:
        super().__init__()
        self.inner = inner

    def body(self, g: bb.Graph) -> None:
        """Record the way down to the clients and back up to the cloud."""
        at_edge = g.net_out("global", self.edges.current_view(g), self.model.params(g))
        # The edges pass on what they got.
        at_client = g.net_out("weights", self.clients.current_view(g), at_edge)
        self.model.load_params(g, at_client)
        metrics = self.model.fit(g, self.data.batches(g, epochs=2))
        update = g.net_out("update", g.sender(at_client), self.model.params(g), metrics)

        # Back at the edge, once for each of its clients; then once for all of them.
        folded = self.aggregator.contribute(g, *update)
        answered = g.gather(folded, quorum=0.6, deadline=self.inner, wait="all")
        partial = self.aggregator.aggregate(g, after=answered)
        # The summary holds `examples`, so it serves as the metrics of the edge's own update.
        partial = g.net_out("partial", g.sender(at_edge), *partial)

        # Back in the cloud, once for each edge; then once for all of them.
        folded = self.aggregator.contribute(g, *partial)
        answered = g.gather(folded, quorum=0.6, deadline="30s", wait="all")
        averaged, summary = self.aggregator.aggregate(g, after=answered)
        loaded = self.model.load_params(g, averaged)
        g.output("round", summary)
        g.output("test", self.model.evaluate(g, self.test.batches(g, after=loaded)))


def compile_(program: Hierarchy) -> Any:
    """Bind all slots; the aggregator is used on two classes, and each Node gets its own."""
    return (
        bb.Compiler()
        .bind_peer_selector("edges", "static")
        .bind_peer_selector("clients", "static")
        .bind_model("model", "mlp", config={"layers": [64, 32, 10]})
        .bind_data_source("data", "digits")
        .bind_data_source("test", "digits")
        .bind_aggregator("aggregator", "fedavg", config={"cohort": CLIENTS})
        .compile(program.build())
    )


def main() -> None:
    """Run ten rounds of one cloud, three edges and nine clients."""
    try:
        compile_(Hierarchy(inner="60s"))
    except bb.CompileError as error:
        print(f"{error.code}: {error}\n")

    artifact = bb.load_artifact(compile_(Hierarchy()))
    edge_ids = [bb.PeerId.from_seed(1, i) for i in range(EDGES)]
    client_ids = [bb.PeerId.from_seed(2, i) for i in range(CLIENTS)]
    config: dict[str, Any] = {"edges": {"peers": edge_ids}, "test": {"split": "test"}}
    cloud = bb.install(bb.PeerId.from_seed(0), [], artifact, ["Hierarchy"], config)
    nodes = [cloud]
    for i, peer in enumerate(edge_ids):
        # Every edge knows its own clients and no others.
        config = {"clients": {"peers": client_ids[i::EDGES]}}
        nodes.append(bb.install(peer, [], artifact, ["Hierarchy.edge"], config))
    for i, peer in enumerate(client_ids):
        part = {"split": "train", "partition": "dirichlet", "clients": CLIENTS, "client": i}
        nodes.append(bb.install(peer, [], artifact, ["Hierarchy.client"], {"data": part}))

    bus = bb.LocalBus(*nodes)
    for number in range(1, 11):
        cloud.invoke("Hierarchy")
        out: dict[str, Any] = {}
        for event in bus.run():
            match event.step:
                case bb.Emitted(name=name, value=value):
                    out[name] = value
                case bb.OpFailed(error=failure):
                    raise failure
        if number in (1, 5, 10):
            print(
                f"round {number:2}: {out['round']['count']} edges, "
                f"{out['round']['examples']} examples, loss {out['round']['loss']:.3f}, "
                f"test accuracy {out['test']['accuracy']:.3f}"
            )


if __name__ == "__main__":
    main()
