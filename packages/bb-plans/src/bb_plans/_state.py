"""Which version is current, as one line of text: what `CURRENT` holds and the journal collects.

    bb-store-1 commit root=sha256:... epoch=7 kept=sha256:...@6 fence=7 check=...

The check is the first 16 digits of the BLAKE3 digest of what stands before it, so a line that was
torn or changed is found out. `CURRENT` holds the last line and nothing else; the journal holds them
all, and tells what to serve should `CURRENT` be damaged.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, NamedTuple

from blake3 import blake3

from bb_ir.plan import Digest, digest_text, parse_digest
from bb_plans._system import discard, read_file, write_all, write_file
from bb_plans.files import Files

__all__ = ["Journal", "State", "parse_line"]

#: Bytes after which the journal is cut when the store is opened, and lines that stay then.
_LONGEST: Final = 1 << 20
_KEPT_LINES: Final = 1000
_DIGEST: Final = r"(?:sha256|blake3):[0-9a-f]{64}"
_NUMBER: Final = r"0|[1-9][0-9]{0,18}"
_LINE: Final = re.compile(
    rf"(?P<told>bb-store-1 (?P<verb>commit|rollback) root=(?P<root>{_DIGEST})"
    rf" epoch=(?P<epoch>{_NUMBER}) kept=(?:-|(?P<kept>{_DIGEST})@(?P<kept_epoch>{_NUMBER}))"
    rf" fence=(?P<fence>{_NUMBER})) check=(?P<check>[0-9a-f]{{16}})",
    re.ASCII,
)


class State(NamedTuple):
    """Which version is current.

    Attributes:
        verb: What made it so: `commit` or `rollback`.
        root: The version's root digest.
        epoch: The epoch under which it was committed.
        kept: Root and epoch of the version to go back to; `None` when there is none.
        fence: The largest epoch that was ever committed.
    """

    verb: str
    root: Digest
    epoch: int
    kept: tuple[Digest, int] | None
    fence: int

    def line(self) -> str:
        """Return it as text, without a line feed."""
        kept = "-" if self.kept is None else f"{digest_text(self.kept[0])}@{self.kept[1]}"
        told = (
            f"bb-store-1 {self.verb} root={digest_text(self.root)} epoch={self.epoch}"
            f" kept={kept} fence={self.fence}"
        )
        return f"{told} check={_check(told)}"


def parse_line(line: str) -> State | None:
    """Read a line back; return `None` when it is none, or damaged."""
    found = _LINE.fullmatch(line)
    if found is None or found["check"] != _check(found["told"]):
        return None
    kept = found["kept"] and (parse_digest(found["kept"]), int(found["kept_epoch"]))
    return State(
        found["verb"], parse_digest(found["root"]), int(found["epoch"]), kept or None,
        int(found["fence"]),
    )  # fmt: skip


def _check(told: str) -> str:
    return blake3(told.encode()).hexdigest()[:16]


class Journal:
    """All states that a store had, in their order; torn lines at its end are as if never written.

    Args:
        path: The file.
        files: The system calls.
    """

    def __init__(self, path: Path, files: Files) -> None:
        self._path = path
        self._files = files
        data = read_file(files, path, limit=1 << 30) or b""
        self.states, self._length = _read(data)
        self.torn = len(data) - self._length

    def last(self) -> State | None:
        """Return the last state; `None` when there is none."""
        return self.states[-1] if self.states else None

    def make(self) -> None:
        """Make the file, unless it is there: its name is made durable with others."""
        if self._files.stat(self._path) is None:
            self._files.close(self._files.open(self._path, os.O_WRONLY | os.O_CREAT))

    def append(self, state: State) -> None:
        """Write one more state, durably. What was torn before it is written over."""
        data = f"{state.line()}\n".encode()
        fd = self._files.open(self._path, os.O_WRONLY | os.O_CREAT)
        try:
            if self.torn:
                self._files.truncate(fd, self._length)
            # Until the end: a failure leaves bytes behind.
            self.torn = len(data)
            write_all(self._files, fd, memoryview(data), self._length)
            self._files.fsync(fd)
        finally:
            self._files.close(fd)
        self._length += len(data)
        self.torn = 0
        self.states.append(state)

    def cut(self, beside: str) -> None:
        """Drop the oldest states when there are very many.

        Args:
            beside: Where to write what stays, before it takes the journal's name.
        """
        if self._length <= _LONGEST:
            return
        stay = self.states[-_KEPT_LINES:]
        data = "".join(f"{state.line()}\n" for state in stay).encode()
        try:
            write_file(self._files, beside, data)
            self._files.rename(beside, self._path)
        except OSError:
            discard(self._files, beside)
            raise
        self.states, self._length, self.torn = stay, len(data), 0


def _read(data: bytes) -> tuple[list[State], int]:
    """Return the states, and how many bytes they take."""
    states: list[State] = []
    length = 0
    for line in data.decode("ascii", "replace").splitlines(keepends=True):
        state = parse_line(line[:-1]) if line.endswith("\n") else None
        if state is None:
            break
        states.append(state)
        length += len(line)
    return states, length
