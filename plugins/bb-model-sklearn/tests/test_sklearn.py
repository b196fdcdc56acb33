import importlib
import math
import subprocess
import sys
import warnings
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb_ir.ops import ROLE_OPS
from bb_ir.params import ParameterSet
from bb_ir.types import ANY, accepts, local, parse_type, tensor
from bb_model_sklearn import _linear, bb_component
from bb_model_sklearn._linear import Linear, LinearConfig
from bb_model_sklearn._losses import CLASSIFICATION, REGRESSION, margins
from bb_model_sklearn.errors import SklearnError
from bb_roles import Batches, State
from bb_roles.config import build_config
from bb_roles.errors import ConfigError, InputMisfit
from bb_roles.registry import component_class
from bb_testing.context import FakeContext, environment
from bb_testing.model import ModelSuite

CTX = FakeContext()
ESTIMATORS = ("sgd_classifier", "sgd_regressor", "perceptron", "passive_aggressive")


def make(**config):
    config = {"features": 3, "classes": 4, **config}
    return Linear(LinearConfig(**config), environment("model"))


def drawn(model, seed=3):
    """Return parameters of a model that are not zeros."""
    rng = np.random.default_rng(seed)
    return ParameterSet.from_tensors(
        {n: rng.standard_normal(a.shape).astype(a.dtype) for n, a in model.params(CTX).items()}
    )


def examples(classes=4, n=24):
    rng = np.random.default_rng(5)
    y = np.arange(n) % classes
    x = np.eye(4)[y, :3] + 0.1 * rng.standard_normal((n, 3))
    return x.astype("float32"), y


def one_batch(x, y):
    return Batches(len(x), lambda: iter([(x, y)]))


def image(model):
    return model.params(CTX).to_bytes()


class SklearnSuite(ModelSuite):
    config: ClassVar = {}

    def make(self):
        model = make(**self.config)
        model.load_params(CTX, drawn(model))  # of zeros, sums and gradients would say little
        return model

    def batch(self):
        x, y = examples(self.config.get("classes", 4))
        return x.astype(self.config.get("dtype", "float32")), y


class TestHinge(SklearnSuite):
    pass


class TestLogLoss(SklearnSuite):
    config: ClassVar = {"loss": "log_loss", "learning_rate": "invscaling", "dtype": "float64"}
    tolerance = 1e-5


class TestTwoClasses(SklearnSuite):
    config: ClassVar = {"classes": 2, "learning_rate": "optimal", "alpha": 0.1, "seed": 4}


class TestRegressor(SklearnSuite):
    config: ClassVar = {"estimator": "sgd_regressor", "penalty": "elasticnet"}

    def batch(self):
        x, _ = examples()
        return x, (x @ [1.0, -2.0, 0.5] + 3.0).astype("float32")


class TestPerceptron(SklearnSuite):
    config: ClassVar = {"estimator": "perceptron", "eta0": 1.0}


class TestPassiveAggressive(SklearnSuite):
    config: ClassVar = {"estimator": "passive_aggressive", "reset_steps": True}


def test_declaration_names_the_class():
    assert component_class(bb_component()) is Linear


def test_declaration_does_not_import_numpy():
    code = (
        "import sys, bb_model_sklearn as p; p.bb_component();"
        "print('numpy' in sys.modules, 'sklearn' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False False"


def test_scikit_learn_is_imported_when_a_model_is_built():
    code = (
        "import sys; from bb_model_sklearn._linear import Linear, LinearConfig as C;"
        "Linear.value_types(C()); print('sklearn' in sys.modules);"
        "from bb_testing import environment; Linear(C(), environment('m'));"
        "print('sklearn' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "True"]


# Training is that of scikit-learn.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(
    ("config", "name", "told"),
    [
        ({"loss": "log_loss"}, "SGDClassifier", {"loss": "log_loss", "learning_rate": "constant"}),
        ({"penalty": "l1", "alpha": 0.01}, "SGDClassifier",
         {"penalty": "l1", "alpha": 0.01, "learning_rate": "constant"}),
        ({"learning_rate": "optimal"}, "SGDClassifier", {}),
        ({"estimator": "perceptron"}, "Perceptron", {}),
        ({"estimator": "sgd_regressor", "learning_rate": "invscaling"}, "SGDRegressor",
         {"power_t": 0.5}),
    ],
)  # fmt: skip
def test_training_is_that_of_scikit_learn(config, name, told, classes, dtype):
    x, y = examples(classes)
    model = make(classes=classes, shuffle=False, dtype=dtype, **config)
    cls = getattr(importlib.import_module("sklearn.linear_model"), name)
    reference = cls(shuffle=False, eta0=0.01, **told)

    for part in (slice(0, 12), slice(12, 24)):
        model.fit(CTX, one_batch(x[part], y[part]))
        extra = {} if name == "SGDRegressor" else {"classes": np.arange(classes)}
        reference.partial_fit(x[part].astype(dtype), y[part], **extra)

    held = model.params(CTX)
    rtol = 1e-6 if dtype == "float64" else 1e-4
    assert np.allclose(held["coef_"], reference.coef_.reshape(-1, 3), rtol=rtol, atol=1e-6)
    assert np.allclose(held["intercept_"], reference.intercept_, rtol=rtol, atol=1e-6)


def test_passive_aggressive_takes_the_step_of_crammer_et_al():
    """A step of min(C, loss / |x|^2), the intercept apart, in "Online Passive-Aggressive
    Algorithms" (2006), PA-I.
    """
    model = make(estimator="passive_aggressive", classes=2, C=0.25, dtype="float64")

    model.fit(CTX, one_batch(np.array([[2.0, 1.0, 0.0]]), np.array([1])))
    assert np.allclose(model.params(CTX)["coef_"], 0.2 * np.array([[2.0, 1.0, 0.0]]))

    model = make(estimator="passive_aggressive", classes=2, C=0.01, dtype="float64")
    model.fit(CTX, one_batch(np.array([[2.0, 1.0, 0.0]]), np.array([1])))
    assert np.allclose(model.params(CTX)["coef_"], 0.01 * np.array([[2.0, 1.0, 0.0]]))


def test_older_scikit_learn_has_a_class_of_its_own_for_passive_aggressive(monkeypatch):
    monkeypatch.setattr(_linear, "_version", lambda: (1, 7))
    if not hasattr(importlib.import_module("sklearn.linear_model"), "PassiveAggressiveClassifier"):
        pytest.skip("this scikit-learn no longer has the class")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        estimator = _linear._estimator(LinearConfig(estimator="passive_aggressive", C=0.5))

    assert type(estimator).__name__ == "PassiveAggressiveClassifier"
    assert estimator.C == 0.5


@pytest.mark.parametrize("loss", [*CLASSIFICATION, *REGRESSION])
@pytest.mark.parametrize("seed", range(6))
def test_a_step_of_scikit_learn_goes_down_the_loss_that_is_told(loss, seed):
    regression = loss in REGRESSION
    model = make(
        estimator="sgd_regressor" if regression else "sgd_classifier",
        loss=loss, penalty=None, eta0=1e-3, dtype="float64", classes=2 + 2 * (seed % 2),
    )  # fmt: skip
    params = drawn(model, seed)
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((1, 3)), np.array([seed % 2])
    slopes = np.zeros(params["coef_"].shape)
    for at in np.ndindex(slopes.shape):
        measured = []
        for change in (1e-6, -1e-6):
            draft = params.writable(copy=True)
            draft["coef_"][at] += change
            model.load_params(CTX, draft.freeze())
            measured.append(model.evaluate(CTX, one_batch(x, y))["loss"])
        slopes[at] = (measured[0] - measured[1]) / 2e-6
    model.load_params(CTX, params)

    model.fit(CTX, one_batch(x, y))

    found = (params["coef_"] - model.params(CTX)["coef_"]) / 1e-3
    assert np.allclose(found, slopes, atol=1e-5)


@given(st.floats(-50, 50), st.integers(0, 1))
def test_margins_and_losses_of_two_classes_are_symmetric(score, which):
    one, other = (
        margins(np.array([[s]]), np.array([c])) for s, c in ((score, which), (-score, 1 - which))
    )

    assert one == other
    for loss in CLASSIFICATION.values():
        assert loss(one) == loss(other) >= 0.0


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_it_learns(estimator):
    x, y = examples()
    model = make(estimator=estimator, eta0=0.1)

    for seed in range(60):
        model.fit(FakeContext(seed=seed), one_batch(x, y))
    metrics = model.evaluate(CTX, one_batch(x, y))

    assert metrics.get("accuracy", 1.0) > 0.9
    assert math.isfinite(metrics["loss"])


def test_a_batch_may_hold_one_class_alone():
    x, y = examples()
    model = make()

    model.fit(CTX, one_batch(x[y == 2], y[y == 2]))

    assert (model.forward(CTX, x[y == 2]).argmax(axis=1) == 2).all()


def test_equal_examples_are_counted_one_by_one():
    model = make()
    x, y = np.ones((5, 3)), np.full(5, 1)

    assert model.fit(CTX, one_batch(x, y))["examples"] == 5
    assert model.evaluate(CTX, one_batch(x, y))["accuracy"] == 1.0


def test_losses_of_batches_count_by_their_size():
    model, (x, y) = make(eta0=1e-12, loss="log_loss"), examples()
    batches = Batches(24, lambda: iter([(x[:20], y[:20]), (x[20:], y[20:])]))

    expected = model.compute_loss(CTX, model.forward(CTX, x), y)

    assert expected == pytest.approx(4 * math.log(2))  # four problems, of which nothing is known
    assert model.evaluate(CTX, batches)["loss"] == pytest.approx(expected)
    assert model.fit(CTX, batches)["loss"] == pytest.approx(expected)


def test_images_are_rows_and_targets_of_regression_may_be_columns():
    model, (x, y) = make(features=6, estimator="sgd_regressor"), (np.ones((4, 2, 3)), np.ones(4))
    other = make(features=6, estimator="sgd_regressor")

    model.fit(CTX, one_batch(x, y))
    other.fit(CTX, one_batch(x.reshape(4, 6), y[:, None]))

    assert image(model) == image(other)
    assert model.forward(CTX, x).shape == (4, 1)
    assert model.backward(CTX, np.ones((4, 1))).shape == (4, 2, 3)


# The order of examples.


def test_order_comes_from_the_context_unless_the_seed_is_given():
    def trained(draw, seed=None):
        model, (x, y) = make(seed=seed, learning_rate="optimal"), examples()
        for _ in range(2):
            model.fit(FakeContext(seed=draw), one_batch(x, y))
        return image(model)

    assert trained(1) == trained(1) != trained(2)
    assert trained(1, seed=7) == trained(2, seed=7) != trained(1, seed=8)


def test_global_generator_is_left_alone():
    np.random.seed(0)  # noqa: NPY002  # the one that must not be drawn from
    before = np.random.get_state()[1].tolist()  # noqa: NPY002

    make().fit(FakeContext(), one_batch(*examples()))

    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


@pytest.mark.parametrize("reset", [True, False])
def test_schedule_starts_over_with_load_params_if_so_configured(reset):
    fresh, trained = (make(learning_rate="invscaling", reset_steps=reset) for _ in range(2))
    batch, start = one_batch(*examples()), make().params(CTX)
    trained.fit(CTX, batch)

    for model in (fresh, trained):
        model.load_params(CTX, start)
        model.fit(FakeContext(), batch)

    assert (image(fresh) == image(trained)) is reset


def test_without_intercept_it_stays_zero():
    model, (x, y) = make(fit_intercept=False), examples()

    model.fit(CTX, one_batch(x, y))
    model.forward(CTX, x)
    model.backward(CTX, np.ones((24, 4)))

    assert not model.params(CTX)["intercept_"].any()
    assert model.params(CTX)["coef_"].any()


def test_params_are_copied_once_while_they_stay():
    model = make()

    first = model.params(CTX)
    model.evaluate(CTX, one_batch(*examples()))

    assert model.params(CTX) is first


def test_estimator_is_not_in_the_saved_state():
    model = make()
    model.fit(CTX, one_batch(*examples()))

    state = model.save()

    assert set(state.tensors) == {"coef_", "intercept_"}
    assert state.data == {"steps": 25.0}


# What follows for types.


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_types_that_follow_from_a_configuration_are_those_of_the_values(estimator, dtype):
    model, (x, y) = make(estimator=estimator, dtype=dtype), examples()
    types = {port: parse_type(text) for port, text in Linear.value_types(model.config).items()}
    scores = model.forward(CTX, x)
    metrics = model.evaluate(CTX, one_batch(x, y))

    assert types["Params.params"] == model.params(CTX).layout.type
    assert accepts(types["Forward.y"], tensor(scores.dtype.name, scores.shape))
    assert [name for name, _ in types["Evaluate.metrics"].items] == list(metrics)


def test_every_type_that_follows_is_of_a_port_that_exists():
    ports = {
        f"{schema.name}.{port.name}"
        for schema in ROLE_OPS["model"].values()
        for port in (*schema.inputs, *schema.outputs)
    }

    assert Linear.value_types(LinearConfig()).keys() <= ports


def batches_type(inputs, dtype="int64"):
    xs, ys = tensor("float32", ("batch", *inputs)), tensor(dtype, ("batch",))
    return local("batches", {"inputs": xs, "targets": ys})


@pytest.mark.parametrize("op", ["Fit", "Evaluate"])
@pytest.mark.parametrize(
    ("inputs", "dtype", "found"),
    [
        ((32,), "int64", "an input has 32 numbers, and features is 64"),
        ((8, 4), "int64", "an input has 32 numbers"),
        ((64,), "float32", "the targets are float32, and sgd_classifier classifies"),
    ],
)
def test_batches_that_do_not_fit_are_refused_by_their_types(op, inputs, dtype, found):
    with pytest.raises(InputMisfit) as caught:
        Linear.infer_types(LinearConfig(), op, (batches_type(inputs, dtype),))

    assert found in caught.value.found
    assert caught.value.fix


def test_types_of_which_nothing_is_known_are_taken():
    assert Linear.infer_types(LinearConfig(), "Fit", (ANY,)) is None
    assert Linear.infer_types(LinearConfig(), "Forward", (tensor(),)) is None
    assert Linear.infer_types(LinearConfig(), "Fit", (batches_type((8, 8)),)) == {}


def test_inputs_with_open_lengths_are_taken():
    found = Linear.infer_types(LinearConfig(), "Forward", (tensor("float32", ("n", "width")),))

    assert found == {"y": tensor("float32", ("n", 10))}


# What is refused.


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"estimator": "svm"}, "estimator is 'svm'"),
        ({"loss": "squared_error"}, "loss is 'squared_error'"),
        ({"loss": "hinge", "estimator": "sgd_regressor"}, "loss is 'hinge'"),
        ({"loss": "hinge", "estimator": "perceptron"}, "loss is 'hinge'"),
        ({"penalty": "l3"}, "penalty is 'l3'"),
        ({"learning_rate": "adaptive"}, "learning_rate is 'adaptive'"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
        ({"features": 0}, "features is 0"),
        ({"classes": 1}, "classes is 1"),
        ({"eta0": 0.0}, "eta0 is 0.0"),
        ({"eta0": math.nan}, "eta0 is nan"),
        ({"C": math.inf}, "C is inf"),
        ({"alpha": -1.0}, "alpha is -1.0"),
        ({"alpha": 0.0, "learning_rate": "optimal"}, "alpha is 0.0"),
        ({"epsilon": math.nan}, "epsilon is nan"),
        ({"l1_ratio": 1.5}, "l1_ratio is 1.5"),
        ({"power_t": math.inf}, "power_t is inf"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_configuration_is_refused(wrong, found):
    with pytest.raises(SklearnError, match=found) as caught:
        LinearConfig(**wrong)

    assert caught.value.expected
    with pytest.raises(ConfigError):
        build_config(LinearConfig, wrong, "model")


@pytest.mark.parametrize("shape", [(), (3,), (0, 3), (0, 2, 3), (5, 4), (5, 2, 4)])
def test_inputs_of_another_shape_are_refused(shape):
    with pytest.raises(SklearnError, match="the inputs have shape"):
        make().forward(CTX, np.zeros(shape))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300])
@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_inputs_that_are_not_finite_are_refused_and_change_nothing(bad, method):
    model, (x, y) = make(), examples()
    before, x = image(model), x.astype("float64")
    x[7, 1] = bad

    with pytest.raises(SklearnError, match="not finite at row 7"):
        getattr(model, method)(CTX, Batches(48, lambda: iter([examples(), (x, y)])))

    assert image(model) == before
    assert model.save().data == {"steps": 1.0}


def test_inputs_that_are_no_numbers_are_refused():
    with pytest.raises(SklearnError, match="the inputs are"):
        make().forward(CTX, np.full((2, 3), "a"))


@pytest.mark.parametrize(
    ("targets", "found"),
    [
        (np.arange(24) % 5, "the targets go from 0 to 4"),
        (np.arange(24) % 4 - 1, "the targets go from -1 to 2"),
        (np.zeros(24), "the targets are float64"),
        (np.zeros(23, int), r"shape \[23\]"),
        (np.zeros((24, 4), int), r"shape \[24, 4\]"),
    ],
)
def test_targets_that_are_no_classes_are_refused_and_change_nothing(targets, found):
    model, (x, _) = make(), examples()
    before = image(model)

    for method in (model.fit, model.evaluate):
        with pytest.raises(SklearnError, match=found):
            method(CTX, one_batch(x, targets))

    assert image(model) == before


@pytest.mark.parametrize(
    ("targets", "found"),
    [
        (np.full(24, math.nan), "the targets are not finite at row 0"),
        (np.full(24, 1e300), "the targets are not finite at row 0"),
        (np.zeros((24, 2)), r"shape \[24, 2\]"),
        (np.full(24, "a"), "the targets are"),
    ],
)
def test_targets_that_are_no_numbers_are_refused(targets, found):
    with pytest.raises(SklearnError, match=found):
        make(estimator="sgd_regressor").fit(CTX, one_batch(examples()[0], targets))


def test_predictions_of_another_model_are_refused():
    with pytest.raises(SklearnError, match=r"predictions have shape \[2, 3\]"):
        make().compute_loss(CTX, np.zeros((2, 3)), np.zeros(2, int))


@pytest.mark.parametrize("between", ["nothing", "backward", "load_params", "apply_delta", "fit"])
def test_backward_needs_a_forward_with_these_parameters(between):
    model, (x, y) = make(), examples()
    params = model.params(CTX)
    if between != "nothing":
        model.forward(CTX, x)
        arguments = {"backward": np.ones((24, 4)), "fit": one_batch(x, y)}
        getattr(model, between)(CTX, arguments.get(between, params))

    with pytest.raises(SklearnError, match="no forward"):
        model.backward(CTX, np.ones((24, 4)))


def test_gradient_of_another_shape_is_refused():
    model = make()
    model.forward(CTX, examples()[0])

    with pytest.raises(SklearnError, match=r"gradient has shape \[24, 3\]"):
        model.backward(CTX, np.zeros((24, 3)))


def test_gradient_that_leads_to_infinity_is_refused_and_changes_nothing():
    model = make()
    before = image(model)
    model.forward(CTX, examples()[0])

    with pytest.raises(SklearnError, match="after this step hold NaN or infinity"):
        model.backward(CTX, np.full((24, 4), math.nan))

    assert image(model) == before


@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_no_batches_are_refused(method):
    with pytest.raises(SklearnError, match="there are no batches"):
        getattr(make(), method)(CTX, Batches(0, lambda: iter([])))


def test_divergence_is_reported_with_the_learning_rate_and_changes_nothing():
    model = make(estimator="sgd_regressor", eta0=1e25)
    x, y = examples()
    before = image(model)

    with pytest.raises(SklearnError, match="training diverged") as caught:
        model.fit(CTX, Batches(24, lambda: iter([(1e6 * x, 1e6 * y)] * 20)))

    assert "lower eta0, which is 1e+25" in caught.value.fix
    assert image(model) == before


@pytest.mark.parametrize("name", ["coef_", "intercept_"])
@pytest.mark.parametrize("method", ["load_params", "apply_delta"])
def test_parameters_with_nan_are_refused_and_change_nothing(name, method):
    model = make()
    before = image(model)
    tensors = {n: a.copy() for n, a in model.params(CTX).items()}
    tensors[name].flat[0] = math.nan

    with pytest.raises(SklearnError, match=f"hold NaN or infinity in {name}"):
        getattr(model, method)(CTX, ParameterSet.from_tensors(tensors))

    assert image(model) == before


@pytest.mark.parametrize("other", [{"features": 4}, {"classes": 2}, {"dtype": "float64"}, None])
def test_state_of_another_model_is_refused(other):
    state = State() if other is None else make(**other).save()
    model = make()
    model.fit(CTX, one_batch(*examples()))
    before = image(model)

    with pytest.raises(SklearnError, match="the saved parameters are"):
        model.load(state)

    assert image(model) == before
