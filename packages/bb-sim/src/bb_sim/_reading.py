"""Turns tables of a scenario into its dataclasses, with errors that say which name was meant."""

from __future__ import annotations

import dataclasses
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

import msgspec

from bb_ir.durations import parse_duration
from bb_ir.errors import did_you_mean
from bb_sim.errors import BadScenario

__all__ = ["check", "duration", "rate", "read", "share"]

T = TypeVar("T")

_RATE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(k|K|M|G|)(B|bit|b)(?:/s|ps)\s*")
_PREFIX = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}


def read(cls: type[T], given: Any, place: str, *, ready: Mapping[str, Any] | None = None) -> T:
    """Return an instance of a dataclass from a table, checked name by name and value by value.

    Args:
        cls: The dataclass.
        given: The table.
        place: Where it stands, as its user wrote it.
        ready: Values of fields that were read already.

    Raises:
        BadScenario: It is no table, or a name or value of it is wrong.
    """
    if isinstance(given, cls):
        return given
    if not isinstance(given, Mapping):
        raise BadScenario(
            f"[{place}] is {reprlib.repr(given)}", expected=f"a table of {_signature(cls)}"
        )
    table = cast("Mapping[str, Any]", given)
    fields = {field.name: field for field in dataclasses.fields(cast("Any", cls))}
    for name in table:
        if name not in fields:
            raise BadScenario(
                f"[{place}] has no {name!r}",
                expected=_signature(cls),
                fix=did_you_mean(str(name), fields) or f"remove {name!r}",
            )
    done = dict(ready or {})
    missing = [n for n, f in fields.items() if n not in table and n not in done and _needed(f)]
    if missing:
        raise BadScenario(
            f"[{place}] lacks {', '.join(map(repr, missing))}", expected=_signature(cls)
        )
    hints = get_type_hints(cls)
    for name, value in table.items():
        if name not in done:
            done[name] = _value(value, hints[name], f"{name} of [{place}]")
    return cls(**done)


def check(given: Any, place: str) -> None:
    """Check the fields of a dataclass that was made in Python, and of those that stand in it.

    Args:
        given: The instance.
        place: What its user calls it.

    Raises:
        BadScenario: A value is none of its field.
    """
    hints: dict[str, Any] = get_type_hints(given.__class__)
    for field in dataclasses.fields(given):
        value, hint = getattr(given, field.name), hints[field.name]
        parts = list(_parts(value))
        for name, part in parts:
            check(part, f"{field.name}{name}")
        wanted = [one.__name__ for one in _classes(hint)]
        if parts or (wanted and not value):
            continue
        if wanted:
            raise BadScenario(
                f"{field.name} of [{place}] is {reprlib.repr(value)}",
                expected=f"of {', '.join(wanted)}",
            )
        _value(value, hint, f"{field.name} of [{place}]")


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the dataclasses in a value, and what they are called behind its name."""
    if dataclasses.is_dataclass(value):
        yield "", value
    elif isinstance(value, list | tuple):
        for one in cast("Sequence[Any]", value):
            yield from _parts(one)
    elif isinstance(value, Mapping):
        for name, one in cast("Mapping[str, Any]", value).items():
            yield from ((f".{name}", part) for _, part in _parts(one))


def _classes(wanted: Any) -> Iterator[Any]:
    """Yield the dataclasses in a type."""
    if dataclasses.is_dataclass(wanted):
        yield wanted
    for part in get_args(wanted):
        yield from _classes(part)


def _value(value: Any, wanted: Any, place: str) -> Any:
    try:
        return msgspec.convert(value, wanted)
    except msgspec.ValidationError as error:
        literals = list(_literals(wanted))
        raise BadScenario(
            f"{place} is {reprlib.repr(value)}" + ("" if literals else f": {error}"),
            expected=f"one of {', '.join(literals)}" if literals else "",
            fix=did_you_mean(str(value), literals),
        ) from None


def _literals(wanted: Any) -> Iterator[str]:
    """Yield the words that a type allows, also inside of a union."""
    if get_origin(wanted) is Literal:
        yield from map(str, get_args(wanted))
    else:
        for part in get_args(wanted):
            yield from _literals(part)


def _needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _signature(cls: Any) -> str:
    return ", ".join(field.name for field in dataclasses.fields(cls))


def duration(text: str, place: str, *, least: int = 0) -> int:
    """Return the nanoseconds of a duration such as `"20ms"`; `"0"` is none.

    Raises:
        BadScenario: It is not one, or shorter than allowed.
    """
    try:
        found = 0 if re.fullmatch(r"\s*0\s*(ns|us|ms|s|m|h)?\s*", text) else parse_duration(text)
    except ValueError as error:
        raise BadScenario(
            f"{place} is {text!r}", expected=str(error), fix="write such as '20ms' or '1.5s'"
        ) from None
    if found < least:
        raise BadScenario(f"{place} is {text!r}", expected="a duration longer than nothing")
    return found


def rate(text: str, place: str) -> int:
    """Return the bytes per second of a text such as `"10MB/s"` or `"100Mbit/s"`.

    Raises:
        BadScenario: It is not one.
    """
    told = _RATE.fullmatch(text)
    found = 0
    if told:
        found = int(float(told[1]) * _PREFIX[told[2]]) // (1 if told[3] == "B" else 8)
    if found < 1:
        raise BadScenario(
            f"{place} is {text!r}",
            expected="bytes or bits per second, such as '10MB/s' or '100Mbit/s'",
        )
    return found


def share(value: float, place: str) -> float:
    """Return a share, from 0 to 1.

    Raises:
        BadScenario: It is none.
    """
    if not 0 <= value <= 1:
        raise BadScenario(f"{place} is {value}", expected="a share from 0 to 1")
    return value
