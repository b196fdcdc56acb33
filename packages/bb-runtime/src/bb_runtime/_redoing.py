"""Builds the Node that a journal is of, and makes the calls that its records tell of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from bb_ir.address import Address
from bb_ir.errors import BytesAndBrainsError
from bb_ir.ids import PeerId
from bb_ir.values import Codecs
from bb_ir.wire import Built
from bb_runtime import journal as journals
from bb_runtime._admission import Lease
from bb_runtime._deferred import External, Task, Work, Works
from bb_runtime._grants import key_from
from bb_runtime._misread import MISREAD
from bb_runtime._recording import SHIP, answered
from bb_runtime._records import damaged
from bb_runtime.artifact import Artifact, load_artifact
from bb_runtime.errors import JournalDamaged, NotReplayable, ReplayDiverged
from bb_runtime.inbox import Completion, Inbox
from bb_runtime.install import build
from bb_runtime.journal import Done, Kind, Record, opaque_in
from bb_runtime.node import Node
from bb_runtime.options import Options
from bb_runtime.steps import Ship, Step

if TYPE_CHECKING:
    from bb_runtime._engine import Engine

__all__ = ["FIX", "Beginning", "Hands", "Made", "Records", "beginning"]

FIX = "look for what no journal holds: clocks, files, other random numbers; compare fingerprints"
_SHOWN = 60
#: What `build` is given as it was recorded.
#: What a journal that begins wrongly is found out by.
_WRONG: tuple[type[Exception], ...] = (BytesAndBrainsError, *MISREAD)
_FACTS = ("seed", "incarnation", "allow", "accept", "now_ns")


class Records:
    """The records of a journal, with a look at the next one."""

    def __init__(self, records: Iterator[Record], until: int | None) -> None:
        self._records = records
        self._until = until
        self._next: Record | None = None
        self.number = 0

    def peek(self) -> Record | None:
        """Return the next record, which stays the next."""
        if self._next is None:
            found = next(self._records, None)
            within = found is not None and (self._until is None or found.number <= self._until)
            self._next = found if within else None
        return self._next

    def next(self) -> Record | None:
        """Return the next record."""
        found, self._next = self.peek(), None
        if found is not None:
            self.number = found.number
        return found

    def all_of(self, kind: Kind) -> list[Record]:
        """Return the records of a kind that come next."""
        found: list[Record] = []
        while (record := self.peek()) is not None and record.kind == kind:
            found.append(record)
            self.next()
        return found


class Asked(NamedTuple):
    """What a record calls.

    Attributes:
        name: Of what is called.
        about: What it is given, in few words.
        call: Makes the call and returns what the Node reports.
    """

    name: str
    about: str
    call: Callable[[], list[Step]]


class Beginning(NamedTuple):
    """How a journal begins: what the Node was made of, and its state if it was not fresh."""

    facts: dict[str, Any]
    artifact: Artifact
    snapshot: memoryview | None


def beginning(records: Records) -> Beginning:
    """Read how a journal begins.

    Raises:
        JournalDamaged: It begins otherwise.
        InstallError: Its artifact cannot be read here.
    """
    first, second = records.next(), records.next()
    if first is None or first.kind != Kind.INSTALL or second is None:
        raise JournalDamaged(
            "the journal does not say how its Node was made",
            expected="the records of one Node, from the first one on",
            fix="give all segments of the journal",
        )
    facts = journals.read_table(first)
    if facts.get("version") != journals.VERSION:
        raise JournalDamaged(
            f"the journal is of version {facts.get('version')!r}",
            expected=f"version {journals.VERSION}",
            fix="replay it with the version that wrote it",
        )
    data = bytes(second.body)
    if second.kind != Kind.ARTIFACT or hashlib.sha256(data).hexdigest() != facts.get("artifact"):
        raise damaged(second.number, "it does not hold the Node's artifact")
    states = records.all_of(Kind.SNAPSHOT)
    return Beginning(facts, load_artifact(data), states[0].body if states else None)


class Made:
    """Builds the Node of a journal, and keeps what its deferred work waits for.

    Args:
        start: How the journal begins.
        config: Fields of slots' configurations that it does not hold.

    Raises:
        NotReplayable: It lacks something that the Node was given.
        InstallError: The Node cannot be built here.
    """

    def __init__(self, start: Beginning, config: Mapping[str, Mapping[str, Any]]) -> None:
        facts = start.facts
        self.works_: ReplayedWorks
        try:
            given = {name: facts[name] for name in _FACTS}
            key = key_from(facts["grants"])
            options = _options(facts["options"])
            addresses = [Address.parse(text) for text in facts["addresses"]]
            peer, targets, known = facts["peer"], facts["targets"], facts["config"]
            leases, works = int(facts["leases"]), int(facts["works"])
        except _WRONG as error:
            raise damaged(1, f"it lacks or misstates {error}") from error
        try:
            self.node_ = build(
                peer, addresses, start.artifact, targets, _configured(known, config),
                options=options, pool=None, making=self, **given,
            )  # fmt: skip
        except BytesAndBrainsError:
            raise
        except MISREAD as error:
            told = f"{type(error).__name__}: {error}"
            raise damaged(1, f"no Node can be built as it says: {told}") from error
        self.works_.engine.grants.key = key
        if start.snapshot is not None:
            self.node_.restore(start.snapshot)
        self.works_.count = works
        self.hands = Hands(self.node_, self.works_.engine, leases)

    def works(self, engine: Engine) -> Works:
        """Return what keeps the Node's deferred work; `build` asks for it."""
        self.works_ = ReplayedWorks(engine)
        return self.works_

    def node(self, made: Node, facts: Mapping[str, Any]) -> Node:
        """Return the Node as it is; `build` asks for it."""
        del facts
        return made


def _options(known: dict[str, Any]) -> Options:
    """Return the options that were recorded; sets were written as lists."""
    given: dict[str, Any] = {
        name: frozenset(cast("list[object]", one)) if isinstance(one, list) else one
        for name, one in known.items()
    }
    return Options(**given)


def _configured(known: dict[str, Any], given: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the configuration that was recorded, with what is given filled in."""
    config: dict[str, Any] = {name: dict(fields) for name, fields in given.items()}
    for name, fields in known.items():
        config[name] = {**fields, **config.get(name, {})} if isinstance(fields, dict) else fields
    for name, fields in config.items():
        table = cast("dict[str, Any]", fields) if isinstance(fields, dict) else {"": fields}
        for field, value in table.items():
            missing = opaque_in(value)
            if missing:
                what = "is a secret" if missing == "secret" else f"holds a {missing}"
                fix = f"replay(journal, config={{{name!r}: {{{field!r}: ...}}}})"
                raise NotReplayable(
                    f"field {field!r} of slot {name!r} {what}, which no journal holds",
                    expected="the value that the Node was configured with",
                    fix=f"{fix}, or bb replay --config {name}.{field}=...",
                )
    return config


class ReplayedWorks(Works):
    """The deferred work of a Node that is replayed: what comes back comes from the journal.

    What its components make is never handed out, and what is put into the inbox that they know of
    is never looked at.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, Inbox())
        self.engine = engine
        self.count = 0
        self._waiting: dict[int, Work] = {}

    def defer(self, call: Callable[[], Any], commit: Callable[[Any], Any] | None) -> Task:
        """Return work that nobody does."""
        task = super().defer(call, commit)
        self._remember(task)
        return task

    def external(self, commit: Callable[[Any], Any] | None) -> External:
        """Return work that nobody completes."""
        handle = super().external(commit)
        self._remember(handle.work)
        return handle

    def _remember(self, work: Work) -> None:
        self.count += 1
        self._waiting[self.count] = work

    def feed(self, record: int, done: Done) -> None:
        """Have work come back as the journal says, when the Node looks next.

        Raises:
            NotReplayable: The journal does not hold what came back.
            ReplayDiverged: The Node has not asked for it.
        """
        work = self._waiting.pop(done.work, None)
        if work is None:
            raise ReplayDiverged(
                f"work {done.work} comes back in the call of record {record}, and the replayed "
                "Node has not asked for it",
                expected=f"{self.count} pieces of work or fewer",
                fix=FIX,
                record=record,
            )
        self._engine.inbox.put(self._completion(record, done, work))

    def _completion(self, record: int, done: Done, work: Work) -> Completion:
        if done.code:
            return Completion(work, None, _Recorded(done.code, done.text))
        missing = opaque_in(done.value)
        if not missing:
            return Completion(work, done.value, None)
        if not isinstance(work, Task):
            raise NotReplayable(
                f"a device gave a {missing} before record {record}, which no journal holds",
                expected="numbers, texts, lists, dictionaries, arrays or parameter sets",
                fix="let it complete its handle with plain data",
            )
        # What it is given it was given then, too: doing it again gives what it gave.
        work.run()
        again = [one for one in self._inbox.drain() if one.work is work]
        return again[0]

    def drain(self) -> None:
        """Take in what came back."""
        for work, value, error in self._engine.inbox.drain():
            self._complete(work, value, error)


class _Recorded(Exception):  # it stands for any error
    """Stands for the error that a piece of work came back with."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Hands:
    """Makes calls of a Node as records tell of them."""

    def __init__(self, node: Node, engine: Engine, leases: int) -> None:
        self._node = node
        self._engine = engine
        self._leases: dict[int, Lease] = {}
        self._count = leases

    def codecs(self) -> Codecs:
        """Return the codecs of the Node's types."""
        return self._engine.post.codecs

    def call_of(self, record: Record) -> Asked:
        """Return what a record calls.

        Raises:
            JournalDamaged: The record is no call.
            NotReplayable: It lacks what the Node was given.
        """
        match record.kind:
            case Kind.POLL:
                return self._poll(record)
            case Kind.OFFER:
                return self._offer(record)
            case Kind.RECEIVE:
                return self._receive(record)
            case Kind.ABANDON:
                return self._abandon(record)
            case Kind.CALL:
                return self._any(record)
            case Kind.SENT:
                return self._sent(record)
            case _:
                raise damaged(record.number, f"it is of kind {record.kind.name}, and no call")

    def _poll(self, record: Record) -> Asked:
        budget = journals.read_number(record)
        node = self._node
        if budget < 0:
            return Asked("poll", "", node.poll)
        return Asked("poll", f"{budget} ops", lambda: node.poll(budget))

    def _offer(self, record: Record) -> Asked:
        offer = journals.read_offer(record)

        def call() -> list[Step]:
            answer = self._node.offer(offer.prelude, offer.header, offer.source)
            refused = answered(answer)
            if refused != offer.refused:
                raise ReplayDiverged(
                    f"the envelope of record {record.number} is {_answered(refused)}",
                    expected=f"{_answered(offer.refused)}, as the Node did",
                    fix=FIX,
                    record=record.number,
                )
            if isinstance(answer, Lease):
                self._count += 1
                self._leases[self._count] = answer
            return []

        return Asked("offer", f"from {offer.source}: {_answered(offer.refused)}", call)

    def _receive(self, record: Record) -> Asked:
        lease, payload = self._lease(record), journals.read_rest(record)
        if len(payload) != len(lease.buffer):
            raise damaged(record.number, "its payload has another length than was announced")

        def call() -> list[Step]:
            lease.buffer[:] = payload
            self._node.receive(lease)
            return []

        # Small values stand in the header, others in the payload; padding is none of either.
        size = sum(fill.length for fill in lease.head.fills)
        return Asked("receive", f"{lease.edge.name} from {lease.source}, {size:,} bytes", call)

    def _abandon(self, record: Record) -> Asked:
        lease = self._lease(record)

        def call() -> list[Step]:
            self._node.abandon(lease)
            return []

        return Asked("abandon", f"{lease.edge.name} from {lease.source}", call)

    def _sent(self, record: Record) -> Asked:
        number, peer = journals.read_sent(record)

        def call() -> list[Step]:
            self._node.sent(Ship(peer, Built(b"", (), 0), number))
            return []

        return Asked("sent", f"envelope {number} to {peer}", call)

    def _lease(self, record: Record) -> Lease:
        lease = self._leases.pop(journals.read_number(record), None)
        if lease is None:
            raise damaged(record.number, "it is about a lease that was not given out")
        return lease

    def _any(self, record: Record) -> Asked:
        name, args, kwargs = journals.read_call(record, self.codecs)
        method = None if name.startswith("_") else getattr(type(self._node), name, None)
        if not callable(method):
            raise damaged(record.number, f"it calls {name!r}, which no Node of this version has")
        missing = opaque_in(args) or opaque_in(kwargs)
        if missing:
            raise NotReplayable(
                f"{name} was given a {missing} in record {record.number}, which no journal holds",
                expected="numbers, texts, lists, dictionaries, arrays, parameter sets or peers",
                fix=f"replay what stands before it: --until {record.number - 1}",
            )
        given = [_envelope(arg) for arg in args]

        def call() -> list[Step]:
            method(self._node, *given, **kwargs)
            return []

        return Asked(name, ", ".join(map(_short, (*args, *kwargs.values()))), call)


def _answered(refused: str) -> str:
    return f"refused: {refused}" if refused else "taken"


def _envelope(arg: Any) -> Any:
    """Return an argument; where an envelope of the Node stood, one of the same number."""
    match arg:
        case (str(mark), PeerId() as peer, int(number)) if mark == SHIP:
            return Ship(peer, Built(b"", (), 0), number)
        case _:
            return arg


def _short(value: Any) -> str:
    sent = _envelope(value)
    text = f"envelope {sent.message_id} to {sent.to}" if isinstance(sent, Ship) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
