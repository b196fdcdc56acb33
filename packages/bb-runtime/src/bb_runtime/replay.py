"""Does again what a journal says that a Node did, and compares every step.

A replay builds the Node as it was built, hands in what came in, in the same order, and checks that
it reports the same. Nothing is sent, no clock is read and no work is handed out: what came back
from elsewhere comes from the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from bb_runtime import journal as journals
from bb_runtime._recording import short_digests
from bb_runtime._redoing import FIX, Made, Records, beginning
from bb_runtime._stopping import Stop, Stopped, stop_before
from bb_runtime._told import Told, told
from bb_runtime.digests import KIND_NAMES, code_of
from bb_runtime.errors import ReplayDiverged
from bb_runtime.journal import STEP_BYTES, Kind, Raised, Record
from bb_runtime.steps import Step

__all__ = ["Entry", "Replay", "Stopped", "Told", "replay"]

#: Records with which a journal begins, or goes on so that what is before them may be dropped.
_BEGINNINGS = (Kind.INSTALL, Kind.ARTIFACT, Kind.SNAPSHOT)


class Entry(NamedTuple):
    """One call of a Node, done again.

    Attributes:
        record: Number of its record.
        now_ns: The Node's time after it.
        call: Name of what was called.
        about: What it was given, in few words.
        steps: What the Node reported.
        raised: Code of what it raised, or empty.
    """

    record: int
    now_ns: int
    call: str
    about: str
    steps: list[Step]
    raised: str


def replay(
    journal: Iterable[bytes | Record],
    *,
    until: int | None = None,
    on_step: Callable[[int, Step], object] | None = None,
    config: Mapping[str, Mapping[str, Any]] | None = None,
) -> Replay:
    """Do again what a journal says that a Node did, and check that every step is the same.

    Args:
        journal: What the Node gave to its journal: the records as bytes, or as read from a file.
        until: The number of the last record; all when `None`.
        on_step: Is called with the number of a record and each step that its call reports.
        config: Fields of slots' configurations that the journal does not hold.

    Returns:
        The replay, whose `node` is as the recorded one was.

    Raises:
        JournalDamaged: A record is not what was written.
        NotReplayable: The journal lacks something that the Node was given.
        ReplayDiverged: The Node does something else than it did.
        InstallError: The Node cannot be built here.
    """
    made = Replay(journal, until=until, config=config)
    for entry in made:
        if on_step is not None:
            for step in entry.steps:
                on_step(entry.record, step)
    return made


class Replay:
    """A Node that does again what its journal says, call by call, as one iterates over it.

    Args:
        journal: Its records.
        until: The number of the last record; all when `None`.
        config: Fields of slots' configurations that the journal does not hold.
        before: An op, as `Op` or `slot.Op`; the replay ends before the first such op runs.

    Attributes:
        facts: What the journal says about how the Node was made.
        artifact: The Node's artifact.
        node: The Node.
        steps: How many steps were compared.
        stopped: Where the replay ended before an op, if it did.
        interrupted: Whether it ended because the recorded Node was interrupted, as by Ctrl-C.

    Raises:
        JournalDamaged: The journal does not begin as one does.
        NotReplayable: The journal lacks something that the Node was given.
        InvalidInput: No such op runs on the Node.
        InstallError: The Node cannot be built here.
    """

    def __init__(
        self,
        journal: Iterable[bytes | Record],
        *,
        until: int | None = None,
        config: Mapping[str, Mapping[str, Any]] | None = None,
        before: str = "",
    ) -> None:
        self._records = Records(journals.records_of(journal), until)
        start = beginning(self._records)
        made = Made(start, config or {})
        self._works = made.works_
        self.facts, self.artifact = start.facts, start.artifact
        self.node = made.node_
        self._hands = made.hands
        self.steps = 0
        self.stopped: Stopped | None = None
        self.interrupted = False
        if before:
            stop_before(self._works.engine, before)

    @property
    def records(self) -> int:
        """Number of the last record that was read."""
        return self._records.number

    def tell(self, step: Step) -> Told:
        """Say what a step is about: its op, its frame, and the user's line."""
        return told(step, self.artifact)

    def __iter__(self) -> Iterator[Entry]:
        """Make the calls, one after the other.

        Raises:
            JournalDamaged: A record is not what was written.
            NotReplayable: The journal lacks something that the Node was given.
            ReplayDiverged: The Node does something else than it did.
        """
        while (record := self._records.next()) is not None:
            if record.kind in _BEGINNINGS:
                continue  # from here one could have begun, too
            entry = self._entry(record)
            if entry is None:
                return
            yield entry

    def _entry(self, record: Record) -> Entry | None:
        """Make one call; `None` when the replay ends before it."""
        after = self._records
        done = [journals.read_done(one, self._hands.codecs) for one in after.all_of(Kind.DONE)]
        wanted = [journals.read_steps(one) for one in after.all_of(Kind.STEPS)]
        raised = [journals.read_raised(one) for one in after.all_of(Kind.RAISED)]
        if raised and raised[0].interrupt:
            self.interrupted = True
            return None
        for one in done:
            self._works.feed(record.number, one)
        name, about, call = self._hands.call_of(record)
        try:
            steps = self._made(record, call, raised)
        except Stop as stop:
            self.stopped = stop.stopped(record.number, self._works.engine)
            return None
        # What the last call of a Node that died reported is not known.
        if wanted or after.peek() is not None:
            self._compare(record, steps, wanted[0] if wanted else [])
            self.steps += len(steps)
        return Entry(
            record.number, self.node.now_ns, name, about, steps, raised[0].code if raised else ""
        )

    @staticmethod
    def _made(record: Record, call: Callable[[], list[Step]], raised: list[Raised]) -> list[Step]:
        """Make a call, which is to raise what the recorded one raised."""
        steps: list[Step] = []
        found = ""
        try:
            steps = call()
        except ReplayDiverged:
            raise
        except Exception as error:
            found = code_of(error)
            if not raised:
                raise ReplayDiverged(
                    f"the call of record {record.number} raises {found}: {error}",
                    expected="nothing to be raised, as when it was recorded",
                    fix=FIX,
                    record=record.number,
                ) from error
        if raised and found != raised[0].code:
            raise ReplayDiverged(
                f"the call of record {record.number} raises {found or 'nothing'}",
                expected=f"{raised[0].code}, as when it was recorded",
                fix=FIX,
                record=record.number,
            )
        return steps

    def _compare(self, record: Record, steps: list[Step], wanted: list[bytes]) -> None:
        data = short_digests(steps)
        found = [data[at : at + STEP_BYTES] for at in range(0, len(data), STEP_BYTES)]
        if found == wanted:
            return
        same = (a == b for a, b in zip(found, wanted, strict=False))
        at = next((n for n, equal in enumerate(same) if not equal), min(len(found), len(wanted)))
        raise self._diverged(record.number, steps, wanted, at)

    def _diverged(
        self, record: int, steps: list[Step], wanted: list[bytes], at: int
    ) -> ReplayDiverged:
        where = f"step {at + 1} of record {record}"
        recorded = KIND_NAMES.get(wanted[at][0], "a step") if at < len(wanted) else ""
        if at >= len(steps):
            return ReplayDiverged(
                f"{where} does not come",
                expected=f"{recorded}: the Node reported {len(wanted)} steps, not {len(steps)}",
                fix=FIX,
                record=record,
            )
        this = self.tell(steps[at])
        about = [this.op and f"op {this.op}", this.frame and f"frame {this.frame.number}"]
        told_about = ", ".join(filter(None, about))
        same_kind = f"{recorded} of other content" if recorded == this.kind else recorded
        return ReplayDiverged(
            f"{where} is {this.kind} {this.what}{told_about and f' ({told_about})'}",
            expected=same_kind or f"no step after the {len(wanted)} that the Node reported",
            fix=FIX,
            where=() if this.source is None else this.source,
            record=record,
            op=this.op,
            frame=this.frame,
        )
