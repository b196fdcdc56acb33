"""Federated averaging without a host in the loop: one invocation runs all rounds.

The program itself says how many rounds there are, measures the model every fifth one, and stops
when it is good enough. The host starts it once and listens.

    python rounds.py
"""

import bytesandbrains as bb

CLIENTS = 10


class Training(bb.Module):
    """Federated averaging until the model is good enough, or the rounds are used up."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    test = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def __init__(self, rounds: int, goal: float) -> None:
        super().__init__()
        self.rounds = rounds
        self.goal = goal

    def body(self, g: bb.Graph) -> None:
        """Record the rounds, and what is done in some of them only."""
        with g.rounds(self.rounds) as number:
            received = g.net_out("weights", self.peers.sample(g, 6), self.model.params(g))
            self.model.load_params(g, received)
            metrics = self.model.fit(g, self.data.batches(g))
            update = g.net_out("update", g.sender(received), self.model.params(g), metrics)

            # Back at the server, once for each update; then once for the round.
            folded = self.aggregator.contribute(g, *update)
            answered = g.gather(folded, quorum=0.8, deadline="30s", wait="all")
            averaged, summary = self.aggregator.aggregate(g, after=answered)
            self.model.load_params(g, averaged)
            g.output("loss", summary["loss"])

            with g.when((number % 5).equals(0)):
                measured = self.model.evaluate(g, self.test.batches(g))
                g.output("checked", g.record(round=number, accuracy=measured["accuracy"]))
                number.until(measured["accuracy"] >= self.goal)


def main() -> None:
    """Start the program once, and print what it reports."""
    artifact = (
        bb.Compiler()
        .bind_peer_selector("peers", "static")
        .bind_model("model", "mlp", config={"layers": [64, 32, 10], "lr": 0.1})
        .bind_data_source("data", "digits")
        .bind_data_source("test", "digits")
        .bind_aggregator("aggregator", "fedavg")
        .compile(Training(rounds=60, goal=0.94).build())
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
    for event in federation.events():
        match event.step:
            case bb.Emitted(name="checked", value=found):
                print(f"round {found['round']:2}: accuracy {found['accuracy']:.3f}")
            case bb.BlockEnded(turns=turns, how=how):
                print(f"{how} after {turns} rounds")
            case bb.OpFailed(error=error):
                raise error


if __name__ == "__main__":
    main()
