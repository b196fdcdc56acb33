"""How many bytes values and envelopes take, from their types alone.

The rules are those of `bb_ir.values` and `bb_ir.wire`; a test builds real envelopes and compares.
What a type leaves open (an unknown dimension, a text, the fields of a record) is said in words and
never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from bb_ir.errors import BytesAndBrainsError
from bb_ir.params import Layout
from bb_ir.types import ONNX_DTYPES, Dim, Type
from bb_ir.wire import (
    ALIGNMENT,
    DEFAULT_LIMITS,
    GRANT_SIZE,
    INLINE_LIMIT,
    MAX_DIMS,
    PRELUDE_SIZE,
)

__all__ = [
    "METADATA",
    "Counters",
    "EdgeBytes",
    "Span",
    "edge_bytes",
    "known_bytes",
    "largest_payload",
    "symbols",
]


@dataclass(frozen=True, slots=True)
class Span:
    """A number of bytes between two bounds; exact where they are equal.

    Attributes:
        least: Never fewer.
        most: Never more; `None` when there is no bound.
    """

    least: int
    most: int | None

    @property
    def exact(self) -> int | None:
        """The number, when it is known."""
        return self.least if self.least == self.most else None

    def __add__(self, other: Span) -> Span:
        """Return the bounds of a sum."""
        open_ended = self.most is None or other.most is None
        most = None if open_ended else (self.most or 0) + (other.most or 0)
        return Span(self.least + other.least, most)

    def times(self, count: int) -> Span:
        """Return the bounds of `count` of these."""
        most = self.most if self.most is None and count else (self.most or 0) * count
        return Span(self.least * count, most)

    def __str__(self) -> str:
        if self.most is None:
            return f"at least {self.least:,}" if self.least else "?"
        return f"{self.least:,}" if self.least == self.most else f"{self.least:,}-{self.most:,}"


@dataclass(frozen=True, slots=True)
class EdgeBytes:
    """What one envelope of an edge weighs.

    The payload is exact wherever the types say all shapes. A header holds counters whose length
    grows with their value, so it has bounds, and so has the whole. A small value stands in the
    header; then the payload is 0.

    Attributes:
        values: The encoded values alone, without padding and framing.
        payload: Everything after the header: values longer than 4 KiB, padded.
        header: Prelude and header.
        envelope: All of it.
        formula: The bytes of the values where they depend on named or unknown dimensions.
        unknown: Why there is no figure: what the program leaves open.
    """

    values: Span
    payload: Span
    header: Span
    envelope: Span
    formula: str = ""
    unknown: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, str, str]:
        """Values, payload and envelope for people; what is not known at all is a `?`."""
        if self.unknown and not self.values.least:  # a bare header is no figure to show
            return self.formula or "?", "?", "?"
        return self.formula or str(self.values), str(self.payload), str(self.envelope)


_ITEM_BITS = {"bool": 8, "bfloat16": 16}
_SCALARS = {"int64": 8, "float64": 8, "bool": 1, "trigger": 0}
#: Fields of a record, as a protobuf `Value` with its tag.
_PLAIN = {
    "float64": Span(9, 9), "bool": Span(2, 2), "trigger": Span(2, 2), "int64": Span(9, 9),
}  # fmt: skip
_ZERO = Span(0, 0)
_OPEN = Span(0, None)
#: A program id of 16 bytes and an edge id of 8, with their tags.
_FIXED = 18 + 9
#: Room for the metadata that the header of a parameter set may hold.
METADATA = 1 << 16


@dataclass(frozen=True, slots=True)
class Counters:
    """What an envelope's header says besides its edge and its values.

    Attributes:
        incarnation: Of the sender, and of the frames that are waiting.
        message_id: Number of the message.
        remaining_ns: What is left of the deadline.
        peer: Bytes of the ids of peers that wait for an answer; 38 for Ed25519.
    """

    incarnation: int = 1
    message_id: int = 1
    remaining_ns: int = 1
    peer: int = 38


@dataclass(frozen=True, slots=True)
class _Value:
    """One value: its bytes, or what they depend on, or why they are unknown."""

    size: Span
    formula: str = ""
    why: str = ""
    dtype: str = ""
    shape: tuple[int, ...] = ()


def edge_bytes(
    ports: Sequence[tuple[str, Type]],
    *,
    answered: bool,
    answers: bool,
    deadline_ns: int,
    dims: Mapping[str, int],
    grants: int = 0,
) -> EdgeBytes:
    """Return what one envelope weighs.

    Args:
        ports: Names and types of the values.
        answered: Whether it carries the return address of the sending frame.
        answers: Whether it is sent to a return address.
        deadline_ns: The longest deadline it can carry.
        dims: Lengths of dimensions by name; those without a name go by `port[axis]`, several
            values of one edge by `port.0[axis]` and so on.
        grants: How many of its return addresses carry a grant.
    """
    values = _values(ports, dims)
    low, fills_low, payload_low = _place(values, [v.size.least for v in values])
    unknown = tuple(v.why for v in values if v.why)
    total = sum((v.size for v in values), _ZERO)
    hops = answered + answers
    fewest = PRELUDE_SIZE + _own(Counters(peer=34), hops, grants)
    if unknown:
        # How a value of unknown length is carried is unknown, and with it where small ones stand.
        large = [v.size.least for v in values if not v.why and v.size.least > INLINE_LIMIT]
        payload = Span(sum(map(_padded, large)), None)
        header = Span(fewest + 2 * len(values), None)
        return EdgeBytes(total, payload, header, header + payload, _formula(values), unknown)
    high, fills_high, payload_high = _place(values, [v.size.most or 0 for v in values])
    if low != high:
        why = ("whether a value stands in the header or in the payload depends on its numbers",)
        return EdgeBytes(total, _OPEN, Span(fewest, None), Span(fewest, None), "", why)
    most = Counters(2**64 - 1, 2**64 - 1, max(deadline_ns, 1), 44)
    header = Span(fewest + fills_low, PRELUDE_SIZE + _own(most, hops, grants) + fills_high)
    payload = Span(payload_low, payload_high)
    return EdgeBytes(total, payload, header, header + payload)


def known_bytes(
    ports: Sequence[tuple[str, Type]],
    counters: Counters,
    *,
    hops: int,
    dims: Mapping[str, int],
    grants: int = 0,
) -> Span | None:
    """Return what one envelope weighs whose counters are known; `None` where its values are not.

    Args:
        ports: Names and types of the values.
        counters: What its header says.
        hops: How many return addresses it carries.
        dims: Lengths of dimensions by name.
        grants: How many of them carry a grant.
    """
    values = _values(ports, dims)
    if any(v.why for v in values):
        return None
    own = PRELUDE_SIZE + _own(counters, hops, grants)
    _, fills_low, payload_low = _place(values, [v.size.least for v in values])
    _, fills_high, payload_high = _place(values, [v.size.most or 0 for v in values])
    return Span(own + fills_low + payload_low, own + fills_high + payload_high)


def largest_payload(ports: Sequence[tuple[str, Type]]) -> int | None:
    """Return the longest payload that types allow; `None` where they allow any.

    Which values stand in the header is the sender's choice, so all of them count here. Parameter
    sets get room for metadata besides.
    """
    values = _values(ports, {})
    if any(v.why for v in values):
        return None
    room = sum(METADATA for _, type_ in ports if type_.kind == "params")
    return room + sum(_padded(v.size.most or 0) for v in values)


def symbols(ports: Sequence[tuple[str, Type]]) -> set[str]:
    """Return the names of all dimensions that the types leave open."""
    found: set[str] = set()
    for name, (_, type_) in zip(_labels(ports), ports, strict=True):
        found |= _symbols(name, type_)
    return found


def _symbols(name: str, type_: Type) -> set[str]:
    shape = enumerate(type_.shape or ())
    own = {_symbol(name, axis, dim) for axis, dim in shape if not isinstance(dim, int)}
    return own.union(*(_symbols(item, inner) for item, inner in type_.items or ()))


# --- values ----------------------------------------------------------------------------------


def _values(ports: Sequence[tuple[str, Type]], dims: Mapping[str, int]) -> list[_Value]:
    return [_value(name, t, dims) for name, (_, t) in zip(_labels(ports), ports, strict=True)]


def _labels(ports: Sequence[tuple[str, Type]]) -> list[str]:
    """Return short names: without the number that makes a value's name unique, if that is clear."""
    short = [_plain_name(name) for name, _ in ports]
    return [n if short.count(n) == 1 else f"{n}.{i}" for i, n in enumerate(short)]


def _value(name: str, type_: Type, dims: Mapping[str, int]) -> _Value:
    """Return what a value takes, encoded."""
    if type_.kind in _SCALARS:
        size = _SCALARS[type_.kind]
        return _Value(Span(size, size))
    if type_.kind == "tensor":
        return _tensor(name, type_, dims)
    if type_.kind == "params":
        return _params(name, type_, dims)
    if type_.kind == "record":
        return _record(name, type_)
    reasons = {
        "string": f"{name} is a text of any length",
        "bytes": f"{name} is bytes of any length",
        "peers": f"{name} is a list of any number of peers",
        "list": f"{name} is a list of any length",
    }
    why = reasons.get(type_.kind, f"the type of {name} is not known, only that it is {type_}")
    return _Value(_OPEN, why=why)


def _tensor(name: str, type_: Type, dims: Mapping[str, int]) -> _Value:
    bits = _bits(type_.dtype)
    if not bits:
        return _Value(_OPEN, why=f"the element type of {name} is not known")
    if type_.shape is None:
        return _Value(_OPEN, why=f"the shape of {name} is not known")
    if len(type_.shape) > MAX_DIMS:
        return _Value(_OPEN, why=f"{name} has more dimensions than can be sent")
    known, open_ = _resolve(name, type_.shape, dims)
    size = prod(known) * bits // 8
    if open_:
        factor = f"{size:,}*" if size != 1 else ""
        which = " and ".join(dict.fromkeys(open_))
        why = f"{name} has any length along {which}"
        return _Value(_OPEN, formula=factor + "*".join(open_), why=why)
    return _Value(Span(size, size), dtype=type_.dtype, shape=tuple(known))


def _bits(dtype: str) -> int:
    digits = "".join(c for c in dtype if c.isdigit())
    return _ITEM_BITS.get(dtype) or int(digits or 0)


def _resolve(
    name: str, shape: tuple[Dim, ...], dims: Mapping[str, int]
) -> tuple[list[int], list[str]]:
    """Split a shape into lengths that are known and names of those that are not."""
    known: list[int] = []
    open_: list[str] = []
    for axis, dim in enumerate(shape):
        if isinstance(dim, int):
            known.append(dim)
            continue
        symbol = _symbol(name, axis, dim)
        if symbol in dims:
            known.append(dims[symbol])
        else:
            open_.append(symbol)
    return known, open_


def _symbol(name: str, axis: int, dim: Dim) -> str:
    return dim if isinstance(dim, str) else f"{name}[{axis}]"


def _plain_name(name: str) -> str:
    """Return a value's name without the number that makes it unique."""
    base, dot, number = name.rpartition(".")
    return base if dot and number.isdecimal() else name


def _params(name: str, type_: Type, dims: Mapping[str, int]) -> _Value:
    """Return the image of a parameter set, as `ParameterSet` lays one out, without metadata."""
    if type_.items is None:
        return _Value(_OPEN, why=f"the tensors of the parameter set {name} are not known")
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    for entry, tensor in type_.items:
        known, open_ = _resolve(entry, tensor.shape or (), dims)
        if tensor.shape is None or not tensor.dtype or open_:
            return _Value(_OPEN, why=f"the shape of {entry} in {name} is not known")
        tensors[entry] = (tensor.dtype, tuple(known))
    try:
        size = Layout.of(tensors).nbytes
    except BytesAndBrainsError as error:
        return _Value(_OPEN, why=f"{name} is no parameter set: {error.found}")
    return _Value(Span(size, size))


def _record(name: str, type_: Type) -> _Value:
    if type_.items is None:
        return _Value(_OPEN, why=f"the fields of the record {name} are not known")
    size, why = _plain(name, type_)
    return _Value(size, why=why)


def _plain(name: str, type_: Type) -> tuple[Span, str]:
    """Return the bytes of a protobuf `Value`, or why they are unknown."""
    if type_.kind in _PLAIN:
        return _PLAIN[type_.kind], ""
    if type_.kind != "record" or type_.items is None:
        return _OPEN, f"the length of {name}, of type {type_}, is not known"
    fields = _ZERO
    for field, inner in type_.items:
        value, why = _plain(f"{name}.{field}", inner)
        if why:
            return _OPEN, why
        label = _message(Span(len(field.encode()), len(field.encode())))
        fields += _message(label + _message(value))
    return _message(fields), ""


# --- envelopes -------------------------------------------------------------------------------


def _place(values: Sequence[_Value], sizes: Sequence[int]) -> tuple[tuple[bool, ...], int, int]:
    """Say of each value whether it stands in the header, and what header and payload grow by."""
    budget = DEFAULT_LIMITS.header // 2
    inline: list[bool] = []
    header = payload = segments = 0
    for value, size in zip(values, sizes, strict=True):
        small = size <= INLINE_LIMIT and size <= budget
        inline.append(small)
        if small:
            budget -= size
            fill = _data(size)
        else:
            fill = _number(segments) + _number(size)
            segments += 1
            payload += _padded(size)
        if value.dtype:
            fill += _number(ONNX_DTYPES[value.dtype])
        fill += _data(sum(map(_varint, value.shape)))
        header += 1 + _varint(fill) + fill
    return tuple(inline), header, payload


def _padded(size: int) -> int:
    return size + -size % ALIGNMENT


def _own(counters: Counters, hops: int, grants: int) -> int:
    """Return the bytes of a header without its values."""
    hop = 9 + _number(counters.incarnation) + _data(counters.peer)
    granted = hop + _data(GRANT_SIZE)
    numbers = (counters.incarnation, counters.message_id, counters.remaining_ns)
    plain = (hops - grants) * (1 + _varint(hop) + hop)
    return _FIXED + sum(map(_number, numbers)) + plain + grants * (1 + _varint(granted) + granted)


def _number(value: int) -> int:
    """Return the bytes of a number with its tag; a 0 is not written."""
    return 1 + _varint(value) if value else 0


def _data(size: int) -> int:
    """Return the bytes of a field of `size` bytes; an empty one is not written."""
    return 1 + _varint(size) + size if size else 0


def _message(size: Span) -> Span:
    """Return the bytes of a message in a field; it is written even if it is empty."""
    low, high = size.least, size.most or 0
    return Span(1 + _varint(low) + low, 1 + _varint(high) + high)


def _varint(value: int) -> int:
    return max(1, (value.bit_length() + 6) // 7)


def _formula(values: Sequence[_Value]) -> str:
    """Return the sum of the values' bytes, when it depends on dimensions alone."""
    if any(v.why and not v.formula for v in values):
        return ""
    fixed = sum(v.size.least for v in values if not v.why)
    terms = [v.formula for v in values if v.formula]
    return " + ".join([*terms, f"{fixed:,}"] if fixed else terms)
