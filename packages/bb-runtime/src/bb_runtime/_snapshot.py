"""Writes a Node down: everything that decides what it does next, as plain data.

Instants are written as what is left until them, so that a Node may go on under another clock. Ops,
regions, gathers and blocks are named by their places in the program, which the head of a snapshot
identifies; frames by their numbers. `_restore` reads what this module writes.

Nothing is changed here, and nothing runs: work that was handed to the host cannot be written, so a
Node with such work is busy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bb_ir.dump import dump
from bb_ir.errors import DumpError
from bb_ir.types import custom_names
from bb_ir.values import Codecs
from bb_roles.contracts import Component
from bb_roles.errors import PluginError
from bb_roles.registry import type_spec, value_codec
from bb_runtime._controllers import Every, On, Rounds
from bb_runtime._frames import ENDED, QUEUED, BlockState, DelayState, Frame, GatherState
from bb_runtime._peers import Peer
from bb_runtime._portable import KINDS, Packer, Unwritable
from bb_runtime._program import reads_of
from bb_runtime._retries import Retry
from bb_runtime._stored_steps import pack_step
from bb_runtime.errors import NodeBusy, NotStorable, SnapshotError

if TYPE_CHECKING:
    from bb_runtime._admission import Admission
    from bb_runtime._controllers import Controller
    from bb_runtime._engine import Engine
    from bb_runtime.artifact import Op, Target

__all__ = ["FORMAT", "Parts", "check_idle", "codecs_of", "components_of", "head_of", "write"]

#: Version of what this module writes.
FORMAT: Final = 1
#: So many ops are named that a Node is busy with.
_NAMED: Final = 5

#: How what falls due is called.
_KINDS: Final = {GatherState: "gather", BlockState: "block", DelayState: "delay"}

Table = dict[str, Any]


class Parts(NamedTuple):
    """What a Node is made of."""

    engine: Engine
    admission: Admission
    targets: Sequence[Target]
    components: Mapping[tuple[str, str], Component]


def write(node: Parts) -> bytes:
    """Return a Node as bytes.

    Raises:
        NodeBusy: Deferred work is under way, or an envelope is half received.
        NotStorable: A value cannot be written.
        SnapshotError: A component cannot save its state.
    """
    check_idle(node, "written down")
    packer = Packer(lambda: codecs_of(node))
    state = {
        "components": [_component(packer, slot, one) for slot, one in components_of(node)],
        "admission": _admission(node),
        "engine": _Writer(node.engine, packer).table(),
    }
    try:
        return dump({"format": FORMAT, **head_of(node), **state}, kinds=KINDS)
    except DumpError as error:
        raise SnapshotError(
            f"the Node cannot be written down: {error.found}",
            expected=error.expected,
            fix=error.fix,
        ) from error


def check_idle(node: Parts, what: str) -> None:
    """Check that nothing is under way which cannot be written.

    Raises:
        NodeBusy: Something is.
    """
    engine = node.engine
    held = [frame for frame in engine.frames.values() if frame.held or frame.works]
    if engine.works.open or held:
        ops = [work.info.op for frame in held for work in frame.works.values() if work.info]
        named = [f"{op.name} of slot {op.slot!r}" for op in ops[:_NAMED]]
        more = f" and {len(ops) - _NAMED} more" if len(ops) > _NAMED else ""
        raise NodeBusy(
            f"the Node cannot be {what} while work is under way: "
            + (", ".join(named) + more if named else "of frames that have ended, or not yet taken"),
            expected="no deferred work in progress",
            fix="call pause(), then poll() until what was deferred has come back",
            where=tuple(op.source for op in ops[:_NAMED] if op.source is not None),
        )
    leases = node.admission.open_leases
    if leases:
        raise NodeBusy(
            f"the Node cannot be {what} while {leases} envelopes are half received",
            expected="no open lease",
            fix="give each lease to receive() or abandon()",
        )


def head_of(node: Parts) -> Table:
    """Return what a snapshot says about the Node that it is of; equal for one that may take it."""
    engine = node.engine
    artifact = engine.artifact
    return {
        "program": artifact.program,
        "targets": [[t.name, artifact.hashes.get(t.name, "")] for t in node.targets],
        "peer": engine.peer,
        "seed": hashlib.blake2b(engine.seed_key, digest_size=16).hexdigest(),
        "classes": [[slot, _class_name(one)] for slot, one in components_of(node)],
        "layout": _layout(engine),
    }


def components_of(node: Parts) -> list[tuple[str, Component]]:
    """Return each component of a Node once, with all the slots that it fills."""
    slots: dict[int, list[str]] = {}
    found: dict[int, Component] = {}
    for (target, slot), component in node.components.items():
        found[id(component)] = component
        slots.setdefault(id(component), []).append(f"{target.partition('#')[0]}/{slot}")
    return [(", ".join(slots[key]), one) for key, one in found.items()]


def codecs_of(node: Parts) -> Codecs:
    """Return the codecs of all types of plugins that the Node's targets mention."""
    known = dict(node.engine.post.codecs)
    for target in node.targets:
        for declared in target.types.values():
            for name in custom_names(declared):
                if name in known:
                    continue
                try:
                    known[name] = value_codec(type_spec(name))
                except PluginError:
                    continue  # its values are then refused by what they are
    return known


def _class_name(component: Component) -> str:
    cls = type(component)
    return f"{cls.__module__}:{cls.__qualname__}"


def _layout(engine: Engine) -> str:
    """Return a digest of how the program was lowered: what positions and numbers mean."""
    digest = hashlib.blake2b(digest_size=16)
    for bound in engine.bounds:
        program = bound.program
        ops = [
            (s.needs, [(op.domain, op.name, op.slot) for op in s.ops]) for s in program.stretches
        ]
        gathers = [(info.index, info.edge, info.outs) for info in program.gathers]
        shape = program.info.name, program.size, program.ports, ops, gathers
        digest.update(repr(shape).encode())
    return digest.hexdigest()


def _component(packer: Packer, slot: str, component: Component) -> Table:
    try:
        state = component.save()
    except Exception as error:
        raise SnapshotError(
            f"the component of slot {slot!r}, {_class_name(component)}, cannot save its state: "
            f"{type(error).__name__}: {error}",
            fix="report it to the author of the component",
        ) from error
    try:
        return {"tensors": packer.pack(state.tensors), "data": packer.pack(state.data)}
    except Unwritable as error:
        raise NotStorable(
            f"the state of the component of slot {slot!r}, {_class_name(component)}, holds "
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

    def __init__(self, engine: Engine, packer: Packer) -> None:
        self.engine = engine
        self.packer = packer
        self.now_ns = engine.now_ns
        self.places = {id(bound): place for place, bound in enumerate(engine.bounds)}
        self.controllers: dict[int, tuple[int, Controller]] = {}
        #: Stretches that are ready to run, as soon as nothing holds them up.
        self.ready = [
            (frame, index) for frame, index in engine.ready_stretches() if frame.state != ENDED
        ]

    def table(self) -> Table:
        engine = self.engine
        queued = [frame for bound in engine.bounds for frame in bound.queue]
        running, topics = engine.controllers.started()
        return {
            "now_ns": self.now_ns,
            "incarnation": engine.incarnation,
            "numbers": engine.numbers,
            "ordinals": dict(engine.ordinals),
            "counters": dict(engine.counters),
            "payload_held": engine.payload_held,
            "frames": [self._frame(frame) for frame in (*engine.frames.values(), *queued)],
            "ready": [(frame.number, index) for frame, index in self.ready],
            "timers": [
                (when - self.now_ns, *self._timer(frame, what))
                for when, frame, what in engine.timers.ahead()
            ],
            "running": {name: self._number(one) for name, one in running.items()},
            "topics": {t: [self._number(one) for one in ones] for t, ones in topics.items()},
            # Last: only now all of them are known.
            "controllers": self._all_controllers(),
            "messages": engine.post.messages,
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
            "instants": engine.peers.instants(),
            "paused": [(one.id, one.wants) for one in engine.pressure.paused.values()],
            "unsent": [(one.id, one.unsent) for one in engine.peers.records.values() if one.unsent],
            "outbound": self.packer.pack(engine.post.outbound.state()),
            "alarms": [self._alarm(when, what) for when, what in engine.alarms.ahead()],
            "retries": self.packer.pack(engine.post.retries.state()),
            "steps": [pack_step(step, self.packer) for step in engine.steps],
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
            "expected": frame.expected,
            "sender": frame.sender,
            "return_address": frame.return_address,
            "sent": sorted(frame.sent),
            "owed": [(address, edge.name) for address, edge in frame.owed],
            "paid": sorted(frame.paid),
            "messages": frame.messages,
            "payload": frame.payload,
            "account": frame.account is not None,
            "asked_at": self._asked_at(frame),
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
        ahead = {*frame.waiting, *(index for one, index in self.ready if one is frame)}
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
            "fired": state.fired,
        }

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
        if isinstance(what, (GatherState, BlockState, DelayState)):
            return _KINDS[type(what)], frame.number, what.info.index
        return "frame", frame.number, 0

    def _alarm(self, when_ns: int, what: object) -> tuple[Any, ...]:
        left = when_ns - self.now_ns
        if isinstance(what, Retry):
            return left, what.letter.number, None
        assert isinstance(what, Peer)
        return left, None, what.id

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
        expected="arrays, parameters, peers and plain data",
        fix="take the snapshot between rounds, or have the program hold the value as a list or a "
        "tensor",
        where=op.source if op is not None and op.source is not None else (),
    )
