"""What can go wrong around plans. An error's code is the name of its class."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError
from bb_ir.plan import FileChunk

__all__ = [
    "BlobMismatch",
    "BlobMissing",
    "CommitMisuse",
    "DifferenceDamaged",
    "DifferenceTooLarge",
    "DigestMismatch",
    "FolderChanged",
    "FolderOccupied",
    "FolderUnfit",
    "ManifestUnfit",
    "ModelFileDamaged",
    "NoRoom",
    "NotAStore",
    "PlaceFailed",
    "PlansError",
    "RanksUnfit",
    "RecordDamaged",
    "StaleEpoch",
    "StoreDamaged",
    "StoreError",
    "StoreFailed",
    "StoreLocked",
    "StoreReadOnly",
    "UnknownDifference",
    "UnknownMove",
    "UnknownPlace",
    "VersionIncomplete",
    "VersionUnknown",
]


class PlansError(BytesAndBrainsError):
    """Something around plans failed; nothing was half done.

    What all errors of `bb_plans` are kinds of; it is caught, never raised itself.
    """


# --- manifests


class FolderChanged(PlansError):
    """Files changed while a manifest was made of them.

    Met at `bb_plans.manifests.manifest_of_folder`. Make the manifest when whoever writes the files
    is done, or of a copy.
    """


class FolderUnfit(PlansError):
    """A folder holds what no manifest can name, or is none.

    Met at `bb_plans.manifests.manifest_of_folder`: a link that leaves the folder, a name that no
    place can have, a path that is no folder. The error names the file.
    """


class ModelFileDamaged(PlansError):
    """A file of a model says of itself what cannot be.

    Met where manifests are made: a safetensors file whose header is absurd or whose tensors reach
    past its end, an ONNX model that is cut off or whose external data is not there. Copy the file
    again, whole.
    """


# --- differences


class DifferenceDamaged(PlansError):
    """Encoded bytes are no difference, or do not give what was promised.

    Met at `bb_plans.deltas.decode`, by whoever applies what a peer sent; nothing was published.
    Get the bytes again, or from somebody else; if that does not help, the base is another one than
    the sender had, and the whole chunk is needed.
    """


class DifferenceTooLarge(PlansError):
    """A difference says that it becomes more bytes than are allowed.

    Met at `bb_plans.deltas.decode` before anything is allocated. Allow more with `max_bytes` if
    the plan is one that you trust.
    """


class UnknownDifference(PlansError):
    """There is no such way to encode differences.

    Met where a codec or the width of elements is named. The error lists those that there are.
    """


class RanksUnfit(PlansError, ValueError):
    """Ranks cannot be grouped as they are asked to be, or a bucket cannot be for those it is for.

    Met at `bb_plans.groups` and `bb plan swap --groups`: a world that the size of groups does not
    divide, a rank that the world does not have, a bucket for a part of a group where groups are to
    be whole. Nothing was written. Correct what says who needs what, or take smaller buckets.
    """


class DigestMismatch(PlansError):
    """Bytes arrived that have another digest than the plan says, so they do not count.

    Told in the report of a plan, at the op. The op is tried again, from other sources where there
    are any; where none has the right bytes, it fails, and nothing that needs them is published.
    Find out who damages the bytes: disk, network, or whoever made the plan.
    """


class PlaceFailed(PlansError):
    """A place of a plan could not be read or written as far as it was to be.

    Told in the report of a plan, at the op: a file is gone, shorter than it was, or behind a
    symbolic link, a device is full, a peer does not send. The op is tried again, from other sources
    where there are any. Mend the place, and submit the plan again.
    """


class UnknownPlace(PlansError):
    """A place was named that stands for nothing here, or cannot stand for what was given.

    Met when `Places` are built and asked. Give the place: a root for files, a store for blobs, an
    arena for memory, a function for what peers send.
    """


class UnknownMove(PlansError):
    """An execution was told of the end of a move that is not under way.

    Met at `Execution.complete` and `Execution.fail`: a defect of the executor. Tell the end of each
    op that `ready` gave once.
    """


# --- the store


class StoreError(PlansError):
    """Something about the store of versions failed; what it served before, it serves still.

    What all errors of `bb_plans.store` are kinds of; it is caught, never raised itself.
    """


class NotAStore(StoreError):
    """A folder is no store, or holds other things.

    Met when a `Store` is opened. Give a folder of its own to the store; a store that is opened for
    reading has to be there already.
    """


class StoreLocked(StoreError):
    """Somebody else writes to this store: it has one writer at a time, and any readers.

    Met when a `Store` is opened for writing. The error tells the process; wait until it is done,
    or open the store with `writable=False`.

    Args:
        found: What is wrong.
        expected: What would have been right.
        fix: What to do.
        where: The store's folder.
        holder: Id of the process that writes; 0 when it did not say.
    """

    def __init__(self, found: str, *, expected: str, fix: str, where: str, holder: int = 0) -> None:
        super().__init__(found, expected=expected, fix=fix, where=where)
        self.holder = holder


class StoreReadOnly(StoreError):
    """A store cannot be written to: it was opened for reading, was closed, or a disk failed.

    After a disk failed to say whether something is durable, only opening the store again tells
    which version it has; until then it serves what it served.
    """


class StoreDamaged(StoreError):
    """What a store wrote about its versions is not what it reads: somebody else changed it.

    Met when a `Store` is opened, and where manifests are read. Nothing is guessed. Stage the
    version again; if `CURRENT` and `journal` are both damaged, remove them: blobs and staged
    versions stay, and one of them can be committed.
    """


class StoreFailed(StoreError):
    """The system refused what a store asked of it: an error of a disk, a permission, a limit.

    The error holds what the system said. Nothing was half done: what is missing was not stored,
    and the current version is what it was.
    """


class NoRoom(StoreError):
    """What shall be stored is larger than the room that there is, or than any blob may be.

    Found before anything is written where that is possible. Make room with `Store.prune`, or give
    the store another disk.
    """


class BlobMissing(StoreError):
    """A store does not have the bytes of a digest.

    Met where blobs are read. `Store.missing(manifest)` tells all that a version lacks.
    """


class BlobMismatch(StoreError):
    """Bytes do not have the digest, or the length, under which they shall be stored or are read.

    Met at `Store.put`, when a `BlobWriter` is sealed, and wherever blobs are verified. Nothing was
    stored. Fetch the bytes again, from somebody else; a damaged blob is removed by
    `Store.verify(deep=True, remove=True)`.
    """


class VersionIncomplete(StoreError):
    """A version cannot be staged or gone back to, as some of its bytes are not there.

    Args:
        found: What is wrong, with the first chunks.
        expected: What would have been right.
        fix: What to do.
        where: The store's folder.
        missing: All chunks that are missing, each digest once.
    """

    def __init__(
        self,
        found: str,
        *,
        expected: str,
        fix: str,
        where: str,
        missing: tuple[FileChunk, ...] = (),
    ) -> None:
        super().__init__(found, expected=expected, fix=fix, where=where)
        self.missing = missing


class VersionUnknown(StoreError):
    """A store has no such version: it was never staged, or there is none to go back to.

    Met at `Store.commit`, `Store.rollback` and where a version is asked for. Stage it first.
    """


class ManifestUnfit(StoreError):
    """A manifest is not one that can be stored, or written back as files.

    A path that leaves its folder, a chunk without a digest or twice as long as another of the same
    digest, bytes that two chunks claim; for `Store.rebuild` also bytes that no chunk has. Make the
    manifest again.
    """


class StaleEpoch(StoreError):
    """A commit is late: this epoch, or a later one, was decided already.

    Met at `Store.commit`. Nothing changed. A commit that is told twice is no error, one of another
    root is: the epoch of the next commit is larger than all before it.
    """


class FolderOccupied(StoreError):
    """A folder that shall be written holds something already.

    Met at `Store.rebuild`, which writes a folder as a whole or not at all. Name one that does not
    exist.
    """


# --- commits of a group


class CommitMisuse(PlansError):
    """A group commit was asked for what it cannot do.

    Met by whoever drives a `Coordinator` or a `Participant`: a quorum that the group cannot reach,
    a commit that begins while another one is open, a participant that stages what nobody asked for.
    """


class RecordDamaged(PlansError):
    """What a coordinator wrote down is not what is read, so nothing may be decided after it.

    Met at `Coordinator.restore`. Take the record from where it was stored, whole.
    """
