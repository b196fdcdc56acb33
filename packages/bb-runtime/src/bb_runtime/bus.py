"""A few Nodes in one process, for examples and tests.

Every envelope is encoded, offered, copied into the receiver's buffer and decoded, as a network
would do it. Delivery is depth first: what an envelope causes happens before the next one is
delivered, so a reply is folded as soon as it exists and memory does not grow with the cohort.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import partial
from itertools import chain
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

from bb_ir.durations import parse_duration
from bb_ir.ids import PeerId
from bb_ir.wire import PRELUDE_SIZE
from bb_runtime._admission import Later, Refuse
from bb_runtime._endless import MOST_OPS
from bb_runtime._stored_bus import Carried, read_bus, write_bus
from bb_runtime.errors import DeliveryError
from bb_runtime.exchanges import MOST_ENVELOPES, Exchanges, note_ship
from bb_runtime.node import Node
from bb_runtime.steps import Closed, Deferred, Readable, Ship, Step

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

__all__ = ["Event", "LocalBus"]

_FIX = "have them wait with g.sleep, end it by a condition, or allow more (LocalBus.max_envelopes)"


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
        max_ops: So many ops of a Node in a row, without coming to rest, are taken for a loop
            without end: while a Node runs, no time passes here.
        max_envelopes: So many envelopes in one run, while no time passes, are taken for Nodes
            that wake each other without end.

    Attributes:
        max_ops: The same; it can be set at any time.
    """

    def __init__(
        self,
        *nodes: Node,
        executor: Executor | None = None,
        max_ops: int = MOST_OPS,
        max_envelopes: int = MOST_ENVELOPES,
    ) -> None:
        self._executor = executor
        self.max_ops = max_ops
        self._exchanges = Exchanges(max_envelopes, _FIX)
        self._works: list[Future[None]] = []
        self._nodes: dict[PeerId, Node] = {}
        #: Envelopes that are to come later, by who takes and who sends them.
        self._kept: dict[tuple[PeerId, PeerId], list[tuple[Node, Ship]]] = {}
        #: Envelopes on their way; the last one is delivered next.
        self._stack: list[tuple[Node, Ship]] = []
        #: What was polled and nobody was given yet, and work that nobody has done.
        self._told: deque[tuple[Node, Step]] = deque()
        self._members: dict[str, list[PeerId]] = {}
        #: Classes that may send to a Node unasked; only those need to be known to it.
        self._sources: dict[PeerId, tuple[str, ...]] = {}
        #: Peers whose Nodes closed: the others take them for gone.
        self._closed: set[PeerId] = set()
        for node in nodes:
            self.add(node)

    def add(self, node: Node) -> None:
        """Let a Node join.

        Raises:
            DeliveryError: A Node of the same peer is here already.
        """
        before = self._nodes.get(node.peer)
        if before is not None and before.closed:
            self._let_go(node.peer)
        elif before is not None:
            raise DeliveryError(
                f"peer {node.peer} is on the bus already", fix="give each Node its own PeerId"
            )
        if node.peer in self._closed:
            self._closed.discard(node.peer)
            for other in self.nodes:
                if not other.closed:
                    other.add_peer(node.peer, [])
        self._nodes[node.peer] = node
        self._sources[node.peer] = node.sources
        for peer_class in node.classes:
            self._members.setdefault(peer_class, []).append(node.peer)
            for peer, sources in self._sources.items():
                if peer_class in sources and not self._nodes[peer].closed:
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

    def _let_go(self, peer: PeerId) -> None:
        """Take a Node off the bus that has closed."""
        self._closed.add(peer)
        self.remove(peer)

    @property
    def max_envelopes(self) -> int:
        """How many envelopes may be carried while no time passes; it can be set at any time."""
        return self._exchanges.most

    @max_envelopes.setter
    def max_envelopes(self, most: int) -> None:
        self._exchanges.most = most

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

        Raises:
            EndlessLoop: A Node ran `max_ops` ops and was still not at rest.
            EndlessExchange: `max_envelopes` were carried, and there are more.
        """
        return list(self.events(time=time))

    def events(self, *, time: bool = True) -> Iterator[Event]:
        """Do what `run` does, giving each event as it happens."""
        self._exchanges.rest()
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

        Raises:
            EndlessLoop: As of `run`.
        """
        self._exchanges.rest()
        events = list(self._settle_all())
        end = max((node.now_ns for node in self.nodes), default=0) + parse_duration(duration)
        while self._advance(end):
            events += self._settle_all()
        return events

    def snapshot(self, note: Any = None) -> bytes:
        """Return all Nodes, and whatever is on its way between them; nothing is changed.

        It can be taken between two events, too: who goes on with it is given the rest.

        Args:
            note: Plain data of the host's own that is to be kept with it.

        Raises:
            SnapshotError: A Node cannot be written down now, or the note.
        """
        carried = Carried(self._stack, self._kept, list(self._told), note)
        return write_bus(self._nodes, carried)

    def restore(self, data: bytes | memoryview) -> Any:
        """Make this bus and all its Nodes what a snapshot says, and forget what they were.

        The Nodes have to be installed as those that were saved, and be on the bus. All of them go
        on from one step, so that none remembers what another has forgotten.

        Args:
            data: What `snapshot` returned.

        Returns:
            The note that was kept with it.

        Raises:
            SnapshotError: It is damaged, newer, of other Nodes or of another program, or a Node
                is busy. Nothing was changed.
        """
        carried = read_bus(self._nodes, data)
        # In place: a run that has not been gone through to its end knows them.
        for held in (self._stack, self._kept, self._told):
            held.clear()
        self._stack.extend(carried.stack)
        self._kept.update(carried.kept)
        self._told.extend(carried.told)
        return carried.note

    def _settle_all(self) -> Iterator[Event]:
        while True:
            # What is left of a run that was not gone through to its end.
            yield from self._tell()
            yield from self._carry()
            for node in self.nodes:
                yield from self._poll(node)
                yield from self._carry()
            if not self._works:
                return
            # Nobody tells `wait` of work that an executor cancelled when it was shut down.
            done = {work for work in self._works if work.done()} or _first_done(self._works)
            self._works = [work for work in self._works if work not in done]
            for work in done:
                _check_done(work)

    def _wait_for_devices(self) -> None:
        """Sleep until something has come in: clocks do not move while somebody works."""
        came: SimpleQueue[None] = SimpleQueue()
        for node in self.nodes:
            node.inbox.arm(partial(came.put, None))
        came.get()

    def _carry(self) -> Iterator[Event]:
        """Carry what is on its way, with all that follows."""
        stack, one_more = self._stack, self._exchanges.one_more
        while stack:
            if one_more():
                note_ship(self._exchanges, *stack[-1])
            sender, ship = stack.pop()
            receiver = self._nodes.get(ship.to)
            if receiver is None:
                sender.send_failed(ship)
                yield from self._poll(sender)
                continue
            source = sender.peer
            kept = self._kept and (ship.to, source) in self._kept
            if kept or not self._deliver(source, receiver, ship):
                self._kept.setdefault((ship.to, source), []).append((sender, ship))
            elif sender.sent(ship):
                yield from self._poll(sender)
            yield from self._poll(receiver)

    def _poll(self, node: Node) -> Iterator[Event]:
        stack = self._stack
        for steps in node.poll_until_quiet(self.max_ops):
            stack.extend([(node, step) for step in reversed(steps) if isinstance(step, Ship)])
            for step in steps if self._kept else ():
                if isinstance(step, Readable):
                    stack.extend(reversed(self._kept.pop((node.peer, step.peer), [])))
            works = [step for step in steps if isinstance(step, Deferred)]
            told = (step for step in steps if not isinstance(step, (Ship, Deferred, Readable)))
            self._told.extend((node, step) for step in chain(told, works))
            yield from self._tell()

    def _tell(self) -> Iterator[Event]:
        """Give what was polled, and do the work that was asked for."""
        while self._told:
            node, step = self._told.popleft()
            if isinstance(step, Deferred):
                self._do(step)
                continue
            if isinstance(step, Closed):
                self._let_go(node.peer)
            yield Event(node.peer, step)

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
        self._exchanges.rest()
        return True


def _first_done(works: list[Future[None]]) -> set[Future[None]]:
    # Whoever has works has an executor, and has imported this already; it brings logging.
    from concurrent.futures import FIRST_COMPLETED, wait

    return wait(works, return_when=FIRST_COMPLETED).done


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
