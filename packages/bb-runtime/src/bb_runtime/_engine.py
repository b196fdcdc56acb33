"""The engine: the life of frames, without I/O, threads or a clock of its own.

How a frame lives:

1. It is opened: by an invocation or an envelope (a *root* frame, one at a time per region, others
   wait in line), or by a reply to a frame that expects it (a *child* frame).
2. Its stretches run as the gathers they need have fired. A stretch runs to its end before any
   other frame goes on, so frames never see each other's half-done work. Frames of several causes
   take turns (`_turns`).
3. A send that asks for answers opens one entry per peer; an entry takes one reply (`_post`). A
   block starts turns, which are child frames (`_blocks`), or frames of its own (`_controllers`).
4. A gather fires when enough replies have run up to it, closes its region, and starts the
   stretches that waited for it. When too few can come, its frame fails (`_gathers`).
5. The frame ends when nothing in it is left to run, no reply is expected, no turn runs and no
   work is deferred (`_deferred`). Every end is told with one `FrameEnded`, and frees what the frame
   held.

What happens to a frame never changes another one in the middle of its own change: it *touches*
the other, and `tidy` looks at all touched frames, one after the other, gathers before ends.

All methods are called by one thread. What a component raises fails its frame and nothing else;
only what is no `Exception` passes through, and leaves the Node broken.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final, cast

from bb_ir.buffers import BufferPool
from bb_ir.ids import PeerId
from bb_ir.wire import EnvelopeHead
from bb_roles.contracts import Component
from bb_runtime._alarms import Alarms
from bb_runtime._blocks import Blocks
from bb_runtime._context import OpContext
from bb_runtime._controllers import Controller, Controllers, Every
from bb_runtime._deferred import Works
from bb_runtime._delays import Delays
from bb_runtime._ending import Ending
from bb_runtime._failures import failed_op, forget_traceback, place_of, trace_of
from bb_runtime._frames import (
    ANSWERED,
    ENDED,
    LIVE,
    NOTHING,
    QUEUED,
    BlockState,
    BoundRegion,
    DelayState,
    Dues,
    Frame,
    GatherState,
    ReturnAddress,
)
from bb_runtime._freeze import frozen
from bb_runtime._gathers import Gathers
from bb_runtime._grants import Grants, key_of
from bb_runtime._order import Line, Order
from bb_runtime._paces import Paces
from bb_runtime._peers import Peer, Peers
from bb_runtime._post import Post
from bb_runtime._pressure import Pressure
from bb_runtime._quarantine import Unwanted
from bb_runtime._returned import misreturned
from bb_runtime._slots import Plan, Slots
from bb_runtime._strangers import Strangers
from bb_runtime._timers import Timers
from bb_runtime._turns import Turns, longest_line, stand_in_line
from bb_runtime.addresses import AddressBook
from bb_runtime.artifact import Artifact, Edge, Op
from bb_runtime.inbox import Inbox
from bb_runtime.metrics import Metrics
from bb_runtime.options import Options
from bb_runtime.steps import Dropped, Emitted, FrameEnded, FrameId, OpFailed, Step

__all__ = ["Engine"]

#: What most Nodes accept of other programs.
_NONE: Final[frozenset[bytes]] = frozenset()


class Engine:
    """One Node's frames. `Node` is what hosts talk to."""

    __slots__ = (
        "_bootstraps", "_children", "_live", "_parked", "_ready", "_roots", "_touched",
        "_vacant", "accepted", "addresses", "alarms", "artifact", "blocks", "broken",
        "components", "contexts", "controllers", "counters", "delays", "ending", "frames",
        "gathers", "grants", "handed", "inbox", "incarnation", "mains", "metrics", "now_ns",
        "ops_run", "options", "order", "ordinals", "paces", "paused", "payload_held", "peer",
        "peers", "pool", "post", "pressure", "regions", "seed_key", "slots", "steps",
        "strangers", "timers", "turns", "works",
    )  # fmt: skip

    def __init__(
        self,
        peer: PeerId,
        artifact: Artifact,
        *,
        seed: int,
        incarnation: int,
        options: Options,
        now_ns: int,
        pool: BufferPool,
        secret: bytes | None = None,
    ) -> None:
        self.peer = peer
        self.artifact = artifact
        self.options = options
        self.pool = pool
        self.incarnation = incarnation
        self.now_ns = now_ns
        self.seed_key = hashlib.blake2b(f"bb.seed\0{seed}".encode(), digest_size=32).digest()
        self.grants = Grants(artifact, key_of(secret or self.seed_key, peer, incarnation))
        #: Other programs whose envelopes are taken on edges that are the same.
        self.accepted: frozenset[bytes] = _NONE
        self.mains: dict[str, BoundRegion] = {}
        self.regions: dict[str, BoundRegion] = {}
        #: By target: components that its ops change, and whether to `abandon` after every round.
        self.components: dict[str, list[tuple[Component, bool]]] = {}
        self.frames: dict[int, Frame] = {}
        self.steps: list[Step] = []
        self.counters: Counter[str] = Counter()
        self.payload_held = 0
        #: Set when something that is no `Exception` passed through.
        self.broken = False
        self.timers = Timers()
        self.addresses = AddressBook()
        self.alarms = Alarms()
        self.peers = Peers(self)
        self.pressure = Pressure(self)
        self.strangers = Strangers(self)
        self.gathers = Gathers(self)
        self.paces = Paces(self)
        self.order = Order(self)
        self.post = Post(self)
        self.blocks = Blocks(self)
        self.controllers = Controllers(self)
        self.delays = Delays(self)
        self.metrics = Metrics()
        self.inbox = Inbox()
        self.works = Works(self, self.inbox)
        self.slots = Slots()
        #: Contexts of the ops, in the order in which they were bound.
        self.contexts: list[OpContext] = []
        #: Whether no root frame and no deferred work is to start.
        self.paused = False
        #: How the Node ends, once it was told to.
        self.ending: Ending | None = None
        #: How many ops ran, and how many bytes were handed out since the last poll.
        self.ops_run = self.handed = 0
        #: Stretches that became ready, and those that take turns with others.
        # Lists, as they are short and a deque takes 600 bytes.
        self._ready: list[tuple[Frame, int]] = []
        self.turns = Turns()
        #: Stretches that were ready when no deferred work was to start.
        self._parked: list[tuple[Frame, int]] = []
        self._touched: list[Frame] = []
        #: Regions whose queues may go on.
        self._vacant: list[BoundRegion] = []
        self._roots = 0
        self._children = 0
        self._bootstraps = 0
        #: Root frames that live.
        self._live = 0
        self.ordinals: Counter[str] = Counter()

    # Opening frames

    def invoke(self, target: str, given: Mapping[str, Any]) -> FrameId:
        """Open a root frame of a target's `main`; the inputs were checked."""
        bound = self.mains[target]
        program = bound.program
        values: list[Any] = [None] * program.size
        for name, position in program.inputs.items():
            if position >= 0:
                values[position] = frozen(given[name])
        ordinal = self.ordinals[target]
        self.ordinals[target] += 1
        deadline = self.now_ns + program.info.deadline_ns
        frame = Frame(self._root_number(), bound, values, deadline, ordinal)
        self._open_root(frame)
        if self._touched or self._vacant:
            self.tidy()
        return self.id_of(frame)

    def receive(
        self,
        edge: Edge,
        values: Sequence[Any],
        head: EnvelopeHead,
        source: PeerId,
        parent: Frame | None,
        *,
        account: Peer | None = None,
    ) -> None:
        """Open a frame for an envelope: a child of `parent`, or a root frame when it is `None`.

        It takes over what the envelope was charged to its peer.
        """
        bound = self.regions[edge.name]
        program = bound.program
        positions: list[Any] = [None] * program.size
        for position, value in zip(program.ports, values, strict=True):
            if position >= 0:
                positions[position] = value
        budget, remaining = program.info.deadline_ns, head.remaining_ns
        if remaining is not None and remaining < budget:
            budget = remaining
        number = self._root_number() if parent is None else self._child_number()
        if edge.answered:
            asking, incarnation, _, grant = head.chain[-1]
            frame = Frame(number, bound, positions, self.now_ns + budget, asking)
            frame.return_address = ReturnAddress(source, asking, incarnation, grant)
        else:
            frame = Frame(number, bound, positions, self.now_ns + budget, head.message_id)
        frame.sender = source
        frame.payload = head.payload_length
        frame.account = account
        if parent is None:
            self._open_root(frame)
        else:
            self._open_child(frame, parent, edge)
        if self._touched or self._vacant:
            self.tidy()

    def open_turn(self, state: BlockState, item: Sequence[Any]) -> None:
        """Open the frame of a block's next turn."""
        parent, bound = state.frame, state.bound
        deadline = self.now_ns + bound.program.info.deadline_ns
        values = _placed(bound, item)
        frame = Frame(self._child_number(), bound, values, deadline, state.number)
        frame.block = state
        self._adopt(frame, parent)

    def open_controlled(self, controller: Controller, item: Sequence[Any]) -> None:
        """Open a root frame of a block that started earlier."""
        bound = controller.bound
        name = bound.program.info.name
        ordinal = self.ordinals[name]
        self.ordinals[name] += 1
        deadline = self.now_ns + bound.program.info.deadline_ns
        frame = Frame(self._root_number(), bound, _placed(bound, item), deadline, ordinal)
        frame.controller = controller
        self._open_root(frame)

    def _root_number(self) -> int:
        self._roots += 1
        return 2 * self._roots

    def _child_number(self) -> int:
        # Numbers of their own: how many replied must not change the draws of later rounds.
        self._children += 1
        return 2 * self._children + 1

    def _open_root(self, frame: Frame) -> None:
        """Start a root frame, put it in line, or end it at once when the line is full."""
        bound = frame.bound
        # Who waits in line already goes first: a block opens its next frame as one ends.
        free = bound.active < bound.limit and not bound.queue and not self.paused
        if free and (bound.bootstrap or self._bootstraps == 0):
            self._start_root(frame)
        else:
            full = len(bound.queue) >= self.options.max_queued
            loser = longest_line(bound.queue, frame) if full else None
            if loser is not frame:
                frame.state = QUEUED
                stand_in_line(bound.queue, frame)
                self.timers.set(frame.deadline_ns, frame)
            if loser is not None:
                self._turn_away(loser)

    def _turn_away(self, frame: Frame) -> None:
        """End a root frame for which there is no place in line."""
        if frame.state == QUEUED:
            frame.bound.queue.remove(frame)
        self.drop("queue_full", frame.sender, frame.name)
        self.end(frame, "cancelled", "queue_full")

    def _start_root(self, frame: Frame) -> None:
        bound = frame.bound
        bound.active += 1
        self._live += 1
        self._bootstraps += bound.bootstrap
        if frame.state != QUEUED and bound.program.waits:
            self.timers.set(frame.deadline_ns, frame)
        self._start(frame)

    def _open_child(self, frame: Frame, parent: Frame, edge: Edge) -> None:
        assert frame.sender is not None  # it came by envelope
        if edge.replies == 1 or parent.count_part(frame.sender, edge.name) >= edge.replies:
            parent.expected[edge.name][frame.sender] = ANSWERED
            parent.open_replies -= 1
        self._adopt(frame, parent)

    def _adopt(self, frame: Frame, parent: Frame) -> None:
        """Start a child frame."""
        frame.parent = parent
        if parent.children is NOTHING:
            parent.children = {}
        parent.children[frame.number] = frame
        if frame.deadline_ns >= parent.deadline_ns:
            frame.deadline_ns = parent.deadline_ns  # and ends with it
        elif frame.bound.program.waits:
            self.timers.set(frame.deadline_ns, frame)
        self._start(frame)

    def _start(self, frame: Frame) -> None:
        frame.state = LIVE
        self.frames[frame.number] = frame
        bound = frame.bound
        if bound.program.gathers:
            frame.gathers = {info.index: GatherState(info) for info in bound.program.gathers}
        for index in bound.start_now:
            self._ready.append((frame, index))
        if frame.waiting and frame.parent is not None:
            self.wake(frame)  # for a gather of its parents that fired before
        if not frame.left:
            self.touch(frame)

    # Running

    def run(self, max_ops: int) -> int:
        """Run stretches until quiet or out of budget; a stretch is never cut in two.

        Returns:
            What is left of the budget of ops.
        """
        ready, turns = self._ready, self.turns
        left, room = max_ops, self.options.max_bytes_per_poll
        while (ready or turns.lanes) and left > 0 and self.handed < room:
            if turns.lanes or (self._live > 1 and len(ready) > 1):
                found = turns.next(ready)
                if found is None:
                    continue
                frame, index = found
            else:
                frame, index = ready.pop(0)
                if frame.state == ENDED:
                    continue
            bound = frame.bound
            plans = bound.plans
            if plans is None or (plan := plans[index]) is None:
                self._run_stretch(frame, index)
            else:
                self._run_held(frame, index, plan)
            left -= bound.program.stretches[index].cost
        self.ops_run += max_ops - left
        return left

    def _run_held(self, frame: Frame, index: int, plan: Plan) -> None:
        """Run a stretch as soon as it has the components that it must hold."""
        slots = self.slots
        if slots.stuck and (one := slots.stuck_for(frame, plan)) >= 0:
            self.works.quarantine.refuse(frame, plan, one)
        elif self.paused and plan.group.number not in frame.held:
            self._parked.append((frame, index))
            self._limit_wait(frame)
        elif slots.claim(frame, index, plan):
            self._run_stretch(frame, index)
            slots.used(frame, plan)
            self.grant()
        else:
            self._limit_wait(frame)

    def _limit_wait(self, frame: Frame) -> None:
        if not frame.bound.program.waits:
            self.timers.set(frame.deadline_ns, frame)  # it was not to wait, and now it does

    def resume(self) -> None:
        """Let go on what was held up while the engine was paused."""
        self.paused = False
        self._ready.extend(self._parked)
        self._parked.clear()
        self.grant()
        self.reopen()

    def reopen(self) -> None:
        """Let all lines go on."""
        self._vacant.extend(self.bounds)
        self.tidy()

    def ready_stretches(self) -> list[tuple[Frame, int]]:
        """Return what runs next, or would if nothing held it up."""
        return [*self.slots.in_line(), *self._parked, *self.turns, *self._ready]

    @property
    def numbers(self) -> tuple[int, int]:
        """How many root frames and how many child frames were opened."""
        return self._roots, self._children

    def replace(
        self,
        numbers: tuple[int, int],
        frames: Sequence[Frame],
        ready: Sequence[tuple[Frame, int]],
        line: Sequence[tuple[Frame, int]],
    ) -> None:
        """Let other frames, live and in line, take the place of all that there are.

        Args:
            numbers: How many root frames and how many child frames were opened.
            frames: The frames, those of one line in their order.
            ready: The stretches that run next.
            line: Those that stand in line for components.
        """
        self._roots, self._children = numbers
        self.frames.clear()
        for bound in self.bounds:
            bound.active = 0
            bound.queue.clear()
        for frame in frames:
            if frame.state == QUEUED:
                frame.bound.queue.append(frame)
                continue
            self.frames[frame.number] = frame
            frame.bound.active += frame.parent is None
        self._bootstraps = sum(bound.active for bound in self.bounds if bound.bootstrap)
        self._live = sum(bound.active for bound in self.bounds)
        self._ready = list(ready)
        self.turns.clear()
        for held in (self._parked, self._touched, self._vacant):
            held.clear()
        self.slots.replace(frames)
        for frame, index in line:
            plan = (frame.bound.plans or ())[index]
            if plan is None or self.slots.claim(frame, index, plan):
                self._ready.append((frame, index))

    @property
    def bounds(self) -> tuple[BoundRegion, ...]:
        """All regions, always in the same order."""
        return (*self.mains.values(), *self.regions.values())

    @property
    def busy(self) -> bool:
        """Whether something is ready to run."""
        ready, turns = self._ready, self.turns
        return bool(ready or turns.lanes) and any(
            frame.state != ENDED for frame, _ in chain(turns, ready)
        )

    @property
    def waiting(self) -> bool:
        """Whether there is a frame, live or in line, that no tick opened; not while paused."""
        if self.paused:
            return False
        if self.ending is not None:
            return not self.ending.over
        if any(not isinstance(frame.root.controller, Every) for frame in self.frames.values()):
            return True
        lines = (bound.queue for bound in self.bounds)
        return any(not isinstance(f.controller, Every) for line in lines for f in line)

    def _run_stretch(self, frame: Frame, index: int) -> None:
        frame.left -= 1
        try:
            frame.bound.runs[index](frame)
        except Exception as error:  # noqa: BLE001  # whatever a component raises ends here
            program = frame.bound.program
            op = failed_op(program.stretches[index], error)
            told = misreturned(program.stretches[index], op, error, program.target)
            self.fail(frame, op, told or error)
        except BaseException:
            self.broken = True
            raise
        if not frame.left:
            self.touch(frame)
        if self._touched:
            self.tidy()

    def grant(self) -> None:
        """Make ready what waited for a component that is free now."""
        if self.slots.waiting and not self.paused:
            self._ready.extend(self.slots.granted())

    def wake(self, frame: Frame) -> None:
        """Make ready what no longer waits for an event, in a frame and its children."""
        if frame.waiting:
            stretches = frame.bound.program.stretches
            still: list[int] = []
            for index in frame.waiting:
                if all(
                    _has_fired(frame, level, gather) for level, gather in stretches[index].needs
                ):
                    self._ready.append((frame, index))
                else:
                    still.append(index)
            frame.waiting = tuple(still)
        for child in frame.children.values():
            self.wake(child)

    def touch(self, frame: Frame) -> None:
        """Have `tidy` look at a frame."""
        if not frame.touched:
            frame.touched = True
            self._touched.append(frame)

    def tidy(self) -> None:
        """Judge gathers and end frames until nothing changes any more."""
        touched, vacant = self._touched, self._vacant
        while touched or vacant:
            if not touched:
                self._start_next(vacant.pop(0))
                continue
            frame = touched.pop(0)
            frame.touched = False
            if frame.gathers:
                for state in tuple(frame.gathers.values()):
                    if frame.state == LIVE:
                        self.gathers.judge(frame, state)
            waits = (
                frame.left or frame.open_replies or frame.children or frame.works or frame.unsent
            )
            if not waits and frame.state == LIVE:
                self.end(frame, "done", "")

    # What stretches call

    def emitter_of(self, op: Op, target: str) -> Callable[..., Any]:
        """Return the callable of an output."""
        name = str(op.attributes["name"])

        def emit(frame: Frame, value: Any) -> Any:
            self.steps.append(Emitted(target, name, frozen(value), self.id_of(frame)))
            size = getattr(value, "nbytes", 0)
            self.handed += size if isinstance(size, int) else 0
            return value

        return emit

    # Ends

    def fail(self, frame: Frame, op: Op, error: Exception) -> None:
        """End a frame because of one of its ops."""
        target = frame.bound.program.target
        rows = {row.slot: row.component for row in target.rows}
        self.steps.append(
            OpFailed(
                target.short, op.name, op.slot, rows.get(op.slot, ""), op.source, error,
                self.id_of(frame), self.peer, place_of(error) if op.slot else None, trace_of(error),
            )
        )  # fmt: skip
        forget_traceback(error)
        self.end(frame, "failed", getattr(error, "code", type(error).__name__))

    def end(self, frame: Frame, how: str, reason: str) -> None:
        """End a frame and all its children, tell it once, and free what they held."""
        before, frame.state = frame.state, ENDED
        if frame.children:
            for child in tuple(frame.children.values()):
                self.end(child, "cancelled", reason or how)
        bound = frame.bound
        program = bound.program
        name, region = program.target.short, program.info.name
        self.steps.append(FrameEnded(name, region, self.id_of(frame), how, reason))
        counts, key = self.metrics.ended, program.ends.get(how) or program.ended(how)
        counts[key] = counts.get(key, 0) + 1
        # A turn that is done hands what it promised on to the frame around it.
        if (frame.return_address is not None or frame.owed) and (
            frame.block is None or how != "done"
        ):
            self.post.report_unsent(frame, how, reason)
        self.frames.pop(frame.number, None)
        if frame.messages:
            if self.post.retries.open:
                self.post.retries.frame_ended(frame)
            for message in frame.messages:
                self.post.outgoing.pop(message, None)
        if frame.unsent:
            self.post.outbound.frame_ended(frame)
        payload, account = frame.payload, frame.account
        self.payload_held -= payload
        if account is not None:
            account.frames -= 1
            account.held -= payload
            group = account.group
            if group is not None:
                group.frames -= 1
                group.held -= payload
            if self.pressure.paused:
                self.pressure.resume()
        if bound.plans is not None:  # without deferred work nothing is held
            self.slots.leave(frame, self.works.cancel(frame))
            self.grant()
        if frame.parent is not None:
            self._end_child(frame, frame.parent, how, reason)
        elif before == LIVE:
            self._end_root(frame, how)
        if frame.controller is not None:
            frame.controller.frame_ended(how)
        frame.forget()

    def _end_root(self, frame: Frame, how: str) -> None:
        bound = frame.bound
        bound.active -= 1
        self._live -= 1
        self._bootstraps -= bound.bootstrap
        self._abandon(frame, failed=how != "done")
        if bound.bootstrap:
            self._vacant.extend(self.bounds)
        elif bound.queue:
            self._vacant.append(bound)

    def _start_next(self, bound: BoundRegion) -> None:
        while bound.queue and bound.active < bound.limit and not self.paused:
            if self._bootstraps and not bound.bootstrap:
                return
            frame = bound.queue.pop(0)
            if frame.deadline_ns <= self.now_ns:
                self.end(frame, "expired", "DeadlineExceeded")
            else:
                self._start_root(frame)

    def _end_child(self, frame: Frame, parent: Frame, how: str, reason: str) -> None:
        parent.children.pop(frame.number, None)
        if parent.state == ENDED:
            return
        if frame.block is None:
            self.gathers.child_ended(parent, frame, how, reason)
        else:
            self.blocks.turn_ended(frame, how, reason)
        self.touch(parent)

    def _abandon(self, frame: Frame, *, failed: bool) -> None:
        """Tell components that a round is over: aggregators always, others when it failed."""
        for component, always in self.components[frame.bound.program.target.name]:
            if failed or always:
                self.abandon_when_free(component, frame)

    def abandon_when_free(self, component: Component, frame: Frame) -> None:
        """Tell a component that a frame's round is over, as soon as nobody is at work on it."""
        context = OpContext(self, "abandon")
        context.frame = frame
        self.slots.when_free(component, partial(self._abandon_one, component, context))

    def abandoning(self) -> list[tuple[Component, Frame]]:
        """Return which components are to be told of which frames when nobody is at work on them."""
        # Nothing else is postponed until a component is free.
        calls = cast("list[partial[None]]", self.slots.postponed())
        return [(component, context.frame) for component, context in (one.args for one in calls)]

    def _abandon_one(self, component: Component, context: OpContext) -> None:
        try:
            component.abandon(context)
        except Exception as error:  # noqa: BLE001  # contained like any crash of a component
            self.drop(f"abandon_failed.{type(error).__name__}", None, "")
        except BaseException:
            self.broken = True
            raise

    def close(self) -> None:
        """Let go of everything that was bound: it refers back to this engine in circles."""
        for held in (self.mains, self.regions, self.components, self.frames, self.peers.records):
            held.clear()
        for line in (self.contexts, self._ready, self._parked, self._touched, self._vacant):
            line.clear()
        self.turns.clear()
        self.order.unbind()
        self.controllers.clear()
        self.timers.clear()
        self.alarms.clear()
        self.post.unanswered.clear()

    # Time and reports

    def advance(self, now_ns: int) -> None:
        """Move the clock; what fell due happens in the order of its instants.

        What it sets free runs in between, as far as the budget of one poll goes: a frame that
        always finds more to do is ended by its deadline all the same.
        """
        if now_ns < self.now_ns:
            self.counters["clock_backwards"] += 1
            return
        # What came in before the jump runs before deadlines pass.
        if self.inbox.items:
            self.works.drain()
        left = self.options.max_ops_per_poll
        if self._ready or self.turns.lanes:
            left = self.run(left)
        timers, alarms = self.timers.heap, self.alarms.heap
        if (timers and timers[0][0] <= now_ns) or (alarms and alarms[0][0] <= now_ns):
            self._let_fall_due(now_ns, left)
        self.now_ns = now_ns
        if self.pressure.paused:
            self.pressure.resume()

    def _let_fall_due(self, now_ns: int, left: int) -> None:
        while (when := self.next_wakeup()) is not None and when <= now_ns:
            self.now_ns = max(self.now_ns, when)
            if self.timers.next() != when:
                self._ring(self.alarms.pop())
            else:
                _, frame, what = self.timers.pop()
                if isinstance(what, Every):
                    what.due(now_ns)
                elif frame is not None:
                    self._fall_due(frame, what)
            self.tidy()
            left = self.run(left)  # what it set free, before the next instant

    def next_wakeup(self) -> int | None:
        """Return the earliest instant at which something falls due."""
        timer = self.timers.next() if self.timers.heap else None
        if not self.alarms.heap:
            return timer
        alarm = self.alarms.next()
        if timer is None or alarm is None:
            return alarm if timer is None else timer
        return min(timer, alarm)

    def _ring(self, what: object) -> None:
        if isinstance(what, Unwanted):
            self.works.quarantine.begin(what)
        elif isinstance(what, Ending):
            what.finish()
        elif isinstance(what, Line):
            self.order.due(what)
        else:
            self.post.ring(what)

    def _fall_due(
        self, frame: Frame, what: GatherState | Dues | BlockState | DelayState | None
    ) -> None:
        if isinstance(what, GatherState):
            self.gathers.judge(frame, what, expired=True)
            self.touch(frame)  # nothing may have waited for it, and then the frame has ended
        elif isinstance(what, DelayState):
            self.delays.due(frame, what)
        elif isinstance(what, Dues):
            self.paces.due(frame, what)
        elif what is not None:
            self.blocks.expire(frame, what)
        else:
            self._expire(frame)

    def _expire(self, frame: Frame) -> None:
        if frame.state == QUEUED:
            frame.bound.queue.remove(frame)
        if frame.state == LIVE and frame.gathers and self.gathers.only_late(frame):
            self.end(frame, "done", "")
        else:
            for edge in frame.expected:
                self.gathers.count_silent(frame, edge)
            self.end(frame, "expired", "DeadlineExceeded")

    def draw(self, label: str, index: int, below: int) -> int:
        """Return a random number from 0 to `below`, keyed by seed, peer, label and index."""
        digest = hashlib.blake2b(digest_size=16, key=self.seed_key)
        for part in (self.peer.raw, label.encode(), index.to_bytes(8, "little")):
            digest.update(len(part).to_bytes(4, "little") + part)
        return int.from_bytes(digest.digest(), "little") % below

    def id_of(self, frame: Frame) -> FrameId:
        """Return the name of a frame, as steps carry it."""
        if frame.id is None:
            frame.id = FrameId(self.incarnation, frame.number)
        return frame.id

    def drop(self, reason: str, peer: PeerId | None, edge: str) -> None:
        """Count and report something that was refused."""
        self.counters[reason] += 1
        if peer is not None and (record := self.peers.records.get(peer)) is not None:
            record.count_refused(reason)
        ending = self.ending
        if ending is not None:
            ending.dropped += 1
            if ending.over:
                return  # the last step was told
        self.steps.append(Dropped(reason, peer, edge))


def _placed(bound: BoundRegion, item: Sequence[Any]) -> list[Any]:
    """Return the list of a frame's values with those that its turn begins with."""
    program = bound.program
    values: list[Any] = [None] * program.size
    for position, value in zip(program.ports, item, strict=True):
        if position >= 0:
            values[position] = value
    return values


def _has_fired(frame: Frame, level: int, gather: int) -> bool:
    """Whether an event of a frame so many levels up has happened."""
    for _ in range(level):
        assert frame.parent is not None  # levels were counted along parents
        frame = frame.parent
    return gather in frame.fired
