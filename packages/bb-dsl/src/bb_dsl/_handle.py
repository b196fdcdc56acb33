"""What `self.model` gives: a slot of one Module instance."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from bb_dsl._misuse import OfHandle, missing_graph
from bb_ir.ops import ROLE_OPS, OpSchema
from bb_ir.types import Type

if TYPE_CHECKING:
    from bb_dsl._graph import Graph
    from bb_dsl._module import Module
    from bb_dsl._output import Output

    After: TypeAlias = Output | Sequence[Output] | None

__all__ = ["SlotHandle"]


class SlotHandle(OfHandle):
    """A slot of one Module instance; what `self.model` gives.

    Attributes:
        name: The attribute's name.
        role: Its role.
        ops: Ops of the components it is made for, beside those of its role.
    """

    role: ClassVar[str] = ""
    ops: ClassVar[Mapping[str, OpSchema]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, method in list(vars(cls).items()):
            if name.startswith("_") or not inspect.isfunction(method):
                continue
            if list(inspect.signature(method).parameters)[1:2] == ["g"]:
                setattr(cls, name, _wants_graph(method))

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
        schema = ROLE_OPS[self.role].get(op) or self.ops[op]
        slot = self.full_name(g)
        return g.role_op(self.role, slot, schema, inputs, attributes, after=after, types=types)


def _wants_graph(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that says so when the graph is forgotten, before Python counts arguments."""

    @wraps(method)
    def method_of_slot(self: SlotHandle, *args: Any, **kwargs: Any) -> Any:
        from bb_dsl._graph import Graph

        if not isinstance(args[0] if args else kwargs.get("g"), Graph):
            given = tuple(one for one in args if not isinstance(one, Graph))
            names = [name for name in kwargs if name != "g"]
            raise missing_graph(f"self.{self.name}.{method.__name__}", given, names)
        return method(self, *args, **kwargs)

    return method_of_slot
