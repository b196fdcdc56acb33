"""Models of four methods, without `forward`, `save` and the like: enough for most federations."""

import numpy as np
import pytest

import bytesandbrains as bb
from bb_roles import Model, ParameterSet
from bb_runtime.errors import UnresolvedOp
from bb_testing import ModelSuite, environment


class Slope(Model):
    """A line through the origin, which goes half of the way in each pass."""

    def __init__(self, config, env):
        super().__init__(config, env)
        self.held = ParameterSet.from_tensors({"slope": np.zeros(1)})

    def params(self, ctx):
        return self.held

    def load_params(self, ctx, params):
        if params.layout != self.held.layout:
            raise ValueError(f"{params.layout.type} is no slope")
        self.held = params

    def fit(self, ctx, batches):
        return self.measured(batches, share=0.5)

    def evaluate(self, ctx, batches):
        return self.measured(batches, share=0.0)

    def measured(self, batches, share):
        losses = []
        for x, y in batches:
            off = y - x[:, 0] * self.held["slope"]
            losses.append(float((off**2).mean()))
            if share:
                step = share * (off @ x[:, 0]) / (x[:, 0] @ x[:, 0])
                self.held = ParameterSet.from_tensors({"slope": self.held["slope"] + step})
        if not losses:
            raise ValueError("there are no batches, so there is no loss")
        return {"examples": batches.examples, "loss": float(np.mean(losses))}


class TestSlope(ModelSuite):
    def make(self):
        return Slope(None, environment("model"))

    def batch(self):
        x = np.arange(1.0, 9.0)[:, None]
        return x, 3.0 * x[:, 0]


class Predicts(bb.Module):
    """Calls what the model does without."""

    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g):
        x, _ = self.data.next_batch(g)
        g.output("y", self.model.forward(g, x))


class Measures(bb.Module):
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g):
        g.output("metrics", self.model.evaluate(g, self.data.batches(g)))


def compiled(module):
    compiler = bb.Compiler().bind_model("model", Slope).bind_data_source("data", "digits")
    return compiler.compile(module.build())


def test_program_that_calls_what_a_model_does_without_is_not_installed():
    with pytest.raises(UnresolvedOp, match="without the optional method forward"):
        bb.LocalFederation(compiled(Predicts()))


def test_program_that_calls_nothing_else_is_installed():
    assert bb.LocalFederation(compiled(Measures())).run()["metrics"]["examples"] == 1797
