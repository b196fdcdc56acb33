"""The recorder: every call on it appends one op to an ONNX function.

It knows names, types and source lines. Where an op stands (class and region) is decided by the
compiler, from the order of recording and the inputs; the recorder only writes down what
`with g.at(...)` said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

from onnx import FunctionProto, NodeProto, helper

from bb_dsl._errors import BadOption, DuplicateName, ForeignValue, NoBackendInScope, NotAnOutput
from bb_dsl._output import Gathered, Output
from bb_dsl._source import user_line
from bb_ir import keys, onnx_tools
from bb_ir.durations import parse_duration
from bb_ir.ops import OpSchema
from bb_ir.types import ANY, TRIGGER, Type, list_of, parse_type, peers, scalar, senders, tensor
from bb_ir.types import record as record_type

if TYPE_CHECKING:
    from bb_dsl._module import Module

__all__ = ["Graph"]

_NAME_MARKS = frozenset("/|#,:. ")


class Graph:
    """Records the body of one Module.

    Handed to `body` and `bootstrap`; users do not build one.
    """

    def __init__(self, module: Module, path: str, parent: Graph | None = None) -> None:
        self.module = module
        self.path = path
        self.parent = parent
        self.root: Graph = parent.root if parent else self
        self.nodes: list[NodeProto] = []
        self.types: dict[str, Type] = {}
        self.inputs: list[str] = []
        self.outputs: dict[str, Output] = {}
        self.given: Mapping[str, Output] = {}
        self.functions: dict[str, FunctionProto] = parent.functions if parent else {}
        self.slots: dict[str, dict[str, str]] = parent.slots if parent else {}
        self.paths: dict[int, str] = parent.paths if parent else {id(module): ""}
        self._edges: set[str] = set()
        self._at: list[str] = []
        self._calls: dict[str, int] = {}

    # What users call

    def input(self, name: str, type: Type | str = ANY) -> Output:  # noqa: A002  # the word users expect
        """Declare an input of this Module.

        Args:
            name: Port name; `node.invoke` and callers of a sub-module use it.
            type: What the input must be; checked when a frame is started.
        """
        self._check_name("input", name, taken=name in self.inputs)
        declared = parse_type(type) if isinstance(type, str) else type
        given = self.given.get(name)
        self.inputs.append(name)
        self.types[name] = given.type if given is not None and declared == ANY else declared
        return Output(self, name, self.types[name])

    def peers(self, name: str, *, of: str) -> Output:
        """Declare an input that is a list of peers of one class."""
        return self.input(name, peers(of))

    def output(self, name: str, value: Output) -> None:
        """Publish a value: one step for each frame of the region in which the value stands."""
        self._check_name("output", name, taken=name in self.outputs or name in self.inputs)
        value = self._own(value)
        self.outputs[name] = value
        node = self._node(keys.SYSCALL, keys.OUTPUT, [value], [name], {"name": name})
        self.types[name] = value.type
        self.nodes.append(node)

    def net_out(self, name: str, peers: Output, *values: Output, deadline: str = "") -> Any:
        """Send values to peers, in one envelope per peer.

        Args:
            name: Name of the network edge; used once per Module.
            peers: Peers, or return addresses as `sender` gives them.
            values: What to send.
            deadline: How long an answer may take, such as `"30s"`.

        Returns:
            The values as they arrive at the peers: a trigger when none was sent, an Output for
            one, a tuple for several.
        """
        self._check_name("edge", name, taken=name in self._edges)
        self._edges.add(name)
        to = self._own(peers)
        sent = [self._own(value) for value in values]
        attributes: dict[str, Any] = {"edge": name}
        if deadline:
            attributes["deadline_ns"] = _duration("deadline", deadline)
        outs = [self._fresh(f"{name}", value.type) for value in sent] or [
            self._fresh(name, TRIGGER)
        ]
        node = self._node(keys.WIRE, keys.SEND, [to, *sent], [o.name for o in outs], attributes)
        onnx_tools.set_meta(node, keys.EDGE, name)
        self.nodes.append(node)
        return outs[0] if len(outs) == 1 else tuple(outs)

    def sender(self, received: Output) -> Output:
        """Return the return address of the peer whose envelope brought a value here."""
        value = self._own(received)
        out = self._fresh("sender", senders())
        self.nodes.append(self._node(keys.WIRE, keys.SENDER, [value], [out.name]))
        return out

    def gather(
        self,
        value: Output,
        *,
        quorum: float = 1.0,
        deadline: str = "",
        wait: Literal["quorum", "all"] = "quorum",
        on_short: Literal["fail", "continue"] = "fail",
        on_late: Literal["drop", "run"] = "drop",
        values: bool = False,
    ) -> Gathered:
        """Bring a fan-out back together: fires once, in the frame that sent.

        Args:
            value: A value of the replies' region; a reply counts when it exists.
            quorum: A share of the peers that were asked (a float, rounded up, at least one), or
                a number of them (an int).
            deadline: How long to wait, such as `"30s"`; the frame's deadline when empty.
            wait: `"all"` goes on waiting after the quorum, until all answered or the deadline.
            on_short: What happens when the quorum cannot be met: the frame fails, or goes on.
            on_late: `"run"` lets replies run that come after the gather fired.
            values: Also collect the values, in the order of the destinations.
        """
        share = _quorum(quorum)
        _one_of("wait", wait, ("quorum", "all"))
        _one_of("on_short", on_short, ("fail", "continue"))
        _one_of("on_late", on_late, ("drop", "run"))
        value = self._own(value)
        attributes: dict[str, Any] = {
            "quorum": share, "wait": wait, "on_short": on_short, "on_late": on_late,
            "values": int(values),
        }  # fmt: skip
        if deadline:
            attributes["deadline_ns"] = _duration("deadline", deadline)
        count = self._fresh("count", scalar("int64"))
        missing = self._fresh("missing", peers())
        back = self._fresh("senders", senders())
        outs = [count, missing, back]
        collected = None
        if values:
            collected = self._fresh("values", list_of(value.type))
            outs.append(collected)
        self.nodes.append(
            self._node(keys.SYSCALL, keys.GATHER, [value], [o.name for o in outs], attributes)
        )
        return Gathered(count, missing, back, collected)

    @contextmanager
    def at(self, place: Output | str) -> Iterator[None]:
        """Place the ops recorded inside: where a value stands, or on a class."""
        if isinstance(place, Output):
            self._at.append(f"value:{self._own(place).name}")
        else:
            self._at.append(f"class:{place}")
        try:
            yield
        finally:
            self._at.pop()

    def constant(self, value: Any, dtype: str = "") -> Output:
        """Record a constant tensor: a number, nested lists, or an array."""
        import numpy as np
        from onnx import numpy_helper

        array = np.asarray(value, dtype=dtype or None)
        if not dtype and array.dtype == np.float64 and not hasattr(value, "dtype"):
            array = array.astype(np.float32)
        out = self._fresh("constant", tensor(array.dtype.name, array.shape))
        slot = self._backend_slot()
        node = self._node(
            keys.ONNX, "Constant", [], [out.name], {"value": numpy_helper.from_array(array)}
        )
        onnx_tools.set_meta(node, keys.SLOT, slot)
        self.nodes.append(node)
        return out

    def field(self, record: Output, name: str) -> Output:
        """Record reading one field of a record; `record["name"]` is the same."""
        value = self._own(record)
        found = value.type.field(name) if value.type.kind == "record" else None
        if found is None:
            raise BadOption(
                f"{value!r} has no field {name!r}",
                expected="a record with that field",
                where=user_line(),
            )
        out = self._fresh(name, found)
        self.nodes.append(self._node(keys.SYSCALL, "Field", [value], [out.name], {"name": name}))
        return out

    def record(self, **values: Output) -> Output:
        """Record a record of values under names, such as metrics to send."""
        own = {name: self._own(value) for name, value in values.items()}
        if not own:
            raise BadOption("a record without fields", expected="name=value", where=user_line())
        out = self._fresh("record", record_type({n: v.type for n, v in own.items()}))
        node = self._node(
            keys.SYSCALL, "Record", list(own.values()), [out.name], {"names": list(own)}
        )
        self.nodes.append(node)
        return out

    # What slots and values call

    def tensor_op(self, op_type: str, *operands: Output | float) -> Output:
        """Record one ONNX op with one result on the Backend slot in scope."""
        slot = self._backend_slot()
        like = next(o.type.dtype for o in operands if isinstance(o, Output))
        ready = [o if isinstance(o, Output) else self.constant(o, like or "float32")
                 for o in operands]  # fmt: skip
        return self.onnx_op(slot, op_type, ready, {}, 1)[0]

    def onnx_op(
        self,
        slot: str,
        op_type: str,
        inputs: Sequence[Output | None],
        attributes: Mapping[str, Any],
        outputs: int,
    ) -> list[Output]:
        """Record one op of `ai.onnx` on a Backend slot; `None` leaves an optional input out."""
        own = [None if value is None else self._own(value) for value in inputs]
        outs = [self._fresh(op_type.lower(), tensor()) for _ in range(outputs)]
        node = self._node(keys.ONNX, op_type, own, [o.name for o in outs], attributes)
        onnx_tools.set_meta(node, keys.SLOT, slot)
        self.nodes.append(node)
        return outs

    def role_op(
        self,
        role: str,
        slot: str,
        schema: OpSchema,
        inputs: Sequence[Output],
        attributes: Mapping[str, Any],
        after: Output | Sequence[Output] | None,
        types: Sequence[Type] = (),
    ) -> list[Output]:
        """Record one op of a role; returns one Output per result, a trigger when there is none."""
        own = [self._own(value) for value in inputs]
        results = schema.results
        kinds = types or [port.type for port in results]
        outs = [self._fresh(p.name, t) for p, t in zip(results, kinds, strict=True)]
        node = self._node(
            keys.role_domain(role), schema.name, own, [o.name for o in outs], attributes
        )
        onnx_tools.set_meta(node, keys.SLOT, slot)
        waits = [after] if isinstance(after, Output) else list(after or ())
        names = ",".join(self._own(value).name for value in waits)
        onnx_tools.set_meta(node, keys.AFTER, names)
        self.nodes.append(node)
        return outs

    def slot_name(self, owner: Module, name: str, role: str, facts: Mapping[str, str]) -> str:
        """Return the name of a slot as seen from the root Module, and remember it."""
        path = self.paths.get(id(owner))
        if path is None:
            path = self.path
        full = f"{path}.{name}" if path else name
        self.slots[full] = {"role": role, **facts}
        return full

    def call_scope(self, attribute: str) -> str:
        """Return a name for one more call of a sub-module: the attribute, counted from the second."""
        self._calls[attribute] = self._calls.get(attribute, 0) + 1
        nth = self._calls[attribute]
        return attribute if nth == 1 else f"{attribute}~{nth}"

    def append_call(
        self, function: str, scope: str, actuals: Sequence[Output], results: Mapping[str, Output]
    ) -> dict[str, Output]:
        """Append the call node of a recorded sub-module."""
        own = [self._own(value) for value in actuals]
        outs = {name: self._fresh(name, value.type) for name, value in results.items()}
        names = [o.name for o in outs.values()] or [self._fresh("done", TRIGGER).name]
        node = self._node(keys.MODULE, function, own, names)
        onnx_tools.set_meta(node, keys.SCOPE, scope)
        self.nodes.append(node)
        return outs

    # Inside

    def _own(self, value: object) -> Output:
        where = user_line()
        if not isinstance(value, Output):
            raise NotAnOutput(
                f"{value!r} is a {type(value).__name__}, not a recorded value",
                expected="what another op returned, g.input(...), or g.constant(...)",
                where=where,
            )
        if value._graph is not self:  # noqa: SLF001  # a value belongs to the graph that made it
            raise ForeignValue(
                f"value {value.name!r} was recorded in another Module or another build",
                fix="hand it to the sub-module by port name: self.part(g, port=value)",
                where=where,
            )
        return value

    def _fresh(self, hint: str, type_: Type) -> Output:
        name = f"{hint}_{len(self.types)}"
        self.types[name] = type_
        return Output(self, name, type_)

    def _node(
        self,
        domain: str,
        op_type: str,
        inputs: Sequence[Output | None],
        outputs: Sequence[str],
        attributes: Mapping[str, Any] | None = None,
    ) -> NodeProto:
        names = ["" if value is None else value.name for value in inputs]
        node = helper.make_node(op_type, names, list(outputs), domain=domain)
        given = attributes or {}
        node.attribute.extend(helper.make_attribute(name, given[name]) for name in sorted(given))
        onnx_tools.set_meta(node, keys.SOURCE, str(user_line()))
        if self._at:
            onnx_tools.set_meta(node, keys.AT, self._at[-1])
        return node

    def _backend_slot(self) -> str:
        graph: Graph | None = self
        while graph is not None:
            found = graph.module.slots_of("backend")
            if len(found) == 1:
                return found[0].full_name(graph)
            if len(found) > 1:
                names = ", ".join(slot.name for slot in found)
                raise NoBackendInScope(
                    f"{type(graph.module).__name__} has several Backend slots: {names}",
                    fix=f"call the op on one of them: self.{found[0].name}.add(g, a, b)",
                    where=user_line(),
                )
            graph = graph.parent
        raise NoBackendInScope(
            f"{type(self.module).__name__} has no Backend slot for tensor maths",
            fix="add `backend = bb.slots.Backend()` to the class and bind it",
            where=user_line(),
        )

    def _check_name(self, what: str, name: str, *, taken: bool) -> None:
        if not name or _NAME_MARKS & set(name):
            raise BadOption(
                f"{name!r} cannot be the name of an {what}",
                expected=f"a name without any of {' '.join(sorted(_NAME_MARKS - {' '}))} or spaces",
                where=user_line(),
            )
        if name == "main" and what == "edge":
            raise BadOption(
                "'main' names the region that an invocation starts",
                fix="give the edge another name",
                where=user_line(),
            )
        if taken:
            raise DuplicateName(
                f"{what} {name!r} is recorded twice in {type(self.module).__name__}",
                fix="give each its own name",
                where=user_line(),
            )


def _quorum(quorum: float) -> str:
    """Return the quorum as exact text: a share `"4/5"` or a number `"#3"`."""
    if isinstance(quorum, bool) or quorum <= 0 or (isinstance(quorum, float) and quorum > 1):
        raise BadOption(
            f"quorum={quorum!r}",
            expected="a share between 0 and 1.0 as a float, or a number of peers as an int",
            where=user_line(),
        )
    return f"#{quorum}" if isinstance(quorum, int) else str(Fraction(str(quorum)))


def _one_of(option: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise BadOption(f"{option}={value!r}", expected=" or ".join(allowed), where=user_line())


def _duration(option: str, text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise BadOption(f"{option}={text!r}", expected=str(error), where=user_line()) from error
