"""On a GPU it is the same model: results are those of the CPU within rounding."""

import numpy as np
import pytest
import torch

from bb_model_torch.model import TorchConfig, TorchModel
from bb_roles import Batches
from bb_testing import FakeContext, ModelSuite, environment

if not torch.cuda.is_available():
    pytest.skip("PyTorch sees no GPU on this machine", allow_module_level=True)

CTX = FakeContext()


def examples(width=64):
    rng = np.random.default_rng(5)
    y = np.arange(40) % 10
    x = np.repeat(np.eye(10), width // 10 + 1, axis=1)[y, :width]
    return (x + 0.1 * rng.standard_normal(x.shape)).astype("float32"), y


def batches(x, y):
    return Batches(len(x), lambda: iter([(x[:20], y[:20]), (x[20:], y[20:])]))


def make(device, **config):
    # In double precision: convolutions of a GPU round single precision to 10 bits.
    config = {"dtype": "float64", "seed": 3, **config}
    return TorchModel(TorchConfig(device=device, **config), environment("model"))


class TestOnGpu(ModelSuite):
    def make(self):
        config = {"optimizer": "Adam", "dtype": "float64", "arguments": {"layers": [64, 16, 10]}}
        return make("cuda", **config)

    def batch(self):
        x, y = examples()
        return x.astype("float64"), y


@pytest.mark.parametrize(
    "config",
    [
        {"optimizer_arguments": {"momentum": 0.9}},
        {"optimizer": "AdamW", "max_grad_norm": 0.5},
        {"module": "cnn", "arguments": {"batch_norm": True}},
    ],
)
def test_results_are_those_of_the_cpu(config):
    cpu, gpu, (x, y) = make("cpu", **config), make("cuda:0", **config), examples()

    assert cpu.params(CTX) == gpu.params(CTX)
    for _ in range(3):
        told = [dict(model.fit(CTX, batches(x, y))) for model in (cpu, gpu)]
        assert told[1] == pytest.approx(told[0], rel=1e-6)
    for name, array in cpu.params(CTX).items():
        np.testing.assert_allclose(gpu.params(CTX)[name], array, rtol=1e-5, atol=1e-8)
    found = [model.forward(CTX, x) for model in (cpu, gpu)]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-8)
    back = [model.backward(CTX, found[0]) for model in (cpu, gpu)]
    np.testing.assert_allclose(back[1], back[0], rtol=1e-5, atol=1e-8)
    assert gpu.evaluate(CTX, batches(x, y)) == pytest.approx(
        cpu.evaluate(CTX, batches(x, y)), rel=1e-5
    )


def test_state_moves_between_devices():
    cpu, gpu, (x, y) = make("cpu", optimizer="Adam"), make("cuda", optimizer="Adam"), examples()
    cpu.fit(CTX, batches(x, y))

    gpu.load(cpu.save())

    assert gpu.params(CTX) == cpu.params(CTX)
    told = [model.fit(CTX, batches(x, y))["loss"] for model in (cpu, gpu)]
    assert told[1] == pytest.approx(told[0], rel=1e-6)


def test_auto_takes_the_gpu_and_its_parameters_are_copied_once():
    model = make("auto")

    assert model._device.type == "cuda"
    assert model.params(CTX) is model.params(CTX)


def test_generator_of_the_gpu_is_left_as_it_was():
    torch.cuda.manual_seed(3)
    before = torch.cuda.get_rng_state().tolist()

    x, y = examples()
    make("cuda", module="mlp", arguments={"dropout": 0.5}).fit(CTX, batches(x, y))

    assert torch.cuda.get_rng_state().tolist() == before
