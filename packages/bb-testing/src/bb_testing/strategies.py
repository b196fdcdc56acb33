"""Hypothesis strategies for what components are given: tensors, parameters, peers, envelopes.

Every argument has a default; what is left out is drawn. A strategy in the place of a value is
drawn from: `tensors("float32", (3, 2))` and `tensors(dtypes(), st.just((3, 2)))` both do.

Nothing here knows a component. What is drawn is small: sizes are found out by fuzzing and
measuring, mistakes by many small cases.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bb_ir.values import Encoded
from bb_ir.wire import (
    DEFAULT_LIMITS,
    FLAG_RETRY,
    PRELUDE_SIZE,
    Ack,
    Control,
    EnvelopeRefused,
    Failed,
    Hop,
    Later,
    Leaving,
    Refused,
    Stale,
    build_envelope,
    pack_prelude,
    read_prelude,
)
from bb_roles import Batches
from bb_testing.context import peer_id

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tensor = NDArray[Any]

T = TypeVar("T")

__all__ = [
    "DTYPES", "FLOATS", "batches", "damaged", "dtypes", "envelopes", "messages", "metrics", "names",
    "parameter_sets", "peer_ids", "peers", "plain_data", "shapes", "tensors",
]  # fmt: skip

#: Element types that travel, by name.
FLOATS: Final = ("float32", "float64", "float16", "bfloat16")
DTYPES: Final = (
    *FLOATS, "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool",
)  # fmt: skip

#: Where bytes are damaged: at which share of them, how many go, and what comes instead.
Places = Sequence[tuple[float, int, bytes]]

_UINT64: Final = st.integers(0, 2**64 - 1)


# Tensors


def dtypes(*, floats: bool = False) -> st.SearchStrategy[str]:
    """Return a strategy for names of element types, simple ones first.

    Args:
        floats: Whether to give floats only.
    """
    return st.sampled_from(FLOATS if floats else DTYPES)


def shapes(
    *, min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 4
) -> st.SearchStrategy[tuple[int, ...]]:
    """Return a strategy for shapes: scalars and tensors without elements among them."""
    return hnp.array_shapes(
        min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side
    )


def tensors(
    dtype: str | st.SearchStrategy[str] | None = None,
    shape: tuple[int, ...] | st.SearchStrategy[tuple[int, ...]] | None = None,
    *,
    finite: bool = True,
    magnitude: float | None = None,
) -> st.SearchStrategy[Tensor]:
    """Return a strategy for arrays.

    Args:
        dtype: Name of the element type, such as `"bfloat16"`; any of `DTYPES` when left out.
        shape: Their shape; up to three axes of up to four elements when left out.
        finite: Whether floats are finite; else every bit pattern is drawn, NaN of all kinds too.
        magnitude: Largest magnitude of finite floats; the largest of their type when left out.
    """
    if magnitude is not None and not finite:
        raise ValueError("magnitude is for finite floats: give finite=True or leave it out")
    kinds = dtypes() if dtype is None else _drawn(dtype)
    sizes = shapes() if shape is None else _drawn(shape)
    one = _finite if finite else _any_bits
    return st.tuples(kinds, sizes).flatmap(lambda both: one(*both, magnitude))


def _any_bits(
    dtype: str, shape: tuple[int, ...], _magnitude: float | None
) -> st.SearchStrategy[Tensor]:
    kind = _dtype(dtype)
    if dtype not in FLOATS:
        return hnp.arrays(kind, shape)
    size = int(np.prod(shape)) * kind.itemsize
    raw = st.binary(min_size=size, max_size=size).map(
        lambda data: np.frombuffer(bytearray(data), kind).reshape(shape)
    )
    # Most patterns of bits are ordinary numbers; these are those that are special.
    special = st.sampled_from([np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0])
    return raw | hnp.arrays(np.float32, shape, elements=special).map(lambda a: a.astype(kind))


def _finite(
    dtype: str, shape: tuple[int, ...], magnitude: float | None
) -> st.SearchStrategy[Tensor]:
    kind = _dtype(dtype)
    if dtype not in FLOATS:
        return hnp.arrays(kind, shape)
    most = _at_most(kind, magnitude)
    # bfloat16 is no type of numpy's own: its values are those of float32 with fewer digits.
    width = 32 if dtype == "bfloat16" else 8 * kind.itemsize
    elements = st.floats(-most, most, width=cast("Any", width))
    wide: Any = np.float32 if dtype == "bfloat16" else kind
    return hnp.arrays(wide, shape, elements=elements).map(lambda array: array.astype(kind))


def _dtype(name: str) -> np.dtype[Any]:
    if name != "bfloat16":
        return np.dtype(name)
    import ml_dtypes

    kind: Any = ml_dtypes.bfloat16
    found: np.dtype[Any] = np.dtype(kind)
    return found


def _at_most(kind: np.dtype[Any], magnitude: float | None) -> float:
    """Return the largest number of a type that is within a magnitude."""
    largest = 2.0**127 * (2 - 2.0**-7) if kind.name == "bfloat16" else float(np.finfo(kind).max)
    if magnitude is None or magnitude >= largest:
        return largest
    found: Any = np.asarray(magnitude).astype(kind)
    return float(found if found <= magnitude else np.nextafter(found, np.zeros_like(found)))


# Parameter sets, metrics, batches


def names(*, free: bool = False) -> st.SearchStrategy[str]:
    """Return a strategy for names of tensors, such as types can spell.

    Args:
        free: Whether to give any text that a parameter set can hold, spaces and brackets too.
    """
    if free:
        texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
        return texts.filter(lambda name: name != "__metadata__")
    letters = st.characters(exclude_categories=["C", "Z"], exclude_characters="()[],:")
    return st.text(letters, min_size=1, max_size=8)


def parameter_sets(
    *,
    like: ParameterSet | None = None,
    dtype: str | st.SearchStrategy[str] | None = None,
    min_tensors: int = 0,
    max_tensors: int = 4,
    finite: bool = True,
    magnitude: float | None = None,
    free_names: bool = False,
) -> st.SearchStrategy[ParameterSet]:
    """Return a strategy for parameter sets.

    Args:
        like: Give sets of this one's layout, as those of one round are; the arguments for names
            and dtypes are ignored then.
        dtype: Element type of all tensors, or a strategy; each its own when left out.
        min_tensors: Fewest tensors in a set.
        max_tensors: Most tensors in a set.
        finite: As in `tensors`.
        magnitude: As in `tensors`.
        free_names: As `free` in `names`.
    """
    if like is not None:
        arrays = (
            tensors(array.dtype.name, array.shape, finite=finite, magnitude=magnitude)
            for _, array in like.items()
        )
        known, metadata = like.names, dict(like.layout.metadata)
        # The order of names is part of a layout, and hypothesis may shuffle that of a dictionary.
        return st.tuples(*arrays).map(
            lambda found: ParameterSet.from_tensors(
                dict(zip(known, found, strict=True)), metadata=metadata
            )
        )
    one = tensors(dtype, finite=finite, magnitude=magnitude)
    called = names(free=free_names)
    several = st.dictionaries(called, one, min_size=min_tensors, max_size=max_tensors)
    return several.map(ParameterSet.from_tensors)


def metrics(
    *, max_examples: int = 1000, finite: bool = True, max_more: int = 2
) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for metrics of an update: `examples`, `loss`, and perhaps others.

    Args:
        max_examples: Largest number of examples; the smallest is 1.
        finite: Whether floats are finite.
        max_more: Most metrics beside those two.
    """
    floats = st.floats(allow_nan=not finite, allow_infinity=not finite)
    losses = st.floats(0, 1e6) if finite else floats
    more = st.dictionaries(st.sampled_from(["accuracy", "f1", "norm"]), floats, max_size=max_more)
    own = st.fixed_dictionaries({"examples": st.integers(1, max_examples), "loss": losses})
    return st.tuples(own, more).map(lambda both: {**both[1], **both[0]})


def batches(
    *,
    inputs: tuple[int, ...] = (3,),
    classes: int = 4,
    dtype: str = "float32",
    max_examples: int = 12,
    magnitude: float = 100.0,
) -> st.SearchStrategy[Batches]:
    """Return a strategy for batches of one dataset with classes for targets (int64).

    Args:
        inputs: Shape of one example.
        classes: How many classes there are.
        dtype: Element type of the inputs.
        max_examples: Most examples; one at least, in batches of one size but for the last.
        magnitude: Largest magnitude of the inputs, for floats.
    """

    def whole(count: int) -> st.SearchStrategy[Batches]:
        return st.builds(
            _batches,
            tensors(dtype, (count, *inputs), magnitude=magnitude),
            hnp.arrays(np.int64, count, elements=st.integers(0, classes - 1)),
            st.integers(1, count),
        )

    return st.integers(1, max_examples).flatmap(whole)


def _batches(x: Tensor, y: Tensor, size: int) -> Batches:
    starts = range(0, len(x), size)
    return Batches(len(x), lambda: ((x[at : at + size], y[at : at + size]) for at in starts))


# Peers and plain data


def peer_ids(*, count: int = 8) -> st.SearchStrategy[PeerId]:
    """Return a strategy for the ids of `count` test peers: those that `peer_id` gives."""
    return st.integers(0, count - 1).map(peer_id)


def peers(*, min_size: int = 0, max_size: int = 8) -> st.SearchStrategy[list[PeerId]]:
    """Return a strategy for lists of different peers, in any order."""
    return st.lists(peer_ids(count=max_size), min_size=min_size, max_size=max_size, unique=True)


def plain_data(*, max_leaves: int = 20) -> st.SearchStrategy[Any]:
    """Return a strategy for what a `record` of plain data holds: numbers, texts, lists, dicts."""
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    whole = st.integers(-(2**63), 2**63 - 1)
    floats = st.floats(allow_nan=False)
    leaves = st.none() | st.booleans() | whole | floats | texts | st.binary(max_size=9)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=max_leaves,
    )


# Envelopes


def messages(*, control: bool | None = None) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for the arguments of `bb_ir.wire.build_envelope`.

    Args:
        control: Whether they are control messages, which carry no values; either when left out.
    """
    word = st.fixed_dictionaries(
        {
            "program": st.binary(min_size=16, max_size=16),
            "edge": _UINT64,
            "incarnation": _UINT64,
            "message_id": _UINT64,
            "remaining_ns": st.none() | st.integers(1, 2**64 - 1),
            "in_reply_to": _UINT64,
            "flags": st.sampled_from([0, FLAG_RETRY]),
        }
    )
    values = st.fixed_dictionaries(
        {"chain": st.lists(_hops(), max_size=3), "fills": st.lists(_fills(), max_size=5)}
    )
    word_of_one = st.fixed_dictionaries({"control": _controls()})
    kinds = {None: values | word_of_one, True: word_of_one, False: values}
    return st.tuples(word, kinds[control]).map(lambda both: {**both[0], **both[1]})


def envelopes(*, control: bool | None = None) -> st.SearchStrategy[bytes]:
    """Return a strategy for whole envelopes that are as they should be: head and payload.

    Args:
        control: As in `messages`.
    """
    return messages(control=control).map(lambda message: build_envelope(**message).to_bytes())


def damaged(
    data: st.SearchStrategy[bytes], *, mend: bool | None = None
) -> st.SearchStrategy[bytes]:
    """Return a strategy for bytes after an accident: changed, cut, lengthened in a few places.

    Args:
        data: What the bytes were before.
        mend: Whether the prelude of an envelope is made to fit its header again, so that the
            damage is not found by the checksum; either when left out. Other bytes are left alone.
    """
    places = st.lists(
        st.tuples(
            st.floats(0, 1),
            st.sampled_from([0, 1, 8, 64, 1 << 20]),
            st.binary(max_size=9) | st.just(b"\xff" * 8),
        ),
        min_size=1,
        max_size=3,
    )
    mending = st.booleans() if mend is None else st.just(value=mend)

    def broken(drawn: tuple[bytes, Places, bool]) -> bytes:
        whole, where, mended = drawn
        found = _broken(whole, where)
        return _mended(whole, found) if mended else found

    return st.tuples(data, places, mending).map(broken)


def _broken(data: bytes, places: Places) -> bytes:
    found = bytearray(data)
    for where, length, instead in places:
        at = round(where * len(found))
        found[at : at + length] = instead
    return bytes(found)


def _mended(whole: bytes, data: bytes) -> bytes:
    """Return an envelope whose prelude says what follows it; other bytes as they are."""
    try:
        prelude = read_prelude(whole, DEFAULT_LIMITS)
    except EnvelopeRefused:
        return data
    header = data[PRELUDE_SIZE : PRELUDE_SIZE + prelude.header_length]
    own = prelude._replace(header_length=len(header), header_crc=zlib.crc32(header))
    return pack_prelude(own) + data[PRELUDE_SIZE:]


def _hops() -> st.SearchStrategy[Hop]:
    grants = st.sampled_from([b"", bytes(16), b"g" * 16])
    return st.builds(Hop, _UINT64, _UINT64, st.binary(max_size=64), grants)


def _fills() -> st.SearchStrategy[Encoded]:
    # About the sizes where a value is inline or a segment, and padded or not.
    sizes = st.sampled_from([0, 1, 63, 64, 65, 4095, 4096, 4097, 9000])
    return st.builds(
        Encoded,
        st.tuples(sizes, st.integers(0, 255)).map(lambda both: bytes([both[1]]) * both[0]),
        st.integers(0, 2**32 - 1),
        st.lists(_UINT64, max_size=8).map(tuple),
    )


def _controls() -> st.SearchStrategy[Control]:
    reasons = st.sampled_from(["timeout", "quota", "ValueError"])
    grants = st.sampled_from([b"", b"g" * 16])
    return st.one_of(
        st.builds(Ack, _UINT64, _UINT64),
        st.builds(Stale, _UINT64),
        st.builds(Later, _UINT64),
        st.builds(Refused, reasons, _UINT64, _UINT64),
        st.builds(Failed, reasons, _UINT64, _UINT64, _UINT64, grants),
        st.builds(Leaving),
    )


def _drawn(value: T | st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    if isinstance(value, st.SearchStrategy):
        return cast("st.SearchStrategy[T]", value)
    return st.just(value)
