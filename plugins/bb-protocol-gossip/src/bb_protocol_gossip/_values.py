"""Values as one vector of float64 each: a number, a tensor or a parameter set.

Sums are kept in float64 whatever the values' own dtypes are. What travels has the values' own
dtypes; `Form.pack` rounds to them, and `Form.unpack` gives the same vector on every Node, so that
what one adds is what the other takes off.

This file knows no peers and no weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bb_ir.buffers import BufferPool
from bb_ir.params import Draft, Layout, ParameterSet
from bb_protocol_gossip.errors import NotFinite, ValueMismatch

__all__ = ["Form", "Part", "Vector", "form_of"]

Vector = NDArray[np.float64]
Kind = Literal["number", "tensor", "params"]

#: Whole numbers below it are float64 exactly.
_EXACT: Final = 1 << 53
_KINDS: Final = ("number", "tensor", "params")
_AVERAGED: Final = "numbers, tensors and parameter sets of floats or integers"


class Part(NamedTuple):
    """One tensor of a value; a number and a tensor have one without a name."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        sizes = ",".join(map(str, self.shape))
        return f"{self.dtype}[{sizes}]"


@dataclass(frozen=True)
class Form:
    """What all values of a Node look like.

    Attributes:
        kind: `number`, `tensor` or `params`.
        parts: Its tensors, in order.
    """

    kind: Kind
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return sum(math.prod(part.shape) for part in self.parts)

    def unpack(self, value: object, whose: str) -> Vector:
        """Return a value of this form as a vector, float64 (size,).

        Raises:
            ValueMismatch: It has another form.
            NotFinite: It holds NaN or an infinity.
        """
        found = form_of(value, whose)
        if found.kind != self.kind or set(found.parts) != set(self.parts):
            raise ValueMismatch(
                f"the value {whose} {self._difference(found)}",
                expected="the same kind, names, dtypes and shapes on all peers",
                fix="let all peers average the same, such as models with equal layers",
            )
        vector = np.empty(self.size, np.float64)
        for part, place, array in self._places(value):
            np.copyto(vector[place], array.reshape(-1), casting="unsafe")
            if not np.isfinite(vector[place]).all():
                named = f" in {part.name!r}" if part.name else ""
                raise NotFinite(
                    f"the value {whose} holds NaN or an infinity{named}",
                    expected="finite numbers",
                    fix="nothing was mixed in; see why that peer's value has diverged",
                )
        return vector

    def pack(self, vector: Vector, pool: BufferPool | None = None) -> Any:
        """Return a vector as a value, each element rounded to the dtype of its tensor."""
        if self.kind == "number":
            return float(vector[0])
        if self.kind == "tensor":
            (part,) = self.parts
            return _rounded(vector, part.dtype).reshape(part.shape)
        draft = Draft(Layout.of({p.name: (p.dtype, p.shape) for p in self.parts}), pool)
        start = 0
        for part in self.parts:
            end = start + math.prod(part.shape)
            draft[part.name].reshape(-1)[:] = _rounded(vector[start:end], part.dtype)
            start = end
        return draft.freeze()

    def to_data(self) -> list[Any]:
        """Return the form as plain data."""
        return [self.kind, [[p.name, p.dtype, list(p.shape)] for p in self.parts]]

    @classmethod
    def from_data(cls, data: Any) -> Form:
        """Read what `to_data` returned."""
        kind, rows = data
        if kind not in _KINDS:
            raise ValueError(f"{kind!r} is no kind of value")
        parts = (Part(str(name), _dtype(dtype).name, tuple(shape)) for name, dtype, shape in rows)
        return cls(kind, tuple(parts))

    def _places(self, value: Any) -> Iterator[tuple[Part, slice, NDArray[Any]]]:
        start = 0
        for part in self.parts:
            end = start + math.prod(part.shape)
            array = value[part.name] if self.kind == "params" else np.asarray(value)
            yield part, slice(start, end), array
            start = end

    def _difference(self, found: Form) -> str:
        """Say what is different in another form."""
        if found.kind != self.kind:
            return f"is a {_said(found.kind)}, and this Node holds a {_said(self.kind)}"
        ours: Mapping[str, Part] = {part.name: part for part in self.parts}
        theirs: Mapping[str, Part] = {part.name: part for part in found.parts}
        for name in (*ours, *theirs):
            if ours.get(name) == theirs.get(name):
                continue
            label = f"{name!r} as " if name else ""
            here, there = ours.get(name, "nothing"), theirs.get(name, "nothing")
            return f"has {label}{there}, and this Node has {label}{here}"
        raise AssertionError


def form_of(value: object, whose: str) -> Form:
    """Return the form of a value.

    Raises:
        ValueMismatch: It is nothing that can be averaged.
    """
    if isinstance(value, ParameterSet):
        layout = value.layout
        rows = zip(layout.names, layout.dtypes, layout.shapes, strict=True)
        return Form("params", tuple(Part(*row) for row in rows))
    if isinstance(value, np.ndarray):
        dtype = value.dtype.name
        if "float" in dtype or "int" in dtype:
            return Form("tensor", (Part("", dtype, value.shape),))
        raise _no_value(f"is a tensor of {dtype}", whose)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Form("number", (Part("", "float64", ()),))
    raise _no_value(f"is a {type(value).__name__}", whose)


def _no_value(what: str, whose: str) -> ValueMismatch:
    return ValueMismatch(f"the value {whose} {what}", expected=_AVERAGED)


def _said(kind: Kind) -> str:
    return "parameter set" if kind == "params" else kind


def _rounded(vector: Vector, dtype: str) -> NDArray[Any]:
    """Return a fresh array of a dtype; integers are rounded half to even, and stay in range."""
    if "float" in dtype:
        with np.errstate(over="ignore"):
            return vector.astype(_dtype(dtype))
    whole = np.rint(vector)
    if dtype == "bool":
        return whole > 0
    bounds = np.iinfo(dtype)
    # The largest float64 that an int64 holds is less than the largest int64.
    most = float(bounds.max) if bounds.max < _EXACT else math.nextafter(float(bounds.max), 0)
    return np.clip(whole, float(bounds.min), most).astype(dtype)


def _dtype(name: str) -> Any:
    if name != "bfloat16":
        return np.dtype(name)
    return Draft(Layout.of({"x": (name, (0,))}))["x"].dtype  # as parameter sets know it
