"""What PyTorch keeps for the whole process, set for the time of one call and put back.

Modules draw (initial parameters, dropout) from PyTorch's global generators, and the number of its
threads and its determinism are global too. So while a model computes it holds a lock of the
process: models that are used by several threads at once take turns, and none sees another's seed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from bb_model_torch.errors import DeviceAbsent

__all__ = ["find_device", "working"]

_LOCK = threading.RLock()
#: That mode of PyTorch in which ops that give other bits from run to run raise.
_REFUSE = "error"
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def find_device(name: str) -> torch.device:
    """Return the device that a configuration names.

    Raises:
        DeviceAbsent: PyTorch does not see it here.
    """
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not seen):
        return torch.device("cpu")
    index = int(name.partition(":")[2] or 0)
    if index >= seen:
        raise DeviceAbsent(
            f"device is {name!r}, and torch {torch.__version__} sees {seen} GPUs here",
            expected="one of auto, cpu" + "".join(f", cuda:{n}" for n in range(seen)),
            fix="set device to 'auto'"
            if seen
            else "set device to 'cpu' or 'auto', or install a "
            "build of torch with CUDA and its driver",
        )
    return torch.device("cuda", index)


@contextmanager
def working(
    seed: int, device: torch.device, *, threads: int | None = None, deterministic: bool = True
) -> Iterator[None]:
    """Compute with generators, threads and determinism of one's own; afterwards all is as before.

    Args:
        seed: Of what PyTorch draws, 63 bits.
        device: Where it is computed.
        threads: Threads of PyTorch; `None` leaves their number.
        deterministic: Whether ops that give other bits from run to run are refused; if not, it
            is as the process has it.
    """
    with _LOCK, ExitStack() as undo:
        for generator in _generators(device):
            undo.callback(generator.set_state, generator.get_state())
            generator.manual_seed(seed)
        if threads is not None and threads != torch.get_num_threads():
            undo.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(threads)
        if deterministic:
            # Not `use_deterministic_algorithms`: it imports the compiler, which takes seconds.
            undo.callback(torch.set_deterministic_debug_mode, torch.get_deterministic_debug_mode())
            torch.set_deterministic_debug_mode(_REFUSE)
            undo.enter_context(_without_filling())
            _let_cublas_be_deterministic(device)
        yield


def _generators(device: torch.device) -> list[torch.Generator]:
    """Return the generators that modules on a device draw from; no other device is touched."""
    if device.type == "cpu":
        return [torch.default_generator]
    torch.cuda.init()  # type: ignore[no-untyped-call]  # PyTorch's own
    return [torch.default_generator, torch.cuda.default_generators[device.index]]


@contextmanager
def _without_filling() -> Iterator[None]:
    """Leave fresh memory as it is: PyTorch would write NaN into all of it, to find mistakes."""
    settings: Any = torch.utils.deterministic  # a property of a module, which nobody declares
    before = settings.fill_uninitialized_memory
    settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        settings.fill_uninitialized_memory = before


def _let_cublas_be_deterministic(device: torch.device) -> None:
    if device.type == "cuda":
        os.environ.setdefault(_WORKSPACE, ":4096:8")
