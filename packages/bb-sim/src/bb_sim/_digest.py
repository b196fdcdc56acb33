"""A digest of all that a run did: equal digests, equal runs.

Every peer has a chain of XXH3 over its steps and their virtual times; those of its past lives are
joined to one. The digest of a run is one
over all chains in the order of the peers, so it does not depend on the order in which the
simulator looks at peers that do not hear of each other. An envelope counts by what it says, so
that it makes no difference whether it is handed on as bytes or by reference. XXH3 compares runs and
defends against nobody; the digest of the whole run is a SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from xxhash import xxh3_128, xxh3_128_digest

from bb_ir.values import Encoded
from bb_ir.wire import (
    DEFAULT_LIMITS,
    PRELUDE_SIZE,
    EnvelopeHead,
    read_header,
    read_prelude,
)
from bb_runtime import Referred, Ship, Step
from bb_runtime.digests import StepDigests

__all__ = ["Chain", "digest_of_run", "joined"]


class Chain:
    """What one peer did so far.

    Attributes:
        state: 16 bytes that stand for all of it.
    """

    __slots__ = ("state",)

    def __init__(self, state: bytes = bytes(16)) -> None:
        self.state = state

    def add(self, when: int, steps: Sequence[Step]) -> None:
        """Add steps that were reported together, at an instant."""
        if not steps:
            return
        digests, shared = StepDigests(), dict[int, bytes]()
        found = xxh3_128(self.state)
        found.update(when.to_bytes(8, "little") + len(steps).to_bytes(4, "little"))
        for step in steps:
            told = _ship_digest(step, shared) if type(step) is Ship else digests.of(step)
            found.update(told)
        self.state = found.digest()


def joined(past: bytes, chain: bytes) -> bytes:
    """Return one chain for all past lives of a peer and the one after them."""
    return xxh3_128_digest(past + chain)


def digest_of_run(chains: Iterable[tuple[int, int, bytes]]) -> str:
    """Return the digest of a run, of the number, the life and the chain of each peer."""
    found = hashlib.sha256()
    for number, life, chain in sorted(chains):
        found.update(number.to_bytes(8, "little") + life.to_bytes(8, "little") + chain)
    return found.hexdigest()


def _ship_digest(step: Ship, shared: dict[int, bytes]) -> bytes:
    """Return the digest of an envelope; values that many of them share are read once."""
    envelope = step.envelope
    if isinstance(envelope, Referred):
        head = envelope.read()
        values = shared.get(id(envelope.values))
        if values is None:
            values = shared[id(envelope.values)] = _values_digest(envelope.fills)
    else:
        view = memoryview(envelope.head)
        head = read_header(read_prelude(view, DEFAULT_LIMITS), view[PRELUDE_SIZE:], DEFAULT_LIMITS)
        values = _values_digest(_fills_of(head, envelope.segments))
    return xxh3_128_digest(step.to.raw + _facts(head) + values)


def _facts(head: EnvelopeHead) -> bytes:
    """Return what a header says beside its values."""
    told = [
        f"{head.edge} {head.incarnation} {head.message_id} {head.remaining_ns} {head.in_reply_to} "
        f"{head.retry} {head.payload_length} {head.control};".encode(),
        head.program,
    ]
    if head.after:
        told.append(f"after {head.after};".encode())
    for frame, incarnation, peer, grant in head.chain:
        told += (f"{frame} {incarnation};".encode(), peer, grant)
    return b"".join(told)


def _fills_of(head: EnvelopeHead, segments: Sequence[memoryview]) -> list[Encoded]:
    return [
        Encoded(fill.inline if fill.segment < 0 else segments[fill.segment], fill.codec, fill.shape)
        for fill in head.fills
    ]


def _values_digest(fills: Sequence[Encoded]) -> bytes:
    found = xxh3_128()
    for data, codec, shape in fills:
        found.update(f"{codec} {shape} {len(memoryview(data).cast('B'))};".encode())
        found.update(data)
    return found.digest()
