"""The base class of users' programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from bb_dsl._checks import suggest
from bb_dsl._misuse import OfModule
from bb_dsl._source import user_line
from bb_dsl.errors import BadOption
from bb_dsl.slots import Slot, SlotHandle

if TYPE_CHECKING:
    from onnx import ModelProto

    from bb_dsl._graph import Graph
    from bb_dsl._output import Output

__all__ = ["Module"]


class Module(OfModule):
    """A distributed program, or a part of one.

    Subclass it, name its slots as class attributes, and record the program in `body`. Slots can
    be handed in by name, so that two Modules share a component:
    `LocalTrainer(model=self.model)`.
    """

    #: Class of the peers on which `body` starts; the Module's own name when empty.
    peer_class: ClassVar[str] = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, value in vars(cls).items():
            nested = f"{cls.__qualname__}.{name}"  # a slot class of its own
            if isinstance(value, type) and issubclass(value, Slot) and value.__qualname__ != nested:
                raise BadOption(
                    f"{name!r} of {cls.__name__} is the class of a slot, and no slot",
                    expected=f"one made of it: {name} = {value.__name__}(...)",
                    fix=f"write the parentheses after {value.__name__}",
                    where=user_line(),
                )

    def __init__(self, **slots: SlotHandle) -> None:
        known = type(self).slot_names()
        for name, handle in slots.items():
            if name not in known:
                raise BadOption(
                    f"{type(self).__name__} has no slot {name!r}",
                    expected=f"one of {', '.join(known)}" if known else "no slots",
                    fix=suggest(name, known),
                    where=user_line(),
                )
            setattr(self, name, handle)

    def body(self, g: Graph) -> None:
        """Record the program."""
        raise NotImplementedError(f"{type(self).__name__} does not define body(g)")

    def build(self) -> ModelProto:
        """Record this Module and return it as an ONNX model, not yet compiled.

        Raises:
            BuildError: What `body` recorded cannot mean anything.
        """
        from bb_dsl._build import build

        return build(self)

    def __call__(self, g: Graph, **inputs: Output) -> dict[str, Output]:
        """Record a call of this Module inside another one; ports go by name.

        Returns:
            The outputs of this Module by name.
        """
        from bb_dsl._call import record_call

        return record_call(g, self, inputs)

    @classmethod
    def slot_names(cls) -> list[str]:
        """Return the names of the slots, in the order of the class's attributes."""
        names = (name for base in reversed(cls.__mro__) for name in vars(base))
        return [n for n in dict.fromkeys(names) if isinstance(getattr(cls, n, None), Slot)]

    def slots_of(self, role: str = "") -> list[SlotHandle]:
        """Return the slots of this Module, in the order of the class's attributes."""
        handles: list[SlotHandle] = [getattr(self, name) for name in type(self).slot_names()]
        return [handle for handle in handles if not role or handle.role == role]

    def submodules(self) -> dict[str, Module]:
        """Return the sub-modules of this Module by attribute."""
        return {name: part for name, part in vars(self).items() if isinstance(part, Module)}
