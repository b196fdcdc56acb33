"""What `self.model` gives: a slot of one Module instance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from bb_ir.ops import ROLE_OPS
from bb_ir.types import Type

if TYPE_CHECKING:
    from bb_dsl._graph import Graph
    from bb_dsl._module import Module
    from bb_dsl._output import Output

    After: TypeAlias = Output | Sequence[Output] | None

__all__ = ["SlotHandle"]


class SlotHandle:
    """A slot of one Module instance; what `self.model` gives.

    Attributes:
        name: The attribute's name.
        role: Its role.
    """

    role: ClassVar[str] = ""

    def __repr__(self) -> str:
        return f"<{self.role} slot {self.name!r} of {type(self._owner).__name__}>"

    def __init__(self, owner: Module, name: str, facts: dict[str, str]) -> None:
        self.name = name
        self._owner = owner
        self._facts = facts

    def full_name(self, g: Graph) -> str:
        """Return the slot's name as seen from the root Module of a recording."""
        return g.root.slot_name(self._owner, self.name, self.role, self._facts)

    def _record(
        self,
        g: Graph,
        op: str,
        *inputs: Output,
        after: After = None,
        types: Sequence[Type] = (),
        **attributes: Any,
    ) -> list[Output]:
        schema = ROLE_OPS[self.role][op]
        slot = self.full_name(g)
        return g.role_op(self.role, slot, schema, inputs, attributes, after=after, types=types)
