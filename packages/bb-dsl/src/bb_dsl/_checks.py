"""Checks of what a user hands to the recorder; each raises with the user's line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, cast

from bb_dsl._misuse import OfUnentered
from bb_dsl._source import user_line
from bb_dsl.errors import BadOption
from bb_ir import keys
from bb_ir.durations import parse_duration
from bb_ir.errors import TypeTextError, closest
from bb_ir.types import Type, parse_type

if TYPE_CHECKING:
    from onnx import AttributeProto

__all__ = [
    "check_class",
    "check_name",
    "check_one_of",
    "check_text",
    "positive",
    "quorum_text",
    "read_deadline",
    "read_duration",
    "read_flag",
    "read_replies",
    "read_retries",
    "read_size",
    "read_type",
    "suggest",
    "to_array",
    "to_attribute",
]

_NAME_MARKS = frozenset("/|#,:. ")
#: A deadline that follows what was measured, and how its bound is said.
_AUTO, _AT_MOST = "auto", "at most"
#: Targets of a Module's bootstrap are called `<Module>.bootstrap`.
_TAKEN_CLASSES = ("bootstrap",)


def check_text(what: str, name: Any) -> None:
    """Check that a name is one: people forget it and give the first value instead."""
    if not isinstance(name, str):
        raise BadOption(
            f"{name!r} stands where the name of the {what} is expected",
            expected="a text first, then the values",
            where=user_line(),
        )


def check_name(what: str, name: str) -> None:
    """Check the name of an input, output, edge or peer class."""
    check_text(what, name)
    if not name or _NAME_MARKS & set(name) or name.startswith("@") or not name.isprintable():
        raise BadOption(
            f"{name!r} cannot be the name of {'a' if what == 'peer class' else 'an'} {what}",
            expected="a name without spaces, a leading @, or any of "
            f"{' '.join(sorted(_NAME_MARKS - {' '}))}",
            where=user_line(),
        )
    if what == "edge" and (name == "main" or name.startswith("main@")):
        raise BadOption(
            f"{name!r} names a region that an invocation starts",
            fix="give the edge another name",
            where=user_line(),
        )


def check_class(name: str) -> None:
    """Check the name of a peer class; `@self` stands for the class of the place."""
    if name == keys.SELF_CLASS:
        return
    check_name("peer class", name)
    if name in _TAKEN_CLASSES:
        raise BadOption(
            f"a peer class cannot be called {name!r}: targets of that name exist already",
            fix="give the class another name",
            where=user_line(),
        )


def check_one_of(option: str, value: object, allowed: Sequence[str]) -> None:
    """Check an option with a closed set of values."""
    if value not in allowed:
        raise BadOption(
            f"{option}={value!r}",
            expected=" or ".join(map(repr, allowed)),
            fix=suggest(str(value), allowed),
            where=user_line(),
        )


def positive(option: str, value: Any) -> int:
    """Check a number that is part of the program itself."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise BadOption(
            f"{option}={value!r}",
            expected="a whole number from 1 on, known while recording",
            where=user_line(),
        )
    return int(value)


def quorum_text(quorum: Any) -> str:
    """Return the quorum as exact text: a share `"4/5"` or a number `"#3"`."""
    number = 0.0 if isinstance(quorum, bool) or not isinstance(quorum, Real) else float(quorum)
    if isinstance(quorum, Integral) and number >= 1:
        return f"#{int(quorum)}"
    if not isinstance(quorum, Integral) and 0 < number <= 1:
        return str(Fraction(str(quorum)))
    raise BadOption(
        f"quorum={quorum!r}",
        expected="a share above 0 and up to 1.0 as a float, or a number of peers as an int",
        fix="1.0 stands for all peers, 1 for a single one",
        where=user_line(),
    )


def read_duration(option: str, text: object) -> int:
    """Return the nanoseconds of a duration."""
    if not isinstance(text, str):
        raise BadOption(
            f"{option}={text!r}", expected="a text with a unit, such as '30s'", where=user_line()
        )
    try:
        return parse_duration(text)
    except ValueError as error:
        measured = text.startswith(_AUTO)
        raise BadOption(
            f"{option}={text!r}",
            expected=str(error),
            fix=f"only a gather measures: g.gather(..., deadline='{_AUTO}, {_AT_MOST} 30s')"
            if measured
            else "",
            where=user_line(),
        ) from error


def read_deadline(text: object) -> dict[str, int]:
    """Return what a gather says about its deadline: how long it is, and whether it is measured."""
    word, comma, most = text.partition(",") if isinstance(text, str) else ("", "", "")
    if word.strip() != _AUTO:
        return {"deadline_ns": read_duration("deadline", text)}
    if not comma:
        return {"auto": 1}
    said, _, bound = most.partition(_AT_MOST)
    try:
        return {"auto": 1, "deadline_ns": parse_duration("" if said.strip() else bound)}
    except ValueError as error:
        raise BadOption(
            f"deadline={text!r}",
            expected=f"{_AUTO!r}, or with a bound '{_AUTO}, {_AT_MOST} 30s'",
            where=user_line(),
        ) from error


def read_size(option: str, given: object) -> int:
    """Return a number of bytes."""
    if type(given) is int and 0 < given < 1 << 63:
        return given
    raise BadOption(
        f"{option}={given!r}",
        expected="a whole number of bytes, such as 1 << 20 for 1 MiB",
        where=user_line(),
    )


def read_retries(given: object) -> int:
    """Return how often an envelope is sent again."""
    if type(given) is int and 0 <= given <= keys.MAX_RETRIES:
        return given
    raise BadOption(
        f"retries={given!r}",
        expected=f"a whole number from 0 to {keys.MAX_RETRIES}",
        where=user_line(),
    )


def read_flag(option: str, given: object) -> bool:
    """Return what is true or false."""
    if isinstance(given, bool):
        return given
    raise BadOption(f"{option}={given!r}", expected="True or False", where=user_line())


def read_replies(given: object) -> int:
    """Return how often a peer answers."""
    if type(given) is int and 1 <= given <= keys.MAX_REPLIES:
        return given
    raise BadOption(
        f"replies={given!r}",
        expected=f"a whole number from 1 to {keys.MAX_REPLIES:,}",
        where=user_line(),
    )


def suggest(word: str, known: Sequence[str]) -> str:
    """Return a question that names the closest known word, or nothing."""
    close = closest(word, known)
    return f"did you mean {close!r}?" if close else ""


def read_type(given: Type | str) -> Type:
    """Return a type that was given as such or as text."""
    if isinstance(given, Type):
        return given
    try:
        return parse_type(given)
    except TypeTextError as error:
        raise BadOption(
            error.found, expected=error.expected, fix=error.fix, where=user_line()
        ) from error


def to_array(value: Any, dtype: str) -> Any:
    """Return a constant as an array; a number must survive the change of its type."""
    import numpy as np

    given = np.asarray(value)
    if given.dtype.kind == "U":
        return given.astype(object)
    if not dtype:
        as_written = given.dtype != np.float64 or hasattr(value, "dtype")
        return given if as_written else given.astype(np.float32)
    try:
        array = given.astype(dtype)
    except (TypeError, ValueError) as error:
        raise BadOption(
            f"{value!r} cannot be a constant of {dtype}: {error}",
            fix=part_of(value),
            where=user_line(),
        ) from error
    if array.dtype.kind in "iub" and not np.array_equal(array, given):
        raise BadOption(
            f"{value!r} cannot be a constant of {dtype}, which the other operand is",
            expected=f"a value that {dtype} can hold",
            fix="cast the other operand first: self.backend.op(g, 'Cast', x, to=1)",
            where=user_line(),
        )
    return array


def part_of(value: object) -> str:
    """Return what to write instead of something that holds or opens values, or nothing."""
    if isinstance(value, OfUnentered):
        return f"it is a block: {value.with_line}"
    if isinstance(value, Mapping) and value:
        return f"it holds several: take one by name, [{next(iter(cast('Any', value)))!r}]"
    return "it holds several: take one, [0]" if isinstance(value, tuple) and value else ""


def to_attribute(op_type: str, name: str, value: Any) -> AttributeProto:
    """Return an attribute of an op."""
    from onnx import helper

    try:
        return helper.make_attribute(name, value)
    except (TypeError, ValueError) as error:
        raise BadOption(
            f"{name}={value!r} cannot be an attribute of {op_type}: {error}",
            expected="a number, a text, a list of them or a tensor, known while recording",
            where=user_line(),
        ) from error
