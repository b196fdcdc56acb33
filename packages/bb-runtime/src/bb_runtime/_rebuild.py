"""Builds the state of an engine from the tables of a snapshot, beside the engine.

Whatever is wrong in a table raises while nothing is changed; then `swap` puts all in its place.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

from bb_ir.ids import PeerId
from bb_ir.values import Codecs
from bb_runtime._blocks import items_after
from bb_runtime._controllers import Controller, Every, On, Rounds
from bb_runtime._ending import Ending
from bb_runtime._engine import Engine
from bb_runtime._frames import (
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
from bb_runtime._grants import key_from
from bb_runtime._head import Parts, codecs_of, components_of
from bb_runtime._misread import peer_of, whole
from bb_runtime._paces import Paces
from bb_runtime._peers import Peers
from bb_runtime._portable import unpack
from bb_runtime._program import BlockInfo
from bb_runtime._stored_steps import unpack_step
from bb_runtime._stored_works import unpack_abandoned, unpack_held, unpack_line, unpack_works
from bb_runtime.addresses import AddressBook
from bb_runtime.errors import OpError, SnapshotError
from bb_runtime.metrics import Metrics
from bb_runtime.steps import FrameId

__all__ = ["Builder", "Table", "peer_of", "seen_of"]

Table = dict[str, Any]


class Builder:
    """Builds the state of an engine aside."""

    def __init__(self, node: Parts, table: Table, *, clean: bool) -> None:
        engine = node.engine
        self.engine = engine
        self.table = table
        self.clean = clean
        self._node = node
        self._codecs: Codecs | None = None
        self.components = [one for _, one in components_of(node)]
        saved_now, self.incarnation = int(table["now_ns"]), int(table["incarnation"])
        if not clean and engine.incarnation <= self.incarnation:
            raise SnapshotError(
                f"the Node has the incarnation {engine.incarnation}, and the snapshot "
                f"{self.incarnation}",
                expected="a larger one: peers tell by it what was sent before the crash",
                fix=f"install(..., incarnation={self.incarnation + 1}), or restore with clean=True "
                "a Node that was stopped at this snapshot",
            )
        #: A clock that was never moved takes over the one of the snapshot.
        self.now_ns = engine.now_ns or saved_now
        self.bounds: tuple[BoundRegion, ...] = engine.bounds
        self.frames: dict[int, Frame] = {}
        #: Frames that count against the peer whose envelope opened them.
        self.charged: list[Frame] = []
        self.controllers: list[Controller] = []

    def codecs(self) -> Codecs:
        """Return the codecs of the Node's types, looked up when a value needs them."""
        if self._codecs is None:
            self._codecs = codecs_of(self._node)
        return self._codecs

    def unpack(self, value: Any) -> Any:
        """Return a value that was written."""
        return unpack(value, self.codecs, self.components)

    def build(self) -> Builder:
        table, engine = self.table, self.engine
        self.controllers = [self._controller(one) for one in table["controllers"]]
        for one in table["frames"]:
            self._frame(one)
        self.ready = [self._stretch(number, index) for number, index in table["ready"]]
        self.line = unpack_line([self._stretch(number, index) for number, index in table["line"]])
        unpack_held(self.frames.values(), (one["held"] for one in table["frames"]))
        self.works = unpack_works(engine, self.frames, table["works"], self.unpack)
        self.abandoned = [
            unpack_abandoned(engine, self.components, one) for one in table["abandoned"]
        ]
        self.timers = [
            (self.now_ns + int(left), *self._timer(kind, number, index))
            for left, kind, number, index in table["timers"]
        ]
        edges = engine.artifact.edges
        self.outgoing = {
            int(message): (self.frames[frame], tuple(edges[name] for name in names), peer_of(peer))
            for message, frame, names, peer in table["outgoing"]
        }
        self.running = {str(n): self.controllers[int(at)] for n, at in table["running"].items()}
        self.topics = {
            str(topic): [self._listener(at) for at in ones]
            for topic, ones in table["topics"].items()
        }
        roots, children = table["numbers"]
        self.numbers = int(roots), int(children)
        self.ordinals = Counter({str(name): int(n) for name, n in table["ordinals"].items()})
        self.counters = Counter({str(name): int(n) for name, n in table["counters"].items()})
        self.draws = [
            (engine.contexts[int(place)], (int(number), int(index)))
            for place, number, index in table["draws"]
        ]
        self.steps = [unpack_step(one, self.unpack) for one in table["steps"]]
        self.key = key_from(table["grants"])
        ending = table["ending"]
        self.ending = None if ending is None else Ending.of_state(self._node, ending)
        self.gone = {peer_of(peer): int(number) for peer, number in table["gone"].items()}
        self.handed = int(table["handed"])
        self.messages, self.held = int(table["messages"]), int(table["payload_held"])
        self.blocked = frozenset(map(peer_of, table["blocked"]))
        self.paused = [(peer_of(peer), int(wants)) for peer, wants in table["paused"]]
        self.strangers = list(map(peer_of, table["strangers"]))
        self.unsent = [
            (peer_of(peer), {int(n): int(size) for n, size in sizes.items()})
            for peer, sizes in table["unsent"]
        ]
        sweep, told = table["instants"]
        self.instants = int(sweep), {peer_of(peer): int(since) for peer, since in told.items()}
        self.letters = self.unpack(table["outbound"])
        self.retries = self.unpack(table["retries"])
        self.unanswered = engine.post.unanswered.read(self.unpack(table["unanswered"]), self.now_ns)
        self.order = engine.order.read(self.unpack(table["order"]), self.now_ns)
        self.alarms = [
            (
                int(left),
                None if number is None else int(number),
                peer and peer_of(peer),
                None if edge is None else str(edge),
            )
            for left, number, peer, edge in table["alarms"]
        ]
        self._rehearse()
        return self

    def _rehearse(self) -> None:
        """Load what the parts of an engine load themselves where it does no harm."""
        engine, table = self.engine, self.table
        AddressBook().load(table["addresses"], engine.now_ns)
        Peers(engine).load(table["peers"])
        Paces(engine).load(table["paces"])
        metrics = Metrics()
        metrics.kinds = engine.metrics.kinds
        metrics.load(table["metrics"])
        for row in (*self.letters, *(one["letter"] for one in self.retries)):
            peer_of(engine.post.outbound.letter_of(row).peer)
        for row in self.retries:
            _ = [whole(row[name]) for name in ("left", "times")]
            _ = [int(row[name]) for name in ("sent_ns", "again_ns", "alarm_ns")]

    def swap(self) -> None:
        """Put what was built in the place of what is there."""
        engine = self.engine
        engine.now_ns = self.now_ns
        engine.replace(self.numbers, list(self.frames.values()), self.ready, self.line)
        engine.ordinals, engine.counters = self.ordinals, self.counters
        engine.payload_held = self.held
        engine.timers.replace(self.timers)
        engine.controllers.replace(self.running, self.topics)
        engine.post.messages, engine.post.outgoing = self.messages, self.outgoing
        engine.gathers.blocked, engine.gathers.gone = self.blocked, self.gone
        engine.metrics.load(self.table["metrics"])
        self._swap_peers()
        for context in engine.contexts:
            context.state = (-1, 0)
        for context, state in self.draws:
            context.state = state
        if self.clean:
            engine.incarnation, engine.grants.key = self.incarnation, self.key
            engine.steps, engine.handed = self.steps, self.handed
            if self.ending is not None:
                engine.ending = self.ending
                engine.ending.go_on()
        else:
            # Whoever polled them before the crash has them; what is sent anew has a new number.
            engine.steps = []
            _interrupt(engine)

    def go_on(self) -> None:
        """Do what components have to do after `swap`; what they raise ends frames only."""
        engine = self.engine
        for component, frame in self.abandoned:
            frame.id = FrameId(self.incarnation, frame.number)
            engine.abandon_when_free(component, frame)
        for frame, event, given in self.works if self.clean else ():
            if frame.state == LIVE:  # one before it may have failed, and ended this one too
                engine.works.call_again(frame, event, given)
        engine.tidy()

    def _swap_peers(self) -> None:
        engine = self.engine
        engine.alarms.clear()
        peers, outbound = engine.peers, engine.post.outbound
        peers.records.clear()
        engine.addresses.load(self.table["addresses"], engine.now_ns)
        peers.load(self.table["peers"])
        peers.set_instants(*self.instants)
        engine.paces.load(self.table["paces"])
        engine.pressure.paused = {}
        for peer, wants in self.paused if self.clean else ():
            record = engine.pressure.paused[peer] = peers.of(peer)
            record.wants = wants
        outbound.unsent_bytes = 0
        for peer, sizes in self.unsent if self.clean else ():
            record = peers.of(peer)
            record.unsent, record.unsent_bytes = sizes, sum(sizes.values())
            outbound.unsent_bytes += record.unsent_bytes
        for frame in self.charged:
            if frame.sender is not None:
                frame.account = record = peers.of(frame.sender)
                record.frames += 1
                record.held += frame.payload
        engine.order.load(self.order, clean=self.clean)
        engine.strangers.load(self.strangers)
        outbound.load(self.letters)
        retries = engine.post.retries
        retries.load(self.retries if self.clean else ())
        unanswered = engine.post.unanswered
        unanswered.load(self.unanswered if self.clean else ())
        # What falls due at one instant keeps its order.
        engine.alarms.clear()
        for left, number, peer, edge in self.alarms:
            found: Any = retries.open.get(number or 0) or unanswered.numbered(number)
            if peer:
                found = peers.records.get(peer)
            if edge is not None:
                found = engine.order.waiting(peer, edge)
            if found is not None:
                found.alarm_ns = self.now_ns + left
                engine.alarms.set(found.alarm_ns, found)

    # Frames

    def _frame(self, packed: Table) -> None:
        bound = self._bound(packed)
        values = self.unpack(packed["values"])
        if len(values) != bound.program.size:
            raise ValueError(f"{len(values)} values for {bound.program.size} positions")
        number = int(packed["number"])
        deadline = self.now_ns + int(packed["left_ns"])
        frame = Frame(number, bound, values, deadline, int(packed["origin"]))
        # Steps go on calling it what they have called it.
        frame.id = FrameId(self.incarnation, number)
        frame.state = QUEUED if packed["queued"] else LIVE
        if packed["parent"] is not None:
            frame.parent = self.frames[packed["parent"]]
            if frame.parent.children is NOTHING:
                frame.parent.children = {}
            frame.parent.children[number] = frame
        if packed["block"] is not None:
            assert frame.parent is not None
            frame.block = frame.parent.blocks[packed["block"]]
        if packed["controller"] is not None:
            frame.controller = self.controllers[packed["controller"]]
        frame.left, frame.waiting = int(packed["left"]), _stretches(bound.runs, packed["waiting"])
        frame.fired = frozenset(int(event) for event in packed["fired"])
        infos = {info.index: info for info in bound.program.gathers}
        frame.gathers = {
            one["index"]: self._gather(GatherState(infos[one["index"]]), one)
            for one in packed["gathers"]
        } or NOTHING
        blocks = {one["index"]: self._block(frame, one) for one in packed["blocks"]}
        frame.blocks = blocks or NOTHING
        frame.expected = {
            str(edge): {peer_of(peer): int(entry) for peer, entry in entries.items()}
            for edge, entries in packed["expected"].items()
        } or NOTHING
        for state in frame.gathers.values():
            if state.asked is not None and state.info.edge not in frame.expected:
                raise ValueError(f"a gather over {state.info.edge!r}, where nobody was asked")
        frame.open_replies = sum(
            entry == 0 for entries in frame.expected.values() for entry in entries.values()
        )
        edges = self.engine.artifact.edges
        frame.sender = None if packed["sender"] is None else peer_of(packed["sender"])
        frame.return_address = _address(packed["return_address"])
        frame.sent = frozenset(map(str, packed["sent"]))
        frame.owed = tuple((_address_of(one), edges[name]) for one, name in packed["owed"])
        frame.paid = frozenset((_address_of(one), str(name)) for one, name in packed["paid"])
        frame.parts = {
            (_who(who), str(edge)): whole(count) for who, edge, count in packed["parts"]
        } or NOTHING
        frame.messages = [int(message) for message in packed["messages"]]
        frame.payload = int(packed["payload"])
        if packed["account"]:
            self.charged.append(frame)
        if packed["asked_at"] is not None:
            frame.asked_at = {str(e): self.now_ns + int(at) for e, at in packed["asked_at"].items()}
        delays = {info.index: info for info in bound.program.delays}
        for index, left, value in packed["delays"]:
            when = self.now_ns + int(left)
            if frame.delays is NOTHING:
                frame.delays = {}
            frame.delays[index] = DelayState(delays[index], when, self.unpack(value))
        self.frames[number] = frame

    def _bound(self, packed: Table) -> BoundRegion:
        place: int = packed["region"]
        return self.bounds[place]

    def _gather(self, state: GatherState, packed: Table) -> GatherState:
        asked = packed["asked"]
        state.asked = None if asked is None else tuple(map(peer_of, asked))
        state.need, state.pending = int(packed["need"]), int(packed["pending"])
        state.answers = {peer_of(peer): _address(one) for peer, one in packed["answers"].items()}
        state.kept = {peer_of(peer): self.unpack(v) for peer, v in packed["kept"].items()}
        # One of an earlier version does not tell.
        for code, count in packed.get("failed", {}).items():
            state.failed = {**state.failed, str(code): whole(count)}
        state.fired = bool(packed["fired"])
        for peer, (arrived, lost, values) in packed["parts"].items():
            parts = state.parts_of(peer_of(peer))
            parts.arrived, parts.lost = set(map(whole, arrived)), bool(lost)
            parts.values = {whole(number): v for number, v in self.unpack(values).items()}
        if packed["dues"] is not None:
            state.dues = Dues(state.info).load(packed["dues"], self.now_ns)
        return state

    def _block(self, frame: Frame, packed: Table) -> BlockState:
        info, bound = self._block_of(frame, packed["index"])
        source, number = self.unpack(packed["source"]), int(packed["number"])
        over = packed["fired"] or packed["stopped"]
        items = iter(()) if over else _items(info, source, number)
        state = BlockState(info, frame, bound, items, source)
        state.number = number
        state.stopped, state.fired = bool(packed["stopped"]), bool(packed["fired"])
        state.kept = self.unpack(packed["kept"])
        state.turns = Counter({str(take): int(n) for take, n in packed["turns"].items()})
        return state

    def _block_of(self, frame: Frame, index: int) -> tuple[BlockInfo, BoundRegion]:
        target = frame.bound.program.target
        for bound in self.bounds:
            info = bound.program.block
            if info is not None and info.index == index and bound.program.target is target:
                return info, bound
        raise ValueError(f"no block {index!r}")

    def _stretch(self, number: int, index: int) -> tuple[Frame, int]:
        frame = self.frames[number]
        return frame, _stretches(frame.bound.runs, (index,))[0]

    # Timers and controllers

    def _timer(self, kind: str, number: int, index: int) -> tuple[Any, Any]:
        if kind == "tick":
            ticker = self.controllers[number]
            assert isinstance(ticker, Every)
            return None, ticker
        frame = self.frames[number]
        if kind == "frame":
            return frame, None
        dues = {index: one.dues for index, one in frame.gathers.items() if one.dues is not None}
        states: Any = {
            "gather": frame.gathers, "dues": dues, "block": frame.blocks, "delay": frame.delays,
        }[kind]  # fmt: skip
        return frame, states[index]

    def _controller(self, packed: Table) -> Controller:
        info = self._bound(packed).program.block
        assert info is not None
        handed = self.unpack(packed["handed"])
        if len(handed) != info.captured and (handed or not packed["stopped"]):
            raise ValueError(f"{len(handed)} of {info.captured} values that a block hands over")
        made: Controller
        if info.op.name == "Rounds":
            times = packed["times"]
            made = Rounds(self.engine, info, handed, None if times is None else int(times))
        elif info.op.name == "Every":
            made = ticker = Every(self.engine, info, handed)
            ticker.start_ns, ticker.tick = (
                self.now_ns + int(packed["start_ns"]),
                int(packed["tick"]),
            )
        else:
            made = On(self.engine, info, handed)
        made.number, made.failed = int(packed["number"]), int(packed["failed"])
        made.active, made.stopped = int(packed["active"]), bool(packed["stopped"])
        made.why, made.told = str(packed["why"]), bool(packed["told"])
        return made

    def _listener(self, place: int) -> On:
        found = self.controllers[place]
        assert isinstance(found, On)
        return found


def seen_of(incarnation: Any, highest: Any, bits: Any, received: Any, too_low: Any) -> Any:
    """Return what a window is made of."""
    ids = tuple(int(number) for number in received)
    return int(incarnation), int(highest), int(bits), ids, int(too_low)


def _address_of(value: Any) -> ReturnAddress:
    if not isinstance(value, ReturnAddress):
        raise TypeError(f"{type(value).__name__} instead of a return address")
    return value


def _who(value: Any) -> PeerId | ReturnAddress | None:
    return value if isinstance(value, PeerId) else _address(value)


def _address(value: Any) -> ReturnAddress | None:
    return None if value is None else _address_of(value)


def _stretches(runs: tuple[Any, ...], indices: Any) -> tuple[int, ...]:
    found = tuple(int(index) for index in indices)
    if any(not 0 <= index < len(runs) for index in found):
        raise ValueError(f"stretches {found} of {len(runs)}")
    return found


def _items(info: BlockInfo, source: tuple[Any, ...], number: int) -> Iterator[tuple[Any, ...]]:
    try:
        return items_after(info, source, number)
    except OpError:
        raise
    except Exception as error:  # of a component's iterator
        raise SnapshotError(
            f"turn {number} of a block cannot be found again: {type(error).__name__}: {error}",
            fix="restore with the data and the configuration that the snapshot was taken with",
        ) from error


def _interrupt(engine: Engine) -> None:
    """End all frames: nobody knows what became of what they sent and waited for."""
    queued = deque(frame for bound in engine.bounds for frame in bound.queue)
    live = deque(frame for frame in engine.frames.values() if frame.parent is None)
    for bound in engine.bounds:
        bound.queue.clear()
    for frame in (*queued, *live):
        engine.end(frame, "interrupted", "Interrupted")
    engine.reopen()
