"""What a journal leaves out of its Node's configuration, taken from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bytesandbrains.cli._config import BadConfigFile, read_config
from bytesandbrains.cli._program import literal

if TYPE_CHECKING:
    from bytesandbrains.journal import JournalFiles

__all__ = ["fill_in"]

#: Fields that a journal leaves out, by the name by which a slot was configured.
Lacking = dict[str, list[str]]


def fill_in(records: JournalFiles, given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the fields that a journal leaves out, such as secrets, as far as they are given.

    Args:
        records: The journal.
        given: Configuration files as `bb run` takes them, of which only the fields count that the
            journal leaves out; and `SLOT.FIELD=VALUE`, with a Python literal or a text.

    Raises:
        BadConfigFile: A file cannot be read, does not say for which Node a value is, or the
            journal already holds what is given.
    """
    lacking = _lacking(records)
    found: dict[str, dict[str, Any]] = {}
    for one in given:
        if "=" not in one or Path(one).exists():
            file = read_config(Path(one))
            for slot, fields in lacking.items():
                for name in fields:
                    for value in _of(file, slot, name, one):
                        found.setdefault(slot, {})[name] = value
            continue
        slot, name, value = _pair(one, lacking)
        found.setdefault(slot, {})[name] = value
    return found


def _lacking(records: JournalFiles) -> Lacking:
    from bb_runtime.journal import Kind, opaque_in, read_table

    first = next(iter(records), None)
    config: Any = read_table(first).get("config") if first and first.kind == Kind.INSTALL else {}
    tables = {
        str(slot): cast("dict[object, object]", fields)
        for slot, fields in cast("dict[object, object]", config).items()
        if isinstance(fields, dict)
    }
    return {
        slot: [str(name) for name, value in fields.items() if opaque_in(value)]
        for slot, fields in tables.items()
    }


def _pair(given: str, lacking: Lacking) -> tuple[str, str, Any]:
    """Read `SLOT.FIELD=VALUE`; the class may be left out of the slot."""
    path, _, text = given.partition("=")
    slot, _, name = path.strip().rpartition(".")
    known = [whole for whole, fields in lacking.items() if name in fields and _is_of(slot, whole)]
    if len(known) == 1:
        return known[0], name, literal(text.strip())
    left_out = [f"{whole}.{field}" for whole, fields in lacking.items() for field in fields]
    raise BadConfigFile(
        f"{path.strip()!r} is nothing that the journal leaves out",
        expected=", ".join(left_out) or "nothing: it holds the whole configuration",
        fix="--config SLOT.FIELD=VALUE, for what the journal leaves out only",
    )


def _is_of(slot: str, whole: str) -> bool:
    return slot in {whole, whole.partition(".")[2]}


def _of(file: Mapping[str, Any], slot: str, name: str, path: str) -> list[Any]:
    """Return the value of a field, if a file has one: of its class, else of its slot."""
    cls, _, short = slot.partition(".")
    tables = dict(_tables(file, ()))
    wanted = f"{slot}.{name}"
    single = [
        place
        for place in tables
        if place.endswith(f".{short or slot}.{name}") and place.split(".")[1].isdecimal()
    ]
    if single and (not short or any(place.startswith(f"{cls}.") for place in single)):
        raise BadConfigFile(
            f"[{single[0].rpartition('.')[0]}] has {name!r} for one Node of its class, and a "
            "journal does not say which one its Node was",
            expected="a value for all of them, or the one of this Node",
            fix=f"--config {wanted}=...",
            where=path,
        )
    own = [place for place in tables if place == wanted]
    near = [place for place in tables if short and place == f"{short}.{name}"]
    of_class = [p for p in tables if not short and p.partition(".")[2] == wanted]
    places = own or near or (of_class if len(of_class) == 1 else [])
    return [tables[places[0]]] if places else []


def _tables(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Give all that is no table, by its whole path."""
    for key, value in table.items():
        inside = (*path, str(key))
        yield ".".join(inside), value
        if isinstance(value, Mapping):
            yield from _tables(cast("Mapping[str, Any]", value), inside)
