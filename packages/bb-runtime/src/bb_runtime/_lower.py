"""Lowers a target: each region becomes a few straight pieces of Python.

A *stretch* is what a frame can run without waiting. What an op may have to wait for is an *event*
of its frame or of one above it: a gather that fires, a block whose last turn has ended, an op that
hands its work to the host's executor and completes, a sleep that is over. Which ops wait for which
events is known when the artifact is read, so the ops of a region fall into stretches by the set of
events they depend on, each a straight line in the order of recording, which respects both data and
effects. A stretch is written out as one Python function with one line per op: values are locals or
list positions, callables are bound when a Node is installed, and a value is dropped on the line of
its last reader. So nothing is looked up, counted or parsed while a frame runs, and when an op
raises, the number of the line says which.

`g.last`, and a gather over a block, stand in two regions: the turn *arrives* with its value, and
the frame around the block takes it when the block has ended. They are two ops here.

Lowering happens once per artifact. This module says what is in which stretch; `_writing` writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from bb_ir import keys
from bb_ir.types import ANY
from bb_runtime._program import (
    ARRIVE,
    NO_DEFERRING,
    TAKE,
    BlockInfo,
    DeferInfo,
    Deferring,
    DelayInfo,
    GatherInfo,
    Lowered,
    RegionProgram,
    Stretch,
    begins,
    is_block,
    is_gather,
    is_last,
    is_sleep,
    reads_of,
)
from bb_runtime._soundness import check_target
from bb_runtime._writing import Writer
from bb_runtime.artifact import Artifact, Edge, Op, RegionInfo, Target

__all__ = ["lower", "lowered"]


def lowered(artifact: Artifact, target: Target, deferring: Deferring = NO_DEFERRING) -> Lowered:
    """Return the programs of a target; lowered once and shared by all Nodes.

    Args:
        artifact: The artifact.
        target: One of its targets.
        deferring: Which of its ops may defer their work.
    """
    key = target.name, deferring
    found = artifact.programs.get(key)
    if not isinstance(found, Lowered):
        found = artifact.programs[key] = lower(target, artifact.edges, deferring)
    return found


def lower(
    target: Target, edges: Mapping[str, Edge], deferring: Deferring = NO_DEFERRING
) -> Lowered:
    """Lower every region of a target.

    Raises:
        InvalidArtifact: Its regions do not fit together.
    """
    check_target(target)
    return _Lowering(target, edges, deferring).run()


class _Lowering:
    def __init__(self, target: Target, edges: Mapping[str, Edge], deferring: Deferring) -> None:
        self.target = target
        self.edges = edges
        self.infos = {info.name: info for info in target.regions}
        self.homes: dict[str, str] = {}
        self.positions: dict[str, int] = {}
        self.sizes: dict[str, int] = dict.fromkeys(self.infos, 0)
        self.waits: dict[str, frozenset[int]] = {}
        self._find_homes()
        self.deferring = {id(target.ops[number]) for number in deferring.ops}
        #: Slot whose component depends on others -> all slots that a call of it uses.
        self.siblings = dict(deferring.siblings)
        self.ops = [half for op in target.ops for half in self._halves(op)]
        #: Region in which the frame of each event is, and its op.
        self.events: list[tuple[Op, str]] = []
        self.event_of: dict[int, int] = {}
        #: Events of deferred work, and the pieces of their ops; others are waits for messages.
        self.works: dict[int, tuple[str, frozenset[int]]] = {}
        #: (region, waits) -> ops, in order of first op
        self.pieces: dict[tuple[str, frozenset[int]], list[Op]] = {}
        self.piece_of: dict[int, tuple[str, frozenset[int]]] = {}
        self.last: dict[str, int] = {}
        self.read: set[str] = set()
        self.numbers = {id(op): number for number, op in enumerate(self.ops)}

    def run(self) -> Lowered:
        self._find_events()
        self._cut()
        self._place_values()
        self.last = self._last_readers()
        programs = {name: self._region(info) for name, info in self.infos.items()}
        ops = [op for op, _ in self.events]
        blocks = {id(op): self._block(op) for op in self.ops if is_block(op)}
        for block in blocks.values():
            programs[block.region].block = block
        delays = {id(op): self._delay(op) for op in ops if is_sleep(op)}
        for delay in delays.values():
            programs[delay.op.region].delays += (delay,)
        return Lowered(
            self.target,
            programs,
            {id(op): self.event_of[id(op)] for op in ops if is_gather(op)},
            blocks,
            {id(op): self._defer(op) for op in ops if id(op) in self.deferring},
            delays,
        )

    def _find_homes(self) -> None:
        main = next((n for n, info in self.infos.items() if not info.opened_in), "")
        self.homes.update(dict.fromkeys(self.target.inputs, main))
        for op in self.target.ops:
            for name in op.outputs:
                self.homes[name] = op.region

    def _halves(self, op: Op) -> list[Op]:
        """Return an op; of one that takes values out of a block, its two halves."""
        if not (is_gather(op) or is_last(op)):
            return [op]
        region = self.homes[op.inputs[0]]
        if not self.infos[region].kind:
            return [op]
        first, *more = op.outputs
        keeps = "last" if is_last(op) else "all" if len(more) > 2 else "none"
        what = {"take": first, "keep": keeps}
        outputs = (first, more[-1]) if keeps == "all" else (first,)
        arrives = replace(
            op, name=ARRIVE, inputs=op.inputs[:1], outputs=(), attributes=what, region=region,
            after=(), order=(),
        )  # fmt: skip
        facts = {**what, "block": region}
        takes = replace(op, name=TAKE, inputs=op.inputs[1:], outputs=outputs, attributes=facts)
        return [arrives, takes]

    def _find_events(self) -> None:
        opened: dict[str, int] = {}
        for op in self.ops:
            child_block = is_block(op) and op.name in keys.CHILD_BLOCKS
            defers = id(op) in self.deferring
            if not (is_gather(op) or child_block or defers or is_sleep(op)):
                continue
            index = self.event_of[id(op)] = len(self.events)
            self.events.append((op, op.region))
            if is_gather(op):
                self.waits.update(dict.fromkeys(op.outputs, frozenset({index})))
            elif child_block:
                opened[op.opens] = index
            elif defers:
                self.works[index] = op.region, frozenset()
        #: Region of a block's turns -> the event that the last has ended.
        self.block_events = opened

    def _cut(self) -> None:
        calls = _Calls(self)
        for number, op in enumerate(self.ops):
            if begins(op):
                continue
            region = op.region
            gathering = is_gather(op)
            if gathering:
                region = self.homes[op.inputs[0]]
            reads = (*op.inputs, *op.after, *op.order)
            waits = frozenset[int]().union(*(self.waits.get(n, frozenset()) for n in reads))
            if op.name == TAKE and op.domain == keys.SYSCALL:
                waits |= {self.block_events[op.attributes["block"]]}
            own = self.event_of.get(id(op))
            if self.works and op.schema is not None:
                waits = calls.wait(op, waits)
            piece = (region, waits)
            self.pieces.setdefault(piece, []).append(op)
            self.piece_of[number] = piece
            if gathering:
                continue
            if own in self.works:
                self.works[own] = piece
            if own is not None:
                waits |= {own}
            self.waits.update(dict.fromkeys(op.outputs, waits))

    def _place_values(self) -> None:
        """Give a list position to each value that is read outside the piece that makes it."""
        made_in: dict[str, tuple[str, frozenset[int]] | None] = {}
        made_in.update(dict.fromkeys(self.target.inputs))
        for number, op in enumerate(self.ops):
            piece = None if id(op) in self.event_of else self.piece_of.get(number)
            made_in.update(dict.fromkeys(op.outputs, piece))
        for number, op in enumerate(self.ops):
            for name in reads_of(op):
                if name and made_in[name] != self.piece_of.get(number, ()):
                    self._position(name)

    def _position(self, name: str) -> int:
        if name not in self.positions:
            home = self.homes[name]
            self.positions[name] = self.sizes[home]
            self.sizes[home] += 1
        return self.positions[name]

    def _region(self, info: RegionInfo) -> RegionProgram:
        pieces = [(w, ops) for (region, w), ops in self.pieces.items() if region == info.name]
        # A piece reads what pieces made that wait for fewer gathers; when several can start at
        # once, they start in this order.
        pieces.sort(key=lambda piece: len(piece[0]))
        if info.kind and not pieces:
            pieces.append((frozenset(), []))  # else turns would end and begin without a budget
        gathers = tuple(
            self._gather(index, op)
            for index, (op, _) in enumerate(self.events)
            if op.region == info.name and is_gather(op)
        )
        main = not info.opened_in
        placed = (name for name in self.positions if self.homes[name] == info.name)
        brought = (op.outputs for op in self.ops if op.region == info.name and begins(op))
        return RegionProgram(
            info=info,
            target=self.target,
            size=self.sizes[info.name],
            inputs={n: self.positions.get(n, -1) for n in self.target.inputs} if main else {},
            ports=tuple(self.positions.get(n, -1) for n in self._brought(info, brought)),
            stretches=tuple(self._stretch(info.name, waits, ops) for waits, ops in pieces),
            together=self._together(info.name, [waits for waits, _ in pieces]),
            gathers=gathers,
            owes=tuple(
                (edge, self._stands_in(edge.sent_in, info.name))
                for edge in self.edges.values()
                if edge.answers == info.name
            ),
            waits=any(waits or any(map(self._asks, ops)) for waits, ops in pieces),
            names=tuple(sorted(placed, key=self.positions.__getitem__)),
            replies=self._replies(info.name),
        )

    def _brought(self, info: RegionInfo, brought: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
        """Return the values that a region begins with."""
        edge = self.edges.get(info.name)
        if edge is not None:
            return tuple(name for name, _ in edge.ports)
        return next(iter(brought), ())

    def _together(
        self, region: str, pieces: Sequence[frozenset[int]]
    ) -> tuple[tuple[int, ...], ...]:
        """Return which pieces of a region keep their slots from the first of them to the last.

        A group is known by what its first piece waits for; the others wait, beside that, only for
        work that pieces of the group defer. So a group that has begun waits for nobody else.
        """
        groups: dict[frozenset[int], list[int]] = {}
        group_of: dict[frozenset[int], frozenset[int]] = {}
        for number, waits in enumerate(pieces):
            home = {
                event: group_of[self.works[event][1]]
                for event in waits
                if event in self.works and self.works[event][0] == region
            }
            fits = (
                group
                for group in home.values()
                if all(event in group or home.get(event) == group for event in waits)
            )
            group_of[waits] = group = next(fits, waits)
            groups.setdefault(group, []).append(number)
        return tuple(map(tuple, groups.values()))

    def _stands_in(self, region: str, ancestor: str) -> bool:
        while region != ancestor and region:
            region = self.infos[region].parent
        return bool(region)

    def _asks(self, op: Op) -> bool:
        """Whether a frame that ran an op may have to wait, whatever comes after."""
        sends = op.domain == keys.WIRE and op.name == keys.SEND
        return (sends and self.edges[op.edge].answered) or id(op) in self.event_of

    def _block(self, op: Op) -> BlockInfo:
        captured = int(op.attributes.get("captured", 0))
        own = op.inputs[: len(op.inputs) - captured]
        peers = any(self.target.types.get(name, ANY).kind == "peers" for name in own)
        turn = next(one for one in self.ops if one.opens == op.opens and begins(one))
        item = self.target.types.get(turn.outputs[0], ANY)
        return BlockInfo(self.event_of.get(id(op), -1), op, op.opens, peers, captured, item)

    def _defer(self, op: Op) -> DeferInfo:
        outs = tuple(self.positions.get(name, -1) for name in op.outputs)
        return DeferInfo(self.event_of[id(op)], op, outs)

    def _delay(self, op: Op) -> DelayInfo:
        out = self.positions.get(op.outputs[0], -1)
        return DelayInfo(self.event_of[id(op)], op, out, int(op.attributes["duration_ns"]))

    def _gather(self, index: int, op: Op) -> GatherInfo:
        a = op.attributes
        text = str(a["quorum"])
        count = text.startswith("#")
        outs = [self.positions.get(name, -1) for name in op.outputs]
        return GatherInfo(
            index=index,
            edge=self.homes[op.inputs[0]],
            share=None if count else Fraction(text),
            number=int(text[1:]) if count else 0,
            wait_all=a["wait"] == "all",
            fail_short=a["on_short"] == "fail",
            keep_open=a["on_late"] == "run",
            deadline_ns=int(a.get("deadline_ns", 0)) or self._bound(self.homes[op.inputs[0]]),
            outs=(outs[0], outs[1], outs[2], outs[3] if len(outs) > 3 else -1),
            op=op,
            replies=self._replies(self.homes[op.inputs[0]]),
        )

    def _replies(self, region: str) -> int:
        """Return how often a peer sends what opens a region."""
        edge = self.edges.get(region)
        return 1 if edge is None else edge.replies

    def _bound(self, edge: str) -> int:
        """Return how long a gather without a deadline of its own waits; 0 for its frame's."""
        reply = self.edges.get(edge)
        asked = self.edges.get(reply.answers) if reply is not None and reply.auto else None
        return 0 if asked is None else asked.deadline_ns

    def _stretch(self, region: str, waits: frozenset[int], ops: list[Op]) -> Stretch:
        # Work that has come back says that what its own op waited for has happened.
        implied = frozenset[int]().union(*(self.works[e][1] for e in waits if e in self.works))
        needs = tuple((self.level(region, self.events[e][1]), e) for e in sorted(waits - implied))
        name = f"<bb {self.target.short}/{region}>"
        text = Writer(self, region, ops).text()
        cost = sum(len(op.inner) or 1 for op in ops) or 1
        return Stretch(needs, tuple(ops), compile(text, name, "exec"), name, cost)

    def level(self, region: str, ancestor: str) -> int:
        """Return how many frames up from a region an ancestor stands."""
        level = 0
        while region != ancestor:
            region = self.infos[region].parent
            level += 1
        return level

    def _last_readers(self) -> dict[str, int]:
        """Return for each value the number of its last reader, where it is known which that is.

        Readers in child frames may come at any time. Of several pieces of the value's own region,
        the last is the one that waits for all that the others wait for.
        """
        readers: dict[str, list[int]] = {}
        for number, op in enumerate(self.ops):
            for name in reads_of(op):
                readers.setdefault(name, []).append(number)
        self.read.update(readers)
        last: dict[str, int] = {}
        for name, numbers in readers.items():
            pieces = {self.piece_of[number] for number in numbers}
            longest = max(pieces, key=lambda piece: len(piece[1]))
            home = self.homes.get(name)
            if all(region == home and waits <= longest[1] for region, waits in pieces):
                last[name] = max(n for n in numbers if self.piece_of[n] == longest)
        return last


class _Calls:
    """What ops wait for, so that each call into a component ends before the next begins.

    The order edges of an artifact do not say so of two ops that only read, nor of components that
    depend on each other: without deferred work, a stretch orders them.
    """

    def __init__(self, lowering: _Lowering) -> None:
        self.lowering = lowering
        #: Region and slot -> what its last deferred work waits for, and that work.
        self.work: dict[tuple[str, str], frozenset[int]] = {}
        #: Region and slot -> what each op so far waits for.
        self.before: dict[tuple[str, str], list[frozenset[int]]] = {}

    def wait(self, op: Op, waits: frozenset[int]) -> frozenset[int]:
        """Return what an op waits for, given what it would if it were alone on its slots."""
        lowering = self.lowering
        own = lowering.event_of.get(id(op))
        slots = lowering.siblings.get(op.slot, (op.slot,))
        places = [(op.region, slot) for slot in slots]
        waits = waits.union(*(self.work.get(place, frozenset()) for place in places))
        if own is not None:
            # Earlier calls may have to wait for work elsewhere. Those that wait for more messages
            # are another group of stretches: the slots keep them apart.
            earlier = [one for place in places for one in self.before.get(place, ())]
            waits = waits.union(
                *(one for one in earlier if one.difference(lowering.works) <= waits)
            )
        ended = waits if own is None else waits | {own}
        for place in places:
            self.before.setdefault(place, []).append(ended)
            if own is not None:
                self.work[place] = ended
        return waits
