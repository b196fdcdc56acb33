"""The Node: what a host drives. No I/O, no threads, no clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bb_ir.address import Address
from bb_ir.durations import parse_duration
from bb_ir.errors import did_you_mean
from bb_ir.ids import PeerId
from bb_ir.wire import PRELUDE_SIZE
from bb_roles.contracts import Component
from bb_runtime._admission import Admission, Later, Lease, Refuse
from bb_runtime._ending import Ending
from bb_runtime._endless import MOST_OPS, endless_loop
from bb_runtime._engine import Engine
from bb_runtime._node_peers import PeersOfNode
from bb_runtime._restore import read
from bb_runtime._snapshot import Parts, write
from bb_runtime._typecheck import check_inputs
from bb_runtime.artifact import Target
from bb_runtime.errors import DeliveryError, InvalidInput
from bb_runtime.inbox import Inbox
from bb_runtime.metrics import Metric
from bb_runtime.references import Referred
from bb_runtime.steps import FrameId, Ship, Step

__all__ = ["Node"]


class Node(PeersOfNode):
    """One running peer. Made by `install`.

    A host calls `invoke` and hands in envelopes and time; `poll` gives back what happened. All
    calls come from one thread.
    """

    def __init__(
        self,
        engine: Engine,
        targets: Sequence[Target],
        components: Mapping[tuple[str, str], Component],
        addresses: tuple[Address, ...],
    ) -> None:
        self._engine = engine
        self._targets = tuple(targets)
        self._components = components
        self._admission = Admission(engine)
        self.addresses = addresses

    def __repr__(self) -> str:
        names = ", ".join(target.short for target in self._targets)
        return f"<Node {self.peer} of {names}>"

    @property
    def classes(self) -> tuple[str, ...]:
        """Peer classes it runs."""
        return tuple(dict.fromkeys(target.cls for target in self._targets))

    @property
    def sources(self) -> tuple[str, ...]:
        """Peer classes that may send to it unasked, once `authorize` says who they are."""
        engine = self._engine
        edges = (e for e in engine.artifact.edges.values() if e.name in engine.regions)
        return tuple(dict.fromkeys(edge.source_class for edge in edges if not edge.parent))

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of its targets, as `invoke` takes them."""
        return tuple(target.short for target in self._targets)

    @property
    def counters(self) -> dict[str, int]:
        """How often something was refused or dropped, by reason."""
        return dict(self._engine.counters)

    def metrics(self) -> tuple[Metric, ...]:
        """Return the numbers of this Node: those of its program, then those of its own work.

        What begins with `bb_` is the Node's own: frames that ended (by target, region and end),
        envelopes and their bytes (by edge and direction), what was dropped (by reason), and how
        much is under way now. All others are what `g.metric` recorded.
        """
        metrics = self._engine.metrics
        return (*metrics.of_program(), *metrics.of_node(self._engine))

    @property
    def live_frames(self) -> int:
        """Frames that run or wait for messages."""
        return len(self._engine.frames)

    def component(self, slot: str, *, target: str = "") -> Component:
        """Return the component of a slot, for inspection.

        Raises:
            InvalidInput: No installed target has the slot.
        """
        for (name, filled), component in self._components.items():
            if filled == slot and target in ("", name, name.partition("#")[0]):
                return component
        slots = sorted({filled for _, filled in self._components})
        raise InvalidInput(
            f"no slot {slot!r} here",
            expected=f"one of {', '.join(slots)}",
            fix=did_you_mean(slot, slots),
        )

    # Work

    def run_bootstrap(self) -> list[FrameId]:
        """Start the bootstraps of the installed targets; other frames wait until they ended.

        Raises:
            InvalidInput: A bootstrap declares inputs; start it with `invoke`.
            NodeClosed: The Node was told to close.
        """
        self._check_open()
        return [
            self.invoke(target.short)
            for target in self._targets
            if target.phase == "bootstrap" and target.short in self._engine.mains
        ]

    def invoke(self, target: str, inputs: Mapping[str, Any] | None = None) -> FrameId:
        """Start a frame of a target's body.

        Raises:
            InvalidInput: There is no such target here, or the inputs are not those it declares.
            NodeBroken: Something that is no `Exception` passed through the Node before.
            NodeClosed: The Node was told to close.
        """
        self._check_open()
        engine = self._engine
        mains = engine.mains
        bound = mains.get(target) or mains.get(
            next((one.short for one in self._targets if one.name == target), "")
        )
        if bound is None:
            raise InvalidInput(
                f"target {target!r} cannot be invoked on this Node",
                expected=f"one of {', '.join(mains) or 'none'}",
                fix=did_you_mean(target, mains)
                or "targets of other classes start when an envelope arrives",
            )
        found = bound.program.target
        given = dict(inputs or {})
        check_inputs(found, given, engine.post.codecs)
        return engine.invoke(found.short, given)

    def publish(self, topic: str, value: Any = None) -> int:
        """Hand an event to the `g.on(topic)` blocks that have started on this Node.

        Returns:
            How many blocks listen to the topic.

        Raises:
            InvalidInput: The event is not of the type that a block declares.
            NodeBroken: Something that is no `Exception` passed through the Node before.
            NodeClosed: The Node was told to close.
        """
        self._check_open()
        engine = self._engine
        count = engine.controllers.publish(topic, value)
        engine.tidy()
        return count

    @property
    def inbox(self) -> Inbox:
        """Where completions of deferred work come in; the one part that any thread may use."""
        return self._engine.inbox

    @property
    def waiting(self) -> bool:
        """Whether a frame runs, waits for something, or stands in line.

        Frames of ticks do not count, nor do their children: there is always a next one.
        """
        return self._engine.waiting

    @property
    def deferring(self) -> bool:
        """Whether a frame waits for deferred work, or for a device that will call back."""
        return any(frame.works for frame in self._engine.frames.values())

    def poll(self, max_ops: int | None = None) -> list[Step]:
        """Work until quiet, or until the budget is spent; `[]` means quiet, unless it is `busy`.

        A poll always returns: what a program still finds to do then is for the next one.

        Args:
            max_ops: The budget; `Options.max_ops_per_poll` when `None`. A stretch of ops between
                two waits is never cut in two.

        Raises:
            NodeBroken: Something that is no `Exception` passed through the Node before.
        """
        engine, ending = self._engine, self._engine.ending
        if engine.broken:
            self._check_sound()
        if engine.inbox.items:
            if self.closed:
                engine.inbox.drain()  # nobody wants it
            else:
                engine.works.drain()
        engine.run(engine.options.max_ops_per_poll if max_ops is None else max_ops)
        if ending is not None:
            ending.look()
        steps, engine.steps = engine.steps, []
        engine.handed = 0
        return steps

    def poll_until_quiet(self, max_ops: int = MOST_OPS) -> Iterator[list[Step]]:
        """Poll, and give what each poll reports, until nothing is left to do at this instant.

        Work that the caller does between two polls is taken in, too.

        Args:
            max_ops: So many ops in a row are taken for a loop without end.

        Raises:
            EndlessLoop: So many ops ran, and there are more.
            NodeBroken: Something that is no `Exception` passed through the Node before.
        """
        engine = self._engine
        before = engine.ops_run
        yield self.poll()
        while engine.busy or engine.inbox:
            if engine.ops_run - before >= max_ops:
                raise endless_loop(engine, engine.ops_run - before)
            yield self.poll()

    @property
    def busy(self) -> bool:
        """Whether there is more to do at this instant: poll again."""
        return self._engine.busy

    # Time

    def advance(self, now_ns: int) -> None:
        """Move the Node's clock, in nanoseconds; it never goes back.

        Raises:
            NodeBroken: Something that is no `Exception` passed through the Node before.
        """
        engine = self._engine
        if engine.broken:
            self._check_sound()
        engine.advance(now_ns)
        if self._admission.leases:
            self._admission.expire()
        if engine.now_ns >= engine.peers.sweep_ns:
            engine.peers.sweep()

    def next_wakeup(self) -> int | None:
        """Return the instant at which `advance` is needed next, or `None`.

        Ticks of `every` blocks count, also when no frame waits for anything. It is now when there
        is more to `poll`.
        """
        if self._engine.busy:
            return self._engine.now_ns
        due = self._engine.next_wakeup()
        if not self._admission.leases:
            return due
        lease = self._admission.next_expiry()
        if due is None or lease is None:
            return lease if due is None else due
        return min(due, lease)

    # Stopping and going on

    def pause(self) -> None:
        """Let no root frame and no deferred work begin, so that work in progress comes to an end.

        Envelopes are taken in all the same; frames that they open, those of ticks and those that
        are invoked wait in line, and may pass their deadlines there. `resume` lets them go on.

        Raises:
            NodeClosed: The Node was told to close.
        """
        self._check_open()
        self._engine.paused = True

    def resume(self) -> None:
        """Let go on what `pause` has held up.

        Raises:
            NodeClosed: The Node was told to close.
        """
        self._check_open()
        if self._engine.paused:
            self._engine.resume()

    def snapshot(self) -> bytes:
        """Return everything that decides what this Node does next; nothing is changed.

        Frames in flight, what they wait for, components, timers, counters and steps that were not
        polled are in it; configuration, options and addresses are not. It can be taken between any
        two calls. Of deferred work that is in progress it holds what the ops were given, and
        `restore` calls them again. Where that cannot be, `pause`, and poll until it has come back.

        A snapshot holds what the Node knows, private data included.

        Raises:
            NodeBroken: Something that is no `Exception` passed through the Node before.
            NodeBusy: Deferred work is in progress that cannot be begun again, a component is stuck,
                or an envelope is half received.
            NodeClosed: The Node has come to its end.
            NotStorable: A frame goes on with a value that means nothing in another process.
            SnapshotError: A component cannot save its state.
        """
        self._check_sound()
        self._check_there()
        return write(self._parts())

    def restore(self, data: bytes | memoryview, *, clean: bool = True) -> None:
        """Make this Node what a snapshot says, and forget what it was.

        It has to be installed as the one that was saved: artifact, targets, peer, seed, and
        components of the same classes. A Node whose clock was never moved takes over the clock
        of the snapshot; else what was left of each deadline and tick counts from its own time.

        Args:
            data: What `snapshot` returned.
            clean: Whether the saved Node did nothing after the snapshot. Then frames go on as if
                it had never stopped, under its incarnation. If not, as after a crash, nobody
                knows what they sent and received since: they end, each with a `FrameEnded` that
                says `interrupted`, and whoever waits for their answers hears of it. Components,
                `every` and `on` blocks return; a `rounds` block counts its rounds as failed.
                This takes an incarnation larger than the saved one.

        Raises:
            NodeBroken: Something that is no `Exception` passed through the Node before.
            NodeClosed: The Node was told to close.
            SnapshotError: It is damaged, of another Node or of a newer version, a component does
                not take its state, the incarnation is not larger, or the Node is busy. The Node
                is as it was before.
        """
        self._check_open()
        read(self._parts(), data, clean=clean)

    # Envelopes

    def offer(
        self, prelude: bytes | memoryview, header: bytes | memoryview, source: PeerId
    ) -> Lease | Refuse | Later:
        """Check an envelope by prelude and header, before its payload is read.

        Args:
            prelude: The first 32 bytes.
            header: The header, as long as the prelude says.
            source: The peer at the other end of the authenticated channel.

        Returns:
            A `Lease` with a buffer for the payload, to be filled and given to `receive`; or a
            `Refuse`, after which the host skips the payload; or a `Later`, after which it keeps
            the envelope, and reads nothing from that peer until a `Readable` step.
        """
        return self._admission.offer(prelude, header, source)

    def receive(self, lease: Lease) -> None:
        """Take in the envelope whose payload was read into a lease."""
        self._admission.receive(lease)

    def take(self, envelope: Referred, source: PeerId) -> Refuse | Later | None:
        """Take an envelope that a Node of this process ships by reference, or say why not.

        It is decided on like any other; what `offer` and `receive` do happens at once.

        Args:
            envelope: What a `Ship` of a Node carries that was installed with `by_reference=True`.
            source: That Node's peer.
        """
        return self._admission.take(envelope, source)

    def abandon(self, lease: Lease) -> None:
        """Give a lease back unfilled: the payload did not come."""
        self._admission.abandon(lease)

    def receive_bytes(self, data: bytes | memoryview, source: PeerId) -> Refuse | Later | None:
        """Take in one whole envelope; a convenience over `offer` and `receive`.

        Returns:
            `None` when it was taken.
        """
        view = memoryview(data).cast("B")
        length = int.from_bytes(view[8:12], "little")
        end = PRELUDE_SIZE + length
        answer = self.offer(view[:PRELUDE_SIZE], view[PRELUDE_SIZE:end], source)
        if isinstance(answer, (Refuse, Later)):
            return answer
        payload = view[end:]
        if payload.nbytes != answer.buffer.nbytes:
            self.abandon(answer)
            return Refuse("truncated", 0, close=True)
        answer.buffer[:] = payload
        self.receive(answer)
        return None

    def sent(self, ship: Ship, *, address: Address | str | None = None) -> bool:
        """Report that an envelope was sent, and that the host holds it no longer.

        Only a host that says so for every envelope, or `send_failed`, can be bounded in what it
        holds: `Options.max_unsent_bytes`.

        Args:
            ship: The envelope.
            address: Where its peer was reached; it counts for that address.

        Returns:
            Whether envelopes that waited go now: poll again.
        """
        engine = self._engine
        if address is not None:
            engine.addresses.worked(ship.to, _address(address))
        return bool(engine.options.max_unsent_bytes) and engine.post.sent(ship)

    def send_failed(self, ship: Ship, *, address: Address | str | None = None) -> None:
        """Report that an envelope could not be delivered.

        Args:
            ship: The envelope.
            address: Where its peer was not reached; it counts against that address.

        Raises:
            DeliveryError: The step is not one of this Node.
        """
        if not isinstance(ship, Ship):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers err
            raise DeliveryError(f"{ship!r} is not a Ship step")
        if address is not None:
            self._engine.addresses.failed(ship.to, _address(address))
        self._engine.post.failed(ship)

    def close(self, within: str = "") -> None:
        """Come to the end: at once, or as soon as what is in flight is done.

        Nothing new starts from now on: what waits in line is cancelled, blocks and bootstraps
        stop, envelopes that would open a root frame are refused. Frames in flight go on until the
        time is over, which `advance` tells; go on to poll. Then they are cancelled, peers are told
        (`Leaving`), components are closed, and `Closed` is the last step.

        Afterwards the Node takes nothing in: `invoke` and the like raise, envelopes are refused
        and counted, `poll` gives what is left and then `[]`. It does no harm to close again.

        Args:
            within: How long to wait, such as `"5s"`; not at all when empty.

        Raises:
            ValueError: `within` is no duration.
            Exception: What the first component raised that could not be closed, when there was
                nothing to wait for; the others are closed all the same.
        """
        engine = self._engine
        within_ns = parse_duration(within) if within else 0
        ending = engine.ending
        if ending is None:
            ending = engine.ending = Ending(self._parts())
            if not engine.broken:
                ending.begin()
        errors: list[Exception] = []
        if within_ns and not engine.broken:
            ending.give(within_ns)
            ending.look()
        else:
            errors = ending.finish()
        if errors:
            raise errors[0]

    # Inside

    def _parts(self) -> Parts:
        return Parts(self._engine, self._admission, self._targets, self._components)


def _address(given: Address | str) -> Address:
    return given if isinstance(given, Address) else Address.parse(given)
