"""Parameter sets in small numbers: integers on a linear scale around zero, or short floats.

An encoded set is a parameter set, too, so it travels and is stored like any other. It says itself
how it was made, so it is decoded with any configuration. It has the metadata of the original and
four tensors, whose lengths follow from the type of the original:

    layout   uint8    compact JSON: {"codec":"quantize/1","to":"int8","per":"tensor","tensors":
                      {"w":["float32",[3,2]]}}, with what codes are, what shares a scale, and name,
                      dtype and shape of each tensor of the original, in order
    scales   float32, or float64 if the original has float64 tensors: the largest magnitude of
                      each group, of all float tensors in order
    codes    uint8    the codes of all float tensors in order, each from a new byte on: int8 from
                      -127 to 127; or two of 4 bits in a byte, the first in the low half, 1 to 15
                      for -7 to 7 and 8 for what pads the last byte; or floats of 16 bits, the low
                      byte first
    kept     uint8    the bytes of all other tensors in order

`_levels` explains scales and codes. What is decoded may come from strangers: lengths are compared
before anything is allocated, so the result is at most sixteen times as large as what came.

Sources: Alistarh et al., "QSGD: Communication-Efficient SGD via Gradient Quantization and
Encoding", 2017, for stochastic rounding; scaling by the largest magnitude instead of the norm is
the variant that it uses in practice. IEEE 754-2019, section 3.6, for binary16, which is float16.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Final, Literal, NamedTuple, cast, get_args

import numpy as np
from numpy.typing import NDArray

from bb_codec_quantize._levels import (
    Per,
    To,
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
from bb_ir.params import MAX_HEADER_BYTES, Draft, Layout, ParameterSet
from bb_ir.types import Type
from bb_roles import Codec, Context, Environment
from bb_roles.limits import check_limits

__all__ = ["Quantize", "QuantizeConfig"]

Rounding = Literal["nearest", "stochastic"]

_CODEC: Final = "quantize/1"
_FLOATS: Final = ("float64", "float32", "float16", "bfloat16")
_TENSORS: Final = ("layout", "scales", "codes", "kept")


@dataclass(frozen=True)
class QuantizeConfig:
    """How values are rounded.

    Attributes:
        to: What a value becomes: `int8` or `int4`, on a linear scale; `float16`, with 11 bits of
            precision, or `bfloat16`, with 8, as near to small values as to large ones.
        per: `tensor` for one scale each, `channel` for one per index of the first axis where a
            tensor has two axes or more.
        rounding: `nearest` is at most half a step off. `stochastic` is less than a step off and
            unbiased: the mean over many draws is the value.
    """

    to: To = "int8"
    per: Per = "tensor"
    rounding: Rounding = "nearest"

    def __post_init__(self) -> None:
        check_limits(self, InvalidSetting)


class _Part(NamedTuple):
    """Where a tensor lies in an encoded set: `place` in the codes or the kept bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    place: slice
    #: Its scales; `None` for a tensor that is kept as it is.
    scales: slice | None


class Quantize(Codec):
    """Parameter sets in 16, 8 or 4 bits per value.

    It encodes parameter sets and nothing else: put a single tensor into one, as
    `ParameterSet.from_tensors({"x": x})`. Float tensors of any width are quantized; integers and
    bools go through unchanged.

    To integers, a step is the largest magnitude of a tensor (or channel) divided by 127 for 8 bits
    and by 7 for 4. Zeros stay zero (a negative zero loses its sign), and the largest magnitude of
    each group stays what it is. To floats, a step is 2**-10 (`float16`) or 2**-7 (`bfloat16`) of
    the power of two below a value. What comes back is what a cast gives, except that a group of
    large or tiny values does not overflow or vanish; of `float16`, values smaller than 2**-28 of
    the largest in their group have fewer bits.

    It has no state, and encoding and decoding change nothing.

    Args:
        config: A `QuantizeConfig`.
        env: Where it is being built; large results come from its pool.
    """

    Config: ClassVar[type] = QuantizeConfig

    def __init__(self, config: QuantizeConfig, env: Environment) -> None:
        super().__init__(config, env)
        self._config = config

    @classmethod
    def infer_types(
        cls, config: QuantizeConfig, op: str, inputs: tuple[Type, ...]
    ) -> Mapping[str, Type] | None:
        """Return the type of an encoded set, once that of the original is known."""
        if op != "Encode" or inputs[0].kind != "params" or inputs[0].items is None:
            return None
        tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
        for name, known in inputs[0].items:
            shape = tuple(length for length in known.shape or () if isinstance(length, int))
            if not known.dtype or known.shape is None or len(shape) != len(known.shape):
                return None
            tensors[name] = (known.dtype, shape)
        try:
            layout = Layout.of(tensors)
        except ParameterSetError:  # too large for any memory, so there is no such value
            return None
        parts = list(_parts(layout, config.to, config.per))
        return {"encoded": _encoded_layout(layout, parts, config).type}

    def encode(self, ctx: Context, value: Any) -> ParameterSet:
        """Return a set of a half, a quarter or an eighth of the bytes, for large sets of float32.

        Args:
            ctx: The call's context; stochastic rounding draws from its generator.
            value: A `ParameterSet`.

        Raises:
            NotParameters: It is something else.
            ValueNotFinite: A float tensor holds NaN or infinity.
        """
        params = _need_params(value, "encoded")
        to = self._config.to
        layout = _canonical(params.layout)
        parts = list(_parts(layout, to, self._config.per))
        draft = Draft(_encoded_layout(layout, parts, self._config), self.env.pool)
        draft["layout"][:] = np.frombuffer(_written(layout, self._config), np.uint8)
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
                write(tensor, found, to, rng, codes[part.place])
        return draft.freeze()

    def decode(self, ctx: Context, encoded: Any) -> ParameterSet:
        """Return a set with the names, order, shapes, dtypes and metadata of the original.

        It is laid out as this project lays sets out, also where the original came from elsewhere.

        Args:
            ctx: The call's context; nothing of it is used.
            encoded: What `encode` returned, of this or of another configuration.

        Raises:
            NotParameters: It is not a `ParameterSet`.
            EncodingDamaged: It was not made by this codec, or has been changed since.
        """
        params = _need_params(encoded, "decoded")
        _check_tensors(params)
        to, per, layout = _read(params["layout"].tobytes(), dict(params.layout.metadata))
        parts = list(_parts(layout, to, per))
        _check_lengths(params, layout, parts)
        with np.errstate(invalid="ignore"):  # a stranger's NaN; it is refused below
            scales = params["scales"].astype(np.float64)
        codes, kept = params["codes"], params["kept"]
        draft = Draft(layout, self.env.pool)
        for part in parts:
            tensor = draft[part.name]
            if part.scales is None:
                tensor.reshape(-1).view(np.uint8)[:] = _checked(kept[part.place], part)
            elif tensor.size:
                _check_scales(scales[part.scales], tensor.dtype, part)
                if not read(codes[part.place], scales[part.scales], to, tensor):
                    raise _damaged(f"tensor {part.name!r} has a code that is never written")
        return draft.freeze()


def _parts(layout: Layout, to: To, per: Per) -> Iterator[_Part]:
    """Say where each tensor lies; allocates nothing, whatever a layout claims."""
    scales = codes = kept = 0
    for name, dtype, shape in zip(layout.names, layout.dtypes, layout.shapes, strict=True):
        if dtype not in _FLOATS:
            nbytes = prod(shape) * _itemsize(dtype)
            yield _Part(name, dtype, shape, slice(kept, kept + nbytes), None)
            kept += nbytes
            continue
        groups, nbytes = groups_of(shape, per), code_bytes(shape, to)
        of = slice(scales, scales + groups)
        yield _Part(name, dtype, shape, slice(codes, codes + nbytes), of)
        scales, codes = scales + groups, codes + nbytes


def _itemsize(dtype: str) -> int:
    return np.dtype(dtype).itemsize


def _lengths(parts: list[_Part]) -> dict[str, int]:
    """Return the length of each tensor of an encoded set but `layout`."""
    return {
        "scales": max((p.scales.stop for p in parts if p.scales is not None), default=0),
        "codes": max((p.place.stop for p in parts if p.scales is not None), default=0),
        "kept": max((p.place.stop for p in parts if p.scales is None), default=0),
    }


def _scale_dtype(layout: Layout) -> str:
    return "float64" if "float64" in layout.dtypes else "float32"


def _encoded_layout(layout: Layout, parts: list[_Part], config: QuantizeConfig) -> Layout:
    lengths = {"layout": len(_written(layout, config)), **_lengths(parts)}
    dtypes = {"scales": _scale_dtype(layout)}
    return Layout.of(
        {name: (dtypes.get(name, "uint8"), (lengths[name],)) for name in _TENSORS},
        metadata=dict(layout.metadata),
    )


def _canonical(layout: Layout) -> Layout:
    """Return a layout as decoding makes it again; only one from elsewhere differs from that."""
    described = zip(layout.names, layout.dtypes, layout.shapes, strict=True)
    tensors = {name: (dtype, shape) for name, dtype, shape in described}
    return Layout.of(tensors, metadata=dict(layout.metadata))


def _written(layout: Layout, config: QuantizeConfig) -> bytes:
    """Return how a set was encoded and what it held; as long for any order of its tensors."""
    described = zip(layout.names, layout.dtypes, layout.shapes, strict=True)
    return _text(config.to, config.per, {name: [d, list(shape)] for name, d, shape in described})


def _text(to: object, per: object, tensors: object) -> bytes:
    told = {"codec": _CODEC, "to": to, "per": per, "tensors": tensors}
    return json.dumps(told, separators=(",", ":")).encode()


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


def _read(text: bytes, metadata: Mapping[str, str]) -> tuple[To, Per, Layout]:
    """Return what codes are, what shares a scale, and the original's layout; believe nothing."""
    if len(text) > MAX_HEADER_BYTES:
        raise _damaged(f"its layout has {len(text)} bytes")
    try:
        told: Any = json.loads(text)
        codec, to, per, tensors = (told[key] for key in ("codec", "to", "per", "tensors"))
        same = _text(to, per, tensors) == text
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise _damaged(f"its layout cannot be read: {type(error).__name__}") from error
    if codec != _CODEC or to not in get_args(To) or per not in get_args(Per):
        raise _damaged(f"its layout names codec {codec!r:.40}, to {to!r:.40}, per {per!r:.40}")
    if not same or not isinstance(tensors, dict):
        raise _damaged("its layout is spelled otherwise than it is written")
    entries = cast("dict[str, Any]", tensors)
    try:
        described = {name: _entry(entry) for name, entry in entries.items()}
        return cast("To", to), cast("Per", per), Layout.of(described, metadata=metadata)
    except (ParameterSetError, ValueError, TypeError) as error:
        raise _damaged(f"its layout cannot be read: {error!s:.200}") from error


def _entry(entry: Any) -> tuple[str, tuple[int, ...]]:
    """Return dtype and shape of one tensor as it was written."""
    dtype, shape = entry
    if type(dtype) is not str or any(type(length) is not int for length in shape):
        raise TypeError("a tensor is not described by its dtype and its shape")
    return dtype, tuple(shape)


def _check_tensors(params: ParameterSet) -> None:
    if set(params.names) != set(_TENSORS):
        raise _damaged(f"it has the tensors {', '.join(params.names)[:200] or 'none'}")
    for name, tensor in params.items():
        floats = ("float32", "float64") if name == "scales" else ("uint8",)
        if tensor.ndim != 1 or tensor.dtype.name not in floats:
            raise _damaged(f"its {name} are {tensor.dtype.name}{list(tensor.shape)}")


def _check_lengths(params: ParameterSet, layout: Layout, parts: list[_Part]) -> None:
    for name, length in _lengths(parts).items():
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
