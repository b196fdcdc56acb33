"""The messages of a plan: what `bb.plan.v1` says, in Python.

They are frozen and compare by value, as frozen dataclasses do. Lists are tuples, what is absent is
`None`, and every field has the default of the schema. Nothing is checked here: reading and writing
check what a field can hold, `bb_ir.plan.validate` whether a plan is sound. Sizes and offsets are in
bytes, times in nanoseconds of Unix time, unless a name says otherwise. The one name that differs
from the schema is `from_`, as `from` is a word of Python.
"""

from __future__ import annotations

from enum import IntEnum

from bb_ir.plan._fields import enum, message, number, one, raw, several, text

__all__ = [
    "CachePlan",
    "Digest",
    "DigestAlgorithm",
    "FileChunk",
    "KvPageRef",
    "KvPolicy",
    "OptimizerPolicy",
    "Plan",
    "Rejected",
    "SwapPlan",
    "SwapWindow",
    "TensorSpan",
    "TransferKind",
    "TransferOp",
    "WeightManifest",
]


class TransferKind(IntEnum):
    """From what to what an op moves bytes: host memory (H), device (D), storage, network."""

    KIND_UNSPECIFIED = 0
    H2D = 1
    D2H = 2
    P2P = 3
    STORAGE2H = 4
    H2STORAGE = 5
    H2H = 6
    NET2H = 7
    STORAGE2STORAGE = 8


class DigestAlgorithm(IntEnum):
    """How a digest was made."""

    DIGEST_UNSPECIFIED = 0
    SHA256 = 1
    BLAKE3 = 2


class KvPolicy(IntEnum):
    """What becomes of cached keys and values when the weights change."""

    KV_UNSPECIFIED = 0
    KV_FLUSH = 1
    KV_KEEP = 2
    KV_TRANSFORM = 3


class OptimizerPolicy(IntEnum):
    """What becomes of an optimizer's state when the weights change."""

    OPTIMIZER_UNSPECIFIED = 0
    OPTIMIZER_PRESERVE = 1
    OPTIMIZER_ATTENUATE = 2
    OPTIMIZER_RESET = 3


@message
class Digest:
    """A digest of some bytes.

    Attributes:
        algorithm: How it was made.
        value: The digest: 32 bytes for both algorithms that there are.
    """

    algorithm: DigestAlgorithm = enum(1, DigestAlgorithm)
    value: bytes = raw(2)


@message
class TensorSpan:
    """A part of a tensor, as bytes of its elements in row-major, little-endian order.

    Attributes:
        name: The tensor's name.
        dtype: Element type, as numpy and ml_dtypes call it.
        shape: Dimensions of the whole tensor.
        begin: First byte of the part.
        end: First byte after it.
    """

    name: str = text(1)
    dtype: str = text(2)
    shape: tuple[int, ...] = number(3, many=True)
    begin: int = number(4)
    end: int = number(5)


@message
class FileChunk:
    """A run of bytes of a file.

    Attributes:
        path: The file, relative to the store, with `/` between parts.
        offset: First byte.
        length: How many bytes.
        sha256: Digest as text, `sha256:` and 64 digits; the form of earlier plans.
        digest: Digest; when both are given they say the same.
        tensor: What the bytes are, where that is known.
    """

    path: str = text(1)
    offset: int = number(2)
    length: int = number(3)
    sha256: str = text(4)
    digest: Digest | None = one(5, Digest)
    tensor: TensorSpan | None = one(6, TensorSpan)


@message
class WeightManifest:
    """One version of a model: the chunks it is made of.

    Attributes:
        model_id: The model's name.
        version: The version's label.
        files: Its chunks, each once.
    """

    model_id: str = text(1)
    version: str = text(2)
    files: tuple[FileChunk, ...] = several(3, FileChunk)


@message
class SwapWindow:
    """When a swap may happen.

    Attributes:
        t_start_ns: Earliest start.
        t_deadline_ns: Latest end.
    """

    t_start_ns: int = number(1)
    t_deadline_ns: int = number(2)


@message
class KvPageRef:
    """Pages of a KV cache that follow one another.

    Attributes:
        tensor: Name of the cache's tensor.
        page: Number of the first page.
        head: Attention head.
        layer: Layer.
        model: Digest of the weights that made the pages.
        node: Node that holds them.
        tier: Tier that holds them: 0 storage, 1 host memory, 2 and above devices.
        page_count: How many pages; 0 stands for 1.
        page_bytes: Size of a page; 0 when not told.
    """

    tensor: str = text(1)
    page: int = number(2)
    head: int = number(3, "uint32")
    layer: int = number(4, "uint32")
    model: Digest | None = one(5, Digest)
    node: str = text(6)
    tier: int = number(7, "uint32")
    page_count: int = number(8)
    page_bytes: int = number(9)


@message
class TransferOp:
    """One move of bytes.

    Attributes:
        kind: From what to what.
        src: Source: a scheme, `://` and a path, as `bb_ir.plan.parse_place` reads it.
        dst: Destination, likewise.
        length: Bytes that arrive.
        src_offset: First byte in the source.
        dst_offset: First byte in the destination.
        kv_refs: The pages that it moves.
        note: For people; `None` when there is none.
        op_id: Its id in the plan; empty when no other op waits for it.
        deps: Ids of the ops that are done before.
        lane: Ops of one lane are done in their order; ops without one in any.
        deadline_ns: When it is to be done; 0 for none.
        priority: Larger ones first.
        tenant: On whose account.
        digest: Of the bytes that arrive.
        codec: How the source is encoded; empty for the bytes as they are.
        encoded_length: Bytes that are read from the source, when there is a codec.
        src_digest: Of the bytes that a difference applies to.
        fanout: How many requests it serves.
        overlap: How many of them at one time.
        sink: The slot that was allocated for it.
    """

    kind: TransferKind = enum(1, TransferKind)
    src: str = text(2)
    dst: str = text(3)
    length: int = number(4)
    src_offset: int = number(5)
    dst_offset: int = number(6)
    kv_refs: tuple[KvPageRef, ...] = several(7, KvPageRef)
    note: str | None = text(8, optional=True)
    op_id: str = text(9)
    deps: tuple[str, ...] = text(10, many=True)
    lane: str = text(11)
    deadline_ns: int = number(12)
    priority: int = number(13, "int64")
    tenant: str = text(14)
    digest: Digest | None = one(15, Digest)
    codec: str = text(16)
    encoded_length: int = number(17)
    src_digest: Digest | None = one(18, Digest)
    fanout: int = number(19, "uint32")
    overlap: int = number(20, "uint32")
    sink: str = text(21)


@message
class Rejected:
    """A request that a plan does not fulfil.

    Attributes:
        request: Its id.
        reason: One word: `quota`, `late`, `unknown`, ...
        detail: For people.
    """

    request: str = text(1)
    reason: str = text(2)
    detail: str = text(3)


@message
class CachePlan:
    """Moves pages of a KV cache between tiers.

    Attributes:
        plan_id: A name; no part of the content digest.
        ops: The moves, in the planner's order.
        prefetch: Pages to have at hand when nothing else is to do.
        evict: Pages to drop.
        window_ms: How long the plan is meant to take, in milliseconds.
        now_ns: When the window begins.
        admission: Pages to be kept in storage.
        rejected: What was asked for and is not done, each with its reason.
    """

    plan_id: str = text(1)
    ops: tuple[TransferOp, ...] = several(2, TransferOp)
    prefetch: tuple[KvPageRef, ...] = several(3, KvPageRef)
    evict: tuple[KvPageRef, ...] = several(4, KvPageRef)
    window_ms: int = number(5)
    now_ns: int = number(6)
    admission: tuple[KvPageRef, ...] = several(7, KvPageRef)
    rejected: tuple[Rejected, ...] = several(8, Rejected)


@message
class SwapPlan:
    """Turns one version of a model into another.

    Attributes:
        plan_id: A name; no part of the content digest.
        from_: What there is; absent when there is nothing.
        to: What there shall be.
        ops: The moves.
        window: When.
        deletes: Chunks of `from_` whose place has no chunk in `to`.
        adds: Chunks of `to` that the ops bring.
        shared: Chunks of `to` that are present already.
        commit_group: Name of the peers that flip together.
        rollback_to: Root of the version that is kept.
        kv_policy: What becomes of cached keys and values.
        optimizer_policy: What becomes of the optimizer's state.
        total_bytes: Sum of the lengths of all ops; 0 when not declared.
        bucket_bytes: Most bytes of all ops to one destination; 0 for no limit.
    """

    plan_id: str = text(1)
    from_: WeightManifest | None = one(2, WeightManifest)
    to: WeightManifest | None = one(3, WeightManifest)
    ops: tuple[TransferOp, ...] = several(4, TransferOp)
    window: SwapWindow | None = one(5, SwapWindow)
    deletes: tuple[FileChunk, ...] = several(6, FileChunk)
    adds: tuple[FileChunk, ...] = several(7, FileChunk)
    shared: tuple[FileChunk, ...] = several(8, FileChunk)
    commit_group: str = text(9)
    rollback_to: Digest | None = one(10, Digest)
    kv_policy: KvPolicy = enum(11, KvPolicy)
    optimizer_policy: OptimizerPolicy = enum(12, OptimizerPolicy)
    total_bytes: int = number(13)
    bucket_bytes: int = number(14)


@message
class Plan:
    """A plan with where it comes from; it holds either kind.

    Attributes:
        schema_version: 1; a reader refuses others.
        plan_id: Content digest of the plan, as text.
        label: For people.
        producer: Which planner made it, with its version.
        created_ns: When, as whoever asked for the plan told it.
        parent: Digest of the plan, or root, that this one builds on.
        cache: The plan, or `None`.
        swap: The plan, or `None`.
    """

    schema_version: int = number(1, "uint32")
    plan_id: str = text(2)
    label: str = text(3)
    producer: str = text(4)
    created_ns: int = number(5)
    parent: Digest | None = one(6, Digest)
    cache: CachePlan | None = one(7, CachePlan)
    swap: SwapPlan | None = one(8, SwapPlan)
