"""The suites of models, data, peer selectors and protocols fail where a component is broken.

Each suite runs over one good component and many that are broken in one way each. The good one
passes; a broken one fails the test that is named beside it; and every test is named at least once.
"""

import pytest

from bb_testing.data_source import DataSourceSuite
from bb_testing.model import ModelSuite
from bb_testing.peer_selector import PeerSelectorSuite
from bb_testing.protocol import ProtocolSuite

pytest_plugins = ["pytester"]

MODEL = '''
import ctypes

import numpy as np

from bb_ir.params import ParameterSet
from bb_ir.types import tensor
from bb_roles import Component, Model, State
from bb_testing.context import environment
from bb_testing.model import ModelSuite

class Good(Model):
    """Linear regression by gradient descent with momentum."""

    def __init__(self):
        super().__init__(None, environment())
        first = {"w": np.full((2, 1), 0.1, np.float32), "b": np.zeros(1, np.float32)}
        self.draft = ParameterSet.from_tensors(first).writable(copy=True)
        self.v = np.zeros(3, np.float32)
        self.x = None

    @classmethod
    def value_types(cls, config):
        held = "params(w:tensor(float32)[2,1],b:tensor(float32)[1])"
        return {
            "Params.params": held,
            "LoadParams.params": held,
            "Forward.x": "tensor[n,2]",
            "Forward.y": "tensor(float32)[n,1]",
            "Fit.metrics": "record(examples:int64,loss:float64)",
        }

    @classmethod
    def infer_types(cls, config, op, inputs):
        if op == "Forward" and inputs[0].shape:
            return {"y": tensor("float32", (inputs[0].shape[0], 1))}

    def own(self):
        if self.draft.lent:
            self.draft = self.draft.writable(copy=True)
        return self.draft

    def step(self, x, grad):
        self.v = 0.5 * self.v + np.concatenate([(x.T @ grad).ravel(), grad.sum(axis=0)])
        self.own().flat()[:] -= 0.1 * self.v

    def predict(self, x):
        return x @ self.draft["w"] + self.draft["b"]

    def forward(self, ctx, x):
        self.x = x
        return self.predict(x)

    def backward(self, ctx, grad):
        back = grad @ self.draft["w"].T
        self.step(self.x, grad)
        return back

    def compute_loss(self, ctx, prediction, target):
        return float(((prediction - target) ** 2).mean())

    def params(self, ctx):
        return self.draft.lend()

    def load_params(self, ctx, params):
        if params.layout != self.draft.layout:
            raise ValueError("other parameters")
        self.draft = params.writable(copy=True)

    def apply_delta(self, ctx, delta):
        if delta.layout != self.draft.layout:
            raise ValueError("other parameters")
        self.own().flat()[:] += delta.flat()

    def fit(self, ctx, batches):
        losses = []
        for x, y in batches:
            self.check(x, y)
            error = self.predict(x) - y
            losses.append(float((error**2).mean()))
            self.step(x, error / len(x))
        return self.metrics(batches, losses)

    def evaluate(self, ctx, batches):
        losses = []
        for x, y in batches:
            self.check(x, y)
            losses.append(self.compute_loss(ctx, self.predict(x), y))
        return self.metrics(batches, losses)

    def check(self, x, y):
        if len(x) != len(y):
            raise ValueError("not as many targets as inputs")

    def metrics(self, batches, losses):
        if not losses:
            raise ValueError("no batches")
        return {"examples": batches.examples, "loss": sum(losses) / len(losses)}

    def save(self):
        tensors = {"p": self.draft.flat().copy(), "v": self.v.copy()}
        if self.x is not None:
            tensors["x"] = self.x.copy()
        return State(tensors)

    def load(self, state):
        self.own().flat()[:] = state.tensors["p"]
        self.v = state.tensors["v"].copy()
        self.x = state.tensors.get("x")

class Suite(ModelSuite):
    def batch(self):
        x = np.random.default_rng(0).standard_normal((8, 2)).astype(np.float32)
        return x, x @ np.array([[1.0], [-2.0]], np.float32) + 0.5
'''

BROKEN_MODELS = {
    "test_is_a_model": """
        class Broken(Component):
            pass
        """,
    "test_params_is_a_parameter_set": """
        class Broken(Good):
            def params(self, ctx):
                return dict(super().params(ctx).items())
        """,
    "test_fit_lowers_the_loss": """
        class Broken(Good):
            def step(self, x, grad):
                super().step(x, -grad)
        """,
    "test_metrics_are_reported": """
        class Broken(Good):
            def fit(self, ctx, batches):
                return {**super().fit(ctx, batches), "examples": sum(len(x) for x, _ in batches)}
        """,
    "test_evaluate_changes_nothing": """
        class Broken(Good):
            def evaluate(self, ctx, batches):
                return super().fit(ctx, batches)
        """,
    "test_same_calls_give_the_same_bits": """
        class Broken(Good):
            def step(self, x, grad):
                super().step(x, grad * np.random.uniform(0.9, 1.1, grad.shape).astype("f4"))
        """,
    "test_values_are_of_the_types_that_it_tells": """
        class Broken(Good):
            @classmethod
            def infer_types(cls, config, op, inputs):
                # It forgets that there is a row for each example.
                return {"y": tensor("float32", (1, 1))} if op == "Forward" else None
        """,
    "test_values_are_of_the_types_that_it_tells ": """
        class Broken(Good):
            @classmethod
            def value_types(cls, config):
                return {**super().value_types(config), "Evaluate.metrics": "record(loss:float64)"}
        """,
    "test_compute_loss_is_a_float": """
        class Broken(Good):
            def compute_loss(self, ctx, prediction, target):
                return ((prediction - target) ** 2).mean()
        """,
    "test_forward_changes_no_parameters": """
        class Broken(Good):
            def forward(self, ctx, x):
                self.own()["b"][...] = x.mean()
                return super().forward(ctx, x)
        """,
    "test_backward_steps_downhill": """
        class Broken(Good):
            def backward(self, ctx, grad):
                return -super().backward(ctx, -grad)
        """,
    "test_backward_agrees_with_finite_differences": """
        class Broken(Good):
            def backward(self, ctx, grad):
                super().backward(ctx, grad)
                return grad @ self.draft["w"].T
        """,
    "test_params_cannot_be_written": """
        class Broken(Good):
            def params(self, ctx):
                image = bytearray(super().params(ctx).image)
                return ParameterSet(self.draft.layout, memoryview(image))
        """,
    "test_lent_params_never_change": """
        class Broken(Good):
            def own(self):
                return self.draft
        """,
    "test_params_that_are_not_kept_are_lent_again": """
        class Broken(Good):
            lent = None
            def params(self, ctx):
                self.lent = self.lent or super().params(ctx)
                return self.lent
        """,
    "test_loaded_params_come_back": """
        class Broken(Good):
            def load_params(self, ctx, params):
                super().load_params(ctx, params)
                self.draft.flat()[:] = params.flat().astype(np.float16)
        """,
    "test_loaded_params_are_only_borrowed": """
        class Broken(Good):
            at = None
            def load_params(self, ctx, params):
                super().load_params(ctx, params)
                flat = params.flat()
                self.at = (ctypes.c_float * flat.size).from_address(flat.ctypes.data)
                self.keep = flat
            def step(self, x, grad):
                super().step(x, grad)
                if self.at is not None:
                    self.at[:] = self.draft.flat().tolist()
        """,
    "test_memory_of_loaded_params_is_used_again": """
        class Broken(Good):
            at = None
            def load_params(self, ctx, params):
                super().load_params(ctx, params)
                self.at = (ctypes.c_float * 3).from_address(params.flat().ctypes.data)
            def params(self, ctx):
                if self.at is None:
                    return super().params(ctx)
                self.own()["b"][...] = self.at[2]
                return super().params(ctx)
        """,
    "test_params_of_another_model_are_refused": """
        class Broken(Good):
            def load_params(self, ctx, params):
                for name, array in params.items():
                    self.own()[name][...] = array
                super().load_params(ctx, params)
        """,
    "test_apply_delta_adds": """
        class Broken(Good):
            def apply_delta(self, ctx, delta):
                super().apply_delta(ctx, delta)
                self.own().flat()[:] += delta.flat()
        """,
    "test_no_batches_are_refused": """
        class Broken(Good):
            def metrics(self, batches, losses):
                return super().metrics(batches, losses or [0.0])
        """,
    "test_no_batches_are_refused ": """
        class Broken(Good):
            def metrics(self, batches, losses):
                return {"examples": batches.examples, "loss": sum(losses) / len(losses)}
        """,
    "test_batch_that_does_not_fit_changes_nothing": """
        class Broken(Good):
            def check(self, x, y):
                pass
            def predict(self, x):
                found = super().predict(x)
                return found[:7] if len(x) == 8 and self.x is None else found
        """,
    "test_batch_that_does_not_fit_changes_nothing ": """
        class Broken(Good):
            def check(self, x, y):
                if len(x) != len(y):
                    self.step(x, np.ones((len(x), 1), np.float32))
                super().check(x, y)
        """,
    "test_batches_are_let_go": """
        class Broken(Good):
            def fit(self, ctx, batches):
                self.last = list(batches)
                return super().fit(ctx, batches)
        """,
    "test_state_goes_on_elsewhere": """
        class Broken(Good):
            def save(self):
                state = super().save()
                return State({**state.tensors, "v": np.zeros(3, np.float32)})
        """,
    "test_state_goes_on_elsewhere ": """
        class Broken(Good):
            def save(self):
                return State({**super().save().tensors, "p": self.draft.flat()})
        """,
    "test_state_holds_what_backward_needs": """
        class Broken(Good):
            def save(self):
                tensors = dict(super().save().tensors)
                return State({name: tensors[name] for name in ("p", "v")})
        """,
}

DATA = """
import numpy as np

from bb_roles import Batches, Component, State
from bb_ir.types import tensor
from bb_roles.data import DataConfig, InMemory, batch_types
from bb_testing.context import environment
from bb_testing.data_source import DataSourceSuite

X = np.arange(42, dtype=np.float32).reshape(14, 3)

class Good(InMemory):
    @classmethod
    def value_types(cls, config):
        return batch_types(tensor("float32", (3,)), tensor("int64", ()))

    def __init__(self, config=DataConfig(batch_size=4)):
        super().__init__(config, environment(), X, np.arange(14))

class Suite(DataSourceSuite):
    pass
"""

BROKEN_DATA = {
    "test_is_a_data_source": """
        class Broken(Component):
            pass
        """,
    "test_a_pass_has_each_example_once": """
        class Broken(Good):
            def batches(self, ctx, *, epochs=1):
                whole = super().batches(ctx, epochs=epochs)
                return Batches(12, lambda: ((x, y) for x, y in whole if len(x) == 4))
        """,
    "test_batches_can_be_stored": """
        class Broken(Good):
            def remake(self, state):
                return self._batches(state.data["epochs"], 4, None)
        """,
    "test_epochs_are_so_many_passes": """
        class Broken(Good):
            def batches(self, ctx, *, epochs=1):
                whole = super().batches(ctx, epochs=epochs)
                return Batches(14 * epochs, whole.draw)
        """,
    "test_epochs_are_so_many_passes ": """
        class Broken(Good):
            def batches(self, ctx, *, epochs=1):
                return super().batches(ctx)
        """,
    "test_batches_agree_in_shape_and_dtype": """
        class Broken(Good):
            def next_batch(self, ctx):
                x, y = super().next_batch(ctx)
                return x.astype(np.float64), y
        """,
    "test_values_are_of_the_types_that_it_tells": """
        class Broken(Good):
            @classmethod
            def value_types(cls, config):
                # The last batch of a pass is smaller.
                return {"NextBatch.batch": f"tensor(float32)[{config.batch_size},3]"}
        """,
    "test_values_are_of_the_types_that_it_tells ": """
        class Broken(Good):
            @classmethod
            def value_types(cls, config):
                known = super().value_types(config)["Batches.batches"]
                return {"Batches.batches": known.replace("int64", "int32")}
        """,
    "test_same_draw_gives_the_same_order": """
        class Broken(Good):
            def batches(self, ctx, *, epochs=1):
                whole = list(super().batches(ctx, epochs=epochs))
                np.random.shuffle(whole)
                return Batches(14, lambda: iter(whole))
        """,
    "test_passes_are_shuffled": """
        class Broken(Good):
            def __init__(self):
                super().__init__(DataConfig(batch_size=4, shuffle=False))
        """,
    "test_batches_can_be_iterated_again": """
        class Broken(Good):
            def batches(self, ctx, *, epochs=1):
                once = iter(super().batches(ctx, epochs=epochs))
                return Batches(14, lambda: once)
        """,
    "test_batches_stay_as_they_were": """
        class Broken(Good):
            buffer = np.empty((4, 3), np.float32)
            def batches(self, ctx, *, epochs=1):
                whole = super().batches(ctx, epochs=epochs)
                def draw():
                    for x, y in whole:
                        self.buffer[: len(x)] = x
                        yield self.buffer[: len(x)], y
                return Batches(14, draw)
        """,
    "test_batches_are_let_go": """
        class Broken(Good):
            def batches(self, ctx, *, epochs=1):
                whole = super().batches(ctx, epochs=epochs)
                self.drawn = []
                def draw():
                    for batch in whole:
                        self.drawn.append(batch)
                        yield batch
                return Batches(14, draw, whole.recipe)
        """,
    "test_less_than_one_epoch_is_refused": """
        class Broken(Good):
            def batches(self, ctx, *, epochs=1):
                return super().batches(ctx, epochs=max(1, epochs))
        """,
    "test_next_batch_goes_round": """
        class Broken(Good):
            def next_batch(self, ctx):
                x, y = super().next_batch(ctx)
                return super().next_batch(ctx) if len(x) < 4 else (x, y)
        """,
    "test_place_is_part_of_the_state": """
        class Broken(Good):
            def save(self):
                return State()
        """,
    "test_reset_starts_over": """
        class Broken(Good):
            def reset(self, ctx):
                pass
        """,
}

PEERS = """
import random

from bb_roles import Component, PeerSelector, State
from bb_testing.context import environment, peer_id
from bb_testing.peer_selector import PeerSelectorSuite

class Good(PeerSelector):
    def __init__(self):
        super().__init__(None, environment())
        self.peers = [peer_id(i) for i in range(5)]

    def current_view(self, ctx):
        return tuple(self.peers)

    def sample(self, ctx, *, n):
        if n < 1:
            raise ValueError("a sample of nobody")
        n = min(n, len(self.peers))
        return [self.peers[i] for i in ctx.rng().permutation(len(self.peers))[:n]]

class Suite(PeerSelectorSuite):
    pass
"""

BROKEN_PEERS = {
    "test_is_a_peer_selector": """
        class Broken(Component):
            pass
        """,
    "test_view_holds_each_peer_once": """
        class Broken(Good):
            def current_view(self, ctx):
                return [*self.peers, self.peers[0]]
        """,
    "test_view_is_in_a_stable_order": """
        class Broken(Good):
            def sample(self, ctx, *, n):
                ctx.rng().shuffle(self.peers)
                return self.peers[:n]
        """,
    "test_sample_has_the_size_asked_for": """
        class Broken(Good):
            def sample(self, ctx, *, n):
                n = min(n, len(self.peers))
                return [self.peers[i] for i in ctx.rng().integers(0, len(self.peers), n)]
        """,
    "test_sample_has_the_size_asked_for ": """
        class Broken(Good):
            def sample(self, ctx, *, n):
                return [peer_id(100 + i) for i in range(n)]
        """,
    "test_sample_of_more_than_there_are_is_all": """
        class Broken(Good):
            def sample(self, ctx, *, n):
                return super().sample(ctx, n=n if n <= len(self.peers) else 1)
        """,
    "test_same_draw_gives_the_same_sample": """
        class Broken(Good):
            def sample(self, ctx, *, n):
                return random.sample(self.peers, min(n, len(self.peers)))
        """,
    "test_sample_of_nobody_is_refused": """
        class Broken(Good):
            def sample(self, ctx, *, n):
                return super().sample(ctx, n=n) if n > 0 else []
        """,
    "test_views_and_samples_stay_as_they_were": """
        class Broken(Good):
            def current_view(self, ctx):
                return self.peers
        """,
    "test_every_peer_can_be_drawn": """
        class Broken(Good):
            def sample(self, ctx, *, n):
                return self.peers[:n]
        """,
    "test_state_goes_on_elsewhere": """
        class Broken(Good):
            def save(self):
                return State(data={"first": 1})
            def load(self, state):
                self.peers = self.peers[state.data["first"]:]
        """,
}

PROTOCOL = '''
import random
import time

from bb_ir.ops import Attribute, OpSchema, Port, ops
from bb_ir.types import list_of, record, scalar
from bb_roles import Component, Protocol, State
from bb_testing.context import environment, peer_id
from bb_testing.protocol import ProtocolSuite

INT = scalar("int64")
SCORE = record({"points": INT})

class Good(Protocol):
    """Counts points by sender; whoever asks is told the best, and draws lots."""

    ops = ops(
        OpSchema("Score", "score", (Port("score", SCORE),)),
        OpSchema("Best", "best", (), (Port("best", list_of(INT)),), (Attribute("n", 2),), "reads"),
        OpSchema("Draw", "draw", (), (Port("lot", INT), Port("of", INT))),
        OpSchema("Now", "now", (), (Port("ns", INT),), effect="reads"),
    )

    def __init__(self):
        super().__init__(None, environment())
        self.points = {}
        self.drawn = 0

    def score(self, ctx, score):
        if not isinstance(score["points"], int):
            raise TypeError("points are a number")
        sender = str(ctx.sender)
        self.points[sender] = self.points.get(sender, 0) + score["points"]

    def best(self, ctx, *, n=2):
        return sorted(self.points.values(), reverse=True)[:n]

    def draw(self, ctx):
        self.drawn += 1
        return int(ctx.rng().integers(100)), self.drawn

    def now(self, ctx):
        return ctx.now_ns

    def save(self):
        return State(data={"points": dict(self.points), "drawn": self.drawn})

    def load(self, state):
        self.points = dict(state.data["points"])
        self.drawn = state.data["drawn"]

class Suite(ProtocolSuite):
    def story(self, story):
        for n in range(4):
            story("Score", {"points": 3 * n % 5}, sender=peer_id(n), now_ns=n)
            story("Best")
            story("Draw")
            story("Now")
        story("Best", n=1)
'''

BROKEN_PROTOCOLS = {
    "test_is_a_protocol": """
        class Broken(Component):
            pass
        """,
    "test_declared_ops_are_methods": """
        class Broken(Good):
            ops = {}
        """,
    "test_declared_ops_are_methods ": """
        class Broken(Good):
            best = None
        """,
    "test_declared_ops_are_methods  ": """
        class Broken(Good):
            def score(self, ctx, told):
                super().score(ctx, told)
        """,
    "test_declared_ops_are_methods   ": """
        class Broken(Good):
            def best(self, ctx, *, n=3):
                return super().best(ctx, n=n)
        """,
    "test_declared_ops_are_methods    ": """
        class Broken(Good):
            ops = {**Good.ops, "Stop": OpSchema("Stop", "close")}
        """,
    "test_story_calls_every_op": """
        class Broken(Good):
            ops = {**Good.ops, "Forget": OpSchema("Forget", "forget")}
            def forget(self, ctx):
                self.points.clear()
        """,
    "test_story_calls_every_op ": """
        class Broken(Good):
            def best(self, ctx, *, n=2):
                return "three"
        """,
    "test_story_calls_every_op  ": """
        class Broken(Good):
            def draw(self, ctx):
                return super().draw(ctx)[0]
        """,
    "test_story_calls_every_op   ": """
        class Broken(Good):
            def score(self, ctx, score):
                super().score(ctx, score)
                score["points"] = 0
        """,
    "test_results_stay_as_they_were": """
        class Broken(Good):
            def __init__(self):
                super().__init__()
                self.shown = []
            def best(self, ctx, *, n=2):
                self.shown[:] = super().best(ctx, n=n)
                return self.shown
        """,
    "test_same_calls_give_the_same_results": """
        class Broken(Good):
            def now(self, ctx):
                return time.monotonic_ns()
        """,
    "test_same_calls_give_the_same_results ": """
        class Broken(Good):
            def draw(self, ctx):
                self.drawn += 1
                return random.randrange(100), self.drawn
        """,
    "test_reads_change_nothing": """
        class Broken(Good):
            def now(self, ctx):
                self.drawn += 1
                return ctx.now_ns
        """,
    "test_state_goes_on_elsewhere": """
        class Broken(Good):
            def load(self, state):
                self.points = dict(state.data["points"])
        """,
    "test_state_goes_on_elsewhere ": """
        class Broken(Good):
            def save(self):
                return State(data={"points": self.points, "drawn": self.drawn, "who": peer_id()})
        """,
    "test_bad_input_is_refused_whole": """
        class Broken(Good):
            def score(self, ctx, score):
                if isinstance(score, dict) and isinstance(score.get("points"), int):
                    super().score(ctx, score)
        """,
    "test_bad_input_is_refused_whole ": """
        class Broken(Good):
            def score(self, ctx, score):
                self.drawn += 1
                super().score(ctx, score)
        """,
}

SUITES = {
    "model": (ModelSuite, MODEL, BROKEN_MODELS),
    "data_source": (DataSourceSuite, DATA, BROKEN_DATA),
    "peer_selector": (PeerSelectorSuite, PEERS, BROKEN_PEERS),
    "protocol": (ProtocolSuite, PROTOCOL, BROKEN_PROTOCOLS),
}

KINDS = pytest.mark.parametrize("kind", SUITES)


@KINDS
def test_every_test_bites(kind, tests_of):
    suite, _, broken = SUITES[kind]

    assert {name.strip() for name in broken} == tests_of(suite)


@KINDS
def test_suite_fails_on_broken_components_and_on_no_other(kind, bites_components):
    _, good, broken = SUITES[kind]

    bites_components(good, broken)
