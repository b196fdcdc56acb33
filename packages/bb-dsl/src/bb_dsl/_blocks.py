"""Blocks: time, events, loops, conditions and rounds, each a `with` statement.

A block is one op where it stands, and a region of its own for what is recorded inside: the region
begins with a `Turn`, which gives the number or the item of the turn. Which ops belong to the block
is what the `with` says; where they run is still decided by the compiler.

The turns of `each`, `loop` and `when` are parts of the frame around them: they read its values, and
it goes on when the last has ended. `every`, `on` and `rounds` start frames of their own, which
outlive it; the values they read are handed over when the block starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from bb_dsl._checks import (
    check_name,
    check_one_of,
    check_text,
    positive,
    read_duration,
    read_type,
)
from bb_dsl._misuse import OfUnentered
from bb_dsl._output import Output
from bb_dsl._recorder import Recorder
from bb_dsl._source import user_line
from bb_dsl.errors import BadOption, EmptyBlock
from bb_ir import keys, onnx_tools
from bb_ir.errors import SourceLine
from bb_ir.ops import BATCHES, batch_parts
from bb_ir.types import ANY, SCALARS, TRIGGER, Type, peers, scalar, tensor

if TYPE_CHECKING:
    from bb_dsl._graph import Graph

__all__ = ["Block", "Blocks", "Turn"]

T = TypeVar("T")
Overlap = Literal["queue", "skip", "parallel"]


class Turn(Output):
    """The number of a turn, round or tick, an int64 that counts from 1."""

    __slots__ = ()

    def until(self, flag: Output) -> None:
        """Record that no more turns start once one has found `flag` true.

        The turn itself goes on to its end, and so do those that run beside it.

        Args:
            flag: A bool, or a tensor of one bool, of the block's region.
        """
        self.graph.append_until(self, flag)


class Block(OfUnentered, Generic[T]):
    """A `with` statement; `as` gives what differs from turn to turn."""

    def __init__(self, graph: Blocks, name: str, item: T, call: str, where: SourceLine) -> None:
        self._graph = graph
        self._name = name
        self._item = item
        self._call = call
        self.made = where
        self.with_line = f"with {call}{_as(item)}:"
        self._begun = 0

    def __repr__(self) -> str:
        return f"<block {self._call}>"

    def __enter__(self) -> T:
        self._begun = self._graph.begin_block(self._name, self._item, self._call)
        return self._item

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ops = self._graph.end_block(self._begun)
        if error is None and not ops:
            raise EmptyBlock(
                f"nothing is recorded inside `with {self._call}`",
                fix="call a slot's method or g.output(...) in it, or leave it out",
                where=self.made,
            )
        if error is None and self._graph.is_endless(self._begun):
            raise BadOption(
                "a g.loop() that nothing ends; what comes after it would never run",
                expected="a number of turns, or turn.until(flag) inside",
                fix="with g.loop(10) as turn: or turn.until(...); g.rounds() may go on for ever",
                where=self.made,
            )


class Blocks(Recorder):
    """The part of `Graph` that records blocks."""

    def rounds(
        self,
        times: int | Output | None = None,
        *,
        width: int = 1,
        on_fail: Literal["stop", "continue"] = "stop",
        name: str = "rounds",
    ) -> Block[Turn]:
        """Repeat what is recorded inside, each round a frame of its own with its own deadline.

        Args:
            times: How many rounds; without it they go on until `turn.until(...)` or the Node ends.
            width: How many rounds may be in flight at a time.
            on_fail: Whether a round that fails ends the block, or the next one begins all the
                same. One that failed counts as a round.
            name: Name of the region, for reports and `bb explain`.

        Returns:
            A block that gives the number of the round, from 1 on.
        """
        check_one_of("on_fail", on_fail, ("stop", "continue"))
        own, facts = self._times(times)
        facts |= {"width": positive("width", width), "on_fail": on_fail}
        return self._block("Rounds", name, own, facts, self._turn("round"))

    def loop(
        self, times: int | Output | None = None, *, deadline: str = "", name: str = "loop"
    ) -> Block[Turn]:
        """Repeat what is recorded inside, one turn after the other, as part of this frame.

        A turn has ended when its last op ran and all its replies came. What follows on a slot that
        the turns use, and what takes `g.last(...)`, runs after the last turn.

        Args:
            times: How many turns; without it `turn.until(...)` must end the loop.
            deadline: How long all turns may take together, such as `"5m"`.
            name: Name of the region.

        Returns:
            A block that gives the number of the turn, from 1 on.
        """
        own, facts = self._times(times)
        return self._block("Loop", name, own, facts | _deadline(deadline), self._turn("turn"))

    def each(self, values: Output, *, deadline: str = "", name: str = "each") -> Block[Any]:
        """Run what is recorded inside once for each item, in order, as part of this frame.

        Args:
            values: Batches of a DataSource, a list, peers, or a tensor, whose items are the slices
                along its first axis.
            deadline: How long all turns may take together; one hour when left out.
            name: Name of the region.

        Returns:
            A block that gives the item: for batches a pair of inputs and labels.
        """
        source = self.own(values)
        items = [self._fresh(name, type_) for type_ in _items(source)]
        given = items[0] if len(items) == 1 else tuple(items)
        facts = _deadline(deadline) | {"items": len(items)}
        return self._block("Each", name, [source], facts, given)

    def when(self, flag: Output, *, name: str = "when") -> Block[None]:
        """Run what is recorded inside once if `flag` is true, as part of this frame.

        Args:
            flag: A bool, or a tensor of one bool.
            name: Name of the region.
        """
        return self._block("When", name, [self._flag(flag)], {}, None)

    def every(
        self,
        period: str,
        *,
        jitter: str = "",
        overlap: Overlap = "skip",
        name: str = "every",
    ) -> Block[Turn]:
        """Run what is recorded inside again and again, each tick a frame of its own.

        The first tick comes one period after the block starts, and all others stay on that grid.
        Ticks that a late Node missed become one, and are counted.

        Args:
            period: Time from tick to tick, such as `"5s"`.
            jitter: Each tick comes later by a random time below this; less than the period.
            overlap: What happens to a tick while the one before still runs: it is skipped and
                counted, waits in line, or runs beside it.
            name: Name of the region.

        Returns:
            A block that gives the number of the tick, from 1 on.
        """
        check_one_of("overlap", overlap, ("queue", "skip", "parallel"))
        facts: dict[str, Any] = {"period_ns": read_duration("period", period), "overlap": overlap}
        facts["jitter_ns"] = read_duration("jitter", jitter) if jitter else 0
        if facts["period_ns"] <= facts["jitter_ns"]:
            raise BadOption(
                f"jitter={jitter!r} with a period of {period!r}",
                expected="a jitter below the period",
                where=user_line(),
            )
        return self._block("Every", name, [], facts, self._turn("tick"))

    def on(
        self,
        topic: str,
        type: Type | str = ANY,  # noqa: A002  # as in input
        *,
        overlap: Overlap = "queue",
        name: str = "on",
    ) -> Block[Output]:
        """Run what is recorded inside for each event of a topic on this Node.

        Args:
            topic: What `g.publish` and `node.publish` name.
            type: What the events must be.
            overlap: What happens to an event while the one before is still worked on: it waits in
                line, is skipped and counted, or is worked on beside it.
            name: Name of the region.

        Returns:
            A block that gives the event.
        """
        check_text("topic", topic)
        check_one_of("overlap", overlap, ("queue", "skip", "parallel"))
        facts = {"topic": topic, "overlap": overlap}
        return self._block("On", name, [], facts, self._fresh("event", read_type(type)))

    def publish(self, topic: str, value: Output) -> Output:
        """Record an event for the `on` blocks of this Node; returns a trigger."""
        check_text("topic", topic)
        done = self._fresh("published", TRIGGER)
        self._append(keys.SYSCALL, keys.PUBLISH, [self.own(value)], [done.name], {"topic": topic})
        return done

    def last(self, value: Output, default: Output | None = None) -> Output:
        """Bring a value of an `each`, `loop` or `when` block out, as its last turn gave it.

        Args:
            value: A value of the block's region.
            default: What to take when no turn ran; without it the frame fails then.
        """
        own = [self.own(value), *([self.own(default)] if default is not None else [])]
        out = self._fresh("last", own[0].type)
        self._append(keys.SYSCALL, keys.LAST, own, [out.name])
        return out

    # What `Block` and `Turn` call

    def begin_block(self, name: str, item: object, call: str) -> int:
        """Begin the region of a block with its `Turn`; returns how many ops there are now."""
        last = self.nodes[-1]
        if self._unopened.pop(name, None) is None or onnx_tools.get_meta(last, keys.OPENS) != name:
            raise BadOption(
                f"the block of an earlier {call} is entered",
                expected="each block is entered once, where it is made",
                fix=f"with {call}:",
                where=user_line(),
            )
        self._blocks.append(name)
        items = cast("tuple[object, ...]", item if isinstance(item, tuple) else (item,))
        outs = [one.name for one in items if isinstance(one, Output)]
        outs = outs or [self._fresh("turn", TRIGGER).name]
        node = self._append(keys.SYSCALL, keys.TURN, [], outs)
        onnx_tools.set_meta(node, keys.OPENS, name)
        return len(self.nodes)

    def end_block(self, begun: int) -> int:
        """End the region of a block; returns how many ops it holds."""
        self._blocks.pop()
        return len(self.nodes) - begun

    def is_endless(self, begun: int) -> bool:
        """Whether a block is a loop without a number of turns and without `until`."""
        block, turn = self.nodes[begun - 2 : begun]
        if block.op_type != "Loop" or block.input or onnx_tools.attributes(block).get("times"):
            return False
        number = turn.output[0]
        return not any(n.op_type == keys.UNTIL and n.input[0] == number for n in self.nodes[begun:])

    def check_blocks(self) -> None:
        """Check that every block was entered.

        Raises:
            EmptyBlock: One was made and left.
        """
        for call, where in self._unopened.values():
            raise EmptyBlock(
                f"{call} opens a block, but nothing is recorded in it",
                fix=f"with {call}: and what it repeats inside",
                where=where,
            )

    def append_until(self, number: Output, flag: Output) -> None:
        """Record the end of a block: no more turns when `flag` is true."""
        done = self._fresh("until", TRIGGER)
        value = self._flag(flag)
        self._append(keys.SYSCALL, keys.UNTIL, [self.own(number), value], [done.name])

    # Inside

    def _block(
        self, op: str, name: str, inputs: Sequence[Output], facts: Mapping[str, Any], item: T
    ) -> Block[T]:
        check_name("block", name)
        region, nth = f"@{name}", 1
        while region in self._edges:
            nth += 1
            region = f"@{name}~{nth}"
        self._edges.add(region)
        done = self._fresh(name, TRIGGER)
        node = self._append(keys.SYSCALL, op, list(inputs), [done.name], facts)
        onnx_tools.set_meta(node, keys.OPENS, region)
        self._unopened[region] = f"g.{op.lower()}(...)", user_line()
        return Block(self, region, item, *self._unopened[region])

    def _turn(self, hint: str) -> Turn:
        number = self._fresh(hint, scalar("int64"))
        return Turn(cast("Graph", self), number.name, number.type)

    def _times(self, times: int | Output | None) -> tuple[list[Output], dict[str, Any]]:
        if isinstance(times, Output):
            value = self.own(times)
            if value.type.kind not in ("int64", "tensor", "any"):
                raise BadOption(
                    f"times={value!r}",
                    expected="a whole number, or a value of type int64",
                    where=user_line(),
                )
            return [value], {}
        return [], {} if times is None else {"times": positive("times", times)}

    def _flag(self, flag: object) -> Output:
        value = self.own(flag)
        known = value.type
        able = known.kind in ("any", "bool") or (
            known.kind == "tensor" and known.dtype in ("", "bool")
        )
        if not able:
            raise BadOption(
                f"{value!r} is a condition",
                expected="a bool, or a tensor of one bool",
                fix="compare it with something: `loss < 0.1`, `number.equals(3)`"
                if known.kind in (*SCALARS, "tensor")
                else "",
                where=user_line(),
            )
        return value


def _as(item: object) -> str:
    """Return how a block's item is named in the line that enters it."""
    if item is None:
        return ""
    return " as turn" if isinstance(item, Turn) else " as item"


def _deadline(text: str) -> dict[str, Any]:
    return {"deadline_ns": read_duration("deadline", text)} if text else {}


def _items(source: Output) -> list[Type]:
    """Return the types of what `each` gives for one item of a value."""
    known = source.type
    if (known.kind, known.of) == (BATCHES.kind, BATCHES.of):
        return batch_parts(known)
    if known.kind == "any":
        return [ANY]
    if known.kind == "list":
        return [known.items[0][1] if known.items else ANY]
    if known.kind == "peers":
        return [peers(known.of)]
    if known.kind == "tensor" and known.shape != ():
        return [tensor(known.dtype, known.shape[1:] if known.shape else None)]
    raise BadOption(
        f"{source!r} has no items",
        expected="batches of a DataSource, a list, peers, or a tensor with a first axis",
        where=user_line(),
    )
