"""Plans of data movements, as protobuf and as JSON: read, held against all rules, written again."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

from bb_ir._proto import plan_pb2
from bb_ir.plan import (
    CachePlan,
    Digest,
    DigestAlgorithm,
    FileChunk,
    KvPageRef,
    Plan,
    Quota,
    Rejected,
    SwapPlan,
    SwapWindow,
    TensorSpan,
    TransferKind,
    TransferOp,
    WeightManifest,
    from_bytes,
    from_earlier_json,
    from_json,
    sealed,
    to_bytes,
    to_earlier_json,
    to_json,
    validate,
)
from fuzzing._mutate import change_json, change_message
from fuzzing._target import Finding, Target, Tweak

__all__ = ["PLANS", "TEXTS_OF_PLANS"]

_DIGEST = Digest(DigestAlgorithm.SHA256, bytes(range(32)))


@cache
def _plans() -> tuple[Plan, ...]:
    chunk = FileChunk("w/a", 4, 8, digest=_DIGEST, tensor=TensorSpan("a", "float32", (2,), 0, 8))
    gone = FileChunk("w/b", 0, 3, "sha256:" + "0" * 64)
    read = TransferOp(
        TransferKind.STORAGE2H, "file://w/a", "mem://b/0", 8, 4, note="", op_id="a", lane="disk",
        digest=_DIGEST,
    )  # fmt: skip
    store = TransferOp(
        TransferKind.H2STORAGE, "mem://b/0", "file://new", 8, deps=("a",), priority=-1,
        digest=_DIGEST, codec="zstd", encoded_length=5,
    )  # fmt: skip
    swap = SwapPlan(
        "s", WeightManifest("m", "0", (gone,)), WeightManifest("m", "1", (chunk,)), (read, store),
        SwapWindow(1, 2**63), (gone,), (chunk,), total_bytes=16, bucket_bytes=64,
    )  # fmt: skip
    pages = KvPageRef("kv", 2**40, 1, 2, page_count=2, page_bytes=4096)
    move = TransferOp(
        TransferKind.H2D, "tier://n/tier1", "tier://n/tier2", 8192, kv_refs=(pages,), tenant="t"
    )
    cache_plan = CachePlan("c", (move,), (pages,), (pages,), 20, 5, (), (Rejected("r", "late"),))
    return tuple(sealed(one, producer="fuzz 1", created_ns=3) for one in (swap, cache_plan))


def _held(plan: Plan) -> str:
    """Hold a plan that was read against all rules, and see that it stays what it is."""
    found = validate(plan, quotas=(Quota(9, tier=2),), regions={"mem://b/0": 9}, lane_rate=7)
    str([*map(str, found)])  # must be possible to print, too
    if from_json(Plan, to_json(plan)) != plan or from_bytes(Plan, to_bytes(plan)) != plan:
        raise Finding("a plan that was read is another one after it was written")
    return ""


# --- protobuf --------------------------------------------------------------------------------


@cache
def _binary() -> tuple[bytes, ...]:
    return (*(to_bytes(plan) for plan in _plans()), b"")


def read_plan(data: bytes) -> str:
    """Read a plan from protobuf."""
    return _held(from_bytes(Plan, data))


def change_plan(data: bytes, draw: Random, tweak: Tweak) -> bytes:
    """Change a field of a message, or bytes of what is none."""
    try:
        message: Any = plan_pb2.Plan.FromString(data)
    except Exception:  # noqa: BLE001  # whatever it is
        return tweak(data)
    if draw.randrange(4) == 0:
        return tweak(data)
    change_message(message, draw, tweak)
    return bytes(message.SerializePartialToString())


# --- JSON ------------------------------------------------------------------------------------


@cache
def _texts() -> tuple[bytes, ...]:
    swap, moves = (plan.swap or plan.cache for plan in _plans())
    if not isinstance(swap, SwapPlan) or not isinstance(moves, CachePlan):
        raise TypeError("the plans to begin with are others now")
    # The earlier form has no word for what the second op does.
    earlier = replace(swap, ops=swap.ops[:1], deletes=(), adds=(), total_bytes=0)
    texts = (*map(to_json, _plans()), to_earlier_json(earlier), to_earlier_json(moves))
    return tuple(text.encode() for text in texts)


def read_text(data: bytes) -> str:
    """Read a plan from JSON, of today or of the earlier form."""
    if b"plan_id" not in data:
        return _held(from_json(Plan, data))
    kind = SwapPlan if b"manifest_to" in data else CachePlan
    plan: Any = from_earlier_json(kind, data)
    if from_earlier_json(kind, to_earlier_json(plan)) != plan:
        raise Finding("a plan in the earlier form is another one after it was written")
    validate(plan)
    return ""


PLANS = Target("plans", _binary, change_plan, read_plan, memory=2000)
TEXTS_OF_PLANS = Target("texts-of-plans", _texts, change_json, read_text, memory=2000)
