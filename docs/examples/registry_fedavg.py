"""Federated averaging among clients that nobody knows beforehand: they announce themselves.

A client is told one address, that of the server, and announces itself there before anything else
runs, and then by its own clock. The server keeps a registry: whoever announced itself holds a lease
of 90 s, and is forgotten when it does not renew it. Each round's cohort is drawn from those who
are there.

    python registry_fedavg.py
"""

from typing import Any

import bytesandbrains as bb
from bb_protocol_registry.slots import Registry

CLIENTS = 10
COHORT = 8
LOST = 3


class RegistryFedAvg(bb.Module):
    """Synchronous federated averaging over members of a registry."""

    peer_class = "server"
    servers = bb.slots.PeerSelector(of="server")  # whom a client knows from the start
    clients = bb.slots.PeerSelector(of="client")  # whom the registry knows
    registry = Registry()
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    test = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def bootstrap(self, g: bb.Graph) -> None:
        """Record what a client does first: announce itself, and again every 30 s."""
        self.announce(g, "announce")
        with g.every("30s"):  # at the client, where the lease has just come in
            self.announce(g, "renew")

    def announce(self, g: bb.Graph, edge: str) -> None:
        """Record how a client announces itself and takes the lease it is given."""
        with g.at("client"):
            servers = self.servers.current_view(g)
            announced = g.net_out(edge, servers, self.registry.announce(g))
        # At the server. Who the member is says the channel, not the announcement.
        lease = self.registry.register(g, announced)
        granted = g.net_out(f"{edge}_lease", g.sender(announced), lease)
        self.registry.accept(g, granted)  # and at the client again

    def body(self, g: bb.Graph) -> None:
        """Record one round, as if the clients had always been known."""
        cohort = self.clients.sample(g, COHORT)
        received = g.net_out("weights", cohort, self.model.params(g))
        self.model.load_params(g, received)
        metrics = self.model.fit(g, self.data.batches(g, epochs=3))
        reply = g.net_out("update", g.sender(received), self.model.params(g), metrics)
        folded = self.aggregator.contribute(g, *reply)
        done = g.gather(folded, quorum=0.75, deadline="5s", wait="all")
        averaged, summary = self.aggregator.aggregate(g, after=done)
        loaded = self.model.load_params(g, averaged)
        g.output("members", self.registry.members(g))
        g.output("cohort", cohort)
        g.output("round", summary)
        g.output("test", self.model.evaluate(g, self.test.batches(g, after=loaded)))


def federation_of(clients: int) -> bb.LocalFederation:
    """Bind the one slot `registry` on both classes, and tell the clients where the server is."""
    artifact = (
        bb.Compiler()
        .bind_peer_selector("servers", "static")
        .bind_peer_selector("clients", "registry")  # asks the component in slot `registry`
        .bind_protocol("registry", "registry")
        .bind_model("model", "mlp", config={"layers": [64, 32, 10]})
        .bind_data_source("data", "digits")
        .bind_data_source("test", "digits")
        .bind_aggregator("aggregator", "fedavg")
        .compile(RegistryFedAvg().build())
    )
    part = {"split": "train", "partition": "dirichlet", "alpha": 1.0, "clients": clients}
    return bb.LocalFederation(
        artifact,
        nodes={"client": clients},
        config={
            "registry": {"ttl_s": 90.0},
            "data": lambda i: {**part, "client": i},
            "test": {"split": "test"},
        },
    )


def show(number: int, outputs: dict[str, Any], names: dict[bb.PeerId, int]) -> None:
    """Print one round: who was asked, how many answered, and how good the model is now."""
    asked = " ".join(str(names[peer]) for peer in outputs["cohort"])
    print(
        f"round {number}: {len(outputs['members'])} members, asked {asked}; "
        f"{outputs['round']['count']} answered, accuracy {outputs['test']['accuracy']:.3f}"
    )


def main() -> None:
    """Train with all, lose a client, and train on with those who renew their leases."""
    federation = federation_of(CLIENTS)
    clients = federation.nodes["client"]
    names = {node.peer: i for i, node in enumerate(clients)}
    for number, outputs in enumerate(federation.rounds(3), start=1):
        show(number, outputs, names)

    # It goes without a word, so the registry cannot know: it is asked in vain.
    federation.bus.remove(clients[LOST].peer)
    print(f"client {LOST} is gone")
    for number, outputs in enumerate(federation.rounds(2), start=4):
        show(number, outputs, names)

    # The others renew their leases by their own clocks. After 90 s its lease has ended.
    federation.bus.advance("95s")
    print("95 s later")
    for number, outputs in enumerate(federation.rounds(3), start=6):
        show(number, outputs, names)


if __name__ == "__main__":
    main()
