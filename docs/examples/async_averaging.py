"""Asynchronous aggregation: four rounds in flight, and nobody waits for the slowest client.

Each round asks one client. Its update is mixed into the server's model as soon as it is there,
however much the model has changed meanwhile (FedAsync, Xie et al. 2019): the server's own part
counts like `MEMORY` examples, the client's like those it has.

A Node does no I/O, so a host may carry its envelopes as it likes. This one gives each client a line
of its own speed, in a time of its own.

    python async_averaging.py
"""

import heapq
from collections.abc import Iterator

import bytesandbrains as bb

CLIENTS = 10
MEMORY = 300


class AsyncAveraging(bb.Module):
    """Rounds that overlap: each takes the model as it is, and gives its part when it can."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    test = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def body(self, g: bb.Graph) -> None:
        """Record one client's round; four are under way at a time."""
        with g.rounds(120, width=4, on_fail="continue") as number:
            received = g.net_out("weights", self.peers.sample(g, 1), self.model.params(g))
            self.model.load_params(g, received)
            metrics = self.model.fit(g, self.data.batches(g))
            update = g.net_out("update", g.sender(received), self.model.params(g), metrics)

            # At the server, when this client has answered: what came, and what is there.
            folded = self.aggregator.contribute(g, *update)
            answered = g.gather(folded, deadline="30s")
            memory = g.record(examples=g.scalar(MEMORY))
            own = self.model.params(g, after=answered)
            self.aggregator.contribute(g, own, memory, after=answered)
            mixed, _ = self.aggregator.aggregate(g)
            loaded = self.model.load_params(g, mixed)
            g.output("mixed", number, after=loaded)

            with g.when((number % 30).equals(0)):
                measured = self.model.evaluate(g, self.test.batches(g))
                g.output("accuracy", measured["accuracy"])


def main() -> None:
    """Let the rounds overlap, and print in which order they were finished."""
    artifact = (
        bb.Compiler()
        .bind_peer_selector("peers", "static")
        .bind_model("model", "mlp", config={"layers": [64, 32, 10], "lr": 0.1})
        .bind_data_source("data", "digits")
        .bind_data_source("test", "digits")
        .bind_aggregator("aggregator", "fedavg")
        .compile(AsyncAveraging().build())
    )
    part = {"split": "train", "partition": "dirichlet", "clients": CLIENTS}
    federation = bb.LocalFederation(
        artifact,
        nodes={"client": CLIENTS},
        config={
            "data": lambda i: {**part, "client": i},
            "test": {"split": "test"},
        },
    )
    server, clients = federation.server, federation.nodes["client"]
    seconds = {client.peer: 1 + 2 * i for i, client in enumerate(clients)} | {server.peer: 1}
    finished = []
    server.invoke("AsyncAveraging")
    for now, step in carry([server, *clients], seconds):
        match step:
            case bb.Emitted(name="mixed", value=number):
                finished.append(number)
            case bb.Emitted(name="accuracy", value=accuracy):
                print(f"after {now:4} s and {len(finished):3} updates: accuracy {accuracy:.3f}")
            case bb.OpFailed(error=error):
                raise error
    print("finished in this order:", *finished[:16], "...")


def carry(nodes: list[bb.Node], seconds: dict[bb.PeerId, int]) -> Iterator[tuple[int, object]]:
    """Deliver envelopes when they are due, each after as long as its receiver's line takes."""
    known = {node.peer: node for node in nodes}
    flying: list[tuple[int, int, bb.PeerId, bb.Ship]] = []
    now, sent, busy = 0, 0, [nodes[0]]
    while busy or flying:
        for node in busy:
            for step in node.poll():
                if isinstance(step, bb.Ship):
                    sent += 1
                    heapq.heappush(flying, (now + seconds[step.to], sent, node.peer, step))
                else:
                    yield now, step
        busy = []
        if flying:
            now, _, source, ship = heapq.heappop(flying)
            receiver = known[ship.to]
            receiver.advance(now * 1_000_000_000)
            receiver.receive_bytes(ship.envelope.to_bytes(), source)
            busy = [receiver]


if __name__ == "__main__":
    main()
