"""A peer's side of a group commit."""

from __future__ import annotations

from typing import Protocol

from bb_ir.plan import Digest, FileChunk, WeightManifest, content_digest, digest_text
from bb_plans._messages import (
    Abort,
    Commit,
    Committed,
    Message,
    Phase,
    Prepare,
    Ready,
    Refused,
    Reply,
    Standing,
)
from bb_plans.errors import CommitMisuse, StoreError

__all__ = ["Participant", "VersionStore"]


class _Held(Protocol):
    """A version as a participant sees it."""

    @property
    def root(self) -> Digest:
        """Its root digest."""
        ...

    @property
    def epoch(self) -> int:
        """Its epoch."""
        ...


class VersionStore(Protocol):
    """What a participant needs of a store; `bb_plans.store.Store` has it."""

    @property
    def current(self) -> _Held | None:
        """What is current; `None` before the first commit."""
        ...

    @property
    def fence(self) -> int:
        """The largest epoch that was ever committed; 0 for none."""
        ...

    def staged(self, root: Digest) -> bool:
        """Tell whether a version is staged."""
        ...

    def missing(self, manifest: WeightManifest) -> tuple[FileChunk, ...]:
        """Return the chunks that are to be fetched."""
        ...

    def stage(self, manifest: WeightManifest) -> Digest:
        """Make a version ready to be committed."""
        ...

    def release(self, root: Digest) -> None:
        """Forget that a version may be committed."""
        ...

    def commit(self, root: Digest, epoch: int) -> _Held:
        """Make a staged version current."""
        ...


class Participant:
    """A peer of a group: stages what it is asked for, and commits when it is told to.

    It reaches nothing but its store: messages and the time are given to it, replies are returned,
    for the coordinator. What it promised is in the store, so a peer that was restarted makes a new
    participant over its store and sends `hello()`.

    Args:
        store: The peer's store.
        group: Name of the group.
        peer: Name of the peer in the group.

    Attributes:
        phase: How far the swap is that it was asked for last.
        asked: What it was asked for last; `None` for nothing.
        decided: The version that the group has, as far as this peer knows and does not have it.
        reason: Why the last swap was given up, or the last commit could not be done.
    """

    def __init__(self, store: VersionStore, group: str, peer: str) -> None:
        self.group = group
        self.peer = peer
        self.phase = Phase.IDLE
        self.asked: Prepare | None = None
        self.decided: Commit | None = None
        self.reason = ""
        self._store = store
        self._deadline = 0

    def hello(self) -> tuple[Reply, ...]:
        """Return what tells the coordinator which version is here, after a restart."""
        return (self._standing(),)

    def receive(self, message: Message, now_ns: int) -> tuple[Reply, ...]:
        """Take a message in; return the replies, none for messages of other groups.

        Args:
            message: From the coordinator; late, doubled and reordered ones do no harm.
            now_ns: The time, of any clock that does not go back.
        """
        if message.group != self.group:
            return ()
        match message:
            case Prepare():
                return self._prepare(message, now_ns)
            case Commit():
                return self._commit(message)
            case Abort():
                return self._abort(message)

    def staging(self) -> None:
        """Say that bytes of the version that was asked for are on their way."""
        if self.phase is Phase.PLANNED:
            self.phase = Phase.STAGING

    def stage(self, manifest: WeightManifest, now_ns: int) -> tuple[Reply, ...]:
        """Stage the version that was asked for, of which all bytes came; return the replies.

        When the group decided for it already it is committed at once.

        Args:
            manifest: What it is made of.
            now_ns: The time.

        Raises:
            CommitMisuse: Nobody asked for this version.
            StoreError: The store refuses it, as chunks are missing for one. Mend it and call this
                again, or give up with `fail`.
        """
        root = content_digest(manifest)
        decided = self.decided is not None and self.decided.root == root
        if not decided and (self.asked is None or self.asked.root != root):
            raise CommitMisuse(
                f"nobody asked {self.peer!r} for {digest_text(root)}",
                expected="asked" if self.asked is None else digest_text(self.asked.root),
                fix="stage the version of the last Prepare or Commit that was received",
            )
        late = self.tick(now_ns)
        if not decided and self.phase is Phase.ABORTED:
            return late
        if not self._store.missing(manifest):
            self.phase = Phase.VERIFIED
        self._store.stage(manifest)
        self.phase = Phase.READY
        if decided and self.decided is not None:
            return self._commit(self.decided)
        return self._ready()

    def fail(self, reason: str) -> tuple[Reply, ...]:
        """Give the swap up that was asked for; what is current stays.

        Args:
            reason: Why, for people.
        """
        if self.asked is None or self.phase in {Phase.COMMITTED, Phase.ABORTED}:
            return ()
        self._give_up(reason)
        return self._refused()

    def tick(self, now_ns: int) -> tuple[Reply, ...]:
        """Give the swap up when its time is over and it is not ready; return the replies.

        A peer that is ready stays so: the group may have decided, and it did no harm to wait.
        """
        waiting = self.phase in {Phase.PLANNED, Phase.STAGING, Phase.VERIFIED}
        return self.fail("the deadline passed") if waiting and now_ns >= self._deadline else ()

    # --- inside

    def _prepare(self, message: Prepare, now_ns: int) -> tuple[Reply, ...]:
        if message.epoch <= self._store.fence:
            return self._where(message.epoch, message.root)
        if self.asked is not None:
            if message.epoch < self.asked.epoch:
                return ()
            if (message.epoch, message.root) == (self.asked.epoch, self.asked.root):
                return self._again(now_ns)
            self._give_up("another version was asked for")
        self.asked = message
        self.reason = ""
        self._deadline = now_ns + message.within_ns
        if self._store.staged(message.root):
            self.phase = Phase.READY
            return self._ready()
        self.phase = Phase.PLANNED
        held = self._store.current
        # A plan from the group's version does not fit a peer that has another one.
        return () if message.parent == (held and held.root) else (self._standing(),)

    def _again(self, now_ns: int) -> tuple[Reply, ...]:
        """Answer a Prepare that came before."""
        late = self.tick(now_ns)
        if self.phase is Phase.READY:
            return self._ready()
        return late or (self._refused() if self.phase is Phase.ABORTED else ())

    def _commit(self, message: Commit) -> tuple[Reply, ...]:
        if message.epoch <= self._store.fence:
            return self._where(message.epoch, message.root)
        if self.decided is None or self.decided.epoch < message.epoch:
            self.decided = message
        try:
            self._store.commit(message.root, message.epoch)
        except StoreError as error:
            # It stays as it is, and is told again: by then the version may be staged.
            self.reason = error.found
            return (self._standing(),)
        if self.decided.epoch <= message.epoch:
            self.decided = None
        if self.asked is None or self.asked.epoch <= message.epoch:
            self.phase, self.reason = Phase.COMMITTED, ""
        return self._where(message.epoch, message.root)

    def _abort(self, message: Abort) -> tuple[Reply, ...]:
        asked = self.asked
        if asked is None or (asked.epoch, asked.root) != (message.epoch, message.root):
            return ()
        if self.phase is not Phase.COMMITTED:
            self._give_up(message.reason)
        return ()

    def _give_up(self, reason: str) -> None:
        if self.asked is not None and self.phase not in {Phase.COMMITTED, Phase.ABORTED}:
            self._store.release(self.asked.root)
            self.phase, self.reason = Phase.ABORTED, reason

    def _where(self, epoch: int, root: Digest) -> tuple[Reply, ...]:
        """Say whether what is current is what was told."""
        held = self._store.current
        if held is not None and (held.epoch, held.root) == (epoch, root):
            return (Committed(self.group, epoch, root, self.peer),)
        return (self._standing(),)

    def _ready(self) -> tuple[Reply, ...]:
        assert self.asked is not None
        return (Ready(self.group, self.asked.epoch, self.asked.root, self.peer),)

    def _refused(self) -> tuple[Reply, ...]:
        assert self.asked is not None
        asked = self.asked
        return (Refused(self.group, asked.epoch, asked.root, self.peer, self.reason),)

    def _standing(self) -> Standing:
        held = self._store.current
        if held is None:
            return Standing(self.group, self.peer, 0, None)
        return Standing(self.group, self.peer, held.epoch, held.root)
