"""What is remembered of a folder, so that files which have not changed are not hashed again.

The index is a cache: one that cannot be read is begun anew, and what it says is used only for files
whose size, inode and times are the same. A file that was written just before it was looked at is
not remembered, as it may change again within one tick of the file system's clock.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from bb_ir.plan import Digest, DigestAlgorithm

__all__ = ["Index", "Seen"]

_FORMAT: Final = "bb-manifest-index/1"
_TICK_NS: Final = 50_000_000
_COARSE_TICK_NS: Final = 2_000_000_000  # of file systems that tell no more than milliseconds

_Place = tuple[int, int]


class Seen(NamedTuple):
    """What a file was like: size in bytes, times in nanoseconds, inode."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, told: os.stat_result) -> Seen:
        """Return it from what the system tells."""
        return cls(told.st_size, told.st_mtime_ns, told.st_ctime_ns, told.st_ino)

    def settled(self, now_ns: int) -> bool:
        """Tell whether a change from now on would show."""
        latest = max(self.mtime_ns, self.ctime_ns)
        tick = _TICK_NS if latest % 1_000_000 else _COARSE_TICK_NS
        return latest + tick < now_ns


class Index:
    """Digests of runs of files, by path.

    Args:
        path: The file that it is in; `None` to remember nothing.
        algorithm: How the digests were made.
        files: What it knows.
    """

    def __init__(
        self, path: Path | None, algorithm: DigestAlgorithm,
        files: dict[str, tuple[Seen, dict[_Place, Digest]]],
    ) -> None:  # fmt: skip
        self._path = path
        self._algorithm = algorithm
        self._files = files
        self._fresh: dict[str, tuple[Seen, dict[_Place, Digest]]] = {}
        self._now_ns = time.time_ns()  # before anything is read

    @classmethod
    def read(cls, path: Path | None, algorithm: DigestAlgorithm) -> Index:
        """Return the index in a file, or an empty one."""
        files: dict[str, tuple[Seen, dict[_Place, Digest]]] = {}
        if path is not None and path.is_file():
            try:
                files = _parsed(json.loads(path.read_bytes()), algorithm)
            except (ValueError, TypeError, KeyError, RecursionError):
                files = {}  # it is a cache: what cannot be read is made anew
        return cls(path, algorithm, files)

    def of(self, path: str, seen: Seen) -> dict[_Place, Digest]:
        """Return what is known of a file that looks like this."""
        known = self._files.get(path)
        return known[1] if known is not None and known[0] == seen else {}

    def put(self, path: str, seen: Seen, digests: dict[_Place, Digest]) -> None:
        """Remember a file, if a later change would show."""
        if seen.settled(self._now_ns):
            self._fresh[path] = (seen, digests)

    def write(self) -> None:
        """Write down what was put, in place of the former index."""
        if self._path is None or self._fresh == self._files:
            return
        table = {
            path: [*seen, {f"{at}:{size}": one.value.hex() for (at, size), one in digests.items()}]
            for path, (seen, digests) in self._fresh.items()
        }
        told = {"format": _FORMAT, "algorithm": self._algorithm.name, "files": table}
        beside = self._path.with_name(f"{self._path.name}.new")
        beside.write_text(json.dumps(told, separators=(",", ":")), encoding="utf-8")
        beside.replace(self._path)


def _parsed(told: Any, algorithm: DigestAlgorithm) -> dict[str, tuple[Seen, dict[_Place, Digest]]]:
    if told["format"] != _FORMAT or told["algorithm"] != algorithm.name:
        return {}
    return {
        path: (Seen(size, mtime, ctime, inode), _digests(digests, algorithm))
        for path, (size, mtime, ctime, inode, digests) in cast(
            "dict[str, Any]", told["files"]
        ).items()
    }


def _digests(table: dict[str, str], algorithm: DigestAlgorithm) -> dict[_Place, Digest]:
    found: dict[_Place, Digest] = {}
    for place, text in table.items():
        offset, _, length = place.partition(":")
        value = bytes.fromhex(text)
        if len(value) != 32:
            raise ValueError(f"a digest of {len(value)} bytes")
        found[int(offset), int(length)] = Digest(algorithm, value)
    return found
