"""Handles of recorded values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bb_dsl._maths import binary, negation, negative
from bb_dsl._misuse import OfValue
from bb_dsl._source import user_line
from bb_dsl.errors import BadOption
from bb_ir.types import Type

if TYPE_CHECKING:
    from bb_dsl._graph import Graph

__all__ = ["Gathered", "Output"]

Number = int | float


class Output(OfValue):
    """A value that an op will give when the program runs.

    A field of a record is read with `metrics["loss"]`. Tensor maths on it (`+ - * / ** @`,
    negation) is recorded as ONNX ops of the Module's Backend slot. Class and region of a value
    are the compiler's to find; `bb explain` shows them.

    Attributes:
        graph: The recording it belongs to.
        name: Name of the value in the recorded function.
        type: What is known about the value.
    """

    __slots__ = ("graph", "name", "type")

    #: An array on the left of an operator leaves the operator to us.
    __array_ufunc__ = None

    def __init__(self, graph: Graph, name: str, type_: Type) -> None:
        self.graph = graph
        self.name = name
        self.type = type_

    @property
    def label(self) -> str:
        """The name without the number that the recorder puts behind it."""
        head, dot, number = self.name.rpartition(".")
        return head if dot and number.isdecimal() else self.name

    def __repr__(self) -> str:
        return f"<Output {self.label}: {self.type}>"

    def equals(self, other: Output | Number | str) -> Output:
        """Record whether this is equal to another value; `==` compares handles."""
        return binary("equal", self, other)

    def __lt__(self, other: Output | Number) -> Output:
        return binary("less", self, other)

    def __le__(self, other: Output | Number) -> Output:
        return binary("less_or_equal", self, other)

    def __gt__(self, other: Output | Number) -> Output:
        return binary("greater", self, other)

    def __ge__(self, other: Output | Number) -> Output:
        return binary("greater_or_equal", self, other)

    def __and__(self, other: Output) -> Output:
        return binary("and", self, other)

    def __or__(self, other: Output) -> Output:
        return binary("or", self, other)

    def __invert__(self) -> Output:
        return negation(self)

    def __add__(self, other: Output | Number) -> Output:
        return binary("add", self, other)

    def __radd__(self, other: Number) -> Output:
        return binary("add", other, self)

    def __sub__(self, other: Output | Number) -> Output:
        return binary("subtract", self, other)

    def __rsub__(self, other: Number) -> Output:
        return binary("subtract", other, self)

    def __mul__(self, other: Output | Number) -> Output:
        return binary("multiply", self, other)

    def __rmul__(self, other: Number) -> Output:
        return binary("multiply", other, self)

    def __truediv__(self, other: Output | Number) -> Output:
        return binary("divide", self, other)

    def __rtruediv__(self, other: Number) -> Output:
        return binary("divide", other, self)

    def __mod__(self, other: Output | Number) -> Output:
        return binary("modulo", self, other)

    def __rmod__(self, other: Number) -> Output:
        return binary("modulo", other, self)

    def __pow__(self, other: Output | Number) -> Output:
        return binary("power", self, other)

    def __rpow__(self, other: Number) -> Output:
        return binary("power", other, self)

    def __matmul__(self, other: Output) -> Output:
        return binary("matmul", self, other)

    def __rmatmul__(self, other: Any) -> Output:
        return binary("matmul", other, self)

    def __neg__(self) -> Output:
        return negative(self)

    def __getitem__(self, key: str | int | Output) -> Output:
        if isinstance(key, str):
            return self.graph.field(self, key)
        return self.graph.item(self, key)


class Gathered(Output):
    """What a gather gives once it has fired; as a value it is the number of answers.

    Attributes:
        missing: Peers that were asked and did not answer.
        senders: Return addresses of those that did, so that a second phase can talk to them.
    """

    __slots__ = ("_values", "missing", "senders")

    def __init__(
        self, count: Output, missing: Output, senders: Output, values: Output | None
    ) -> None:
        super().__init__(count.graph, count.name, count.type)
        self.missing = missing
        self.senders = senders
        self._values = values

    @property
    def count(self) -> Output:
        """How many answered."""
        return self

    @property
    def values(self) -> Output:
        """The gathered values, in the order of the destinations.

        Raises:
            BadOption: The gather was not asked to collect them.
        """
        if self._values is None:
            raise BadOption(
                "this gather collects no values",
                fix="ask for them: g.gather(value, ..., values=True)",
                where=user_line(),
            )
        return self._values
