"""Writes down what comes into a Node and digests of what it reports: a Node that keeps a journal.

`install` makes such a Node when it is given a journal; any other Node knows nothing of it. A call
is written before it is made, so that the journal of a Node that dies in one ends with it, and what
it answered after it. What a host asks without changing anything is not written.

A poll that has nothing to do is not written either, nor what was sent where nobody counts that:
it changes nothing, and hosts make many such calls.

A Node outlives its journal: when the journal cannot be written any more, that is counted and
reported as one `Dropped` step, and the Node goes on without.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from bb_ir.address import Address
from bb_ir.errors import BytesAndBrainsError
from bb_ir.wire import PRELUDE_SIZE
from bb_roles.registry import bound_class
from bb_runtime._admission import Later, Lease, Refuse
from bb_runtime._deferred import External, Task, Works
from bb_runtime.digests import StepDigests, code_of, kind_of
from bb_runtime.journal import (
    STEP_BYTES,
    VERSION,
    Chain,
    Kind,
    Opaque,
    write_number,
    write_offer,
    write_value,
)
from bb_runtime.node import Node
from bb_runtime.steps import Ship

if TYPE_CHECKING:
    from bb_ir.ids import PeerId
    from bb_ir.values import Codecs
    from bb_runtime._engine import Engine
    from bb_runtime.artifact import Target
    from bb_runtime.references import Referred
    from bb_runtime.steps import Step

    Put = Callable[[tuple[bytes | memoryview, ...]], object]

__all__ = ["RecordedNode", "Recording", "facts_of"]

#: What a host does that changes nothing, or that is made of other calls, each written by itself.
_NOT_WRITTEN: Final = frozenset(
    {
        "addresses_of",
        "component",
        "metrics",
        "next_wakeup",
        "peers",
        "poll_until_quiet",
        "receive_bytes",
        "run_bootstrap",
        "snapshot",
    }
)
#: After a snapshot could not be taken, so many records pass before the next attempt.
_PATIENCE: Final = 100
#: Stands for no budget of ops.
_WHOLE: Final = write_number(-1)


def facts_of(engine: Engine, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a Node is made of, as plain data."""
    targets, config, allow = given["targets"], given["config"], given["allow"]
    secret = _secrets(targets)
    return {
        "version": VERSION,
        "peer": engine.peer,
        "program": engine.artifact.program,
        "artifact": hashlib.sha256(engine.artifact.data).hexdigest(),
        "targets": [target.name for target in targets],
        "config": {name: _fields(held, secret.get(name, ())) for name, held in config.items()},
        "seed": given["seed"],
        "incarnation": engine.incarnation,
        "allow": None if allow is None else sorted(allow),
        "accept": list(given["accept"]),
        "grants": engine.grants.key,
        "options": {
            field.name: _sorted(getattr(engine.options, field.name))
            for field in dataclasses.fields(engine.options)
        },
        "now_ns": engine.now_ns,
    }


def _secrets(targets: Sequence[Target]) -> dict[str, set[str]]:
    """Return the secret fields of each slot, by the names that configurations use."""
    found: dict[str, set[str]] = {}
    for target in targets:
        for row in target.rows:
            fields = dataclasses.fields(bound_class(row.role, row.component).Config)
            names = {field.name for field in fields if field.metadata.get("secret")}
            for name in (row.slot, f"{target.cls}.{row.slot}"):
                found.setdefault(name, set()).update(names)
    return found


def _fields(given: Any, secret: Collection[str]) -> Any:
    """Return the configuration of a slot as plain data, as far as it is, without secrets."""
    if isinstance(given, Mapping):
        table = dict(cast("Mapping[str, Any]", given))
    elif dataclasses.is_dataclass(given):
        own = [field for field in dataclasses.fields(given) if field.init]
        table = {field.name: getattr(given, field.name) for field in own}
    else:
        return _sorted(given)
    return {
        name: Opaque("secret") if name in secret else _fields(held, ())
        for name, held in table.items()
    }


def _sorted(value: Any) -> Any:
    """Return a set as a list, in an order that does not depend on hashes."""
    if not isinstance(value, set | frozenset):
        return value
    return sorted(cast("frozenset[Any]", value), key=_order)


def _order(value: object) -> tuple[str, str]:
    return type(value).__qualname__, str(value)


class Recording:
    """What a Node with a journal is made with.

    Args:
        sink: Is given every record. If it has a method `write_parts`, that is given each in parts,
            which are to be written one after the other before it returns: memory that is used
            again afterwards is not copied for it.
    """

    def __init__(self, sink: Callable[[bytes], object]) -> None:
        self._put: Put | None = getattr(sink, "write_parts", None) or _joined(sink)
        self._fingerprint = getattr(sink, "fingerprint", None)
        self._chain = Chain()
        self._node: RecordedNode | None = None
        self._works: RecordedWorks
        self._given: Mapping[str, Any] = {}
        #: Whether the journal would like to begin anew, and how many calls to wait until then.
        self.wanted = False
        self._patience = 0
        #: Whether a call that was written is being made: what it calls belongs to it.
        self.within = False

    def works(self, engine: Engine) -> Works:
        """Return what keeps the Node's deferred work, and numbers it."""
        self._works = RecordedWorks(engine, self)
        return self._works

    def node(self, made: Node, facts: Mapping[str, Any]) -> Node:
        """Return a Node that keeps a journal, and begin it."""
        self._given = facts
        node = RecordedNode(made, self)
        self._begin(node)
        self._node = node
        return node

    def _begin(self, node: RecordedNode) -> None:
        """Write down what a Node is made of."""
        engine = self._works.engine
        facts = {
            **facts_of(engine, self._given),
            "addresses": [str(address) for address in node.addresses],
            "fingerprint": self._fingerprint,
            # So many leases and pieces of deferred work were given out before.
            "leases": node.leases,
            "works": self._works.count,
        }
        self.write(Kind.INSTALL, write_value((facts,), self.codecs))
        self.write(Kind.ARTIFACT, engine.artifact.data)

    def codecs(self) -> Codecs:
        """Return the codecs of the Node's types."""
        return self._works.engine.post.codecs

    # Writing

    def begin_anew(self) -> None:
        """Have the journal go on from a snapshot, so that what is before it may be dropped.

        Called before a call when the journal would like that.
        """
        self._patience -= 1
        if self._patience > 0 or self._node is None:
            return
        if self._works.open:  # who begins from the snapshot would begin that work a second time
            self._patience = _PATIENCE
            return
        try:
            data = Node.snapshot(self._node)
        except BytesAndBrainsError:  # it is busy, or holds what cannot be written
            self._patience = _PATIENCE
            return
        self._begin(self._node)
        self.write(Kind.SNAPSHOT, data)
        self.wanted, self._patience = False, 0

    def write(self, kind: Kind, *parts: bytes | memoryview) -> None:
        """Write a record, as long as the journal takes any."""
        if self._put is None:
            return
        try:
            wanted = self._put(self._chain.parts(kind, *parts))
        except Exception as error:  # noqa: BLE001  # a full disk must not end a Node
            self._put, self.wanted = None, False
            self._works.engine.drop(f"journal_stopped.{code_of(error)}", None, "")
        except BaseException:
            self._put = None  # the last record may be there in part
            raise
        else:
            if wanted is True:
                self.wanted = True

    def raised(self, error: BaseException) -> None:
        """Write down what a call raised."""
        told = code_of(error), not isinstance(error, Exception)
        self.write(Kind.RAISED, write_value(told))


def _joined(sink: Callable[[bytes], object]) -> Put:
    """Return what hands records to a callable in one piece."""

    def put(parts: tuple[bytes | memoryview, ...]) -> object:
        return sink(b"".join(parts))

    return put


class RecordedWorks(Works):
    """The deferred work of a Node with a journal: numbers it, and writes down what comes back."""

    def __init__(self, engine: Engine, recording: Recording) -> None:
        super().__init__(engine, engine.inbox)
        self.engine = engine
        self._recording = recording
        self.count = 0
        #: By identity; an entry whose work nobody returned is overwritten, or stays as it is.
        self._numbers: dict[int, int] = {}

    def defer(self, call: Callable[[], Any], commit: Callable[[Any], Any] | None) -> Task:
        """Return work for the host."""
        task = super().defer(call, commit)
        self._number(id(task))
        return task

    def external(self, commit: Callable[[Any], Any] | None) -> External:
        """Return work that somebody else will complete."""
        handle = super().external(commit)
        self._number(id(handle.work))
        return handle

    def _number(self, identity: int) -> None:
        self.count += 1
        self._numbers[identity] = self.count

    def drain(self) -> None:
        """Take in what came back."""
        for work, value, error in self._inbox.drain():
            number = self._numbers.pop(id(work), 0)
            if work.frame is not None:  # else nobody waits for it, and it changes nothing
                self._write(number, value, error)
            self._complete(work, value, error)

    def _write(self, number: int, value: Any, error: BaseException | None) -> None:
        recording = self._recording
        interrupt = error is not None and not isinstance(error, Exception)
        told = ("", "") if error is None else (code_of(error), str(error))
        body = write_value((value, *told, interrupt), recording.codecs)
        recording.write(Kind.DONE, write_number(number), body)


class RecordedNode(Node):
    """A Node that keeps a journal; in all else it is the Node that it stands for."""

    def __init__(self, made: Node, recording: Recording) -> None:
        vars(self).update(vars(made))
        self.recording = recording
        #: How many leases were given out.
        self.leases = 0
        #: Numbers of leases that are out, by identity; a lost one's entry is overwritten.
        self._numbers: dict[int, int] = {}

    def poll(self, max_ops: int | None = None) -> list[Step]:
        """Work until quiet, and write down a digest of every step."""
        recording = self.recording
        if recording.wanted:
            recording.begin_anew()
        engine = self._engine
        closing = engine.ending is not None and not engine.ending.over
        if not (engine.steps or engine.busy or engine.inbox or engine.broken or closing):
            return []
        recording.write(Kind.POLL, _WHOLE if max_ops is None else write_number(max_ops))
        try:
            steps = super().poll(max_ops)
        except BaseException as error:
            recording.raised(error)
            raise
        if steps:
            recording.write(Kind.STEPS, short_digests(steps))
        return steps

    def offer(
        self, prelude: bytes | memoryview, header: bytes | memoryview, source: PeerId
    ) -> Lease | Refuse | Later:
        """Check an envelope, and write down both."""
        recording = self.recording
        if recording.wanted:
            recording.begin_anew()
        answer = super().offer(prelude, header, source)
        recording.write(Kind.OFFER, write_offer(prelude, header, source, answered(answer)))
        if isinstance(answer, Lease):
            self.leases += 1
            self._numbers[id(answer)] = self.leases
        return answer

    def take(self, envelope: Referred, source: PeerId) -> Refuse | Later | None:
        """Take an envelope that comes by reference as its bytes, which can be written down."""
        head = memoryview(envelope.head)
        answer = self.offer(head[:PRELUDE_SIZE], head[PRELUDE_SIZE:], source)
        if not isinstance(answer, Lease):
            return answer
        envelope.write_into(answer.buffer)
        self.receive(answer)
        return None

    def receive(self, lease: Lease) -> None:
        """Take in an envelope, and write down its payload."""
        self._written(Kind.RECEIVE, lease, lease.buffer)
        try:
            super().receive(lease)
        except BaseException as error:
            self.recording.raised(error)
            raise

    def abandon(self, lease: Lease) -> None:
        """Give a lease back."""
        self._written(Kind.ABANDON, lease)
        try:
            super().abandon(lease)
        except BaseException as error:
            self.recording.raised(error)
            raise

    def _written(self, kind: Kind, lease: Lease, *parts: memoryview) -> None:
        """Write down what becomes of a lease, the first time that one is told of it."""
        number = self._numbers.pop(id(lease), None)
        if number is not None:
            self.recording.write(kind, write_number(number), *parts)

    def sent(self, ship: Ship, *, address: Address | str | None = None) -> bool:
        """Note that the host does not hold an envelope any more; hosts say so of every one."""
        if address is not None or not isinstance(ship, Ship):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers err
            told: bool = _written(Node.sent)(self, ship, address=address)
            return told
        if not self._engine.options.max_unsent_bytes:
            return False  # nobody counts what the host holds
        recording = self.recording
        if recording.wanted:
            recording.begin_anew()
        recording.write(Kind.SENT, write_number(ship.message_id) + ship.to.raw)
        return super().sent(ship)


def answered(answer: object) -> str:
    """Return a word for what an offer was answered: none for a lease."""
    if isinstance(answer, Lease):
        return ""
    return str(getattr(answer, "reason", type(answer).__name__.lower()))


_KIND: Final = [bytes((kind,)) for kind in range(256)]


def short_digests(steps: Sequence[Step]) -> bytes:
    """Return the kind and the first bytes of the digest of each step."""
    of = StepDigests().of
    return b"".join([_KIND[kind_of(step)] + of(step)[: STEP_BYTES - 1] for step in steps])


def _written(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of the Node that writes its calls down."""
    name = method.__name__

    @functools.wraps(method)
    def call(self: RecordedNode, *args: Any, **kwargs: Any) -> Any:
        recording = self.recording
        if recording.within:
            return method(self, *args, **kwargs)
        given = name, tuple(map(_plain, args)), {key: _plain(one) for key, one in kwargs.items()}
        if recording.wanted:
            recording.begin_anew()
        recording.write(Kind.CALL, write_value(given, recording.codecs))
        recording.within = True
        try:
            return method(self, *args, **kwargs)
        except BaseException as error:
            recording.raised(error)
            raise
        finally:
            recording.within = False

    return call


def _plain(value: Any) -> Any:
    """Return an argument as it is written: of an envelope its number, of an address its text."""
    if isinstance(value, Ship):
        return SHIP, value.to, value.message_id
    if isinstance(value, Address):
        return str(value)
    if type(value) in (list, tuple):
        return [str(one) if isinstance(one, Address) else one for one in value]
    return value


#: What stands for an envelope in the arguments of a call.
SHIP: Final = "bb.ship"

# Whatever the Node learns to do is written down, too, unless it says above that it need not be.
for _name in dir(Node):
    _method = getattr(Node, _name)
    _own = _name in vars(RecordedNode) or _name.startswith("_") or _name in _NOT_WRITTEN
    if not _own and callable(_method):
        setattr(RecordedNode, _name, _written(_method))
