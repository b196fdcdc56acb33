"""The contract of planners: what turns a request into a plan of data movements.

**Provisional**: until what carries plans out is there, a minor version may change this module.

A planner is a pure function: the same request gives the same plan, to the last byte, in any process
and on any machine. It reads no file and no clock, draws no numbers and keeps nothing between calls;
what it has to know, the time included, is in the request. It carries nothing out. Its plans are
those of `bb_ir.plan`, and sound: `bb_ir.plan.validate` finds nothing in them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from bb_roles.contracts import NoConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bb_ir.plan import (
        CachePlan,
        Digest,
        KvPageRef,
        KvPolicy,
        OptimizerPolicy,
        Quota,
        SwapPlan,
        SwapWindow,
        WeightManifest,
    )

__all__ = ["CacheRequest", "CacheTables", "ChunkSource", "PageDemand", "Planner", "SwapRequest"]


@dataclass(frozen=True, slots=True)
class ChunkSource:
    """Where the bytes of a chunk can be read, and how they are encoded there.

    Attributes:
        digest: Digest of the chunk, decoded.
        src: The place, as `bb_ir.plan.parse_place` reads it.
        src_offset: First byte there.
        codec: How they are encoded; empty for the chunk's bytes as they are.
        encoded_length: How many encoded bytes there are, when there is a codec.
        src_digest: Digest of the bytes that a difference applies to; `None` if it needs none.
    """

    digest: Digest
    src: str
    src_offset: int = 0
    codec: str = ""
    encoded_length: int = 0
    src_digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class SwapRequest:
    """Asks for a plan that turns one version of a model into another.

    Attributes:
        to: What there shall be; every chunk has a digest.
        from_: What there is; `None` for nothing.
        window: When the swap may happen; `None` for any time.
        sources: Where chunks can be read, other than in their file; several of one chunk in the
            order of preference. One whose base is not in `from_` cannot be used.
        commit_group: Name of the peers that flip together; the plan has it, too.
        rollback_to: Root of the version that is kept; `None` for none.
        kv_policy: What becomes of cached keys and values; `None` when it is not said.
        optimizer_policy: What becomes of the optimizer's state; `None` when it is not said.
    """

    to: WeightManifest
    from_: WeightManifest | None = None
    window: SwapWindow | None = None
    sources: tuple[ChunkSource, ...] = ()
    commit_group: str = ""
    rollback_to: Digest | None = None
    kv_policy: KvPolicy | None = None
    optimizer_policy: OptimizerPolicy | None = None


@dataclass(frozen=True, slots=True)
class PageDemand:
    """Somebody who needs pages of a KV cache at some place.

    Attributes:
        request: Its id, different from those of all other demands.
        pages: The pages, with their size.
        src: Where they are, as `bb_ir.plan.parse_place` reads it.
        dst: Where they are needed, likewise.
        deadline_ns: Until when, in nanoseconds of Unix time; 0 for whenever.
        tenant: On whose account.
        priority: Larger ones first.
    """

    request: str
    pages: KvPageRef
    src: str
    dst: str
    deadline_ns: int = 0
    tenant: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class CacheTables:
    """What a planner of caches looks at, as columns: for windows of many thousand demands.

    Every table maps names to one-dimensional arrays of one length, int64 unless said otherwise.
    What is a text elsewhere is a number here, and `names` has the texts: `names["node"][2]` is the
    name of node 2. A column without names has its numbers for names. A planner refuses columns
    that it does not know, and the lack of those that it needs.

    Attributes:
        requests: A row is a demand for pages. `page_start` and `page_end` (the last one, included),
            `page_bytes`, `tier_src` and `tier_dst`; and where they matter `req_id` (the number of
            the row; rows of one request may share it), `node` (0), `src_node` (`node`), `layer`
            (0), `head` (0), `model`, `model_id`, `model_version` (-1 for none; `model` names
            digests), `prefix_id` or `pcluster` (what has one prefix has one number),
            `deadline_ms` or `deadline_ns` (Unix time; 0 for whenever), `est_fill_ms` (1, may be
            float64), `tenant` (-1 for nobody), `priority` (0), `src_base` and `dst_base` (where
            page 0 of the row's layer begins in its place, in bytes).
        heat: How often pages were hit lately: `layer`, `page_id`, `decay_hits` (may be float64),
            `tenant_weight` (1, may be float64), `size_bytes` (256 KiB).
        tier_caps: What a tier takes in one window, and has room for: `tier`, `bandwidth_caps` and
            `free_bytes` in bytes, `node` (-1 for each node).
        tenant_caps: What a tenant may move in one window, on each node: `tenant`, `tier`,
            `bandwidth_caps` in bytes.
        layer_latency: How long a layer computes: `layer`, `lat_ms` (may be float64).
        held: Pages that are in places already, least recently used first: `tier`, `page_start`,
            `page_end`, `page_bytes`, `node` (0), `layer` (0), `head` (0), and the three of models.
        names: Texts of `node`, `tenant`, `model` and `req_id`, by number.
    """

    requests: Mapping[str, NDArray[Any]]
    heat: Mapping[str, NDArray[Any]] = field(default_factory=dict[str, Any])
    tier_caps: Mapping[str, NDArray[Any]] = field(default_factory=dict[str, Any])
    tenant_caps: Mapping[str, NDArray[Any]] = field(default_factory=dict[str, Any])
    layer_latency: Mapping[str, NDArray[Any]] = field(default_factory=dict[str, Any])
    held: Mapping[str, NDArray[Any]] = field(default_factory=dict[str, Any])
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, Any])

    def __eq__(self, other: object) -> bool:
        """Compare the columns, one by one."""
        if not isinstance(other, CacheTables):
            return NotImplemented
        if dict(self.names) != dict(other.names):
            return False
        tables = [one.name for one in fields(self) if one.name != "names"]
        return all(_same(getattr(self, name), getattr(other, name)) for name in tables)

    __hash__ = None  # type: ignore[assignment]  # arrays may be written to

    def demands(self) -> Iterator[PageDemand]:
        """Yield each row of `requests` as a demand; its id is that of `req_id`.

        It is slow, and meant for tests, for small windows, and for planners that want no columns.
        """
        for row in _rows(self.requests):
            node = self._name("node", row.get("node", 0))
            source = self._name("node", row["src_node"]) if "src_node" in row else node
            yield PageDemand(
                self._name("req_id", row.get("req_id", row["row"])),
                self._pages(row),
                f"tier://{source}/tier{row['tier_src']}",
                f"tier://{node}/tier{row['tier_dst']}",
                row.get("deadline_ns", row.get("deadline_ms", 0) * 10**6),
                self._name("tenant", row.get("tenant", -1)),
                row.get("priority", 0),
            )

    def held_pages(self) -> Iterator[KvPageRef]:
        """Yield each row of `held` as pages, with their node and tier; it is slow, too."""
        for row in _rows(self.held):
            node = self._name("node", row.get("node", 0))
            yield replace(self._pages(row), node=node, tier=row["tier"])

    def _pages(self, row: Mapping[str, Any]) -> KvPageRef:
        from bb_ir.plan import KvPageRef, parse_digest

        model = self._name("model", row.get("model", -1)) if "model" in self.names else ""
        first, last = row["page_start"], row["page_end"]
        return KvPageRef(
            "kv", first, row.get("head", 0), row.get("layer", 0),
            parse_digest(model) if model else None,
            page_count=last - first + 1, page_bytes=row["page_bytes"],
        )  # fmt: skip

    def _name(self, column: str, number: int) -> str:
        if number < 0:
            return ""
        names = self.names.get(column)
        return str(number) if names is None else names[number]


def _same(one: Mapping[str, NDArray[Any]], other: Mapping[str, NDArray[Any]]) -> bool:
    return one.keys() == other.keys() and all(
        a.dtype == other[name].dtype
        and a.shape == other[name].shape
        and bool((a == other[name]).all())
        for name, a in one.items()
    )


def _rows(table: Mapping[str, NDArray[Any]]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table by column, and their number as `row`."""
    columns = {name: column.tolist() for name, column in table.items()}
    for number, values in enumerate(zip(*columns.values(), strict=True)):
        yield dict(zip(columns, values, strict=True)) | {"row": number}


@dataclass(frozen=True, slots=True)
class CacheRequest:
    """Asks for a plan that moves pages of a KV cache in one window.

    Demands are given one by one in `demands` or, where there are many, as columns in `tables`.

    Attributes:
        now_ns: When the window begins, in nanoseconds of Unix time.
        window_ms: How long it is, in milliseconds.
        demands: Who needs what, in the order in which they asked.
        held: Pages that are in the destinations already, least recently used first; those with a
            node are in that tier of it alone.
        quotas: What the plan may move at most.
        tables: Demands, and what else is known, as columns; `demands` and `held` are empty then.
    """

    now_ns: int
    window_ms: int
    demands: tuple[PageDemand, ...] = ()
    held: tuple[KvPageRef, ...] = ()
    quotas: tuple[Quota, ...] = ()
    tables: CacheTables | None = None


class Planner(ABC):
    """Makes plans of requests, of one kind or both.

    Args:
        config: An instance of the class's `Config`.
    """

    #: A frozen dataclass; its fields are checked and converted before the planner is built.
    Config: ClassVar[type] = NoConfig

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def plan(self, request: CacheRequest | SwapRequest) -> CachePlan | SwapPlan:
        """Return the plan for a request: a `SwapPlan` for a swap, a `CachePlan` for a cache.

        Nothing that was asked for gets lost: every chunk of `request.to` is among the plan's `adds`
        or `shared`, and every demand is either met by an op or by pages that are held, or it is
        among `rejected`, with a reason. Called from any thread, also from several at once.

        Args:
            request: What is asked for; it is left as it is.

        Raises:
            UnplannableRequest: No plan can be made of it: it contradicts itself, is of a kind that
                this planner makes no plans for, or asks for what cannot be.
        """
