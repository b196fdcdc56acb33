"""The manifest of a folder: its files are cut into runs, which are hashed in a few threads.

Whether a file has changed is looked at before and after. What is hashed is read, as somebody who
shortens a mapped file ends the process; headers, and what a reader of chunks gives, are mapped.
This module writes no file but the index that it was given.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Callable, Collection, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from bb_ir.plan import Digest, DigestAlgorithm, FileChunk, WeightManifest
from bb_ir.plan.places import unsafe
from bb_plans.errors import FolderChanged, FolderUnfit
from bb_plans.hashing import hasher
from bb_plans.manifests._formats import npy_tensors, safetensors_tensors
from bb_plans.manifests._index import Index, Seen
from bb_plans.manifests._onnx import External, onnx_tensors
from bb_plans.manifests._tensors import SPAN_BYTES, Run, Tensor, damaged, placed, runs

__all__ = ["INDEX_NAME", "MANIFEST_NAME", "folder_reader", "manifest_of_folder"]

#: Names at the top of a folder that are no part of the model.
MANIFEST_NAME: Final = "bb-manifest.json"
INDEX_NAME: Final = "bb-manifest.index"

_WORKERS: Final = 4
_TASK_BYTES: Final = 8 << 20
_PIECE: Final = 1 << 20


class _File(NamedTuple):
    """A file as it was found: its path below the root, where it is, and what was seen of it."""

    path: str
    full: Path
    seen: Seen


def manifest_of_folder(
    root: Path | str,
    model_id: str,
    version: str,
    *,
    algorithm: DigestAlgorithm = DigestAlgorithm.BLAKE3,
    known: Path | str | None = None,
    progress: Callable[[int, int], None] | None = None,
    span_bytes: int = SPAN_BYTES,
    exclude: Collection[str] = (),
) -> WeightManifest:
    """Return the manifest of all regular files below a folder, sorted by path.

    Tensors of `.safetensors`, `.onnx` (also those in external data) and `.npy` files have chunks of
    their own, large ones several; what lies between has others, and files of other kinds are one
    chunk each. Sockets, devices and the like are passed over, as are `bb-manifest.json` and
    `bb-manifest.index` at the top.

    Args:
        root: The folder.
        model_id: The model's name.
        version: The version's label.
        algorithm: How digests are made.
        known: A file that remembers digests from one call to the next: files whose size, inode and
            times are as they were are not read again. It is made if it is not there, begun anew if
            it cannot be read, and may lie in the folder under the name `bb-manifest.index`.
        progress: Called with the bytes done and the bytes there are, from this thread.
        span_bytes: Most bytes of one chunk of a tensor, rounded down to a multiple of 16.
        exclude: Further paths below the folder, with `/`, that are no part of the model; of a
            folder, all that is in it.

    Raises:
        ConfigError: `span_bytes` is below 1, and there is a file.
        FolderChanged: A file changed meanwhile.
        FolderUnfit: It is no folder, a file cannot be read, its name or the link that it is cannot
            stand in a manifest, or `known` cannot be written.
        ModelFileDamaged: A file of a model says of itself what cannot be.
    """
    top = Path(root)
    try:
        top = top.resolve(strict=True)
        passed = _passed_over(top, known, exclude)
        files = sorted(_files(top, passed), key=lambda file: file.path)
        cut = _cut(files, span_bytes)
        index = Index.read(None if known is None else Path(known), algorithm)
        digests = _digests(files, cut, index, algorithm, progress)
    except (OSError, RuntimeError) as error:  # a circle of links is a RuntimeError in older Pythons
        raise FolderUnfit(
            f"{str(root)[:200]!r} cannot be read: {error}"[:400],
            expected="a folder with files that you may read",
        ) from error
    try:
        index.write()
    except OSError as error:
        raise FolderUnfit(
            f"the index {str(known)[:200]!r} cannot be written: {error}"[:400],
            expected="a folder that is there, and that you may write to",
            fix="name another file as `known`, or none",
        ) from error
    chunks = [
        FileChunk(file.path, run.offset, run.length, digest=digest, tensor=run.tensor)
        for file in files
        for run, digest in zip(cut[file.path], digests[file.path], strict=True)
    ]
    return WeightManifest(model_id, version, tuple(chunks))


def folder_reader(root: Path | str) -> Callable[[FileChunk], memoryview]:
    """Return what reads the chunks of a folder's manifest; each file is mapped once.

    Nobody may shorten the files as long as they are read. It raises `FolderChanged` for a chunk
    that is not in its file, and `FolderUnfit` for one of no file below the folder.
    """
    top = Path(root).resolve()
    views: dict[str, memoryview] = {}

    def read(chunk: FileChunk) -> memoryview:
        if chunk.path not in views:
            views[chunk.path] = _below(top, chunk.path)
        view = views[chunk.path]
        end = chunk.offset + chunk.length
        if end > len(view):
            raise FolderChanged(
                f"{chunk.path[:200]!r} has {len(view)} bytes, and a chunk ends at {end}",
                fix="make the manifest of this folder anew",
            )
        return view[chunk.offset : end]

    return read


def _below(top: Path, path: str) -> memoryview:
    """Return the bytes of a file below a folder, whatever a stranger's manifest calls it."""
    full = top / path
    try:
        if unsafe(path) or not full.resolve().is_relative_to(top):
            _unfit(path, "is not below the folder")
        if not full.is_file():  # a pipe would wait for somebody to write to it
            _unfit(path, "is no regular file that is there")
        with _mapped(full) as data:
            return data
    except (OSError, RuntimeError) as error:  # a circle of links, as above
        _unfit(path, f"cannot be read: {error}"[:400])


# --- which files there are


def _passed_over(top: Path, known: Path | str | None, exclude: Collection[str]) -> set[str]:
    names = {MANIFEST_NAME, INDEX_NAME}
    if known is not None:
        index = Path(known).absolute()
        index = index.parent.resolve() / index.name
        if index.is_relative_to(top):
            names.add(index.relative_to(top).as_posix())
    return {*names, *(f"{name}.new" for name in names), *exclude}


def _files(top: Path, passed: Collection[str]) -> Iterator[_File]:
    if not top.is_dir():
        _unfit(str(top), "is no folder")
    for folder, folders, names in os.walk(top, onerror=_raised):
        here = Path(folder)
        paths = {name: (here / name).relative_to(top).as_posix() for name in folders}
        folders[:] = [name for name in folders if paths[name] not in passed]
        for name in folders:
            if (here / name).is_symlink():
                _unfit(paths[name], "is a link to a folder", fix="put the folder itself there")
        for name in names:
            full = here / name
            path = full.relative_to(top).as_posix()
            if path not in passed:
                yield from _file(top, full, path)


def _file(top: Path, full: Path, path: str) -> Iterator[_File]:
    if full.is_symlink() and not full.resolve().is_relative_to(top):
        _unfit(path, "is a link that leaves the folder", fix="put the file itself there")
    told = full.stat()
    if not stat.S_ISREG(told.st_mode):
        return
    why = unsafe(path)
    if why:
        _unfit(path, why, fix="rename the file")
    yield _File(path, full, Seen.of(told))


def _raised(error: OSError) -> None:
    raise error


# --- what they are made of


def _cut(files: list[_File], span_bytes: int) -> dict[str, list[Run]]:
    """Return the runs of each file, by its path."""
    sizes = {file.path: file.seen.size for file in files}
    tensors: dict[str, list[Tensor]] = {file.path: [] for file in files}
    for file in files:
        inside, beside = _tensors(file)
        tensors[file.path] += inside
        for external in beside:
            where, tensor = _external(file.path, external, sizes)
            tensors[where].append(tensor)
    return {path: list(runs(sizes[path], found, span_bytes)) for path, found in tensors.items()}


def _tensors(file: _File) -> tuple[list[Tensor], list[External]]:
    suffix = file.full.suffix.lower()
    if suffix not in (".npy", ".safetensors", ".onnx") or not file.seen.size:
        return [], []
    with _mapped(file.full) as data:
        if suffix == ".onnx":
            return onnx_tensors(file.path, data)
        read = npy_tensors if suffix == ".npy" else safetensors_tensors
        return read(file.path, data), []


def _external(path: str, external: External, sizes: dict[str, int]) -> tuple[str, Tensor]:
    """Return where the bytes of a tensor outside of its model are."""
    folder, slash, _ = path.rpartition("/")
    location, tensor = external.location.removeprefix("./"), external.tensor
    where = f"{folder}{slash}{location}"
    if unsafe(location) or where not in sizes:
        damaged(path, f"the data of {tensor.name[:80]!r} is in {location[:80]!r}, no file there")
    if tensor.length < 0:
        tensor = tensor._replace(length=sizes[where] - tensor.offset)
    return where, placed(where, sizes[where], tensor)


# --- their digests


class _Task(NamedTuple):
    """Runs of a file that one thread hashes; `at` are their places in the file's list."""

    file: _File
    at: list[int]
    runs: list[Run]


def _digests(
    files: list[_File],
    cut: dict[str, list[Run]],
    index: Index,
    algorithm: DigestAlgorithm,
    progress: Callable[[int, int], None] | None,
) -> dict[str, list[Digest]]:
    found: dict[str, list[Digest | None]] = {}
    tasks: list[_Task] = []
    for file in files:
        known = index.of(file.path, file.seen)
        listed = [known.get((run.offset, run.length)) for run in cut[file.path]]
        found[file.path] = listed
        tasks += _tasks(file, cut[file.path], listed)
    total = sum(file.seen.size for file in files)
    done = total - sum(run.length for task in tasks for run in task.runs)
    _tell(progress, done, total)
    with ThreadPoolExecutor(min(_WORKERS, os.cpu_count() or 1)) as pool:
        hashed = pool.map(partial(_hashed, algorithm), tasks)
        for task, digests in zip(tasks, hashed, strict=True):
            for at, digest in zip(task.at, digests, strict=True):
                found[task.file.path][at] = digest
            done += sum(run.length for run in task.runs)
            _tell(progress, done, total)
    whole = {path: [one for one in listed if one] for path, listed in found.items()}
    for file in files:
        places = [(run.offset, run.length) for run in cut[file.path]]
        index.put(file.path, file.seen, dict(zip(places, whole[file.path], strict=True)))
    return whole


def _tasks(file: _File, listed: list[Run], known: list[Digest | None]) -> Iterator[_Task]:
    task, size = _Task(file, [], []), 0
    for at, (run, digest) in enumerate(zip(listed, known, strict=True)):
        if digest is not None:
            continue
        task.at.append(at)
        task.runs.append(run)
        size += run.length
        if size >= _TASK_BYTES:
            yield task
            task, size = _Task(file, [], []), 0
    if task.runs:
        yield task


def _hashed(algorithm: DigestAlgorithm, task: _Task) -> list[Digest]:
    held = memoryview(bytearray(min(_PIECE, max(run.length for run in task.runs))))
    with task.file.full.open("rb", buffering=0) as file:
        _same(file.fileno(), task.file)
        found = [_digest(task.file, file.fileno(), run, algorithm, held) for run in task.runs]
        _same(file.fileno(), task.file)
    return found


def _digest(
    file: _File, handle: int, run: Run, algorithm: DigestAlgorithm, held: memoryview
) -> Digest:
    """Read and hash a run, piece by piece."""
    taken, done = hasher(algorithm), 0
    while done < run.length:
        piece = held[: run.length - done]
        got = os.preadv(handle, [piece], run.offset + done)
        if not got:
            raise _changed(file)
        taken.update(piece[:got])
        done += got
    return Digest(algorithm, taken.digest())


def _tell(progress: Callable[[int, int], None] | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)


@contextmanager
def _mapped(full: Path) -> Generator[memoryview]:
    """Give the bytes of a file."""
    with full.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size:
            yield memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))
        else:
            yield memoryview(b"")  # nothing can be mapped of an empty file


def _same(handle: int, expected: _File) -> None:
    if Seen.of(os.fstat(handle)) != expected.seen:
        raise _changed(expected)


def _changed(file: _File) -> FolderChanged:
    return FolderChanged(
        f"{file.path[:200]!r} changed while the manifest was made",
        fix="make it when whoever writes the file is done",
    )


def _unfit(path: str, found: str, fix: str = "") -> NoReturn:
    raise FolderUnfit(f"{path[:200]!r} {found}", expected="regular files below one folder", fix=fix)
