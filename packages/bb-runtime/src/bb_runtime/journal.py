"""The records of a journal: what comes into a Node, in order, and digests of what it reported.

A Node that is installed with `journal=` hands every record to that callable, as bytes that say
themselves how long they are; files are the host's. This module reads and writes what stands in
records, `_records` the records. It keeps no file and runs no Node.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple, cast

from bb_ir.dump import Kinds, dump, load
from bb_ir.errors import BytesAndBrainsError, IdError
from bb_ir.ids import PeerId
from bb_ir.values import Codecs
from bb_runtime import _portable as portable
from bb_runtime._records import (
    END,
    START,
    Chain,
    Kind,
    Record,
    Scan,
    damaged,
    head_of,
    kind_in,
    records_of,
)
from bb_runtime.errors import JournalDamaged

__all__ = [
    "END",
    "START",
    "Chain",
    "Kind",
    "Opaque",
    "Record",
    "Scan",
    "head_of",
    "kind_in",
    "records_of",
]

VERSION: Final = 2
_NUMBER: Final = struct.Struct("<q")
#: So deep is looked for what can be written beside what cannot.
_DEPTH: Final = 20
#: What one step takes in a record: its kind and the first bytes of its digest.
STEP_BYTES: Final = 9


class Opaque(NamedTuple):
    """Stands for a value that cannot be written.

    Attributes:
        name: Name of its type.
    """

    name: str


#: Named tuples that records may hold.
KINDS: Final[Kinds] = {**portable.KINDS, "opaque": Opaque}
#: Looks codecs of plugins' types up, when a value is of one.
FindCodecs = Callable[[], Codecs]


def no_codecs() -> Codecs:
    """Return no codecs: what is read or written is of no type of a plugin."""
    return {}


# What stands in the bodies


class Call(NamedTuple):
    """A call of a Node's method.

    Attributes:
        name: Of the method.
        args: What it was given.
        kwargs: What it was given by name.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Offer(NamedTuple):
    """An envelope that was offered, and what was answered: a reason, or nothing for a lease."""

    source: PeerId
    prelude: bytes
    header: bytes
    refused: str


class Done(NamedTuple):
    """A completion of deferred work.

    Attributes:
        work: Number of the work, in the order in which the Node's components deferred it.
        value: What came back.
        code: Code of the error that came back instead; empty when none did.
        text: What the error said.
        interrupt: Whether the error was no `Exception`.
    """

    work: int
    value: Any
    code: str = ""
    text: str = ""
    interrupt: bool = False


class Raised(NamedTuple):
    """What a call raised: its code, and whether it was no `Exception`."""

    code: str
    interrupt: bool


def write_value(value: Any, codecs: FindCodecs = no_codecs) -> bytes:
    """Return a value as bytes; what means nothing elsewhere becomes `Opaque`."""
    packer = portable.Packer(codecs)
    try:
        return dump(packer.pack(value), kinds=KINDS)
    except Exception:  # noqa: BLE001  # objects of others may raise anything when they are read
        return dump(_writable(value, packer, 0), kinds=KINDS)


def _writable(value: Any, packer: portable.Packer, depth: int) -> Any:
    """Return a value in which what cannot be written is `Opaque`."""
    if isinstance(value, Opaque):
        return value
    if depth < _DEPTH and type(value) is dict:
        table = cast("dict[object, object]", value)
        return {_leaf(key, packer): _writable(one, packer, depth + 1) for key, one in table.items()}
    if depth < _DEPTH and type(value) in (list, tuple):
        items = [_writable(one, packer, depth + 1) for one in cast("list[object]", value)]
        return items if isinstance(value, list) else tuple(items)
    return _leaf(value, packer)


def _leaf(value: Any, packer: portable.Packer) -> Any:
    try:
        packed = packer.pack(value)
        dump(packed, kinds=KINDS)
    except Exception:  # noqa: BLE001  # as above
        return Opaque(type(value).__qualname__)
    return packed


def opaque_in(value: Any) -> str:
    """Return the name of a type that could not be written, or an empty text."""
    if isinstance(value, Opaque):
        return value.name
    items: list[object] = []
    if isinstance(value, dict):
        table = cast("dict[object, object]", value)
        items = [*table.keys(), *table.values()]
    elif isinstance(value, list | tuple):
        items = [*cast("list[object]", value)]
    return next((name for item in items if (name := opaque_in(item))), "")


def write_offer(
    prelude: bytes | memoryview, header: bytes | memoryview, source: PeerId, refused: str
) -> bytes:
    """Return the body of an offer."""
    raw, why = source.raw, refused.encode()
    sizes = bytes((len(raw), len(why))) + len(prelude).to_bytes(4, "little")
    return b"".join((sizes, raw, why, prelude, header))


def read_offer(record: Record) -> Offer:
    """Return what a record says about an offer."""
    body = record.body
    try:
        source, why = body[0], body[1]
        prelude = 6 + source + why
        header = prelude + int.from_bytes(body[2:6], "little")
        body[header - 1]  # it must not break off
        return Offer(
            PeerId(bytes(body[6 : 6 + source])),
            bytes(body[prelude:header]),
            bytes(body[header:]),
            bytes(body[6 + source : prelude]).decode(),
        )
    except (IndexError, ValueError, IdError) as error:
        raise _misread(record, error) from error


def read_sent(record: Record) -> tuple[int, PeerId]:
    """Return number and receiver of an envelope that the host does not hold any more."""
    try:
        return read_number(record), PeerId(bytes(read_rest(record)))
    except IdError as error:
        raise _misread(record, error) from error


def write_number(number: int) -> bytes:
    """Return a number as it stands in front of a body."""
    return _NUMBER.pack(number)


def read_number(record: Record) -> int:
    """Return the number in front of a body."""
    try:
        number: int = _NUMBER.unpack_from(record.body)[0]
    except struct.error as error:
        raise _misread(record, error) from error
    return number


def read_rest(record: Record) -> memoryview:
    """Return what follows the number of a body."""
    return record.body[_NUMBER.size :]


def read_call(record: Record, codecs: FindCodecs = no_codecs) -> Call:
    """Return what a record says about a call."""
    return Call(*_several(record, record.body, (str, tuple, dict), codecs))


def read_done(record: Record, codecs: FindCodecs = no_codecs) -> Done:
    """Return what a record says about a completion."""
    parts = _several(record, read_rest(record), (object, str, str, bool), codecs)
    return Done(read_number(record), *parts)


def read_raised(record: Record) -> Raised:
    """Return what a record says that a call raised."""
    return Raised(*_several(record, record.body, (str, bool)))


def read_table(record: Record) -> dict[str, Any]:
    """Return the facts of the first record."""
    found: dict[str, Any] = _several(record, record.body, (dict,))[0]
    return found


def read_steps(record: Record) -> list[bytes]:
    """Return the kind and the digest of each step."""
    body = bytes(record.body)
    if len(body) % STEP_BYTES:
        raise damaged(record.number, "it breaks off")
    return [body[at : at + STEP_BYTES] for at in range(0, len(body), STEP_BYTES)]


def _several(
    record: Record, body: memoryview, kinds: tuple[type, ...], codecs: FindCodecs = no_codecs
) -> tuple[Any, ...]:
    """Return the values of a body, checked for their number and kinds."""
    try:
        values: Any = portable.unpack(load(body, kinds=KINDS), codecs)
    except (BytesAndBrainsError, TypeError, ValueError) as error:
        raise _misread(record, error) from error
    parts = tuple(cast("tuple[object, ...]", values)) if isinstance(values, tuple) else ()
    if len(parts) != len(kinds) or not all(map(isinstance, parts, kinds)):
        raise damaged(record.number, "it holds something else than its kind says")
    return parts


def _misread(record: Record, error: Exception) -> JournalDamaged:
    return damaged(record.number, getattr(error, "found", str(error)))
