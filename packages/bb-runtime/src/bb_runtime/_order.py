"""Envelopes of edges with `ordered=True`: opened in the order in which their peer sent them.

The sender notes in each envelope which one on that edge it sent to that peer before (`after`), as
long as that may still be under way. The receiver opens an envelope when the one before it was
opened, and holds it back until then: charged to its peer like a frame, at most `MOST` of a line,
with no more than half of its peer's share, and of all peers together half of what the Node has
frames. It gives up on what is missing, with a step that
says `gap`, when

- half of the time is over that the first of those who wait had left as it came,
- or no more can be held back,
- or the peer starts anew, as its old messages are refused from then on.

What comes after that is refused (`out_of_order`): nothing is ever opened out of order. What is
refused for good here was opened, as far as order goes.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bb_ir.ids import PeerId
from bb_ir.wire import EnvelopeHead, Hop
from bb_runtime._misread import whole
from bb_runtime._pressure import share_of

if TYPE_CHECKING:
    from bb_runtime._engine import Engine
    from bb_runtime._letters import Letter
    from bb_runtime._peers import Peer
    from bb_runtime.artifact import Edge

__all__ = ["Early", "Line", "Order", "PeerOrder", "Stored"]

#: So many envelopes of one peer on one edge are held back.
MOST: Final = 64


class _Sent(NamedTuple):
    """The last envelope to a peer on an edge, until when it may arrive, and what it comes after."""

    number: int
    until_ns: int
    after: int


class Early(NamedTuple):
    """An envelope that waits for the one before it.

    Attributes:
        number: Its message id.
        head: Its header.
        values: What it brings; `None` when it was refused, and is not to be opened.
        since_ns: When it came.
        until_ns: Until when it waits.
    """

    number: int
    head: EnvelopeHead
    values: Sequence[Any] | None
    since_ns: int
    until_ns: int


class Line:
    """What comes from one peer on one edge.

    Attributes:
        passed: Message id of the last one that was opened.
        held: Those that wait, in their order.
        alarm_ns: When the first of them is opened all the same.
    """

    __slots__ = ("alarm_ns", "edge", "held", "passed", "record")

    def __init__(self, record: Peer, edge: Edge) -> None:
        self.record = record
        self.edge = edge
        self.passed = 0
        self.held: list[Early] = []
        self.alarm_ns = -1


class PeerOrder:
    """Of one peer, by edge: what came from it, and what was sent to it last."""

    __slots__ = ("lines", "sent")

    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}
        self.sent: dict[str, _Sent] = {}


#: What is stored of each peer: what was sent, and what came by edge, opened last and waiting.
Stored = list[tuple[PeerId, dict[str, _Sent], list[tuple["Edge", int, list[Early]]]]]

#: Opens an envelope, or says why not: the line, its header and values.
_Open = Callable[["Line", EnvelopeHead, Sequence[Any]], None]
#: Drops an envelope that was held back: the line, its header, and why.
_Drop = Callable[["Line", EnvelopeHead, str], None]


class Order:
    """The order of what one Node sends and opens."""

    __slots__ = ("_engine", "drop", "held", "open")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        #: How envelopes are opened and dropped; admission's.
        self.open: _Open = _nobody
        self.drop: _Drop = _nobody
        #: How many envelopes are held back, of all peers.
        self.held = 0

    # Sending

    def before(self, record: Peer, edge: Edge) -> int:
        """Return what the next envelope to a peer comes after, 0 for nothing."""
        last = None if record.order is None else record.order.sent.get(edge.name)
        return last.number if last is not None and self._engine.now_ns < last.until_ns else 0

    def sent(self, record: Peer, letter: Letter) -> None:
        """Note that an envelope goes out now, and what it comes after."""
        letter.after = self.before(record, letter.edge)
        of_peer = _order_of(record)
        of_peer.sent[letter.edge.name] = _Sent(letter.number, letter.until_ns, letter.after)

    def lost(self, record: Peer, number: int) -> None:
        """Note that an envelope will not arrive: the next one does not wait for it."""
        if record.order is None:
            return
        for name, last in record.order.sent.items():
            if last.number == number:
                record.order.sent[name] = last._replace(number=last.after, after=0)

    # Receiving

    def is_late(self, record: Peer, edge: Edge, number: int) -> bool:
        """Whether a later one was opened before."""
        line = None if record.order is None else record.order.lines.get(edge.name)
        return line is not None and number <= line.passed

    def holds(self, record: Peer, edge: Edge, head: EnvelopeHead, values: Sequence[Any]) -> bool:
        """Hold an envelope back, or drop it, unless it is its turn."""
        line = _line_of(record, edge)
        if head.message_id <= line.passed:
            self.drop(line, head, "out_of_order")
            return True
        if head.after > line.passed:
            self._hold(line, head, values)
            return True
        self._clear(line, head.message_id)
        return False

    def passed(self, record: Peer, edge: Edge, number: int) -> None:
        """Note that an envelope was opened, and open those that waited for it."""
        line = _line_of(record, edge)
        line.passed = number
        if line.held or line.alarm_ns >= 0:
            self._follow(line)
            self._arm(line)

    def skip(self, record: Peer, edge: Edge, head: EnvelopeHead) -> None:
        """Note that an envelope is refused for good: nobody waits for it."""
        line = _line_of(record, edge)
        if head.message_id <= line.passed:
            return
        if head.after <= line.passed:
            self._clear(line, head.message_id)
            self.passed(record, edge, head.message_id)
        else:
            self._hold(line, head, None)

    def due(self, line: Line) -> None:
        """Give up on what is missing, because somebody waited long enough."""
        now = self._engine.now_ns
        while any(early.until_ns <= now for early in line.held):
            self._give_up(line)
        self._arm(line)

    def restarted(self, record: Peer) -> None:
        """Open all that came from a peer before it started anew: nothing comes in between now."""
        for line in _lines(record):
            while line.held:
                self._give_up(line)
            line.passed = 0
            self._arm(line)

    def forget(self, record: Peer, reason: str, *, roots: bool = False) -> None:
        """Drop what is held back of a peer; with `roots` only what is no answer."""
        for line in _lines(record):
            if roots and line.edge.parent:
                while line.held:
                    self._give_up(line)
            held, line.held = line.held, []
            for early in held:
                if early.values is not None:
                    self.held -= 1
                    self.drop(line, early.head, reason)
            self._arm(line)

    def close(self, *, answers: bool) -> None:
        """Drop what is held back because the Node closes: answers, too, or only others."""
        for record in tuple(self._engine.peers.records.values()):
            if record.order is not None:
                self.forget(record, "closing", roots=not answers)

    def unbind(self) -> None:
        """Forget how envelopes are opened and dropped: that refers back in circles."""
        self.open = self.drop = _nobody

    def _hold(self, line: Line, head: EnvelopeHead, values: Sequence[Any] | None) -> None:
        engine = self._engine
        # What a peer says is left does not lengthen what the edge allows.
        most, said = line.edge.deadline_ns, head.remaining_ns
        left, now = most if said is None else min(most, said), engine.now_ns
        early = Early(head.message_id, head, values, now, now + (left + 1) // 2)
        insort(line.held, early, key=_number_of)
        self.held += values is not None
        charged, options = line.record.group or line.record, engine.options
        if (
            len(line.held) > MOST
            or 2 * self.held > options.max_frames
            or 2 * charged.frames > max(1, share_of(options.max_frames, options))
            or 2 * charged.held > share_of(options.max_inbound_bytes, options)
        ):
            self._give_up(line)
        self._arm(line)

    def _clear(self, line: Line, number: int) -> None:
        """Open what was sent before one whose turn it is: what it waits for comes no more."""
        while line.held and line.held[0].number < number:
            self._give_up(line)

    def _give_up(self, line: Line) -> None:
        """Open the first one that waits without the one before it."""
        self._engine.drop("gap", line.record.id, line.edge.name)
        self._release(line)
        self._follow(line)

    def _follow(self, line: Line) -> None:
        while line.held and line.held[0].head.after <= line.passed:
            self._release(line)

    def _release(self, line: Line) -> None:
        early = line.held.pop(0)
        line.passed = early.number
        if early.values is None:
            return
        self.held -= 1
        head, now = early.head, self._engine.now_ns
        if head.remaining_ns is not None:
            head = head._replace(remaining_ns=max(1, head.remaining_ns - now + early.since_ns))
        self.open(line, head, early.values)

    def _arm(self, line: Line) -> None:
        when = min((early.until_ns for early in line.held), default=-1)
        if when != line.alarm_ns:
            line.alarm_ns = when
            if when >= 0:
                self._engine.alarms.set(when, line)

    # Snapshots

    def waiting(self, peer: PeerId | None, edge: str) -> Line | None:
        """Return the line of a peer on an edge, if something waits in it."""
        record = None if peer is None else self._engine.peers.records.get(peer)
        if record is None or record.order is None:
            return None
        line = record.order.lines.get(edge)
        return line if line is not None and line.held else None

    def state(self) -> list[tuple[Any, ...]]:
        """Return all of it as plain data; instants as what is left until them."""
        now = self._engine.now_ns
        return [
            (
                record.id,
                [
                    (name, last.number, last.until_ns - now, last.after)
                    for name, last in record.order.sent.items()
                ],
                [
                    (name, line.passed, [_packed(early, now) for early in line.held])
                    for name, line in record.order.lines.items()
                ],
            )
            for record in self._engine.peers.records.values()
            if record.order is not None
        ]

    def read(self, state: Iterable[tuple[Any, ...]], now_ns: int) -> Stored:
        """Return what `state` gave, each part checked for its kind."""
        edges = self._engine.artifact.edges
        found: Stored = []
        for peer, sent, lines in state:
            if not isinstance(peer, PeerId):
                raise TypeError(f"a {type(peer).__name__} instead of a peer")
            ways = {
                edges[name].name: _Sent(whole(number), now_ns + int(left), whole(after))
                for name, number, left, after in sent
            }
            waiting = [
                (edges[name], whole(passed), [_unpacked(row, edges[name], now_ns) for row in held])
                for name, passed, held in lines
            ]
            found.append((peer, ways, waiting))
        return found

    def load(self, stored: Stored, *, clean: bool = True) -> None:
        """Take over what was stored; without `clean` nothing that was under way."""
        engine = self._engine
        self.held = 0
        for peer, sent, lines in stored:
            record = engine.peers.of(peer)
            of_peer = _order_of(record)
            if clean:
                of_peer.sent = sent
            for edge, passed, held in lines:
                line = _line_of(record, edge)
                line.passed = passed
                there = [early for early in held if early.values is not None]
                length = sum(early.head.payload_length for early in there)
                if not clean:  # as all that was under way
                    engine.payload_held -= length
                    continue
                line.held = held
                self.held += len(there)
                record.frames += len(there)
                record.held += length
                self._arm(line)


def _nobody(*_: object) -> None:
    raise AssertionError("no admission has said how envelopes are opened")


def _number_of(early: Early) -> int:
    return early.number


def _order_of(record: Peer) -> PeerOrder:
    if record.order is None:
        record.order = PeerOrder()
    return record.order


def _line_of(record: Peer, edge: Edge) -> Line:
    lines = _order_of(record).lines
    line = lines.get(edge.name)
    if line is None:
        line = lines[edge.name] = Line(record, edge)
    return line


def _lines(record: Peer) -> tuple[Line, ...]:
    return () if record.order is None else tuple(record.order.lines.values())


def _packed(early: Early, now_ns: int) -> dict[str, Any]:
    head = early.head
    return {
        "program": head.program,
        "edge": head.edge,
        "incarnation": head.incarnation,
        "number": early.number,
        "remaining_ns": head.remaining_ns,
        "chain": [tuple(hop) for hop in head.chain],
        "payload": head.payload_length,
        "after": head.after,
        "values": None if early.values is None else list(early.values),
        "since_ns": early.since_ns - now_ns,
        "left_ns": early.until_ns - now_ns,
    }


def _unpacked(row: Mapping[str, Any], edge: Edge, now_ns: int) -> Early:
    number, remaining = whole(row["number"]), row["remaining_ns"]
    hops = [
        Hop(whole(frame), whole(incarnation), bytes(peer), bytes(grant))
        for frame, incarnation, peer, grant in row["chain"]
    ]
    if len(hops) != bool(edge.parent) + edge.answered:
        raise ValueError(f"{len(hops)} hops on edge {edge.name!r}")
    head = EnvelopeHead(
        program=bytes(row["program"]), edge=whole(row["edge"]), message_id=number, fills=(),
        incarnation=whole(row["incarnation"]), in_reply_to=0, control=None, retry=False,
        remaining_ns=None if remaining is None else whole(remaining),
        chain=tuple(hops), payload_length=whole(row["payload"]), after=whole(row["after"]),
    )  # fmt: skip
    values = None if row["values"] is None else list(row["values"])
    if values is not None and len(values) != len(edge.ports):
        raise ValueError(f"{len(values)} values on edge {edge.name!r}")
    since, until = now_ns + int(row["since_ns"]), now_ns + int(row["left_ns"])
    return Early(number, head, values, since, until)
