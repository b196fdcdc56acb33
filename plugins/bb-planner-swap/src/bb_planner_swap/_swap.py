"""The planner: what is new gets into buckets, or into a store, from wherever it can be read.

It works on columns (lengths, offsets, buckets) and makes messages at the end. It carries nothing
out and knows nothing but its configuration and the request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from bb_ir.plan import (
    Digest,
    FileChunk,
    KvPolicy,
    Medium,
    OptimizerPolicy,
    PlanFormatError,
    SwapPlan,
    SwapWindow,
    TransferKind,
    TransferOp,
    WeightManifest,
    chunk_digest,
    digest_text,
    parse_place,
    validate,
)
from bb_planner_swap._delta import delta
from bb_planner_swap.errors import UnpackableChunks
from bb_planner_swap.packing import Packing, first_fit_decreasing, in_turn
from bb_roles import CacheRequest, ChunkSource, Planner, SwapRequest
from bb_roles.errors import ConfigError, UnplannableRequest

__all__ = ["MEDIA", "Settings", "Swap"]

#: What the planner takes schemes to be on: arenas of devices are in host memory.
MEDIA: Final[Mapping[str, Medium]] = MappingProxyType({"device": Medium.HOST})

_KINDS: Final[Mapping[tuple[Medium, Medium], TransferKind]] = MappingProxyType({
    (Medium.STORAGE, Medium.HOST): TransferKind.STORAGE2H,
    (Medium.STORAGE, Medium.STORAGE): TransferKind.STORAGE2STORAGE,
    (Medium.HOST, Medium.HOST): TransferKind.H2H,
    (Medium.HOST, Medium.STORAGE): TransferKind.H2STORAGE,
    (Medium.NETWORK, Medium.HOST): TransferKind.NET2H,
})  # fmt: skip
_DIGITS: Final = re.compile(r"([0-9]+)")
#: Codec, bytes that it is encoded in, and what it applies to, of a chunk as it is.
_PLAIN: Final = ("", 0, None)
_FILE: Final = "file://"


@dataclass(frozen=True, slots=True)
class Settings:
    """What can be set.

    Attributes:
        bucket_bytes: Most bytes of a bucket. A chunk that is larger gets one of its own, and the
            validator warns of it.
        destination: Where chunks go: `mem` and `device` pack them into `mem://bucket/<number>` or
            `device://bucket/<number>`; `store` brings each to `cas://<digest>`, and what would be a
            bucket is a lane.
        order: `size` packs the largest chunks first, in the fewest buckets; `layer` takes them by
            tensor, layer 2 before layer 10, so that what comes first can be used first.
    """

    bucket_bytes: int = 32 << 20
    destination: Literal["mem", "device", "store"] = "mem"
    order: Literal["size", "layer"] = "size"

    def __post_init__(self) -> None:
        if self.bucket_bytes < 1:
            raise ConfigError(f"bucket_bytes is {self.bucket_bytes}", expected="1 or more bytes")


class _Item(NamedTuple):
    """A chunk to bring, and where it is read; `None` for its place in its file."""

    chunk: FileChunk
    digest: Digest
    source: ChunkSource | None


class Swap(Planner):
    """Brings what is new between two versions, each distinct chunk once."""

    Config = Settings

    def plan(self, request: CacheRequest | SwapRequest) -> SwapPlan:
        """Return the plan for a swap; a bucket's ops are one lane, in the order of its bytes.

        With a window every op is due at its end; in the order of layers each bucket is due when its
        share of the window is over.

        Raises:
            UnplannableRequest: It is not about weights, or what it asks for is not sound.
        """
        old, asked = _checked(request)
        try:
            adds, shared, deletes = delta(old, asked.to)
            items = list(_items(adds, asked, old))
            packing, items = self._packed(items)
            ops = self._ops(items, packing, asked.window)
        except (PlanFormatError, UnpackableChunks) as error:
            raise UnplannableRequest(
                error.found, expected=error.expected, fix="correct the request"
            ) from error
        plan = SwapPlan(
            f"swap-{asked.to.version}", asked.from_, asked.to, ops, asked.window,
            deletes=deletes, adds=adds, shared=shared,
            commit_group=asked.commit_group,
            rollback_to=asked.rollback_to,
            kv_policy=asked.kv_policy or KvPolicy.KV_FLUSH,
            optimizer_policy=asked.optimizer_policy or OptimizerPolicy.OPTIMIZER_PRESERVE,
            total_bytes=int(packing.sizes.sum()),
            bucket_bytes=self.config.bucket_bytes,
        )  # fmt: skip
        for problem in validate(plan, media=MEDIA):
            if not problem.warning:
                raise UnplannableRequest(
                    str(problem), fix="correct manifests, sources or window of the request"
                )
        return plan

    def _packed(self, items: list[_Item]) -> tuple[Packing, list[_Item]]:
        by_layer = self.config.order == "layer"
        items = sorted(items, key=_layer if by_layer else _name)
        pack = in_turn if by_layer else first_fit_decreasing
        return pack([item.chunk.length for item in items], self.config.bucket_bytes), items

    def _ops(
        self, items: list[_Item], packing: Packing, window: SwapWindow | None
    ) -> tuple[TransferOp, ...]:
        due = self._deadlines(packing, window)
        lanes = [f"bucket/{number}" for number in range(len(packing.sizes))]
        to_store = self.config.destination == "store"
        places = [] if to_store else [f"{self.config.destination}://{lane}" for lane in lanes]
        medium = Medium.STORAGE if to_store else Medium.HOST
        kinds: dict[str, TransferKind] = {}
        ops: list[TransferOp] = []
        columns = (packing.order, packing.buckets, packing.offsets)
        order, buckets, offsets = (column.tolist() for column in columns)
        for index in order:
            item, bucket = items[index], buckets[index]
            chunk, source = item.chunk, item.source
            if source is None:
                src, begin, encoded = f"{_FILE}{chunk.path}", chunk.offset, _PLAIN
            else:
                src, begin = source.src, source.src_offset
                encoded = source.codec, source.encoded_length, source.src_digest
            # Whether the path is sound `validate` tells; of what kind the op is hangs on its root.
            root = f"{_FILE}any" if src.startswith(_FILE) else src
            if root not in kinds:
                kinds[root] = _kind(root, medium)
            ops.append(
                TransferOp(
                    kinds[root],
                    src,
                    f"cas://{digest_text(item.digest)}" if to_store else places[bucket],
                    chunk.length,
                    begin,
                    0 if to_store else offsets[index],
                    lane=lanes[bucket],
                    deadline_ns=due[bucket],
                    digest=item.digest,
                    codec=encoded[0],
                    encoded_length=encoded[1],
                    src_digest=encoded[2],
                )
            )
        return tuple(ops)

    def _deadlines(self, packing: Packing, window: SwapWindow | None) -> list[int]:
        """Return when each bucket is due."""
        if window is None:
            return [0] * len(packing.sizes)
        if self.config.order == "size":
            return [window.t_deadline_ns] * len(packing.sizes)
        start, span = window.t_start_ns, window.t_deadline_ns - window.t_start_ns
        done: list[int] = packing.sizes.cumsum().tolist()
        return [start + span * here // max(1, done[-1]) for here in done]


def _checked(request: Any) -> tuple[WeightManifest, SwapRequest]:
    if not isinstance(request, SwapRequest):
        raise UnplannableRequest(
            f"a {type(request).__name__} is not about weights", expected="a SwapRequest"
        )
    old = WeightManifest() if request.from_ is None else request.from_
    for name, given, wanted in (
        ("from_", old, WeightManifest),
        ("to", request.to, WeightManifest),
        ("window", request.window or SwapWindow(), SwapWindow),
    ):
        if not isinstance(given, wanted):
            raise UnplannableRequest(
                f"`{name}` is a {type(given).__name__}", expected=f"a {wanted.__name__}"
            )
    listed: Any = request.sources
    if type(listed) is not tuple or not all(isinstance(one, ChunkSource) for one in listed):
        raise UnplannableRequest(
            "`sources` holds something else", expected="a tuple of ChunkSource"
        )
    return old, request


def _items(adds: Iterable[FileChunk], request: SwapRequest, old: WeightManifest) -> Iterator[_Item]:
    """Yield what there is to bring, the same bytes once, each with the first source of use."""
    present = {chunk_digest(chunk) for chunk in old.files} if request.sources else set()
    sources: dict[Digest, ChunkSource] = {}
    for source in request.sources:
        if source.src_digest is None or source.src_digest in present:
            sources.setdefault(source.digest, source)
    told: set[tuple[bytes, int]] = set()
    for chunk in adds:
        digest = chunk_digest(chunk)
        if digest is None:
            raise UnplannableRequest(
                f"chunk {chunk.path[:80]!r} of `to` has no digest",
                expected="one, so that what arrives can be checked",
            )
        # As `delta` does: a member of an enum is one object, and its hash is computed in Python.
        key = digest.value, id(digest.algorithm)
        if key in told:
            continue
        told.add(key)
        yield _Item(chunk, digest, sources.get(digest) if sources else None)


def _kind(src: str, dst: Medium) -> TransferKind:
    place = parse_place(src)
    medium = place.medium if place.tier >= 0 else MEDIA.get(place.scheme, place.medium)
    kind = _KINDS.get((medium, dst))
    if kind is None:
        raise UnplannableRequest(
            f"nothing moves bytes from {src[:80]!r} to {dst.value}",
            expected="sources in files, the store or memory; from peers into memory only",
            fix="bring what peers offer into memory, or into the store, before",
        )
    return kind


def _name(item: _Item) -> tuple[str, int]:
    return item.chunk.path, item.chunk.offset


def _layer(item: _Item) -> tuple[list[tuple[int, int, str]], str, int]:
    """Return a key that sorts by tensor, numbers in names by their value."""
    chunk = item.chunk
    name = chunk.path if chunk.tensor is None else chunk.tensor.name
    parts = [
        (1, int(part), "") if part.isdigit() and part.isascii() and len(part) < 20 else (0, 0, part)
        for part in _DIGITS.split(name)
    ]
    return parts, chunk.path, chunk.offset
