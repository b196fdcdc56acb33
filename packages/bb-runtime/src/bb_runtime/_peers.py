"""What a Node knows about each peer: one record, made when the peer is first talked to.

A record holds what the peer is charged for (`_pressure`), what waits to be sent to it
(`_outbound`, `_retries`), and how it does (`_estimates`, `_health`). It is forgotten when nothing
in it matters any more and the peer was silent for twice the longest deadline of an edge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from bb_ir.ids import PeerId
from bb_runtime import _health
from bb_runtime._estimates import LONGEST_NS, RoundTrip, Silence, numbers_in
from bb_runtime._frames import NOTHING
from bb_runtime._misread import whole
from bb_runtime._paces import Pace

if TYPE_CHECKING:
    from bb_runtime._engine import Engine
    from bb_runtime._frames import Frame
    from bb_runtime._letters import Letter
    from bb_runtime._order import PeerOrder
    from bb_runtime._retries import Retry
    from bb_runtime._windows import Window

__all__ = ["Peer", "PeerInfo", "Peers"]

#: Deadline of an edge where an artifact has none.
_DEADLINE_NS = 60 * 10**9
#: An instant that has not been.
NEVER = -1


class PeerInfo(NamedTuple):
    """What a Node knows about a peer that it talked to.

    Attributes:
        peer: Who it is.
        round_trip_ns: How long an acknowledgement takes; `None` while there was none in time.
        answer_ns: How long an answer takes, the peer's work included.
        phi: How odd its silence is: the chance that it is alive is about `10 ** -phi`.
        failures: What it was asked and did not do, since it was last heard.
        health: From 1.0 to 0.0, by failures and phi.
        heard_ns: When something last came from it.
        quiet_ns: For how long nothing is sent to it, from now on.
        waiting: Envelopes that wait to be sent to it.
        unacknowledged: Envelopes that are sent again until it says that they came.
        bytes_in: Bytes of the envelopes that were taken from it.
        bytes_out: Bytes of the envelopes that were sent to it.
        refused: What was refused or dropped, by reason.
        gone: Whether it said that it leaves; nothing is sent to it.
    """

    peer: PeerId
    round_trip_ns: int | None
    answer_ns: int | None
    phi: float
    failures: int
    health: float
    heard_ns: int | None
    quiet_ns: int
    waiting: int
    unacknowledged: int
    bytes_in: int
    bytes_out: int
    refused: dict[str, int]
    gone: bool = False


class Peer:
    """One peer, as a Node sees it.

    Attributes:
        id: Who it is.
        alarm_ns: When what waits for it is looked at again.
    """

    __slots__ = (
        "acks", "alarm_ns", "answers", "asked_ns", "bytes_in", "bytes_out", "failures", "frames",
        "group", "heard_ns", "held", "holds", "id", "noticed_ns", "notices", "order", "paces",
        "quiet_ns", "refused", "retrying", "silence", "since_ns", "skip", "stale_ns", "unsent",
        "unsent_bytes", "waiting", "wants", "window",
    )  # fmt: skip

    def __init__(self, peer: PeerId) -> None:
        self.id = peer
        # What it does.
        self.since_ns = self.heard_ns = NEVER
        #: Which messages of it came before.
        self.window: Window | None = None
        #: Since when it owes a sign of life.
        self.asked_ns = NEVER
        self.acks = RoundTrip()
        self.answers = RoundTrip()
        self.silence = Silence()
        #: How long its answers take, by their edge, where a program wants that measured.
        self.paces: dict[str, Pace] | None = None
        #: Whether the next answer says nothing about round trips.
        self.skip = False
        self.failures = 0
        #: Until when nothing is sent to it, and how often it asked for that.
        self.quiet_ns = self.alarm_ns = NEVER
        self.holds = 0
        self.bytes_in = self.bytes_out = 0
        self.refused: Counter[str] | None = None
        self.stale_ns = NEVER
        # What it is charged for.
        self.held = self.frames = 0
        #: Of a stranger: what all strangers are charged for.
        self.group: Peer | None = None
        #: Bytes of the envelope that it was asked to keep, and what it was told about that.
        self.wants = NEVER
        self.notices, self.noticed_ns = 0, NEVER
        # What it is sent: envelopes that the host has and has not sent, by message id, those that
        # wait here, and those that it has not acknowledged.
        self.unsent: dict[int, int] = NOTHING
        self.unsent_bytes = 0
        self.waiting: list[Letter] = []
        self.retrying: dict[int, Retry] = NOTHING
        #: What came from it and went to it last, on edges that keep an order.
        self.order: PeerOrder | None = None

    def count_refused(self, reason: str) -> None:
        """Count something that came from it, or went to it, and was refused."""
        if self.refused is None:
            self.refused = Counter()
        self.refused[reason] += 1

    @property
    def used_ns(self) -> int:
        """When something last happened between it and us."""
        return max(self.since_ns, self.heard_ns, self.asked_ns)

    @property
    def busy(self) -> bool:
        """Whether something about it is not over."""
        return bool(
            self.held or self.frames or self.unsent or self.waiting or self.retrying
            or self.wants >= 0
        )  # fmt: skip


#: Fields of a record that are stored as they are, and those that are instants.
_NUMBERS = ("failures", "holds", "bytes_in", "bytes_out", "notices")
_INSTANTS = ("since_ns", "heard_ns", "asked_ns", "quiet_ns", "noticed_ns")


class Peers:
    """All peers of one Node."""

    __slots__ = ("_engine", "_idle_ns", "_skewed", "records", "sweep_ns")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.records: dict[PeerId, Peer] = {}
        edges = engine.artifact.edges.values()
        longest = max((edge.deadline_ns for edge in edges), default=_DEADLINE_NS)
        self._idle_ns = 2 * longest
        #: When peers are forgotten next.
        self.sweep_ns = engine.now_ns + self._idle_ns
        #: When a peer of another program was last told of.
        self._skewed: dict[PeerId, int] = {}

    def of(self, peer: PeerId) -> Peer:
        """Return the record of a peer, a new one if need be."""
        record = self.records.get(peer)
        if record is None:
            record = self.records[peer] = Peer(peer)
            record.since_ns = self._engine.now_ns
        return record

    # What peers do

    def asked(self, record: Peer) -> None:
        """Note that a peer owes a sign of life from now on."""
        if record.asked_ns < 0:
            record.asked_ns = self._engine.now_ns

    def heard(self, record: Peer) -> None:
        """Note a sign of life."""
        now = record.heard_ns = self._engine.now_ns
        if record.asked_ns >= 0:
            if now > record.asked_ns:
                record.silence.observe(now - record.asked_ns)
            record.asked_ns = NEVER
        if record.failures or record.holds:
            self._recovered(record)

    def answered(self, record: Peer, frame: Frame, edge: str) -> None:
        """Note that the answer of a peer to a frame is here."""
        if record.retrying:
            self._engine.post.retries.answered(record, frame, edge)
        now = self._engine.now_ns
        asked = now if frame.asked_at is None else frame.asked_at.get(edge, now)
        paces = self._engine.paces
        if edge in paces.recent:
            paces.answered(record, edge, now - asked)
        if now > asked:
            if not record.skip:
                record.answers.observe(now - asked)
            record.skip = False

    def _recovered(self, record: Peer) -> None:
        record.failures = 0
        if record.holds and self._engine.now_ns < record.quiet_ns:
            return  # it is alive, and asked for time
        record.holds = 0
        record.quiet_ns = NEVER
        if record.waiting:
            self._engine.post.outbound.flush(record)
            self._engine.tidy()

    def later(self, record: Peer, wait_ns: int) -> None:
        """Send nothing to a peer for a while, as it asked for."""
        record.holds += 1
        until = self._engine.now_ns + min(wait_ns, LONGEST_NS)
        record.quiet_ns = max(record.quiet_ns, until)

    def failed(self, record: Peer) -> None:
        """Note that a peer did not do what it was asked; too often, and it is left alone."""
        engine = self._engine
        record.failures += 1
        if record.failures < engine.options.suspect_after and not self.suspected(record):
            return
        pause = _health.backoff_ns(
            engine, f"suspect/{record.id}", record.failures - engine.options.suspect_after
        )
        record.quiet_ns = max(record.quiet_ns, engine.now_ns + pause)

    def suspected(self, record: Peer) -> bool:
        """Whether it is odd that a peer which was asked is silent."""
        return self.phi(record) > self._engine.options.suspect_phi

    def phi(self, record: Peer) -> float:
        """Return how odd it is that a peer is silent; 0.0 when it owes nothing."""
        silent = self._engine.now_ns - record.asked_ns
        return record.silence.phi(silent) if record.asked_ns >= 0 and silent > 0 else 0.0

    def version_skew(self, peer: PeerId) -> bool:
        """Whether to tell of a peer with another program: once an hour."""
        now, told = self._engine.now_ns, self._skewed
        if peer in told and now - told[peer] < _health.HOUR_NS:
            return False
        told.pop(peer, None)
        if len(told) >= _health.MOST_SKEWED:
            del told[next(iter(told))]
        told[peer] = now
        return True

    # Tables

    def sweep(self) -> None:
        """Forget peers that nothing was heard of for long; called when it is time for that."""
        now = self._engine.now_ns
        self.sweep_ns = now + self._idle_ns // 2
        idle = [
            record.id
            for record in self.records.values()
            if now - record.used_ns >= self._idle_ns and not record.busy
        ]
        for peer in idle:
            del self.records[peer]
            self._engine.strangers.leave(peer)

    def table(self) -> tuple[PeerInfo, ...]:
        """Return what an operator is told, by peer."""
        now, threshold = self._engine.now_ns, self._engine.options.suspect_phi
        rows: list[PeerInfo] = []
        for record in sorted(self.records.values(), key=lambda one: one.id):
            phi = self.phi(record)
            rows.append(
                PeerInfo(
                    peer=record.id,
                    round_trip_ns=record.acks.mean_ns if record.acks.count else None,
                    answer_ns=record.answers.mean_ns if record.answers.count else None,
                    phi=phi,
                    failures=record.failures,
                    health=_health.score(record.failures, phi, threshold),
                    heard_ns=None if record.heard_ns < 0 else record.heard_ns,
                    quiet_ns=max(0, record.quiet_ns - now),
                    waiting=len(record.waiting),
                    unacknowledged=len(record.retrying),
                    bytes_in=record.bytes_in,
                    bytes_out=record.bytes_out,
                    refused=dict(record.refused or {}),
                    gone=record.id in self._engine.gathers.gone,
                )
            )
        return tuple(rows)

    # Snapshots

    def state(self) -> list[dict[str, Any]]:
        """Return all that is known about peers as plain data; instants as what is left or past.

        What waits to be sent is `Outbound.state`, what is not acknowledged `Retries.state`. What
        peers are charged for follows from the frames.
        """
        return [self._stored(record) for record in self.records.values()]

    def instants(self) -> tuple[int, dict[PeerId, int]]:
        """Return how long it is until the next sweep, and since peers of others were told of."""
        now = self._engine.now_ns
        return self.sweep_ns - now, {peer: told - now for peer, told in self._skewed.items()}

    def set_instants(self, sweep_ns: int, told: Mapping[PeerId, int]) -> None:
        """Take over what `instants` gave."""
        now = self._engine.now_ns
        self.sweep_ns = now + sweep_ns
        self._skewed = {peer: now + since for peer, since in told.items()}

    def _stored(self, record: Peer) -> dict[str, Any]:
        now = self._engine.now_ns
        row: dict[str, Any] = {"peer": record.id}
        row |= {name: getattr(record, name) for name in _NUMBERS}
        row["skip"] = record.skip
        for name in _INSTANTS:
            instant = getattr(record, name)
            row[name] = None if instant < 0 else instant - now
        row["acks"] = record.acks.state()
        row["answers"] = record.answers.state()
        row["silence"] = record.silence.state()
        row["paces"] = {edge: one.state(now) for edge, one in (record.paces or {}).items()}
        row["refused"] = dict(record.refused or {})
        return row

    def load(self, state: Iterable[Mapping[str, Any]]) -> None:
        """Take over what `state` gave; what was known before is forgotten."""
        now = self._engine.now_ns
        # Which messages came before is admission's to say.
        windows = {one.id: one.window for one in self.records.values() if one.window}
        self.records.clear()
        for peer, window in windows.items():
            self.of(peer).window = window
        for row in state:
            if not isinstance(row["peer"], PeerId):
                raise TypeError(f"a {type(row['peer']).__name__} instead of a peer")
            record = self.of(row["peer"])
            for name in _NUMBERS:
                setattr(record, name, whole(row[name]))
            record.skip = bool(row["skip"])
            for name in _INSTANTS:
                past = row[name]
                setattr(record, name, NEVER if past is None else max(0, now + int(past)))
            record.acks = RoundTrip(*numbers_in(row["acks"]))
            record.answers = RoundTrip(*numbers_in(row["answers"]))
            record.silence = Silence(*numbers_in(row["silence"]))
            paces = {str(edge): Pace.load(one, now) for edge, one in row["paces"].items()}
            record.paces = paces or None
            refused: Mapping[Any, Any] = row["refused"] or {}
            counted = Counter({str(why): int(count) for why, count in refused.items()})
            record.refused = counted or None
