"""What comes to a Node, when it is looked at, and what follows from it.

An input is looked at when the peer's next one comes, or when the earliest envelope that it could
cause could arrive somewhere, whichever is first:

1. `arrive` finishes what the peer put off, then puts the input into its backlog if the peer is
   still at work, else puts it off (`_take`).
2. `settle` looks at what was put off, and at timers and invocations that are due by now.
3. `_process` moves the Node's clock to the input's instant, hands it in, and polls.
4. What the Node wants sent leaves when the work is done (`_pay`); `Mail` carries it.
"""

from __future__ import annotations

import heapq
from collections import deque
from itertools import chain
from typing import cast

from bb_ir.ids import PeerId
from bb_ir.wire import PRELUDE_SIZE, Built
from bb_runtime import (
    Artifact,
    BlockEnded,
    Closed,
    Deferred,
    Dropped,
    FrameEnded,
    Later,
    Lease,
    Node,
    Readable,
    Referred,
    Refuse,
    Ship,
)
from bb_runtime.artifact import Edge
from bb_sim._events import ARRIVE, FREE, LOCAL, NEVER, RUN, START
from bb_sim._lives import Lives
from bb_sim._mail import Mail
from bb_sim._peer import Given, Letter, Lost, Peer
from bb_sim._rounds import Rounds
from bb_sim._world import World

__all__ = ["Inputs", "deliver"]

#: With so few possible receivers the earliest arrival is looked up, with more it is estimated.
_FEW = 4
#: In the place of a sender: what stands before all senders, and before words of lost envelopes.
_FIRST = -3


class Inputs:
    """Hands Nodes what comes to them, each thing at its instant."""

    def __init__(
        self, world: World, lives: Lives, rounds: Rounds, mail: Mail, *, late: bool, digest: bool
    ) -> None:
        self._world = world
        self._lives = lives
        self._rounds = rounds
        self._mail = mail
        self._late = late
        self._digest = digest
        self._receivers = _receivers(world)
        self._answers = _answers(world.artifact)
        #: How often peers write themselves down.
        self._keeping = world.table.keeping

    def arrive(self, number: int, when: int, given: Letter | Lost) -> None:
        """Hand an input to a peer, or note that nobody is there."""
        lives = self._lives
        if isinstance(given, Letter):
            if lives.ends and lives.never_left(given):
                self._world.recorder.lost(given.round, "sender_stopped")
                return
            if number in lives.absent:
                self._mail.undeliverable(number, when, given)
                return
        elif number in lives.absent or given.life != lives.peer(number).life:
            return
        peer = lives.peers.get(number) or lives.peer(number)
        self.settle(peer, when)
        if when >= self._rounds.stops_at and number in self._rounds.roots:
            # Before all else that comes to it at this instant.
            self._world.events.push(when, ARRIVE, number, _FIRST, what=given)
            return
        if peer.busy > when:
            if peer.backlog is None:
                peer.backlog = deque()
            peer.backlog.append(given)
            if len(peer.backlog) == 1:
                self._world.events.push(peer.busy, FREE, number)
            return
        self._take(peer, when, given)

    def look(self, peer: Peer, when: int, kind: int) -> None:
        """See to a peer whose time has come: to run late, to run a timer, or to take the next."""
        if kind == RUN:
            if when >= peer.run_at:
                peer.run_at = NEVER
            self.settle(peer, when - 1)  # timers that are due now have entries of their own
            return
        self.settle(peer, when)
        if kind == START and peer.node is None:
            self._lives.node(peer, when)
            self._after(peer, when, when, charged=None)
        elif kind == LOCAL and peer.wake <= when:
            peer.wake = -1  # the timer that it was for may have gone: there may be a later one
            self._plan_wake(peer)
        elif kind == FREE and peer.backlog:
            events = self._world.events
            if peer.busy > when or self._rounds.leaves_alone(peer.number, when):
                events.push(max(when, peer.busy), FREE, peer.number)
                return
            self._take(peer, when, peer.backlog.popleft())
            if peer.backlog:
                events.push(max(when, peer.busy), FREE, peer.number)

    def settle(self, peer: Peer, now: int) -> None:
        """Look at what was put off, and at what fell due on the peer itself."""
        pending = peer.pending
        if pending is not None:
            peer.pending = None
            when, given, floor = pending
            # `_run_own` would see the same, after a call.
            if peer.due <= when or peer.invoke_at <= when or peer.works or peer.readable:
                self._run_own(peer, when)
            self._process(peer, when, given, floor)
        if peer.due <= now or peer.invoke_at <= now or peer.works or peer.readable:
            self._run_own(peer, now)

    def _take(self, peer: Peer, when: int, given: Letter | Lost) -> None:
        """Look at an input now, or put it off until something could come of it."""
        floor = self._floor(peer, when)
        if not self._late or floor <= when:
            self._process(peer, when, given, floor)
            self._run_own(peer, when)
            return
        peer.pending = (when, given, floor)
        if floor < peer.run_at:  # else it is looked at before
            peer.run_at = floor
            self._world.events.push(floor, RUN, peer.number)

    def _floor(self, peer: Peer, when: int) -> int:
        """Return when the first envelope that an input can cause can arrive at the earliest."""
        lead = peer.lead
        if lead is None:
            lead = peer.lead = self._lead(peer)
        if lead >= 0:
            return when + lead
        world, number = self._world, peer.number
        takes = world.paces.takes(number, peer.worked, slow=peer.slow)
        receivers = self._receivers[world.population.class_of[number]]
        if receivers is None:
            return when + takes + world.links.fastest
        soonest = NEVER if receivers else 0
        for to in receivers:
            first = world.links.soonest(number, to, peer.sent.get(to, 0))
            soonest = min(soonest, first)
        return when + takes + soonest

    def _lead(self, peer: Peer) -> int:
        """Return how long after any input that is; -1 where it takes a draw."""
        world, number = self._world, peer.number
        receivers = self._receivers[world.population.class_of[number]]
        if peer.always < 0:
            return -1
        if receivers is None:
            return peer.always + world.links.fastest
        wires = [world.links.between(number, to) for to in receivers]
        if any(wire.jitter for wire in wires):
            return -1
        return peer.always + min((wire.latency for wire in wires), default=0)

    def _run_own(self, peer: Peer, until: int) -> None:
        """Run invocations, work that is done and timers up to an instant, one after the other."""
        rounds, number = self._rounds, peer.number
        while peer.has_own(
            until if until < rounds.stops_at or number not in rounds.roots else rounds.stops_at - 1
        ):
            if peer.readable:
                self._offer_again(peer, *peer.readable.popleft())
                continue
            done = peer.works[0][0] if peer.works else NEVER
            due = min(peer.due, done)
            if peer.invoke_at <= due:
                due, peer.invoke_at = peer.invoke_at, NEVER
                self._invoke(peer, due)
            elif peer.works and due == done:
                self._process(peer, due, heapq.heappop(peer.works)[2], peer.floor)
            else:
                self._process(peer, due, None, peer.floor)

    def _invoke(self, peer: Peer, when: int) -> None:
        node = self._lives.node(peer, when)
        floor = max(peer.floor, self._floor(peer, when))
        node.advance(peer.shown(when))
        self._rounds.invoke(peer, node, when)
        self._after(peer, when, floor, charged=True)

    def _process(self, peer: Peer, when: int, given: Given, floor: int) -> None:
        """Hand an input to a Node at its instant, and see what comes of it."""
        node = peer.node or self._lives.node(peer, when)
        node.advance(when if peer.clock is None else peer.clock.shown(when))
        if isinstance(given, Letter):
            if peer.number not in self._rounds.roots:
                peer.round = given.round
            charged = self._offer(peer, node, given) and bool(given.edge)
            self._after(peer, when, floor, charged=charged, letter=given)
            return
        if isinstance(given, Lost):
            node.send_failed(given.ship)
        elif given is not None:
            given.run()
        self._after(peer, when, floor, charged=None if given is None else False)

    def _offer(self, peer: Peer, node: Node, letter: Letter) -> bool:
        """Offer an envelope to a Node; keep it, and all that follow it, if they are to wait."""
        source = letter.source
        if peer.held and (waiting := peer.held.get(source)) is not None:
            waiting.append(letter)
            return False
        if source not in peer.met:
            self._lives.introduce(peer, node, source)
        sender, envelope = self._world.population.ids[source], letter.envelope
        if type(envelope) is Referred:
            answer = node.take(envelope, sender)
        else:
            answer = deliver(node, cast("Built", envelope), sender)
        if answer is None:
            return True
        if isinstance(answer, Later):
            if peer.held is None:
                peer.held = {}
            peer.held[source] = deque([letter])
        return False

    def _offer_again(self, peer: Peer, when: int, source: int) -> None:
        """Offer what was to wait, in the order in which it came."""
        for letter in () if peer.held is None else peer.held.pop(source, ()):
            self._process(peer, when, letter, peer.floor)

    def _after(
        self, peer: Peer, when: int, floor: int, *, charged: bool | None,
        letter: Letter | None = None,
    ) -> None:  # fmt: skip
        """Take out what a Node reports of an input, and plan what comes next.

        Args:
            peer: The peer.
            when: The instant of the input.
            floor: Before when nothing that it causes can arrive.
            charged: Whether it takes time; `None` if it does when something is sent.
            letter: The envelope, if it was one.
        """
        node = peer.node
        assert node is not None
        steps = node.poll()
        if node.busy:
            steps += chain.from_iterable(node.poll_until_quiet())
        peer.floor = floor
        ships: list[tuple[Ship, int]] = []
        works: list[Deferred] = []
        recorder, is_root = self._world.recorder, peer.number in self._rounds.roots
        if self._digest:
            peer.chain.add(when, steps)
        for step in steps:
            kind = type(step)
            if kind is Ship:
                ships.append((cast("Ship", step), peer.round))
                continue
            if kind is Deferred:
                works.append(cast("Deferred", step))
                continue
            recorder.step(peer.round, step)
            if kind is FrameEnded or kind is BlockEnded:
                if kind is FrameEnded and (is_root or cast("FrameEnded", step).how == "failed"):
                    self._note_end(peer, cast("FrameEnded", step), letter, is_root=is_root)
                if is_root:
                    self._rounds.note(peer, when, cast("FrameEnded | BlockEnded", step))
            elif kind is Dropped:
                charged = None if charged is None else False
            elif isinstance(step, Readable):
                if peer.readable is None:
                    peer.readable = deque()
                peer.readable.append((when, self._world.population.numbers[step.peer]))
        if charged is None:
            charged = bool(ships)
        self._pay(peer, when, works, ships, floor, charged=charged)
        self._plan_wake(peer)
        if self._keeping and peer.number in self._keeping:
            self._lives.keep(peer, when, self._keeping[peer.number])
        if steps and type(steps[-1]) is Closed:
            self._lives.stop(peer.number, when)

    def _pay(
        self, peer: Peer, when: int, works: list[Deferred], ships: list[tuple[Ship, int]],
        floor: int, *, charged: bool,
    ) -> None:  # fmt: skip
        """Let time pass for what was done, then give out what is to be sent."""
        departs, paces = when, self._world.paces
        if charged and not works:
            always = peer.always
            departs += (
                paces.takes(peer.number, peer.worked, slow=peer.slow) if always < 0 else always
            )
            peer.worked += 1
            peer.busy = max(peer.busy, departs)
            if peer.number not in self._rounds.roots:
                self._world.recorder.worked(peer.number, peer.round, when, departs)
        for work in works:
            takes = paces.takes(peer.number, peer.worked, slow=peer.slow)
            peer.worked += 1
            if peer.number not in self._rounds.roots:
                self._world.recorder.worked(peer.number, peer.round, when, when + takes)
            if peer.works is None:
                peer.works = []
            heapq.heappush(peer.works, (when + takes, peer.worked, work))
            self._world.events.push(when + takes, LOCAL, peer.number)
        floor = max(floor, departs)
        for ship, number in ships:
            self._mail.give_out(peer, ship, departs, number, floor)

    def _plan_wake(self, peer: Peer) -> None:
        events, wake = self._world.events, peer.note_due()
        if wake < NEVER and (peer.wake < events.now_ns or wake < peer.wake):
            peer.wake = wake
            events.push(wake, LOCAL, peer.number)

    def _note_end(
        self, peer: Peer, step: FrameEnded, letter: Letter | None, *, is_root: bool
    ) -> None:
        """Count the end of a frame that an envelope opened: regions have the names of edges."""
        how, known = step.how, self._answers.get(step.region) if is_root else None
        if letter is not None and how == "failed" and letter.edge == step.region:
            self._world.recorder.failed_on(peer.round, letter.source)
        if known is None or how not in {"done", "failed"}:
            return
        # Peers that are invoked have rounds of their own: theirs is not that of the question.
        alike = letter is None or letter.source in self._rounds.roots
        number = peer.round if alike else cast("Letter", letter).round
        if how == "failed":
            self._world.recorder.rejected(number)
            return
        edge, answering = known
        source = -1 if letter is None else letter.source
        self._world.recorder.answered(number, edge, answering, peer.number, source)


def _answers(artifact: Artifact) -> dict[str, tuple[Edge, int]]:
    """Return the edges on which answers come, and how many there are for the same question."""
    edges = [edge for edge in artifact.edges.values() if edge.parent]
    return {
        edge.name: (edge, sum(other.answers == edge.answers for other in edges)) for edge in edges
    }


def _receivers(world: World) -> tuple[tuple[int, ...] | None, ...]:
    """Return to whom each class can send, where these are few, else `None`."""
    found: list[tuple[int, ...] | None] = []
    population = world.population
    for cls in population.classes:
        edges = world.artifact.edges.values()
        classes = {e.target_class for e in edges if e.source_class == cls}
        classes |= {e.source_class for e in edges if e.target_class == cls}
        members = [n for one in sorted(classes) for n in population.members(one)]
        found.append(tuple(members) if len(members) <= _FEW else None)
    return tuple(found)


def deliver(node: Node, envelope: Built, source: PeerId) -> Refuse | Later | None:
    """Hand the bytes of an envelope to a Node as a network would; `None` when it was taken."""
    head = memoryview(envelope.head)
    answer = node.offer(head[:PRELUDE_SIZE], head[PRELUDE_SIZE:], source)
    if not isinstance(answer, Lease):
        return answer
    if answer.buffer.nbytes != envelope.payload_length:
        node.abandon(answer)  # the rest of it never comes
        return Refuse("abandoned", 0, close=True)
    envelope.write_into(answer.buffer)
    node.receive(answer)
    return None
