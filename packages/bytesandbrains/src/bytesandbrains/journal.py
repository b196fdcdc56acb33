"""Journals in files: a folder per Node, with segments of bounded size.

A Node writes one when it is installed with `journal=FileJournal(folder)`, and `read_journal` gives
its records back, to be replayed. A journal holds private data: what peers sent, inputs, and what a
snapshot of the Node holds. Keep it as you keep the data itself.

What a segment is, `_segments` says, and what a record is, `bb_runtime.journal`.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, Final, Literal, Self

from bb_ir.errors import BytesAndBrainsError
from bb_runtime.errors import JournalDamaged
from bb_runtime.journal import END, START, Kind, head_of, kind_in
from bytesandbrains._files import CannotWrite, prepare_folder, sync_folder
from bytesandbrains._segments import (
    HEAD_SIZE,
    SUFFIX,
    JournalFiles,
    Place,
    segments_in,
    unreadable,
    write_head,
)

__all__ = ["FileJournal", "JournalFiles", "JournalFull", "read_journal"]

#: As plain numbers, since each record's kind is held against them.
_INSTALL: Final = int(Kind.INSTALL)
_SNAPSHOT: Final = int(Kind.SNAPSHOT)
_BEGINNINGS: Final = (Kind.INSTALL, Kind.ARTIFACT, Kind.SNAPSHOT)
#: The least size of a segment that makes sense.
_LEAST: Final = 1 << 10
#: Name of a file that waits to be written over.
_SPARE: Final = "spare.tmp"
_PWRITEV: Final = getattr(os, "pwritev", None)


class JournalFull(BytesAndBrainsError):
    """A journal has reached its bounds, and nothing of it can be dropped.

    The oldest segments are dropped only when a later one begins with a snapshot of the Node, so
    that what is left can be replayed; none could be taken, since deferred work was in progress or
    a value of the Node means nothing elsewhere. A Node that meets this goes on without a journal
    and reports `journal_stopped.JournalFull`. Give the journal more or larger segments.
    """


@dataclasses.dataclass
class _Segment:
    """A segment that is kept.

    Attributes:
        path: Its file.
        whole: Whether all with which a journal begins stands in front of it.
    """

    path: Path
    whole: bool


class FileJournal:
    """Writes the journal of one Node into a folder of its own.

    Args:
        folder: Is made; holds no journal yet.
        segment_bytes: About so long a segment gets, the snapshot that it begins with not counted.
            From then on the Node is asked for a snapshot, with which the next one begins; without
            one it begins at twice that length.
        segments: At most so many are kept, and one more while a snapshot is written. The oldest
            are dropped as soon as what is left begins with a whole snapshot; the file of one of
            them is kept, to be written over: that is faster than making new ones.
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
        if segments_in(self._folder):
            raise CannotWrite(
                f"{str(folder)!r} holds a journal",
                expected="a folder without one: a journal is written once, by one Node",
                fix="choose another folder, or delete that journal",
            )
        self._bound, self._most, self._fsync = segment_bytes, segments, fsync
        self.fingerprint: dict[str, Any] = _fingerprint()
        self._file: IO[bytes] | None = None
        self._kept: deque[_Segment] = deque()
        self._number = 0
        #: The last record, or the part of it that holds its head.
        self._last: bytes | memoryview = b""
        #: Bytes of the segment, and without those that it begins with.
        self._length, self._size = 0, 0
        #: A file to be written over, and whether the segment is in one.
        self._spare: Path | None = None
        self._over = False
        #: Why no records are taken.
        self._ended = ""

    def __call__(self, record: bytes) -> bool:
        """Write a record.

        Returns:
            Whether the Node should go on with a snapshot.

        Raises:
            JournalFull: There is no room, and nothing may be dropped.
            CannotWrite: The disk does not take it, or the journal has ended.
        """
        return self.write_parts((record,))

    def write_parts(self, parts: Sequence[bytes | memoryview]) -> bool:
        """Write a record that comes in parts, the first of which holds its head.

        Returns:
            Whether the Node should go on with a snapshot.

        Raises:
            JournalFull: There is no room, and nothing may be dropped.
            CannotWrite: The disk does not take it, or the journal has ended.
        """
        first = parts[0]
        kind = kind_in(first)
        length = len(first) if len(parts) == 1 else sum(map(len, parts))
        file, size = self._file, self._size
        try:
            if file is None or kind == _INSTALL or (size and size + length > 2 * self._bound):
                file = self._begin(begins=kind == _INSTALL)
            given, whole = ((*parts, END), length + len(END)) if self._over else (parts, length)
            if _write_some(file, given, self._length) != whole:
                _write_all(file, given, self._length)
            if self._fsync == "always":
                os.fsync(file.fileno())
            self._length += length
            self._last = first
            if kind == _SNAPSHOT:
                self._snapshot_kept()
        except OSError as error:
            self._fail()
            raise CannotWrite(
                f"a record of {length:,} bytes cannot be written to {str(self._folder)!r}: "
                f"{error.strerror or error}",
                fix="another Node writes its journal there: give each a folder of its own"
                if isinstance(error, FileExistsError)
                else "make room on the disk, and let it be written to",
            ) from error
        if kind not in _BEGINNINGS:
            self._size += length
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
        """Have the disk keep what was written; records are no longer taken.

        Raises:
            CannotWrite: The disk does not.
        """
        self._ended = self._ended or "was closed"
        try:
            self._end_segment()
            if self._spare is not None:
                self._spare.unlink(missing_ok=True)
                self._spare = None
        except OSError as error:
            raise CannotWrite(
                f"the end of {str(self._folder)!r} was not written: {error.strerror or error}",
                fix="see to the disk; what the system had written before is there",
            ) from error

    def _begin(self, *, begins: bool) -> IO[bytes]:
        """Return the file of the next segment."""
        if self._ended:
            raise CannotWrite(
                f"the journal {str(self._folder)!r} {self._ended}", fix="keep it open"
            )
        # What a new beginning makes superfluous is dropped when all of it stands.
        self._drop(len(self._kept) + 1 - self._most - begins)
        self._end_segment()
        number = self._number + 1
        if number == 1 and segments_in(self._folder):
            raise FileExistsError(errno.EEXIST, "another journal is there")
        last = head_of(self._last) if self._last else None
        place = Place(number, *((0, START) if last is None else (last.number, last.chain)))
        path = self._folder / f"{number:06}{SUFFIX}"
        spare, self._spare = self._spare, None
        over = self._over = spare is not None and spare.exists()
        if spare is None or not over:
            # Only the one who makes a file writes to it, and only its owner reads it.
            file = open(path, "xb", buffering=0, opener=_private)  # noqa: SIM115  # stays open; paths have no opener
        else:
            file = spare.open("r+b", buffering=0)
        self._number, self._file = number, file
        self._length, self._size = 0, 0
        head = write_head(place, written_over=over)
        _write_all(file, (head, END) if over else (head,), 0)
        self._length = HEAD_SIZE
        if spare is not None and over:
            spare.rename(path)  # whoever sees it sees its head
        self._kept.append(_Segment(path, whole=number == 1))
        if self._fsync != "never":
            sync_folder(self._folder)
        return file

    def _snapshot_kept(self) -> None:
        """Drop what the snapshot that was written makes superfluous."""
        self._kept[-1].whole = True
        spare = len(self._kept) - self._most
        if spare > 0 and self._fsync != "never" and self._file is not None:
            os.fsync(self._file.fileno())  # else a loss of power could take both
        self._drop(spare)

    def _drop(self, spare: int) -> None:
        """Delete the oldest segments: at least so many, up to one that a journal may begin with."""
        if spare <= 0:
            return
        kept = self._kept
        start = next((at for at in range(spare, len(kept)) if kept[at].whole), None)
        if start is None:
            self._ended = "is full"
            raise JournalFull(
                f"the journal {str(self._folder)!r} has {len(kept)} segments, and none but "
                "its first begins with a snapshot",
                expected=f"at most {self._most} segments of about {self._bound:,} bytes",
                fix="give it more or larger segments: segments=, segment_bytes=",
            )
        for _ in range(start):
            path = kept.popleft().path
            if self._spare is None:
                self._spare = path.rename(self._folder / _SPARE)
            else:
                path.unlink(missing_ok=True)

    def _end_segment(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            if self._over:
                file.truncate(self._length)
            if self._fsync != "never":
                os.fsync(file.fileno())
        finally:
            file.close()

    def _fail(self) -> None:
        """End the journal after its last whole record."""
        self._ended = "could not be written to"
        file, self._file = self._file, None
        with suppress(OSError):
            if file is not None:
                with file:
                    file.truncate(self._length)


def read_journal(path: str | Path) -> JournalFiles:
    """Return the records of a journal: of a folder that `FileJournal` wrote, or one segment of it.

    Raises:
        JournalDamaged: There is no journal, or it cannot be read.
    """
    place = Path(path)
    try:
        found = [place] if place.is_file() else segments_in(place)
        if found:
            return JournalFiles(found)
        inside = place.iterdir() if place.is_dir() else ()
        inner = sorted(one for one in inside if one.is_dir() and segments_in(one))
    except OSError as error:
        raise unreadable(place, error) from error
    listed = ", ".join(map(str, inner[:10]))
    raise JournalDamaged(
        f"{str(path)!r} is no journal",
        expected="a folder that a Node's journal was written to, or a segment of one",
        fix=f"name one of {listed}" if inner else "check the path",
    )


def _write_some(file: IO[bytes], parts: Sequence[bytes | memoryview], at: int) -> int:
    """Write parts to a place in a file, and return how many bytes of them were written."""
    if _PWRITEV is not None:
        written: int = _PWRITEV(file.fileno(), parts, at)
        return written
    file.seek(at)
    return file.write(parts[0])


def _write_all(file: IO[bytes], parts: Sequence[bytes | memoryview], at: int) -> None:
    """Write parts one after the other from a place in a file on, all of them.

    One call may not be enough where the disk is nearly full, or for more than a system takes.
    """
    for part in parts:
        rest = memoryview(part)
        while rest:
            written = _write_some(file, (rest,), at)
            rest, at = rest[written:], at + written


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@cache
def _fingerprint() -> dict[str, Any]:
    from bytesandbrains.fingerprint import fingerprint

    return fingerprint().to_dict()
