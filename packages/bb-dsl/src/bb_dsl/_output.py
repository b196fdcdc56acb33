"""Handles of recorded values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bb_ir.types import Type

if TYPE_CHECKING:
    from bb_dsl._graph import Graph

__all__ = ["Gathered", "Output"]

Number = int | float


class Output:
    """A value that an op will give when the program runs.

    A field of a record is read with `metrics["loss"]`. Tensor maths on it (`+ - * / @`, negation) is recorded as ONNX ops of the Module's Backend
    slot. Class and region of a value are the compiler's to find; `bb explain` shows them.

    Attributes:
        name: Name of the value in the recorded function.
        type: What is known about the value.
    """

    __slots__ = ("_graph", "name", "type")

    def __init__(self, graph: Graph, name: str, type_: Type) -> None:
        self._graph = graph
        self.name = name
        self.type = type_

    def __repr__(self) -> str:
        return f"<Output {self.name}: {self.type}>"

    def __bool__(self) -> bool:
        raise TypeError(
            f"{self!r} has no truth value while a program is recorded; "
            "a condition must be part of the program"
        )

    def __add__(self, other: Output | Number) -> Output:
        return self._graph.tensor_op("Add", self, other)

    def __radd__(self, other: Number) -> Output:
        return self._graph.tensor_op("Add", other, self)

    def __sub__(self, other: Output | Number) -> Output:
        return self._graph.tensor_op("Sub", self, other)

    def __rsub__(self, other: Number) -> Output:
        return self._graph.tensor_op("Sub", other, self)

    def __mul__(self, other: Output | Number) -> Output:
        return self._graph.tensor_op("Mul", self, other)

    def __rmul__(self, other: Number) -> Output:
        return self._graph.tensor_op("Mul", other, self)

    def __truediv__(self, other: Output | Number) -> Output:
        return self._graph.tensor_op("Div", self, other)

    def __rtruediv__(self, other: Number) -> Output:
        return self._graph.tensor_op("Div", other, self)

    def __pow__(self, other: Output | Number) -> Output:
        return self._graph.tensor_op("Pow", self, other)

    def __matmul__(self, other: Output) -> Output:
        return self._graph.tensor_op("MatMul", self, other)

    def __getitem__(self, field: str) -> Output:
        return self._graph.field(self, field)

    def __neg__(self) -> Output:
        return self._graph.tensor_op("Neg", self)


class Gathered(Output):
    """What a gather gives once it has fired; as a value it is the number of answers.

    Attributes:
        missing: Peers that were asked and did not answer.
        senders: Return addresses of those that did, so that a second phase can talk to them.
        values: The gathered values in the order of the destinations, when asked for.
    """

    __slots__ = ("missing", "senders", "values")

    def __init__(
        self, count: Output, missing: Output, senders: Output, values: Output | None
    ) -> None:
        super().__init__(count._graph, count.name, count.type)  # noqa: SLF001  # same class
        self.missing = missing
        self.senders = senders
        self.values = values

    @property
    def count(self) -> Output:
        """How many answered."""
        return self
