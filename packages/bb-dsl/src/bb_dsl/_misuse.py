"""What users write by mistake with handles, values and blocks, and what each is told instead.

Python has an answer of its own to all of it, such as "object is not iterable", which says nothing
about what to write. The classes here are bases; type checkers see none of their methods, as they
know by themselves that a value is no number and no sequence. Nothing here records anything.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn, cast

from bb_dsl._source import user_line
from bb_dsl.errors import MissingGraph, NotEntered, NoValueYet, UnknownAttribute
from bb_ir.errors import SourceLine, did_you_mean

__all__ = ["OfGraph", "OfHandle", "OfModule", "OfUnentered", "OfValue", "missing_graph"]

#: What Python asks of a value to make one of its own of it.
_CONVERSIONS = {
    "__int__": "int(...)", "__float__": "float(...)", "__complex__": "complex(...)",
    "__index__": "a number that Python needs at once", "__len__": "len(...)",
    "__abs__": "abs(...)", "__round__": "round(...)", "__array__": "an array",
    "__floordiv__": "//", "__rfloordiv__": "//",
}  # fmt: skip
#: So many names are listed one by one.
_FEW = 16
#: Operators that a block without `with` meets, with those of the right side.
_OPERATORS = (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor",
)  # fmt: skip
_OTHER_OPERATORS = (
    "__lt__", "__le__", "__gt__", "__ge__", "__neg__", "__invert__", "__int__", "__float__",
    "__index__", "__len__", "__getitem__",
)  # fmt: skip


class OfValue:
    """What a recorded value answers when it is taken for one of Python's."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def __bool__(self) -> NoReturn:
            raise _no_value(
                self,
                f"{self!r} has no truth value while a program is recorded",
                "a condition is part of the program: `with g.when(flag):`, and `&`, `|` and `~` "
                "stand for `and`, `or` and `not`",
            )

        def __iter__(self) -> NoReturn:
            raise _no_value(
                self,
                f"{self!r} is one value and cannot be unpacked or gone through while a program is "
                "recorded",
                "`with g.each(value) as item:` runs once per item; net_out gives a tuple only when "
                "it sends several values",
            )

        def __contains__(self, item: object) -> NoReturn:
            raise _no_value(
                self,
                f"`in` {self!r} cannot be answered while a program is recorded",
                "value.equals(...) records a comparison with one value",
            )

        def __format__(self, how: str) -> NoReturn:
            raise _no_value(
                self,
                f"{self!r} has no text while a program is recorded",
                "g.output(name, value) publishes it on every run; `print(value)`, or {value!r} in "
                "an f-string, shows what is known while recording",
            )

        def __eq__(self, other: object) -> bool:
            other_value = isinstance(other, OfValue)
            python = isinstance(other, (numbers.Number, str)) or hasattr(other, "__array__")
            if python and not other_value:
                raise _no_value(
                    self,
                    f"{self!r} cannot be compared with {other!r} by == while a program is recorded",
                    "value.equals(...) records the comparison",
                )
            return self is other

        __hash__ = object.__hash__

        def __getattr__(self, name: str) -> NoReturn:
            if _is_probe(name):
                raise AttributeError(name)  # Python asks by itself, for copies and the like
            raise _no_attribute(self, name, _fix_of_value(self, name))


def _conversion(name: str, call: str) -> Any:
    def refuse(self: Any, *_args: Any, **_options: Any) -> Any:
        fix = {
            "__len__": "g.length(value) records the number of items",
            "__abs__": "self.backend.abs(g, value) records it for a tensor",
            "__array__": "hand the value to an op; g.constant takes what Python knows already",
        }.get(
            name,
            "calculate with it as it is, `value + 1` is recorded; a number that shapes the program "
            "is an argument of the Module, known while recording",
        )
        found = f"{self!r} is no number yet, and Python asks for {call}"
        raise _no_value(self, found, fix)

    return refuse


class OfHandle:
    """What a slot answers when it has no such method."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            if _is_probe(name):
                raise AttributeError(name)
            any_op = f'any op of ONNX is self.{self.name}.op(g, "Name", ...)'
            raise _no_attribute(self, name, any_op if self.role == "backend" else "")


class OfGraph:
    """What a graph answers when it has no such method."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            if _is_probe(name):
                raise AttributeError(name)
            raise _no_attribute(self, name, shown="the graph")


class OfModule:
    """What a Module answers when it has no such slot, sub-module or other attribute."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if _is_probe(name):
                raise AttributeError(name)
            if hasattr(type(self), name):  # a property of the user's raised: its own error counts
                return object.__getattribute__(self, name)
            raise _no_attribute(self, name, shown=type(self).__name__, more=vars(self))


class OfUnentered:
    """What a block answers that nobody entered: it is used without `with`.

    Attributes:
        with_line: The line that enters the block.
        made: Where the block was made.
    """

    with_line: str
    made: SourceLine

    if not TYPE_CHECKING:

        def __iter__(self) -> NoReturn:
            raise _not_entered(self, "`for` would run once, while the program is recorded")

        def __bool__(self) -> NoReturn:
            raise _not_entered(self, "`if` decides once, while the program is recorded")

        def __format__(self, how: str) -> NoReturn:
            raise _not_entered(self, "a block stands in a text")

        def __getattr__(self, name: str) -> NoReturn:
            if name in ("made", "with_line") or _is_probe(name):
                raise AttributeError(name)
            raise _not_entered(self, f"a block is asked for .{name}")


def _refuse_operator(self: Any, *_others: Any) -> Any:
    raise _not_entered(self, "a block is used like a value")


for _name in (f"__{side}{name}__" for name in _OPERATORS for side in ("", "r")):
    setattr(OfUnentered, _name, _refuse_operator)
for _name in _OTHER_OPERATORS:
    setattr(OfUnentered, _name, _refuse_operator)
for _name, _call in _CONVERSIONS.items():
    setattr(OfValue, _name, _conversion(_name, _call))


def missing_graph(function: str, args: tuple[Any, ...], names: list[str]) -> MissingGraph:
    """Complain about a function, or a method of a slot, that is called without the graph."""
    texts = [repr(one) if isinstance(one, (int, float, str)) else "..." for one in args]
    call = ", ".join(["g", *texts, *(f"{name}=..." for name in names)])
    return MissingGraph(
        f"the first argument of {function} is g, the graph that body is given",
        fix=f"{function}({call})",
        where=user_line(),
    )


def _no_value(value: Any, found: str, fix: str) -> NoValueYet:
    where = tuple(dict.fromkeys((user_line(), *value.graph.lines_of(value))))
    return NoValueYet(found, expected="an op of the program", fix=fix, where=where)


def _not_entered(block: OfUnentered, found: str) -> NotEntered:
    return NotEntered(
        found,
        expected="a `with` statement; the program repeats or decides what is inside",
        fix=block.with_line,
        where=tuple(dict.fromkeys((user_line(), block.made))),
    )


def _fix_of_value(value: Any, name: str) -> str:
    fields = [field for field, _ in value.type.items or ()]
    if value.type.kind in ("record", "any") and (not fields or name in fields):
        return f'a field of a record is read by [...]: {value.label}["{name}"]'
    return did_you_mean(name, fields) and f"{did_you_mean(name, fields)[:-1]}, read by [...]?"


def _no_attribute(
    owner: Any, name: str, fix: str = "", shown: str = "", more: Iterable[str] = ()
) -> UnknownAttribute:
    names = {*dir(cast("object", type(owner))), *more}
    known = sorted(one for one in names if not one.startswith("_"))
    return UnknownAttribute(
        f"{shown or repr(owner)} has no {name!r}",
        expected=f"one of {', '.join(known)}" if len(known) <= _FEW else "",
        fix=did_you_mean(name, known) or fix,
        where=user_line(),
    )


def _is_probe(name: str) -> bool:
    return name.startswith("_")
