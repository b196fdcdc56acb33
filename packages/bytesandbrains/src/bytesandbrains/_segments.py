"""Segments of journals: how their files begin, and reading them one after the other.

One segment:

    magic `BBJ1` | version u16 | flags u16 | number of the segment u32 | number of the record
    before its first u64 | digest of that record, 16 bytes | CRC-32 of all that u32 | records

What a record is, `bb_runtime._records` says. The one flag says that the file held an older segment
of the same journal, which is written over. What is left of that is cut off when the segment ends;
of the last one of a Node that died it is still there.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, Final, NamedTuple

from bb_runtime.errors import JournalDamaged
from bb_runtime.journal import Record, Scan

__all__ = [
    "HEAD_SIZE",
    "SUFFIX",
    "JournalFiles",
    "Place",
    "segments_in",
    "unreadable",
    "write_head",
]

_MAGIC: Final = b"BBJ1"
_VERSION: Final = 2
_HEAD: Final = struct.Struct("<4sHHIQ16sI")
HEAD_SIZE: Final = _HEAD.size
SUFFIX: Final = ".bbj"
_WRITTEN_OVER: Final = 1


class Place(NamedTuple):
    """Where a segment stands: its number, and number and digest of the record before it."""

    segment: int
    record: int
    digest: bytes


def write_head(place: Place, *, written_over: bool = False) -> bytes:
    """Return the bytes with which a segment begins."""
    flags = _WRITTEN_OVER if written_over else 0
    fields = _HEAD.pack(_MAGIC, _VERSION, flags, *place, 0)[:-4]
    return fields + zlib.crc32(fields).to_bytes(4, "little")


def _head_of(path: Path, start: bytes) -> tuple[Place, bool]:
    """Read the head of a segment: where it stands, and whether it is written over another."""
    why = "it breaks off"
    if len(start) == _HEAD.size:
        magic, version, flags, number, before, digest, check = _HEAD.unpack(start)
        if magic == _MAGIC and check == zlib.crc32(start[:-4]):
            if version == _VERSION:
                return Place(number, before, digest), bool(flags & _WRITTEN_OVER)
            why = f"it is of version {version}"
        else:
            why = "its head was changed" if magic == _MAGIC else "it is another kind of file"
    raise JournalDamaged(
        f"{str(path)!r} is no segment of a journal: {why}",
        expected=f"a file that begins with {_MAGIC!r}, of version {_VERSION}",
    )


def segments_in(folder: Path) -> list[Path]:
    """Return the segments of a folder by their numbers, other files of their kind behind them."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.suffix == SUFFIX]
    return sorted(found, key=lambda path: (not path.stem.isdecimal(), len(path.stem), path.stem))


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> JournalDamaged:
    """Return the error for a file that the system does not let us read."""
    gone = isinstance(error, FileNotFoundError)
    return JournalDamaged(
        f"{str(path)!r} cannot be read: {error.strerror or error}",
        expected="all segments of the journal, to be read",
        fix="its Node dropped it meanwhile: read the journal again" if gone else "",
    )


class JournalFiles:
    """The records of a journal in files, in their order, checked as they are read.

    Attributes:
        cut: How many bytes at its end were of a record that was never written to its end; known
            after all were read.
        size: Bytes of all segments.
        position: Bytes that were read.
    """

    def __init__(self, segments: list[Path]) -> None:
        self._segments = segments
        self.cut = 0
        self.position = 0
        self.size = sum(_size_of(path) for path in segments)

    def __iter__(self) -> Iterator[Record]:
        """Read the records, from the first one on.

        Raises:
            JournalDamaged: One is not what was written, or a segment is missing.
        """
        self.cut, self.position = 0, 0
        known: Place | None = None
        for path in self._segments:
            try:
                with path.open("rb") as file:
                    known = yield from self._read(path, file, known)
            except OSError as error:
                raise unreadable(path, error) from error

    def _read(
        self, path: Path, file: IO[bytes], known: Place | None
    ) -> Generator[Record, None, Place | None]:
        """Read a segment, and return where the next one stands."""
        last = path == self._segments[-1]
        start = file.read(HEAD_SIZE)
        if known and last and (len(start) < HEAD_SIZE or not any(start)):
            self.cut = _size_of(path)  # it was being made
            return known
        place, leftovers = _head_of(path, start)
        if known is not None and known != place:
            raise JournalDamaged(
                f"{path.name} does not follow the segment before it",
                expected=f"segment {known.segment}, after record {known.record}",
                fix="a segment is missing, or of another journal",
            )
        before = self.position
        scan = Scan(file, place.digest, place.record, last=last, leftovers=leftovers and last)
        try:
            for record in scan:
                self.position = before + scan.at
                yield record
        except JournalDamaged:
            if not os.path.samestat(path.stat(), os.fstat(file.fileno())):
                raise FileNotFoundError(errno.ENOENT, "it was written over") from None
            raise
        self.cut = scan.cut
        self.position = before + scan.at + scan.cut
        return Place(place.segment + 1, scan.number, scan.digest)
