"""What a module must not import that only declares something, or that only offers a command."""

from __future__ import annotations

from typing import Final

__all__ = ["HEAVY"]

#: Libraries that take long to import, or much memory.
HEAVY: Final = (
    "jax", "keras", "matplotlib", "numba", "numpy", "onnx", "onnxruntime", "pandas", "polars",
    "pyarrow", "scipy", "sklearn", "tensorflow", "torch", "transformers",
)  # fmt: skip
