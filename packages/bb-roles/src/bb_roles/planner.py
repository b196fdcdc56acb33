"""The contract of planners: what turns a request into a plan of data movements.

**Provisional**: until what carries plans out is there, a minor version may change this module.

A planner is a pure function: the same request gives the same plan, to the last byte, in any process
and on any machine. It reads no file and no clock, draws no numbers and keeps nothing between calls;
what it has to know, the time included, is in the request. It carries nothing out. Its plans are
those of `bb_ir.plan`, and sound: `bb_ir.plan.validate` finds nothing in them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from bb_roles.contracts import NoConfig

if TYPE_CHECKING:
    from bb_ir.plan import CachePlan, KvPageRef, Quota, SwapPlan, SwapWindow, WeightManifest

__all__ = ["CacheRequest", "PageDemand", "Planner", "SwapRequest"]


@dataclass(frozen=True, slots=True)
class SwapRequest:
    """Asks for a plan that turns one version of a model into another.

    Attributes:
        to: What there shall be; every chunk has a digest.
        from_: What there is; `None` for nothing.
        window: When the swap may happen; `None` for any time.
    """

    to: WeightManifest
    from_: WeightManifest | None = None
    window: SwapWindow | None = None


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


@dataclass(frozen=True, slots=True)
class CacheRequest:
    """Asks for a plan that moves pages of a KV cache in one window.

    Attributes:
        now_ns: When the window begins, in nanoseconds of Unix time.
        window_ms: How long it is, in milliseconds.
        demands: Who needs what, in the order in which they asked.
        held: Pages that are in the destinations already, least recently used first.
        quotas: What the plan may move at most.
    """

    now_ns: int
    window_ms: int
    demands: tuple[PageDemand, ...] = ()
    held: tuple[KvPageRef, ...] = ()
    quotas: tuple[Quota, ...] = ()


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
