"""Pass 10: ops of one slot, within one region, keep the order in which they were recorded.

A block counts as an op on every slot that its turns use: it begins after what was recorded before
it, and what was recorded after it waits for its last turn. Blocks whose frames outlive the one that
starts them are waited for by nobody.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from onnx import FunctionProto, ModelProto, NodeProto

from bb_compiler._blocks import is_block, is_child_block
from bb_ir import keys, onnx_tools
from bb_ir.ops import schema_of


def sequence_effects(model: ModelProto) -> ModelProto:
    """Stamp order edges: a writer after earlier ops of its slot, a reader after the last writer."""
    result = ModelProto()
    result.CopyFrom(model)
    for function in result.functions:
        _Sequence(function).run()
    return result


class _Sequence:
    def __init__(self, function: FunctionProto) -> None:
        self.function = function
        regions = json.loads(onnx_tools.get_meta(function, keys.REGIONS))
        self.parents: dict[str, str] = {r["name"]: r["parent"] for r in regions}
        self.used = self._slots_of_blocks()
        self.last_writer: dict[tuple[str, str], NodeProto] = {}
        self.readers: dict[tuple[str, str], list[NodeProto]] = {}

    def run(self) -> None:
        for node in self.function.node:
            own = _slot(node)
            used = {own[0]: own[1]} if own else {}
            if is_block(node):
                used = self.used.get(onnx_tools.get_meta(node, keys.OPENS), {})
            region = onnx_tools.get_meta(node, keys.REGION)
            before: list[NodeProto] = []
            for slot, writes in used.items():
                before += self._follow(node, (region, slot), writes=writes)
            _stamp(node, before)

    def _follow(self, node: NodeProto, place: tuple[str, str], *, writes: bool) -> list[NodeProto]:
        """Put an op behind those that it must follow on a slot, and return them."""
        last = self.last_writer.get(place)
        before = [] if last is None else [last]
        waited_for = not is_block(node) or is_child_block(node)
        if writes:
            before += self.readers.get(place, [])
        if writes and waited_for:
            self.readers.pop(place, None)
            self.last_writer[place] = node
        elif waited_for:
            self.readers.setdefault(place, []).append(node)
        return before

    def _slots_of_blocks(self) -> dict[str, dict[str, bool]]:
        """Return for each block the slots that its turns use, and whether they change them."""
        used: dict[str, dict[str, bool]] = {}
        for node in self.function.node:
            found = _slot(node)
            if found is None:
                continue
            slot, writes = found
            region = onnx_tools.get_meta(node, keys.REGION)
            while region:
                here = used.setdefault(region, {})
                here[slot] = writes or here.get(slot, False)
                region = self.parents[region]
        return used


def _slot(node: NodeProto) -> tuple[str, bool] | None:
    """Return the slot of a role op, and whether the op may change it."""
    slot = onnx_tools.get_meta(node, keys.SLOT)
    schema = schema_of(node)
    return None if not slot or schema is None else (slot, schema.effect != "reads")


def _stamp(node: NodeProto, before: Iterable[NodeProto]) -> None:
    names = dict.fromkeys(other.output[0] for other in before)
    onnx_tools.set_meta(node, keys.ORDER, ",".join(names))
