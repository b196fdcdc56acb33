"""Configurations that are known when a program is compiled.

What `bind(..., config=...)` is given is checked against the component's `Config` and written down
as plain data, so that an artifact says it in any language and installs without the file in which
it was written. This module builds no component.
"""

from __future__ import annotations

import dataclasses
import json
import math
import reprlib
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple, cast, get_type_hints

from bb_compiler.errors import BadConfig, ComponentTypeMisfit
from bb_ir.errors import SourceLine
from bb_ir.ids import PeerId
from bb_roles.config import build_config
from bb_roles.contracts import Component
from bb_roles.errors import ConfigError, MissingConfigError

__all__ = ["Configured", "configure"]

#: Plain data may be nested this deep.
_MAX_DEPTH = 16


class Configured(NamedTuple):
    """A slot's configuration as an artifact holds it.

    Attributes:
        text: JSON of the fields that were given.
        types: What follows for the component's values; `None` when a field is still missing.
    """

    text: str
    types: dict[str, str] | None


def configure(cls: type[Component], given: object, slot: str, name: str) -> Configured:
    """Check a configuration against a component's class, and write it down.

    A field without a default may be left for `install`; then nothing follows for types.

    Raises:
        BadConfig: A field has the wrong name, type or value, or is no plain data.
        ComponentTypeMisfit: The component's `value_types` is broken.
    """
    place = f"bind({slot!r}, {name!r}, config=...)"
    values: Any = _fields(given) if _is_instance(given, cls.Config) else given
    if _is_mapping(values):
        values = _entries(values, place)
    try:
        built = _build(cls.Config, values, slot)
    except ConfigError as error:
        raise BadConfig(
            error.found,
            expected=error.expected,
            fix=error.fix,
            where=tuple(_moved(each, slot, place) for each in error.where),
        ) from None
    ordered = {field: values[field] for field in sorted(values)}
    types = None if built is None else _value_types(cls, built, name)
    return Configured(json.dumps(ordered, ensure_ascii=False), types)


def _is_instance(given: object, config: type) -> bool:
    return dataclasses.is_dataclass(config) and isinstance(given, config)


def _fields(given: Any) -> dict[str, Any]:
    return {f.name: getattr(given, f.name) for f in dataclasses.fields(given) if f.init}


def _moved(place: SourceLine | str, slot: str, to: str) -> SourceLine | str:
    """Return a place of an error about install's `config` as one in the call of `bind`."""
    return place.replace(f"config[{slot!r}]", to, 1) if isinstance(place, str) else place


def _build(config: Any, values: Any, slot: str) -> object | None:
    """Return the configuration, or `None` when what is there is right and a field is missing."""
    try:
        built: object = build_config(config, values, slot)
    except MissingConfigError:
        hints = get_type_hints(config, include_extras=True)
        kept = [(f.name, hints[f.name]) for f in dataclasses.fields(config) if f.name in values]
        part = dataclasses.make_dataclass(config.__name__, kept, frozen=True)
        build_config(part, values, slot)
        return None
    return built


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)  # type checkers would know less of what it holds


def _entries(given: Any, place: str, depth: int = 0) -> dict[str, Any]:
    return {_name(n, place): _plain(v, f"{place}[{n!r}]", depth) for n, v in given.items()}


def _name(name: object, place: str) -> str:
    if isinstance(name, str):
        return name
    raise BadConfig(
        f"a field of a configuration is named {reprlib.repr(name)}",
        expected="a text",
        where=place,
    )


def _plain(value: Any, place: str, depth: int = 0) -> Any:
    """Return a value as JSON has it, and `Config` reads it back."""
    if depth > _MAX_DEPTH:
        raise _not_plain(f"data more than {_MAX_DEPTH} levels deep", place)
    if isinstance(value, Enum):
        return _plain(value.value, place, depth + 1)
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, PeerId):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = _fields(value)
    if _is_mapping(value):
        return _entries(value, place, depth + 1)
    if isinstance(value, list | tuple):
        items = enumerate(cast("list[Any]", value))
        return [_plain(item, f"{place}[{at}]", depth + 1) for at, item in items]
    raise _not_plain(f"{reprlib.repr(value)} ({type(value).__name__})", place)


def _not_plain(found: str, place: str) -> BadConfig:
    return BadConfig(
        f"an artifact cannot hold {found}",
        expected="plain data: finite numbers, texts, true and false, None, lists, and mappings "
        "with names",
        fix="write it as plain data, or leave it out and give it to install",
        where=place,
    )


def _value_types(cls: type[Component], config: object, name: str) -> dict[str, str]:
    label = f"value_types of {name!r}"
    try:
        found: Any = cls.value_types(config)
    except Exception as error:
        raise ComponentTypeMisfit(
            f"{label} raises {type(error).__name__}: {error}",
            fix="repair the component; value_types is a pure function of its configuration",
        ) from error
    if _is_mapping(found) and all(isinstance(t, str) for pair in found.items() for t in pair):
        return {**found}
    raise ComponentTypeMisfit(
        f"{label} returns {reprlib.repr(found)}",
        expected='texts of types by `<Op>.<port>`, such as {"Params.params": "params"}',
        fix="repair the component",
    )
