"""Reads the digits from scikit-learn's files without importing scikit-learn.

The file is 57 kB of compressed text and is read once per process; importing scikit-learn to do
it would take seconds. Source of the data: E. Alpaydin and C. Kaynak, "Optical Recognition of
Handwritten Digits", UCI Machine Learning Repository (1998), its test set, as scikit-learn
bundles it (`sklearn.datasets.load_digits`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bb_ir.types import tensor
from bb_roles import Environment
from bb_roles.data import DataConfig, DataError, InMemory, batch_types, parts

__all__ = ["Digits", "load_digits"]

_FILE = Path("datasets", "data", "digits.csv.gz")
_DARKEST = 16
_PIXELS = 64


class Digits(InMemory):
    """1,797 handwritten digits: float32 (n, 64) from 0 to 1, and int64 labels (n,) from 0 to 9."""

    Config = DataConfig

    @classmethod
    def value_types(cls, config: DataConfig) -> Mapping[str, str]:  # noqa: ARG003  # whatever it is
        """Return the types of batches of images and labels."""
        return batch_types(tensor("float32", (_PIXELS,)), tensor("int64", ()))

    def __init__(self, config: DataConfig, env: Environment) -> None:
        images, labels = load_digits()
        mine = _parts(_same_for_all(config))[config.client or 0]
        super().__init__(config, env, images[mine], labels[mine])


@cache
def load_digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return all images, one per row, and their labels; read-only, and read once per process.

    Raises:
        DataError: scikit-learn is not installed, or does not hold the file.
    """
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataError(
            "the digits are bundled with scikit-learn, which is not installed",
            fix="pip install scikit-learn",
        )
    path = Path(spec.origin).parent / _FILE
    if not path.is_file():
        raise DataError(
            f"this scikit-learn does not hold the digits: there is no {path}",
            fix="install scikit-learn anew, or a version that has the file",
        )
    table = np.loadtxt(path, delimiter=",", dtype=np.int64)
    images = table[:, :-1].astype(np.float32) / np.float32(_DARKEST)
    labels = np.ascontiguousarray(table[:, -1])
    images.setflags(write=False)
    labels.setflags(write=False)
    return images, labels


def _same_for_all(config: DataConfig) -> DataConfig:
    """Return what all clients of one partition have in common, to look it up by."""
    client = None if config.client is None else 0
    return replace(config, client=client, batch_size=1, shuffle=False)


@lru_cache(maxsize=32)
def _parts(config: DataConfig) -> list[NDArray[Any]]:
    """Divide once for all clients: a thousand of them may live in one process."""
    return parts(load_digits()[1], config)
