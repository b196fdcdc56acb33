"""JSON value by value, with the reasons why a text or a message is none of ours.

`bb_ir.plan.text` is what users see; whole plans go through `_twins`, which comes here for what it
does not plainly confirm.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, cast

from bb_ir.errors import did_you_mean
from bb_ir.plan._fields import Row, rows
from bb_ir.plan._fitting import MAX_TEXT, fit
from bb_ir.plan.binary import MAX_BYTES
from bb_ir.plan.errors import PlanFormatError

__all__ = ["json_bytes", "message_of", "read_object", "value_by_value"]

M = TypeVar("M")

_DIGITS: Final = re.compile(r"-?(0|[1-9][0-9]{0,19})", re.ASCII)


def json_bytes(message: Any) -> bytes:
    """Return a message as canonical JSON in UTF-8.

    Raises:
        PlanFormatError: A value does not fit its field, or the whole is longer than `MAX_BYTES`.
    """
    from bb_ir.plan import _twins

    told = _twins.canonical(message)
    if told is None:
        told = value_by_value(message).encode()
    if len(told) > MAX_BYTES:
        raise _too_long(len(told))
    return told


def value_by_value(message: Any) -> str:
    """Return a message as canonical JSON.

    Raises:
        PlanFormatError: A value does not fit its field.
    """
    return json.dumps(_plain(fit(message)), ensure_ascii=False, separators=(",", ":"))


def message_of(cls: type[M], text: str | bytes) -> M:
    """Read a message.

    Raises:
        PlanFormatError: It is no JSON, too long, or no such message.
    """
    return fit(_message(cls, read_object(text), ""))


def read_object(text: str | bytes) -> dict[str, Any]:
    """Read any JSON object whose names are different, and nothing after it.

    Raises:
        PlanFormatError: It is none, or too long.
    """
    if len(text) > MAX_BYTES:
        raise _too_long(len(text))
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise PlanFormatError(
            f"the text is no JSON: {error}", fix="look whether the file is whole"
        ) from error
    if not isinstance(found, dict):
        raise _misfit("", found, "an object")
    return cast("dict[str, Any]", found)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise PlanFormatError(f"the name {_shown(twice)} comes twice", expected="each name once")
    return found


def _too_long(size: int) -> PlanFormatError:
    return PlanFormatError(
        f"the text has {size} bytes", expected=f"at most {MAX_BYTES}", fix="divide the plan"
    )


# --- writing


def _plain(message: Any) -> dict[str, Any]:
    told: dict[str, Any] = {}
    cls: type[Any] = message.__class__
    for row in rows(cls):
        value = getattr(message, row.name)
        if value is row.default or (value == row.default and row.default is not None):
            continue
        write = _WRITE.get(row.kind)
        if write is None:
            told[row.json] = list(value) if row.many else value
        else:
            told[row.json] = [write(one) for one in value] if row.many else write(value)
    return told


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


_WRITE: Final[dict[str, Callable[[Any], Any]]] = {
    "message": _plain,
    "enum": lambda value: value.name,
    "bytes": _base64,
    "uint64": str,
    "int64": str,
}


# --- reading


def _message(cls: type[M], found: Any, at: str) -> M:
    if not isinstance(found, dict):
        raise _misfit(at, found, "an object")
    known = {row.json: row for row in rows(cls)}
    given: dict[str, Any] = {}
    for name, value in cast("dict[str, Any]", found).items():
        if name not in known:
            raise PlanFormatError(
                f"a {cls.__name__} has no field {_shown(name)}",
                expected=f"one of {', '.join(known)}",
                fix=did_you_mean(name[:80], known) or "a newer version may know it",
                where=f"$.{at}".rstrip("."),
            )
        given[known[name].name] = _field(known[name], value, f"{at}{name}")
    return cls(**given)


def _field(row: Row, value: Any, at: str) -> Any:
    if not row.many:
        return _one(row, value, at)
    if not isinstance(value, list):
        raise _misfit(at, value, "a list")
    listed = cast("Sequence[Any]", value)
    return tuple(_one(row, each, f"{at}[{i}]") for i, each in enumerate(listed))


def _one(row: Row, value: Any, at: str) -> Any:
    if row.kind == "message" and row.of is not None:
        return _message(row.of, value, f"{at}.")
    if row.kind == "enum" and row.of is not None:
        return _enum(row.of, value, at)
    if row.kind == "string":
        return _string(value, at)
    return _bytes(value, at) if row.kind == "bytes" else _number(value, at)


def _string(value: Any, at: str) -> str:
    if not isinstance(value, str):
        raise _misfit(at, value, "a text")
    return value


def _enum(of: type[Any], value: Any, at: str) -> Any:
    known = of.__members__
    if not isinstance(value, str) or value not in known:
        raise _misfit(at, value, f"one of {', '.join(known)}")
    return known[value]


def _bytes(value: Any, at: str) -> bytes:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise _misfit(at, value, "a text in base64")
    try:
        data = base64.b64decode(value.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise _misfit(at, value, "a text in base64") from error
    if _base64(data) != value:  # there are other texts of the same bytes
        raise _misfit(at, value, "a text in base64, with nothing in its last bits")
    return data


def _number(value: Any, at: str) -> int:
    if type(value) is int:
        return value
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    raise _misfit(at, value, "a whole number, or a text of one")


def _misfit(at: str, value: Any, expected: str) -> PlanFormatError:
    place = f"$.{at}".rstrip(".")
    return PlanFormatError(f"`{place}` is {_shown(value)}", expected=expected, where=place)


def _shown(value: Any) -> str:
    if isinstance(value, (str, bool, float)) or value is None:
        text = json.dumps(value)
        return text if len(text) <= 60 else f"{text[:56]}..."
    if isinstance(value, int):
        return str(value) if value.bit_length() < 128 else "a very large number"
    return "an object" if isinstance(value, dict) else "a list"
