"""Writes the Python of a stretch, and binds it to the callables of one Node.

The text holds numbers only, never a name from the artifact.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from bb_ir import keys
from bb_runtime._program import ARRIVE, TAKE, Stretch, is_block, reads_of
from bb_runtime.artifact import Op, RegionInfo

__all__ = ["FIRST_LINE", "WITH_CONTEXT", "Writer", "bind", "with_attributes"]

#: Framework ops whose callables are given the frame.
_WITH_FRAME = (keys.OUTPUT, ARRIVE, TAKE)
#: And those whose callables are given a context, as methods of components are.
WITH_CONTEXT = (keys.NOW, keys.ME, keys.RANDOM, keys.CHOICE)

#: What a line calls and the context it is called with, by the number of the op.
_GIVEN = re.compile(r"\b[kc]\d+\b")

#: Finds the callable of an op; called once per op and Node.
Resolve = Callable[[Op], Any]


class Lowering(Protocol):
    """What is known of a target when its stretches are written."""

    infos: dict[str, RegionInfo]
    homes: dict[str, str]
    positions: dict[str, int]
    event_of: dict[int, int]
    last: dict[str, int]
    read: set[str]
    numbers: dict[int, int]

    def level(self, region: str, ancestor: str) -> int:
        """Return how many frames up from a region an ancestor stands."""
        ...


class Writer:
    """Writes the Python of one stretch."""

    def __init__(self, lowering: Lowering, region: str, ops: Sequence[Op]) -> None:
        self.lowering = lowering
        self.region = region
        self.ops = ops
        self.locals: dict[str, str] = {}
        self.levels: set[int] = set()

    def text(self) -> str:
        body = [self._line(at, op) for at, op in enumerate(self.ops)]
        names = [f"{kind}{at}" for at in range(len(self.ops)) for kind in "kc"]
        given, used = ",".join(names), set(_GIVEN.findall("\n".join(body)))
        # As defaults they take a place each in one tuple; as free variables, a cell each.
        own = "".join(f",{name}={name}" for name in names if name in used)
        ups = "".join(f";v{level}=f{'.parent' * level}.values" for level in sorted(self.levels))
        head = f"def make({given}):\n def run(f{own}):\n  pass{ups}\n"
        return head + "\n".join(f"  {line}" for line in body) + "\n return run\n"

    def _line(self, at: int, op: Op) -> str:
        if op.domain == keys.WIRE and op.name == keys.SENDER:
            up = ".parent" * self._message_level(op.inputs[0])
            return f"{self._store(op)}(f{up}.return_address,){self._drops(op)}"
        reads = [self._read(name) for name in reads_of(op)]
        event = id(op) in self.lowering.event_of
        if op.schema is not None or (op.domain == keys.SYSCALL and op.name in WITH_CONTEXT):
            context = f"c{at}.frame=f;"
            if event:  # its results are stored when it completes
                return f"{context}k{at}({','.join(['f', f'c{at}', *reads])}){self._drops(op)}"
            return (
                f"{context}{self._store(op)}k{at}({','.join([f'c{at}', *reads])}){self._drops(op)}"
            )
        if op.domain == keys.SYSCALL and op.name == keys.UNTIL:
            up = ".parent" * self._level(op.inputs[0])
            return f"k{at}(f{up},{reads[0]}){self._drops(op)}"
        if event or is_block(op):
            return f"k{at}({','.join(['f', *reads])}){self._drops(op)}"
        if op.domain == keys.WIRE or (op.domain == keys.SYSCALL and op.name in _WITH_FRAME):
            call = f"k{at}({','.join(['f', *reads])})"
            return f"{self._store(op)}{call}{self._drops(op)}"
        return f"{self._store(op)}k{at}({','.join(reads)}){self._drops(op)}"

    def _message_level(self, name: str) -> int:
        """Return how many frames up the one stands whose envelope brought a value."""
        home = self.lowering.homes[name]
        infos = self.lowering.infos
        while infos[home].kind and infos[home].parent:
            home = infos[home].parent
        return self.lowering.level(self.region, home)

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
        if not op.outputs or (len(op.outputs) == 1 and op.outputs[0] not in self.lowering.read):
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
        names = [n for n in dict.fromkeys(reads_of(op)) if n and lowering.last.get(n) == number]
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
    given = [one for op in stretch.ops for one in (resolve(op), context(op))]
    made: Callable[[Any], None] = space["make"](*given)
    return made


def with_attributes(call: Callable[..., Any], attributes: Mapping[str, Any]) -> Callable[..., Any]:
    """Bind an op's attributes to its callable."""
    return functools.partial(call, **attributes) if attributes else call
