"""Ops of one slot run in the order in which they were recorded, each once, whatever links them."""

from typing import Any, ClassVar

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import bytesandbrains as bb
from bb_ir.params import ParameterSet
from bb_roles import Model

PARAMS = ParameterSet.from_tensors({"w": np.zeros(2, np.float32)})
#: What the components were asked to do, in order: (slot, method).
CALLS: list[tuple[str, str]] = []


class Witness(Model):
    """A model that writes down its calls and computes nothing."""

    def _note(self, method: str, result: Any) -> Any:
        CALLS.append((self.env.slot, method))
        return result

    def params(self, ctx):
        return self._note("params", PARAMS)

    def load_params(self, ctx, params):
        self._note("load_params", None)

    def forward(self, ctx, x):
        return self._note("forward", x)

    def backward(self, ctx, grad):
        return self._note("backward", grad)

    def compute_loss(self, ctx, prediction, target):
        return self._note("compute_loss", 0.0)

    def fit(self, ctx, batches):
        return self._note("fit", {"examples": 1, "loss": 0.0})

    def evaluate(self, ctx, batches):
        return self._note("evaluate", {"examples": 1, "loss": 0.0})


class Scripted(bb.Module):
    """Records what a script says: (slot, method, which earlier value to read)."""

    script: ClassVar[list[tuple[str, str, int]]] = []
    a = bb.slots.Model()
    b = bb.slots.Model()
    c = bb.slots.Model()

    def body(self, g):
        tensors, sets = [g.input("x", "tensor(float32)")], [self.a.params(g)]
        for slot, method, back in self.script:
            model = getattr(self, slot)
            if method == "params":
                sets.append(model.params(g))
            elif method == "load_params":
                model.load_params(g, sets[back % len(sets)])
            else:
                tensors.append(getattr(model, method)(g, tensors[back % len(tensors)]))
        g.output("y", tensors[-1])


METHODS = st.sampled_from(["params", "load_params", "forward", "backward"])
SCRIPTS = st.lists(st.tuples(st.sampled_from("abc"), METHODS, st.integers(0, 50)), max_size=30)


def run(script):
    Scripted.script = script
    compiler = bb.Compiler()
    for slot in {"a", *(slot for slot, _, _ in script)}:
        compiler.bind_model(slot, Witness)
    artifact = compiler.compile(Scripted().build())
    node = bb.install(bb.PeerId.from_seed(0), [], artifact, ["Scripted"])
    CALLS.clear()
    node.invoke("Scripted", {"x": np.ones(3, np.float32)})
    return node.poll()


@settings(deadline=None, max_examples=60)
@given(SCRIPTS)
def test_ops_of_a_slot_run_once_in_the_order_of_recording(script):
    steps = run(script)

    recorded = [("a", "params"), *((slot, method) for slot, method, _ in script)]
    for slot in "abc":
        assert [m for s, m in CALLS if s == slot] == [m for s, m in recorded if s == slot]
    assert steps[-1].how == "done"


@settings(deadline=None, max_examples=30)
@given(SCRIPTS, st.randoms(use_true_random=False))
def test_moving_statements_of_other_slots_changes_no_order_within_a_slot(script, rng):
    kept = {slot: [row for row in script if row[0] == slot] for slot in "abc"}
    moved = []
    while any(kept.values()):
        slot = rng.choice([slot for slot, rows in kept.items() if rows])
        moved.append(kept[slot].pop(0))

    run(moved)

    for slot in "abc":
        want = [m for s, m, _ in script if s == slot]
        assert [m for s, m in CALLS if s == slot][slot == "a" :] == want
