"""Whether a manifest can be stored, or written back as files.

Pure: nothing here reads a file.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Final

from bb_ir.plan import Digest, FileChunk, WeightManifest, chunk_digest, digest_text
from bb_ir.plan.places import unsafe
from bb_plans.errors import ManifestUnfit

__all__ = ["check_files", "check_manifest", "digests_of"]

_LARGEST: Final = (1 << 63) - 1


def digests_of(manifest: WeightManifest) -> dict[Digest, FileChunk]:
    """Return the digests of a manifest that was checked, each with its first chunk."""
    found: dict[Digest, FileChunk] = {}
    for chunk in manifest.files:
        digest = chunk_digest(chunk)
        assert digest is not None, "the manifest was checked"
        found.setdefault(digest, chunk)
    return found


def check_manifest(manifest: WeightManifest) -> None:
    """Refuse a manifest that names bytes wrongly or twice.

    Raises:
        ManifestUnfit: It does; the error names the chunk.
        PlanFormatError: A digest in it is none.
    """
    lengths: dict[Digest, int] = {}
    for index, chunk in enumerate(manifest.files):
        at = f"chunk {index} ({chunk.path[:80]!r})"
        why = unsafe(chunk.path)
        if why:
            raise _unfit(f"{at} {why}", "a path below the folder")
        digest = chunk_digest(chunk)
        if digest is None:
            raise _unfit(f"{at} has no digest", "a digest for every chunk")
        digest_text(digest)
        if chunk.length < 0 or chunk.offset < 0 or chunk.offset + chunk.length > _LARGEST:
            raise _unfit(f"{at} reaches past {_LARGEST}", "offsets and lengths of a file")
        if lengths.setdefault(digest, chunk.length) != chunk.length:
            told = f"{lengths[digest]} and {chunk.length}"
            raise _unfit(f"{at} has the digest of a chunk of another length: {told}", "one length")
    for path, chunks in _by_path(manifest).items():
        for before, after in itertools.pairwise(chunks):
            if after.offset < before.offset + before.length or _place(before) == _place(after):
                told = f"bytes of {path[:80]!r} from {after.offset} on are in two chunks"
                raise _unfit(told, "every byte in one chunk")


def check_files(manifest: WeightManifest) -> dict[str, list[FileChunk]]:
    """Return the chunks of every file of a checked manifest in their order, if they are whole.

    Raises:
        ManifestUnfit: Bytes of a file are in no chunk, or a file is also a folder.
    """
    found = _by_path(manifest)
    for path, chunks in found.items():
        end = 0
        for chunk in chunks:
            if chunk.offset != end:
                told = f"bytes {end} to {chunk.offset} of {path[:80]!r} are in no chunk"
                raise _unfit(told, "chunks that cover files from their first byte to their last")
            end += chunk.length
        parts = path.split("/")
        for count in range(1, len(parts)):
            if "/".join(parts[:count]) in found:
                told = (
                    f"{'/'.join(parts[:count])[:80]!r} is a file, and the folder of {path[:80]!r}"
                )
                raise _unfit(told, "names that a folder can have")
    return found


def _by_path(manifest: WeightManifest) -> dict[str, list[FileChunk]]:
    found: defaultdict[str, list[FileChunk]] = defaultdict(list)
    for chunk in manifest.files:
        found[chunk.path].append(chunk)
    for chunks in found.values():
        chunks.sort(key=_place)
    return found


def _place(chunk: FileChunk) -> tuple[int, int]:
    return chunk.offset, chunk.length


def _unfit(found: str, expected: str) -> ManifestUnfit:
    return ManifestUnfit(found, expected=expected, fix="make the manifest again")
