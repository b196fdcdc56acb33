"""The manifests of staged versions, each in a folder under its root digest.

A root is the content digest of a manifest, so what is read back is checked by its name.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from bb_ir.plan import (
    MAX_BYTES,
    Digest,
    DigestAlgorithm,
    PlanFormatError,
    WeightManifest,
    digest_text,
    from_json,
    parse_digest,
)
from bb_plans._system import discard, mapped, read_file, write_file
from bb_plans.errors import StoreDamaged, VersionUnknown
from bb_plans.files import Files

__all__ = ["VersionFiles", "root_of"]

_PREFIX: Final = b"bb.plan.v1.WeightManifest\n"


def root_of(data: bytes) -> Digest:
    """Return the content digest of a manifest from its canonical JSON."""
    return Digest(DigestAlgorithm.SHA256, hashlib.sha256(_PREFIX + data).digest())


class VersionFiles:
    """The folder of versions.

    Args:
        folder: Where it is.
        files: The system calls.
    """

    def __init__(self, folder: Path, files: Files) -> None:
        self.folder = folder
        self._files = files

    def path(self, root: Digest) -> Path:
        """Return where the manifest of a version is, or would be.

        Raises:
            PlanFormatError: It is no digest.
        """
        return self.folder / digest_text(root).partition(":")[2] / "manifest"

    def roots(self) -> list[Digest]:
        """Return the roots of all versions that have a manifest."""
        found: list[Digest] = []
        for name in self._files.listdir(self.folder):
            try:
                root = parse_digest(f"sha256:{name}")
            except PlanFormatError:
                continue  # whatever it is, it is not ours
            if self._files.stat(self.path(root)) is not None:
                found.append(root)
        return found

    def load(self, root: Digest) -> WeightManifest:
        """Return the manifest of a version.

        Raises:
            StoreDamaged: It is not what was written.
            StoreFailed: It cannot be read.
            VersionUnknown: There is none.
        """
        with mapped("reading a manifest", self.folder):
            data = read_file(self._files, self.path(root), MAX_BYTES)
        if data is None:
            raise unknown(
                f"{digest_text(root)} is not staged", "stage its manifest", self.folder.parent
            )
        if root_of(data) != root:
            raise StoreDamaged(
                f"the manifest of {digest_text(root)} is not what was written",
                expected="bytes of that digest",
                fix="stage the version again",
                where=str(self.path(root)),
            )
        return from_json(WeightManifest, data)

    def write(self, root: Digest, data: bytes, beside: str) -> None:
        """Write a manifest, durably; one that is there stays, and is made durable.

        Args:
            root: The version's root.
            data: The manifest as canonical JSON.
            beside: Where to write it before it gets its name.
        """
        files, path = self._files, self.path(root)
        if read_file(files, path, MAX_BYTES) != data:
            try:
                write_file(files, beside, data)
                files.mkdir(path.parent)
                files.rename(beside, path)
            except OSError:
                discard(files, beside)
                raise
        files.fsync_folder(path.parent)
        files.fsync_folder(self.folder)

    def remove(self, root: Digest) -> bool:
        """Remove a version; return whether that was done: one that somebody reads stays."""
        path = self.path(root)
        fd = self._files.open(path, os.O_RDONLY)
        try:
            if not self._files.lock(fd, shared=False):
                return False
            self._files.unlink(path)
        finally:
            self._files.close(fd)
        self._files.rmdir(path.parent)
        return True

    def hold(self, root: Digest) -> int:
        """Lock a manifest, so that nobody prunes its version; return its descriptor, or -1."""
        path = self.path(root)
        try:
            fd = self._files.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return -1
        facts = self._files.stat(path) if self._files.lock(fd, shared=True) else None
        if facts is None or facts.inode != self._files.facts(fd).inode:
            self._files.close(fd)
            return -1
        return fd


def unknown(found: str, fix: str, where: Path) -> VersionUnknown:
    """Return the error of a version that is not there."""
    return VersionUnknown(found, expected="a version that was staged", fix=fix, where=str(where))
