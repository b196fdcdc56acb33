"""Top-k sparsification, with error feedback in an op of its own.

Of all numbers of an update the `k` largest magnitudes are sent, and where they stand. `encode`
does no more, for the contract says that it reads. `compress` remembers:

    given  = residual + update
    sent   = the k largest entries of `given`
    residual = given - sent

so what is left out is not lost but late, and over any number of rounds the sum of what was sent
plus the residual is the sum of the updates. It is so exactly as long as no sum has to be rounded;
else each round adds at most one rounding of `given` (2^-24 of it for float32, 2^-53 for float64),
and one more where a float16 or bfloat16 entry exceeds the largest number of its dtype.

When a frame fails, the Node says so to its components (`abandon`). If no other frame has compressed
since, the residual is then again what it was before the frame, bit for bit, and the update counts
as never given. Only the last frame is remembered like that: after another one has been through,
what it sent already holds a part of the earlier update, and nothing is undone. A Node does not
learn whether what it has sent was used, so it is counted as delivered.

Equal magnitudes: the lower index is sent. So results depend on the numbers alone.

Sources: Aji and Heafield, "Sparse Communication for Distributed Gradient Descent", EMNLP 2017,
for dropping small entries by magnitude, in the whole set or per tensor, and keeping them; Stich,
Cordonnier and Jaggi, "Sparsified SGD with Memory", NeurIPS 2018, algorithm 1, for the recurrence
above and its convergence.
"""

from __future__ import annotations

import ast
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bb_codec_topk._largest import largest, tiles
from bb_codec_topk._ops import OPS
from bb_codec_topk._sparse import (
    Part,
    canonical,
    check_set,
    checked_bools,
    damaged,
    encoded_layout,
    float_count,
    parts_of,
    read_layout_text,
    wide_dtype,
    written,
)
from bb_codec_topk.errors import (
    InvalidSetting,
    NotAnUpdate,
    ResidualUnfit,
    RoundNotSaved,
    SparseTooLarge,
    UpdateNotFinite,
    UpdateReshaped,
)
from bb_ir.errors import ParameterSetError
from bb_ir.params import Draft, Layout, ParameterSet
from bb_ir.types import Type
from bb_roles import Codec, Context, Environment, State
from bb_roles.limits import Limits, check_limits

__all__ = ["TopK", "TopKConfig"]

Per = Literal["set", "tensor"]
Vector = NDArray[Any]

_LARGEST: Final = 1 << 40
#: The largest finite number of each dtype that may be narrower than the sums.
_TOPS: Final = {"float32": 3.4028234663852886e38, "bfloat16": 3.3895313892515355e38,
                "float16": 65504.0}  # fmt: skip


@dataclass(frozen=True)
class TopKConfig:
    """How many entries are sent.

    Attributes:
        share: Share of the numbers that is sent; rounded to a whole number of entries, and at least
            one.
        k: Number of entries instead of a share; all where there are fewer.
        per: `set` chooses among all tensors together, `tensor` within each one, so that none is
            starved; `share` and `k` are then of each tensor.
        max_bytes: Largest set that is encoded, or decoded to.
    """

    share: Annotated[float, Limits(above=0, most=1)] = 0.01
    k: Annotated[int | None, Limits(1, _LARGEST, unit="entries")] = None
    per: Per = "set"
    max_bytes: Annotated[int, Limits(1, _LARGEST, unit="bytes")] = 1 << 30

    def __post_init__(self) -> None:
        check_limits(self, InvalidSetting)


class _Kept(NamedTuple):
    """What was left out so far, of tensors like these."""

    layout: Layout
    residual: Vector


class _Last(NamedTuple):
    """The last frame that compressed, and what was kept before it."""

    round: Hashable
    before: _Kept | None


class TopK(Codec):
    """The largest entries of an update, and where they stand.

    It is meant for updates, which are small where nothing was learned; parameters themselves would
    lose most of their values. Float tensors of any width are thinned out; integers and bools go
    through unchanged. The sum of a float16 or bfloat16 entry is rounded to its dtype to be sent,
    and the rest of it is kept as well.

    `encode` and `decode` are those of every codec and change nothing. `compress` is encoding with
    error feedback, and what it keeps is the state of the component: two numbers for each of the
    update, what is left out now and what was before the last frame.

    Args:
        config: A `TopKConfig`.
        env: Where it is being built; large results come from its pool.
    """

    Config: ClassVar[type] = TopKConfig
    ops = OPS

    def __init__(self, config: TopKConfig, env: Environment) -> None:
        super().__init__(config, env)
        self._config = config
        self._kept: _Kept | None = None
        self._last: _Last | None = None

    @classmethod
    def infer_types(
        cls, config: TopKConfig, op: str, inputs: tuple[Type, ...]
    ) -> Mapping[str, Type] | None:
        """Return the type of an encoded set, once that of the original is known."""
        if op not in ("Encode", "Compress") or inputs[0].kind != "params":
            return None
        tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
        for name, known in inputs[0].items or ():
            shape = tuple(length for length in known.shape or () if isinstance(length, int))
            if not known.dtype or known.shape is None or len(shape) != len(known.shape):
                return None
            tensors[name] = (known.dtype, shape)
        if inputs[0].items is None:
            return None
        try:
            layout = Layout.of(tensors)
        except ParameterSetError:  # too large for any memory, so there is no such value
            return None
        parts = parts_of(layout)
        entries = sum(count for _, count in _groups(parts, config))
        return {"encoded": encoded_layout(layout, parts, entries).type}

    def encode(self, ctx: Context, value: Any) -> ParameterSet:
        """Return the largest entries of a value and forget the rest.

        Args:
            ctx: The call's context; nothing of it is used.
            value: A `ParameterSet`.

        Raises:
            NotAnUpdate: It is something else.
            SparseTooLarge: It has more than `max_bytes` bytes.
            UpdateNotFinite: A float tensor holds NaN or infinity.
        """
        params = self._taken(value)
        layout = canonical(params.layout)
        parts = parts_of(layout)
        return self._thinned(params, layout, parts, _floats_of(params, layout, parts))[0]

    def compress(self, ctx: Context, update: Any) -> ParameterSet:
        """Return the largest entries of an update and what former ones left; keep the rest.

        Nothing changes when it raises.

        Args:
            ctx: The call's context; its round is remembered, to be undone if it fails.
            update: A `ParameterSet`, with the same tensors every time.

        Raises:
            NotAnUpdate: It is something else.
            SparseTooLarge: It has more than `max_bytes` bytes.
            UpdateNotFinite: A float tensor holds NaN or infinity, or does after adding.
            UpdateReshaped: Names, dtypes or shapes are not those of what is kept.
        """
        params = self._taken(update)
        layout = canonical(params.layout)
        parts, kept = parts_of(layout), self._kept
        given = _laid_out(params, layout, parts)
        if kept is not None:
            _check_same(layout, kept.layout)
            with np.errstate(over="ignore"):  # refused as not finite
                given += kept.residual
        encoded, indices, values = self._thinned(params, layout, parts, given)
        given[indices] -= values
        if self._last is None or self._last.round != ctx.round:
            self._last = _Last(ctx.round, kept)
        self._kept = _Kept(Layout.of(_tensors_of(layout)), given)
        return encoded

    def decode(self, ctx: Context, encoded: Any) -> ParameterSet:
        """Return a set like the original, with zeros where nothing was sent.

        It is laid out as this project lays sets out, also where the original came from elsewhere.

        Args:
            ctx: The call's context; nothing of it is used.
            encoded: What `encode` or `compress` returned, under any configuration.

        Raises:
            NotAnUpdate: It is not a `ParameterSet`.
            SparseDamaged: It was not made by this codec, or has been changed since.
            SparseTooLarge: It says that it had more than `max_bytes` bytes.
        """
        params = _need_params(encoded, "decoded")
        layout = read_layout_text(params)
        self._check_size(layout)
        parts = parts_of(layout)
        check_set(params, layout, parts)
        indices, values, kept = params["indices"], params["values"], params["kept"]
        draft = Draft(layout, self.env.pool)
        for part in parts:
            flat = draft[part.name].reshape(-1)
            if not part.sparse:
                flat.view(np.uint8)[:] = checked_bools(kept[part.place], part)
                continue
            first, last = np.searchsorted(indices, (part.place.start, part.place.stop))
            flat[:] = 0
            flat[indices[first:last] - part.place.start] = _as_sent(values[first:last], flat, part)
        return draft.freeze()

    def abandon(self, ctx: Context) -> None:
        """Take back what the frame of `ctx` compressed, if it was the last one that did."""
        if self._last is not None and self._last.round == ctx.round:
            self._kept, self._last = self._last.before, None

    def save(self) -> State:
        """Return what is kept, and what was before the last frame.

        Raises:
            RoundNotSaved: The key of the last frame's round cannot be written down.
        """
        tensors = _saved("", self._kept)
        if self._last is None:
            return State(tensors=tensors)
        tensors |= _saved("before.", self._last.before)
        return State(tensors=tensors, data={"round": _key_text(self._last.round)})

    def load(self, state: State) -> None:
        """Take over what is kept, in place of what was.

        Raises:
            ResidualUnfit: This codec has not saved it.
        """
        kept, before = _loaded("", state), _loaded("before.", state)
        key = state.data.get("round")
        if (key is None and before is not None) or (key is not None and kept is None):
            raise _unfit("it keeps something for a frame that it does not name")
        try:
            last = None if key is None else _Last(ast.literal_eval(key), before)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise _unfit(f"its last frame is {key!r:.80}") from error
        self._kept, self._last = kept, last

    def _taken(self, value: object) -> ParameterSet:
        params = _need_params(value, "encoded")
        self._check_size(params.layout)
        return params

    def _check_size(self, layout: Layout) -> None:
        if layout.nbytes > self._config.max_bytes:
            raise SparseTooLarge(
                f"a set has {layout.nbytes} bytes, or would have",
                expected=f"at most {self._config.max_bytes} bytes, as `max_bytes` says",
                fix="raise `max_bytes` on both sides if such sets are meant",
            )

    def _thinned(
        self, params: ParameterSet, layout: Layout, parts: list[Part], given: Vector
    ) -> tuple[ParameterSet, Vector, Vector]:
        """Return the encoded set, and the entries in it: places and values."""
        _need_finite(given, parts)
        sendable = _rounded(given, params, parts)
        chosen = [
            place.start + largest(sendable[place], count)
            for place, count in _groups(parts, self._config)
        ]
        indices = np.concatenate(chosen) if chosen else np.zeros(0, np.int64)
        values = sendable[indices]
        draft = Draft(encoded_layout(layout, parts, indices.size), self.env.pool)
        draft["layout"][:] = np.frombuffer(written(layout), np.uint8)
        draft["indices"][:] = indices
        draft["values"][:] = values
        for part in parts:
            if not part.sparse:
                draft["kept"][part.place] = params[part.name].reshape(-1).view(np.uint8)
        return draft.freeze(), indices, values


def _groups(parts: list[Part], config: TopKConfig) -> list[tuple[slice, int]]:
    """Return where entries are chosen among, and how many."""
    places = [part.place for part in parts if part.sparse]
    if config.per == "set":
        places = [slice(0, float_count(parts))]
    return [(place, _count(place.stop - place.start, config)) for place in places]


def _count(size: int, config: TopKConfig) -> int:
    wanted = max(1, round(config.share * size)) if config.k is None else config.k
    return min(size, wanted)


def _floats_of(params: ParameterSet, layout: Layout, parts: list[Part]) -> Vector:
    """Return all floats of a set end to end, only to be read: without a copy where they lie so."""
    wide = wide_dtype(layout)
    if params.layout == layout and all(part.dtype == wide for part in parts if part.sparse):
        return params.flat(wide)
    return _laid_out(params, layout, parts)


def _laid_out(params: ParameterSet, layout: Layout, parts: list[Part]) -> Vector:
    """Return all floats of a set end to end, in memory of their own."""
    floats = np.empty(float_count(parts), wide_dtype(layout))
    for part in parts:
        if part.sparse:
            floats[part.place] = params[part.name].reshape(-1)
    return floats


def _rounded(given: Vector, params: ParameterSet, parts: list[Part]) -> Vector:
    """Return sums as their own dtypes can hold them; the same array where all can."""
    narrow = [part for part in parts if part.sparse and part.dtype != given.dtype.name]
    if not narrow:
        return given
    sendable = given.copy()
    for part in narrow:
        top, dtype = _TOPS[part.dtype], params[part.name].dtype
        sendable[part.place] = np.clip(given[part.place], -top, top).astype(dtype)
    return sendable


def _as_sent(values: Vector, tensor: Vector, part: Part) -> Vector:
    """Return values in their dtype: as they were, or rounded if a codec has changed them since."""
    with np.errstate(over="ignore"):
        held = values.astype(tensor.dtype)
    if not np.isfinite(held).all():
        raise damaged(f"tensor {part.name!r} has a value that {part.dtype} cannot hold")
    return held


def _need_params(value: object, what: str) -> ParameterSet:
    if not isinstance(value, ParameterSet):
        raise NotAnUpdate(
            f"a {type(value).__name__} was to be {what}",
            expected="a ParameterSet",
            fix="put tensors into one: ParameterSet.from_tensors({'x': x})",
        )
    return value


def _need_finite(given: Vector, parts: list[Part]) -> None:
    if all(np.isfinite(given[tile]).all() for tile in tiles(given.size)):
        return
    name = next(p.name for p in parts if p.sparse and not np.isfinite(given[p.place]).all())
    raise UpdateNotFinite(
        f"tensor {name!r} holds a value that is not finite, or does with what was left before",
        expected="finite values",
        fix="look for divergence before the update is encoded",
        where=f"tensor {name!r}",
    )


def _tensors_of(layout: Layout) -> dict[str, tuple[str, tuple[int, ...]]]:
    described = zip(layout.names, layout.dtypes, layout.shapes, strict=True)
    return {name: (dtype, shape) for name, dtype, shape in described}


def _check_same(layout: Layout, expected: Layout) -> None:
    given, known = _tensors_of(layout), _tensors_of(expected)
    if given == known:
        return
    name = next(n for n in {**known, **given} if given.get(n) != known.get(n))
    told = [
        f"{entry[0]}{list(entry[1])}" if entry else "none"
        for entry in (given.get(name), known.get(name))
    ]
    raise UpdateReshaped(
        f"the tensor {name!r} is {told[0]}; what is kept of former updates is of {told[1]}",
        expected="updates of one model, with the same tensors every time",
        fix="bind another slot for another model",
        where=f"tensor {name!r}",
    )


def _saved(prefix: str, kept: _Kept | None) -> dict[str, Vector]:
    if kept is None:
        return {}
    header = np.frombuffer(kept.layout.header, np.uint8).copy()
    return {f"{prefix}header": header, f"{prefix}residual": kept.residual.copy()}


def _loaded(prefix: str, state: State) -> _Kept | None:
    header, residual = (state.tensors.get(f"{prefix}{name}") for name in ("header", "residual"))
    if header is None and residual is None:
        return None
    if header is None or residual is None:
        raise _unfit("a half of it is missing")
    try:
        layout = Layout.from_header(header.tobytes())
    except ParameterSetError as error:
        raise _unfit(f"its header cannot be read: {error.found:.200}") from error
    shape = (float_count(parts_of(layout)),)
    if residual.dtype.name != wide_dtype(layout) or residual.shape != shape:
        raise _unfit(f"what is kept is {residual.dtype.name}{list(residual.shape)}")
    if not np.isfinite(residual).all():
        raise _unfit("what is kept is not finite")
    return _Kept(layout, residual.copy())


def _key_text(key: Hashable) -> str:
    text = repr(_plain(key))
    try:
        same = ast.literal_eval(text) == key
    except (ValueError, SyntaxError):
        same = False
    if not same:
        raise RoundNotSaved(
            f"the round {key!r:.80} cannot be saved",
            expected="a key of numbers, texts, bytes and tuples of them",
            fix="call the component with the contexts that a Node makes",
        )
    return text


def _plain(key: Hashable) -> Hashable:
    """Return a key with plain tuples for named ones, such as names of frames: it is equal."""
    return tuple(map(_plain, key)) if isinstance(key, tuple) else key


def _unfit(found: str) -> ResidualUnfit:
    return ResidualUnfit(
        f"this state cannot be loaded: {found}",
        expected="what `save` of this codec returned, unchanged",
        fix="load the state of the same slot of the same program",
    )
