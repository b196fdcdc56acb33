"""The configuration of a whole federation: one file, a part of it for each Node."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from bb_ir.errors import closest
from bytesandbrains.cli._errors import CliError

if TYPE_CHECKING:
    from bb_runtime import Artifact

__all__ = ["Fixed", "configuration", "fixed_configuration", "read_config"]

#: Class ("" for all), index in it (`None` for all), slot -> fields.
Entries = dict[tuple[str, int | None, str], dict[str, Any]]
#: A Node's index in its class; nobody runs more of them.
_INDEX = re.compile("[0-9]{1,9}")
#: What `{index}` and its like stand for is known when Nodes are made, and not before.
_PLACEHOLDERS: tuple[str, ...] = ("index", "count", "seed")


class BadConfigFile(CliError):
    """A configuration file cannot be read, or names what the program does not have.

    `bb run --config` takes TOML or JSON with a table per slot. The error says which table, or
    where the file breaks.
    """


def read_config(path: Path | None) -> dict[str, Any]:
    """Return what a TOML or JSON file says.

    Raises:
        BadConfigFile: It cannot be read as what its ending says.
    """
    if path is None:
        return {}
    if path.suffix not in (".toml", ".json"):
        raise BadConfigFile(
            f"{str(path)!r} has an unknown ending", expected="a .toml or .json file"
        )
    try:
        text = path.read_text(encoding="utf-8")
        found: Any = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise BadConfigFile(
            f"{str(path)!r} cannot be read: {error.strerror}", fix="check the path"
        ) from error
    except (ValueError, RecursionError) as error:  # both decoders', and bytes that are no UTF-8
        raise BadConfigFile(
            f"{str(path)!r} cannot be read: {error}", fix=f"correct it as {path.suffix[1:].upper()}"
        ) from error
    if not isinstance(found, dict):
        raise BadConfigFile(
            f"{str(path)!r} holds a {type(found).__name__}", expected="tables by slot"
        )
    return cast("dict[str, Any]", found)


def configuration(
    artifact: Artifact, found: Mapping[str, Any], counts: Mapping[str, int], seed: int, file: str
) -> dict[str, Callable[[int], dict[str, Any]]]:
    """Return the configuration of each class's slots, as functions of the Node's index.

    Raises:
        BadConfigFile: A table belongs to no slot, or to a Node that there is not.
    """
    used = {(t.cls, row.slot) for t in artifact.targets.values() for row in t.rows}
    entries = _Reader(used, counts, file).read(found)
    named = {(cls, slot) for cls, _, slot in entries}
    return {
        f"{cls}.{slot}": _fields(entries, cls, slot, counts[cls], seed)
        for cls, slot in sorted(used)
        if {("", slot), (cls, slot)} & named
    }


class Fixed(NamedTuple):
    """What is the same for all Nodes of a class about one of its slots.

    Attributes:
        fields: Fields without a placeholder.
        sample: All fields, as they are for a Node that is the only one of its class.
    """

    fields: dict[str, Any]
    sample: dict[str, Any]


def fixed_configuration(
    artifact: Artifact, found: Mapping[str, Any], file: str
) -> dict[tuple[str, str], Fixed]:
    """Return what is known before there are Nodes, by class and slot.

    What is said for one Node of a class is left out.

    Raises:
        BadConfigFile: A table belongs to no slot.
    """
    used = {(t.cls, row.slot) for t in artifact.targets.values() for row in t.rows}
    entries = _Reader(used, dict.fromkeys(artifact.classes, sys.maxsize), file).read(found)
    sample = dict(zip(_PLACEHOLDERS, (0, 1, 0), strict=True))
    known: dict[tuple[str, str], Fixed] = {}
    for cls, slot in sorted(used):
        fields = {**entries.get(("", None, slot), {}), **entries.get((cls, None, slot), {})}
        known[cls, slot] = Fixed(
            {name: value for name, value in fields.items() if not _is_open(value)},
            {name: _filled(value, sample) for name, value in fields.items()},
        )
    return known


def _is_open(value: Any) -> bool:
    """Tell whether a value holds a placeholder."""
    if isinstance(value, str):
        return any(f"{{{name}}}" in value for name in _PLACEHOLDERS)
    if isinstance(value, dict):
        value = list(value.values())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return isinstance(value, list) and any(map(_is_open, value))  # pyright: ignore[reportUnknownArgumentType]


def _fields(
    entries: Entries, cls: str, slot: str, count: int, seed: int
) -> Callable[[int], dict[str, Any]]:
    def fields(index: int) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for place in (("", None, slot), (cls, None, slot), (cls, index, slot)):
            merged.update(entries.get(place, {}))
        known = dict(zip(_PLACEHOLDERS, (index, count, seed), strict=True))
        return {name: _filled(value, known) for name, value in merged.items()}

    return fields


def _filled(value: Any, known: Mapping[str, int]) -> Any:
    """Put numbers in the place of `{index}` and its like; a whole value becomes a number."""
    if isinstance(value, str):
        for name, number in known.items():
            if value == f"{{{name}}}":
                return number
            value = value.replace(f"{{{name}}}", str(number))
        return value
    if isinstance(value, list):
        return [_filled(item, known) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {n: _filled(item, known) for n, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value


class _Reader:
    """Sorts the tables of a file by the slots and Nodes that they are for."""

    def __init__(self, used: set[tuple[str, str]], counts: Mapping[str, int], file: str) -> None:
        self._used = used
        self._slots = {slot for _, slot in used}
        self._counts = counts
        self._file = file
        self._entries: Entries = {}

    def read(self, found: Mapping[str, Any]) -> Entries:
        """Return all fields by class, index and slot."""
        self._collect(found, ())
        return self._entries

    def _collect(self, table: Mapping[str, Any], path: tuple[str, ...]) -> None:
        """Walk the tables down to those of slots; a key with dots is as many tables."""
        for key, value in table.items():
            inside = (*path, *str(key).split("."))
            place = self._place(inside)
            if not isinstance(value, Mapping):
                raise self._no_slot(inside)
            fields = cast("Mapping[str, Any]", value)
            if place is not None:
                self._check(inside, place)
                self._entries.setdefault(place, {}).update(fields)
            elif self._leads_on(inside):
                self._collect(fields, inside)
            else:
                raise self._no_slot(inside)

    def _place(self, path: tuple[str, ...]) -> tuple[str, int | None, str] | None:
        """Read `slot`, `class.slot` or `class.index.slot`; names of slots may have dots."""
        if ".".join(path) in self._slots:
            return "", None, ".".join(path)
        if path[0] not in self._counts:
            return None
        if ".".join(path[1:]) in self._slots:
            return path[0], None, ".".join(path[1:])
        if len(path) > 2 and _INDEX.fullmatch(path[1]) and ".".join(path[2:]) in self._slots:
            return path[0], int(path[1]), ".".join(path[2:])
        return None

    def _leads_on(self, path: tuple[str, ...]) -> bool:
        """Tell whether tables inside this one can be those of slots."""
        rest = path
        if path[0] in self._counts:
            rest = path[2:] if len(path) > 1 and path[1].isdecimal() else path[1:]
        begun = ".".join(rest)
        return not begun or any(slot.startswith(f"{begun}.") for slot in self._slots)

    def _check(self, path: tuple[str, ...], place: tuple[str, int | None, str]) -> None:
        cls, index, slot = place
        if cls and (cls, slot) not in self._used:
            classes = sorted(other for other, used in self._used if used == slot)
            raise BadConfigFile(
                f"[{'.'.join(path)}] is for slot {slot!r}, which class {cls!r} does not use",
                expected=f"a class that does: {', '.join(classes)}",
                fix=f"write [{classes[0]}.{slot}] or [{slot}]",
                where=self._file,
            )
        if index is not None and index >= self._counts[cls]:
            raise BadConfigFile(
                f"[{'.'.join(path)}] is for Node {index} of class {cls!r}",
                expected=f"0 to {self._counts[cls] - 1}",
                fix=f"ask for more with --nodes {cls}={index + 1}, or correct the number",
                where=self._file,
            )

    def _no_slot(self, path: tuple[str, ...]) -> BadConfigFile:
        name = ".".join(path)
        slots, classes = sorted(self._slots), list(self._counts)
        close = closest(name, [*slots, *(f"{cls}.{slot}" for cls in classes for slot in slots)])
        return BadConfigFile(
            f"the configuration has {name!r}, which is no table of a slot",
            expected=f"tables [<slot>] or [<class>.<slot>] with the slots {', '.join(slots)} "
            f"and the classes {', '.join(classes)}",
            fix=f"did you mean [{close}]?" if close else "remove it",
            where=self._file,
        )
