"""Handles of recorded values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from bb_dsl._source import user_line
from bb_dsl.errors import BadOption
from bb_ir.types import Type

if TYPE_CHECKING:
    from bb_dsl._graph import Graph

__all__ = ["Gathered", "Output"]

Number = int | float


class Output:
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

    def __repr__(self) -> str:
        return f"<Output {self.name}: {self.type}>"

    def __bool__(self) -> bool:
        raise TypeError(
            f"{self!r} has no truth value while a program is recorded; "
            "a condition must be part of the program"
        )

    if not TYPE_CHECKING:
        # Checkers know that a value is neither a sequence nor equal to a number; people forget.

        def __iter__(self) -> NoReturn:
            raise TypeError(
                f"{self!r} is one value and cannot be unpacked; "
                "net_out gives a tuple only when it sends several values"
            )

        def __eq__(self, other: object) -> bool:
            if isinstance(other, (int, float, str)):
                self._compared(other)
            return self is other

        __hash__ = object.__hash__

        def __lt__(self, other: object) -> NoReturn:
            self._compared(other)

        __le__ = __gt__ = __ge__ = __lt__

        def _compared(self, other: object) -> NoReturn:
            raise TypeError(
                f"{self!r} cannot be compared with {other!r} while a program is recorded; "
                "a condition must be part of the program"
            )

    def __add__(self, other: Output | Number) -> Output:
        return self.graph.tensor_op("Add", self, other)

    def __radd__(self, other: Number) -> Output:
        return self.graph.tensor_op("Add", other, self)

    def __sub__(self, other: Output | Number) -> Output:
        return self.graph.tensor_op("Sub", self, other)

    def __rsub__(self, other: Number) -> Output:
        return self.graph.tensor_op("Sub", other, self)

    def __mul__(self, other: Output | Number) -> Output:
        return self.graph.tensor_op("Mul", self, other)

    def __rmul__(self, other: Number) -> Output:
        return self.graph.tensor_op("Mul", other, self)

    def __truediv__(self, other: Output | Number) -> Output:
        return self.graph.tensor_op("Div", self, other)

    def __rtruediv__(self, other: Number) -> Output:
        return self.graph.tensor_op("Div", other, self)

    def __pow__(self, other: Output | Number) -> Output:
        return self.graph.tensor_op("Pow", self, other)

    def __rpow__(self, other: Number) -> Output:
        return self.graph.tensor_op("Pow", other, self)

    def __matmul__(self, other: Output) -> Output:
        return self.graph.tensor_op("MatMul", self, other)

    def __rmatmul__(self, other: Any) -> Output:
        return self.graph.tensor_op("MatMul", other, self)

    def __neg__(self) -> Output:
        return self.graph.tensor_op("Neg", self)

    def __getitem__(self, field: str) -> Output:
        return self.graph.field(self, field)


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
