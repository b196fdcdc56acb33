"""Lowers a target: each region becomes a few straight pieces of Python.

A *stretch* is what a frame can run without waiting for messages. Which ops wait for which gathers
is known when the artifact is read, so the ops of a region fall into stretches by the set of
gathers they depend on, each a straight line in the order of recording, which respects both data
and effects. A stretch is written out as one Python function with one line per op: values are
locals or list positions, callables are bound when a Node is installed, and a value is dropped on
the line of its last reader. So nothing is looked up, counted or parsed while a frame runs, and
when an op raises, the number of the line says which.

The text holds numbers only, never a name from the artifact. Lowering happens once per artifact;
`bind` makes the functions of one Node.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from types import CodeType
from typing import Any

from bb_ir import keys
from bb_ir.ops import role_op
from bb_runtime.artifact import Artifact, Edge, Op, RegionInfo, Target

__all__ = ["GatherInfo", "Lowered", "RegionProgram", "Stretch", "is_gather", "lower", "lowered"]

#: Finds the callable of an op; called once per op and Node.
Resolve = Callable[[Op], Any]


@dataclass(frozen=True, slots=True)
class GatherInfo:
    """One gather, as the frame that waits for it knows it."""

    index: int
    edge: str
    share: Fraction | None
    number: int
    wait_all: bool
    fail_short: bool
    keep_open: bool
    deadline_ns: int
    outs: tuple[int, int, int, int]
    op: Op

    def need(self, expected: int) -> int:
        """How many answers it takes, of so many peers asked."""
        if self.share is None:
            return self.number
        exact = self.share * expected
        return max(1, -(-exact.numerator // exact.denominator))


@dataclass(frozen=True, slots=True)
class Stretch:
    """A straight piece of a region.

    Attributes:
        needs: Gathers that must have fired: how many frames up, and their index.
        ops: Its ops in order; line n of the code is op n.
        code: The compiled factory of its function.
        name: File name of the code in tracebacks.
    """

    needs: tuple[tuple[int, int], ...]
    ops: tuple[Op, ...]
    code: CodeType
    name: str


@dataclass
class RegionProgram:
    """One region of a target, lowered.

    Attributes:
        info: What the artifact says about it.
        target: Short name of the target.
        size: Positions in the list of a frame's values.
        inputs: Input name to position, for what an invocation gives.
        ports: Position of each value that the opening envelope brings; -1 when nobody reads it.
        stretches: The pieces; one that waits for more stands after one that waits for less.
        gathers: Gathers whose frame is of this region.
        owes: Edges that answer the one that opens this region, and whether a frame of it or of
            its children sends them; else its parent does, after a gather.
        waits: Whether its frames may have to wait for messages.
    """

    info: RegionInfo
    target: Target
    size: int = 0
    inputs: dict[str, int] = field(default_factory=dict[str, int])
    ports: tuple[int, ...] = ()
    stretches: tuple[Stretch, ...] = ()
    gathers: tuple[GatherInfo, ...] = ()
    owes: tuple[tuple[Edge, bool], ...] = ()
    waits: bool = False


@dataclass(frozen=True)
class Lowered:
    """All regions of one target, by name."""

    target: Target
    regions: dict[str, RegionProgram]


def lowered(artifact: Artifact, target: Target) -> Lowered:
    """Return the programs of a target; lowered once and shared by all Nodes."""
    found = artifact.programs.get(target.name)
    if not isinstance(found, Lowered):
        found = artifact.programs[target.name] = lower(target, artifact.edges)
    return found


def lower(target: Target, edges: Mapping[str, Edge]) -> Lowered:
    """Lower every region of a target."""
    return _Lowering(target, edges).run()


def is_gather(op: Op) -> bool:
    """Whether an op is the engine's gather; ONNX has one of the same name."""
    return op.name == keys.GATHER and op.domain == keys.SYSCALL


def _reads(op: Op) -> tuple[str, ...]:
    """Return the values that an op is given; a return address belongs to the frame itself."""
    return () if op.domain == keys.WIRE and op.name == keys.SENDER else op.inputs


class _Lowering:
    def __init__(self, target: Target, edges: Mapping[str, Edge]) -> None:
        self.target = target
        self.edges = edges
        self.infos = {info.name: info for info in target.regions}
        self.homes: dict[str, str] = {}
        self.positions: dict[str, int] = {}
        self.sizes: dict[str, int] = dict.fromkeys(self.infos, 0)
        self.waits: dict[str, frozenset[int]] = {}
        self.gathers: list[tuple[Op, str]] = []
        #: (region, waits) -> ops, in order of first op
        self.pieces: dict[tuple[str, frozenset[int]], list[Op]] = {}
        self.piece_of: dict[int, tuple[str, frozenset[int]]] = {}
        self.last: dict[str, int] = {}
        self.read: set[str] = set()
        self.numbers = {id(op): number for number, op in enumerate(target.ops)}

    def run(self) -> Lowered:
        self._find_homes()
        self._cut()
        self._place_values()
        self.last = self._last_readers()
        programs = {name: self._region(info) for name, info in self.infos.items()}
        return Lowered(self.target, programs)

    def _find_homes(self) -> None:
        main = next((n for n, info in self.infos.items() if not info.opened_in), "")
        self.homes.update(dict.fromkeys(self.target.inputs, main))
        for op in self.target.ops:
            for name in op.outputs:
                self.homes[name] = op.region
        for op in self.target.ops:
            if is_gather(op):
                for name in op.outputs:
                    self.waits[name] = frozenset({len(self.gathers)})
                self.gathers.append((op, self.homes[op.inputs[0]]))

    def _cut(self) -> None:
        for number, op in enumerate(self.target.ops):
            if op.name == keys.RECEIVE and op.domain == keys.WIRE:
                continue
            region = op.region
            gathering = is_gather(op)
            if gathering:
                region = self.homes[op.inputs[0]]
            reads = (*op.inputs, *op.after, *op.order)
            waits = frozenset[int]().union(*(self.waits.get(n, frozenset()) for n in reads))
            piece = (region, waits)
            self.pieces.setdefault(piece, []).append(op)
            self.piece_of[number] = piece
            if not gathering:
                self.waits.update(dict.fromkeys(op.outputs, waits))

    def _place_values(self) -> None:
        """Give a list position to each value that is read outside the piece that makes it."""
        made_in: dict[str, tuple[str, frozenset[int]] | None] = {}
        made_in.update(dict.fromkeys(self.target.inputs))
        for number, op in enumerate(self.target.ops):
            piece = None if is_gather(op) else self.piece_of.get(number)
            made_in.update(dict.fromkeys(op.outputs, piece))
        for number, op in enumerate(self.target.ops):
            for name in _reads(op):
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
        edge = self.edges.get(info.name)
        gathers = tuple(
            self._gather(index, op)
            for index, (op, _) in enumerate(self.gathers)
            if op.region == info.name
        )
        main = not info.opened_in
        return RegionProgram(
            info=info,
            target=self.target,
            size=self.sizes[info.name],
            inputs={n: self.positions.get(n, -1) for n in self.target.inputs} if main else {},
            ports=tuple(self.positions.get(n, -1) for n, _ in edge.ports) if edge else (),
            stretches=tuple(self._stretch(info.name, waits, ops) for waits, ops in pieces),
            gathers=gathers,
            owes=tuple(
                (edge, self._stands_in(edge.sent_in, info.name))
                for edge in self.edges.values()
                if edge.answers == info.name
            ),
            waits=any(waits or any(map(self._asks, ops)) for waits, ops in pieces),
        )

    def _stands_in(self, region: str, ancestor: str) -> bool:
        while region != ancestor and region:
            region = self.infos[region].parent
        return bool(region)

    def _asks(self, op: Op) -> bool:
        sends = op.domain == keys.WIRE and op.name == keys.SEND
        return sends and self.edges[op.edge].answered

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
            deadline_ns=int(a.get("deadline_ns", 0)),
            outs=(outs[0], outs[1], outs[2], outs[3] if len(outs) > 3 else -1),
            op=op,
        )

    def _stretch(self, region: str, waits: frozenset[int], ops: list[Op]) -> Stretch:
        needs = tuple((self.level(region, self.gathers[g][0].region), g) for g in sorted(waits))
        name = f"<bb {self.target.short}/{region}>"
        text = _Writer(self, region, ops).text()
        return Stretch(needs, tuple(ops), compile(text, name, "exec"), name)

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
        for number, op in enumerate(self.target.ops):
            for name in _reads(op):
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


class _Writer:
    """Writes the Python of one stretch."""

    def __init__(self, lowering: _Lowering, region: str, ops: Sequence[Op]) -> None:
        self.lowering = lowering
        self.region = region
        self.ops = ops
        self.locals: dict[str, str] = {}
        self.levels: set[int] = set()

    def text(self) -> str:
        body = [self._line(at, op) for at, op in enumerate(self.ops)]
        kernels = ",".join(f"k{at}" for at in range(len(self.ops)))
        contexts = ",".join(f"c{at}" for at in range(len(self.ops)))
        ups = "".join(f";v{level}=f{'.parent' * level}.values" for level in sorted(self.levels))
        head = f"def make({kernels},{contexts}):\n def run(f):\n  pass{ups}\n"
        return head + "\n".join(f"  {line}" for line in body) + "\n return run\n"

    def _line(self, at: int, op: Op) -> str:
        if op.domain == keys.WIRE and op.name == keys.SENDER:
            level = self._level(op.inputs[0])
            call = f"(f{'.parent' * level}.return_address,)"
            return f"{self._store(op)}{call}{self._drops(op)}"
        reads = [self._read(name) for name in op.inputs]
        if is_gather(op):
            return f"k{at}(f,{reads[0]}){self._drops(op)}"
        if op.domain == keys.WIRE or (op.domain == keys.SYSCALL and op.name == keys.OUTPUT):
            call = f"k{at}({','.join(['f', *reads])})"
            return f"{self._store(op)}{call}{self._drops(op)}"
        if role_op(op.domain, op.name) is not None:
            call = f"k{at}({','.join([f'c{at}', *reads])})"
            return f"c{at}.frame=f;{self._store(op)}{call}{self._drops(op)}"
        return f"{self._store(op)}k{at}({','.join(reads)}){self._drops(op)}"

    def _level(self, name: str) -> int:
        return self.lowering.level(self.region, self.lowering.homes[name])

    def _read(self, name: str) -> str:
        if not name:
            return "None"
        if name in self.locals:
            return self.locals[name]
        level = self._level(name)
        self.levels.add(level)
        return f"v{level}[{self.lowering.positions[name]}]"

    def _store(self, op: Op) -> str:
        if len(op.outputs) == 1 and op.outputs[0] not in self.lowering.read:
            return ""
        places: list[str] = []
        for name in op.outputs:
            if name in self.lowering.positions:
                self.levels.add(0)
                places.append(f"v0[{self.lowering.positions[name]}]")
            else:
                self.locals[name] = f"a{len(self.locals)}"
                places.append(self.locals[name])
        return ",".join(places) + "="

    def _drops(self, op: Op) -> str:
        """Drop what nobody reads after an op."""
        lowering = self.lowering
        number = lowering.numbers[id(op)]
        names = [n for n in dict.fromkeys(_reads(op)) if n and lowering.last.get(n) == number]
        places = [self._read(name) for name in names]
        unread = [n for n in op.outputs if n in self.locals and n not in lowering.read]
        places += [self.locals[name] for name in unread]
        return "".join(f";{place}=None" for place in places)


#: Lines of a stretch's text before its first op.
FIRST_LINE = 4


def bind(stretch: Stretch, resolve: Resolve, context: Callable[[Op], Any]) -> Callable[[Any], None]:
    """Return the function of a stretch for one Node."""
    space: dict[str, Any] = {}
    exec(stretch.code, space)  # noqa: S102  # text of our own, numbers only
    kernels = [resolve(op) for op in stretch.ops]
    contexts = [context(op) for op in stretch.ops]
    made: Callable[[Any], None] = space["make"](*kernels, *contexts)
    return made


def with_attributes(call: Callable[..., Any], attributes: Mapping[str, Any]) -> Callable[..., Any]:
    """Bind an op's attributes to its callable."""
    return functools.partial(call, **attributes) if attributes else call
