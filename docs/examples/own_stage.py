"""A compiler stage of your own: a house rule that every gather says how long it waits.

A stage is a function from model to model. It sees the program as an ONNX model and may return a
changed one; this one only looks, and objects. The artifact records that it ran.

    python own_stage.py
"""

from typing import Any

import bytesandbrains as bb


class Census(bb.Module):
    """Asks all clients how many examples they train on, and with which loss."""

    peer_class = "server"
    clients = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def __init__(self, deadline: str = "") -> None:
        super().__init__()
        self.deadline = deadline

    def body(self, g: bb.Graph) -> None:
        """Record one question and its answers."""
        weights = g.net_out("weights", self.clients.current_view(g), self.model.params(g))
        self.model.load_params(g, weights)
        metrics = self.model.evaluate(g, self.data.batches(g))
        answer = g.net_out("answer", g.sender(weights), metrics)
        answers = g.gather(answer, deadline=self.deadline, wait="all", values=True)
        g.output("answers", answers.values)


class NoDeadline(bb.CompileError):
    """A gather that leaves its deadline to the default."""


def gathers_have_deadlines(model: Any) -> Any:
    """Refuse a program that may wait for an answer without having said how long.

    Args:
        model: The recorded program, an `onnx.ModelProto`. Ops are the nodes of its functions;
            the recorder's notes, such as the line an op came from, are their metadata.
    """
    for function in model.functions:
        for node in function.node:
            if (node.domain, node.op_type) != ("ai.bytesandbrains.syscall", "Gather"):
                continue
            if not any(attribute.name == "deadline_ns" for attribute in node.attribute):
                notes = {note.key: note.value for note in node.metadata_props}
                raise NoDeadline(
                    "this gather may wait as long as the default allows",
                    expected="a deadline that somebody thought about",
                    fix='g.gather(value, deadline="30s", ...)',
                    where=notes["ai.bytesandbrains.source"],
                )
    return model


def compiler() -> bb.Compiler:
    """Return a compiler with our stage: early, where the program is as it was written."""
    return (
        bb.Compiler()
        .insert_stage(gathers_have_deadlines, after="verify_recording")
        .bind_peer_selector("clients", "static")
        .bind_model("model", "mlp", config={"layers": [64, 32, 10]})
        .bind_data_source("data", "digits")
    )


def main() -> None:
    """Compile the program without a deadline, then with one, and run that."""
    try:
        compiler().compile(Census().build())
    except bb.CompileError as error:
        print(f"{error.code}: {error}\n")

    artifact = compiler().compile(Census(deadline="10s").build())
    notes = {note.key: note.value for note in artifact.metadata_props}
    print("stages:", ", ".join(notes["ai.bytesandbrains.stages"].split(",")[:3]), "...")

    federation = bb.LocalFederation(
        artifact,
        nodes={"client": 3},
        config={"data": lambda i: {"partition": "dirichlet", "clients": 3, "client": i}},
    )
    for answer in federation.run()["answers"]:
        print(f"{answer['examples']:4} examples, loss {answer['loss']:.4f}")


if __name__ == "__main__":
    main()
