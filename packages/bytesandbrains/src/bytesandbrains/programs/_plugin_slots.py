"""Slots for protocols that are plugins: their ops are those that the installed plugin declares."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import bb_dsl as dsl
from bb_ir.types import Type

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bb_dsl import Graph, Output

__all__ = ["PluginHandle"]


class PluginHandle(dsl.slots.ProtocolHandle):
    """Records ops of a protocol by their names."""

    #: Name of the protocol's plugin.
    plugin: ClassVar[str]

    def __init__(self, owner: dsl.Module, name: str, facts: dict[str, str]) -> None:
        from bb_roles.registry import component_spec

        super().__init__(owner, name, facts)
        vars(self)["ops"] = component_spec("protocol", self.plugin).ops

    @property
    def known(self) -> Mapping[str, Type]:
        """Types of results that the ops leave open, by their kind."""
        return {}

    def call(self, g: Graph, op: str, *values: Output, after: Output | None = None) -> list[Output]:
        """Record an op; returns its results. Peers among them are of the class of those given."""
        known = {
            **self.known,
            **{value.type.kind: value.type for value in values if value.type.kind == "peers"},
        }
        types = [known.get(port.type.kind, port.type) for port in self.ops[op].results]
        return self._record(g, op, *values, after=after, types=types)
