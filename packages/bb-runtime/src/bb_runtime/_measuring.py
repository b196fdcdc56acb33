"""What is counted of a program's ops: its own metrics, and samples that fell short."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bb_runtime.errors import InvalidArtifact, OpError

if TYPE_CHECKING:
    from bb_runtime._engine import Engine
    from bb_runtime.artifact import Op

__all__ = ["metric_recorder", "sample_counter"]


def metric_recorder(engine: Engine, op: Op) -> Callable[[Any], None]:
    """Return the callable of a metric.

    Raises:
        InvalidArtifact: Another op measures something of another kind under its name.
    """
    name, kind = str(op.attributes["name"]), str(op.attributes["kind"])
    metrics = engine.metrics
    known = metrics.kinds.setdefault(name, kind)
    if known != kind:
        raise InvalidArtifact(
            f"metric {name!r} is a {known} and a {kind}",
            expected="one kind for each name",
            fix="compile the program again",
        )

    def record(value: Any) -> None:
        plain = value.item() if getattr(value, "size", 0) == 1 else value
        if isinstance(plain, bool) or not isinstance(plain, (int, float)):
            raise OpError(f"metric {name!r} is given a {type(value).__name__}", expected="a number")
        fits = kind == "gauge" or math.isfinite(plain)
        if not (fits and metrics.record(name, plain)):
            engine.drop("metric_refused", None, name)

    return record


def sample_counter(engine: Engine, op: Op, sample: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the callable of a sample that reports when there are fewer peers than it asks for.

    The round goes on with those that there are: quorums are of the peers that a send addresses.
    """
    asked, slot = int(op.attributes["n"]), op.slot

    def counted(ctx: Any) -> Any:
        found = sample(ctx)
        if found is not None and len(found) < asked:
            engine.drop("sample_short", None, slot)
        return found

    return counted
