"""A few Nodes in one process, for examples and tests.

Every envelope is encoded, offered, copied into the receiver's buffer and decoded, as a network
would do it. Delivery is depth first: what an envelope causes happens before the next one is
delivered, so a reply is folded as soon as it exists and memory does not grow with the cohort.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from functools import partial
from queue import SimpleQueue
from typing import NamedTuple

from bb_ir.durations import parse_duration
from bb_ir.ids import PeerId
from bb_ir.wire import PRELUDE_SIZE
from bb_runtime._admission import Later, Refuse
from bb_runtime.errors import DeliveryError
from bb_runtime.node import Node
from bb_runtime.steps import Deferred, Readable, Ship, Step

__all__ = ["Event", "LocalBus"]


class Event(NamedTuple):
    """A step, and the Node that reported it."""

    peer: PeerId
    step: Step


class LocalBus:
    """Carries envelopes between Nodes of one process.

    Nodes that join are authorized to each other in the classes in which they send.

    Args:
        nodes: The Nodes.
        executor: Where components' deferred work is done; in this thread, at once, when `None`.
    """

    def __init__(self, *nodes: Node, executor: Executor | None = None) -> None:
        self._executor = executor
        self._works: list[Future[None]] = []
        self._nodes: dict[PeerId, Node] = {}
        #: Envelopes that are to come later, by who takes and who sends them.
        self._kept: dict[tuple[PeerId, PeerId], list[tuple[Node, Ship]]] = {}
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
        for way in [way for way in self._kept if way[0] == peer]:
            for sender, ship in self._kept.pop(way):
                sender.send_failed(ship)
        self._sources.pop(peer, None)
        for members in self._members.values():
            if peer in members:
                members.remove(peer)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The Nodes, in the order in which they joined."""
        return tuple(self._nodes.values())

    def run(self, *, time: bool = True) -> list[Event]:
        """Carry envelopes until all Nodes are quiet: until no frame runs or waits.

        Ticks of `every` blocks and what their frames wait for keep nobody awake; `advance` lets
        time pass for them.

        Args:
            time: Whether to go on when everybody waits: until a device has called back, else with
                the clocks at the next instant.

        Returns:
            What the Nodes reported, without the envelopes.
        """
        return list(self.events(time=time))

    def events(self, *, time: bool = True) -> Iterator[Event]:
        """Do what `run` does, giving each event as it happens."""
        while True:
            yield from self._settle_all()
            if time and any(node.deferring for node in self.nodes):
                self._wait_for_devices()
                continue
            if not (time and any(node.waiting for node in self.nodes) and self._advance()):
                return

    def advance(self, duration: str) -> list[Event]:
        """Let time pass, such as `"30s"`, and carry what happens meanwhile.

        Returns:
            What the Nodes reported, without the envelopes.
        """
        events = list(self._settle_all())
        end = max((node.now_ns for node in self.nodes), default=0) + parse_duration(duration)
        while self._advance(end):
            events += self._settle_all()
        return events

    def _settle_all(self) -> Iterator[Event]:
        while True:
            for node in self.nodes:
                yield from self._settle(node)
            if not self._works:
                return
            # Nobody tells `wait` of work that an executor cancelled when it was shut down.
            done = {work for work in self._works if work.done()}
            done = done or wait(self._works, return_when=FIRST_COMPLETED).done
            self._works = [work for work in self._works if work not in done]
            for work in done:
                _check_done(work)

    def _wait_for_devices(self) -> None:
        """Sleep until something has come in: clocks do not move while somebody works."""
        came: SimpleQueue[None] = SimpleQueue()
        for node in self.nodes:
            node.inbox.arm(partial(came.put, None))
        came.get()

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
            source = sender.peer
            kept = self._kept and (ship.to, source) in self._kept
            if kept or not self._deliver(source, receiver, ship):
                self._kept.setdefault((ship.to, source), []).append((sender, ship))
            elif sender.sent(ship):
                yield from self._poll(sender, stack)
            yield from self._poll(receiver, stack)

    def _poll(self, node: Node, stack: list[tuple[Node, Ship]]) -> Iterator[Event]:
        steps = node.poll()
        while steps:
            stack.extend([(node, step) for step in reversed(steps) if isinstance(step, Ship)])
            for step in steps if self._kept else ():
                if isinstance(step, Readable):
                    stack.extend(reversed(self._kept.pop((node.peer, step.peer), [])))
            works = [step for step in steps if isinstance(step, Deferred)]
            for step in steps:
                if not isinstance(step, (Ship, Deferred, Readable)):
                    yield Event(node.peer, step)
            for work in works:
                self._do(work)
            steps = node.poll() if works else []

    def _do(self, work: Deferred) -> None:
        if self._executor is None:
            work.run()
        else:
            self._works.append(self._executor.submit(work.run))

    @staticmethod
    def _deliver(source: PeerId, receiver: Node, ship: Ship) -> bool:
        """Hand an envelope over; returns false when it is to come later."""
        envelope = ship.envelope
        head = memoryview(envelope.head)
        answer = receiver.offer(head[:PRELUDE_SIZE], head[PRELUDE_SIZE:], source)
        if isinstance(answer, Refuse):
            return True
        if isinstance(answer, Later):
            return False
        envelope.write_into(answer.buffer)
        receiver.receive(answer)
        return True

    def _advance(self, end: int | None = None) -> bool:
        """Move all clocks to the earliest wakeup; returns false when there is none until `end`."""
        wakeups = [when for node in self.nodes if (when := node.next_wakeup()) is not None]
        when = min(wakeups, default=None)
        if when is None or (end is not None and when > end):
            for node in self.nodes if end is not None else ():
                node.advance(max(end or 0, node.now_ns))
            return False
        for node in self.nodes:
            node.advance(max(when, node.now_ns))
        return True


def _check_done(work: Future[None]) -> None:
    """Check that an executor did what it was given: failures of the work itself are the frame's.

    Raises:
        DeliveryError: It did not.
    """
    why = "it was cancelled" if work.cancelled() else work.exception()
    if why is not None:
        raise DeliveryError(
            f"the executor did not do a component's work: {why}",
            expected="an executor of threads in this process that is open",
            fix="give LocalBus a ThreadPoolExecutor, and shut it down afterwards",
        )
