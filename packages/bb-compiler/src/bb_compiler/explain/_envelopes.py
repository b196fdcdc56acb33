"""What one envelope weighs when its counters are known."""

from __future__ import annotations

from collections.abc import Mapping

from bb_compiler._sizes import Counters, Span, known_bytes
from bb_compiler.explain._info import EdgeInfo
from bb_ir.types import parse_type

__all__ = ["envelope_bytes"]


def envelope_bytes(
    edge: EdgeInfo, counters: Counters, dims: Mapping[str, int] | None = None
) -> Span:
    """Return what one envelope weighs whose counters are known: exact where the values are.

    Args:
        edge: One edge of an explanation.
        counters: What its header says.
        dims: As for `explain`.
    """
    if edge.bytes.payload.most is None:
        return edge.bytes.envelope
    ports = [(port.name, parse_type(port.type)) for port in edge.ports]
    hops = edge.answered + bool(edge.answers)
    known = known_bytes(ports, counters, hops=hops, dims=dims or {}, grants=edge.grants)
    return known or edge.bytes.envelope
