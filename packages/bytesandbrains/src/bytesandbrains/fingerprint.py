"""What decides whether two runs give the same bits: versions, BLAS and its threads, the CPU.

The same seed gives the same bits on one fingerprint. Across fingerprints control flow, folds and
codecs are the same, and other tensors agree within rounding. What cannot be found out is said to
be unknown, and counts as a value of its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

__all__ = ["Blas", "Cpu", "Fingerprint", "fingerprint"]

UNKNOWN = "unknown"
#: Libraries whose version may change a bit.
_LIBRARIES = ("numpy", "onnx", "protobuf", "msgspec")
#: Environment variables that set the number of threads, per library.
_THREADS = {
    "openblas": ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"),
    "mkl": ("MKL_NUM_THREADS", "OMP_NUM_THREADS"),
    "blis": ("BLIS_NUM_THREADS", "OMP_NUM_THREADS"),
    "accelerate": ("VECLIB_MAXIMUM_THREADS",),
}


@dataclass(frozen=True, slots=True)
class Blas:
    """The library behind matrix products; `threads` is `None` when it cannot be found out."""

    name: str = UNKNOWN
    version: str = UNKNOWN
    threads: int | None = None
    kernel: str = UNKNOWN


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor; `features` are the instruction sets that numpy found and uses."""

    model: str
    machine: str
    count: int
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Everything that is known; `fingerprint` hashes what matters for the bits.

    Attributes:
        fingerprint: 16 hex digits over all but `platform`, and the CPU's model and count.
        python: Version of Python.
        implementation: Such as CPython.
        platform: Operating system and C library, for people.
        cpu: The processor.
        blas: The library behind matrix products.
        versions: Versions of our packages, the plugins, and the libraries beneath.
    """

    fingerprint: str
    python: str
    implementation: str
    platform: str
    cpu: Cpu
    blas: Blas
    versions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, ready for JSON."""
        return dataclasses.asdict(self)


def fingerprint() -> Fingerprint:
    """Find out what this process computes with. Imports numpy."""
    versions, cpu, blas = _versions(), _cpu(), _blas()
    facts = {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "libc": list(platform.libc_ver()),
        "byteorder": sys.byteorder,
        "machine": cpu.machine,
        "features": list(cpu.features),
        "blas": dataclasses.asdict(blas),
        "versions": versions,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return Fingerprint(
        fingerprint=digest[:16],
        python=platform.python_version(),
        implementation=platform.python_implementation(),
        platform=platform.platform(),
        cpu=cpu,
        blas=blas,
        versions=versions,
    )


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, distributions, version

    found: dict[str, str] = {}
    for distribution in distributions():
        name = cast("str | None", distribution.metadata["Name"]) or ""
        if name == "bytesandbrains" or name.startswith("bb-"):
            found[name] = distribution.version
    found.update(_plugins())
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return dict(sorted(found.items()))


def _plugins() -> dict[str, str]:
    from bb_roles.registry import installed

    return {one.distribution: one.version for one in installed()}


def _blas() -> Blas:
    import numpy as np

    try:
        control: Any = import_module("threadpoolctl")  # it ships no types
    except ImportError:
        return _blas_of_build(np)
    for library in control.threadpool_info():
        if library.get("user_api") == "blas":
            return Blas(
                name=str(library.get("internal_api", UNKNOWN)),
                version=str(library.get("version") or UNKNOWN),
                threads=library.get("num_threads"),
                kernel=str(library.get("architecture") or UNKNOWN),
            )
    return _blas_of_build(np)


def _blas_of_build(np: Any) -> Blas:
    """Return what numpy was built with; threads only where the environment sets them."""
    try:
        built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    except (TypeError, KeyError):
        return Blas()
    name = str(built.get("name", UNKNOWN))
    variables = next((v for known, v in _THREADS.items() if known in name.lower()), ())
    values = (os.environ.get(variable, "") for variable in variables)
    threads = next((int(value) for value in values if value.isdecimal()), None)
    return Blas(name=name, version=str(built.get("version", UNKNOWN)), threads=threads)


def _cpu() -> Cpu:
    return Cpu(_cpu_model(), platform.machine() or UNKNOWN, os.cpu_count() or 0, _features())


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or UNKNOWN


def _features() -> tuple[str, ...]:
    """Return the instruction sets of this CPU that numpy knows; none when it does not tell."""
    try:
        module = import_module("numpy._core._multiarray_umath")
    except ImportError:  # numpy 1
        module = import_module("numpy.core._multiarray_umath")
    known: dict[str, bool] = getattr(module, "__cpu_features__", {})
    return tuple(sorted(name for name, has in known.items() if has))
