"""Finds what is installed, in the metadata of distributions alone: nothing is imported here.

Nothing is remembered but what `importlib.metadata` said of folders that have not changed since.
This module must not ask a plugin anything, and stays light: `bb --help` imports it.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "ENTRY_POINT_GROUP",
    "Installed",
    "find",
    "installed",
    "may_be_installed",
    "unprovided",
]

#: The group's name carries the contract's major version: an engine of v1 does not even look at a
#: plugin that was written for v2.
ENTRY_POINT_GROUP = "bytesandbrains.v1"


@dataclass(frozen=True, slots=True)
class Installed:
    """One entry point of an installed distribution.

    Attributes:
        kind: Role, or `op` and other kinds of plugins.
        name: Name within the kind.
        distribution: Name of the distribution that provides it.
        version: Version of that distribution.
        value: Module that holds the hook.
        location: Folder the distribution is installed in.
        requires: What the distribution requires, as its metadata says it.
    """

    kind: str
    name: str
    distribution: str
    version: str
    value: str
    location: str
    requires: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The entry point's name: kind and name."""
        return f"{self.kind}.{self.name}" if self.name else self.kind


def installed(kind: str = "") -> list[Installed]:
    """Return what is installed, sorted; reads metadata and imports nothing."""
    lead = f"{kind}."
    found = [
        _describe(entry)
        for entry in _entry_points()
        if not kind or entry.name == kind or entry.name.startswith(lead)
    ]
    return sorted(found, key=lambda one: (one.kind, one.name, one.distribution))


def find(point: str) -> list[Installed]:
    """Return who provides an entry point, such as `aggregator.krum`: one distribution, or several.

    Reads metadata and imports nothing.
    """
    found = [_describe(entry) for entry in _entry_points() if entry.name == point]
    return sorted(found, key=lambda one: one.distribution)


def unprovided() -> dict[str, str]:
    """Return the names in `BB_PLUGINS` that nobody provides, and which one may have been meant.

    Reads metadata and imports nothing. Where nothing is near, the text is empty.
    """
    chosen = _chosen()
    if not chosen:
        return {}
    from bb_ir.errors import closest

    known = sorted({entry.name for entry in _all_entry_points()})
    return {
        name: next((one for one in known if one.partition(".")[2] == name), "")
        or closest(name, known)
        for name in sorted(chosen.difference(known))
    }


def may_be_installed(kind: str) -> bool:
    """Tell whether there can be a plugin of a kind; false is certain.

    It looks into files as installers leave them, which takes a tenth of what it takes to import
    `importlib.metadata`: for a command that is to be quick where there is nothing to find.
    """
    lead = f"\n{kind}.".encode()
    return any(_mentions(folder or ".", lead) for folder in dict.fromkeys(sys.path))


def _mentions(folder: str, lead: bytes) -> bool:
    try:
        names = os.listdir(folder)  # noqa: PTH208  # a path object costs more
    except FileNotFoundError:
        return False
    except OSError:  # an archive, or something else that an importer of its own can read
        return True
    for name in names:
        if name.endswith((".dist-info", ".egg-info")):
            try:
                with open(f"{folder}/{name}/entry_points.txt", "rb") as file:  # noqa: PTH123  # as above
                    points = file.read()
            except OSError:  # most distributions have none
                continue
            if ENTRY_POINT_GROUP.encode() in points and lead in points:
                return True
    return False


def _entry_points() -> list[EntryPoint]:
    chosen = _chosen()
    found = _all_entry_points()
    return [e for e in found if not chosen or e.name in chosen or e.name.startswith("op.")]


def _chosen() -> set[str]:
    """Return the names that the environment restricts all to; none for no restriction."""
    seen = os.environ.get("BB_PLUGINS", "")
    return {name.strip() for name in seen.split(",") if name.strip()}


def _all_entry_points() -> tuple[EntryPoint, ...]:
    return _read_entry_points(tuple(_stamp(folder) for folder in sys.path))


@lru_cache(maxsize=8)
def _read_entry_points(_folders: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    """Read all metadata: 5 ms with a few plugins, so once for each state of the folders."""
    # Costs 30 to 45 ms to import, and most programs never list plugins.
    from importlib.metadata import entry_points

    return tuple(entry_points(group=ENTRY_POINT_GROUP))


def _stamp(folder: str) -> tuple[str, int]:
    """Return a folder of `sys.path` with when it changed: installing changes it."""
    try:
        return folder, os.stat(folder or ".").st_mtime_ns  # noqa: PTH116  # a path object costs more
    except OSError:
        return folder, 0


def _describe(entry: EntryPoint) -> Installed:
    kind, _, name = entry.name.partition(".")
    dist = entry.dist
    facts = dist.metadata if dist else None  # parsed anew each time it is asked for
    return Installed(
        kind=kind,
        name=name,
        distribution=str(facts["Name"]) if facts else "?",
        version=str(facts["Version"]) if facts else "?",
        value=entry.value,
        location=str(dist.locate_file("")) if dist else "",
        requires=tuple(facts.get_all("Requires-Dist") or ()) if facts else (),
    )
