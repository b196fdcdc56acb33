"""Whether the methods of a component's class take what they will be given.

Python finds out when a method is called: in the middle of a round, on somebody else's Node. It is
the same for every call, so it is looked at once, when the class is bound.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import FunctionType
from typing import Any, NamedTuple
from weakref import WeakSet

from bb_ir.errors import SourceLine
from bb_roles.contracts import Component
from bb_roles.errors import PluginError

__all__ = ["check_signatures"]

_BY_NAME = ", and those after the * by these names"
_CHECKED: WeakSet[type[Component]] = WeakSet()


class _Call(NamedTuple):
    """How a method is called: so many values in order, and others by name."""

    method: str
    positional: tuple[str, ...]
    keywords: tuple[str, ...]

    def __str__(self) -> str:
        star = ("*", *self.keywords) if self.keywords else ()
        return f"{self.method}({', '.join(('self', *self.positional, *star))})"


def check_signatures(cls: type[Component], contract: type[Component], label: str) -> None:
    """Check that the methods of a class can be called as its contract and its own ops say.

    Args:
        cls: The class, which inherits `contract` and lacks no method.
        contract: The contract of its role.
        label: The plugin that names it.

    Raises:
        PluginError: A method does not take what it is given.
    """
    if cls in _CHECKED:
        return
    for call in (*_of_contract(contract), *_of_ops(cls)):
        function = inspect.getattr_static(cls, call.method)
        # What is made by a library may take anything; only a call would tell.
        if not isinstance(function, FunctionType) or _takes(function, call):
            continue
        raise PluginError(
            f"plugin {label}: {cls.__qualname__}.{call.method}{_written(function)} does not take "
            "what it is given",
            expected=f"def {call}",
            fix="give it these arguments, in this order" + _BY_NAME * bool(call.keywords),
            where=SourceLine(function.__code__.co_filename, function.__code__.co_firstlineno),
        )
    _CHECKED.add(cls)


def _of_contract(contract: type[Component]) -> Iterator[_Call]:
    methods: dict[str, FunctionType] = {}
    for owner in reversed(contract.__mro__):
        if issubclass(owner, Component):
            methods |= {n: f for n, f in vars(owner).items() if isinstance(f, FunctionType)}
    for name, function in methods.items():
        if name.startswith("_") and name != "__init__":
            continue
        _, *given = inspect.signature(function).parameters.values()
        yield _Call(
            name,
            tuple(p.name for p in given if p.kind is not p.KEYWORD_ONLY),
            tuple(p.name for p in given if p.kind is p.KEYWORD_ONLY),
        )


def _of_ops(cls: type[Component]) -> Iterator[_Call]:
    for schema in cls.ops.values():
        inputs = tuple(port.name for port in schema.inputs)
        keywords = tuple(attribute.name for attribute in schema.attributes)
        yield _Call(schema.method, ("ctx", *inputs), keywords)


def _takes(function: FunctionType, call: _Call) -> bool:
    given: tuple[Any, ...] = ("self", *call.positional)
    try:
        inspect.signature(function).bind(*given, **dict.fromkeys(call.keywords))
    except TypeError:
        return False
    return True


def _written(function: FunctionType) -> str:
    """Return the parameters of a function as its author wrote them, without types."""
    signature = inspect.signature(function)
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))
