"""Plans: checked lists of data movements, for swapping weights and moving pages of a KV cache.

What a plan says is in `messages`; `to_bytes` and `to_json` write it, `content_digest` names it, and
`validate` says whether it is sound. Nothing here does I/O or reads a clock.
"""

from bb_ir.plan.binary import MAX_BYTES, from_bytes, to_bytes
from bb_ir.plan.differences import Changes, changes, chunk_place
from bb_ir.plan.digests import (
    SCHEMA_VERSION,
    chunk_digest,
    content_digest,
    digest_text,
    parse_digest,
    sealed,
)
from bb_ir.plan.earlier import from_earlier_json, to_earlier_json
from bb_ir.plan.errors import InvalidPlan, PlanFormatError
from bb_ir.plan.messages import (
    CachePlan,
    Digest,
    DigestAlgorithm,
    FileChunk,
    KvPageRef,
    KvPolicy,
    OptimizerPolicy,
    Plan,
    Rejected,
    SwapPlan,
    SwapWindow,
    TensorSpan,
    TransferKind,
    TransferOp,
    WeightManifest,
)
from bb_ir.plan.places import Medium, Place, parse_place
from bb_ir.plan.schema import proto_path
from bb_ir.plan.text import from_json, to_json
from bb_ir.plan.validation import RULES, Problem, Quota, check, validate

__all__ = [
    "MAX_BYTES", "RULES", "SCHEMA_VERSION", "CachePlan", "Changes", "Digest", "DigestAlgorithm",
    "FileChunk", "InvalidPlan", "KvPageRef", "KvPolicy", "Medium", "OptimizerPolicy", "Place",
    "Plan", "PlanFormatError", "Problem", "Quota", "Rejected", "SwapPlan", "SwapWindow",
    "TensorSpan", "TransferKind", "TransferOp", "WeightManifest", "changes", "check",
    "chunk_digest", "chunk_place", "content_digest", "digest_text", "from_bytes",
    "from_earlier_json", "from_json", "parse_digest", "parse_place", "proto_path", "sealed",
    "to_bytes", "to_earlier_json", "to_json", "validate",
]  # fmt: skip
