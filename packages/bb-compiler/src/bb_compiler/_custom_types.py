"""Types of values that plugins add, as far as the compiler needs them: whether they are there.

Names of installed types are read from metadata; no plugin is imported.
"""

from __future__ import annotations

from bb_compiler.errors import NotSendable
from bb_ir.errors import SourceLine, closest
from bb_ir.types import Type, custom_names
from bb_roles.registry import installed_types, type_point

__all__ = ["absent_types", "not_installed"]


def absent_types(known: Type) -> list[str]:
    """Return the names of types that a type mentions and no installed plugin adds."""
    names = custom_names(known)
    if not names:
        return []
    there = installed_types()
    return [name for name in names if name not in there]


def not_installed(name: str, value: str, edge: str, where: tuple[SourceLine, ...]) -> NotSendable:
    """Return the error about a value of such a type that is sent."""
    there = installed_types()
    own = name.partition("/")[0]
    versions = [one for one in there if one.partition("/")[0] == own]
    near = closest(name, there)
    close = versions or ([near] if near else [])
    hint = f"did you mean {' or '.join(map(repr, close))}? otherwise " if close else ""
    return NotSendable(
        f"{value} cannot cross edge {edge!r}: no installed plugin adds type {name!r}, so nothing "
        "here knows its bytes",
        expected=f"installed types: {', '.join(there) or 'none'}",
        fix=f"{hint}install the plugin that provides {type_point(name)}",
        where=where,
    )
