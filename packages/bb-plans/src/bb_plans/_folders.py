"""From a store to a folder of files, and back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from bb_ir.plan import FileChunk, chunk_digest
from bb_plans._blob_writer import mismatch
from bb_plans._blobs import BlobStore
from bb_plans._manifests import check_files
from bb_plans._system import PIECE, write_all
from bb_plans._versions import Version
from bb_plans.errors import BlobMismatch, FolderOccupied
from bb_plans.files import Files
from bb_plans.hashing import hasher

__all__ = ["adopt", "rebuild"]


def rebuild(
    files: Files, version: Version, folder: Path, progress: Callable[[int], object]
) -> None:
    """Write the files of a version beside a folder, and then give them its name."""
    listed = check_files(version.manifest)
    facts = files.stat(folder)
    beside = folder.with_name(f".{folder.name}.partial")
    if facts is not None and (not facts.folder or files.listdir(folder)):
        raise _occupied(f"{folder} is there already", "name a folder that does not exist")
    if not files.mkdir(beside):
        raise _occupied(f"{beside} is there, of a rebuild that was broken off", "remove it")
    made = [beside]
    done = 0

    def wrote(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        progress(done)

    try:
        for chunks in listed.values():
            _write(files, version, beside, chunks, made=made, wrote=wrote)
        for one in made:
            if (found := files.stat(one)) and found.folder:
                files.fsync_folder(one)
        files.rename(beside, folder)
    except BaseException:
        for one in reversed(made):
            _remove(files, one)
        raise
    files.fsync_folder(folder.parent)


def _write(
    files: Files,
    version: Version,
    root: Path,
    chunks: list[FileChunk],
    *,
    made: list[Path],
    wrote: Callable[[int], None],
) -> None:
    target = root / chunks[0].path
    parents = [root / parent for parent in reversed(target.relative_to(root).parents[:-1])]
    made.extend(parent for parent in parents if files.mkdir(parent))
    fd = files.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    made.append(target)
    try:
        for chunk in chunks:
            _copy(files, version, chunk, fd, wrote)
        files.fsync(fd)
    finally:
        files.close(fd)


def _copy(
    files: Files, version: Version, chunk: FileChunk, fd: int, wrote: Callable[[int], None]
) -> None:
    digest = chunk_digest(chunk)
    assert digest is not None, "chunks of a staged manifest have digests"
    view, taken = version.view(chunk), hasher(digest.algorithm)
    for begin in range(0, view.nbytes, PIECE):
        piece = view[begin : begin + PIECE]
        taken.update(piece)
        write_all(files, fd, piece, chunk.offset + begin)
        wrote(piece.nbytes)
    if taken.digest() != digest.value:
        raise mismatch(digest, f"that of {chunk.path[:80]!r} was damaged", Path(chunk.path))


def _remove(files: Files, path: Path) -> None:
    try:
        facts = files.stat(path)
        if facts is not None and facts.folder:
            files.rmdir(path)
        elif facts is not None:
            files.unlink(path)
    except OSError:
        return  # the next rebuild names what is left


def _occupied(found: str, fix: str) -> FolderOccupied:
    return FolderOccupied(found, expected="a place for a new folder", fix=fix)


def adopt(files: Files, store: BlobStore, folder: Path, wanted: Iterable[FileChunk]) -> int:
    """Copy chunks from the files of a folder into a store."""
    taken = 0
    for chunk in wanted:
        fd = files.open_below(folder, chunk.path)
        try:
            _take(files, store, chunk, fd)
        except BlobMismatch as error:
            raise BlobMismatch(
                f"{chunk.path[:80]!r} is not what the manifest says",
                expected=error.expected,
                fix="make the manifest again",
                where=str(folder / chunk.path),
            ) from error
        finally:
            files.close(fd)
        taken += chunk.length
    return taken


def _take(files: Files, store: BlobStore, chunk: FileChunk, fd: int) -> None:
    digest = chunk_digest(chunk)
    assert digest is not None, "the manifest was checked"
    with store.writer(digest, chunk.length) as writer:
        done = 0
        while done < chunk.length:
            piece = files.pread(fd, min(PIECE, chunk.length - done), chunk.offset + done)
            if not piece:
                break  # a file that is too short is not of that digest either
            writer.write(done, piece)
            done += len(piece)
        writer.seal()
