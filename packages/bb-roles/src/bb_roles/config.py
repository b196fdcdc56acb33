"""Turns what a user wrote as configuration into a component's typed `Config`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, cast

import msgspec

from bb_ir.errors import BytesAndBrainsError
from bb_ir.ids import PeerId
from bb_roles.errors import ConfigError, MissingConfigError

__all__ = ["build_config"]


def build_config(cls: type[Any], given: Any, slot: str) -> Any:
    """Return an instance of `cls` made from a mapping, checked field by field.

    An instance of `cls` is taken as it is; `None` stands for no configuration.

    Raises:
        ConfigError: A field is unknown or has the wrong type.
        MissingConfigError: A field without a default is not given.
    """
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
    except (BytesAndBrainsError, msgspec.MsgspecError, NameError, TypeError, ValueError) as error:
        raise _misfit(error, cls, slot) from error


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
            close = get_close_matches(str(name), list(fields), n=1)
            raise ConfigError(
                f"slot {slot!r} has no configuration field {name!r}",
                expected=_signature(cls),
                fix=f"did you mean {close[0]!r}?" if close else "remove it",
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
    fields = dataclasses.fields(cls)
    listed = ", ".join(f"{f.name}: {getattr(f.type, '__name__', f.type)}" for f in fields)
    return listed or "no configuration at all"


def _decode(wanted: type, value: Any) -> Any:
    """Build the types that msgspec does not know."""
    if wanted is PeerId:
        return value if isinstance(value, PeerId) else PeerId.parse(value)
    if isinstance(value, wanted):
        return value
    raise TypeError(f"expected a {wanted.__name__}, got a {type(value).__name__}")
