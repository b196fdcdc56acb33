"""Turns what a user wrote as configuration into a component's typed `Config`."""

from __future__ import annotations

import dataclasses
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from enum import EnumMeta
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from bb_ir.errors import BytesAndBrainsError, closest
from bb_ir.ids import PeerId
from bb_roles.errors import ConfigError, MissingConfigError

if TYPE_CHECKING:
    import msgspec

__all__ = ["build_config"]

#: How msgspec tells what is wrong, and in which field: ``... - at `$.sizes[1]` ``.
_PLACE = re.compile(r"(?P<text>.*) - at `\$\.(?P<name>\w+)(?P<items>(?:\[\d+\])*)(?P<deeper>.*)`")


def build_config(cls: type[Any], given: Any, slot: str) -> Any:
    """Return an instance of `cls` made from a mapping, checked field by field.

    An instance of `cls` is taken as it is; `None` stands for no configuration.

    Raises:
        ConfigError: A field is unknown or has the wrong type.
        MissingConfigError: A field without a default is not given.
    """
    import msgspec  # here, as only who installs something needs it: it takes 6 ms

    if not dataclasses.is_dataclass(cls):
        raise ConfigError(
            f"the component of slot {slot!r} has a Config that is not a dataclass: {cls!r}",
            fix="its author writes @dataclass(frozen=True) above `class Config:`",
        )
    if isinstance(given, cls):
        return given
    values: Any = {} if given is None else given
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"the configuration of slot {slot!r} is a {type(given).__name__}",
            expected=f"a mapping of the fields of {cls.__qualname__}, or an instance of it",
            where=f"config[{slot!r}]",
        )
    fields = dict(cast("Mapping[str, Any]", values))
    _check_names(cls, fields, slot)
    try:
        return msgspec.convert(fields, cls, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise (_wrong_value(error, cls, fields, slot) or _misfit(error, cls, slot)) from None
    except BytesAndBrainsError as error:
        raise _misfit(error, cls, slot) from None
    except (msgspec.MsgspecError, NameError, TypeError, ValueError) as error:
        raise _misfit(error, cls, slot) from error


def _wrong_value(
    error: msgspec.ValidationError, cls: type, fields: Mapping[str, Any], slot: str
) -> ConfigError | None:
    """Return our error for a value of the wrong type, when msgspec tells which one it is."""
    told = _PLACE.fullmatch(str(error))
    if told is None or isinstance(error.__cause__, BytesAndBrainsError):
        return None
    name, items, text = told["name"], told["items"], told["text"]
    value = fields[name]
    for index in re.findall(r"\d+", items):
        value = tuple(value)[int(index)]
    described = f"`{name}{items}` of slot {slot!r} is {reprlib.repr(value)} ({_kind(value)})"
    plain = text.startswith(("Expected `", "Invalid enum value")) and not told["deeper"]
    allowed = list(dict.fromkeys(_allowed(get_type_hints(cls)[name])))
    field = next(f for f in dataclasses.fields(cls) if f.name == name)
    wanted = f"one of {', '.join(map(repr, allowed))}" if allowed else _type_name(field)
    close = _nearest(value, [str(one) for one in allowed])
    return ConfigError(
        described if plain else f"{described}: {text}{told['deeper'] and f' in {name}'}",
        expected=f"{wanted}{_default(field, ', default ')}",
        fix=f"did you mean {close!r}?" if close else "",
        where=f"config[{slot!r}][{name!r}]{items}",
    )


def _kind(value: object) -> str:
    return type(value).__name__


def _allowed(wanted: Any) -> Iterator[object]:
    """Yield the values that a Literal or an enumeration allows, also inside of a union."""
    if isinstance(wanted, EnumMeta):
        yield from (member.value for member in cast("Iterator[Any]", iter(wanted)))
    elif get_origin(wanted) is Literal:
        yield from get_args(wanted)
    else:
        for part in get_args(wanted):
            yield from _allowed(part)


def _nearest(given: object, known: Sequence[str]) -> str:
    """Return the known name that was meant: written alike, or the only one that shares a word."""
    close = closest(str(given), known)
    sharing = [name for name in known if _words(name) & _words(str(given))]
    if close:
        return close
    return sharing[0] if len(sharing) == 1 else ""


def _words(name: str) -> set[str]:
    return {word.rstrip("s") for word in re.split(r"[\W_]+", name.lower()) if word.rstrip("s")}


def _misfit(error: Exception, cls: type, slot: str) -> ConfigError:
    """Return our error for one of msgspec's, or for what a `Config` itself raised inside it."""
    own = error if isinstance(error, BytesAndBrainsError) else error.__cause__
    place = f"config[{slot!r}]"
    if isinstance(own, BytesAndBrainsError):
        return ConfigError(
            f"the configuration of slot {slot!r} does not fit: {own.found}",
            expected=own.expected,
            fix=own.fix,
            where=(place, *own.where),
        )
    return ConfigError(
        f"the configuration of slot {slot!r} does not fit: {error}",
        expected=_signature(cls),
        where=place,
    )


def _check_names(cls: type, values: Mapping[str, Any], slot: str) -> None:
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    for name in values:
        if name not in fields:
            close = _nearest(name, list(fields))
            raise ConfigError(
                f"slot {slot!r} has no configuration field {name!r}",
                expected=_signature(cls),
                fix=f"did you mean {close!r}?" if close else "" if fields else "remove it",
                where=f"config[{slot!r}][{name!r}]",
            )
    unset = [name for name, f in fields.items() if name not in values and _needed(f)]
    if unset:
        raise MissingConfigError(
            f"slot {slot!r} needs {', '.join(unset)}",
            expected=_signature(cls),
            fix=f"pass Config({{{slot!r}: {{{unset[0]!r}: ...}}}}) to install",
            where=f"config[{slot!r}]",
        )


def _needed(f: dataclasses.Field[Any]) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _signature(cls: type) -> str:
    fields = [f for f in dataclasses.fields(cls) if f.init]
    listed = ", ".join(f"{f.name}: {_type_name(f)}{_default(f, ' = ')}" for f in fields)
    return listed or "no configuration at all"


def _type_name(f: dataclasses.Field[Any]) -> str:
    """Return a field's type as its author wrote it, without what stands beside it."""
    written: Any = cast("Any", f.type)
    if get_origin(written) is Annotated:
        written = written.__origin__
    if isinstance(written, type):
        return written.__name__
    text, depth = str(written), 0
    if not (text.startswith("Annotated[") and text.endswith("]")):
        return text
    inner = text.removeprefix("Annotated[")
    for at, letter in enumerate(inner):
        depth += (letter in "[(") - (letter in "])")
        if letter == "," and depth == 0:
            return inner[:at]
    return text


def _default(f: dataclasses.Field[Any], lead: str) -> str:
    if f.default is not dataclasses.MISSING:
        return f"{lead}{reprlib.repr(f.default)}"
    if f.default_factory is dataclasses.MISSING:
        return ""
    # What else makes a default may take long, or fail.
    factory: object = f.default_factory
    plain = factory is dict or factory is list or factory is set or factory is tuple
    return f"{lead}{f.default_factory() if plain else '...'}"


def _decode(wanted: type, value: Any) -> Any:
    """Build the types that msgspec does not know."""
    if wanted is PeerId:
        return value if isinstance(value, PeerId) else PeerId.parse(value)
    if isinstance(value, wanted):
        return value
    raise TypeError(f"expected a {wanted.__name__}, got a {type(value).__name__}")
