"""Digests of plans and manifests, and digests as text."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from typing import Any, Final

from bb_ir.plan._json import json_bytes
from bb_ir.plan.errors import PlanFormatError
from bb_ir.plan.messages import CachePlan, Digest, DigestAlgorithm, FileChunk, Plan, SwapPlan

__all__ = [
    "SCHEMA_VERSION",
    "chunk_digest",
    "content_digest",
    "digest_text",
    "parse_digest",
    "sealed",
]

#: Version of the schema that this module writes and reads.
SCHEMA_VERSION: Final = 1

_TEXT: Final = re.compile(r"(sha256|blake3):([0-9a-f]{64})", re.ASCII)


def content_digest(message: Any) -> Digest:
    """Return the SHA-256 of what a message says: of a plan, a manifest, or any other.

    It is the digest of `bb.plan.v1.<name of the message>`, a line feed, and the canonical JSON in
    UTF-8. The `plan_id` of a `CachePlan` or `SwapPlan` is a name and left out, so plans that move
    the same have the same digest. That of a `Plan` is that of the plan in it.

    Raises:
        PlanFormatError: A value does not fit its field, or a `Plan` is empty.
    """
    if isinstance(message, Plan):
        message = message.cache or message.swap
        if message is None:
            raise PlanFormatError("the Plan is empty", expected="`cache` or `swap`")
    if isinstance(message, CachePlan | SwapPlan):
        message = dataclasses.replace(message, plan_id="")
    head = f"bb.plan.v1.{type(message).__name__}\n"
    told = hashlib.sha256(head.encode() + json_bytes(message))
    return Digest(DigestAlgorithm.SHA256, told.digest())


def sealed(
    plan: CachePlan | SwapPlan, *, producer: str, created_ns: int, label: str = "",
    parent: Digest | None = None,
) -> Plan:  # fmt: skip
    """Put a plan in its envelope, under its content digest.

    Args:
        plan: The plan.
        producer: Which planner made it, with its version.
        created_ns: When, in nanoseconds of Unix time; nothing here reads a clock.
        label: For people.
        parent: Digest of what it builds on.
    """
    held: dict[str, Any] = {"cache" if isinstance(plan, CachePlan) else "swap": plan}
    return Plan(
        SCHEMA_VERSION, digest_text(content_digest(plan)), label, producer, created_ns, parent,
        **held,
    )  # fmt: skip


def digest_text(digest: Digest) -> str:
    """Return a digest as text, such as `sha256:9f86...`.

    Raises:
        PlanFormatError: It is of no algorithm, or not as long as those of its algorithm.
    """
    text = f"{digest.algorithm.name.lower()}:{digest.value.hex()}"
    if not _TEXT.fullmatch(text):
        raise PlanFormatError(
            f"a digest of {len(digest.value)} bytes says {digest.algorithm.name}",
            expected="SHA256 or BLAKE3, and 32 bytes",
        )
    return text


def parse_digest(text: str) -> Digest:
    """Read a digest that `digest_text` wrote.

    Raises:
        PlanFormatError: It is none.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        raise PlanFormatError(
            f"{text[:80]!r} is no digest",
            expected="sha256: or blake3:, and 64 hexadecimal digits in small letters",
        )
    return Digest(DigestAlgorithm[found[1].upper()], bytes.fromhex(found[2]))


def chunk_digest(chunk: FileChunk) -> Digest | None:
    """Return the digest of a chunk, from whichever field has it; `None` when neither does.

    Raises:
        PlanFormatError: The text is no digest, or the two fields say different things.
    """
    if not chunk.sha256:
        return chunk.digest
    told = parse_digest(chunk.sha256)
    if told.algorithm is not DigestAlgorithm.SHA256:
        raise PlanFormatError(f"`sha256` is {chunk.sha256!r}", expected="the digest that it names")
    if (
        chunk.digest is not None
        and told.algorithm is chunk.digest.algorithm
        and told != chunk.digest
    ):
        raise PlanFormatError(
            f"`sha256` of {chunk.path[:80]!r} says another digest than `digest`",
            expected="the same in both, or one of them",
        )
    return chunk.digest or told
