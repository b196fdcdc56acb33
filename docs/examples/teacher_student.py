"""Two models of one role in one Module: a student learns from its teacher alone.

The teacher is trained on labelled images. The student is a much smaller network: it sees other
images without labels, and imitates the probabilities that the teacher gives for them.

    python teacher_student.py
"""

import bytesandbrains as bb

BATCH = 32
STEPS_PER_LINE = 100


class Distillation(bb.Module):
    """One step of the student towards its teacher."""

    # Slots are told apart by name, so a role may be there twice, each with its configuration.
    teacher = bb.slots.Model()
    student = bb.slots.Model()
    labelled = bb.slots.DataSource()
    unlabelled = bb.slots.DataSource()
    test = bb.slots.DataSource()
    backend = bb.slots.Backend()

    def bootstrap(self, g: bb.Graph) -> None:
        """Train the teacher once, when the Node starts."""
        self.teacher.fit(g, self.labelled.batches(g, epochs=30))

    def body(self, g: bb.Graph) -> None:
        """Record one batch: what the teacher thinks, and a step of the student towards it."""
        images, _nobody_looks_at_labels = self.unlabelled.next_batch(g)
        wanted = self.backend.softmax(g, self.teacher.forward(g, images))
        logits = self.student.forward(g, images)
        # The gradient of cross-entropy against soft targets, and a step along it.
        self.student.backward(g, (self.backend.softmax(g, logits) - wanted) / BATCH)
        g.output("distance", self.student.compute_loss(g, logits, wanted))
        g.output("teacher", self.teacher.evaluate(g, self.test.batches(g)))
        g.output("student", self.student.evaluate(g, self.test.batches(g)))


def main() -> None:
    """Train the teacher, distil it, and print both accuracies on the way."""
    artifact = (
        bb.Compiler()
        .bind_model("teacher", "mlp", config={"layers": [64, 128, 10], "lr": 0.05})
        .bind_model("student", "mlp", config={"layers": [64, 12, 10], "lr": 0.02})
        .bind_data_source("labelled", "digits")
        .bind_data_source("unlabelled", "digits")
        .bind_data_source("test", "digits")
        .bind_backend("backend", "numpy")
        .compile(Distillation().build())
    )
    half = {"split": "train", "partition": "iid", "clients": 2, "batch_size": BATCH}
    federation = bb.LocalFederation(
        artifact,
        config={
            "labelled": {**half, "client": 0},
            "unlabelled": {**half, "client": 1},
            "test": {"split": "test"},
        },
    )
    sizes = [federation.params(slot).count for slot in ("teacher", "student")]
    print(f"teacher: {sizes[0]} parameters, student: {sizes[1]}")
    for step, outputs in enumerate(federation.rounds(4 * STEPS_PER_LINE), start=1):
        if step == 1 or step % STEPS_PER_LINE == 0:
            accuracy = {who: outputs[who]["accuracy"] for who in ("teacher", "student")}
            print(
                f"step {step:3}: distance {outputs['distance']:.3f}, "
                f"teacher {accuracy['teacher']:.3f}, student {accuracy['student']:.3f}"
            )


if __name__ == "__main__":
    main()
