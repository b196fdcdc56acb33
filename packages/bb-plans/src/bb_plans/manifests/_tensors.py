"""Where tensors lie in a file, and the runs of bytes that its chunks are cut into.

Nothing here reads more of a file than its headers, and nothing is allocated in proportion to what a
header merely claims.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from types import MappingProxyType
from typing import Final, NamedTuple, NoReturn

from bb_ir.plan import TensorSpan
from bb_plans.errors import ModelFileDamaged
from bb_roles.errors import ConfigError

__all__ = ["ITEM_BYTES", "SPAN_BYTES", "Run", "Tensor", "damaged", "placed", "runs"]

#: Most bytes of one chunk of a tensor, unless it is told otherwise: 4 MiB.
SPAN_BYTES: Final = 4 << 20

_ALIGNED: Final = 16  # no element is longer, so none is cut in two

#: Bytes of an element, by the names of numpy and ml_dtypes.
ITEM_BYTES: Final[Mapping[str, int]] = MappingProxyType({
    "float64": 8, "int64": 8, "uint64": 8, "complex64": 8, "complex128": 16,
    "float32": 4, "int32": 4, "uint32": 4,
    "float16": 2, "bfloat16": 2, "int16": 2, "uint16": 2,
    "int8": 1, "uint8": 1, "bool": 1, "float8_e4m3fn": 1, "float8_e4m3fnuz": 1,
    "float8_e5m2": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
})  # fmt: skip


class Tensor(NamedTuple):
    """A tensor in a file.

    Attributes:
        offset: First byte in the file.
        length: Bytes.
        name: Its name.
        dtype: Its element type; empty when it has no name in numpy or ml_dtypes.
        shape: Its dimensions.
    """

    offset: int
    length: int
    name: str
    dtype: str
    shape: tuple[int, ...]


class Run(NamedTuple):
    """Bytes of a file that become a chunk; `tensor` tells what they are, where that is known."""

    offset: int
    length: int
    tensor: TensorSpan | None = None


def placed(path: str, size: int, tensor: Tensor) -> Tensor:
    """Return a tensor that lies within its file and is as long as its shape says.

    Raises:
        ModelFileDamaged: It does not, or is not.
    """
    if tensor.offset < 0 or tensor.length < 0 or tensor.offset + tensor.length > size:
        end = tensor.offset + tensor.length
        damaged(path, f"tensor {tensor.name[:80]!r} ends at {end}, and the file at {size}")
    if tensor.dtype and prod(tensor.shape) * ITEM_BYTES[tensor.dtype] != tensor.length:
        shape = f"{tensor.dtype}{list(tensor.shape)}"[:120]
        damaged(path, f"tensor {tensor.name[:80]!r} has {tensor.length} bytes, as {shape}")
    return tensor


def runs(size: int, tensors: Iterable[Tensor], span_bytes: int) -> Iterator[Run]:
    """Yield runs that cover a file: those of tensors, and between them what is of none.

    Of tensors that share bytes the first counts. Those without bytes are told by the header alone.

    Args:
        size: Bytes of the file.
        tensors: Those that lie in it.
        span_bytes: Most bytes of a run of a tensor, rounded down to whole elements.

    Raises:
        ConfigError: `span_bytes` is below 1.
    """
    if span_bytes < 1:
        raise ConfigError(f"span_bytes is {span_bytes}", expected="1 or more; 4 MiB if not given")
    span = max(_ALIGNED, span_bytes // _ALIGNED * _ALIGNED)
    end = 0
    for tensor in sorted(tensors):
        if not tensor.length or tensor.offset < end:
            continue
        if tensor.offset > end:
            yield Run(end, tensor.offset - end)
        for begin in range(0, tensor.length, span):
            yield _part(tensor, begin, min(begin + span, tensor.length))
        end = tensor.offset + tensor.length
    if end < size or not size:
        yield Run(end, size - end)


def damaged(path: str, found: str) -> NoReturn:
    """Raise the error of a file that says of itself what cannot be."""
    raise ModelFileDamaged(
        f"{found}, in {path[:200]!r}",
        expected="a whole file, as it was written",
        fix="copy the file again, or rename it if it is not of the format that its name says",
    )


def _part(tensor: Tensor, begin: int, end: int) -> Run:
    span = TensorSpan(tensor.name, tensor.dtype, tensor.shape, begin, end)
    known = span if tensor.dtype else None
    return Run(tensor.offset + begin, end - begin, known)
