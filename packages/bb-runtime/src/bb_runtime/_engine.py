"""The engine: frames, replies, gathers and time, without I/O, threads or a clock of its own.

How a frame lives:

1. It is opened: by an invocation or an envelope (a *root* frame, one at a time per region, others
   wait in line), or by a reply to a frame that expects it (a *child* frame).
2. Its stretches run as the gathers they need have fired. A stretch runs to its end before any
   other frame goes on, so frames never see each other's half-done work.
3. A send that asks for answers opens one entry per peer; an entry takes one reply.
4. A gather fires when enough replies have run up to it, closes its region, and starts the
   stretches that waited for it. When too few can come, its frame fails.
5. The frame ends when nothing in it is left to run and no reply is expected. Every end is told
   with one `FrameEnded`, and frees what the frame held.

All methods are called by one thread. What a component raises fails its frame and nothing else.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bb_ir.errors import WireError
from bb_ir.ids import PeerId
from bb_ir.values import encode_value
from bb_ir.wire import EnvelopeTemplate, Failed, Hop, build_envelope
from bb_roles.contracts import Component
from bb_runtime._frames import (
    ANSWERED,
    CLOSED,
    FAILED,
    OPEN,
    BoundRegion,
    Frame,
    GatherState,
    ReturnAddress,
)
from bb_runtime._lower import failed_op
from bb_runtime.artifact import Artifact, Edge, Op
from bb_runtime.errors import OpError, QuorumNotMet
from bb_runtime.options import Options
from bb_runtime.steps import Dropped, Emitted, FrameEnded, FrameId, OpFailed, Ship, Step

__all__ = ["Engine"]

_TIMER_SLACK = 256


def _live(timer: tuple[int, int, Frame, GatherState | None]) -> bool:
    _, _, frame, state = timer
    return not frame.ended and (state is None or not state.fired)


class Engine:
    """One Node's frames. `Node` is what hosts talk to."""

    def __init__(
        self,
        peer: PeerId,
        artifact: Artifact,
        *,
        seed: int,
        incarnation: int,
        options: Options,
        now_ns: int,
    ) -> None:
        self.peer = peer
        self.artifact = artifact
        self.options = options
        self.incarnation = incarnation
        self.now_ns = now_ns
        self.seed_key = hashlib.blake2b(f"bb.seed\0{seed}".encode(), digest_size=32).digest()
        self.program_id = bytes.fromhex(artifact.program)[:16]
        self.mains: dict[str, BoundRegion] = {}
        self.regions: dict[str, BoundRegion] = {}
        self.components: dict[str, list[tuple[Component, bool]]] = {}
        self.answering: dict[str, tuple[Edge, ...]] = {
            edge.name: tuple(e for e in artifact.edges.values() if e.answers == edge.name)
            for edge in artifact.edges.values()
        }
        self.frames: dict[int, Frame] = {}
        self.steps: list[Step] = []
        self.counters: Counter[str] = Counter()
        self.payload_held = 0
        #: Message id -> (frame, reply edges, peer): whose answer fails with the message.
        self.outgoing: dict[int, tuple[Frame, tuple[Edge, ...], PeerId]] = {}
        self._ready: deque[tuple[Frame, int]] = deque()
        self._firing: list[tuple[Frame, GatherState]] = []
        #: (instant, order of creation, frame, gather or `None` for the frame's own deadline)
        self._timers: list[tuple[int, int, Frame, GatherState | None]] = []
        self._numbers = 0
        self._messages = 0
        self._timer_numbers = 0
        self._bootstraps = 0
        self._ordinals: Counter[str] = Counter()

    # Opening frames

    def invoke(self, target: str, given: Mapping[str, Any]) -> FrameId:
        """Open a root frame of a target's `main`; the inputs were checked."""
        bound = self.mains[target]
        program = bound.program
        values: list[Any] = [None] * program.size
        for name, position in program.inputs.items():
            if position >= 0:
                values[position] = given[name]
        ordinal = self._ordinals[target]
        self._ordinals[target] += 1
        cause = (b"invoke", target.encode(), ordinal.to_bytes(8, "little"))
        deadline = self.now_ns + program.info.deadline_ns
        frame = self._frame(bound, values, deadline, cause)
        self.open_root(frame)
        return FrameId(self.incarnation, frame.number)

    def open_root(self, frame: Frame) -> bool:
        """Start a root frame, or put it in line; returns false when the line is full."""
        bound = frame.bound
        if bound.active == 0 and (bound.bootstrap or self._bootstraps == 0):
            self._start_root(frame)
            return True
        if len(bound.queue) >= self.options.max_queued:
            self.drop("queue_full", frame.sender, frame.name)
            self._forget(frame)
            return False
        bound.queue.append(frame)
        return True

    def message_frame(
        self,
        edge: Edge,
        values: Sequence[Any],
        source: PeerId,
        hops: Sequence[Hop],
        message_id: int,
        remaining_ns: int | None,
    ) -> Frame:
        """Return a new frame for an envelope, not yet open."""
        bound = self.regions[edge.name]
        program = bound.program
        positions: list[Any] = [None] * program.size
        for position, value in zip(program.ports, values, strict=True):
            if position >= 0:
                positions[position] = value
        budget = program.info.deadline_ns
        deadline = self.now_ns + (budget if remaining_ns is None else min(budget, remaining_ns))
        origin = hops[-1].frame if edge.answered else message_id
        cause = (b"message", edge.name.encode(), source.raw, origin.to_bytes(8, "little"))
        frame = self._frame(bound, positions, deadline, cause)
        frame.sender = source
        if edge.answered:
            frame.return_address = ReturnAddress(source, hops[-1].frame, hops[-1].incarnation)
        return frame

    def open_child(self, frame: Frame, parent: Frame, edge: Edge) -> None:
        """Start a child frame for a reply."""
        frame.parent = parent
        frame.deadline_ns = min(frame.deadline_ns, parent.deadline_ns)
        parent.children[frame.number] = frame
        if frame.sender is not None:
            parent.expected[edge.name][frame.sender] = ANSWERED
            parent.open_replies -= 1
        self._start(frame)

    def _frame(
        self, bound: BoundRegion, values: list[Any], deadline: int, cause: tuple[bytes, ...]
    ) -> Frame:
        self._numbers += 1
        return Frame(self._numbers, bound, values, deadline, cause)

    def _start_root(self, frame: Frame) -> None:
        bound = frame.bound
        bound.active += 1
        if bound.bootstrap:
            self._bootstraps += 1
        self._set_timer(frame.deadline_ns, frame, None)
        self._start(frame)

    def _start(self, frame: Frame) -> None:
        self.frames[frame.number] = frame
        for info in frame.bound.program.gathers:
            frame.gathers[info.index] = GatherState(info)
        for index in frame.bound.start_now:
            self._ready.append((frame, index))
        if not frame.todo:
            self._settle(frame)

    # Running

    def run(self, max_ops: int | None) -> None:
        """Run stretches until quiet or out of budget; a stretch is never cut in two."""
        ready = self._ready
        budget = max_ops
        while ready:
            frame, index = ready.popleft()
            if frame.ended:
                continue
            self._run_stretch(frame, index)
            if budget is not None:
                budget -= len(frame.bound.program.stretches[index].ops)
                if budget <= 0:
                    return

    @property
    def busy(self) -> bool:
        """Whether something is ready to run."""
        return bool(self._ready)

    def _run_stretch(self, frame: Frame, index: int) -> None:
        frame.todo.remove(index)
        try:
            frame.bound.runs[index](frame)
        except Exception as error:  # noqa: BLE001  # whatever a component raises ends here
            self._fail(frame, failed_op(frame.bound.program.stretches[index], error), error)
        else:
            if not frame.todo:
                self._settle(frame)
        if self._firing:
            self._fire_all()

    def _wake(self, frame: Frame) -> None:
        """Make ready what the firing of a gather of `frame` lets run, in it and its children."""
        stretches = frame.bound.program.stretches
        for index in frame.todo:
            needs = stretches[index].needs
            if needs and all(self._fired(frame, level, gather) for level, gather in needs):
                self._ready.append((frame, index))
        for child in list(frame.children.values()):
            self._wake(child)

    @staticmethod
    def _fired(frame: Frame, level: int, gather: int) -> bool:
        for _ in range(level):
            assert frame.parent is not None  # levels were counted along parents
            frame = frame.parent
        return gather in frame.fired

    # What stretches call

    def sender_of(self, op: Op) -> Callable[..., None]:
        """Return the callable of a send."""
        edge = self.artifact.edges[op.edge]
        types = [type_ for _, type_ in edge.ports]

        def send(frame: Frame, to: Sequence[Any], *values: Any) -> None:
            fills = [encode_value(v, t) for v, t in zip(values, types, strict=True)]
            self._send(frame, edge, to, fills)

        return send

    def emitter_of(self, op: Op, target: str) -> Callable[..., Any]:
        """Return the callable of an output."""
        name = str(op.attributes["name"])

        def emit(frame: Frame, value: Any) -> Any:
            frame_id = FrameId(self.incarnation, frame.number)
            self.steps.append(Emitted(target, name, value, frame_id))
            return value

        return emit

    def gatherer_of(self, index: int) -> Callable[..., None]:
        """Return the callable with which a child frame reaches a gather of its parent."""

        def arrive(frame: Frame, value: Any) -> None:
            parent = frame.parent
            assert parent is not None and frame.sender is not None  # a child came by envelope
            state = parent.gathers[index]
            kept = value if state.info.outs[3] >= 0 else None
            state.answers[frame.sender] = (frame.return_address, kept)
            self._firing.append((parent, state))

        return arrive

    def _send(self, frame: Frame, edge: Edge, to: Sequence[Any], fills: list[Any]) -> None:
        addresses = list(dict.fromkeys(to))
        remaining = min(edge.deadline_ns, frame.deadline_ns - self.now_ns)
        if remaining <= 0:
            raise OpError(
                f"nothing is left of the frame's deadline to send edge {edge.name!r}",
                fix="give the frame or the gather a longer deadline",
            )
        own = (Hop(frame.number, self.incarnation, self.peer.raw),) if edge.answered else ()
        template = None
        for address in addresses:
            self._messages += 1
            if isinstance(address, ReturnAddress):
                peer = address.peer
                first = Hop(address.frame, address.incarnation, peer.raw)
                built = build_envelope(
                    self.program_id, edge.id, self.incarnation, self._messages,
                    remaining_ns=remaining, chain=(first, *own), fills=fills,
                )  # fmt: skip
            else:
                peer = address
                template = template or EnvelopeTemplate(
                    program=self.program_id, edge=edge.id, incarnation=self.incarnation,
                    chain=own, fills=fills,
                )  # fmt: skip
                built = template.build(self._messages, remaining_ns=remaining)
            self.steps.append(Ship(peer, built, self._messages))
            if edge.answered:
                self.outgoing[self._messages] = (frame, self.answering[edge.name], peer)
                frame.messages.append(self._messages)
        frame.sent.add(edge.name)
        peers = tuple(a.peer if isinstance(a, ReturnAddress) else a for a in addresses)
        for reply in self.answering[edge.name]:
            self._expect(frame, reply, peers)

    def _expect(self, frame: Frame, reply: Edge, peers: tuple[PeerId, ...]) -> None:
        frame.expected[reply.name] = dict.fromkeys(peers, OPEN)
        frame.open_replies += len(peers)
        for state in frame.gathers.values():
            if state.info.edge != reply.name:
                continue
            state.asked = peers
            state.need = state.info.need(len(peers))
            if state.info.deadline_ns:
                state.expires_ns = self.now_ns + state.info.deadline_ns
                self._set_timer(state.expires_ns, frame, state)
            self._firing.append((frame, state))

    # Gathers

    def _fire_all(self) -> None:
        while self._firing:
            frame, state = self._firing.pop(0)
            if not frame.ended and not state.fired:
                self._judge(frame, state, expired=False)

    def _judge(self, frame: Frame, state: GatherState, *, expired: bool) -> None:
        """Fire a gather, let it fall short, or leave it waiting."""
        if state.asked is None:
            return
        info = state.info
        count = len(state.answers)
        pending = len(state.asked) - count - state.lost
        complete = count == len(state.asked)
        enough = count >= state.need and not (len(state.asked) == 0)
        if enough and (complete or not info.wait_all or pending == 0 or expired):
            self._fire(frame, state)
        elif expired or count + pending < state.need or not state.asked:
            self._fall_short(frame, state, expired=expired)

    def _fall_short(self, frame: Frame, state: GatherState, *, expired: bool) -> None:
        if not state.info.fail_short:
            self._fire(frame, state)
            return
        asked = len(state.asked or ())
        why = "at its deadline" if expired else "and no more can answer"
        error = QuorumNotMet(
            f"{len(state.answers)} of {asked} peers answered on edge {state.info.edge!r} {why}",
            expected=f"at least {state.need}",
            fix="lower the quorum, lengthen the deadline, or use on_short='continue'",
        )
        self._fail(frame, state.info.op, error)

    def _fire(self, frame: Frame, state: GatherState) -> None:
        state.fired = True
        asked = state.asked or ()
        answered = [peer for peer in asked if peer in state.answers]
        count, missing, senders, values = state.info.outs
        if count >= 0:
            frame.values[count] = len(answered)
        if missing >= 0:
            frame.values[missing] = tuple(peer for peer in asked if peer not in state.answers)
        if senders >= 0:
            frame.values[senders] = tuple(state.answers[peer][0] for peer in answered)
        if values >= 0:
            frame.values[values] = [state.answers[peer][1] for peer in answered]
        if not state.info.keep_open:
            self._close_region(frame, state)
        frame.fired.add(state.info.index)
        self._wake(frame)
        self._settle(frame)

    def _close_region(self, frame: Frame, state: GatherState) -> None:
        entries = frame.expected[state.info.edge]
        for peer, entry in entries.items():
            if entry == OPEN:
                entries[peer] = CLOSED
                frame.open_replies -= 1
        for child in list(frame.children.values()):
            if child.name == state.info.edge and child.sender not in state.answers:
                self._end(child, "cancelled", "GatherClosed")

    def _gather_expired(self, frame: Frame, state: GatherState) -> None:
        if not frame.ended and not state.fired:
            self._judge(frame, state, expired=True)

    def answer_failed(self, frame: Frame, edge: Edge, peer: PeerId, reason: str) -> None:
        """Note that a peer's answer will not come."""
        entries = frame.expected.get(edge.name, {})
        if frame.ended or entries.get(peer) != OPEN:
            return
        entries[peer] = FAILED
        frame.open_replies -= 1
        self.drop(reason, peer, edge.name)
        self._lose(frame, edge.name, peer)
        self._fire_all()
        self._settle(frame)

    def _lose(self, frame: Frame, edge: str, peer: PeerId) -> None:
        """Count a peer out of the gathers over an edge."""
        for state in frame.gathers.values():
            if state.info.edge == edge and peer not in state.answers:
                state.lost += 1
                self._firing.append((frame, state))

    # Ends

    def _settle(self, frame: Frame) -> None:
        """End a frame in which nothing is left to do."""
        if not (frame.ended or frame.todo or frame.open_replies or frame.children):
            self._end(frame, "done", "")

    def _fail(self, frame: Frame, op: Op, error: Exception) -> None:
        target = frame.bound.program.target
        rows = {row.slot: row.component for row in target.rows}
        self.steps.append(
            OpFailed(
                target.short, op.name, op.slot, rows.get(op.slot, ""), op.source, error,
                FrameId(self.incarnation, frame.number), self.peer,
            )
        )  # fmt: skip
        # A traceback refers to the frames of the calls, and so to whatever they held.
        error.__traceback__ = None
        self._end(frame, "failed", getattr(error, "code", type(error).__name__))

    def _expire(self, frame: Frame) -> None:
        if not frame.ended:
            self._end(frame, "expired", "DeadlineExceeded")

    def _end(self, frame: Frame, how: str, reason: str) -> None:
        frame.ended = True
        for child in list(frame.children.values()):
            self._end(child, "cancelled", reason or how)
        self._forget(frame)
        program = frame.bound.program
        identity = FrameId(self.incarnation, frame.number)
        self.steps.append(
            FrameEnded(program.target.short, program.info.name, identity, how, reason)
        )
        if frame.return_address is not None:
            self._report_unsent(frame, reason or how)
        if frame.parent is None:
            self._end_root(frame, how)
        else:
            self._end_child(frame, frame.parent, how)

    def _forget(self, frame: Frame) -> None:
        frame.ended = True
        self.frames.pop(frame.number, None)
        for message in frame.messages:
            self.outgoing.pop(message, None)
        self.payload_held -= frame.payload
        frame.values = []

    def _end_root(self, frame: Frame, how: str) -> None:
        bound = frame.bound
        bound.active -= 1
        if bound.bootstrap:
            self._bootstraps -= 1
        self._abandon(frame, failed=how != "done")
        waiting = self.regions.values() if bound.bootstrap else (bound,)
        for region in (*waiting, *(self.mains.values() if bound.bootstrap else ())):
            self._start_next(region)

    def _start_next(self, bound: BoundRegion) -> None:
        while bound.queue and bound.active == 0 and (bound.bootstrap or not self._bootstraps):
            frame = bound.queue.popleft()
            if frame.deadline_ns <= self.now_ns:
                bound.active += 1
                self._bootstraps += bound.bootstrap
                self._end(frame, "expired", "DeadlineExceeded")
            else:
                self._start_root(frame)

    def _end_child(self, frame: Frame, parent: Frame, how: str) -> None:
        parent.children.pop(frame.number, None)
        if parent.ended or frame.sender is None:
            return
        if how != "done":
            parent.expected[frame.name][frame.sender] = FAILED
            self._lose(parent, frame.name, frame.sender)
        self._settle(parent)

    def _abandon(self, frame: Frame, *, failed: bool) -> None:
        """Tell components that a round is over: aggregators always, others when it failed."""
        for component, always in self.components[frame.bound.program.target.name]:
            if not (failed or always):
                continue
            context = self.context("abandon")
            context.frame = frame
            try:
                component.abandon(context)
            except Exception as error:  # noqa: BLE001  # contained like any crash of a component
                self.drop(f"abandon_failed.{type(error).__name__}", None, "")

    def _report_unsent(self, frame: Frame, reason: str) -> None:
        """Tell the peer that waits for this frame that its promised answers will not come."""
        address = frame.return_address
        assert address is not None  # the caller looked
        for edge in frame.bound.program.owes:
            if edge.name not in frame.sent:
                self.refuse_answer(address, edge, reason)

    def refuse_answer(self, address: ReturnAddress, edge: Edge, reason: str) -> None:
        """Ship a small `failed` envelope to a frame that waits for an answer."""
        self._messages += 1
        control = Failed(reason[:64], address.frame, address.incarnation, edge.id)
        built = build_envelope(
            self.program_id, 0, self.incarnation, self._messages, control=control
        )
        self.steps.append(Ship(address.peer, built, self._messages))

    # Time, randomness, reports

    def _set_timer(self, when_ns: int, frame: Frame, state: GatherState | None) -> None:
        self._timer_numbers += 1
        heapq.heappush(self._timers, (when_ns, self._timer_numbers, frame, state))
        if len(self._timers) > _TIMER_SLACK + 2 * len(self.frames):
            # Those of ended frames would otherwise stay until their instant.
            self._timers = [timer for timer in self._timers if _live(timer)]
            heapq.heapify(self._timers)

    def advance(self, now_ns: int) -> None:
        """Move the clock; what fell due happens in the order of its instants."""
        if now_ns < self.now_ns:
            self.counters["clock_backwards"] += 1
            return
        self.run(None)  # what came in before the jump runs before deadlines pass
        while self._timers and self._timers[0][0] <= now_ns:
            when, _, frame, state = heapq.heappop(self._timers)
            self.now_ns = max(self.now_ns, when)
            if state is None:
                self._expire(frame)
            else:
                self._gather_expired(frame, state)
            self._fire_all()
        self.now_ns = now_ns

    def next_wakeup(self) -> int | None:
        """Return the instant of the next timer that still matters."""
        while self._timers and not _live(self._timers[0]):
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def frame_key(self, frame: Frame) -> bytes:
        """Return the key of a frame's draws: a hash of what caused it."""
        if not frame.key:
            digest = hashlib.blake2b(digest_size=32)
            if frame.parent is not None:
                digest.update(self.frame_key(frame.parent))
            own = frame.sender.raw if frame.sender else b""
            for part in (*frame.cause, self.peer.raw, own):
                digest.update(len(part).to_bytes(4, "little") + part)
            frame.key = digest.digest()
        return frame.key

    def context(self, path: str) -> Any:
        """Return a context for one op."""
        from bb_runtime._context import OpContext

        return OpContext(self, path)

    def drop(self, reason: str, peer: PeerId | None, edge: str) -> None:
        """Count and report something that was refused."""
        self.counters[reason] += 1
        self.steps.append(Dropped(reason, peer, edge))


