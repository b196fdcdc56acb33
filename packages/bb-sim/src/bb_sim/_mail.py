"""Envelopes on their way: what liars, links and stopped peers make of them."""

from __future__ import annotations

from bb_ir.wire import Built
from bb_runtime import Referred, Ship
from bb_runtime.artifact import Edge
from bb_sim._events import ARRIVE
from bb_sim._lives import Lives
from bb_sim._peer import Letter, Lost, Peer, edge_id
from bb_sim._rounds import Rounds
from bb_sim._world import World

__all__ = ["Mail"]


class Mail:
    """Carries what Nodes want sent."""

    def __init__(self, world: World, lives: Lives, rounds: Rounds) -> None:
        self._world = world
        self._lives = lives
        self._rounds = rounds

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
        edge = self._edge_of(envelope)
        name = "" if edge is None else edge.name
        if edge is not None and peer.number in self._rounds.roots:
            recorder.started(number, departs)
            recorder.round(number).asked += edge.answered
        if peer.deceit is None:
            recorder.sent(number, name, envelope.head_length + envelope.payload_length)
            letter = Letter(peer.number, peer.life, departs, number, name, envelope, ship)
            self._carry(peer, to, letter, floor)
            return
        for lie in peer.deceit.twist(envelope, edge):
            recorder.sent(number, name, lie.head_length + lie.payload_length)
            letter = Letter(peer.number, peer.life, departs, number, name, lie, ship)
            self._carry(peer, to, letter, floor)

    def undeliverable(self, number: int, when: int, letter: Letter) -> None:
        """Note that nobody is there, and tell the sender after the way back."""
        world = self._world
        world.recorder.lost(letter.round, "nobody_there")
        if not world.scenario.tell_lost or self._lives.is_gone(letter):
            return
        back = when + world.links.between(number, letter.source).latency
        word = Lost(letter.ship, letter.round, letter.life)
        world.events.push(back, ARRIVE, letter.source, -2, letter.ship.message_id, number, word)

    def _edge_of(self, envelope: Built | Referred) -> Edge | None:
        if isinstance(envelope, Referred):
            return envelope.edge
        return self._world.artifact.edges_by_id.get(edge_id(envelope.head))

    def _carry(self, peer: Peer, to: int, letter: Letter, floor: int) -> None:
        """Ask the link what becomes of an envelope, and have it arrive when it does."""
        world, source = self._world, peer.number
        if to < 0:
            self.undeliverable(source, floor, letter)
            return
        count = peer.sent.get(to, 0)
        peer.sent[to] = count + 1
        if world.table.is_cut(source, to, letter.departs):
            world.recorder.lost(letter.round, "partition")
            return
        delays = world.links.delays(source, to, count)
        if not delays:
            world.recorder.lost(letter.round, "link")
            return
        leaves = self._leaves(peer, to, letter)
        for copy, delay in enumerate(delays):
            when = max(floor, leaves + delay)
            world.events.push(when, ARRIVE, to, source, count, copy, letter)

    def _leaves(self, peer: Peer, to: int, letter: Letter) -> int:
        """Return when an envelope has left through a link that others may hold."""
        bandwidth = self._world.links.between(peer.number, to).bandwidth
        if not bandwidth:
            return letter.departs
        size = letter.envelope.head_length + letter.envelope.payload_length
        start = max(letter.departs, peer.free.get(to, 0))
        peer.free[to] = start + size * 10**9 // bandwidth
        return peer.free[to]
