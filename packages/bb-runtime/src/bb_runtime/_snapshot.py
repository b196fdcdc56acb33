"""Writes a Node down: everything that decides what it does next, as plain data.

Instants are written as what is left until them, so that a Node may go on under another clock. Ops,
regions, gathers and blocks are named by their places in the program, which the head of a snapshot
identifies; frames by their numbers. `_restore` reads what this module writes.

Nothing is changed here, and nothing runs. Of work that was handed to the host, what its ops were
given is written, so that they can be called again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from bb_ir.dump import dump
from bb_ir.errors import DumpError
from bb_roles.contracts import Component
from bb_runtime._controllers import Every, On, Rounds
from bb_runtime._ending import Ending
from bb_runtime._frames import (
    ENDED,
    QUEUED,
    BlockState,
    DelayState,
    Dues,
    Frame,
    GatherState,
    PeerParts,
)
from bb_runtime._head import Parts, class_name, codecs_of, components_of, head_of, regions_of
from bb_runtime._order import Line
from bb_runtime._peers import Peer
from bb_runtime._portable import KINDS, Packer, Unwritable
from bb_runtime._program import reads_of
from bb_runtime._quarantine import Unwanted
from bb_runtime._retries import Retry
from bb_runtime._stored_steps import pack_step
from bb_runtime._stored_works import named, pack_abandoned, pack_held, pack_works
from bb_runtime._unanswered import Word
from bb_runtime.errors import NodeBusy, NotStorable, SnapshotError
from bb_runtime.steps import Deferred

if TYPE_CHECKING:
    from bb_runtime._controllers import Controller
    from bb_runtime._engine import Engine
    from bb_runtime.artifact import Op

__all__ = ["FORMAT", "Parts", "check_idle", "write"]

#: Version of what this module writes.
FORMAT: Final = 1

#: How what falls due is called.
_KINDS: Final = {
    GatherState: "gather", Dues: "dues", BlockState: "block", DelayState: "delay",
}  # fmt: skip

Table = dict[str, Any]


def write(node: Parts) -> bytes:
    """Return a Node as bytes.

    Raises:
        NodeBusy: Work is under way that cannot be begun again, or an envelope is half received.
        NotStorable: A value cannot be written.
        SnapshotError: A component cannot save its state.
    """
    check_leases(node, "written down")
    _check_stuck(node)
    components = components_of(node)
    makers = {id(one): place for place, (_, one) in enumerate(components)}
    packer = Packer(lambda: codecs_of(node), makers)
    state = {
        "components": [_component(packer, slot, one) for slot, one in components],
        "admission": _admission(node),
        "engine": _Writer(node.engine, packer, [one for _, one in components]).table(),
    }
    try:
        return dump(
            {"format": FORMAT, **head_of(node), "regions": regions_of(node.engine), **state},
            kinds=KINDS,
        )
    except DumpError as error:
        raise SnapshotError(
            f"the Node cannot be written down: {error.found}",
            expected=error.expected,
            fix=error.fix,
        ) from error


def check_idle(node: Parts) -> None:
    """Check that nothing is under way on a Node that is to be restored.

    Raises:
        NodeBusy: Something is.
    """
    works = node.engine.works
    if works.open:
        raise named(works.under_way())
    check_leases(node, "restored")


def _check_stuck(node: Parts) -> None:
    """Check that no component is stuck: nobody calls one, not even to save its state.

    Raises:
        NodeBusy: One is.
    """
    stuck = node.engine.works.quarantine.stuck
    if stuck:
        raise NodeBusy(
            "the Node cannot be written down while components are stuck: "
            + ", ".join(map(str, stuck)),
            expected="deferred work that comes back when nobody wants it any more",
            fix="wait until it has come back, or restore an older snapshot elsewhere",
            where=tuple(one.info.op.source for one in stuck if one.info.op.source is not None),
        )


def check_leases(node: Parts, what: str) -> None:
    """Check that no envelope is half received.

    Raises:
        NodeBusy: One is.
    """
    leases = node.admission.open_leases
    if leases:
        raise NodeBusy(
            f"the Node cannot be {what} while {leases} envelopes are half received",
            expected="no open lease",
            fix="give each lease to receive() or abandon()",
        )


def _component(packer: Packer, slot: str, component: Component) -> Table:
    try:
        state = component.save()
    except Exception as error:
        raise SnapshotError(
            f"the component of slot {slot!r}, {class_name(component)}, cannot save its state: "
            f"{type(error).__name__}: {error}",
            fix="report it to the author of the component",
        ) from error
    try:
        return {"tensors": packer.pack(state.tensors), "data": packer.pack(state.data)}
    except Unwritable as error:
        raise NotStorable(
            f"the state of the component of slot {slot!r}, {class_name(component)}, holds "
            f"{error.what}",
            expected="State(tensors=..., data=...) of arrays and plain data",
            fix="have its save() return numbers, texts, lists, dictionaries and arrays",
        ) from error


def _admission(node: Parts) -> Table:
    admission = node.admission
    return {
        "authorized": {cls: sorted(members) for cls, members in admission.authorized.items()},
        "windows": admission.windows,
    }


class _Writer:
    """Writes the engine of one Node."""

    def __init__(self, engine: Engine, packer: Packer, components: Sequence[Component]) -> None:
        self.engine = engine
        self.packer = packer
        self.components = components
        self.now_ns = engine.now_ns
        self.places = {id(bound): place for place, bound in enumerate(engine.bounds)}
        self.controllers: dict[int, tuple[int, Controller]] = {}
        #: Stretches that stand in line for components, and those that run next.
        self.line = engine.slots.in_line()
        ready = engine.ready_stretches()[len(self.line) :]
        self.ready = [(frame, index) for frame, index in ready if frame.state != ENDED]

    def table(self) -> Table:
        engine = self.engine
        queued = [frame for bound in engine.bounds for frame in bound.queue]
        running, topics = engine.controllers.started()
        works = pack_works(engine, self.packer)
        # What nobody waits for any more comes too late, or never.
        late = engine.works.open - len(works)
        return {
            "now_ns": self.now_ns,
            "incarnation": engine.incarnation,
            "numbers": engine.numbers,
            "ordinals": dict(engine.ordinals),
            "counters": dict(engine.counters + Counter(late_completions=late)),
            "payload_held": engine.payload_held,
            "frames": [self._frame(frame) for frame in (*engine.frames.values(), *queued)],
            "ready": [(frame.number, index) for frame, index in self.ready],
            "line": [(frame.number, index) for frame, index in self.line],
            "works": works,
            "abandoned": pack_abandoned(engine, self.components, self.places),
            "timers": [
                (when - self.now_ns, *self._timer(frame, what))
                for when, frame, what in engine.timers.ahead()
            ],
            "running": {name: self._number(one) for name, one in running.items()},
            "topics": {t: [self._number(one) for one in ones] for t, ones in topics.items()},
            # Last: only now all of them are known.
            "controllers": self._all_controllers(),
            "messages": engine.post.messages,
            "grants": engine.grants.key,
            "outgoing": [
                (number, frame.number, [edge.name for edge in edges], peer)
                for number, (frame, edges, peer) in engine.post.outgoing.items()
            ],
            "blocked": sorted(engine.gathers.blocked),
            "draws": [
                (place, *one.state)
                for place, one in enumerate(engine.contexts)
                if one.state[0] >= 0
            ],
            "metrics": engine.metrics.state(),
            "addresses": engine.addresses.state(self.now_ns),
            "peers": engine.peers.state(),
            "paces": engine.paces.state(),
            "instants": engine.peers.instants(),
            "strangers": list(engine.strangers.records),
            "paused": [(one.id, one.wants) for one in engine.pressure.paused.values()],
            "unsent": [(one.id, one.unsent) for one in engine.peers.records.values() if one.unsent],
            "outbound": self.packer.pack(engine.post.outbound.state()),
            # Work that nobody wants counts as come back.
            "alarms": [
                self._alarm(when, what)
                for when, what in engine.alarms.ahead()
                if not isinstance(what, (Unwanted, Ending))
            ],
            "ending": None if engine.ending is None else engine.ending.state(),
            "gone": engine.gathers.gone,
            "handed": engine.handed,
            "retries": self.packer.pack(engine.post.retries.state()),
            "unanswered": self.packer.pack(engine.post.unanswered.state()),
            "order": self.packer.pack(engine.order.state()),
            # Work is handed out anew.
            "steps": [
                pack_step(step, self.packer)
                for step in engine.steps
                if not isinstance(step, Deferred)
            ],
        }

    # Frames

    def _frame(self, frame: Frame) -> Table:
        block = frame.block
        return {
            "number": frame.number,
            "region": self.places[id(frame.bound)],
            "queued": frame.state == QUEUED,
            "left_ns": frame.deadline_ns - self.now_ns,
            "origin": frame.origin,
            "parent": None if frame.parent is None else frame.parent.number,
            "block": None if block is None else block.info.index,
            "controller": None if frame.controller is None else self._number(frame.controller),
            "values": [self._value(frame, at, one) for at, one in enumerate(frame.values)],
            "left": frame.left,
            "waiting": frame.waiting,
            "fired": sorted(frame.fired),
            "gathers": [self._gather(state) for state in frame.gathers.values()],
            "blocks": [self._block(state) for state in frame.blocks.values()],
            "expected": dict(frame.expected),
            "sender": frame.sender,
            "return_address": frame.return_address,
            "sent": sorted(frame.sent),
            "owed": [(address, edge.name) for address, edge in frame.owed],
            "paid": sorted(frame.paid),
            "parts": [(who, edge, count) for (who, edge), count in frame.parts.items()],
            "messages": list(frame.messages),
            "payload": frame.payload,
            "account": frame.account is not None,
            "asked_at": self._asked_at(frame),
            "held": pack_held(frame),
            "delays": [
                (one.info.index, one.when_ns - self.now_ns, self._delayed(one))
                for one in frame.delays.values()
            ],
        }

    def _value(self, frame: Frame, position: int, value: Any) -> Any:
        try:
            return self.packer.pack(value)
        except Unwritable as error:
            name = frame.bound.program.names[position]
            if not self._still_read(frame, name):
                return None
            op = _maker(frame, name)
            raise _not_storable(
                frame, op, f"what {_named(op)} gave" if op else f"its input {name!r}", error
            ) from error

    def _still_read(self, frame: Frame, name: str) -> bool:
        """Whether an op that has not run may read a value of a frame."""
        here = frame.bound.program
        next_ones = (index for one, index in (*self.line, *self.ready) if one is frame)
        ahead = {*frame.waiting, *next_ones}
        own = (op for index in ahead for op in here.stretches[index].ops)
        others = (
            op
            for bound in self.engine.bounds
            if bound.program.target is here.target and bound.program is not here
            for stretch in bound.program.stretches
            for op in stretch.ops
        )
        return any(name in reads_of(op) for ops in (own, others) for op in ops)

    def _gather(self, state: GatherState) -> Table:
        return {
            "index": state.info.index,
            "asked": state.asked,
            "need": state.need,
            "pending": state.pending,
            "answers": state.answers,
            "kept": self._plain(state.kept, "a gather collected", state.info.op),
            "parts": {peer: self._parts(state, one) for peer, one in state.parts.items()},
            "failed": dict(state.failed),
            "fired": state.fired,
            "dues": None if state.dues is None else state.dues.state(self.now_ns),
        }

    def _parts(self, state: GatherState, parts: PeerParts) -> tuple[Any, ...]:
        values = self._plain(parts.values, "a gather collected", state.info.op)
        return sorted(parts.arrived), parts.lost, values

    def _block(self, state: BlockState) -> Table:
        op = state.info.op
        what = f"the {op.name.lower()} block that is in turn {state.number} goes over"
        over = state.fired or state.stopped
        return {
            "index": state.info.index,
            "source": () if over else self._plain(state.source, what, op),
            "number": state.number,
            "stopped": state.stopped,
            "fired": state.fired,
            "kept": self._plain(state.kept, "turns of a block handed over", op),
            "turns": dict(state.turns),
        }

    def _asked_at(self, frame: Frame) -> Any:
        asked = frame.asked_at
        return None if asked is None else {edge: at - self.now_ns for edge, at in asked.items()}

    def _delayed(self, state: DelayState) -> Any:
        return self._plain(state.value, "a sleep passes on", state.info.op)

    def _plain(self, value: Any, what: str, op: Op) -> Any:
        try:
            return self.packer.pack(value)
        except Unwritable as error:
            raise _refusal(f"{what} {error.what}", op) from error

    # Timers and controllers

    def _timer(self, frame: Frame | None, what: object) -> tuple[Any, ...]:
        if frame is None:
            assert isinstance(what, Every)
            return "tick", self._number(what), 0
        if isinstance(what, (GatherState, Dues, BlockState, DelayState)):
            return _KINDS[type(what)], frame.number, what.info.index
        return "frame", frame.number, 0

    def _alarm(self, when_ns: int, what: object) -> tuple[Any, ...]:
        left = when_ns - self.now_ns
        if isinstance(what, Retry):
            return left, what.letter.number, None, None
        if isinstance(what, Word):
            return left, what.number, None, None
        if isinstance(what, Line):
            return left, None, what.record.id, what.edge.name
        assert isinstance(what, Peer)
        return left, None, what.id, None

    def _number(self, controller: Controller) -> int:
        found = self.controllers.get(id(controller))
        if found is None:
            found = self.controllers[id(controller)] = len(self.controllers), controller
        return found[0]

    def _all_controllers(self) -> list[Table]:
        return [self._controller(one) for _, one in tuple(self.controllers.values())]

    def _controller(self, one: Controller) -> Table:
        own: Table = {}
        if isinstance(one, Rounds):
            own = {"times": one.times}
        elif isinstance(one, Every):
            own = {"start_ns": one.start_ns - self.now_ns, "tick": one.tick}
        else:
            assert isinstance(one, On)
        what = f"the {one.info.op.name.lower()} block hands its frames"
        return {
            "region": self.places[id(one.bound)],
            "handed": self._plain(one.handed, what, one.info.op),
            "number": one.number,
            "failed": one.failed,
            "active": one.active,
            "stopped": one.stopped,
            "why": one.why,
            "told": one.told,
            **own,
        }


def _maker(frame: Frame, name: str) -> Op | None:
    ops = frame.bound.program.target.ops
    return next((op for op in ops if name in op.outputs), None)


def _named(op: Op) -> str:
    return f"{op.name} of slot {op.slot!r}" if op.slot else op.name


def _not_storable(frame: Frame, op: Op | None, what: str, error: Unwritable) -> NotStorable:
    target = frame.bound.program.target.short
    return _refusal(f"a frame of {target} goes on with {what}, {error.what}", op)


def _refusal(found: str, op: Op | None) -> NotStorable:
    return NotStorable(
        found,
        expected="arrays, parameters, peers, plain data, and values that have a recipe",
        fix="take the snapshot between rounds, or have the program hold the value as a list or a "
        "tensor",
        where=op.source if op is not None and op.source is not None else (),
    )
