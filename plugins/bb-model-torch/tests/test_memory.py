"""The memory of parameters as it is on a GPU, where it is not that of what is lent.

Where the tensors really are is nothing that this memory looks at, so tensors of the CPU do here.
What a GPU computes is looked at in `test_gpu.py`, which needs one.
"""

import numpy as np
import pytest
import torch

from bb_ir.params import ParameterSet
from bb_model_torch import _scope
from bb_model_torch._memory import Memory
from bb_model_torch._scope import find_device
from bb_model_torch.errors import DeviceAbsent

GPU = torch.device("cuda", 0)


@pytest.fixture
def tensors():
    return {
        "w": torch.nn.Parameter(torch.arange(6.0).reshape(2, 3)),
        "half": torch.ones(2, dtype=torch.bfloat16),
    }


@pytest.fixture
def memory(tensors):
    return Memory(tensors, GPU, None)


def other(memory, value):
    return ParameterSet.from_tensors(
        {name: np.full_like(array, value) for name, array in memory.params().items()}
    )


def test_values_are_copied_once_as_long_as_they_stay(memory, tensors):
    first = memory.params()
    assert memory.params() is first

    memory.write()
    tensors["w"].data += 1.0

    assert first["w"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert memory.params()["w"].tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


def test_values_that_are_loaded_reach_the_module_when_it_needs_them(memory, tensors):
    loaded = other(memory, 7.0)

    memory.load(loaded)
    assert memory.params() is loaded
    assert float(tensors["w"].detach()[0, 1]) == 1.0
    memory.read()

    assert tensors["w"].detach().unique().tolist() == [7.0]
    assert tensors["half"].tolist() == [7.0, 7.0]
    assert memory.params() is loaded


def test_differences_are_added_and_leave_what_was_loaded(memory):
    loaded, delta = other(memory, 7.0), other(memory, 0.5)
    memory.load(loaded)

    memory.add(delta)

    assert {array.astype("float32").sum() for _, array in memory.params().items()} == {45.0, 15.0}
    assert loaded["w"].sum() == 42.0
    assert memory.copy() == memory.params()


# Which device.


@pytest.mark.parametrize(
    ("seen", "name", "found"),
    [
        (0, "auto", "cpu"), (0, "cpu", "cpu"), (2, "cpu", "cpu"), (2, "auto", "cuda:0"),
        (2, "cuda", "cuda:0"), (2, "cuda:1", "cuda:1"),
    ],
)  # fmt: skip
def test_device_is_the_one_that_is_named_or_a_gpu_if_there_is_one(seen, name, found, monkeypatch):
    monkeypatch.setattr(_scope.torch.cuda, "is_available", lambda: seen > 0)
    monkeypatch.setattr(_scope.torch.cuda, "device_count", lambda: seen)

    assert str(find_device(name)) == found


def test_gpu_beyond_those_there_are_is_refused(monkeypatch):
    monkeypatch.setattr(_scope.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(_scope.torch.cuda, "device_count", lambda: 2)

    with pytest.raises(DeviceAbsent, match="sees 2 GPUs") as caught:
        find_device("cuda:2")

    assert caught.value.expected == "one of auto, cpu, cuda:0, cuda:1"
