"""Tells of data that several Nodes read and that nobody said how to split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bb_runtime import Artifact

__all__ = ["unsplit"]


def unsplit(
    artifact: Artifact, counts: Mapping[str, int], config: Mapping[str, Any]
) -> tuple[str, ...]:
    """Return a line for each data source of several Nodes that has no configuration at all.

    Args:
        artifact: The program, with what it was compiled with.
        counts: How many Nodes each class gets.
        config: What is configured, by `CLASS.SLOT`.
    """
    found = {
        (target.cls, row.slot, row.component)
        for target in artifact.targets.values()
        for row in target.rows
        if row.role == "data_source"
        and not row.config
        and counts.get(target.cls, 0) > 1
        and f"{target.cls}.{row.slot}" not in config
    }
    return tuple(
        f"nothing tells the {counts[cls]} {cls} Nodes which part of the data is theirs: slot "
        f"{slot!r} ({component}) has no configuration; --config FILE gives each a part"
        for cls, slot, component in sorted(found)
    )
