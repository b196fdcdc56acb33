"""Federated evaluation: how good is one model for each client, on data that nobody else sees?

The server trains a model on its own images and sends it to all clients. Each of them measures it
on its part and answers with a few numbers.

    python federated_evaluation.py
"""

from typing import Any

import numpy as np

import bytesandbrains as bb

CLIENTS = 8


class Evaluation(bb.Module):
    """Trains at the server, measures at every client, and collects what they found."""

    peer_class = "server"
    clients = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    own = bb.slots.DataSource()
    private = bb.slots.DataSource()

    def body(self, g: bb.Graph) -> None:
        """Record one survey."""
        self.model.fit(g, self.own.batches(g, epochs=30))
        asked = self.clients.current_view(g)
        received = g.net_out("model", asked, self.model.params(g))
        self.model.load_params(g, received)
        metrics = self.model.evaluate(g, self.private.batches(g))
        report = g.net_out("report", g.sender(received), metrics)
        # One who does not answer is no reason to fail: it is missing from the table.
        done = g.gather(
            report, quorum=1, deadline="10s", wait="all", on_short="continue", values=True
        )
        g.output("asked", asked)
        g.output("missing", done.missing)
        g.output("reports", done.values)


def main() -> None:
    """Run one survey and print its table."""
    artifact = (
        bb.Compiler()
        .bind_peer_selector("clients", "static")
        .bind_model("model", "mlp", config={"layers": [64, 32, 10]})
        .bind_data_source("own", "digits")
        .bind_data_source("private", "digits")
        .compile(Evaluation().build())
    )
    part = {"split": "train", "partition": "dirichlet", "clients": CLIENTS}
    federation = bb.LocalFederation(
        artifact,
        nodes={"client": CLIENTS},
        config={
            # A fifth of the digits is held out from all clients: that is what the server has.
            "own": {"split": "test"},
            "private": lambda i: {**part, "client": i},
        },
    )
    # One of them is switched off, as happens.
    federation.bus.remove(federation.nodes["client"][4].peer)
    show(federation.run())


def show(found: dict[str, Any]) -> None:
    """Print a line per client, and one for all examples together."""
    # Reports come in the order in which the peers were asked, without those that are missing.
    answered = [peer for peer in found["asked"] if peer not in found["missing"]]
    reports = dict(zip(answered, found["reports"], strict=True))

    print(f"{'client':<10} {'examples':>8} {'accuracy':>8} {'loss':>6}")
    for peer in found["asked"]:
        print(f"...{str(peer)[-7:]} {row(reports[peer]) if peer in reports else 'no answer':>24}")
    examples = [report["examples"] for report in reports.values()]
    overall = {
        name: np.average([report[name] for report in reports.values()], weights=examples)
        for name in ("accuracy", "loss")
    }
    print(f"{'all':<10} {row({'examples': sum(examples), **overall})}")


def row(report: dict[str, Any]) -> str:
    """Return the figures of one line."""
    return f"{report['examples']:>8} {report['accuracy']:>8.3f} {report['loss']:>6.3f}"


if __name__ == "__main__":
    main()
