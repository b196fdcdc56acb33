"""Answers to a frame: who is expected to answer, and what the gathers over the answers do.

A send that asks for answers opens one entry per peer, and an entry takes one answer, or as many as
its edge says (`replies=`): then a peer has answered with the last of them. Each gather over them
counts who arrived and who may still come, so that judging it costs the same whatever the number of
peers. A gather fires when enough arrived: it hands out its results, closes its region (entries and
child frames that nobody waits for any more) and wakes what waited for it. When too few can come it
falls short, and its frame fails or goes on, as the program says.

Nothing here ends or starts a frame by itself: it asks the engine to look at the frame.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING, Any

from bb_ir.ids import PeerId
from bb_runtime._frames import CLOSED, ENDED, FAILED, LIVE, NOTHING, OPEN, Frame, GatherState
from bb_runtime.errors import QuorumNotMet

if TYPE_CHECKING:
    from bb_runtime._engine import Engine
    from bb_runtime.artifact import Edge

__all__ = ["Gathers"]

#: Of so many peers it is remembered that they left.
_MOST_GONE = 65_536


class Gathers:
    """Entries and gathers of one Node's frames."""

    __slots__ = ("_engine", "blocked", "gone")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        #: Peers that the operator blocked; they are not asked.
        self.blocked: frozenset[PeerId] = frozenset()
        #: Peers that said they leave, and their incarnations; the latest of them.
        self.gone: dict[PeerId, int] = {}

    def expect(self, frame: Frame, reply: Edge, peers: tuple[PeerId, ...]) -> None:
        """Open an entry for each peer that was asked."""
        entries = dict.fromkeys(peers, OPEN)
        waiting = len(entries)
        allowed = self._engine.options.allowed_peers
        if self.blocked or self.gone or allowed is not None:
            for peer in entries:
                if not self.talks_to(peer):
                    entries[peer] = FAILED
                    waiting -= 1
        if frame.expected is NOTHING:
            frame.expected = {}
        frame.expected[reply.name] = entries
        frame.open_replies += waiting
        for state in frame.gathers.values():
            if state.info.edge != reply.name:
                continue
            state.asked = tuple(entries)
            state.need = state.info.need(len(entries))
            state.pending = waiting
            if state.info.deadline_ns:
                when = self._engine.now_ns + state.info.deadline_ns
                self._engine.timers.set(when, frame, state)
        if reply.auto:
            self._engine.paces.watch(frame, reply)
        self._engine.touch(frame)

    def talks_to(self, peer: PeerId) -> bool:
        """Whether the operator lets this Node talk to a peer, and that has not left."""
        allowed = self._engine.options.allowed_peers
        talks = allowed is None or peer in allowed
        return talks and peer not in self.blocked and peer not in self.gone

    def unblock(self, peer: PeerId) -> None:
        """End the operator's block of a peer, if there is one."""
        if peer in self.blocked:
            self.blocked -= {peer}

    def leave(self, peer: PeerId, incarnation: int) -> None:
        """Treat a peer as gone: nothing more is sent to it, and it owes no answers."""
        self.peer_lost(peer, "leaving")
        self.gone.pop(peer, None)
        if len(self.gone) >= _MOST_GONE:
            del self.gone[next(iter(self.gone))]
        self.gone[peer] = incarnation

    def heard(self, peer: PeerId, incarnation: int) -> None:
        """Note a first envelope of a peer in an incarnation: one that had left is there again."""
        if incarnation > self.gone.get(peer, incarnation):
            del self.gone[peer]

    def arrival(self, index: int, *, keeps: bool, replies: int = 1) -> Callable[[Frame, Any], None]:
        """Return the callable with which a child frame reaches a gather of its parent."""

        def arrive(frame: Frame, value: Any) -> None:
            parent = frame.parent
            assert parent is not None
            assert frame.sender is not None  # a child came by envelope
            state = parent.gathers[index]
            if state.fired:
                return
            state.answers[frame.sender] = frame.return_address
            if keeps:
                state.kept[frame.sender] = value
            state.pending -= 1
            self._engine.touch(parent)

        def arrive_once_more(frame: Frame, value: Any) -> None:
            parent, sender = frame.parent, frame.sender
            assert parent is not None
            assert sender is not None
            state = parent.gathers[index]
            if state.fired:
                return
            parts = state.parts_of(sender)
            parts.arrived.add(frame.number)
            if keeps:
                parts.values[frame.origin] = value
            if len(parts.arrived) == replies:
                state.answers[sender] = None
                # In the order in which the peer sent them, whatever that was when they came.
                state.kept[sender] = [parts.values[number] for number in sorted(parts.values)]
                state.pending -= 1
                parts.values = {}
                self._engine.touch(parent)

        return arrive if replies == 1 else arrive_once_more

    def answer_failed(self, frame: Frame, edge: str, peer: PeerId, reason: str) -> None:
        """Note that a peer's answer will not come; once, and only while it is waited for."""
        if frame.state != LIVE or frame.expected.get(edge, {}).get(peer) != OPEN:
            return
        frame.expected[edge][peer] = FAILED
        frame.open_replies -= 1
        record = self._engine.peers.records.get(peer)
        if record is not None and record.retrying:
            self._engine.post.retries.answered(record, frame, edge)
        for state in frame.gathers.values():
            if state.info.edge == edge and state.counts_out(peer):
                state.pending -= 1
        self._engine.drop(reason, peer, edge)
        self._engine.touch(frame)

    def peer_lost(self, peer: PeerId, reason: str, *, but: tuple[int, str] | None = None) -> None:
        """Fail every answer that a peer still owes, but the one to a frame on an edge.

        Nothing more is sent to it, unless it has only restarted and is there again.
        """
        record = self._engine.peers.records.get(peer)
        if record is not None and reason != "restarted":
            self._engine.post.retries.drop_all(record)
            self._engine.post.outbound.drop_all(record, reason)
            self._engine.order.forget(record, reason)
        for frame in list(self._engine.frames.values()):
            for edge in tuple(frame.expected):
                if but is None or but != (frame.number, edge):
                    self.answer_failed(frame, edge, peer, reason)
        self._engine.tidy()

    def child_ended(self, parent: Frame, child: Frame, how: str, reason: str) -> None:
        """Count out a child frame that did not reach the gathers of its parent."""
        for state in parent.gathers.values():
            if state.info.edge != child.name or state.reached_by(child):
                continue
            if how == "failed":
                state.count_failed(reason)
            if child.sender is not None and state.counts_out(child.sender):
                state.pending -= 1

    def judge(self, frame: Frame, state: GatherState, *, expired: bool = False) -> None:
        """Fire a gather, let it fall short, or leave it waiting."""
        if state.asked is None or state.fired:
            return
        if expired:
            self.count_silent(frame, state.info.edge)
        count, info = len(state.answers), state.info
        if count >= state.need and count:
            if not info.wait_all or not state.pending or expired:
                self._fire(frame, state)
        elif expired or not state.pending:
            self._fall_short(frame, state, expired=expired)
        elif count + state.pending < state.need and (info.fail_short or not info.wait_all):
            self._fall_short(frame, state, expired=False)

    def count_silent(self, frame: Frame, edge: str) -> None:
        """Hold it against peers that they have not answered at a deadline."""
        peers = self._engine.peers
        for peer, entry in frame.expected.get(edge, {}).items():
            record = peers.records.get(peer) if entry == OPEN else None
            # One that waits here was not even asked.
            if record is not None and not record.waiting:
                peers.failed(record)

    def _fall_short(self, frame: Frame, state: GatherState, *, expired: bool) -> None:
        if not state.info.fail_short:
            self._fire(frame, state)
            return
        asked = len(state.asked or ())
        why = "at its deadline" if expired else "and no more can answer"
        if not asked:
            why = "because nobody was asked"
        found = f"{len(state.answers)} of {asked} peers answered on edge {state.info.edge!r} {why}"
        if asked and state.need > asked:
            found = (
                f"{state.need} answers are wanted and {asked} peers were asked on edge "
                f"{state.info.edge!r}"
            )
        fix = "lower the quorum, lengthen the deadline, or use on_short='continue'"
        if state.failed:
            many = ", ".join(f"{count} {code}" for code, count in sorted(state.failed.items()))
            came = sum(state.failed.values())
            found += f"; {came} more came, and ops of this Node failed on them: {many}"
            cause = f"put right what raised {', '.join(sorted(state.failed))}"
            # Those that are still on their way are not missing, unless their time is over.
            coming = 0 if expired else state.pending
            enough = len(state.answers) + came + coming >= state.need
            fix = cause if enough else f"{cause}; then {fix}"
        error = QuorumNotMet(found, expected=f"at least {state.need}", fix=fix)
        self._engine.fail(frame, state.info.op, error)

    def _fire(self, frame: Frame, state: GatherState) -> None:
        state.fired = True
        asked, answers = state.asked or (), state.answers
        answered = [peer for peer in asked if peer in answers]
        count, missing, senders, values = state.info.outs
        if count >= 0:
            frame.values[count] = len(answered)
        if missing >= 0:
            frame.values[missing] = tuple(peer for peer in asked if peer not in answers)
        if senders >= 0:
            frame.values[senders] = tuple(answers[peer] for peer in answered)
        if values >= 0:
            kept = [state.kept[peer] for peer in answered]
            frame.values[values] = kept if state.info.replies == 1 else [*chain(*kept)]
        state.kept = {}
        for parts in state.parts.values():
            parts.values = {}
        frame.fired |= {state.info.index}
        self._close_region(frame, state.info.edge)
        self._engine.wake(frame)

    def _close_region(self, frame: Frame, edge: str) -> None:
        """Stop what nobody waits for, once all gathers over an edge have fired."""
        states = [state for state in frame.gathers.values() if state.info.edge == edge]
        if not all(state.fired and not state.info.keep_open for state in states):
            return
        for state in states:
            if state.dues is not None:
                state.dues.fired = True
        entries = frame.expected[edge]
        for peer, entry in entries.items():
            if entry == OPEN:
                entries[peer] = CLOSED
                frame.open_replies -= 1
        for child in tuple(frame.children.values()):
            arrived = any(state.reached_by(child) for state in states)
            if child.name == edge and not arrived and child.state != ENDED:
                self._engine.end(child, "cancelled", "GatherClosed")

    @staticmethod
    def only_late(frame: Frame) -> bool:
        """Whether a frame waits for nothing but answers that come after their gather fired."""
        late = {s.info.edge for s in frame.gathers.values() if s.fired and s.info.keep_open}
        waiting = {edge for edge, e in frame.expected.items() if OPEN in e.values()}
        waiting.update(child.name for child in frame.children.values())
        return not frame.left and waiting <= late
