"""Whether values fit the fields they are in: types, ranges, lengths. Pure, and total.

This says nothing of whether a plan makes sense; that is `validate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar, cast

from bb_ir.plan._fields import RANGES, Row, rows
from bb_ir.plan.errors import PlanFormatError

__all__ = ["MAX_DIGEST", "MAX_ITEMS", "MAX_TEXT", "Misfit", "fit", "misfits"]

T = TypeVar("T")

#: Most characters of a text, entries of a list, and bytes of a digest.
MAX_TEXT: Final = 4096
MAX_ITEMS: Final = 1 << 20
MAX_DIGEST: Final = 64


class Misfit(NamedTuple):
    """A value that its field cannot hold.

    Attributes:
        at: The field, such as `ops[3].length`.
        found: What it is.
        expected: What it may be.
    """

    at: str
    found: str
    expected: str


def fit(message: T) -> T:
    """Return a message of which every value fits.

    Raises:
        PlanFormatError: One does not.
    """
    for misfit in misfits(message):
        raise PlanFormatError(
            f"`{misfit.at}` of a {type(message).__name__} {misfit.found}", expected=misfit.expected
        )
    return message


def misfits(message: Any, at: str = "") -> Iterator[Misfit]:
    """Yield all values in a message that do not fit their fields."""
    cls: type[Any] = message.__class__
    for row in rows(cls):
        value = getattr(message, row.name)
        if value is row.default:
            continue
        if row.many:
            yield from _list(value, row, f"{at}{row.name}")
        else:
            yield from _value(value, row, f"{at}{row.name}")
    if getattr(message, "cache", None) is not None and message.swap is not None:
        yield Misfit(f"{at}swap", "is given beside `cache`", "one of them")


def _list(values: Any, row: Row, at: str) -> Iterator[Misfit]:
    if type(values) is not tuple:
        yield Misfit(at, f"is a {type(values).__name__}", "a tuple")
        return
    listed = cast("Sequence[Any]", values)
    if len(listed) > MAX_ITEMS:
        yield Misfit(at, f"has {len(listed)} entries", f"at most {MAX_ITEMS}")
        return
    for index, value in enumerate(listed):
        yield from _value(value, row, f"{at}[{index}]")


def _value(value: Any, row: Row, at: str) -> Iterator[Misfit]:
    if row.kind == "message":
        yield from _message(value, row, at)
        return
    told = _OF_KIND[row.kind](value, row)
    if told:
        yield Misfit(at, *told)


def _message(value: Any, row: Row, at: str) -> Iterator[Misfit]:
    if type(value) is row.of:
        yield from misfits(value, f"{at}.")
    elif value is not None or row.many:
        wanted = "" if row.of is None else row.of.__name__
        yield Misfit(at, f"is a {type(value).__name__}", f"a {wanted}")


def _string(value: Any, _row: Row) -> tuple[str, str] | None:
    if not isinstance(value, str):
        return f"is a {type(value).__name__}", "a text"
    if len(value) > MAX_TEXT:
        return f"has {len(value)} characters", f"at most {MAX_TEXT}"
    # Half of a pair of surrogates has no encoding.
    if not value.isascii() and any("\ud800" <= one <= "\udfff" for one in value):
        return "holds half a character", "text that UTF-8 can encode"
    return None


def _bytes(value: Any, _row: Row) -> tuple[str, str] | None:
    if not isinstance(value, bytes):
        return f"is a {type(value).__name__}", "bytes"
    if len(value) > MAX_DIGEST:
        return f"has {len(value)} bytes", f"at most {MAX_DIGEST}"
    return None


def _number(value: Any, row: Row) -> tuple[str, str] | None:
    least, most = RANGES[row.kind]
    if type(value) is not int:
        return f"is a {type(value).__name__}", "a whole number"
    if not least <= value <= most:
        # Python refuses to write down numbers of more than some thousand digits.
        shown = str(value) if value.bit_length() < 128 else f"a number of {value.bit_length()} bits"
        return f"is {shown}", f"{least} to {most}"
    return None


def _enum(value: Any, row: Row) -> tuple[str, str] | None:
    if row.of is not None and not isinstance(value, row.of):
        return f"is a {type(value).__name__}", f"a {row.of.__name__}"
    return None


_OF_KIND: Final[dict[str, Callable[[Any, Row], tuple[str, str] | None]]] = {
    "string": _string,
    "bytes": _bytes,
    "enum": _enum,
    **dict.fromkeys(RANGES, _number),
}
