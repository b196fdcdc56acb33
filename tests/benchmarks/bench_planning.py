"""What planning costs: windows of page demands, prefixes, differences of manifests, plans as bytes.

Nothing is moved here; `bench_moving` and `bench_storing` do that. Goals are T1 to T4 and T12. Next
to each stands the least that anybody pays for the same input: a sort, a lookup, a hash, Python's
own `json`.
"""

from __future__ import annotations

import gc
import heapq
import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from statistics import median
from typing import Any

import numpy as np
from blake3 import blake3
from measure import Effort, Row, Times, interleave, shown, shown_ratio

from bb_datasource_trace.tables import synthetic
from bb_ir._proto import plan_pb2
from bb_ir.plan import (
    CachePlan,
    Digest,
    DigestAlgorithm,
    FileChunk,
    KvPageRef,
    SwapPlan,
    TransferKind,
    TransferOp,
    WeightManifest,
    from_bytes,
    from_json,
    to_bytes,
    to_json,
)
from bb_planner_kvcache.config import KvCacheConfig
from bb_planner_kvcache.planner import KvCachePlanner
from bb_planner_kvcache.prefixes import block_hashes, near_clusters
from bb_planner_kvcache.simulator import hits, stream_times
from bb_planner_swap._delta import delta
from bb_planner_swap._swap import Settings, Swap
from bb_planner_swap.packing import first_fit_decreasing
from bb_roles import SwapRequest

Calls = dict[str, Callable[[], object]]

_MIB = 1 << 20
#: Requests of a window, and how many ms it may take.
_WINDOWS = {1_000: 1, 10_000: 5, 100_000: 60, 1_000_000: 1000}
_AS_MESSAGES = (1_000, 10_000, 100_000)
_TOKENS = 256
_BLOCK = 16
#: Chunks of a version, and how many ms a difference and packing may take.
_CHUNKS = {100_000: 100, 1_000_000: 1500}
_BUCKETS = (1, 32, 512)
_OPS = 10_000
#: Why plans are not read or written in time, by what they are written as.
_NOTES = {
    "json": "Most of it is reading the text and writing it again, to see that it is canonical; the "
    "rest makes messages.",
    "protobuf": "Every value is checked and is a Python object, column by column; bare protobuf "
    "checks nothing, and makes objects of what is asked for.",
}


def measure(effort: Effort) -> dict[str, Any]:
    """Measure each kind of planning at several sizes."""
    tiny = effort.smoke
    windows = (20, 40) if tiny else tuple(_WINDOWS)
    chunks = (30, 60) if tiny else tuple(_CHUNKS)
    ops = effort.size(_OPS, 20)
    seconds: dict[str, Times] = {}
    for count in windows:
        seconds |= interleave(_window(count, messages=count <= max(_AS_MESSAGES)), effort)
    prefixes = effort.size(20_000, 12)
    seconds |= interleave(_prefixes(prefixes), effort, samples=5)
    calls, sizes = _written(ops)
    gc.disable()  # as `timeit` does: a full collection would be for what all of us have imported
    seconds |= interleave(calls, effort)
    gc.enable()
    moves = effort.size(1_000_000, 40)
    seconds |= interleave(_simulated(moves), effort, samples=5)
    # Last, as millions of messages leave holes in the heap, which slow down whoever comes next.
    for count in chunks:
        seconds |= interleave(_difference(count), effort, samples=5)
    return {
        "windows": windows, "prefixes": prefixes, "chunks": chunks, "ops": ops, "moves": moves,
        "bytes": sizes, "seconds": seconds,
    }  # fmt: skip


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table."""
    times: dict[str, Times] = result["seconds"]
    return [
        *(row for count in result["windows"] for row in _window_rows(times, count)),
        *_prefix_rows(times, result["prefixes"]),
        *(row for count in result["chunks"] for row in _difference_rows(times, count)),
        *_written_rows(times, result["ops"], result["bytes"]),
        *_simulated_rows(times, result["moves"]),
    ]


# --- T1: windows


def _window(count: int, *, messages: bool) -> Calls:
    """Plan a window of evenly distributed demands; beside it, sort as many by one column."""
    request = synthetic(requests=count, seed=1).request()
    assert request.tables is not None
    due = request.tables.requests["deadline_ms"] * 1_000_003 + np.arange(count) % 7
    planner = KvCachePlanner(KvCacheConfig())
    found: Calls = {
        f"window {count}": lambda: planner.columns(request),
        f"sort {count}": lambda: np.argsort(due, kind="stable"),
    }
    if messages:
        found[f"plan {count}"] = lambda: planner.plan(request)
    return found


def _window_rows(times: dict[str, Times], count: int) -> list[Row]:
    spent, sort = times[f"window {count}"], times[f"sort {count}"]
    most = _WINDOWS.get(count, 1)
    rate = count / min(spent) / 1e6
    sustained = count >= 10_000
    bound = f"at most {most:,} ms" + (", 1 M requests/s" if sustained else "")
    met = min(spent) * 1e3 <= most and (rate >= 1 or not sustained)
    what = f"a window of {count:,} requests to a KV cache, as columns; against one sort of as many"
    found = [
        Row(
            "T1", what, bound, f"{shown(spent, 'ms', 1e3)}; {rate:.2f} M requests/s",
            shown_ratio(spent, sort), met,
        )
    ]  # fmt: skip
    if f"plan {count}" in times:
        own = times[f"plan {count}"]
        what = f"the same {count:,} as messages of a plan, rejected ones included; against columns"
        found.append(Row("", what, "", shown(own, "ms", 1e3), shown_ratio(own, spent)))
    return found


# --- T2: prefixes


def _prefixes(count: int) -> Calls:
    """Hash prompts of 256 tokens that share beginnings; beside it, BLAKE3 of the same blocks."""
    rng = np.random.default_rng(2)
    prompts = rng.integers(0, 50_000, (count, _TOKENS))
    prompts[:, :128] = rng.integers(0, 50_000, (40, 128))[rng.integers(0, 40, count)]
    tokens, offsets = prompts.reshape(-1), np.arange(0, count * _TOKENS + 1, _TOKENS)
    raw = tokens.astype("<u4").tobytes()
    parent, width = bytes(32), 4 * _BLOCK

    def bare() -> list[bytes]:
        return [blake3(parent + raw[at : at + width]).digest() for at in range(0, len(raw), width)]

    return {
        "chains": lambda: block_hashes(tokens, offsets),
        "blake3 of blocks": bare,
        "minhash": lambda: near_clusters(tokens, offsets),
    }


def _prefix_rows(times: dict[str, Times], count: int) -> list[Row]:
    chains, near, bare = times["chains"], times["minhash"], times["blake3 of blocks"]
    blocks = count * _TOKENS // _BLOCK
    chained, clustered = blocks / min(chains) / 1e6, count / min(near) / 1e3
    return [
        Row(
            "T2", f"exact prefix chains, blocks of {_BLOCK} tokens; against BLAKE3 of each block",
            "at least 0.5 M blocks/s", f"{chained:.2f} M blocks/s", shown_ratio(chains, bare),
            chained >= 0.5,
        ),
        Row(
            "T2", f"MinHash clusters of prompts of {_TOKENS} tokens; against exact chains",
            "at least 150 k requests/s", f"{clustered:.0f} k requests/s",
            shown_ratio(near, chains), clustered >= 150,
            f"Each of the {_TOKENS} tokens is hashed.",
        ),
    ]  # fmt: skip


# --- T3: differences of manifests, and packing


def manifest(version: str, values: list[bytes], lengths: list[int]) -> WeightManifest:
    """Return a manifest of chunks with such digests, whose messages nobody shares."""
    files = (
        FileChunk(
            f"layer{at}/weight", 0, length, digest=Digest(DigestAlgorithm.BLAKE3, bytes(value))
        )
        for at, (value, length) in enumerate(zip(values, lengths, strict=True))
    )
    return WeightManifest("bench", version, tuple(files))


def _difference(count: int) -> Calls:
    """Tell two versions apart, a tenth of which differs, and pack all chunks as if all were new."""
    rng = np.random.default_rng(3)
    lengths = rng.integers(4 << 10, 4 * _MIB, count).tolist()
    values = [sha256(b"%d" % at).digest() for at in range(count)]
    others = [sha256(b"new %d" % at).digest() if at % 10 == 0 else v for at, v in enumerate(values)]
    old, new = manifest("1", values, lengths), manifest("2", others, lengths)

    def looked_up() -> int:
        known = {chunk.digest.value: chunk.length for chunk in old.files if chunk.digest}
        return sum(known.get(c.digest.value) == c.length for c in new.files if c.digest)

    def with_buckets(bucket: int) -> Callable[[], object]:
        def both() -> object:
            adds = delta(old, new).adds
            return len(adds), first_fit_decreasing(lengths, bucket * _MIB)

        return both

    found: Calls = {f"look up {count}": looked_up}
    for bucket in _BUCKETS:
        found[f"difference {count} {bucket}"] = with_buckets(bucket)
    if count <= min(_CHUNKS):
        planner = Swap(Settings())
        found[f"swap {count}"] = lambda: planner.plan(SwapRequest(new, from_=old))
    return found


def _difference_rows(times: dict[str, Times], count: int) -> list[Row]:
    most, floor = _CHUNKS.get(count, 100), times[f"look up {count}"]
    found: list[Row] = []
    for bucket in _BUCKETS:
        spent = times[f"difference {count} {bucket}"]
        what = (
            f"difference of two versions of {count:,} chunks, and packing {count:,} into buckets "
            f"of {bucket} MiB; against one dictionary of the digests"
        )
        met = min(spent) * 1e3 <= most
        found.append(
            Row(
                "T3", what, f"at most {most:,} ms", shown(spent, "ms", 1e3),
                shown_ratio(spent, floor), met,
            )
        )  # fmt: skip
    if f"swap {count}" in times:
        own = times[f"swap {count}"]
        what = f"a whole plan of a swap of {count:,} chunks, a tenth of them new, validated"
        found.append(Row("", what, "", shown(own, "ms", 1e3), shown_ratio(own, floor)))
    return found


# --- T4: plans as bytes


def _written(ops: int) -> tuple[Calls, dict[str, int]]:
    """Write and read a plan of each kind; beside it, the same text by `json`, and bare protobuf."""
    found: Calls = {}
    sizes: dict[str, int] = {}
    for kind, plan in (("cache", _cache_plan(ops)), ("swap", _swap_plan(ops))):
        cls: type[Any] = type(plan)
        text, data = to_json(plan), to_bytes(plan)
        sizes[f"{kind} json"], sizes[f"{kind} protobuf"] = len(text), len(data)
        assert from_json(cls, text) == from_bytes(cls, data) == plan
        found |= _forms(kind, cls, plan, text, data)
    return found, sizes


def _forms(kind: str, cls: type[Any], plan: Any, text: str, data: bytes) -> Calls:
    parsed = json.loads(text)
    proto: Any = getattr(plan_pb2, cls.__name__)
    message = proto.FromString(data)
    return {
        f"{kind} json written": lambda: to_json(plan),
        f"{kind} json read": lambda: from_json(cls, text),
        f"{kind} protobuf written": lambda: to_bytes(plan),
        f"{kind} protobuf read": lambda: from_bytes(cls, data),
        f"{kind} json written, bare": lambda: json.dumps(parsed, separators=(",", ":")),
        f"{kind} json read, bare": lambda: json.loads(text),
        f"{kind} protobuf written, bare": lambda: message.SerializeToString(deterministic=True),
        f"{kind} protobuf read, bare": lambda: proto.FromString(data),
    }


def _cache_plan(ops: int) -> CachePlan:
    node = "tier://node-0/tier"
    moves = (
        TransferOp(
            TransferKind.STORAGE2H, f"{node}0", f"{node}1", 4 << 18, (4 * at) << 18, (4 * at) << 18,
            (KvPageRef("kv", 4 * at, layer=at % 32, page_count=4, page_bytes=1 << 18),),
            lane=f"{at % 8}", deadline_ns=10**18 + at, priority=at, tenant="a", fanout=2,
        )
        for at in range(ops)
    )  # fmt: skip
    return CachePlan("bench", tuple(moves), window_ms=20, now_ns=10**18)


def _swap_plan(ops: int) -> SwapPlan:
    """Return a swap of which all chunks are new: each is there as an op, a chunk, and an add."""
    chunks = manifest("2", [sha256(b"%d" % at).digest() for at in range(ops)], [4 * _MIB] * ops)
    planned = Swap(Settings()).plan(SwapRequest(chunks))
    return replace(planned, plan_id="bench")


def _written_rows(times: dict[str, Times], ops: int, sizes: dict[str, int]) -> list[Row]:
    found: list[Row] = []
    for name in [name for name in times if f"{name}, bare" in times]:
        kind, form, way = name.split()
        own, bare = times[name], times[f"{name}, bare"]
        most = 50 if form == "json" else 10
        what = (
            f"a {kind} plan of {ops:,} ops, {sizes[f'{kind} {form}'] / 1e6:.1f} MB of "
            f"{form}, {way}, garbage collection off; "
            f"against {'`json`' if form == 'json' else 'bare protobuf'}"
        )
        met = min(own) * 1e3 <= most
        found.append(
            Row(
                "T4", what, f"at most {most} ms", shown(own, "ms", 1e3), shown_ratio(own, bare),
                met, _NOTES[form],
            )
        )  # fmt: skip
    return found


# --- T12: simulated moves and caches


def _simulated(moves: int) -> Calls:
    """Run moves on streams; beside it, a loop with a heap and nothing else."""
    rng = np.random.default_rng(4)
    ops = {
        "bytes": rng.integers(1 << 18, 1 << 24, moves),
        "overlap": rng.integers(1, 5, moves),
        "priority": rng.permutation(moves),
        "tier_dst": rng.integers(1, 3, moves),
        "node": rng.integers(0, 4, moves),
        "layer": rng.integers(0, 32, moves),
    }
    caps, layers = {1: 64 * _MIB, 2: 16 * _MIB}, dict.fromkeys(range(32), 5.0)
    takes = (ops["bytes"] / (16 * _MIB)).tolist()
    pages = rng.zipf(1.2, moves) % 100_000

    def run() -> bytes:
        return stream_times(ops, window_ms=20, tier_caps=caps, layer_ms=layers).finish_ms.tobytes()

    def bare() -> list[float]:
        free, done = [0.0] * 4, []
        for one in takes:
            done.append(free[0] + one)
            heapq.heapreplace(free, done[-1])
        return done

    assert run() == run(), "the same moves end at the same times, to the last bit"
    return {
        "streams": run,
        "heap": bare,
        "lru": lambda: hits(pages, 10_000, "lru"),
        "s3fifo": lambda: hits(pages, 10_000, "s3fifo"),
    }


def _simulated_rows(times: dict[str, Times], moves: int) -> list[Row]:
    streams = times["streams"]
    rate = moves / min(streams) / 1e6
    found = [
        Row(
            "T12", f"{moves:,} simulated moves on streams; against a bare heap",
            "at least 1 M ops/s, the same bytes each time", f"{rate:.2f} M ops/s",
            shown_ratio(streams, times["heap"]), rate >= 1,
        )
    ]  # fmt: skip
    for policy in ("lru", "s3fifo"):
        rate = moves / median(times[policy]) / 1e6
        what = f"{moves:,} accesses to a simulated cache, {policy}; against a bare heap"
        ratio = shown_ratio(times[policy], times["heap"])
        found.append(Row("", what, "", f"{rate:.2f} M accesses/s", ratio))
    return found
