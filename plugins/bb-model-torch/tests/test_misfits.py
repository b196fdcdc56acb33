"""What does not fit is said, with what would: names, shapes, targets, losses, devices, types."""

import numpy as np
import pytest
import torch

from bb_ir.ops import ROLE_OPS
from bb_ir.types import ANY, local, parse_type, tensor
from bb_model_torch.errors import DeviceAbsent, LossNotFinite, TorchError, UnknownName
from bb_model_torch.model import TorchConfig, TorchModel
from bb_roles import Batches, State
from bb_roles.config import build_config
from bb_roles.errors import ConfigError, InputMisfit
from bb_testing import FakeContext, environment

CTX = FakeContext()


def make(**config):
    config = {"module": "torch_parts:Plain", "device": "cpu", **config}
    return TorchModel(TorchConfig(**config), environment("model"))


def examples():
    y = np.arange(24) % 4
    return np.eye(4)[y, :3].astype("float32"), y


def batches(x, y):
    return Batches(len(x), lambda: iter([(x, y)]))


def image(model):
    return model.params(CTX).to_bytes()


# Configurations.


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"max_grad_norm": -1.0}, "max_grad_norm is -1.0"),
        ({"device": "gpu"}, "device is 'gpu'"),
        ({"device": "cuda:x"}, "device is 'cuda:x'"),
        ({"threads": 0}, "threads is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"dtype": "float16"}, "float16"),
        ({"exchange": "some"}, "some"),
        ({"integer_inputs": "words"}, "words"),
        ({"optimizer_arguments": {"lr": 0.1}}, "optimizer_arguments holds lr"),
        ({"loss_arguments": {"reduction": "sum"}}, "reduction='sum'"),
        ({"modul": "mlp"}, "modul"),
        ({"arguments": [1]}, "arguments"),
    ],
)
def test_configuration_that_cannot_be_right_is_refused(config, told):
    with pytest.raises(ConfigError, match=told.replace("(", r"\(")):
        build_config(TorchConfig, config, "model")


@pytest.mark.parametrize(
    "config",
    [{"dtype": "float16"}, {"exchange": "some"}, {"integer_inputs": "words"}],
)
def test_configuration_made_in_python_is_checked_too(config):
    with pytest.raises(TorchError):
        TorchConfig(**config)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"module": "nlp"}, "module is 'nlp'"),
        ({"module": "no_such_package:Net"}, "'no_such_package' cannot be imported"),
        ({"module": "torch_parts_broken:Net"}, "cannot be imported: 1 is not 2"),
        ({"module": ":Net"}, "'' cannot be imported"),
        ({"module": "torch_parts:Plane"}, "there is no 'Plane'"),
        ({"module": "torch_parts:not_annotated"}, "not annotated"),
        ({"module": "torch_parts:strange"}, "not annotated"),
        ({"module": "torch_parts:VALUE"}, "which is a int"),
        ({"module": "torch_parts:Broken"}, "inherits no torch.nn.Module"),
        ({"optimizer": "Adamw"}, "optimizer is 'Adamw'"),
        ({"optimizer": "Optimizer"}, "optimizer is 'Optimizer'"),
        ({"optimizer": "torch_parts:Plain"}, "optimizer is 'torch_parts:Plain'"),
        ({"loss": "cross-entropy"}, "loss is 'cross-entropy'"),
        ({"loss": "torch_parts:not_annotated"}, "not annotated"),
    ],
)
def test_name_that_leads_nowhere_is_said(config, told):
    with pytest.raises(UnknownName, match=told) as caught:
        make(**config)

    assert caught.value.expected


def test_name_that_is_almost_right_gets_a_suggestion():
    for config, fix in (
        ({"module": "mpl"}, "'mlp'"), ({"optimizer": "AdmW"}, "'AdamW'"),
        ({"loss": "cross_entrop"}, "'cross_entropy'"), ({"module": "torch_parts:Plane"}, "'Plain'"),
    ):  # fmt: skip
        with pytest.raises(UnknownName) as caught:
            make(**config)
        assert fix in caught.value.fix


@pytest.mark.parametrize("field", ["module", "loss", "optimizer"])
def test_nothing_is_called_that_is_not_of_its_kind(field, tmp_path, monkeypatch):
    """A configuration may come from a stranger, with the program that he compiled."""
    monkeypatch.chdir(tmp_path)
    arguments = {"module": "arguments"}.get(field, f"{field}_arguments")

    with pytest.raises(UnknownName):
        make(**{field: "os:mkdir", arguments: {"path": "made"}})

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"arguments": {"depth": 3}}, "depth"),
        ({"module": "torch_parts:lies"}, "returned a int"),
        ({"module": "torch_parts:Lazy"}, "'layer.weight' is not known before the first batch"),
        ({"module": "torch_parts:ComplexNumbers"}, "complex64"),
        ({"module": "mlp", "arguments": {"layers": [3]}}, r"layers are \[3\]"),
        ({"module": "mlp", "arguments": {"activation": "step"}}, "activation is 'step'"),
        ({"module": "cnn", "arguments": {"filters": [2, 2, 2, 2]}}, "halve images of 8 x 8"),
        ({"optimizer_arguments": {"speed": 3}}, "speed"),
        ({"optimizer": "LBFGS"}, "closure"),
        ({"optimizer": "Adam", "optimizer_arguments": {"betas": [2.0, 0.5]}}, "Invalid beta"),
        ({"loss": "torch.nn:CrossEntropyLoss", "loss_arguments": {"colour": 1}}, "colour"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_what_cannot_be_built_is_said_when_the_model_is(config, told):
    with pytest.raises(TorchError, match=told):
        make(**config)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_gpu_that_is_not_there_is_said(device):
    with pytest.raises(DeviceAbsent, match="sees 0 GPUs") as caught:
        make(device=device)

    assert "'auto'" in caught.value.fix
    assert make(device="auto").forward(CTX, examples()[0]).shape == (24, 4)


# Batches.


@pytest.mark.parametrize(
    ("x", "told"),
    [
        (np.zeros((2, 5), np.float32), r"cannot take inputs of shape \[2, 5\]"),
        (np.zeros((0, 3), np.float32), r"the inputs have shape \[0, 3\]"),
        (np.float32(1.0).reshape(()), r"the inputs have shape \[\]"),
        (np.array([["a", "b", "c"]]), "real numbers"),
        (np.zeros((2, 3), np.complex64), "real numbers"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_and_change_nothing(x, told):
    model = make()
    before = image(model)

    for use in (model.forward, lambda ctx, x: model.fit(ctx, batches(x, np.zeros(len(x), int)))):
        if x.ndim:
            with pytest.raises(TorchError, match=told):
                use(CTX, x)
    with pytest.raises(TorchError, match=told):
        model.forward(CTX, x)
    assert image(model) == before


@pytest.mark.parametrize(
    ("y", "told"),
    [
        (np.arange(24), "the targets go from 0 to 23"),
        (np.arange(24) - 1, "the targets go from -1 to 22"),
        (np.zeros(23, int), r"the targets have shape \[23\]"),
        (np.zeros((24, 3)), r"cannot take predictions \[24, 4\] and targets \[24, 3\]"),
        (np.array(3), r"the targets have shape \[\]"),
    ],
)
def test_targets_that_do_not_fit_are_refused(y, told):
    model, (x, _) = make(), examples()

    for use in (model.fit, model.evaluate):
        with pytest.raises(TorchError, match=told):
            use(CTX, batches(x, y))


def test_numbers_that_would_be_stretched_over_the_predictions_are_refused():
    model, (x, y) = make(loss="mse"), examples()

    with pytest.raises(TorchError, match=r"the targets have shape \[24\]"):
        model.fit(CTX, batches(x, y))


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"module": "torch_parts:Two"}, "returned tuple"),
        ({"module": "torch_parts:Scalar"}, r"returned \[\]"),
        ({"loss": "torch_parts:rows"}, r"returned a Tensor of shape \[24\]"),
        ({"optimizer": "torch_parts:Broken"}, "no step today"),
        ({"module": "torch_parts:Frozen"}, "the loss has no gradient"),
    ],
)
def test_module_loss_or_optimizer_that_does_not_do_its_part_is_said(config, told):
    with pytest.raises(TorchError, match=told):
        make(**config).fit(CTX, batches(*examples()))


def test_no_batches_are_an_error():
    for use in (make().fit, make().evaluate):
        with pytest.raises(TorchError, match="no batches"):
            use(CTX, Batches(0, lambda: iter([])))


def test_accuracy_of_single_numbers_is_refused():
    class Single(TorchModel):
        loss = torch.nn.MSELoss

    model = Single(
        TorchConfig(module="torch_parts:Flat", accuracy=True, device="cpu"), environment("model")
    )

    x, y = examples()
    with pytest.raises(TorchError, match="to tell the accuracy from"):
        model.evaluate(CTX, batches(x, y.astype("float32")))


@pytest.mark.parametrize("config", [{"lr": 1e35, "module": "cnn"}, {"loss": "mse", "lr": 100.0}])
def test_training_that_diverges_is_an_error(config):
    model, (x, y) = make(**config), examples()
    x, given = (x, np.eye(4)[y]) if "loss" in config else (np.ones((24, 64)), y)

    often = Batches(24, lambda: iter([(1e3 * x, given)] * 30))
    with pytest.raises(LossNotFinite, match="diverged") as caught:
        model.fit(CTX, often)

    assert str(config["lr"]) in caught.value.fix


# One batch.


def test_backward_needs_a_forward_and_a_gradient_of_its_shape():
    model, (x, _) = make(), examples()

    with pytest.raises(TorchError, match="no forward"):
        model.backward(CTX, np.zeros((24, 4), np.float32))
    found = model.forward(CTX, x)
    with pytest.raises(TorchError, match=r"the gradient has shape \[24, 3\]"):
        model.backward(CTX, found[:, :3])
    model.backward(CTX, found)
    with pytest.raises(TorchError, match="no forward"):
        model.backward(CTX, found)


@pytest.mark.parametrize("change", ["fit", "load_params", "apply_delta"])
def test_forward_is_forgotten_when_parameters_change(change):
    model, (x, y) = make(), examples()
    found, params = model.forward(CTX, x), model.params(CTX)

    getattr(model, change)(CTX, batches(x, y) if change == "fit" else params)

    with pytest.raises(TorchError, match="no forward"):
        model.backward(CTX, found)


def test_loss_of_nothing_is_refused():
    with pytest.raises(TorchError, match=r"the predictions have shape \[0, 4\]"):
        make().compute_loss(CTX, np.zeros((0, 4), np.float32), np.zeros(0, int))


# State.


def test_state_of_another_model_is_refused():
    counting = make(module="torch_parts:Counting")
    state = counting.save()

    with pytest.raises(TorchError, match="the parameters are"):
        make(module="mlp").load(make().save())
    with pytest.raises(TorchError, match="besides parameters"):
        counting.load(State({n: t for n, t in state.tensors.items() if n != "others/count"}))


def test_state_of_an_optimizer_of_other_parameters_is_refused():
    model = make(optimizer="Adam")
    model.fit(CTX, batches(*examples()))
    state = model.save()
    more = {**state.data["optimizer"], "state": [[7, {"dict": []}]]}

    with pytest.raises(TorchError, match="with other parameters"):
        model.load(State(state.tensors, {"optimizer": more}))


def test_optimizer_that_remembers_what_cannot_be_saved_is_said():
    model = make(optimizer="torch_parts:Unsavable")
    model.fit(CTX, batches(*examples()))

    with pytest.raises(TorchError, match="remembers a set"):
        model.save()


# Types.


def test_every_type_that_follows_is_of_a_port_that_exists():
    ports = {
        f"{schema.name}.{port.name}"
        for schema in ROLE_OPS["model"].values()
        for port in (*schema.inputs, *schema.outputs)
    }

    assert set(TorchModel.value_types(TorchConfig())) <= ports


@pytest.mark.parametrize("module", ["torch_parts:Plain", "torch_parts:NeedsData"])
@pytest.mark.parametrize("first", ["n", 7])
def test_outputs_follow_from_inputs_also_where_the_module_needs_data(module, first):
    config = TorchConfig(module=module)

    told = TorchModel.infer_types(config, "Forward", (tensor("float32", (first, 3)),))

    assert told == {"y": tensor("float32", (first, 4))}


def test_nothing_is_said_of_inputs_that_are_not_known():
    config = TorchConfig(integer_inputs="indices")

    for given in (ANY, tensor("float32"), tensor("float32", ("n", "m")), tensor(None, ("n", 64))):
        assert TorchModel.infer_types(config, "Forward", (given,)) is None
    assert TorchModel.infer_types(config, "Params", ()) is None


@pytest.mark.parametrize("module", ["torch_parts:Plain", "torch_parts:NeedsData"])
def test_inputs_that_the_module_cannot_take_are_found_without_running(module):
    with pytest.raises(InputMisfit, match=r"an input has shape \[5\]"):
        TorchModel.infer_types(
            TorchConfig(module=module), "Forward", (tensor("float32", ("n", 5)),)
        )


@pytest.mark.parametrize(
    ("ys", "told"),
    [
        (tensor("int64", ("n", 4)), "cannot take predictions"),
        (tensor("float32", ("n",)), "cannot take predictions"),
        (tensor("int64", ("n",)), None),
        (tensor("float32", ("n", 4)), None),
        (ANY, None),
    ],
)
def test_targets_that_the_loss_cannot_take_are_found_without_running(ys, told):
    config = TorchConfig(module="torch_parts:Plain")
    given = local("batches", {"inputs": tensor("float32", ("n", 3)), "targets": ys})

    if told is None:
        assert TorchModel.infer_types(config, "Fit", (given,)) == {}
        return
    with pytest.raises(InputMisfit, match=told):
        TorchModel.infer_types(config, "Evaluate", (given,))


@pytest.mark.parametrize(
    "config",
    [
        {"module": "cnn", "arguments": {"batch_norm": True}},
        {"module": "torch_parts:Counting", "exchange": "parameters", "dtype": "float64"},
        {"module": "torch_parts:annotated", "loss": "mse"},
    ],
)
def test_parameters_have_the_type_that_follows_from_the_configuration(config):
    model = make(**config)

    types = TorchModel.value_types(model.config)

    assert parse_type(types["Params.params"]) == model.params(CTX).layout.type
    assert ("accuracy" in types["Evaluate.metrics"]) == ("loss" not in config)
