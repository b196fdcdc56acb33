import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest

from bb_ir.ops import ROLE_OPS
from bb_ir.params import ParameterSet
from bb_ir.types import ANY, accepts, local, parse_type, tensor
from bb_model_mlp import bb_component
from bb_model_mlp._mlp import Mlp, MlpConfig, MlpError
from bb_roles import Batches, State
from bb_roles.config import build_config
from bb_roles.errors import ConfigError, InputMisfit
from bb_roles.registry import component_class
from bb_testing.context import FakeContext, environment
from bb_testing.model import ModelSuite

CTX = FakeContext()


def make(node=1, **config):
    config = {"layers": (3, 8, 4), **config}
    return Mlp(MlpConfig(**config), environment("model", seed=node))


def examples(n=24, dtype="float32"):
    rng = np.random.default_rng(5)
    y = np.arange(n) % 4
    x = np.eye(4)[y, :3] + 0.1 * rng.standard_normal((n, 3))
    return x.astype(dtype), y


def one_batch(x, y):
    return Batches(len(x), lambda: iter([(x, y)]))


def values(model):
    return {name: array.copy() for name, array in model.params(CTX).items()}


class MlpSuite(ModelSuite):
    config: ClassVar = {}

    def make(self):
        return make(**self.config)

    def batch(self):
        return examples(dtype=self.config.get("dtype", "float32"))


class TestRelu(MlpSuite):
    pass


class TestTanh(MlpSuite):
    config: ClassVar = {"activation": "tanh", "layers": (3, 5, 6, 4)}


class TestPlainDescent(MlpSuite):
    config: ClassVar = {"momentum": 0.0, "weight_decay": 0.01, "reset_momentum": False}


class TestDouble(MlpSuite):
    config: ClassVar = {"dtype": "float64", "activation": "tanh"}
    tolerance = 1e-5


class TestLinear(MlpSuite):
    config: ClassVar = {"layers": (3, 4), "reset_momentum": False}


def test_declaration_names_the_class():
    assert component_class(bb_component()) is Mlp


def test_declaration_does_not_import_numpy():
    code = "import sys, bb_model_mlp as p; p.bb_component(); print('numpy' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


# What follows for types.


@pytest.mark.parametrize("layers", [(3, 4), (3, 5, 4), (3, 6, 5, 4)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_types_that_follow_from_a_configuration_are_those_of_the_values(layers, dtype):
    model, (x, y) = make(layers=layers, dtype=dtype), examples(dtype="float32")
    types = {port: parse_type(text) for port, text in Mlp.value_types(model.config).items()}

    held = model.params(CTX).layout.type
    logits = model.forward(CTX, x)
    metrics = {"Evaluate": model.evaluate(CTX, one_batch(x, y))}
    back = model.backward(CTX, logits)
    metrics["Fit"] = model.fit(CTX, one_batch(x, y))

    assert {types[f"{op}.params"] for op in ("Params", "LoadParams")} == {held}
    assert types["ApplyDelta.delta"] == held
    for port, array in (
        ("Forward.y", logits), ("Backward.grad", logits), ("Backward.x", back),
        ("ComputeLoss.prediction", logits),
    ):  # fmt: skip
        assert accepts(types[port], tensor(array.dtype.name, array.shape)), port
    kinds = {"int64": int, "float64": float}
    for op, found in metrics.items():
        declared = {name: kinds[kind.kind] for name, kind in types[f"{op}.metrics"].items}
        assert declared == {name: type(value) for name, value in found.items()}


def test_every_type_that_follows_is_of_a_port_that_exists():
    ports = {
        f"{schema.name}.{port.name}"
        for schema in ROLE_OPS["model"].values()
        for port in (*schema.inputs, *schema.outputs)
    }

    assert Mlp.value_types(MlpConfig()).keys() <= ports


def batches_type(inputs, targets=()):
    xs, ys = tensor("float32", ("batch", *inputs)), tensor("int64", ("batch", *targets))
    return local("batches", {"inputs": xs, "targets": ys})


@pytest.mark.parametrize("op", ["Fit", "Evaluate"])
@pytest.mark.parametrize(
    ("inputs", "targets", "found"),
    [
        ((32,), (), "an input has 32 numbers, and layers=[64, 10] takes 64"),
        ((8, 4), (), "an input has 32 numbers"),
        ((), (), "an input has 1 numbers"),
        ((64,), (3,), "a target has 3 numbers, and layers=[64, 10] has 10 classes"),
    ],
)
def test_batches_of_another_shape_are_refused_by_their_types(op, inputs, targets, found):
    with pytest.raises(InputMisfit) as caught:
        Mlp.infer_types(MlpConfig(layers=(64, 10)), op, (batches_type(inputs, targets),))

    assert found in caught.value.found


@pytest.mark.parametrize("known", [batches_type((64,)), batches_type((8, 8), (10,))])
def test_batches_that_fit_are_asked_about_again(known):
    assert Mlp.infer_types(MlpConfig(layers=(64, 10)), "Fit", (known,)) == {}


@pytest.mark.parametrize("known", [ANY, local("batches")])
def test_batches_of_which_nothing_is_known_are_taken(known):
    assert Mlp.infer_types(MlpConfig(layers=(64, 10)), "Fit", (known,)) is None


def test_inputs_with_open_lengths_are_taken():
    known = tensor("float32", ("n", "width"))

    found = Mlp.infer_types(MlpConfig(layers=(64, 10)), "Forward", (known,))

    assert found == {"y": tensor("float32", ("n", 10))}


# The mathematics.


def slopes(model, measure):
    """Return the derivative of `measure(model)` by every parameter, by finite differences."""
    params, step = model.params(CTX), 1e-6
    found = {}
    for name, array in params.items():
        found[name] = np.zeros_like(array)
        for at in np.ndindex(array.shape):
            measured = []
            for change in (step, -step):
                draft = params.writable(copy=True)
                draft[name][at] += change
                model.load_params(CTX, draft.freeze())
                measured.append(measure(model))
            found[name][at] = (measured[0] - measured[1]) / (2 * step)
    model.load_params(CTX, params)
    return found


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("layers", [(3, 4), (3, 5, 4), (3, 6, 5, 4)])
def test_fit_goes_down_the_gradient_of_the_loss(activation, layers):
    model = make(layers=layers, activation=activation, dtype="float64", momentum=0.0, lr=0.5)
    x, y = examples(dtype="float64")
    expected = slopes(model, lambda m: m.compute_loss(CTX, m.forward(CTX, x), y))
    before = values(model)

    model.fit(CTX, one_batch(x, y))

    for name, after in values(model).items():
        assert np.allclose((before[name] - after) / 0.5, expected[name], atol=1e-7)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_backward_goes_down_the_gradient_it_is_given(activation):
    model = make(activation=activation, dtype="float64", momentum=0.0, lr=0.5)
    x, _ = examples(dtype="float64")
    grad = np.random.default_rng(0).standard_normal((24, 4))
    expected = slopes(model, lambda m: (m.forward(CTX, x) * grad).sum())
    before = values(model)

    model.forward(CTX, x)
    model.backward(CTX, grad)

    for name, after in values(model).items():
        assert np.allclose((before[name] - after) / 0.5, expected[name], atol=1e-6)


def test_forward_then_backward_is_what_fit_does():
    one, other = make(), make()
    x, y = examples()

    metrics = one.fit(CTX, one_batch(x, y))
    logits = other.forward(CTX, x)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    other.backward(CTX, (shares - np.eye(4)[y]) / len(x))

    assert metrics["loss"] == pytest.approx(other.compute_loss(CTX, logits, y))
    for name, array in values(one).items():
        assert np.allclose(array, values(other)[name], atol=1e-6)


def test_momentum_and_weight_decay_are_those_of_sgd():
    model = make(layers=(2, 2), dtype="float64", lr=0.1, momentum=0.5, weight_decay=0.2)
    x, grad = np.eye(2), np.array([[1.0, -2.0], [3.0, 0.5]])
    start = values(model)["layers.0.weight"]

    for _ in range(3):
        model.forward(CTX, x)
        model.backward(CTX, grad)

    weight, velocity = start, np.zeros((2, 2))
    for _ in range(3):
        velocity = 0.5 * velocity + (grad.T @ x + 0.2 * weight)
        weight = weight - 0.1 * velocity
    assert np.allclose(values(model)["layers.0.weight"], weight)


def test_one_hot_targets_are_classes():
    one, other = make(), make()
    x, y = examples()

    losses = [one.fit(CTX, one_batch(x, y)), other.fit(CTX, one_batch(x, np.eye(4)[y]))]

    assert losses[0]["loss"] == pytest.approx(losses[1]["loss"])
    assert np.allclose(one.params(CTX).flat(), other.params(CTX).flat(), atol=1e-6)
    accuracies = [m.evaluate(CTX, one_batch(x, np.eye(4)[y]))["accuracy"] for m in (one, other)]
    assert accuracies[0] == accuracies[1]


def test_large_logits_do_not_overflow():
    logits = np.array([[1e4, 0.0, -1e4, 0.0]], np.float32)

    assert make().compute_loss(CTX, logits, np.array([0])) == 0.0
    assert make().compute_loss(CTX, logits, np.array([2])) == 2e4


def test_losses_of_batches_count_by_their_size():
    model = make(lr=1e-12, momentum=0.0)
    x, y = examples()
    batches = Batches(24, lambda: iter([(x[:20], y[:20]), (x[20:], y[20:])]))

    expected = model.compute_loss(CTX, model.forward(CTX, x), y)

    assert model.evaluate(CTX, batches)["loss"] == pytest.approx(expected)
    assert model.fit(CTX, batches)["loss"] == pytest.approx(expected)


def test_accuracy_is_the_share_of_right_answers():
    model = make()
    x, _ = examples()
    answers = model.forward(CTX, x).argmax(axis=1)
    answers[:6] = (answers[:6] + 1) % 4

    assert model.evaluate(CTX, one_batch(x, answers))["accuracy"] == 0.75


def test_it_learns():
    model, (x, y) = make(), examples()

    for _ in range(60):
        model.fit(CTX, one_batch(x, y))

    assert model.evaluate(CTX, one_batch(x, y))["accuracy"] == 1.0


def test_images_are_rows():
    model = make(layers=(6, 4))
    x = np.random.default_rng(0).standard_normal((5, 2, 3))

    flat = model.forward(CTX, x.reshape(5, 6).astype(np.float32))
    logits = model.forward(CTX, x)

    assert logits.dtype == np.float32
    assert (logits == flat).all()
    assert model.backward(CTX, np.ones((5, 4))).shape == (5, 2, 3)


# The first parameters.


def test_first_parameters_come_from_the_node_unless_the_seed_is_given():
    def weights(node, seed=None):
        config = MlpConfig(layers=(3, 4), seed=seed)
        return Mlp(config, environment("model", seed=node)).params(CTX).digest()

    assert weights(1) == weights(1) != weights(2)
    assert weights(1, seed=9) == weights(2, seed=9) != weights(1, seed=8)


def test_first_weights_have_the_variance_of_he_and_glorot():
    drawn = values(make(layers=(400, 300, 200)))

    assert drawn["layers.0.weight"].std() == pytest.approx((2 / 400) ** 0.5, rel=0.02)
    assert drawn["layers.1.weight"].std() == pytest.approx((2 / 500) ** 0.5, rel=0.02)
    assert not drawn["layers.0.bias"].any()


def test_tensors_have_names_and_shapes_that_others_use():
    shapes = {name: array.shape for name, array in values(make()).items()}

    assert shapes == {
        "layers.0.weight": (8, 3),
        "layers.0.bias": (8,),
        "layers.1.weight": (4, 8),
        "layers.1.bias": (4,),
    }


# Memory.


def test_training_writes_in_place_unless_lent():
    model, batch = make(), one_batch(*examples())
    model.fit(CTX, batch)
    own = model._flat

    model.fit(CTX, batch)
    assert model._flat is own

    lent = model.params(CTX)
    model.fit(CTX, batch)
    assert model._flat is not own

    own = model._flat
    model.params(CTX)
    model.fit(CTX, batch)
    assert model._flat is own
    assert not np.shares_memory(own, lent.flat())


def test_loaded_parameters_are_not_copied():
    model, params = make(), make(2).params(CTX)

    model.load_params(CTX, params)

    assert np.shares_memory(model._flat, params.flat())
    assert model.params(CTX) is params


def test_same_tensors_written_in_another_order_are_loaded():
    params = make(2).params(CTX)
    other = ParameterSet.from_tensors(dict(reversed(list(params.items()))), metadata={"by": "me"})
    model = make()

    model.load_params(CTX, other)

    assert model.params(CTX) == params


@pytest.mark.parametrize(("reset", "same"), [(True, True), (False, False)])
def test_momentum_is_forgotten_with_load_params_if_so_configured(reset, same):
    fresh, trained = make(reset_momentum=reset), make(reset_momentum=reset)
    batch = one_batch(*examples())
    start = fresh.params(CTX)
    trained.fit(CTX, batch)

    trained.load_params(CTX, start)
    for model in (fresh, trained):
        model.fit(CTX, batch)

    assert (fresh.params(CTX) == trained.params(CTX)) is same


# What is refused.


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"layers": (3,)}, r"layers are \(3,\)"),
        ({"layers": (3, 0, 4)}, r"layers are \(3, 0, 4\)"),
        ({"activation": "gelu"}, "activation is 'gelu'"),
        ({"loss": "hinge"}, "loss is 'hinge'"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_configuration_is_refused(wrong, found):
    with pytest.raises(MlpError, match=found) as caught:
        MlpConfig(**wrong)

    assert caught.value.expected
    with pytest.raises(ConfigError):
        build_config(MlpConfig, wrong, "model")


def test_inputs_of_another_width_are_refused():
    with pytest.raises(MlpError, match=r"inputs have shape \[5, 2, 4\]") as caught:
        make().forward(CTX, np.zeros((5, 2, 4)))

    assert caught.value.fix == "set layers to (8, ..., 4)"


@pytest.mark.parametrize("shape", [(), (3,), (0, 3)])
def test_inputs_that_are_no_batch_are_refused(shape):
    with pytest.raises(MlpError, match="the inputs have shape"):
        make().forward(CTX, np.zeros(shape))


@pytest.mark.parametrize(
    ("targets", "found"),
    [
        (np.arange(24) % 5, "the targets go from 0 to 4"),
        (np.arange(24) % 4 - 1, "the targets go from -1 to 2"),
        (np.zeros(24), "the targets are float64"),
        (np.zeros(23, int), r"shape \[23\]"),
        (np.zeros((24, 3)), r"shape \[24, 3\]"),
        (np.zeros((24, 4, 1), int), r"shape \[24, 4, 1\]"),
    ],
)
def test_targets_that_do_not_fit_are_refused_and_change_nothing(targets, found):
    model, (x, _) = make(), examples()
    before = model.params(CTX)

    with pytest.raises(MlpError, match=found):
        model.fit(CTX, one_batch(x, targets))
    with pytest.raises(MlpError, match=found):
        model.evaluate(CTX, one_batch(x, targets))

    assert model.params(CTX) == before


def test_predictions_of_another_model_are_refused():
    with pytest.raises(MlpError, match=r"predictions have shape \[2, 3\]"):
        make().compute_loss(CTX, np.zeros((2, 3)), np.zeros(2, int))


def test_backward_needs_a_forward():
    with pytest.raises(MlpError, match="no forward"):
        make().backward(CTX, np.zeros((5, 4)))


@pytest.mark.parametrize("between", ["backward", "load_params", "apply_delta", "fit"])
def test_backward_needs_a_forward_with_these_parameters(between):
    model, (x, y) = make(), examples()
    params = model.params(CTX)
    model.forward(CTX, x)
    arguments = {"backward": np.ones((24, 4)), "fit": one_batch(x, y)}

    getattr(model, between)(CTX, arguments.get(between, params))

    with pytest.raises(MlpError, match="no forward"):
        model.backward(CTX, np.ones((24, 4)))


def test_gradient_of_another_shape_is_refused():
    model = make()
    model.forward(CTX, examples()[0])

    with pytest.raises(MlpError, match=r"gradient has shape \[24, 3\]"):
        model.backward(CTX, np.zeros((24, 3)))


@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_no_batches_are_refused(method):
    with pytest.raises(MlpError, match="there are no batches"):
        getattr(make(), method)(CTX, Batches(0, lambda: iter([])))


def test_divergence_is_reported_with_the_learning_rate():
    model, (x, y) = make(lr=1e6, layers=(3, 8, 8, 4)), examples()

    with pytest.raises(MlpError, match="training diverged") as caught:
        model.fit(CTX, Batches(24, lambda: iter([(1e6 * x, y)] * 20)))

    assert "lower lr, which is 1000000.0" in caught.value.fix


@pytest.mark.parametrize("other", [{"layers": (3, 7, 4)}, {"dtype": "float64"}, None])
def test_state_of_another_network_is_refused(other):
    state = State() if other is None else make(**other).save()
    model = make()
    before = model.params(CTX)

    with pytest.raises(MlpError, match="the parameters are"):
        model.load(state)

    assert model.params(CTX) == before
