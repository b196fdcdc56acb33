"""What a component can be told: the fields of its configuration, read from its own code.

`python -m bytesandbrains.components` prints a page in Markdown on every installed component.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from bb_ir import keys
from bb_roles.errors import PluginError
from bb_roles.limits import Limits, limits_of
from bb_roles.registry import component_class, component_spec, installed

__all__ = [
    "ComponentPage",
    "FieldPage",
    "describe",
    "describe_installed",
    "fields_of",
    "main",
    "markdown",
]

_HEAD = """\
# Components

What the components of this project can be told. In a program it is a mapping under the name of the
slot; in a file for `bb run --config` it is the slot's table. `bb plugins ROLE.NAME` shows the same
for every component that is installed, those of others too. [Roles](roles.md) says what each kind of
component does.

This page is written by `python -m bytesandbrains.components > docs/reference/components.md`.
"""


class FieldPage(NamedTuple):
    """One field of a configuration.

    Attributes:
        name: Its name.
        type: What it takes, such as `int or None`.
        default: What it is when it is not given; empty for a field that must be given.
        meaning: What its author wrote about it; may be empty.
        limits: What a number may be, such as `1 to 9`, where its author declared it.
        unit: What it counts, such as `s` or `bytes`.
    """

    name: str
    type: str
    default: str
    meaning: str
    limits: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class ComponentPage:
    """What there is to know about a component before it is bound.

    Attributes:
        role: Its role.
        name: The name it is bound by.
        summary: One line on what it does.
        distribution: Name of the distribution that provides it.
        cls: Its class, as `module:Class`.
        fields: What its configuration takes.
        ops: Signatures of the ops it has beside those of its role.
    """

    role: str
    name: str
    summary: str
    distribution: str
    cls: str
    fields: tuple[FieldPage, ...]
    ops: tuple[str, ...] = ()


def describe(role: str, name: str) -> ComponentPage:
    """Import one component and return what it can be told.

    Raises:
        UnknownPluginError: Nobody provides it.
        PluginError: It cannot be imported, is provided twice, or does not fit the contract.
    """
    spec = component_spec(role, name)
    cls = component_class(spec)
    provider = next(one.distribution for one in installed(role) if one.name == name)
    return ComponentPage(
        role=role,
        name=name,
        summary=spec.summary or (inspect.getdoc(cls) or "").partition("\n")[0],
        distribution=provider,
        cls=spec.cls,
        fields=fields_of(cls.Config, f"{role}.{name}"),
        ops=tuple(map(str, spec.ops.values())),
    )


def describe_installed() -> list[ComponentPage]:
    """Return the pages of all components that are installed, by role and name.

    Raises:
        PluginError: One of them is broken.
    """
    return [describe(one.kind, one.name) for one in installed() if one.kind in keys.ROLES]


def markdown(pages: Iterable[ComponentPage]) -> str:
    """Return a page in Markdown with one section per component."""
    return "\n".join([_HEAD, *("\n".join(_section(page)) for page in pages)])


def main() -> None:
    """Print the page on all installed components."""
    sys.stdout.write(markdown(describe_installed()))


def _section(page: ComponentPage) -> Iterator[str]:
    yield f"## `{page.role}.{page.name}`\n"
    summary = page.summary[:1].upper() + page.summary[1:].rstrip(".")
    yield f"{summary}. From `{page.distribution}`.\n"
    yield from _table(page)
    if page.ops:
        yield "Ops of its own:\n"
        yield from (f"- `{op}`" for op in page.ops)
        yield ""


def _table(page: ComponentPage) -> Iterator[str]:
    if not page.fields:
        yield "It takes no configuration.\n"
        return
    yield "| Field | Type | Default | Meaning |\n|---|---|---|---|"
    for one in page.fields:
        default = f"`{one.default}`" if one.default else "must be given"
        cells = [f"`{one.name}`", f"`{one.type}`", default, " ".join(_meant(one))]
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    yield ""


def _meant(one: FieldPage) -> Iterator[str]:
    yield one.meaning
    if one.limits or one.unit:
        yield f"({', '.join(filter(None, (one.limits, one.unit)))})"


def fields_of(config: type, label: str) -> tuple[FieldPage, ...]:
    """Return what a configuration takes, field by field.

    Args:
        config: A dataclass.
        label: The plugin it belongs to, for errors.

    Raises:
        PluginError: It is no dataclass.
    """
    if not dataclasses.is_dataclass(config):
        raise PluginError(
            f"plugin {label} has a Config that is not a dataclass: {config!r}",
            fix="its author writes @dataclass(frozen=True) above `class Config:`",
        )
    try:
        hints = typing.get_type_hints(config)
    except (NameError, TypeError):  # names that only a type checker sees
        hints = {}
    meanings = _meanings(config)
    limits: Mapping[str, Limits] = limits_of(config) if hints else {}
    none = Limits()
    return tuple(
        FieldPage(
            name=one.name,
            type=_type_text(hints.get(one.name, one.type)),
            default=_default_text(one),
            meaning=meanings.get(one.name, ""),
            limits=str(limits.get(one.name, none)),
            unit=limits.get(one.name, none).unit,
        )
        for one in dataclasses.fields(config)
        if one.init
    )


def _type_text(hint: Any) -> str:
    """Return a type as people say it; what depends on the version of a library is left out."""
    hint = getattr(hint, "__value__", hint)  # what a `type X = ...` stands for
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " or ".join(map(_value_text, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_type_text, arguments))
    if origin is not None:
        name: str = origin.__name__
        plain = origin.__module__ in ("builtins", "collections.abc") and name != "Callable"
        return f"{name}[{', '.join(map(_type_text, arguments))}]" if plain else name
    if hint is Ellipsis:
        return "..."
    if hint is types.NoneType:
        return "None"
    return hint.__name__ if isinstance(hint, type) else str(hint).removeprefix("typing.")


def _default_text(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return _value_text(field.default)
    if field.default_factory is dataclasses.MISSING:
        return ""
    return _value_text(field.default_factory())


def _value_text(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    told = repr(value)
    # An address says nothing, and is another one each time.
    return f"{type(value).__name__}()" if re.search(r" at 0x[0-9a-fA-F]+", told) else told


def _meanings(config: type) -> dict[str, str]:
    """Return what the docstrings of a class and its bases say of their fields, nearest first."""
    found: dict[str, str] = {}
    for cls in reversed(config.__mro__[:-1]):
        found |= _attributes(inspect.cleandoc(cls.__doc__ or ""))
    return found


def _attributes(doc: str) -> dict[str, str]:
    """Return the entries of a docstring's section `Attributes:`."""
    found: dict[str, str] = {}
    name, inside = "", False
    for line in doc.splitlines():
        if line and not line.startswith(" "):
            inside, name = line.rstrip() == "Attributes:", ""
            continue
        entry = re.match(r" {1,4}(\w+)(?: \([^)]*\))?: *(.*)", line)
        if inside and entry:
            name = entry[1]
            found[name] = entry[2].strip()
        elif inside and name:
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found


if __name__ == "__main__":
    main()
