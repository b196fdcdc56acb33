"""A few Nodes in one process, for examples and tests.

Every envelope is encoded, offered, copied into the receiver's buffer and decoded, as a network
would do it. Delivery is depth first: what an envelope causes happens before the next one is
delivered, so a reply is folded as soon as it exists and memory does not grow with the cohort.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from bb_ir.ids import PeerId
from bb_ir.wire import PRELUDE_SIZE
from bb_runtime._admission import Refuse
from bb_runtime.errors import DeliveryError
from bb_runtime.node import Node
from bb_runtime.steps import Ship, Step

__all__ = ["Event", "LocalBus"]


class Event(NamedTuple):
    """A step, and the Node that reported it."""

    peer: PeerId
    step: Step


class LocalBus:
    """Carries envelopes between Nodes of one process.

    Nodes that join are authorized to each other in the classes in which they send.
    """

    def __init__(self, *nodes: Node) -> None:
        self._nodes: dict[PeerId, Node] = {}
        self._members: dict[str, list[PeerId]] = {}
        #: Classes that may send to a Node unasked; only those need to be known to it.
        self._sources: dict[PeerId, tuple[str, ...]] = {}
        for node in nodes:
            self.add(node)

    def add(self, node: Node) -> None:
        """Let a Node join.

        Raises:
            DeliveryError: A Node of the same peer is here already.
        """
        if node.peer in self._nodes:
            raise DeliveryError(
                f"peer {node.peer} is on the bus already", fix="give each Node its own PeerId"
            )
        self._nodes[node.peer] = node
        self._sources[node.peer] = node.sources
        for peer_class in node.classes:
            self._members.setdefault(peer_class, []).append(node.peer)
            for peer, sources in self._sources.items():
                if peer_class in sources:
                    self._nodes[peer].authorize(node.peer, peer_class)
        for peer_class in node.sources:
            for peer in self._members.get(peer_class, ()):
                node.authorize(peer, peer_class)

    def remove(self, peer: PeerId) -> None:
        """Take a Node off the bus; envelopes to it are undeliverable from now on."""
        self._nodes.pop(peer, None)
        self._sources.pop(peer, None)
        for members in self._members.values():
            if peer in members:
                members.remove(peer)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The Nodes, in the order in which they joined."""
        return tuple(self._nodes.values())

    def run(self, *, time: bool = True) -> list[Event]:
        """Carry envelopes until all Nodes are quiet.

        Args:
            time: Whether to move the clocks to the next deadline when everybody waits.

        Returns:
            What the Nodes reported, without the envelopes.
        """
        return list(self.events(time=time))

    def events(self, *, time: bool = True) -> Iterator[Event]:
        """Do what `run` does, giving each event as it happens."""
        while True:
            for node in self.nodes:
                yield from self._settle(node)
            if not (time and self._advance()):
                return

    def _settle(self, node: Node) -> Iterator[Event]:
        """Poll a Node, and carry what it ships with all that follows."""
        stack: list[tuple[Node, Ship]] = []
        yield from self._poll(node, stack)
        while stack:
            sender, ship = stack.pop()
            receiver = self._nodes.get(ship.to)
            if receiver is None:
                sender.send_failed(ship)
                yield from self._poll(sender, stack)
                continue
            self._deliver(sender.peer, receiver, ship)
            yield from self._poll(receiver, stack)

    @staticmethod
    def _poll(node: Node, stack: list[tuple[Node, Ship]]) -> Iterator[Event]:
        steps = node.poll()
        if not steps:
            return
        stack.extend([(node, step) for step in reversed(steps) if isinstance(step, Ship)])
        for step in steps:
            if not isinstance(step, Ship):
                yield Event(node.peer, step)

    @staticmethod
    def _deliver(source: PeerId, receiver: Node, ship: Ship) -> None:
        envelope = ship.envelope
        head = memoryview(envelope.head)
        answer = receiver.offer(head[:PRELUDE_SIZE], head[PRELUDE_SIZE:], source)
        if isinstance(answer, Refuse):
            return
        envelope.write_into(answer.buffer)
        receiver.receive(answer)

    def _advance(self) -> bool:
        """Move all clocks to the earliest wakeup; returns false when nobody waits for time."""
        wakeups = [when for node in self.nodes if (when := node.next_wakeup()) is not None]
        if not wakeups:
            return False
        for node in self.nodes:
            node.advance(max(min(wakeups), node.now_ns))
        return True
