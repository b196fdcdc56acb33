"""What the component does: training, parameters, state, and what it leaves alone."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_parts
from torch import nn

from bb_ir.params import ParameterSet
from bb_model_torch import bb_component
from bb_model_torch.model import TorchConfig, TorchModel
from bb_roles import Batches
from bb_roles.config import build_config
from bb_roles.registry import component_class
from bb_testing import FakeContext, environment

CTX = FakeContext()
OPTIMIZERS = sorted(
    name
    for name, one in vars(torch.optim).items()
    if isinstance(one, type) and one is not torch.optim.Optimizer
    # A closure; sparse gradients; matrices only.
    and name not in ("LBFGS", "SparseAdam", "Muon")
)  # fmt: skip


def make(cls=TorchModel, node=1, **config):
    defaults = {"device": "cpu"}
    if cls is TorchModel and "module" not in config:
        defaults["arguments"] = {"layers": [3, 8, 4]}
    return cls(TorchConfig(**{**defaults, **config}), environment("model", seed=node))


def examples(n=24):
    rng = np.random.default_rng(5)
    y = np.arange(n) % 4
    x = np.eye(4)[y, :3] + 0.1 * rng.standard_normal((n, 3))
    return x.astype("float32"), y


def one_batch(x, y):
    return Batches(len(x), lambda: iter([(x, y)]))


def fit(model, times=1, **context):
    for _ in range(times):
        model.fit(FakeContext(**context), one_batch(*examples()))
    return model


def image(model):
    return model.params(CTX).to_bytes()


def test_declaration_names_the_class():
    assert component_class(bb_component()) is TorchModel


def test_declaration_imports_neither_torch_nor_numpy():
    code = (
        "import sys, bb_model_torch as p; p.bb_component(); import bb_model_torch.errors;"
        "import bb_model_torch._config; print({'torch', 'numpy'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


# Training is that of PyTorch.


@pytest.mark.parametrize("longest", [None, 0.05])
@pytest.mark.parametrize(
    ("config", "optimizer"),
    [
        ({}, lambda p: torch.optim.SGD(p, lr=0.1)),
        ({"lr": 0.03, "optimizer_arguments": {"momentum": 0.9, "nesterov": True}},
         lambda p: torch.optim.SGD(p, lr=0.03, momentum=0.9, nesterov=True)),
        ({"optimizer": "AdamW"}, torch.optim.AdamW),
        ({"optimizer": "torch.optim:Adagrad", "lr": 0.2},
         lambda p: torch.optim.Adagrad(p, lr=0.2)),
    ],
)  # fmt: skip
def test_training_is_that_of_pytorch(config, optimizer, longest):
    model, (x, y) = make(max_grad_norm=longest, **config), examples()
    reference = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4))
    arrays = [torch.from_numpy(array.copy()) for _, array in model.params(CTX).items()]
    with torch.no_grad():
        for parameter, array in zip(reference.parameters(), arrays, strict=True):
            parameter.copy_(array)
    steps = optimizer(reference.parameters())

    losses = []
    for _ in range(5):
        told = model.fit(CTX, one_batch(x, y))
        steps.zero_grad()
        loss = nn.functional.cross_entropy(reference(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        if longest:
            nn.utils.clip_grad_norm_(reference.parameters(), longest)
        steps.step()
        losses.append((told["loss"], loss.item()))

    found = [array for _, array in model.params(CTX).items()]
    for ours, theirs in zip(found, reference.parameters(), strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(*zip(*losses, strict=True), rtol=1e-5)


def test_learning_rate_is_that_of_the_optimizer_unless_it_is_gradient_descent():
    rates = [
        make(**config)._optimizer().param_groups[0]["lr"]
        for config in ({}, {"optimizer": "Adam"}, {"lr": 0.5}, {"optimizer": "Adam", "lr": 0.5})
    ]

    assert rates == [0.1, 0.001, 0.5, 0.5]


def test_loss_is_the_mean_over_examples_not_over_batches():
    model, (x, y) = make(), examples()
    uneven = Batches(24, lambda: iter([(x[:20], y[:20]), (x[20:], y[20:])]))

    whole, parts = model.evaluate(CTX, one_batch(x, y)), model.evaluate(CTX, uneven)

    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert parts["accuracy"] == whole["accuracy"]


def test_dropout_is_drawn_from_the_context_and_only_in_training():
    config = {"arguments": {"layers": [3, 64, 4], "dropout": 0.5}}
    one, same, other = (fit(make(**config), round=number) for number in (1, 1, 2))

    assert image(one) == image(same) != image(other)
    x, _ = examples()
    assert np.array_equal(one.forward(FakeContext(round=3), x), one.forward(FakeContext(), x))


def test_first_parameters_come_from_the_seed_and_the_node():
    drawn = [image(make(node=node, seed=seed)) for node, seed in ((1, None), (2, None), (1, 7),
                                                                  (2, 7), (1, 8))]  # fmt: skip

    assert len(set(drawn)) == 4
    assert drawn[2] == drawn[3]


def test_inputs_of_any_real_dtype_are_numbers():
    model, (x, _) = make(), examples()
    pixels = (x * 10).astype("uint8")

    found = [model.forward(CTX, pixels.astype(kind)) for kind in ("uint8", "float64", "float32")]

    assert found[0].dtype == np.float32
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()


def test_numbers_of_16_bits_come_in_and_go_out():
    import ml_dtypes

    model, (x, y) = make(dtype="bfloat16"), examples()

    found = model.forward(CTX, x.astype(ml_dtypes.bfloat16))

    assert found.dtype == np.float32
    assert np.array_equal(found, model.forward(CTX, x))
    assert {array.dtype.name for _, array in model.params(CTX).items()} == {"bfloat16"}
    assert model.fit(CTX, one_batch(x, y))["loss"] < 2.0


def test_module_that_writes_to_its_inputs_does_not_write_to_the_data():
    model, (x, y) = make(module="torch_parts:Overwriting"), examples()
    before = x.tobytes()
    x.flags.writeable = False

    model.evaluate(CTX, one_batch(x, y))

    assert x.tobytes() == before


# Losses and targets.


def test_probabilities_are_targets_too():
    model, (x, y) = make(), examples()
    sure = np.eye(4)[y]

    assert model.evaluate(CTX, one_batch(x, sure)) == pytest.approx(
        model.evaluate(CTX, one_batch(x, y))
    )


def test_ignored_targets_count_neither_in_loss_nor_in_accuracy():
    model, (x, y) = make(), examples()
    some = np.where(np.arange(24) < 12, y, -100)

    assert model.evaluate(CTX, one_batch(x, some)) == pytest.approx(
        {**model.evaluate(CTX, one_batch(x[:12], y[:12])), "examples": 24}
    )


def test_weights_of_classes_are_a_list_in_the_configuration():
    (x, y), weights = examples(), [1.0, 2.0, 3.0, 4.0]
    model = make(loss_arguments={"weight": weights})
    logits = torch.from_numpy(model.forward(CTX, x))
    expected = nn.functional.cross_entropy(logits, torch.from_numpy(y), torch.tensor(weights))

    assert model.compute_loss(CTX, logits.numpy(), y) == pytest.approx(float(expected))


@pytest.mark.parametrize("loss", ["mse", "l1", "huber", "bce_with_logits"])
@pytest.mark.parametrize("shape", [(24,), (24, 1)])
def test_targets_of_regression_may_leave_out_the_axis_of_one(loss, shape):
    model = make(module="linear", arguments={"inputs": 3, "outputs": 1}, loss=loss)
    x, y = examples()
    target = (y % 2).reshape(shape)

    found = model.evaluate(CTX, one_batch(x, target))

    named = {"bce_with_logits": "binary_cross_entropy_with_logits"}.get(loss, f"{loss}_loss")
    logits = torch.from_numpy(model.forward(CTX, x))
    expected = getattr(nn.functional, named)(
        logits, torch.from_numpy(target.reshape(24, 1)).float()
    )
    assert found == {"examples": 24, "loss": pytest.approx(float(expected))}


def test_loss_of_a_user_gets_whole_numbers_and_its_own_arguments():
    x, y = examples()
    once, twice = (
        make(loss="torch_parts:squares", loss_arguments={"scale": scale}) for scale in (1.0, 2.0)
    )

    assert twice.evaluate(CTX, one_batch(x, y))["loss"] == pytest.approx(
        2 * once.evaluate(CTX, one_batch(x, y))["loss"]
    )


def test_images_are_judged_pixel_by_pixel():
    class Pixels(TorchModel):
        module = nn.Conv2d

    model = make(Pixels, arguments={"in_channels": 1, "out_channels": 3, "kernel_size": 1})
    x = np.random.default_rng(0).standard_normal((5, 1, 4, 4)).astype("float32")
    y = model.forward(CTX, x).argmax(axis=1)
    y[:, :2] = (y[:, :2] + 1) % 3

    assert model.evaluate(CTX, one_batch(x, y))["accuracy"] == 0.5


# Parameters.


def test_parameters_are_lent_without_a_copy_and_go_through_as_they_came():
    model, other = make(), fit(make())

    first, again = model.params(CTX), model.params(CTX)
    assert all(np.shares_memory(first[name], again[name]) for name in first)
    loaded = other.params(CTX)
    model.load_params(CTX, loaded)
    assert model.params(CTX) is loaded
    x, y = examples()
    model.evaluate(CTX, one_batch(x, y))
    assert model.params(CTX) is loaded


def test_training_writes_in_place_once_a_loan_is_over():
    model = make()
    where = model.params(CTX)["1.weight"].ctypes.data

    fit(model)
    assert model.params(CTX)["1.weight"].ctypes.data == where
    kept = model.params(CTX)
    fit(model)
    assert model.params(CTX)["1.weight"].ctypes.data != where
    assert kept["1.weight"].ctypes.data == where


def test_parameters_in_another_order_are_taken():
    model, other = make(), fit(make())
    turned = ParameterSet.from_tensors(dict(reversed(list(other.params(CTX).items()))))

    model.load_params(CTX, turned)

    assert image(model) == image(other)


@pytest.mark.parametrize(
    ("exchange", "names"),
    [
        ("all", {"layer.weight", "layer.bias", "mean"}),
        ("parameters", {"layer.weight", "layer.bias"}),
        ("trainable", {"layer.weight", "layer.bias"}),
    ],
)
def test_what_is_exchanged_is_chosen_and_the_rest_stays(exchange, names):
    model = fit(make(module="torch_parts:Counting", exchange=exchange))
    fresh = make(module="torch_parts:Counting", exchange=exchange)

    assert set(model.params(CTX)) == names
    fresh.load_params(CTX, model.params(CTX))
    fit(fresh)
    assert fresh.save().tensors["others/count"] == 24
    assert set(fresh.save().tensors) >= {"others/count", "others/scratch"}


def test_frozen_parameters_do_not_travel_where_only_trainable_ones_do():
    frozen = make(module="torch_parts:Frozen", exchange="trainable")

    assert set(frozen.params(CTX)) == set()
    assert frozen.evaluate(CTX, one_batch(*examples()))["examples"] == 24


@pytest.mark.parametrize(("keep", "same"), [(False, False), (True, True)])
def test_optimizer_forgets_when_parameters_are_loaded_unless_it_is_to_keep(keep, same):
    config = {"optimizer_arguments": {"momentum": 0.9}, "keep_optimizer_state": keep}
    undisturbed, loaded = (fit(make(**config)) for _ in range(2))

    loaded.load_params(CTX, loaded.params(CTX))

    assert (image(fit(loaded)) == image(fit(undisturbed))) is same


# State.


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_goes_on_elsewhere_with_the_same_bits(optimizer):
    model, other = (make(optimizer=optimizer, threads=1) for _ in range(2))
    fit(model, times=2)

    other.load(model.save())

    assert image(fit(other, times=2)) == image(fit(model, times=2))


def test_backward_goes_on_elsewhere():
    model, other, (x, _) = make(), make(), examples()
    outputs = model.forward(CTX, x)

    other.load(model.save())

    assert np.array_equal(model.backward(CTX, outputs), other.backward(CTX, outputs))
    assert image(model) == image(other)


# What belongs to the whole process.


def test_global_state_of_pytorch_is_left_as_it_was(monkeypatch):
    def state():
        return (
            torch.random.get_rng_state().tolist(),
            torch.get_num_threads(),
            torch.get_deterministic_debug_mode(),
            torch.utils.deterministic.fill_uninitialized_memory,
            torch.is_grad_enabled(),
        )

    x, y = examples()
    torch.manual_seed(3)
    before = state()
    model = make(threads=1 + before[1])
    fit(model)
    model.evaluate(CTX, one_batch(x, y))
    model.backward(CTX, model.forward(CTX, x))
    with pytest.raises(ValueError, match="cannot take inputs"):
        model.fit(CTX, one_batch(x[:, :2], y))
    TorchModel.value_types(model.config)
    TorchModel.value_types(TorchConfig(module="torch_parts:NeedsData"))

    assert state() == before


def test_what_the_process_draws_makes_no_difference():
    torch.manual_seed(1)
    one = fit(make(arguments={"layers": [3, 8, 4], "dropout": 0.5}))
    torch.manual_seed(2)
    other = fit(make(arguments={"layers": [3, 8, 4], "dropout": 0.5}))

    assert image(one) == image(other)


def test_threads_and_determinism_hold_while_the_module_computes():
    told = []

    class Asking(torch_parts.Plain):
        def forward(self, x):
            told.append((torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()))
            return super().forward(x)

    class Model(TorchModel):
        module = Asking

    for threads, deterministic in ((1, True), (3, False)):
        fit(make(Model, threads=threads, deterministic=deterministic))

    assert told == [(1, True), (3, False)]


# A class of one's own.


class Digits(TorchModel):
    """What a program binds in place of a plugin's name."""

    module = torch_parts.annotated
    optimizer = torch.optim.AdamW
    loss = nn.CrossEntropyLoss


def test_class_says_what_a_configuration_may_still_change():
    plain = make(Digits, arguments={"width": 3})
    told = make(Digits, module="mlp", arguments={"layers": [3, 4]}, optimizer="SGD", loss="nll")

    assert type(plain._optimizer()) is torch.optim.AdamW
    assert type(told._optimizer()) is torch.optim.SGD
    assert set(plain.params(CTX)) == {"layer.weight", "layer.bias"}
    assert set(told.params(CTX)) == {"1.weight", "1.bias"}
    x, y = examples()
    assert set(plain.evaluate(CTX, one_batch(x, y))) == {"examples", "loss"}
    assert set(told.evaluate(CTX, one_batch(x, y))) == {"examples", "loss", "accuracy"}


@pytest.mark.parametrize("module", ["linear", "mlp", "cnn"])
def test_configuration_is_a_mapping_of_plain_values(module):
    config = build_config(TorchConfig, {"module": module, "seed": 1, "device": "cpu"}, "model")
    model = TorchModel(config, environment("model"))

    found = model.forward(CTX, np.zeros((2, 64), np.float32))

    assert found.shape == (2, 10)


# What its page says.


def readme():
    return (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_readme_lists_every_field_of_the_configuration():
    listed = re.findall(r"^\| (`.*?) \|", readme(), re.MULTILINE)
    named = [name for cell in listed for name in re.findall(r"`(\w+)`", cell)]

    assert named == list(TorchConfig.__dataclass_fields__)


def test_readme_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", readme(), re.DOTALL)

    for block in blocks:
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})  # noqa: S102

    printed = capsys.readouterr().out.split()
    promised = re.findall(r"# (\S+)$", "".join(blocks), re.MULTILINE)
    assert printed == promised != []
