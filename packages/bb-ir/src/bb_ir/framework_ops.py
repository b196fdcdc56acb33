"""The ops of the framework itself: one table that recorder, compiler and documentation read.

What an op takes and gives is stated twice: as text for readers, and, for ops whose results follow
from nothing but their inputs and attributes, as a rule in `result_of`. Recorder and compiler ask
the same rule, so a program is refused on the user's line where its types are known by then, and
when it is compiled where they become known later.

Nothing here says how an op is carried out: see `bb_ops`, and the engine for those that wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from bb_ir import keys
from bb_ir.types import ANY, TRIGGER, Type, accepts, list_of, meet, peers, scalar

__all__ = [
    "FRAMEWORK_OPS",
    "METRIC_KINDS",
    "FrameworkOp",
    "Unfit",
    "framework_op",
    "result_of",
]

METRIC_KINDS: Final = ("counter", "gauge", "histogram")
_NUMBERS: Final = ("int64", "float64", "any")


class FrameworkOp(NamedTuple):
    """One op of the framework.

    Attributes:
        name: The op type in the artifact.
        domain: Its domain.
        helper: How a program records it.
        takes: Its inputs with their types.
        gives: Its results with their types.
        attributes: Names of its attributes; optional ones end with `?`.
        inputs: The least and the largest number of inputs; `None` for any number.
        waits: What a frame may wait for there; empty when for nothing.
        depends: What the results follow from beside the inputs; empty when from nothing.
    """

    name: str
    domain: str
    helper: str
    takes: str
    gives: str
    attributes: tuple[str, ...] = ()
    inputs: tuple[int, int | None] = (0, None)
    waits: str = ""
    depends: str = ""

    @property
    def required(self) -> tuple[str, ...]:
        """Attributes that it cannot do without."""
        return tuple(name for name in self.attributes if not name.endswith("?"))


def _op(
    name: str, helper: str, takes: str, gives: str, *attributes: str, **more: Any
) -> FrameworkOp:
    domain = more.pop("domain", keys.SYSCALL)
    return FrameworkOp(name, domain, helper, takes, gives, attributes, **more)


_LOST: Final = "which peers answered, and when"
_SEEDED: Final = "seed, frame, place in the program"
_TURNS: Final = "its turns, one after the other"

#: By domain and name, in the order of the reference.
FRAMEWORK_OPS: Final[Mapping[tuple[str, str], FrameworkOp]] = MappingProxyType(
    {
        (op.domain, op.name): op
        for op in (
            # Values
            _op("Scalar", "g.scalar(value)", "", "scalar: int64, float64, bool or string", "value",
                inputs=(0, 0)),
            _op("Record", "g.record(name=value)", "values: any", "record: record", "names",
                inputs=(1, None)),
            _op("Field", 'record["name"], g.field(record, name, type)', "record: record",
                "field: any", "name", inputs=(1, 1)),
            _op("Calculate", "a + b, a < b, a & b, ~a, a.equals(b)",
                "operands: int64, float64, bool or string",
                "result: int64, float64, bool or string", "how", inputs=(1, 2)),
            _op(keys.PASS_THROUGH, "g.gate(value, after=...)", "value: any",
                "value: the type of the input", inputs=(1, 1)),
            # Lists
            _op("Length", "g.length(values)", "values: list, peers or senders", "length: int64",
                inputs=(1, 1)),
            _op("Item", "values[index], g.item(values, index)",
                "values: list or peers; index: int64", "item: an item of the list; peers: one peer",
                inputs=(2, 2)),
            _op("Concat", "g.concat(values, ...)", "values: lists, or peers of one class",
                "all: list or peers", inputs=(1, None)),
            _op("Without", "g.without(peers, others)", "peers: peers; others: peers or senders",
                "rest: peers", inputs=(2, 2)),
            _op("Reduce", "g.mean(values, field, weight=...), g.sum, g.min, g.max",
                "values: list of numbers or of records", "result: float64", "how", "field?",
                "weight?", inputs=(1, 1)),
            # The Node
            _op(keys.NOW, "g.now()", "", "now: int64", inputs=(0, 0), depends="the Node's clock"),
            _op(keys.ME, "g.me()", "", "me: peers of the class where it stands", inputs=(0, 0),
                depends="the Node"),
            _op(keys.RANDOM,
                "g.random.uniform(low, high), .normal(mean, std), .integers(low, high)", "",
                "draw: float64, of integers int64", "how", "parameters", "name?",
                inputs=(0, 0), depends=_SEEDED),
            _op(keys.CHOICE, "g.random.choice(values, n)", "values: list or peers",
                "chosen: the type of the input", "n?", "name?", inputs=(1, 1), depends=_SEEDED),
            _op(keys.METRIC, "g.metric(name, value, kind)", "value: a number", "done: trigger",
                "name", "kind", inputs=(1, 1)),
            _op(keys.OUTPUT, "g.output(name, value)", "value: any", "", "name", inputs=(1, 1)),
            # Time
            _op(keys.SLEEP, "g.sleep(duration, value)", "value: any; may be left out",
                "value: the type of the input, else trigger", "duration_ns", inputs=(0, 1),
                waits="until the duration has passed"),
            # Blocks
            _op("When", "with g.when(flag):", "flag: bool, or a tensor of one", "done: trigger",
                inputs=(1, None), waits=_TURNS),
            _op("Loop", "with g.loop(times) as turn:", "times: int64; may be left out",
                "done: trigger", "times?", "deadline_ns?", waits=_TURNS),
            _op("Each", "with g.each(values) as item:",
                "values: batches, list, peers or tensor", "done: trigger", "items",
                "deadline_ns?", inputs=(1, None), waits=_TURNS),
            _op("Rounds", "with g.rounds(times) as number:", "times: int64; may be left out",
                "started: trigger", "times?", "width", "on_fail"),
            _op("Every", 'with g.every("5s") as tick:', "", "started: trigger", "period_ns",
                "jitter_ns", "overlap", depends="the Node's clock; jitter: the seed"),
            _op("On", 'with g.on("topic", type) as event:', "", "started: trigger", "topic",
                "overlap", depends="the events, in their order"),
            _op(keys.TURN, "as number, as item, as event", "",
                "what differs from turn to turn: int64, an item, or the event"),
            _op(keys.UNTIL, "turn.until(flag)", "turn: int64; flag: bool, or a tensor of one",
                "done: trigger", inputs=(2, 2)),
            _op(keys.LAST, "g.last(value, default)", "value: any, of a turn; default: any",
                "value: the type of the input", inputs=(1, 2), waits="for the last turn"),
            _op(keys.PUBLISH, "g.publish(topic, value)", "value: any", "done: trigger", "topic",
                inputs=(1, 1)),
            # Peers
            _op(keys.SEND, "g.net_out(name, peers, value, ...)",
                "peers: peers or senders; values: anything that can be sent",
                "the values as they arrive; trigger when there is none", "deadline_ns?",
                "max_bytes?", "retries?", "replies?", "ordered?", domain=keys.WIRE,
                inputs=(1, None)),
            _op(keys.SENDER, "g.sender(received)", "received: any, of a message",
                "sender: senders", domain=keys.WIRE, inputs=(1, 1)),
            _op(keys.GATHER, "g.gather(value, quorum=..., deadline=...)", "value: any, of a reply",
                "count: int64; missing: peers; senders: senders; values: list", "quorum", "wait",
                "on_short", "on_late", "values", "deadline_ns?", "auto?", inputs=(1, 1),
                waits="for answers, up to its deadline", depends=_LOST),
        )
    }
)  # fmt: skip


def framework_op(domain: str, name: str) -> FrameworkOp | None:
    """Return an op of the framework, or `None` when there is none of that name."""
    return FRAMEWORK_OPS.get((domain, name))


class Unfit(NamedTuple):
    """An input that an op cannot take.

    Attributes:
        at: Which input.
        expected: What it takes.
    """

    at: int
    expected: str


#: What an op gives, or what is wrong with what it is given.
_Rule = Callable[[Sequence[Type], Mapping[str, Any]], Type | Unfit]


def result_of(
    name: str, given: Sequence[Type], attributes: Mapping[str, Any]
) -> Type | Unfit | None:
    """Return the type of an op's only result.

    Args:
        name: The op.
        given: Types of its inputs, as far as they are known.
        attributes: Its attributes.

    Returns:
        The type; which input does not fit; or `None` for ops whose results other rules say.
    """
    rule = _RULES.get(name)
    return None if rule is None else rule(given, attributes)


def _first(given: Sequence[Type], _: Mapping[str, Any]) -> Type | Unfit:
    return given[0] if given else TRIGGER


def _now(_: Sequence[Type], __: Mapping[str, Any]) -> Type | Unfit:
    return scalar("int64")


def _me(_: Sequence[Type], __: Mapping[str, Any]) -> Type | Unfit:
    return peers()


def _draw(_: Sequence[Type], attributes: Mapping[str, Any]) -> Type | Unfit:
    return scalar("int64" if attributes.get("how") == "integers" else "float64")


def _choice(given: Sequence[Type], _: Mapping[str, Any]) -> Type | Unfit:
    return given[0] if given[0].kind in ("list", "peers", "any") else Unfit(0, "a list, or peers")


def _metric(given: Sequence[Type], _: Mapping[str, Any]) -> Type | Unfit:
    return TRIGGER if _is_number(given[0]) else Unfit(0, "a number, or a tensor of one")


def _length(given: Sequence[Type], _: Mapping[str, Any]) -> Type | Unfit:
    able = given[0].kind in ("list", "peers", "senders", "any")
    return scalar("int64") if able else Unfit(0, "a list, peers, or return addresses")


def _item(given: Sequence[Type], _: Mapping[str, Any]) -> Type | Unfit:
    values, index = given
    if values.kind not in ("list", "peers", "any"):
        return Unfit(0, "a list, or peers; an item of a record has a name, not a number")
    if index.kind not in ("int64", "any"):
        return Unfit(1, "a whole number: an int64")
    if values.kind == "list":
        return values.items[0][1] if values.items else ANY
    return values


def _concat(given: Sequence[Type], _: Mapping[str, Any]) -> Type | Unfit:
    joined = given[0]
    for at, one in enumerate(given):
        if one.kind not in ("list", "peers", "any"):
            return Unfit(at, "a list, or peers")
        found = _joined(joined, one)
        if found is None:
            return Unfit(at, f"{joined}, as the values before it")
        joined = found
    return joined


def _joined(a: Type, b: Type) -> Type | None:
    """Return the type of values of which some are of one type and some of another."""
    if accepts(a, b):
        return a
    if accepts(b, a):
        return b
    if meet(a, b) is None:
        return None
    return peers() if a.kind == "peers" else list_of(ANY)


def _without(given: Sequence[Type], _: Mapping[str, Any]) -> Type | Unfit:
    if given[0].kind not in ("peers", "any"):
        return Unfit(0, "peers")
    if given[1].kind not in ("peers", "senders", "any"):
        return Unfit(1, "peers, or return addresses")
    return given[0] if given[0].kind == "peers" else peers()


def _reduce(given: Sequence[Type], attributes: Mapping[str, Any]) -> Type | Unfit:
    fields = [name for name in (attributes.get("field"), attributes.get("weight")) if name]
    wanted = f"a list of records with {' and '.join(map(repr, fields))}, numbers both of them"
    if len(fields) < 2:
        wanted = f"a list of records with a number {fields[0]!r}" if fields else "a list of numbers"
    known = given[0]
    if known.kind not in ("list", "any"):
        return Unfit(0, wanted)
    item = known.items[0][1] if known.items else ANY
    parts = [item.field(name) for name in fields] if item.kind == "record" else [item]
    right = item.kind == "any" or (item.kind == "record") == bool(fields)
    if not right or not all(part is not None and _is_number(part) for part in parts):
        return Unfit(0, wanted)
    return scalar("float64")


def _is_number(known: Type) -> bool:
    """Whether a value may be a number, or a tensor that holds one."""
    if known.kind != "tensor":
        return known.kind in _NUMBERS
    several = any(isinstance(length, int) and length != 1 for length in known.shape or ())
    return known.dtype not in ("bool", "string") and not several


_RULES: Final[Mapping[str, _Rule]] = MappingProxyType(
    {
        keys.PASS_THROUGH: _first,
        keys.SLEEP: _first,
        keys.NOW: _now,
        keys.ME: _me,
        keys.RANDOM: _draw,
        keys.CHOICE: _choice,
        keys.METRIC: _metric,
        "Length": _length,
        "Item": _item,
        "Concat": _concat,
        "Without": _without,
        "Reduce": _reduce,
    }
)
