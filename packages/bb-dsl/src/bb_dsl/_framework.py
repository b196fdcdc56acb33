"""Values without slots: plain values and records, lists, time, random draws and metrics.

What each op takes and gives is a rule of `bb_ir.framework_ops`; the compiler asks it again, once
the types of all values are known.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal

from bb_dsl._checks import (
    check_name,
    check_one_of,
    check_text,
    part_of,
    positive,
    read_duration,
    read_type,
    suggest,
)
from bb_dsl._output import Output
from bb_dsl._recorder import Recorder
from bb_dsl._source import user_line
from bb_dsl.errors import BadOption
from bb_ir import keys, onnx_tools
from bb_ir.framework_ops import METRIC_KINDS, Unfit, result_of
from bb_ir.types import ANY, Type, meet, scalar
from bb_ir.types import record as record_type

__all__ = ["Framework", "Randoms"]

_SCALAR_KINDS = {int: "int64", float: "float64", bool: "bool", str: "string"}
#: What Prometheus and OpenTelemetry both take.
_METRIC_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_After = Output | Sequence[Output] | None


class Framework(Recorder):
    """The part of `Graph` that records ops without slots."""

    # Plain values and records

    def scalar(self, value: bool | float | str) -> Output:  # noqa: FBT001  # a value, no switch
        """Record a number, truth value or text, such as a field of a record.

        `g.constant` gives a tensor; this gives what `node.invoke` would take for an input of
        type int64, float64, bool or string.
        """
        import numpy as np
        from onnx import numpy_helper

        kind = _SCALAR_KINDS.get(type(value))
        if kind is None or (kind == "int64" and not -(2**63) <= int(value) < 2**63):
            raise BadOption(
                f"{value!r} is a {type(value).__name__}",
                expected="an int of 64 bits, a float, a bool or a text",
                fix=part_of(value) or "g.constant(...) takes arrays",
                where=user_line(),
            )
        out = self._fresh("scalar", scalar(kind))
        # A tensor keeps all 64 bits; a float attribute of ONNX has 32.
        held = value if kind == "string" else numpy_helper.from_array(np.array(value, kind))
        self._append(keys.SYSCALL, "Scalar", [], [out.name], {"value": held})
        return out

    def field(self, record: Output, name: str, type: Type | str = ANY) -> Output:  # noqa: A002  # as in input
        """Record reading one field of a record; `record["name"]` is the same.

        Args:
            record: The record.
            name: Name of the field.
            type: Type of the field, where the record's own type does not say it.
        """
        check_text("field", name)
        value = self.own(record)
        known = value.type.field(name) if value.type.kind in ("record", "any") else None
        found = None if known is None else meet(known, read_type(type))
        if found is None:
            fields = [field for field, _ in value.type.items or ()]
            raise BadOption(
                f"{value!r} has no field {name!r}" + (f" of type {type}" if known else ""),
                expected=f"one of {', '.join(fields)}" if fields else "a record with that field",
                fix=suggest(str(name), fields),
                where=user_line(),
            )
        out = self._fresh(name, found)
        self._append(keys.SYSCALL, "Field", [value], [out.name], {"name": name})
        return out

    def record(self, **values: Output) -> Output:
        """Record a record of values under names, such as metrics to send."""
        own = {name: self.own(value) for name, value in values.items()}
        if not own:
            raise BadOption("a record without fields", expected="name=value", where=user_line())
        out = self._fresh("record", record_type({n: v.type for n, v in own.items()}))
        self._append(keys.SYSCALL, "Record", list(own.values()), [out.name], {"names": list(own)})
        return out

    # Time and order

    def now(self, *, after: _After = None) -> Output:
        """Record reading the clock of the Node where this stands: nanoseconds, an int64.

        Two Nodes' clocks need not agree. Time passes while a frame waits, not while it runs.

        Args:
            after: What must have been done before.
        """
        return self.append_framework_op(keys.NOW, "now", [], {}, after)

    def sleep(self, duration: str, value: Output | None = None, *, after: _After = None) -> Output:
        """Record that a value is passed on when some time has passed.

        Only what takes the result waits, and holds no component meanwhile. The wait ends with its
        frame, whose deadline is made long enough for it.

        Args:
            duration: How long, such as `"5s"`, in the time of the Node where this stands.
            value: What is passed on; a trigger when left out.
            after: What must have been done before the time begins to run.

        Returns:
            The value, to be used instead of the one that was given.
        """
        given = [] if value is None else [self.own(value)]
        facts = {"duration_ns": read_duration("duration", duration)}
        return self.append_framework_op(keys.SLEEP, "slept", given, facts, after)

    def gate(self, value: Output, after: Output | Sequence[Output]) -> Output:
        """Record that a value is passed on when others exist, such as one to send.

        Args:
            value: What is passed on.
            after: What must have been done before.

        Returns:
            The value, to be used instead of the one that was given.
        """
        return self.append_framework_op(keys.PASS_THROUGH, "gate", [self.own(value)], {}, after)

    # Lists and peers

    def me(self) -> Output:
        """Record this Node's own peer, as a list of one: the Node where this stands."""
        return self.append_framework_op(keys.ME, "me", [], {})

    def length(self, values: Output) -> Output:
        """Record how many items a list has, or how many peers there are: an int64."""
        return self.append_framework_op("Length", "length", [self.own(values)], {})

    def item(self, values: Output, index: int | Output) -> Output:
        """Record one item of a list; `values[index]` is the same.

        Args:
            values: A list, or peers, of which one gives a list of one.
            index: A whole number, from 0 on; negative ones count from the end.
        """
        own = self.own(values)
        at = index if isinstance(index, Output) else self.scalar_for(own, _whole("index", index))
        return self.append_framework_op("Item", "item", [own, self.own(at)], {})

    def concat(self, *values: Output) -> Output:
        """Record one list of the items of several, in order; of peers, each once."""
        if not values:
            raise BadOption("a concat of nothing", expected="a list or more", where=user_line())
        return self.append_framework_op("Concat", "concat", [self.own(one) for one in values], {})

    def without(self, peers: Output, others: Output) -> Output:
        """Record the peers that are not among others: the rest of a cohort.

        Args:
            peers: The peers.
            others: Peers, or return addresses such as `done.senders`.
        """
        return self.append_framework_op("Without", "rest", [self.own(peers), self.own(others)], {})

    def mean(self, values: Output, field: str = "", *, weight: str = "") -> Output:
        """Record the mean of a list of numbers, or of one field of a list of records: a float64.

        Args:
            values: Such as what a gather collected: `done.values`.
            field: Name of the field, for a list of records.
            weight: Name of the field that says how much each counts, such as `"examples"`.
        """
        if weight and not field:
            raise BadOption(
                f"weight={weight!r} without a field",
                expected="a list of records, and the name of the field that is averaged",
                fix=f"g.mean(values, 'loss', weight={weight!r})",
                where=user_line(),
            )
        return self._reduce("mean", values, field, weight)

    def sum(self, values: Output, field: str = "") -> Output:
        """Record the sum of a list of numbers, or of one field of a list of records: a float64."""
        return self._reduce("sum", values, field)

    def min(self, values: Output, field: str = "") -> Output:
        """Record the smallest of a list of numbers, or of one field of a list of records."""
        return self._reduce("min", values, field)

    def max(self, values: Output, field: str = "") -> Output:
        """Record the largest of a list of numbers, or of one field of a list of records."""
        return self._reduce("max", values, field)

    def _reduce(self, how: str, values: Output, field: str, weight: str = "") -> Output:
        check_text("field", field)
        check_text("field", weight)
        named = {"field": field, "weight": weight}
        facts = {"how": how, **{option: name for option, name in named.items() if name}}
        return self.append_framework_op("Reduce", field or how, [self.own(values)], facts)

    # Draws and metrics

    @property
    def random(self) -> Randoms:
        """Random draws: `g.random.uniform()`, `.normal()`, `.integers(high)`, `.choice(values)`."""
        return Randoms(self)

    def metric(
        self,
        name: str,
        value: Output | float = 1,
        kind: Literal["counter", "gauge", "histogram"] = "counter",
        *,
        after: _After = None,
    ) -> Output:
        """Record a number in the metrics of the Node where the value stands.

        `node.metrics()` has them. A number that is not finite, or below 0 for a counter, changes
        no counter and no histogram; it is dropped and reported, and the frame goes on.

        Args:
            name: Letters, digits and underscores; `bb_` stands before those of the Node itself.
            value: What is added to a counter, what a gauge is set to, or what a histogram counts.
            kind: A counter only grows, a gauge keeps the last number, a histogram all of them.
            after: What must have been done before.

        Returns:
            A trigger.
        """
        check_one_of("kind", kind, METRIC_KINDS)
        self._check_metric(name, kind)
        given = value if isinstance(value, Output) else self.scalar(_finite("value", value))
        facts = {"name": name, "kind": kind}
        return self.append_framework_op(keys.METRIC, "metric", [self.own(given)], facts, after)

    def _check_metric(self, name: str, kind: str) -> None:
        check_text("metric", name)
        if not _METRIC_NAME.fullmatch(name) or name.startswith("bb_"):
            raise BadOption(
                f"{name!r} cannot be the name of a metric",
                expected="up to 100 letters, digits and underscores, no digit or bb_ in front",
                where=user_line(),
            )
        known = self.root.metrics.setdefault(name, kind)
        if known != kind:
            raise BadOption(
                f"metric {name!r} is a {kind} here and a {known} elsewhere",
                expected="one kind for each name",
                fix="give one of them another name",
                where=user_line(),
            )

    # What several of these call

    def scalar_for(self, user: Output, value: bool | float | str) -> Output:  # noqa: FBT001  # as in scalar
        """Record a plain value where the value stands that it is used with."""
        made = self.scalar(value)
        if not self._at:
            onnx_tools.set_meta(self.nodes[-1], keys.AT, f"value:{user.name}")
        return made

    def append_framework_op(
        self,
        op: str,
        hint: str,
        inputs: Sequence[Output],
        attributes: Mapping[str, Any],
        after: _After = None,
    ) -> Output:
        """Record an op with one result, whose type follows from its inputs."""
        found = result_of(op, [value.type for value in inputs], attributes)
        if isinstance(found, Unfit):
            raise BadOption(
                f"{op} is given {inputs[found.at]!r}", expected=found.expected, where=user_line()
            )
        assert found is not None  # there is a rule for each op that is recorded here
        out = self._fresh(hint, found)
        node = self._append(keys.SYSCALL, op, inputs, [out.name], attributes)
        onnx_tools.set_meta(node, keys.AFTER, self._listed(after))
        return out

    def _listed(self, after: _After) -> str:
        waits = [after] if isinstance(after, Output) else list(after or ())
        return ",".join(self.own(value).name for value in waits)


class Randoms:
    """Random draws that a program makes, as `numpy.random.Generator` has them.

    A draw follows from the Node's seed, the frame, and the op itself: its arguments and its `name`,
    or which of several equal ones of its region it is. Other statements, and their order, change
    none.
    """

    __slots__ = ("_graph",)

    def __init__(self, graph: Framework) -> None:
        self._graph = graph

    def uniform(self, low: float = 0.0, high: float = 1.0, *, name: str = "") -> Output:
        """Record a float64 from `low` up to `high`, which does not occur.

        Args:
            low: The smallest number.
            high: All numbers are below it.
            name: Tells this draw from equal ones, wherever it stands.
        """
        if not _finite("low", low) < _finite("high", high):
            raise _empty(low, high)
        return self._draw("uniform", "float64", low, high, name)

    def normal(self, mean: float = 0.0, std: float = 1.0, *, name: str = "") -> Output:
        """Record a float64 of the normal distribution.

        Args:
            mean: Mean of the distribution.
            std: Its standard deviation, from 0 on.
            name: Tells this draw from equal ones, wherever it stands.
        """
        if _finite("mean", mean) is None or _finite("std", std) < 0:
            raise BadOption(f"std={std!r}", expected="a number from 0 on", where=user_line())
        return self._draw("normal", "float64", mean, std, name)

    def integers(self, low: int, high: int | None = None, *, name: str = "") -> Output:
        """Record an int64 from `low` up to `high`, which does not occur.

        Args:
            low: The smallest number; with one argument it is 0, and the argument is `high`.
            high: All numbers are below it.
            name: Tells this draw from equal ones, wherever it stands.
        """
        first, end = (0, low) if high is None else (low, high)
        if not _whole("low", first) < _whole("high", end):
            raise _empty(first, end)
        return self._draw("integers", "int64", first, end, name)

    def choice(self, values: Output, n: int | None = None, *, name: str = "") -> Output:
        """Record some items of a list, or some peers, in random order, each at most once.

        Args:
            values: A list, or peers.
            n: How many, or all when there are fewer; all without it, which shuffles them.
            name: Tells this draw from equal ones, wherever it stands.
        """
        facts = self._named(name) | ({} if n is None else {"n": positive("n", n)})
        own = self._graph.own(values)
        return self._graph.append_framework_op(keys.CHOICE, "chosen", [own], facts)

    def _draw(self, how: str, dtype: str, first: float, second: float, name: str) -> Output:
        import numpy as np
        from onnx import numpy_helper

        # A tensor keeps all 64 bits; floats of ONNX attributes have 32.
        held = numpy_helper.from_array(np.array([first, second], dtype))
        facts = self._named(name) | {"how": how, "parameters": held}
        return self._graph.append_framework_op(keys.RANDOM, how, [], facts)

    @staticmethod
    def _named(name: str) -> dict[str, Any]:
        if name:
            check_name("draw", name)
        return {"name": name} if name else {}


def _empty(low: float, high: float) -> BadOption:
    return BadOption(
        f"nothing from {low!r} up to {high!r}", expected="low below high", where=user_line()
    )


def _whole(option: str, value: Any) -> int:
    whole = not isinstance(value, bool) and isinstance(value, Integral)
    if not whole or not -(2**63) <= int(value) < 2**63:
        raise BadOption(
            f"{option}={value!r}",
            expected="a whole number of 64 bits, known while recording",
            where=user_line(),
        )
    return int(value)


def _finite(option: str, value: Any) -> Any:
    number = not isinstance(value, bool) and isinstance(value, Real)
    if not number or not math.isfinite(value):
        raise BadOption(
            f"{option}={value!r}", expected="a number, known while recording", where=user_line()
        )
    return int(value) if isinstance(value, Integral) else float(value)
