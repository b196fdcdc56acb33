"""What a store says about its versions, its damages and what it removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bb_ir.plan import Digest, FileChunk, WeightManifest, chunk_digest, digest_text
from bb_plans.errors import BlobMismatch

__all__ = ["Damage", "Pruned", "Version"]


class Version:
    """One version of a model in a store. Equal are those of the same root and epoch.

    Attributes:
        root: Content digest of its manifest.
        epoch: The epoch under which it was committed last; 0 when it is only staged.
    """

    __slots__ = ("_load", "_manifest", "_view", "epoch", "hold", "root")

    def __init__(
        self,
        root: Digest,
        epoch: int,
        load: Callable[[Digest], WeightManifest],
        view: Callable[[Digest], memoryview],
        manifest: WeightManifest | None = None,
    ) -> None:
        self.root = root
        self.epoch = epoch
        self._load = load
        self._view = view
        self._manifest = manifest
        #: Descriptor of the locked manifest, where the writer is another process.
        self.hold = -1

    @property
    def manifest(self) -> WeightManifest:
        """Its manifest, read and checked when it is first asked for.

        Raises:
            StoreDamaged: The manifest is not what was written.
            VersionUnknown: The version was removed.
        """
        if self._manifest is None:
            self._manifest = self._load(self.root)
        return self._manifest

    def view(self, chunk: FileChunk) -> memoryview:
        """Return the bytes of a chunk of its manifest; they cannot be changed.

        Raises:
            BlobMismatch: The blob is not as long as the chunk.
            BlobMissing: The blob is not in the store.
        """
        digest = chunk_digest(chunk)
        assert digest is not None, "chunks of a staged manifest have digests"
        found = self._view(digest)
        if found.nbytes != chunk.length:
            raise BlobMismatch(
                f"the blob of {chunk.path[:80]!r} has {found.nbytes} bytes",
                expected=f"{chunk.length} bytes of {digest_text(digest)}",
                fix="remove it with Store.verify(deep=True, remove=True), and fetch it again",
            )
        return found

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return (self.root, self.epoch) == (other.root, other.epoch)

    def __hash__(self) -> int:
        return hash((self.root, self.epoch))

    def __repr__(self) -> str:
        return f"Version({digest_text(self.root)}, epoch={self.epoch})"


class Damage(NamedTuple):
    """Something in a store that is not what it says.

    Attributes:
        digest: Of the blob; for a manifest, the version's root.
        found: `missing`, `length`, `bytes`, or `manifest`.
        versions: Roots of the versions that need it.
    """

    digest: Digest
    found: str
    versions: tuple[Digest, ...]


class Pruned(NamedTuple):
    """What was removed.

    Attributes:
        versions: Roots of versions.
        blobs: How many blobs.
        nbytes: How many bytes they had.
    """

    versions: tuple[Digest, ...]
    blobs: int
    nbytes: int
