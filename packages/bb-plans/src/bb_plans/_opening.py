"""Opens places: what each scheme stands for, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from bb_ir.plan import Digest, FileChunk, PlanFormatError, digest_text, parse_digest, parse_place
from bb_plans._raw import buffer_of
from bb_plans.errors import PlaceFailed, UnknownPlace
from bb_plans.regions import (
    BlobRegion,
    Fetch,
    FetchedRegion,
    FileRegion,
    MemoryRegion,
    Region,
    open_below,
)

if TYPE_CHECKING:
    from bb_plans.store import Store

__all__ = ["ARENAS", "LARGEST_FILE", "OpenPlaces"]

#: How long a file may become by default, in bytes.
LARGEST_FILE: Final = 1 << 40
#: Schemes of memory that has a name.
ARENAS: Final = ("mem", "device", "tier")


class OpenPlaces:
    """What places stand for here.

    Args:
        files: The folder that paths of `file://` are below; `None` for no files.
        store: Where blobs of `cas://` are; `None` for none.
        arenas: Memory by its place, such as `{"mem://bucket/0": bytearray(4096)}`, for the schemes
            `mem`, `device` and `tier`. A tier may be a file instead: a `Path`.
        fetch: Asks peers for what is at `net://`; called from several threads at once.
        largest_file: How long a file may become, in bytes.

    Raises:
        UnknownPlace: An arena is none, or the folder of files is none.
    """

    def __init__(
        self,
        *,
        files: Path | None = None,
        store: Store | None = None,
        arenas: Mapping[str, Any] | None = None,
        fetch: Fetch | None = None,
        largest_file: int = LARGEST_FILE,
    ) -> None:
        self._store, self._fetch, self._largest = store, fetch, largest_file
        self._arenas: dict[str, memoryview] = {}
        self._tiers: dict[str, Path] = {}
        for place, held in (arenas or {}).items():
            self._add(place, held)
        self._root = -1
        if files is not None:
            try:
                self._root = os.open(files, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                raise UnknownPlace(
                    f"{str(files)!r} cannot hold files: {error.strerror}",
                    expected="a folder that exists",
                ) from error

    def close(self) -> None:
        """Let go of the folder of files; places of other kinds remain. May be repeated."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- arenas

    def arena(self, place: str, nbytes: int = -1) -> memoryview:
        """Return the memory of an arena; with a size, one that is not there yet is made of zeros.

        Raises:
            UnknownPlace: There is no such arena, or one of another size.
        """
        if place not in self._arenas and nbytes >= 0:
            import numpy as np

            self._add(place, np.zeros(nbytes, np.uint8))
        found = self._arenas.get(place)
        if found is None:
            raise UnknownPlace(
                f"there is no arena {place!r}",
                expected=_listed(self._arenas),
                fix="give it when Places are built, or its size here",
            )
        if nbytes >= 0 and found.nbytes != nbytes:
            raise UnknownPlace(
                f"arena {place!r} has {found.nbytes} bytes", expected=f"{nbytes}, as was asked for"
            )
        return found

    def _add(self, place: str, held: Any) -> None:
        try:
            scheme = parse_place(place).scheme
            if scheme not in ARENAS:
                raise UnknownPlace(f"{place!r} is no arena", expected=f"one of {_SCHEMES}")
            if isinstance(held, Path):
                self._add_tier(place, scheme, held)
                return
            self._arenas[place] = buffer_of(held).cast("B")
        except PlanFormatError as error:
            raise UnknownPlace(error.found, expected=error.expected) from error
        except (TypeError, ValueError) as error:
            raise UnknownPlace(
                f"{place!r} is a {type(held).__name__}",
                expected="contiguous bytes: a bytearray, an array, a mapping; or a Path for a tier",
            ) from error

    def _add_tier(self, place: str, scheme: str, path: Path) -> None:
        if scheme != "tier":
            raise UnknownPlace(f"{place!r} is a file", expected="a tier, or memory")
        self._tiers[place] = path

    @staticmethod
    def _need(place: str, held: Any, what: str) -> Any:
        if not held:
            raise UnknownPlace(f"{place!r} needs {what}", fix="give it when Places are built")
        return held

    # --- opening places

    def source(self, place: str) -> Region:
        """Open a place for reading.

        Raises:
            UnknownPlace: It stands for nothing here.
            PlaceFailed: It is a file that cannot be opened.
        """
        scheme, _, path = place.partition("://")
        if place in self._arenas:
            return MemoryRegion(place, self._arenas[place])
        if scheme == "net":
            return FetchedRegion(place, self._need(place, self._fetch, "a function `fetch`"))
        if scheme == "cas":
            store = self._need(place, self._store, "a store")
            return MemoryRegion(place, store.view(parse_digest(path)))
        return self._file(place, path, write=False)

    def sink(self, place: str, length: int) -> Region | None:
        """Open a place for writing; `None` for a blob that the store has already.

        Args:
            place: The place.
            length: How many bytes it gets in all; those of a blob are fixed.

        Raises:
            UnknownPlace: It stands for nothing here.
            PlaceFailed: It is a file that cannot be opened.
        """
        scheme, _, path = place.partition("://")
        if place in self._arenas:
            return MemoryRegion(place, self._arenas[place])
        if scheme == "cas":
            store = self._need(place, self._store, "a store")
            digest = parse_digest(path)
            if store.has(digest):
                return None
            return BlobRegion(place, store.writer(digest, length), length)
        return self._file(place, path, write=True)

    def base(self, digest: Digest, old: Mapping[Digest, FileChunk]) -> memoryview:
        """Return the bytes that a difference applies to: from the store, else from the old files.

        Args:
            digest: Their digest.
            old: Chunks of the old files by their digest, as `old_chunks` gives them.

        Raises:
            PlaceFailed: They are nowhere, or cannot be read.
        """
        if self._store is not None and self._store.has(digest):
            found: memoryview = self._store.view(digest)
            return found
        chunk = old.get(digest)
        if chunk is None or self._root < 0:
            raise PlaceFailed(
                f"the bytes of {digest_text(digest)} are not here",
                expected="a blob of the store, or a chunk of `from_` among the files",
            )
        # Not mapped: a file that somebody makes shorter meanwhile would end the process.
        held = memoryview(bytearray(chunk.length))
        with self.source(f"file://{chunk.path}") as region:
            region.read(chunk.offset, held)
        return held

    def _file(self, place: str, path: str, *, write: bool) -> FileRegion:
        try:
            return FileRegion(place, self._open(place, path, write=write), writable=write)
        except OSError as error:
            raise _unopened(place, error) from error

    def _probe(self, place: str, path: str) -> None:
        """Find out whether a file can be written, without making it."""
        try:
            os.close(self._open(place, path, write=True, make=False))
        except FileNotFoundError:
            return
        except OSError as error:
            raise _unopened(place, error) from error

    def _open(self, place: str, path: str, *, write: bool, make: bool = True) -> int:
        known = self._tiers.get(place)
        if known is not None:
            flags = os.O_RDWR if write else os.O_RDONLY
            flags |= os.O_CREAT if write and make else 0
            return os.open(known, flags | os.O_CLOEXEC, 0o666)
        if not place.startswith("file://"):
            self.arena(place)  # which says what there is
        self._need(place, self._root >= 0, "a folder of files")
        return open_below(self._root, path, write=write, make=make)


def _unopened(place: str, error: OSError) -> PlaceFailed:
    return PlaceFailed(
        f"{place} cannot be opened: {error.strerror or error}",
        expected="a regular file, on a path without symbolic links",
    )


_SCHEMES: Final = ", ".join(f"{one}://" for one in ARENAS)


def _listed(names: Mapping[str, Any]) -> str:
    return f"one of {', '.join(sorted(names)[:8])}" if names else "an arena; there are none"
