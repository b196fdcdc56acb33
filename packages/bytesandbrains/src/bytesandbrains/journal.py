"""Journals in files: a folder per Node, with segments of bounded size.

A Node writes one when it is installed with `journal=FileJournal(folder)`, and `read_journal` gives
its records back, to be replayed. A journal holds private data: what peers sent, inputs, and what a
snapshot of the Node holds. Keep it as you keep the data itself.

One segment:

    magic `BBJ1` | version u16 | reserved u16 | number of the segment u32 | number of the record
    before its first u64 | digest of that record, 16 bytes | CRC-32 of all that u32 | records

What a record is, `bb_runtime.journal` says.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any, Final, Literal, NamedTuple, Self

from bb_ir.errors import BytesAndBrainsError
from bb_runtime.errors import JournalDamaged
from bb_runtime.journal import START, Kind, Record, Scan, kind_and_digest
from bytesandbrains._files import CannotWrite, prepare_folder, write_atomically

__all__ = ["FileJournal", "JournalFiles", "JournalFull", "read_journal"]

_MAGIC: Final = b"BBJ1"
_VERSION: Final = 1
_HEAD: Final = struct.Struct("<4sHHIQ16sI")
_SUFFIX: Final = ".bbj"
_BEGINNINGS: Final = (Kind.INSTALL, Kind.ARTIFACT, Kind.SNAPSHOT)
#: The least size of a segment that makes sense.
_LEAST: Final = 1 << 10


class JournalFull(BytesAndBrainsError):
    """A journal has reached its bounds, and nothing of it can be dropped.

    The oldest segments are dropped only when a later one begins with a snapshot of the Node, so
    that what is left can be replayed; none could be taken, since deferred work was in progress or
    a value of the Node means nothing elsewhere. A Node that meets this goes on without a journal
    and reports `journal_stopped.JournalFull`. Give the journal more or larger segments.
    """


class _Segment(NamedTuple):
    path: Path
    begins: bool


class FileJournal:
    """Writes the journal of one Node into a folder of its own.

    Args:
        folder: Is made; holds no journal yet.
        segment_bytes: About so long a segment gets, the snapshot that it begins with not counted.
            From then on the Node is asked for a snapshot, with which the next one begins; without
            one it begins at twice that length.
        segments: At most so many are kept. The oldest are dropped as soon as what is left begins
            with a snapshot.
        fsync: When the disk is told to keep what was written: after every record, when a segment
            is full, or never. Without it a record survives the end of the process, not that of
            the machine.

    Attributes:
        fingerprint: What the machine computes with; the first record holds it.

    Raises:
        CannotWrite: The folder holds a journal, or may not be written to.
        ValueError: A bound is too small.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        segment_bytes: int = 64 << 20,
        segments: int = 16,
        fsync: Literal["always", "segment", "never"] = "segment",
    ) -> None:
        if segment_bytes < _LEAST or segments < 1:
            raise ValueError(f"segments={segments}, segment_bytes={segment_bytes}: too small")
        if fsync not in ("always", "segment", "never"):
            raise ValueError(f"fsync={fsync!r}: always, segment or never")
        self._folder = Path(folder)
        prepare_folder(self._folder)
        if _segments_in(self._folder):
            raise CannotWrite(
                f"{str(folder)!r} holds a journal",
                expected="a folder without one: a journal is written once, by one Node",
                fix="choose another folder, or delete that journal",
            )
        self._bound, self._most, self._fsync = segment_bytes, segments, fsync
        self.fingerprint: dict[str, Any] = _fingerprint()
        self._file: IO[bytes] | None = None
        self._kept: deque[_Segment] = deque()
        self._digest, self._records, self._number = START, 0, 0
        #: Bytes of the segment, without those that it begins with.
        self._size = 0
        self._closed = False

    def __call__(self, record: bytes) -> bool:
        """Write a record.

        Returns:
            Whether the Node should go on with a snapshot.

        Raises:
            JournalFull: There is no room, and nothing may be dropped.
            CannotWrite: The disk does not take it, or the journal was closed.
        """
        kind, digest = kind_and_digest(record)
        begins = kind == Kind.INSTALL
        try:
            file = self._room(len(record), begins=begins)
            _write_all(file, record)
            if self._fsync == "always":
                os.fsync(file.fileno())
        except OSError as error:
            raise CannotWrite(
                f"a record of {len(record):,} bytes cannot be written to {str(self._folder)!r}: "
                f"{error.strerror or error}",
                fix="make room on the disk",
            ) from error
        if kind not in _BEGINNINGS:
            self._size += len(record)
        self._records += 1
        self._digest = digest
        return self._size >= self._bound

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the journal."""
        self.close()

    def __del__(self) -> None:
        # Whoever forgot to close it loses nothing but the last word to the disk.
        if file := getattr(self, "_file", None):
            file.close()

    def close(self) -> None:
        """Have the disk keep what was written; records are no longer taken."""
        self._closed = True
        self._end_segment()

    def _room(self, length: int, *, begins: bool) -> IO[bytes]:
        """Return the file of the segment that a record goes to."""
        if self._closed:
            raise CannotWrite(f"the journal {str(self._folder)!r} was closed", fix="keep it open")
        full = self._size and self._size + length > 2 * self._bound
        if self._file is not None and not full and not begins:
            return self._file
        self._drop(begins=begins)
        self._end_segment()
        self._number += 1
        path = self._folder / f"{self._number:06}{_SUFFIX}"
        fields = (_MAGIC, _VERSION, 0, self._number, self._records, self._digest)
        head = _HEAD.pack(*fields, 0)[:-4]
        # Whoever sees the file sees its whole head.
        write_atomically(path, head + zlib.crc32(head).to_bytes(4, "little"))
        file = self._file = path.open("ab", buffering=0)
        self._kept.append(_Segment(path, begins))
        self._size = 0
        return file

    def _drop(self, *, begins: bool) -> None:
        """Delete the oldest segments, as many as the new one needs and is allowed."""
        kept = [*self._kept, _Segment(Path(), begins)]
        spare = len(kept) - self._most
        if spare <= 0:
            return
        start = next((at for at in range(spare, len(kept)) if kept[at].begins), None)
        if start is None:
            raise JournalFull(
                f"the journal {str(self._folder)!r} has {len(self._kept)} segments, and none but "
                "its first begins with a snapshot",
                expected=f"at most {self._most} segments of about {self._bound:,} bytes",
                fix="give it more or larger segments: segments=, segment_bytes=",
            )
        for _ in range(start):
            self._kept.popleft().path.unlink()

    def _end_segment(self) -> None:
        if self._file is None:
            return
        if self._fsync != "never":
            os.fsync(self._file.fileno())
        self._file.close()
        self._file = None


class JournalFiles:
    """The records of a journal in files, in their order, checked as they are read.

    Attributes:
        cut: How many bytes at its end were of a record that was never written to its end; known
            after all were read.
        size: Bytes of all segments.
    """

    def __init__(self, segments: list[Path]) -> None:
        self._segments = segments
        self.cut = 0
        self.size = sum(path.stat().st_size for path in segments)

    def __iter__(self) -> Iterator[Record]:
        """Read the records, from the first one on.

        Raises:
            JournalDamaged: One is not what was written, or a segment is missing.
        """
        known: tuple[int, int, bytes] | None = None
        for path in self._segments:
            data = path.read_bytes()
            number, before, digest = _head_of(path, data)
            if known is not None and known != (number, before, digest):
                raise JournalDamaged(
                    f"{path.name} does not follow the segment before it",
                    expected=f"segment {known[0]}, after record {known[1]}",
                    fix="a segment is missing, or of another journal",
                )
            last = path == self._segments[-1]
            scan = Scan(memoryview(data)[_HEAD.size :], digest, before, last=last)
            yield from scan
            self.cut = scan.cut
            known = number + 1, scan.number, scan.digest


def read_journal(path: str | Path) -> JournalFiles:
    """Return the records of a journal: of a folder that `FileJournal` wrote, or one segment of it.

    Raises:
        JournalDamaged: There is no journal.
    """
    place = Path(path)
    found = [place] if place.is_file() else _segments_in(place)
    if found:
        return JournalFiles(found)
    try:
        inner = sorted(one for one in place.iterdir() if one.is_dir() and _segments_in(one))
    except OSError:
        inner = []
    listed = ", ".join(map(str, inner[:10]))
    raise JournalDamaged(
        f"{str(path)!r} is no journal",
        expected="a folder that a Node's journal was written to, or a segment of one",
        fix=f"name one of {listed}" if inner else "check the path",
    )


def _write_all(file: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _head_of(path: Path, data: bytes) -> tuple[int, int, bytes]:
    """Return the number of a segment, and number and digest of the record before it."""
    why = "it breaks off"
    if len(data) >= _HEAD.size:
        magic, version, _, number, before, digest, check = _HEAD.unpack_from(data)
        if magic == _MAGIC and check == zlib.crc32(data[: _HEAD.size - 4]):
            if version == _VERSION:
                return number, before, digest
            why = f"it is of version {version}"
        else:
            why = "its head was changed" if magic == _MAGIC else "it is another kind of file"
    raise JournalDamaged(
        f"{str(path)!r} is no segment of a journal: {why}",
        expected=f"a file that begins with {_MAGIC!r}, of version {_VERSION}",
    )


def _segments_in(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{_SUFFIX}")) if folder.is_dir() else []


@cache
def _fingerprint() -> dict[str, Any]:
    from bytesandbrains.fingerprint import fingerprint

    return fingerprint().to_dict()
