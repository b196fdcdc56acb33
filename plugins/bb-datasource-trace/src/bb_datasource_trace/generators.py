"""Makes traces and tables by chance, the same for the same seed.

`sessions` draws a trace as a service of conversations would record it. `synthetic` draws the tables
themselves, with the distributions of an earlier project's benchmark, to compare with its figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bb_datasource_trace.traces import LATEST, MOST_BLOCKS, SCHEMA
from bb_roles.data import DataError
from bb_roles.limits import Limits, check_limits

__all__ = ["Sessions", "Synthetic", "sessions"]

Ints = NDArray[np.int64]
_MIB: Final = 1 << 20
#: Turns that are drawn at once; each takes some 100 bytes meanwhile.
_MOST_TURNS: Final = 1 << 28


@dataclass(frozen=True, kw_only=True)
class Sessions:
    """How conversations come, what they share, and how they go on.

    Attributes:
        requests: How many.
        seed: Decides all.
        rate: New conversations per second, at exponentially distributed distances.
        turns: Requests of a conversation on average, geometrically distributed.
        think_s: Seconds from one request of a conversation to the next on average, exponentially
            distributed.
        prefixes: Number of system prompts that conversations begin with.
        zipf: Prompt k is taken with a probability of k to the power of minus this.
        prefix_blocks: Blocks of a system prompt at most; each has 1 up to that, drawn once.
        turn_tokens: Tokens that a request adds on average, exponentially distributed.
        answer_tokens: Tokens of an answer on average, likewise.
        block_tokens: Tokens of a block.
        nodes: Nodes that serve; a conversation stays with one.
        tenants: Whose conversations they are, evenly.
        slo_ms: In which time answers begin.
        model: Digest of the model, as text.
    """

    requests: Annotated[int, Limits(0, 50_000_000)] = 10_000
    seed: Annotated[int, Limits(0)] = 0
    rate: Annotated[float, Limits(above=0, unit="1/s")] = 2.0
    turns: Annotated[float, Limits(1)] = 4.0
    think_s: Annotated[float, Limits(above=0, unit="s")] = 20.0
    prefixes: Annotated[int, Limits(1, 1 << 20)] = 40
    zipf: Annotated[float, Limits(0, 10)] = 1.1
    prefix_blocks: Annotated[int, Limits(1, 4096)] = 8
    turn_tokens: Annotated[float, Limits(1, 1e6)] = 1500.0
    answer_tokens: Annotated[float, Limits(1, 1e6)] = 300.0
    block_tokens: Annotated[int, Limits(1, 1 << 20)] = 512
    nodes: Annotated[int, Limits(1, 1 << 20)] = 4
    tenants: Annotated[int, Limits(1, 26)] = 3
    slo_ms: Annotated[int, Limits(0, 1 << 40, unit="ms")] = 500
    model: str = "sha256:" + "0" * 64

    def __post_init__(self) -> None:
        check_limits(self)


def sessions(config: Sessions | None = None, **fields: Any) -> pl.DataFrame:
    """Draw a trace of conversations that share system prompts and grow turn by turn.

    A request's prompt is all that was said in its conversation before, and what it adds. Its last
    block may be short; it has another hash once it is full. Times begin at 0.

    Args:
        config: How; or the fields of `Sessions`, by name.
        **fields: See `Sessions`.

    Returns:
        The columns of `traces.SCHEMA`, sorted by time.

    Raises:
        ConfigError: A field is out of its limits.
        DataError: Both are given, conversations would have too many turns or a prompt too many
            blocks, or the trace would last more than 2**61 ns.
    """
    if config is not None and fields:
        raise DataError("both a config and fields are given", expected="one of them")
    c = config or Sessions(**fields)
    # More conversations than are needed: those that begin later than the last request are cut off.
    rng = np.random.Generator(np.random.Philox(c.seed))
    count = c.requests
    begins = np.cumsum(rng.exponential(1e9 / c.rate, count))
    turns = rng.geometric(1 / c.turns, count)
    if float(turns.sum(dtype=np.float64)) > _MOST_TURNS:
        raise DataError(
            f"{count} conversations have {float(turns.sum(dtype=np.float64)):.3g} turns",
            expected=f"{_MOST_TURNS} at most, as all are drawn before the first ones are taken",
            fix="lower turns or requests",
        )
    owner = np.repeat(np.arange(count), turns)
    gaps = rng.exponential(c.think_s * 1e9, len(owner))
    turn = np.arange(len(owner)) - np.repeat(np.cumsum(turns) - turns, turns)
    gaps[turn == 0] = 0
    adds = 1 + rng.exponential(c.turn_tokens, len(owner)).astype(np.int64)
    answers = 1 + rng.exponential(c.answer_tokens, len(owner)).astype(np.int64)
    lengths = rng.integers(1, c.prefix_blocks, c.prefixes, endpoint=True)
    shares = np.arange(1, c.prefixes + 1) ** -c.zipf
    prefix = np.searchsorted(np.cumsum(shares / shares.sum()), rng.random(count))
    prefix = np.minimum(prefix, c.prefixes - 1)  # the sum may round to less than 1
    node, tenant = rng.integers(0, c.nodes, count), rng.integers(0, c.tenants, count)

    _check_times(begins, gaps, turns)
    ts = begins.astype(np.int64)[owner] + _within(gaps.astype(np.int64), owner)
    said = _within(adds + answers, owner) - answers
    tokens = said + lengths[prefix][owner] * c.block_tokens
    chosen = np.lexsort((turn, owner, ts))[:count]
    owner, tokens = owner[chosen], tokens[chosen]
    return pl.DataFrame(
        {
            "ts_ns": ts[chosen],
            "node": [f"node-{one}" for one in node[owner]],
            "tenant": [f"tenant-{chr(97 + one)}" for one in tenant[owner]],
            "model": [c.model] * len(chosen),
            "session": [f"session-{one}" for one in owner],
            "in_tokens": tokens,
            "out_tokens": answers[chosen],
            "block_hashes": _hashes(c, owner, prefix[owner], lengths[prefix[owner]], tokens),
            "slo_ns": np.full(len(chosen), c.slo_ms * 1_000_000),
        },
        schema=SCHEMA,
    )


def _check_times(begins: NDArray[np.float64], gaps: NDArray[np.float64], turns: Ints) -> None:
    """Refuse times that a trace cannot have."""
    if not len(begins):
        return
    last = float((begins + np.add.reduceat(gaps, np.cumsum(turns) - turns)).max())
    if not last < LATEST:
        raise DataError(
            f"the last request would come after {last:.3g} ns",
            expected=f"{LATEST} ns at most, as in a trace",
            fix="raise rate, or lower think_s, turns or requests",
        )


def _within(values: Ints, owner: Ints) -> Ints:
    """Return running sums that begin anew with each owner."""
    sums = np.cumsum(values)
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    before = sums[first] - values[first]
    return sums - np.repeat(before, np.diff(np.append(first, len(owner))))


def _hashes(c: Sessions, owner: Ints, prefix: Ints, shared: Ints, tokens: Ints) -> pl.Series:
    """Return the hashes of each request's blocks: equal exactly if all is equal up to there."""
    blocks = -(-tokens // c.block_tokens)
    if len(blocks) and blocks.max() > MOST_BLOCKS:
        raise DataError(
            f"a prompt has {blocks.max()} blocks",
            expected=f"{MOST_BLOCKS} at most",
            fix="lower turns or turn_tokens, or raise block_tokens",
        )
    request = np.repeat(np.arange(len(blocks)), blocks)
    position = np.arange(len(request)) - np.repeat(np.cumsum(blocks) - blocks, blocks)
    filled = np.minimum(c.block_tokens, tokens[request] - position * c.block_tokens)
    common = position < shared[request]
    whose = np.where(common, prefix[request], c.prefixes + owner[request])
    mixed = _mix(_mix(_mix(whose) + position.astype(np.uint64)) + filled.astype(np.uint64))
    rows = pl.DataFrame({"request": request, "hash": mixed}).group_by(
        "request", maintain_order=True
    )
    return rows.agg("hash")["hash"]


def _mix(values: NDArray[Any]) -> NDArray[np.uint64]:
    """Spread numbers over 64 bits, one to one, by the finalizer of SplitMix64 (Steele, 2014)."""
    with np.errstate(over="ignore"):
        z = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@dataclass(frozen=True, kw_only=True)
class Synthetic:
    """The synthetic workload of an earlier planner's benchmark, as tables.

    Requests come to 4 nodes for one of 8 layers, with one of 40 prefixes, and ask for a run of 1,
    2, 4, 8 or 16 pages that begins at page 0 to 1023, of 128, 256 or 512 KiB each, due 50 to 600 ms
    from now, for one of 3 tenants, in 1, 2, 5, 10 or 20 ms; all evenly distributed. Pages are moved
    from tier 0 to 1 or from 1 to 2, which take 64 and 16 MiB in a window and have room for as much.
    Heat is how many requests cover a page; layers take 5 ms and half a millisecond more for each
    layer before; a tenant may move 32 MiB in a window. The earlier benchmark says nothing of heat
    and room, nor which tier has which of the two rates: that is our reading.

    Attributes:
        requests: How many.
        seed: Decides all.
        now_ms: When the planner's window begins.
    """

    kind: ClassVar[str] = "synthetic"
    stages: ClassVar[tuple[str, ...]] = ("draw", "aggregate")

    requests: Annotated[int, Limits(0, 50_000_000)] = 200
    seed: Annotated[int, Limits(0)] = 0
    now_ms: Annotated[int, Limits(0, 1 << 50, unit="ms")] = 1_000_000

    def __post_init__(self) -> None:
        check_limits(self)

    def draw(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Return the five tables: int64 but for `lat_ms`, which is float64."""
        rng = np.random.Generator(np.random.Philox(self.seed))
        n = self.requests

        def of(*choices: int) -> Ints:
            return np.array(choices, np.int64)[rng.integers(0, len(choices), n)]

        start, length, src = rng.integers(0, 1024, n), of(1, 2, 4, 8, 16), rng.integers(0, 2, n)
        requests = {
            "req_id": np.arange(n),
            "node": rng.integers(0, 4, n),
            "model": np.full(n, -1),
            "model_id": np.zeros(n, np.int64),
            "model_version": np.zeros(n, np.int64),
            "prefix_id": rng.integers(0, 40, n),
            "layer": rng.integers(0, 8, n),
            "page_start": start,
            "page_end": start + length - 1,
            "tier_src": src,
            "tier_dst": src + 1,
            "deadline_ms": self.now_ms + rng.integers(50, 600, n, endpoint=True),
            "page_bytes": of(128 << 10, 256 << 10, 512 << 10),
            "tenant": rng.integers(0, 3, n),
            "est_fill_ms": of(1, 2, 5, 10, 20),
        }
        caps = np.array([64 * _MIB, 16 * _MIB])
        tables: dict[str, dict[str, NDArray[Any]]] = {
            "requests": requests,
            "heat": _coverage(requests),
            "tier_caps": {"tier": np.arange(1, 3), "bandwidth_caps": caps, "free_bytes": caps},
            "tenant_caps": {
                "tenant": np.repeat(np.arange(3), 2),
                "tier": np.tile(np.arange(1, 3), 3),
                "bandwidth_caps": np.full(6, 32 * _MIB),
            },
            "layer_latency": {"layer": np.arange(8), "lat_ms": 5 + np.arange(8) / 2},
        }
        return tables


def _coverage(requests: dict[str, Ints]) -> dict[str, Ints]:
    """Return for each page of each layer how many requests cover it, and the largest size."""
    length = requests["page_end"] - requests["page_start"] + 1
    row = np.repeat(np.arange(len(length)), length)
    page = (
        requests["page_start"][row]
        + np.arange(len(row))
        - np.repeat(np.cumsum(length) - length, length)
    )
    key = requests["layer"][row] << 32 | page
    keys, place, hits = np.unique(key, return_inverse=True, return_counts=True)
    size = np.zeros(len(keys), np.int64)
    np.maximum.at(size, place, requests["page_bytes"][row])
    return {
        "layer": keys >> 32,
        "page_id": keys & 0xFFFFFFFF,
        "decay_hits": hits,
        "tenant_weight": np.ones(len(keys), np.int64),
        "size_bytes": size,
    }
