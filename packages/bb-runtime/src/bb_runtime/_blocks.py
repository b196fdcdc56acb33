"""Blocks whose turns are parts of a frame: `each`, `loop` and `when`.

A turn is a child frame. The next one starts when the one before has ended, replies included; when
none is left, what waited for the block goes on. A turn that fails takes its frame with it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from bb_runtime._frames import NOTHING, BlockState, Frame
from bb_runtime.errors import DeadlineExceeded, NoTurn, OpError

if TYPE_CHECKING:
    from bb_runtime._engine import Engine
    from bb_runtime._program import BlockInfo
    from bb_runtime.artifact import Op

__all__ = ["Blocks", "items_after", "truth"]


class Blocks:
    """The blocks of one Node's frames."""

    __slots__ = ("_engine",)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def opener(self, info: BlockInfo) -> Callable[..., None]:
        """Return the callable of a block."""
        items = _ITEMS[info.op.name]
        deadline_ns = int(info.op.attributes.get("deadline_ns", 0))

        def start(frame: Frame, *values: Any) -> None:
            engine = self._engine
            made = items(info, *values)
            state = BlockState(info, frame, engine.regions[info.region], made, values)
            if frame.blocks is NOTHING:
                frame.blocks = {}
            frame.blocks[info.index] = state
            if deadline_ns:
                engine.timers.set(engine.now_ns + deadline_ns, frame, state)
            self._next(state)

        return start

    def turn_ended(self, turn: Frame, how: str, reason: str) -> None:
        """Go on after a turn: with the next one, or with what waited for the last."""
        state = turn.block
        assert state is not None
        frame = state.frame
        if how != "done":
            self._engine.end(frame, how, reason)
            return
        # Answers that replies to the turn were promised may still be sent by the frame itself.
        frame.owed += turn.owed
        frame.paid |= turn.paid
        try:
            self._next(state)
        except Exception as error:  # noqa: BLE001  # of a component's iterator
            self._engine.fail(frame, state.info.op, error)
        except BaseException:
            self._engine.broken = True
            raise

    def _next(self, state: BlockState) -> None:
        item = None if state.stopped else next(state.items, None)
        if item is None:
            state.fired = True
            state.source = ()
            state.frame.fired |= {state.info.index}
            self._engine.wake(state.frame)
            self._engine.touch(state.frame)
            return
        state.number += 1
        self._engine.open_turn(state, item)

    def expire(self, frame: Frame, state: BlockState) -> None:
        """Fail a frame whose block took too long."""
        op = state.info.op
        error = DeadlineExceeded(
            f"the {op.name.lower()} block was in its turn {state.number} at its deadline",
            fix="give it a longer deadline=, or fewer turns",
        )
        self._engine.fail(frame, op, error)

    def until(self, frame: Frame, flag: Any) -> None:
        """Let no more turns start if a flag of a turn is true."""
        if not truth(flag):
            return
        if frame.block is not None:
            frame.block.stopped = True
        elif frame.controller is not None:
            frame.controller.until()

    @staticmethod
    def arrival(op: Op) -> Callable[[Frame, Any], None]:
        """Return the callable with which a turn hands a value to the frame around its block."""
        take, keep = str(op.attributes["take"]), op.attributes["keep"]

        def arrive(turn: Frame, value: Any) -> None:
            state = turn.block
            assert state is not None
            state.turns[take] += 1
            if keep == "last":
                state.kept[take] = [value]
            elif keep == "all":
                state.kept.setdefault(take, []).append(value)

        return arrive

    @staticmethod
    def taker(op: Op, event: int) -> Callable[..., Any]:
        """Return the callable with which a frame takes what the turns arrived with."""
        take, keep = str(op.attributes["take"]), op.attributes["keep"]

        def collect(frame: Frame) -> Any:
            state = frame.blocks[event]
            count = state.turns[take]
            return (count, state.kept.pop(take, [])) if keep == "all" else count

        def last(frame: Frame, *default: Any) -> Any:
            kept = frame.blocks[event].kept.pop(take, default)
            if not kept:
                raise NoTurn(
                    "no turn of the block ran, so there is no last value",
                    fix="say what to take then: g.last(value, default)",
                )
            return kept[0]

        return last if keep == "last" else collect


def truth(flag: Any) -> bool:
    """Return a condition as Python has it.

    Raises:
        OpError: It is neither a truth value nor a tensor of one.
    """
    if flag is True or flag is False:
        return bool(flag)
    dtype: Any = getattr(flag, "dtype", None)
    if dtype is not None and dtype.name == "bool" and flag.size == 1:
        return bool(flag.item())
    shape = "" if dtype is None else f" of {dtype.name} with the shape {list(flag.shape)}"
    raise OpError(
        f"the condition is a {type(flag).__name__}{shape}",
        expected="a truth value, or a tensor of one bool",
    )


def _when(_: BlockInfo, flag: Any) -> Iterator[tuple[Any, ...]]:
    return iter([(None,)] if truth(flag) else [])


def _loop(info: BlockInfo, *times: Any) -> Iterator[tuple[Any, ...]]:
    end = turn_count(info.op, times)
    numbers = itertools.count(1) if end is None else iter(range(1, end + 1))
    return ((number,) for number in numbers)


def turn_count(op: Op, times: tuple[Any, ...]) -> int | None:
    """Return how many turns a block makes: as recorded, as given, or `None` for no end.

    Raises:
        OpError: What it is given is no whole number.
    """
    if not times:
        known = op.attributes.get("times")
        return None if known is None else int(known)
    value = times[0].item() if getattr(times[0], "size", 0) == 1 else times[0]
    if isinstance(value, bool) or not isinstance(value, int):
        raise OpError(f"times is {times[0]!r}", expected="a whole number, or a tensor of one")
    return value


def _each(info: BlockInfo, source: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    if not hasattr(source, "__iter__") or getattr(source, "shape", None) == ():
        raise OpError(
            f"{type(source).__name__} has no items", expected="batches, a list, peers or a tensor"
        )
    if info.peers:
        return (((peer,),) for peer in source)
    if info.op.attributes.get("items", 1) == 2:
        return map(_pair, source)
    return ((item,) for item in source)


def _pair(item: Any) -> tuple[Any, ...]:
    kind: type = type(item)  # pyright: ignore[reportUnknownVariableType]  # of anything
    parts = cast("Sequence[Any]", item)
    if not issubclass(kind, (tuple, list)) or len(parts) != 2:
        raise OpError(f"a batch is a {kind.__name__}", expected="a pair: inputs and labels")
    return tuple(parts)


def items_after(info: BlockInfo, source: tuple[Any, ...], number: int) -> Iterator[tuple[Any, ...]]:
    """Return the items of the turns of a block that has made so many.

    Raises:
        OpError: The source has no items, or fewer.
    """
    if info.op.name == "Loop":
        end = turn_count(info.op, source)
        rest = itertools.count(number + 1) if end is None else range(number + 1, end + 1)
        return ((one,) for one in rest)
    items = _ITEMS[info.op.name](info, *source)
    made = sum(1 for _ in itertools.islice(items, number))
    if number > made:
        raise OpError(f"{number} turns were made of {made} items")
    return items


#: Of each kind of block, what gives the items of its turns.
_ITEMS: Mapping[str, Callable[..., Iterator[tuple[Any, ...]]]] = MappingProxyType(
    {"When": _when, "Loop": _loop, "Each": _each}
)
