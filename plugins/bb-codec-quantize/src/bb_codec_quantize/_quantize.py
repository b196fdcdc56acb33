"""Linear quantization of parameter sets, symmetric around zero.

An encoded set is a parameter set, too, so it travels and is stored like any other. It says itself
how it was made, so it is decoded with any configuration. It has the metadata

    bb.codec: quantize/1    bits: 8 or 4    per: tensor or channel

and four tensors

    layout   uint8    the header of the original set, byte for byte (`Layout.header`): names,
                      shapes, dtypes, order and metadata
    scales   float32, or float64 if the original has float64 tensors: the largest magnitude of
                      each group, of all float tensors in order
    codes    uint8    the codes of all float tensors in order, each from a new byte on: int8 from
                      -127 to 127, or two of 4 bits in a byte, the first in the low half, 1 to 15
                      for -7 to 7 and 8 for what pads the last byte
    kept     uint8    the bytes of all other tensors in order

`_levels` explains scales and codes. What is decoded may come from strangers: lengths are compared
before anything is allocated, so the result is at most sixteen times as large as what came.

Sources: Alistarh et al., "QSGD: Communication-Efficient SGD via Gradient Quantization and
Encoding", 2017, for stochastic rounding; scaling by the largest magnitude instead of the norm is
the variant that it uses in practice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Final, Literal, NamedTuple, cast, get_args

import numpy as np
from numpy.typing import NDArray

from bb_codec_quantize._levels import (
    TOPS,
    Bits,
    Per,
    code_bytes,
    groups_of,
    largest,
    read,
    write,
)
from bb_codec_quantize.errors import (
    EncodingDamaged,
    InvalidSetting,
    NotParameters,
    ValueNotFinite,
)
from bb_ir.errors import ParameterSetError
from bb_ir.params import Draft, Layout, ParameterSet
from bb_roles import Codec, Context, Environment

__all__ = ["Quantize", "QuantizeConfig"]

Rounding = Literal["nearest", "stochastic"]

_CODEC: Final = "quantize/1"
_FLOATS: Final = ("float64", "float32", "float16", "bfloat16")
_TENSORS: Final = ("layout", "scales", "codes", "kept")


@dataclass(frozen=True)
class QuantizeConfig:
    """How values are rounded.

    Attributes:
        bits: 8 or 4 per value.
        per: `tensor` for one scale each, `channel` for one per index of the first axis where a
            tensor has two axes or more.
        rounding: `nearest` is at most half a step off. `stochastic` is less than a step off and
            unbiased: the mean over many draws is the value.
    """

    bits: Bits = 8
    per: Per = "tensor"
    rounding: Rounding = "nearest"

    def __post_init__(self) -> None:
        for name, kind in (("bits", Bits), ("per", Per), ("rounding", Rounding)):
            value, choices = getattr(self, name), get_args(kind)
            if value not in choices or type(value) is not type(choices[0]):
                raise InvalidSetting(
                    f"{name} is {value!r}",
                    expected=f"one of {', '.join(map(repr, choices))}",
                    fix="choose one of them",
                    where=name,
                )


class _Part(NamedTuple):
    """Where a tensor lies in an encoded set: `place` in the codes or the kept bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    place: slice
    #: Its scales; `None` for a tensor that is kept as it is.
    scales: slice | None


class Quantize(Codec):
    """Parameter sets in 8 or 4 bits per value.

    It encodes parameter sets and nothing else: put a single tensor into one, as
    `ParameterSet.from_tensors({"x": x})`. Float tensors of any width are quantized; integers and
    bools go through unchanged. A step is the largest magnitude of a tensor (or channel) divided by
    127 for 8 bits and by 7 for 4. Zeros stay zero (a negative zero loses its sign), and the
    largest magnitude of each group stays what it is.

    It has no state, and encoding and decoding change nothing.

    Args:
        config: A `QuantizeConfig`.
        env: Where it is being built; large results come from its pool.
    """

    Config: ClassVar[type] = QuantizeConfig

    def __init__(self, config: QuantizeConfig, env: Environment) -> None:
        super().__init__(config, env)
        self._config = config

    def encode(self, ctx: Context, value: Any) -> ParameterSet:
        """Return a set of a quarter or an eighth of the bytes, for large sets of float32.

        Args:
            ctx: The call's context; stochastic rounding draws from its generator.
            value: A `ParameterSet`.

        Raises:
            NotParameters: It is something else.
            ValueNotFinite: A float tensor holds NaN or infinity.
        """
        params = _need_params(value, "encoded")
        bits = self._config.bits
        parts = list(_parts(params.layout, bits, self._config.per))
        draft = Draft(_encoded_layout(params.layout, parts, self._config), self.env.pool)
        draft["layout"][:] = np.frombuffer(params.layout.header, np.uint8)
        scales, codes, kept = (draft[name] for name in _TENSORS[1:])
        rng = ctx.rng() if self._config.rounding == "stochastic" else None
        for part in parts:
            tensor = params[part.name]
            if part.scales is None:
                kept[part.place] = tensor.reshape(-1).view(np.uint8)
            elif tensor.size:
                found = largest(tensor, part.scales.stop - part.scales.start)
                _need_finite(found, part)
                scales[part.scales] = found
                write(tensor, found, bits, rng, codes[part.place])
        return draft.freeze()

    def decode(self, ctx: Context, encoded: Any) -> ParameterSet:
        """Return a set with the names, order, shapes, dtypes and metadata of the original.

        Args:
            ctx: The call's context; nothing of it is used.
            encoded: What `encode` returned, of this or of another configuration.

        Raises:
            NotParameters: It is not a `ParameterSet`.
            EncodingDamaged: It was not made by this codec, or has been changed since.
        """
        params = _need_params(encoded, "decoded")
        bits, per = _read_metadata(params.layout)
        _check_tensors(params)
        layout = _original_layout(params["layout"].tobytes())
        parts = list(_parts(layout, bits, per))
        _check_lengths(params, layout, parts)
        scales = params["scales"].astype(np.float64)
        codes, kept = params["codes"], params["kept"]
        draft = Draft(layout, self.env.pool)
        for part in parts:
            tensor = draft[part.name]
            if part.scales is None:
                tensor.reshape(-1).view(np.uint8)[:] = _checked(kept[part.place], part)
            elif tensor.size:
                _check_scales(scales[part.scales], tensor.dtype, part)
                if not read(codes[part.place], scales[part.scales], bits, tensor):
                    raise _damaged(f"tensor {part.name!r} has a code that is never written")
        return draft.freeze()


def _parts(layout: Layout, bits: int, per: Per) -> Iterator[_Part]:
    """Say where each tensor lies; allocates nothing, whatever a layout claims."""
    scales = codes = kept = 0
    for name, dtype, shape in zip(layout.names, layout.dtypes, layout.shapes, strict=True):
        if dtype not in _FLOATS:
            nbytes = prod(shape) * _itemsize(dtype)
            yield _Part(name, dtype, shape, slice(kept, kept + nbytes), None)
            kept += nbytes
            continue
        groups, nbytes = groups_of(shape, per), code_bytes(shape, bits)
        of = slice(scales, scales + groups)
        yield _Part(name, dtype, shape, slice(codes, codes + nbytes), of)
        scales, codes = scales + groups, codes + nbytes


def _itemsize(dtype: str) -> int:
    return np.dtype(dtype).itemsize


def _lengths(layout: Layout, parts: list[_Part]) -> dict[str, int]:
    """Return the length of each tensor of an encoded set."""
    return {
        "layout": len(layout.header),
        "scales": max((p.scales.stop for p in parts if p.scales is not None), default=0),
        "codes": max((p.place.stop for p in parts if p.scales is not None), default=0),
        "kept": max((p.place.stop for p in parts if p.scales is None), default=0),
    }


def _scale_dtype(layout: Layout) -> str:
    return "float64" if "float64" in layout.dtypes else "float32"


def _encoded_layout(layout: Layout, parts: list[_Part], config: QuantizeConfig) -> Layout:
    lengths = _lengths(layout, parts)
    dtypes = {"scales": _scale_dtype(layout)}
    return Layout.of(
        {name: (dtypes.get(name, "uint8"), (lengths[name],)) for name in _TENSORS},
        metadata={"bb.codec": _CODEC, "bits": str(config.bits), "per": config.per},
    )


def _need_params(value: object, what: str) -> ParameterSet:
    if not isinstance(value, ParameterSet):
        raise NotParameters(
            f"a {type(value).__name__} was to be {what}",
            expected="a ParameterSet",
            fix="put tensors into one: ParameterSet.from_tensors({'x': x})",
        )
    return value


def _need_finite(scales: NDArray[np.float64], part: _Part) -> None:
    if not np.isfinite(scales).all():
        raise ValueNotFinite(
            f"tensor {part.name!r} holds a value that is not finite",
            expected="finite values",
            fix="look for divergence before the set is encoded",
            where=f"tensor {part.name!r}",
        )


def _read_metadata(layout: Layout) -> tuple[int, Per]:
    metadata = dict(layout.metadata)
    codec, bits, per = (metadata.get(key) for key in ("bb.codec", "bits", "per"))
    if codec != _CODEC:
        raise _damaged(f"its metadata names the codec {codec!r}")
    widths = {str(width): width for width in TOPS}
    if bits not in widths or per not in get_args(Per):
        raise _damaged(f"its metadata says bits {bits!r} and per {per!r}")
    return widths[bits], cast("Per", per)


def _check_tensors(params: ParameterSet) -> None:
    if set(params.names) != set(_TENSORS):
        raise _damaged(f"it has the tensors {', '.join(params.names)[:200] or 'none'}")
    for name, tensor in params.items():
        floats = ("float32", "float64") if name == "scales" else ("uint8",)
        if tensor.ndim != 1 or tensor.dtype.name not in floats:
            raise _damaged(f"its {name} are {tensor.dtype.name}{list(tensor.shape)}")


def _original_layout(header: bytes) -> Layout:
    try:
        return Layout.from_header(header)
    except ParameterSetError as error:
        raise _damaged(f"its layout cannot be read: {error.found}") from error


def _check_lengths(params: ParameterSet, layout: Layout, parts: list[_Part]) -> None:
    for name, length in _lengths(layout, parts).items():
        if params[name].size != length:
            raise _damaged(f"it has {params[name].size} {name} where its layout asks for {length}")
    if params["scales"].dtype.name != _scale_dtype(layout):
        raise _damaged(f"its scales are {params['scales'].dtype.name}")


def _check_scales(scales: NDArray[np.float64], dtype: np.dtype[Any], part: _Part) -> None:
    """Scales are values of the tensor, so its dtype holds them exactly."""
    with np.errstate(over="ignore", invalid="ignore"):
        same = scales.astype(dtype).astype(np.float64) == scales
    if not (same & np.isfinite(scales) & (scales >= 0)).all():
        raise _damaged(f"tensor {part.name!r} has a scale that is none of its values")


def _checked(kept: NDArray[np.uint8], part: _Part) -> NDArray[np.uint8]:
    if part.dtype == "bool" and (kept > 1).any():
        raise _damaged(f"tensor {part.name!r} is of bools and holds other bytes than 0 and 1")
    return kept


def _damaged(found: str) -> EncodingDamaged:
    return EncodingDamaged(
        f"this set cannot be decoded: {found}",
        expected=f"what the codec {_CODEC} has encoded, unchanged",
        fix="decode what `encode` returned, with a codec of the same name on both sides",
    )
