"""Which message a send most likely answers, for the error about one that goes elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from onnx import NodeProto

from bb_ir import keys

if TYPE_CHECKING:
    from bb_compiler._placement import Region

__all__ = ["answered_by_send"]


def answered_by_send(
    node: NodeProto, homes: Mapping[str, str], regions: Mapping[str, Region]
) -> Region | None:
    """Return the region in which all that a send carries stands, if its peers are asked there.

    What a message brought is sent from where it arrived to peers that are known where it came from:
    whoever writes this means to answer.

    Args:
        node: The op.
        homes: Region of each value.
        regions: All regions by name.
    """
    if node.domain != keys.WIRE or node.op_type != keys.SEND:
        return None
    to, *carried = (homes.get(name, "") for name in node.input)
    if len(set(carried)) != 1 or carried[0] not in regions:
        return None
    region = regions[carried[0]]
    while region.kind and region.parent:
        region = regions[region.parent]
    asker = "" if region.kind else region.opened_in
    while asker and asker != to:
        asker = regions[asker].parent
    return region if asker else None
