"""A store in memory, for Nodes that have no disk and for simulations: versions by digest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from bb_ir.plan import Digest, FileChunk, WeightManifest, chunk_digest, content_digest, digest_text
from bb_plans.errors import BlobMissing, StaleEpoch, VersionIncomplete, VersionUnknown

__all__ = ["MemoryStore", "MemoryVersion", "Versions"]


class Known(Protocol):
    """A version as `bb_plans.store.Version` is one."""

    @property
    def root(self) -> Digest:
        """Content digest of its manifest."""
        ...

    @property
    def epoch(self) -> int:
        """The epoch of its commit; 0 when it is only staged."""
        ...

    @property
    def manifest(self) -> WeightManifest:
        """What it is made of."""
        ...

    def view(self, chunk: FileChunk, /) -> memoryview:
        """Return the bytes of a chunk."""
        ...


class Versions(Protocol):
    """What a swap needs of a store: `bb_plans.store.Store` has it, and `MemoryStore`."""

    @property
    def current(self) -> Known | None:
        """The version that is current."""
        ...

    def has(self, digest: Digest, /) -> bool:
        """Tell whether a blob is here."""
        ...

    def view(self, digest: Digest, /) -> memoryview:
        """Return a blob."""
        ...

    def put(self, data: memoryview, digest: Digest, /) -> Digest:
        """Take a blob in."""
        ...

    def stage(self, manifest: WeightManifest, /) -> Digest:
        """Make a version ready."""
        ...

    def commit(self, root: Digest, epoch: int, /) -> Known:
        """Make a version current."""
        ...

    def versions(self) -> tuple[Known, ...]:
        """Return all versions that are staged, the current one among them."""
        ...

    def release(self, root: Digest, /) -> None:
        """Allow a staged version to be pruned, as it will not be committed after all."""
        ...

    def prune(self, keep: Iterable[Digest], /) -> object:
        """Remove what no version needs that is current or named."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


@dataclass(frozen=True, slots=True)
class MemoryVersion:
    """One version in memory."""

    root: Digest
    epoch: int
    manifest: WeightManifest
    blobs: Mapping[Digest, memoryview] = field(repr=False, compare=False)

    def view(self, chunk: FileChunk) -> memoryview:
        """Return the bytes of a chunk of its manifest."""
        return _found(self.blobs, _digest(chunk))


class MemoryStore:
    """Blobs and versions; what a caller puts in is kept by reference."""

    def __init__(self) -> None:
        self._blobs: dict[Digest, memoryview] = {}
        self._versions: dict[Digest, MemoryVersion] = {}
        self._current: Digest | None = None

    @property
    def current(self) -> MemoryVersion | None:
        """The version that is current; `None` before the first commit."""
        return None if self._current is None else self._versions[self._current]

    def has(self, digest: Digest) -> bool:
        """Tell whether a blob is here."""
        return digest in self._blobs

    def view(self, digest: Digest) -> memoryview:
        """Return a blob, read-only.

        Raises:
            BlobMissing: It is not here.
        """
        return _found(self._blobs, digest)

    def put(self, data: memoryview, digest: Digest) -> Digest:
        """Take in bytes whose digest was checked."""
        self._blobs.setdefault(digest, data.toreadonly())
        return digest

    def stage(self, manifest: WeightManifest) -> Digest:
        """Make a version ready to be committed; return its root.

        Raises:
            VersionIncomplete: A blob is not here.
        """
        missing = [chunk for chunk in manifest.files if not self.has(_digest(chunk))]
        if missing:
            raise VersionIncomplete(
                f"{len(missing)} of {len(manifest.files)} chunks are not here, the first of "
                f"{missing[0].path[:80]!r}",
                expected="all of them",
                fix="fetch them, then stage the version again",
                where="memory",
                missing=tuple(missing),
            )
        root = content_digest(manifest)
        blobs = {_digest(chunk): self._blobs[_digest(chunk)] for chunk in manifest.files}
        known = self._versions.get(root)
        self._versions[root] = known or MemoryVersion(root, 0, manifest, blobs)
        return root

    def commit(self, root: Digest, epoch: int) -> MemoryVersion:
        """Make a staged version current. A commit that is told twice changes nothing.

        Raises:
            StaleEpoch: The epoch is not larger than that of the commit before.
            VersionUnknown: It was never staged, or pruned since.
        """
        before = self.current
        if before is not None and epoch <= before.epoch:
            if (root, epoch) == (before.root, before.epoch):
                return before
            raise StaleEpoch(
                f"a commit of epoch {epoch}, and epoch {before.epoch} was committed",
                expected="a larger epoch",
            )
        staged = self._versions.get(root)
        if staged is None:
            raise VersionUnknown(
                f"{digest_text(root)} is not staged",
                expected="a version that was staged",
                fix="stage its manifest",
                where="memory",
            )
        made = MemoryVersion(root, epoch, staged.manifest, staged.blobs)
        self._versions[root] = made
        self._current = root
        return made

    def versions(self) -> tuple[MemoryVersion, ...]:
        """Return all versions, in the order in which they were staged."""
        return tuple(self._versions.values())

    def release(self, root: Digest) -> None:
        """Do nothing: what is staged is kept only when it is named."""

    def prune(self, keep: Iterable[Digest] = ()) -> None:
        """Remove versions that are neither current nor named, and blobs of no version."""
        kept = {*keep, *(() if self._current is None else (self._current,))}
        self._versions = {root: one for root, one in self._versions.items() if root in kept}
        self._blobs = {
            digest: blob for one in self._versions.values() for digest, blob in one.blobs.items()
        }

    def close(self) -> None:
        """Do nothing: memory is let go of with the object."""


def _digest(chunk: FileChunk) -> Digest:
    digest = chunk_digest(chunk)
    assert digest is not None, "chunks of manifests that are staged have digests"
    return digest


def _found(blobs: Mapping[Digest, memoryview], digest: Digest) -> memoryview:
    blob = blobs.get(digest)
    if blob is None:
        raise BlobMissing(f"no blob {digest.value.hex()[:16]} is here", fix="fetch it again")
    return blob
