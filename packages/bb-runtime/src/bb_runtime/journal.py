"""The records of a journal: what comes into a Node, in order, and digests of what it reported.

A Node that is installed with `journal=` hands every record to that callable, as bytes that say
themselves how long they are; files are the host's. One record:

    length of the body u32 | CRC-32 of the body u32 | digest of the chain, 16 bytes | CRC-32 of
    these 24 bytes u32 | body: kind u8, and what the kind says

A digest is the SHA-256, cut to 16 bytes, over the digest before it and the body, so a record that
is changed, left out or moved is found. What follows the last whole record was being written when
somebody stopped: it is cut off. Anything else that is wrong is an error that names the record.

This module reads and writes bytes. It keeps no file and runs no Node.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from typing import Any, Final, NamedTuple, cast

from bb_ir.dump import Kinds, dump, load
from bb_ir.errors import BytesAndBrainsError, IdError
from bb_ir.ids import PeerId
from bb_ir.values import Codecs
from bb_runtime import _portable as portable
from bb_runtime.errors import JournalDamaged

__all__ = ["START", "Chain", "Kind", "Opaque", "Record", "Scan", "records_of"]

VERSION: Final = 1
#: The digest before the first record.
START: Final = bytes(16)
_HEAD: Final = struct.Struct("<II16sI")
_NUMBER: Final = struct.Struct("<q")
#: So deep is looked for what can be written beside what cannot.
_DEPTH: Final = 20
#: What one step takes in a record: its kind and the first bytes of its digest.
STEP_BYTES: Final = 9


class Kind(IntEnum):
    """What a record tells."""

    INSTALL = 1
    ARTIFACT = 2
    CALL = 3
    OFFER = 4
    RECEIVE = 5
    ABANDON = 6
    POLL = 7
    STEPS = 8
    DONE = 9
    RAISED = 10
    SNAPSHOT = 11
    SENT = 12


class Record(NamedTuple):
    """One record.

    Attributes:
        number: Its number, counted from 1.
        kind: What it tells.
        body: Its bytes without the kind.
        chain: The digest of all records up to it.
    """

    number: int
    kind: Kind
    body: memoryview
    chain: bytes


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


class Chain:
    """Makes records of bodies; knows the digest of those before.

    Args:
        digest: Of the last record before.
    """

    def __init__(self, digest: bytes = START) -> None:
        self.digest = digest

    def add(self, kind: Kind, *parts: bytes | memoryview) -> bytes:
        """Return the bytes of the next record."""
        head = bytes((kind,))
        check, digest, length = zlib.crc32(head), hashlib.sha256(self.digest + head), 1
        for part in parts:
            check = zlib.crc32(part, check)
            digest.update(part)
            length += len(part)
        self.digest = digest.digest()[:16]
        fields = _HEAD.pack(length, check, self.digest, 0)[:-4]
        return b"".join((fields, zlib.crc32(fields).to_bytes(4, "little"), head, *parts))


class Scan:
    """Reads records from bytes, such as those of a file, and checks each.

    Args:
        data: One record after the other.
        digest: Of the last record before them.
        number: Of the last record before them.
        last: Whether nothing follows: then a torn record at the end is cut off.

    Attributes:
        digest: Of the last record that was read.
        number: Of the last record that was read.
        cut: How many bytes at the end are of a record that was never written to its end.
    """

    def __init__(
        self,
        data: bytes | memoryview,
        digest: bytes = START,
        number: int = 0,
        *,
        last: bool = True,
    ) -> None:
        self._data = memoryview(data).cast("B").toreadonly()
        self._last = last
        self.digest = digest
        self.number = number
        self.cut = 0

    def __iter__(self) -> Iterator[Record]:
        """Yield the records.

        Raises:
            JournalDamaged: One is not what was written.
        """
        data, at = self._data, 0
        while at < len(data):
            body = self._body(data[at:])
            if body is None:
                self.cut = len(data) - at
                return
            at += _HEAD.size + len(body)
            yield Record(self.number, self._kind(body), body[1:], self.digest)

    def _body(self, rest: memoryview) -> memoryview | None:
        """Return the body of the first record, or `None` when it was never written to its end."""
        if len(rest) < _HEAD.size:
            self._check_torn("its head breaks off")
            return None
        length, check, digest, head_check = _HEAD.unpack_from(rest)
        if zlib.crc32(rest[: _HEAD.size - 4]) != head_check or not length:
            # After a crash a file may be long enough, and what was not written yet is zero.
            if any(rest[_HEAD.size :]):
                raise self._damaged("its head was changed")
            self._check_torn("its head was changed")
            return None
        body = rest[_HEAD.size : _HEAD.size + length]
        if len(body) < length:
            self._check_torn("it breaks off")
            return None
        if zlib.crc32(body) != check:
            if len(rest) > _HEAD.size + length:
                raise self._damaged("its checksum differs")
            self._check_torn("its checksum differs")
            return None
        if hashlib.sha256(self.digest + body).digest()[:16] != digest:
            raise self._damaged("it does not follow the record before it")
        self.digest = digest
        self.number += 1
        return body

    def _kind(self, body: memoryview) -> Kind:
        try:
            return Kind(body[0])
        except ValueError:
            self.number -= 1
            raise self._damaged(f"it is of kind {body[0]}, which this version lacks") from None

    def _check_torn(self, why: str) -> None:
        """Check that a record may be torn: that nothing follows."""
        if not self._last:
            raise self._damaged(why)

    def _damaged(self, why: str) -> JournalDamaged:
        return damaged(self.number + 1, why)


def kind_and_digest(record: bytes) -> tuple[int, bytes]:
    """Return the kind of one whole record, and the digest of the chain up to it."""
    digest: bytes = _HEAD.unpack_from(record)[2]
    return record[_HEAD.size], digest


def damaged(number: int, why: str) -> JournalDamaged:
    """Return the error for a record that cannot be used."""
    return JournalDamaged(
        f"record {number} of the journal is damaged: {why}",
        expected="what the Node wrote",
        fix=f"replay what stands before it: --until {number - 1}" if number > 1 else "",
    )


def records_of(journal: Iterable[bytes | Record]) -> Iterator[Record]:
    """Yield the records of what a callable was given, checked; records stay what they are.

    Raises:
        JournalDamaged: One is not what was written.
    """
    digest, number = START, 0
    for one in journal:
        if isinstance(one, Record):
            yield one
            continue
        scan = Scan(one, digest, number, last=False)
        yield from scan
        digest, number = scan.digest, scan.number


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
) -> tuple[bytes | memoryview, ...]:
    """Return the parts of an offer's body."""
    raw, why = source.raw, refused.encode()
    sizes = bytes((len(raw), len(why))) + len(prelude).to_bytes(4, "little")
    return sizes, raw, why, prelude, header


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
