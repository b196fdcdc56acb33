"""Nearest-neighbour search: an Index classifies handwritten digits, and forgets when it must.

One Node fills the index once, when it starts, and then answers searches. Removing vectors takes
effect at once: nothing that was removed is ever found again. A large search is deferred: a
thread of the executor does it, and the Node goes on when it has come back.

    python nearest_neighbours.py
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import bytesandbrains as bb

NEIGHBOURS = 5


class Search(bb.Module):
    """Looks up the neighbours of held-out digits among the known ones."""

    known = bb.slots.DataSource()
    questions = bb.slots.DataSource()
    index = bb.slots.Index()

    def bootstrap(self, g: bb.Graph) -> None:
        """Fill the index; this runs once, before anything else on the Node."""
        images, labels = self.known.next_batch(g)
        g.output("ids", self.index.add(g, images))
        g.output("known_labels", labels)

    def body(self, g: bb.Graph) -> None:
        """Forget some vectors, then search. Ops on one slot run in the order written here."""
        self.index.remove(g, g.input("forget", "tensor(int64)[?]"))
        images, labels = self.questions.next_batch(g)
        ids, distances = self.index.search(g, images, k=NEIGHBOURS)
        g.output("found", ids)
        g.output("distances", distances)
        g.output("labels", labels)


def outputs(bus: bb.LocalBus) -> dict[str, Any]:
    """Let the Node work until it is quiet, and return what the program published."""
    published = {}
    for event in bus.run():
        match event.step:
            case bb.Emitted(name=name, value=value):
                published[name] = value
            case bb.OpFailed(error=error):
                raise error
    return published


def vote(labels: np.ndarray) -> np.ndarray:
    """Return the commonest label of each row."""
    return np.array([np.bincount(row, minlength=10).argmax() for row in labels])


def main() -> None:
    """Search among all digits, then again after the nines were removed."""
    artifact = (
        bb.Compiler()
        .bind_data_source("known", "digits")
        .bind_data_source("questions", "digits")
        .bind_index("index", "flat")
        .compile(Search().build())
    )
    # A batch as large as the data: each of the two sources gives everything it has at once.
    config = {
        "known": {"split": "train", "batch_size": 2000},
        "questions": {"split": "test", "batch_size": 2000},
        "index": {"metric": "l2", "defer_above": 1_000_000},
    }
    node = bb.install(bb.PeerId.from_seed(0), [], artifact, ["Search"], config)
    with ThreadPoolExecutor(2) as executor:
        ask(node, bb.LocalBus(node, executor=executor))


def ask(node: bb.Node, bus: bb.LocalBus) -> None:
    """Fill the index, search, forget the nines, and search again."""
    node.run_bootstrap()
    start = outputs(bus)
    # The index gives ids; whose label an id is, the host writes down.
    label_of = np.empty(start["ids"].max() + 1, np.int64)
    label_of[start["ids"]] = start["known_labels"]
    nines = start["ids"][start["known_labels"] == 9]

    for what, forget in (("all digits", np.empty(0, np.int64)), ("without nines", nines)):
        node.invoke("Search", {"forget": forget})
        answer = outputs(bus)
        guessed = vote(label_of[answer["found"]])
        print(
            f"{what:<13} accuracy {np.mean(guessed == answer['labels']):.4f}, "
            f"nines answered {np.sum(guessed == 9):2}, "
            f"mean distance of the nearest {answer['distances'][:, 0].mean():.3f}"
        )


if __name__ == "__main__":
    main()
