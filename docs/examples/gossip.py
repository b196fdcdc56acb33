"""Gossip averaging on a ring: no server, no round, and yet all peers agree on one model.

Every five seconds, each by its own clock, a peer trains on its few images and pushes its parameters
to its neighbour, which mixes them with its own. Sender and receiver are of the same class: the send
is what separates them. Nobody drives them; the host only lets time pass.

    python gossip.py
"""

import numpy as np

import bytesandbrains as bb

PEERS = 8


class Gossip(bb.Module):
    """What a peer does by its clock, and what its neighbour does with it."""

    peer_class = "peer"
    neighbour = bb.slots.PeerSelector(of="peer")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    test = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def body(self, g: bb.Graph) -> None:
        """Record the tick; the values that `net_out` gives stand at the neighbour."""
        with g.every("5s", jitter="1s"):
            metrics = self.model.fit(g, self.data.batches(g))
            push = g.net_out("push", self.neighbour.sample(g, 1), self.model.params(g), metrics)

        # At the neighbour: mix what came with what is there, weighted by examples.
        self.aggregator.contribute(g, *push)
        own = self.model.params(g)
        self.aggregator.contribute(g, own, self.model.evaluate(g, self.data.batches(g)))
        mixed, _ = self.aggregator.aggregate(g)
        loaded = self.model.load_params(g, mixed)
        g.output("params", mixed)
        g.output("test", self.model.evaluate(g, self.test.batches(g, after=loaded)))


def distance(models: dict[bb.PeerId, bb.ParameterSet]) -> float:
    """Return how far the models are from their mean: 0 when all peers agree."""
    flat = np.stack([model.flat("float32") for model in models.values()])
    return float(np.linalg.norm(flat - flat.mean(axis=0), axis=1).mean())


def main() -> None:
    """Let time pass, and see the peers agree."""
    artifact = (
        bb.Compiler()
        .bind_peer_selector("neighbour", "static")
        .bind_model("model", "mlp", config={"layers": [64, 32, 10]})
        .bind_data_source("data", "digits")
        .bind_data_source("test", "digits")
        .bind_aggregator("aggregator", "fedavg")
        .compile(Gossip().build())
    )
    peers = [bb.PeerId.from_seed(0, i) for i in range(PEERS)]
    part = {"split": "train", "partition": "dirichlet", "alpha": 1.0, "clients": PEERS}
    nodes = []
    for i, peer in enumerate(peers):
        config = {
            "neighbour": {"peers": [peers[(i + 1) % PEERS]]},
            # Every peer starts from weights of its own, so that there is something to agree on.
            "model": {"lr": 0.05, "seed": i},
            "data": {**part, "client": i},
            "test": {"split": "test"},
        }
        nodes.append(bb.install(peer, [], artifact, ["Gossip"], config))

    bus = bb.LocalBus(*nodes)
    models: dict[bb.PeerId, bb.ParameterSet] = {}
    accuracy: dict[bb.PeerId, float] = {}
    for node in nodes:
        node.invoke("Gossip")  # starts its clock
    passed = 0
    for seconds in (10, 20, 30, 60, 120):
        for event in bus.advance(f"{seconds}s"):
            match event.step:
                case bb.Emitted(name="params", value=params):
                    models[event.peer] = params
                case bb.Emitted(name="test", value=metrics):
                    accuracy[event.peer] = metrics["accuracy"]
                case bb.OpFailed(error=error):
                    raise error
        passed += seconds
        print(
            f"after {passed:3} s: distance from consensus {distance(models):.3f}, accuracy "
            f"{min(accuracy.values()):.3f} to {max(accuracy.values()):.3f}"
        )


if __name__ == "__main__":
    main()
