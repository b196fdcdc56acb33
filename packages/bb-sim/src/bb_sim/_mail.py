"""Envelopes on their way: what liars, links and stopped peers make of them."""

from __future__ import annotations

from bb_ir.wire import DEFAULT_LIMITS, PRELUDE_SIZE, Built, read_prelude
from bb_runtime import Referred, Ship
from bb_runtime.artifact import Edge
from bb_sim._events import ARRIVE
from bb_sim._lives import Lives
from bb_sim._peer import Letter, Lost, Peer, edge_id
from bb_sim._rounds import Rounds
from bb_sim._world import World

__all__ = ["Mail"]


def _again(envelope: Referred | Built) -> bool:
    """Whether an envelope was sent before."""
    if type(envelope) is Referred:
        return envelope.read().retry
    return read_prelude(memoryview(envelope.head)[:PRELUDE_SIZE], DEFAULT_LIMITS).retry


class Mail:
    """Carries what Nodes want sent."""

    def __init__(self, world: World, lives: Lives, rounds: Rounds) -> None:
        self._world = world
        self._lives = lives
        self._rounds = rounds
        edges = world.artifact.edges.values()
        #: Edges that are questions.
        self._questions = {one.answers for one in edges}

    def give_out(self, peer: Peer, ship: Ship, departs: int, number: int, floor: int) -> None:
        """Carry an envelope into the world, or what a liar makes of it.

        Args:
            peer: The sender.
            ship: Its step.
            departs: When it leaves the peer.
            number: The round that caused it.
            floor: Before when it cannot arrive.
        """
        world, envelope = self._world, ship.envelope
        recorder = world.recorder
        to = world.population.numbers.get(ship.to, -1)
        edge = envelope.edge if type(envelope) is Referred else self._edge_of(envelope.head)
        name = "" if edge is None else edge.name
        if edge is not None and peer.number in self._rounds.roots:
            one = recorder.round(number)
            if one.started_ns < 0:
                one.started_ns = departs
            if name in self._questions and not (edge.retries and _again(envelope)):
                one.asked += 1
        if peer.deceit is None:
            size = envelope.head_length + envelope.payload_length
            recorder.sent(number, name, size)
            letter = Letter(peer.number, peer.life, departs, number, name, envelope, ship)
            self._carry(peer, to, letter, floor, size)
            return
        for lie in peer.deceit.twist(envelope, edge):
            size = lie.head_length + lie.payload_length
            recorder.sent(number, name, size)
            letter = Letter(peer.number, peer.life, departs, number, name, lie, ship)
            self._carry(peer, to, letter, floor, size)

    def undeliverable(self, number: int, when: int, letter: Letter) -> None:
        """Note that nobody is there, and tell the sender after the way back."""
        world = self._world
        world.recorder.lost(letter.round, "nobody_there")
        if not world.scenario.tell_lost or self._lives.is_gone(letter):
            return
        back = when + world.links.between(number, letter.source).latency
        word = Lost(letter.ship, letter.round, letter.life)
        world.events.push(back, ARRIVE, letter.source, -2, letter.ship.message_id, number, word)

    def _edge_of(self, head: bytes) -> Edge | None:
        return self._world.artifact.edges_by_id.get(edge_id(head))

    def _carry(self, peer: Peer, to: int, letter: Letter, floor: int, size: int) -> None:
        """Ask the link what becomes of an envelope, and have it arrive when it does."""
        world, source = self._world, peer.number
        if to < 0:
            self.undeliverable(source, floor, letter)
            return
        count = peer.sent.get(to, 0)
        peer.sent[to] = count + 1
        table = world.table
        if table.cuts and table.is_cut(source, to, letter.departs):
            world.recorder.lost(letter.round, "partition")
            return
        wire = world.links.between(source, to)
        delays = wire.always or world.links.delays(source, to, count)
        if not delays:
            world.recorder.lost(letter.round, "link")
            return
        leaves = letter.departs
        if wire.bandwidth:  # others may hold the link
            if peer.free is None:
                peer.free = {}
            start = max(leaves, peer.free.get(to, 0))
            leaves = peer.free[to] = start + size * 10**9 // wire.bandwidth
        for copy, delay in enumerate(delays):
            when = leaves + delay
            world.events.push(max(floor, when), ARRIVE, to, source, count, copy, letter)
