"""Records as bytes: how they are written one after the other, and read back with every check.

One record:

    mark `BBr2` | kind u16 | reserved u16 | number u64 | length of the body u64 | XXH3-64 of the
    body u64 | digest of the chain, 16 bytes | low half of the XXH3-64 of these 48 bytes u32 | body

The digest of the chain is the XXH3-128 over the digest before it and the 32 bytes that stand in
front of it. They hold a checksum of the body, so a body is read once, and a record that is changed,
left out or moved is found all the same. None of this is proof against somebody who wants to
deceive: it finds what broke. All numbers are little-endian.

A record that is not whole, after which no head of a later one comes, was being written when
somebody stopped: it is cut off. Anything else that is wrong is an error that names the record.

Where records were written over older ones of the same journal, four zeros stand after the last one,
and what comes then are leftovers: their numbers are lower.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import IO, Final, NamedTuple

from xxhash import xxh3_64, xxh3_64_intdigest, xxh3_128_digest

from bb_runtime.errors import JournalDamaged

__all__ = [
    "START",
    "Chain",
    "Kind",
    "Record",
    "Scan",
    "damaged",
    "head_of",
    "kind_in",
    "records_of",
]

#: The digest before the first record.
START: Final = bytes(16)
_MARK: Final = b"BBr2"
#: Stands after the last record where leftovers follow.
END: Final = bytes(len(_MARK))
_FIELDS: Final = struct.Struct("<4sHHQQQ")
_HEAD: Final = struct.Struct("<4sHHQQQ16sI")
_CHECKED: Final = _HEAD.size - 4
_CHECK: Final = struct.Struct("<I")
_LOW: Final = 0xFFFFFFFF
#: A body of so many bytes is copied behind its head; a longer one is handed on as it is.
_SHORT: Final = 1 << 14
#: So much is looked at together when later records are searched for.
_STRIDE: Final = 1 << 20


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
        body: Its bytes without the head.
        chain: The digest of all records up to it.
    """

    number: int
    kind: Kind
    body: memoryview
    chain: bytes


class Head(NamedTuple):
    """What stands in front of a body."""

    kind: int
    number: int
    length: int
    check: int
    chain: bytes


class Chain:
    """Makes records of bodies; knows the digest of those before.

    Attributes:
        digest: Of the last record.
        number: Of the last record.
    """

    def __init__(self) -> None:
        self.digest = START
        self.number = 0

    def add(self, kind: Kind, *parts: bytes | memoryview) -> bytes:
        """Return the bytes of the next record."""
        return b"".join(self.parts(kind, *parts))

    def parts(self, kind: Kind, *parts: bytes | memoryview) -> tuple[bytes | memoryview, ...]:
        """Return the next record in parts to be written one after the other.

        The first holds the whole head. Long bodies are not copied.

        Args:
            kind: What it tells.
            parts: Its body: bytes and views of bytes.
        """
        if len(parts) == 1:
            length, check = len(parts[0]), xxh3_64_intdigest(parts[0])
        else:
            summed, length = xxh3_64(), 0
            for part in parts:
                summed.update(part)
                length += len(part)
            check = summed.intdigest()
        self.number += 1
        fields = _FIELDS.pack(_MARK, kind, 0, self.number, length, check)
        self.digest = xxh3_128_digest(self.digest + fields)
        head = fields + self.digest
        head += _CHECK.pack(xxh3_64_intdigest(head) & _LOW)
        return (head, *parts) if length > _SHORT else (b"".join((head, *parts)),)


class Scan:
    """Reads records from bytes, such as those of a file, and checks each.

    No more is held than the record that is read: what a head says about the length of its body is
    believed only when there are as many bytes.

    Args:
        data: One record after the other: bytes, or a file that is read from where it stands.
        digest: Of the last record before them.
        number: Of the last record before them.
        last: Whether nothing follows: then a torn record at the end is cut off.
        leftovers: Whether records of lower numbers may stand after the end.

    Attributes:
        digest: Of the last record that was read.
        number: Of the last record that was read.
        cut: How many bytes at the end are of a record that was never written to its end.
        at: Where the next record begins.
    """

    def __init__(
        self,
        data: bytes | memoryview | IO[bytes],
        digest: bytes = START,
        number: int = 0,
        *,
        last: bool = True,
        leftovers: bool = False,
    ) -> None:
        self._data: IO[bytes] = io.BytesIO(data) if isinstance(data, bytes | memoryview) else data
        self.at = self._data.tell()
        self._end = self._data.seek(0, os.SEEK_END)
        self._last = last
        self._leftovers = leftovers
        self.digest = digest
        self.number = number
        self.cut = 0

    def __iter__(self) -> Iterator[Record]:
        """Yield the records.

        Raises:
            JournalDamaged: One is not what was written.
        """
        while self.at < self._end:
            record = self._record()
            if record is None:
                return
            yield record

    def _record(self) -> Record | None:
        """Return the next record, or `None` when it was never written to its end."""
        self._data.seek(self.at)
        left = self._end - self.at
        raw = self._data.read(min(_HEAD.size, left))
        if self._leftovers and raw.startswith(END):
            self._torn("its head was changed", 0)
            return None
        head = _read_head(raw) if len(raw) == _HEAD.size else None
        if head is None:
            # Among leftovers nobody knows how long it was to be.
            self._torn(
                "its head was changed" if len(raw) == _HEAD.size else "its head breaks off",
                min(left, _HEAD.size) if self._leftovers else left,
            )
            return None
        chain = xxh3_128_digest(self.digest + raw[: _FIELDS.size])
        if (head.number, head.chain) != (self.number + 1, chain):
            self._stray(head)
            return None
        size = _HEAD.size + head.length
        if size > left:
            self._torn("it breaks off", left)
            return None
        body = self._data.read(head.length)
        if len(body) < head.length:
            raise self._damaged("its file became shorter while it was read")
        if xxh3_64_intdigest(body) != head.check:
            self._torn("its checksum differs", size)
            return None
        try:
            kind = Kind(head.kind)
        except ValueError:
            raise self._damaged(f"it is of kind {head.kind}, which this version lacks") from None
        self.at += size
        self.digest, self.number = head.chain, head.number
        return Record(head.number, kind, memoryview(body), head.chain)

    def _stray(self, head: Head) -> None:
        """Check that a whole record that does not follow is a leftover."""
        why = "it does not follow the record before it"
        if not self._leftovers or head.number > self.number:
            raise self._damaged(why)
        self._torn(why, 0)

    def _torn(self, why: str, size: int) -> None:
        """Cut off a record of at most so many bytes, if no record comes after it."""
        if not self._last or self._later():
            raise self._damaged(why)
        self.cut = size

    def _later(self) -> bool:
        """Tell whether the head of a later record stands anywhere in the rest."""
        at, kept = self.at + 1, b""
        self._data.seek(at)
        while more := self._data.read(min(_STRIDE, self._end - at)):
            at += len(more)
            window = kept + more
            place = window.find(_MARK)
            while 0 <= place <= len(window) - _HEAD.size:
                head = _read_head(window[place : place + _HEAD.size])
                if head is not None and head.number > self.number:
                    return True
                place = window.find(_MARK, place + 1)
            kept = window[-_HEAD.size + 1 :]
        return False

    def _damaged(self, why: str) -> JournalDamaged:
        return damaged(self.number + 1, why)


def _read_head(raw: bytes | memoryview) -> Head | None:
    """Return what a head says, or `None` when it is none."""
    mark, kind, _, number, length, check, chain, own = _HEAD.unpack_from(raw)
    if mark != _MARK or xxh3_64_intdigest(raw[:_CHECKED]) & _LOW != own:
        return None
    return Head(kind, number, length, check, chain)


def head_of(record: bytes | memoryview) -> Head:
    """Return what the head of a record says; of a record in parts, its first part.

    Raises:
        ValueError: It is no record.
    """
    head = _read_head(record) if len(record) >= _HEAD.size else None
    if head is None:
        raise ValueError("not a record of a journal")
    return head


def kind_in(record: bytes | memoryview) -> int:
    """Return the kind of a record that is known to be one, or of its first part."""
    return record[len(_MARK)]


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
