"""Types around the ops of roles: what goes in, what comes out, and what belongs together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from onnx import FunctionProto, NodeProto

from bb_compiler import _type_errors as errors
from bb_compiler._inferences import Inferences, misfit
from bb_compiler._placement_errors import lines_of
from bb_compiler._relations import Facts, declared, lengths_of, linked, promised, rounds_of
from bb_compiler._values import Row, Rows, Values
from bb_compiler.errors import TypeMismatch
from bb_ir import keys, onnx_tools
from bb_ir.lengths import Lengths
from bb_ir.ops import ROLE_OPS, OpSchema
from bb_ir.type_texts import brief
from bb_ir.types import ANY, Shape, Type, meet, parse_type, scalar, tensor
from bb_roles.errors import InputMisfit

__all__ = ["RoleTypes"]

#: Types of ports, and what the names in them stand for.
Scheme = tuple[Lengths, Mapping[str, Type]]

_CONTRIBUTE = ROLE_OPS["aggregator"]["Contribute"]


class RoleTypes:
    """Checks and narrows the values of role ops in one function.

    Args:
        function: The function.
        rows: The bindings of the model.
        facts: What the ops of all functions tell of each other.
        values: What is known of the function's values.
        inferences: What components infer.
    """

    def __init__(
        self,
        function: FunctionProto,
        rows: Rows,
        facts: Facts,
        values: Values,
        inferences: Inferences,
    ) -> None:
        self._rows = rows
        self._facts = facts
        self._values = values
        self._inferences = inferences
        self._rounds: dict[int, Any] = {}
        #: By round: the numbers of the ops that contribute to it.
        self._contributions: dict[Any, list[int]] = {}
        for at, key in rounds_of(function).items():
            self._rounds[id(function.node[at])] = key
            if function.node[at].op_type == "Contribute":
                self._contributions.setdefault(key, []).append(at)
        self._numbers = {id(node): at for at, node in enumerate(function.node)}
        self._relations: dict[str, Callable[[NodeProto, Row], None]] = {
            "aggregator.Aggregate": self._aggregate,
            "aggregator.Contribute": self._contribute,
            "codec.Decode": self._decode,
            "model.Backward": self._backward,
            "model.LoadParams": self._load_params,
            "model.Params": self._params,
        }
        self._forwards: dict[tuple[str, str], list[NodeProto]] = {}
        for node in function.node:
            if _name(node) == "model.Forward":
                self._forwards.setdefault(_place(node), []).append(node)

    def solve(self, node: NodeProto, schema: OpSchema) -> None:
        """Check what an op is given, and narrow what it gives."""
        if not self._counts(node, schema):
            return
        row, takes = self._rows.of(node), _takes(node, schema)
        schemes = [
            (lengths_of(node), promised(node)),
            (lengths_of(node), declared(node, row)),
        ]
        fits = True
        for at, port in enumerate(schema.inputs):
            fits = self._take(node, at, takes[at], port.name, schemes) and fits
        findings, inputs = self._values.findings, self._given(node, schema)
        inferred: Mapping[str, Type] = {}
        if fits:
            try:
                inferred = self._inferences.results(node, schema, inputs, findings)
            except InputMisfit as error:
                findings.add(self._misfit(node, row, error))
        for port, name in zip(schema.results, node.output, strict=True):
            known = port.type
            for lengths, ports in schemes:
                known = meet(known, lengths.result(ports.get(port.name, ANY))) or known
            met = meet(known, inferred.get(port.name, ANY))
            if met is None:
                findings.add(misfit(node, row, port.name, inferred[port.name], known))
            self._values.narrow(node, name, met or known)
        relate = self._relations.get(_name(node))
        if fits and relate is not None:
            relate(node, row)

    def _counts(self, node: NodeProto, schema: OpSchema) -> bool:
        given, gives = len(node.input), len(node.output)
        if (given, gives) == (len(schema.inputs), len(schema.results)):
            return True
        self._values.findings.add(
            TypeMismatch(
                f"{node.op_type} has {given} inputs and {gives} outputs",
                expected=f"{len(schema.inputs)} and {len(schema.results)}",
                where=lines_of(node),
            )
        )
        return False

    def _given(self, node: NodeProto, schema: OpSchema) -> tuple[Type, ...]:
        """Return the types of an op's inputs; for one that ends a round, also of what it folded."""
        own = tuple(self._values.of(name) for name in node.input)
        if not schema.closes_round:
            return own
        key, folded = self._rounds.get(id(node)), list[Type]()
        for at, port in enumerate(_CONTRIBUTE.inputs):
            # An op may contribute what another one does not, so only what all do is known.
            asked = [("given", key, one, at) for one in self._contributions.get(key, ())]
            found = {meet(self._facts.ask(each).type, port.type) for each in asked}
            folded.append((found.pop() if len(found) == 1 else None) or port.type)
        return (*own, *folded)

    def _take(
        self, node: NodeProto, at: int, taken: Type, port: str, schemes: Iterable[Scheme]
    ) -> bool:
        """Check one input, and learn the lengths that it decides."""
        given = self._values.of(node.input[at])
        for lengths, ports in schemes:
            known = ports.get(port, ANY)
            taken = meet(lengths.fill(taken), lengths.fill(known)) or taken
            lengths.learn(known, given)
        if meet(taken, given) is not None:
            return True
        use, row = self._values.use(node, at), self._rows.of(node)
        text = f"{brief(taken)} for {port!r}"
        if f"{node.op_type}.{port}" in row.get("types", {}):
            cls, slot = _place(node)
            text += f", as {row['component']!r} in slot {slot!r} on class {cls!r} says"
        self._values.findings.add(errors.unfit(use, text, taken))
        return False

    def _misfit(self, node: NodeProto, row: Row, error: InputMisfit) -> TypeMismatch:
        """Complain about inputs that a component, as it is configured, does not take."""
        uses = [self._values.use(node, at) for at in range(len(node.input))]
        # The first use is the one with the longest way where several are given: what came from far.
        use = max(uses, key=lambda one: len(one.trail))
        made = next((one for one in reversed(use.trail) if self._rows.of(one)), None)
        sides = [row] if made is None else [row, self._rows.of(made)]
        return errors.refused(use, error, sides)

    # What belongs together

    def _load_params(self, node: NodeProto, row: Row) -> None:
        if linked(row, "LoadParams.params", "Params.params"):
            self._tell(node, ("params", *_place(node)), "as the other parameters of its slot")

    def _params(self, node: NodeProto, row: Row) -> None:
        if not linked(row, "LoadParams.params", "Params.params"):
            return
        key, name = ("params", *_place(node)), node.output[0]
        self._facts.tell(key, self._values.of(name), (node,))
        self._give(node, name, key)

    def _contribute(self, node: NodeProto, row: Row) -> None:
        metrics = self._values.of(node.input[1])
        examples = metrics.field("examples") if metrics.kind == "record" else ANY
        if examples is None or meet(examples, scalar("int64")) is None:
            text = "a record with examples:int64, the weight of the update"
            self._values.findings.add(errors.unfit(self._values.use(node, 1), text))
        key, number = self._rounds[id(node)], self._numbers[id(node)]
        for at, name in enumerate(node.input):
            self._facts.tell(("given", key, number, at), self._values.of(name), (node,))
        if linked(row, "Contribute.params", "Aggregate.params"):
            self._tell(node, key, "as the other updates of the round")

    def _aggregate(self, node: NodeProto, row: Row) -> None:
        if linked(row, "Contribute.params", "Aggregate.params"):
            self._give(node, node.output[0], self._rounds[id(node)])

    def _tell(self, node: NodeProto, key: Any, why: str) -> None:
        """Note an input that belongs together with values of other ops."""
        name = node.input[0]
        trail = (node, *self._values.trail(name))
        against = self._facts.tell(key, self._values.of(name), trail)
        if against is not None:
            text = f"{brief(against.type)}, {why}"
            use = self._values.use(node, 0)
            self._values.findings.add(errors.unfit(use, text, against.type, against.nodes))

    def _give(self, node: NodeProto, name: str, key: Any) -> None:
        """Narrow a result to what belongs together with it."""
        fact, own = self._facts.ask(key), self._values.of(name)
        met = meet(own, fact.type)
        if met is None:
            self._values.findings.add(errors.not_given(node, own, fact.type, fact.nodes))
        elif met != own:
            self._values.types[name] = met
            self._values.follow(node, name, fact.nodes)

    def _backward(self, node: NodeProto, _: Row) -> None:
        """Relate a gradient to the `Forward` that it goes back through: the shapes are those."""
        passes = self._forwards.get(_place(node), [])
        shape = self._one_shape(one.output[0] for one in passes)
        grad = self._values.of(node.input[0])
        if shape is not None and meet(grad, tensor("", shape)) is None:
            text = f"a gradient of shape {tensor('', shape)}, that of what Forward gave"
            use = self._values.use(node, 0)
            self._values.findings.add(errors.unfit(use, text, None, passes))
        shape = self._one_shape(one.input[0] for one in passes)
        own = self._values.of(node.output[0])
        met = None if shape is None else meet(own, tensor("", shape))
        self._values.types[node.output[0]] = met or own

    def _one_shape(self, names: Iterable[str]) -> Shape | None:
        shapes = {self._values.of(name).shape for name in names}
        return shapes.pop() if len(shapes) == 1 else None

    def _decode(self, node: NodeProto, row: Row) -> None:
        """Give a decoded value the type that the same component encoded."""
        makers, name = self._values.makers, node.input[0]
        maker = makers.get(name)
        while maker is not None and (maker.domain, maker.op_type) == (keys.WIRE, keys.SEND):
            name = maker.input[1 + list(maker.output).index(name)]
            maker = makers.get(name)
        if maker is None or _name(maker) != "codec.Encode":
            return
        if self._rows.of(maker).get("component") != row.get("component"):
            return
        own = self._values.of(node.output[0])
        met = meet(own, self._values.of(maker.input[0]))
        if met is not None and met != own:
            self._values.types[node.output[0]] = met
            self._values.follow(node, node.output[0], self._values.trail(maker.input[0]))


def _takes(node: NodeProto, schema: OpSchema) -> list[Type]:
    """Return the types of an op's inputs as its component has them, else its role."""
    text = onnx_tools.get_meta(node, keys.TAKES)
    return [parse_type(t) for t in text.split(";")] if text else [p.type for p in schema.inputs]


def _name(node: NodeProto) -> str:
    return f"{keys.role_of(node.domain)}.{node.op_type}"


def _place(node: NodeProto) -> tuple[str, str]:
    """Return class and slot of an op."""
    return onnx_tools.get_meta(node, keys.CLASS), onnx_tools.get_meta(node, keys.SLOT)
