"""Split learning: a network cut in two, its bottom at the client, its top at the server.

For every batch the activations go one way and their gradient comes back. The images never leave
the client, and the client never sees the upper layers. Both halves learn.

    python split_learning.py
"""

import numpy as np

import bytesandbrains as bb

BATCH = 32


class SplitLearning(bb.Module):
    """One pass of training for a network whose halves live on different peers."""

    peer_class = "client"
    server = bb.slots.PeerSelector(of="server")
    data = bb.slots.DataSource()
    bottom = bb.slots.Model()
    top = bb.slots.Model()
    backend = bb.slots.Backend()

    def body(self, g: bb.Graph) -> None:
        """Record one pass: the way up through both halves and back down, for every batch."""
        with g.each(self.data.batches(g)) as (images, labels):
            activations = self.bottom.forward(g, images)
            server = self.server.current_view(g)
            arrived, targets = g.net_out("activations", server, activations, labels)

            # At the server.
            logits = self.top.forward(g, arrived)
            loss = self.top.compute_loss(g, logits, targets)
            # The gradient of softmax and cross-entropy together: probabilities minus the truth.
            truth = self.backend.op(g, "OneHot", targets, g.constant(10), g.constant([0.0, 1.0]))
            error = self.backend.softmax(g, logits) - truth
            gradient = self.top.backward(g, error / BATCH)
            guessed = self.backend.op(g, "ArgMax", logits, axis=1, keepdims=0)
            right = self.backend.op(g, "Equal", guessed, targets)
            ones = self.backend.op(g, "Where", right, g.constant(1.0), g.constant(0.0))
            accuracy = self.backend.reduce_mean(g, ones)
            back = g.net_out("gradient", g.sender(arrived), gradient, loss, accuracy)

            # At the client again; the next batch waits for this.
            gradient, loss, accuracy = back
            self.bottom.backward(g, gradient)
            g.output("loss", loss)
            g.output("accuracy", accuracy)


def main() -> None:
    """Train for eight passes and print how each of them went."""
    artifact = (
        bb.Compiler()
        .bind_peer_selector("server", "static")
        .bind_data_source("data", "digits", config={"batch_size": BATCH})
        .bind_model("bottom", "mlp", config={"layers": [64, 32], "lr": 0.02})
        .bind_model("top", "mlp", config={"layers": [32, 32, 10], "lr": 0.02})
        .bind_backend("backend", "numpy")
        .compile(SplitLearning().build())
    )
    federation = bb.LocalFederation(artifact, nodes={"server": 1})
    for number in range(1, 9):
        batches = federation.run().history
        loss, accuracy = np.mean(batches["loss"]), np.mean(batches["accuracy"])
        print(f"pass {number}: loss {loss:.3f}, accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
