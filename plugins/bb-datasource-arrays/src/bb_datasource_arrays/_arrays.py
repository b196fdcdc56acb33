"""Takes examples from two arrays or from an npz file, and checks them once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bb_roles import Environment
from bb_roles.data import DataConfig, DataError, InMemory, portion

__all__ = ["Arrays", "ArraysConfig"]

Tensor = NDArray[Any]


@dataclass(frozen=True)
class ArraysConfig(DataConfig):
    """Where the examples are, and what `bb_roles.data.DataConfig` says to do with them.

    Attributes:
        path: An npz file, written by `numpy.savez`; or give `x` and `y`.
        x_key: Name of the inputs in the file.
        y_key: Name of the targets in the file.
        x: Inputs (n, ...); not copied unless they are divided, so leave them as they are.
        y: Targets (n, ...), one for each input; likewise.
    """

    path: str = ""
    x_key: str = "x"
    y_key: str = "y"
    x: np.ndarray | None = field(default=None, compare=False, repr=False)
    y: np.ndarray | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        inline = [name for name in ("x", "y") if getattr(self, name) is not None]
        if self.path and inline:
            raise DataError(
                f"both path and {' and '.join(inline)} are given",
                expected="a file, or the arrays x and y",
                fix="leave one of them out",
            )
        if not self.path and len(inline) != 2:
            raise DataError(
                f"only {inline[0]} is given" if inline else "neither a file nor arrays are given",
                expected="path, or both x and y",
                fix="name an npz file in path, or pass numpy arrays as x and y",
            )


class Arrays(InMemory):
    """Examples of the user's own: inputs and targets of any shape and dtype but objects."""

    Config = ArraysConfig

    def __init__(self, config: ArraysConfig, env: Environment) -> None:
        x, y = _examples(config)
        super().__init__(config, env, *portion(x, y, config))


def _examples(config: ArraysConfig) -> tuple[Tensor, Tensor]:
    if config.x is not None and config.y is not None:
        return _checked(config.x, config.y, "the configuration")
    path = Path(config.path)
    try:
        stamp = path.stat()
    except OSError as error:
        raise DataError(
            f"the file {config.path!r} cannot be read: {error.strerror}",
            expected=f"an npz file with {config.x_key!r} and {config.y_key!r}",
            fix=f"check the path; it is looked up from {Path.cwd()}",
        ) from error
    # Virtual clients of one process share the file; a file that was written anew is read anew.
    return _load(str(path), config.x_key, config.y_key, (stamp.st_mtime_ns, stamp.st_size))


@lru_cache(maxsize=1)
def _load(path: str, x_key: str, y_key: str, _stamp: tuple[int, int]) -> tuple[Tensor, Tensor]:
    try:
        names, found = _read(path, (x_key, y_key))
    except Exception as error:  # numpy and zipfile raise many kinds for a file that is none
        raise DataError(
            f"the file {path!r} cannot be read: {error}",
            expected="an npz file of plain arrays, written by numpy.savez",
            fix="write it anew; arrays of Python objects cannot be used",
        ) from error
    for key in (x_key, y_key):
        if key not in found:
            raise DataError(
                f"the file {path!r} has no array {key!r}",
                expected=f"one of those it has: {', '.join(names) or 'none with a name'}",
                fix="set x_key and y_key, or write it with numpy.savez(path, x=..., y=...)",
            )
    return _checked(found[x_key], found[y_key], f"the file {path!r}")


def _read(path: str, keys: tuple[str, ...]) -> tuple[list[str], dict[str, Tensor]]:
    """Return the names of all arrays of a file, and those arrays that are asked for."""
    # numpy leaves a file that it fails to read open, so it is opened here.
    with Path(path).open("rb") as stream:
        # A pickle may run anything when it is read, so none is.
        opened = np.load(stream, allow_pickle=False)
        if isinstance(opened, np.ndarray):
            return [], {}
        with opened as file:
            return file.files, {key: file[key] for key in keys if key in file.files}


def _checked(x: Tensor, y: Tensor, where: str) -> tuple[Tensor, Tensor]:
    for name, array in (("inputs", x), ("targets", y)):
        if array.dtype.hasobject:
            raise DataError(
                f"the {name} are an array of Python objects",
                expected="numbers or texts",
                fix="convert with array.astype(...)",
                where=where,
            )
        if array.ndim == 0:
            raise DataError(
                f"the {name} are a single value",
                expected="an array with one row per example",
                where=where,
            )
    if len(x) != len(y) or len(x) == 0:
        raise DataError(
            f"there are {len(x)} inputs and {len(y)} targets",
            expected="one target for each input, and at least one of them",
            where=where,
        )
    if x.dtype.kind in "fc" and not np.isfinite(x).all():
        bad = np.argwhere(~np.isfinite(x))[0].tolist()
        raise DataError(
            f"the inputs are not finite at {bad}",
            expected="no NaN and no infinity",
            fix="drop or fill such examples first",
            where=where,
        )
    return x, y
