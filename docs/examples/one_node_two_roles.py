"""One Node in two roles: the server of a federation has data of its own and trains, too.

It installs both targets of one program. Where the two bind a slot to the same component, with the
same configuration, they share it: there is one model on that Node, not two.

    python one_node_two_roles.py
"""

from typing import Any

import bytesandbrains as bb

PARTS = 5


class Federation(bb.Module):
    """Federated averaging over all known clients, measured on held-out digits."""

    peer_class = "server"
    clients = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    test = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def body(self, g: bb.Graph) -> None:
        """Record one round."""
        weights = g.net_out("weights", self.clients.current_view(g), self.model.params(g))
        self.model.load_params(g, weights)
        metrics = self.model.fit(g, self.data.batches(g, epochs=2))
        update = g.net_out("update", g.sender(weights), self.model.params(g), metrics)
        folded = self.aggregator.contribute(g, *update)
        done = g.gather(folded, deadline="30s", wait="all")
        averaged, summary = self.aggregator.aggregate(g, after=done)
        loaded = self.model.load_params(g, averaged)
        g.output("round", summary)
        g.output("test", self.model.evaluate(g, self.test.batches(g, after=loaded)))


def install(artifact: Any, number: int, peers: list[bb.PeerId]) -> bb.Node:
    """Make one Node: number 0 is server and client at once, all others are clients."""
    both = ["Federation", "Federation.client"]
    part = {"split": "train", "partition": "dirichlet", "clients": PARTS, "client": number}
    # The server is one of its own clients; it sends to itself as it does to the others.
    config = {"data": part, "test": {"split": "test"}, "clients": {"peers": peers}}
    targets = both[1:] if number else both
    return bb.install(peers[number], [], artifact, targets, config)


def main() -> None:
    """Run five rounds on five Nodes and look at the components of the one with two roles."""
    artifact = (
        bb.Compiler()
        .bind_peer_selector("clients", "static")
        .bind_model("model", "mlp", config={"layers": [64, 32, 10]})
        .bind_data_source("data", "digits")
        .bind_data_source("test", "digits")
        .bind_aggregator("aggregator", "fedavg")
        .compile(Federation().build())
    )
    peers = [bb.PeerId.from_seed(0, number) for number in range(PARTS)]
    nodes = [install(artifact, number, peers) for number in range(PARTS)]
    server, bus = nodes[0], bb.LocalBus(*nodes)
    print(f"{len(nodes)} nodes; the first runs {' and '.join(server.targets)}")

    shared = server.component("model", target="Federation")
    same = shared is server.component("model", target="Federation.client")
    print(f"its two roles use {'one model' if same else 'two models'}")

    for number in range(1, 6):
        server.invoke("Federation")
        published = {}
        for event in bus.run():
            match event.step:
                case bb.Emitted(name=name, value=value):
                    published[name] = value
                case bb.OpFailed(error=error):
                    raise error
        took, test = published["round"], published["test"]
        print(
            f"round {number}: {took['count']} updates of {took['examples']} examples, "
            f"test accuracy {test['accuracy']:.3f}"
        )


if __name__ == "__main__":
    main()
