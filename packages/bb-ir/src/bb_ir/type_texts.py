"""Types in the words of an error: short enough to read, and where two of them part.

The parameters of a large model are thousands of characters as a type. This module shortens what
people read; what is written into artifacts is `str(type)`.
"""

from __future__ import annotations

from bb_ir.types import Type, meet

__all__ = ["brief", "clash"]

#: Longer texts are cut down.
_LONG = 120
#: So many names are listed before `and n more`.
_LISTED = 3


def brief(known: Type) -> str:
    """Return the text of a type; for one with many entries, their number and the first of them."""
    text = str(known)
    if len(text) <= _LONG or not known.items:
        return text
    if known.kind == "list":
        return f"list({brief(known.items[0][1])})"
    (name, first), count = known.items[0], len(known.items)
    return f"{known.kind}({name}:{brief(first)},...) of {count}"


def clash(given: Type, wanted: Type) -> str:
    """Return in words which entries of two types exclude each other; nothing for plain types."""
    if given.kind != wanted.kind or given.items is None or wanted.items is None:
        return ""
    if given.kind == "list":
        return clash(given.items[0][1], wanted.items[0][1])
    has, needs = dict(given.items), dict(wanted.items)
    said = [f"lacks {_names([n for n in needs if n not in has])}"] if needs.keys() - has else []
    if has.keys() - needs:
        said.append(f"has {_names([n for n in has if n not in needs])} besides")
    other = [n for n in needs if n in has and meet(has[n], needs[n]) is None]
    if other:
        name = other[0]
        more = f", and {len(other) - 1} more differ" if len(other) > 1 else ""
        said.append(f"{name!r} is {brief(has[name])}, not {brief(needs[name])}{more}")
    if not said and list(has) != list(needs):
        said.append("the entries stand in another order")
    return "; ".join(said)


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(map(repr, names[:_LISTED])) + more
