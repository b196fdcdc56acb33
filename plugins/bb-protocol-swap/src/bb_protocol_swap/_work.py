"""The work of a swap: done in the host's executor where it takes long, or writes to a disk.

Nothing here is a component's method. What is served changes by none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bb_ir.params import ParameterSet
from bb_ir.plan import (
    Digest,
    FileChunk,
    SwapPlan,
    TransferOp,
    WeightManifest,
    chunk_digest,
    content_digest,
)
from bb_plans.deltas import Rates, decode, differences
from bb_plans.manifests import manifest_of_params, params_reader
from bb_protocol_swap._memory import MemoryStore, Versions
from bb_protocol_swap.errors import SwapRefused
from bb_roles import Planner, SwapRequest
from bb_roles.planner import ChunkSource

__all__ = ["SPANS", "known", "made_ready", "planned", "published", "released", "staged", "taken_in"]

#: Where the ops of a plan read: the bytes that come with it.
SPANS: Final = "mem://spans"


def published(
    params: ParameterSet,
    model: str,
    store: Versions | None,
    kept: Callable[..., Sequence[Digest]],
) -> WeightManifest:
    """Return the manifest of a version, and take it in where there is a store for that."""
    made = manifest_of_params(params, model, "")
    if store is not None:
        taken_in(made, params, store)
        needed = kept(new=content_digest(made))
        released(store, needed)
        store.prune(needed)
    return made


def taken_in(made: WeightManifest, params: ParameterSet, store: Versions) -> None:
    read = params_reader(params)
    for chunk in made.files:
        store.put(read(chunk), known(chunk_digest(chunk)))
    store.stage(made)


def released(store: Versions, needed: Sequence[Digest]) -> None:
    """Allow all versions to be pruned that are not needed; what is served stays anyway."""
    for one in store.versions():
        if one.root not in needed:
            store.release(one.root)


def made_ready(
    store: Versions, to: WeightManifest, before: Digest | None, published: Sequence[Digest]
) -> None:
    """Stage a version, and remove the one that it takes the place of."""
    root = store.stage(to)
    if before is not None and before != root:
        store.release(before)
    # A store on disk knows what was served before, and keeps what is staged until it is released.
    others = [one.root for one in store.versions() if one.root == root or one.root != before]
    store.prune([*published, *(others if isinstance(store, MemoryStore) else ())])


def planned(
    planner: Planner,
    old: WeightManifest | None,
    new: WeightManifest,
    store: Versions,
    rates: Rates,
) -> tuple[SwapPlan, NDArray[np.uint8]]:
    """Return a plan and the bytes that it reads."""
    parts: list[NDArray[np.uint8]] = []
    sources: list[ChunkSource] = []
    end = 0
    for one in differences(old, new, lambda c: _view(store, c), lambda c: _view(store, c), rates):
        sources.append(one.source(SPANS, end))
        parts.append(np.frombuffer(one.data, np.uint8))
        end += len(one.data)
    plan = planner.plan(SwapRequest(new, old, sources=tuple(sources)))
    if not isinstance(plan, SwapPlan):
        raise SwapRefused(f"the planner made a {type(plan).__name__}", expected="a SwapPlan")
    spans: NDArray[np.uint8] = np.concatenate(parts) if parts else np.empty(0, np.uint8)
    return plan, spans


def staged(
    swap: SwapPlan,
    spans: NDArray[np.uint8],
    store: Versions,
    last: tuple[WeightManifest, Digest | None, Sequence[Digest]] | None = None,
) -> int:
    """Decode, hash and take in what a plan brings; return how many bytes were sent for it.

    Args:
        swap: The plan.
        spans: What its ops read.
        store: Where it is taken in.
        last: On a disk, where that is to be durable: what is staged then, and what `made_ready`
            wants to know of it.
    """
    data = np.ascontiguousarray(spans).data
    sent = 0
    for op in swap.ops:
        taken = _length(op)
        sent += taken
        assert op.digest is not None, "ops without a digest were refused"
        if store.has(op.digest):
            continue
        base = None if op.src_digest is None else store.view(op.src_digest)
        encoded = data[op.src_offset : op.src_offset + taken]
        store.put(decode(op.codec, encoded, base, op.length, op.digest), op.digest)
    if last is not None:
        made_ready(store, *last)
    return sent


def _length(op: TransferOp) -> int:
    """Return how many bytes an op reads."""
    return op.encoded_length if op.codec else op.length


def _view(store: Versions, chunk: FileChunk) -> memoryview:
    return store.view(known(chunk_digest(chunk)))


def known(digest: Digest | None) -> Digest:
    assert digest is not None, "manifests of parameter sets have digests"
    return digest
