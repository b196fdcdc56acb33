"""What is in a plan: its content without the envelope, what it starts from, and when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bb_ir.plan import (
    CachePlan,
    Digest,
    FileChunk,
    InvalidPlan,
    Medium,
    Plan,
    SwapPlan,
    TransferKind,
    chunk_digest,
)

__all__ = ["NEVER_NS", "content_of", "group_of", "media_of", "old_chunks", "window_of"]

#: A time that never comes.
NEVER_NS: Final = 1 << 64


def content_of(plan: CachePlan | SwapPlan | Plan) -> CachePlan | SwapPlan:
    """Return what is in the envelope of a plan, or the plan itself.

    Raises:
        InvalidPlan: The envelope is empty, or it is no plan.
    """
    content: object = (plan.cache or plan.swap) if isinstance(plan, Plan) else plan
    if isinstance(content, CachePlan | SwapPlan):
        return content
    raise InvalidPlan(
        f"a {type(plan).__name__} holds no plan",
        expected="a CachePlan or a SwapPlan, or a Plan with one of them",
        fix="give the plan itself",
    )


def old_chunks(plan: CachePlan | SwapPlan) -> dict[Digest, FileChunk]:
    """Return the chunks of the version that a swap starts from, by their digest."""
    if not isinstance(plan, SwapPlan) or plan.from_ is None:
        return {}
    return {digest: one for one in plan.from_.files if (digest := chunk_digest(one))}


def window_of(plan: CachePlan | SwapPlan) -> tuple[int, int]:
    """Return when a plan may begin, and when it is given up."""
    if isinstance(plan, CachePlan):
        return plan.now_ns, NEVER_NS
    if plan.window is None:
        return 0, NEVER_NS
    return plan.window.t_start_ns, plan.window.t_deadline_ns


def group_of(dst: str) -> str:
    """Return what a place shares its lanes with: a tier of a node, or a scheme."""
    scheme = dst.partition("://")[0]
    return dst if scheme == "tier" else scheme


#: Kinds of ops to devices that are arenas in host memory.
_TO_HOST: Final = {TransferKind.STORAGE2H, TransferKind.H2H, TransferKind.NET2H}


def media_of(plan: CachePlan | SwapPlan) -> Mapping[str, Medium]:
    """Return what a plan takes devices to be on: arenas in host memory, where its ops say so.

    Arenas stand for devices here, and both are right: a plan for devices, and one that was made
    for arenas.
    """
    kinds = {op.kind for op in plan.ops if op.dst.startswith("device://")}
    return {"device": Medium.HOST} if kinds & _TO_HOST else {}
