"""The recorder: every call on it appends one op to an ONNX function.

It knows names, types and source lines. Where an op stands (class and region) is decided by the
compiler, from the order of recording and the inputs; the recorder only writes down what
`with g.at(...)` said.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Literal, overload

from bb_dsl._blocks import Blocks
from bb_dsl._checks import (
    check_class,
    check_name,
    check_one_of,
    quorum_text,
    read_deadline,
    read_duration,
    read_flag,
    read_replies,
    read_retries,
    read_size,
    read_type,
    to_array,
)
from bb_dsl._framework import Framework
from bb_dsl._misuse import OfGraph
from bb_dsl._output import Gathered, Output
from bb_dsl._plugin_ops import types_of_results
from bb_dsl._recorder import type_name
from bb_dsl._source import user_line
from bb_dsl.errors import (
    BadOption,
    NoBackendInScope,
    UnnamedModule,
    WrongPortType,
)
from bb_ir import keys, onnx_tools
from bb_ir.ops import OpSchema, role_op
from bb_ir.types import (
    ANY,
    TRIGGER,
    Type,
    list_of,
    meet,
    peers,
    scalar,
    senders,
    tensor,
)

if TYPE_CHECKING:
    from bb_dsl._module import Module

__all__ = ["Graph"]


class Graph(Framework, Blocks, OfGraph):
    """Records the body of one Module.

    Handed to `body` and `bootstrap`; users do not build one.
    """

    # What users call

    def input(self, name: str, type: Type | str = ANY) -> Output:  # noqa: A002  # the word users expect
        """Declare an input of this Module.

        Args:
            name: Port name; `node.invoke` and callers of a sub-module use it.
            type: What the input must be; checked when a frame is started.
        """
        self._new_port("input", name)
        declared = read_type(type)
        given = self.given.get(name)
        known = declared if given is None else meet(declared, given.type)
        if known is None:
            assert given is not None  # a type that is only declared clashes with none
            raise WrongPortType(
                f"{type_name(self)} is given {given.label!r} of type {given.type} for its input "
                f"{name!r}",
                expected=f"a value of type {declared}",
                where=(*self.called_at, user_line()),
            )
        self.inputs.append(name)
        self.types[name] = known
        return Output(self, name, known)

    def peers(self, name: str, *, of: str) -> Output:
        """Declare an input that is a list of peers of one class."""
        check_class(of)
        # A part that asks for peers of its own class takes those of the class where it is called.
        part = self.parent is not None and of == keys.SELF_CLASS
        return self.input(name, peers("" if part else self.class_name(of, self.module)))

    def output(
        self, name: str, value: Output, *, after: Output | Sequence[Output] | None = None
    ) -> None:
        """Publish a value: one step for each frame of the region in which the value stands.

        Args:
            name: Name of the output.
            value: What to publish, as soon as it exists.
            after: What must have been done before.
        """
        self._new_port("output", name)
        value = self.own(value)
        node = self._append(keys.SYSCALL, keys.OUTPUT, [value], [name], {"name": name})
        onnx_tools.set_meta(node, keys.AFTER, self._listed(after))
        self.types[name] = value.type
        self.outputs[name] = value

    @overload
    def net_out(
        self,
        name: str,
        peers: Output,
        /,
        *,
        deadline: str = "",
        max_bytes: int | None = None,
        retries: int | None = None,
        replies: int = 1,
        ordered: bool = False,
    ) -> Output: ...
    @overload
    def net_out(
        self,
        name: str,
        peers: Output,
        a: Output,
        /,
        *,
        deadline: str = "",
        max_bytes: int | None = None,
        retries: int | None = None,
        replies: int = 1,
        ordered: bool = False,
    ) -> Output: ...
    @overload
    def net_out(
        self,
        name: str,
        peers: Output,
        a: Output,
        b: Output,
        /,
        *,
        deadline: str = "",
        max_bytes: int | None = None,
        retries: int | None = None,
        replies: int = 1,
        ordered: bool = False,
    ) -> tuple[Output, Output]: ...
    @overload
    def net_out(
        self,
        name: str,
        peers: Output,
        a: Output,
        b: Output,
        c: Output,
        /,
        *,
        deadline: str = "",
        max_bytes: int | None = None,
        retries: int | None = None,
        replies: int = 1,
        ordered: bool = False,
    ) -> tuple[Output, Output, Output]: ...
    @overload
    def net_out(
        self,
        name: str,
        peers: Output,
        /,
        *values: Output,
        deadline: str = "",
        max_bytes: int | None = None,
        retries: int | None = None,
        replies: int = 1,
        ordered: bool = False,
    ) -> Any: ...
    def net_out(
        self,
        name: str,
        peers: Output,
        /,
        *values: Output,
        deadline: str = "",
        max_bytes: int | None = None,
        retries: int | None = None,
        replies: int = 1,
        ordered: bool = False,
    ) -> Any:
        """Send values to peers, in one envelope per peer.

        Args:
            name: Name of the network edge; used once per Module.
            peers: Peers, or return addresses as `sender` gives them.
            values: What to send.
            deadline: How long an answer may take, such as `"30s"`.
            max_bytes: Longest payload of one envelope, as `bb explain` counts it; longer ones are
                neither sent nor taken. Left out, it is what the types of the values allow, and
                where they leave it open, what each Node takes.
            retries: How often an envelope is sent again, under the same number, until the peer
                says that it came: nothing runs twice for it. Left out, it is what the edge that
                this one answers says, and 0 where there is none.
            replies: How often a peer answers with this, where it is sent to return addresses in
                every turn of a block, such as an update after each epoch. The peer has answered
                with the last one; each is worked on as it comes.
            ordered: Whether each peer is to open what it gets on this edge in the order in which it
                was sent. What comes early waits there; for one that is lost it waits for half of
                its time, so say `retries=` too where losses are to be expected.

        Returns:
            The values as they arrive at the peers: a trigger when none was sent, an Output for
            one, a tuple for several.
        """
        check_name("edge", name)
        self._check_free("edge", name, taken=name in self._edges)
        to = self.own(peers)
        sent = [self.own(value) for value in values]
        attributes = {"deadline_ns": read_duration("deadline", deadline)} if deadline else {}
        if max_bytes is not None:
            attributes["max_bytes"] = read_size("max_bytes", max_bytes)
        if retries is not None:
            attributes["retries"] = read_retries(retries)
        if (often := read_replies(replies)) > 1:
            attributes["replies"] = often
        if read_flag("ordered", ordered):
            attributes["ordered"] = 1
        self._edges.add(name)
        outs = [self._fresh(name, type_) for type_ in [v.type for v in sent] or [TRIGGER]]
        node = self._append(keys.WIRE, keys.SEND, [to, *sent], [o.name for o in outs], attributes)
        onnx_tools.set_meta(node, keys.EDGE, name)
        return outs[0] if len(outs) == 1 else tuple(outs)

    def sender(self, received: Output) -> Output:
        """Return the return address of the peer whose envelope brought a value here."""
        value = self.own(received)
        out = self._fresh("sender", senders())
        self._append(keys.WIRE, keys.SENDER, [value], [out.name])
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
            deadline: How long to wait, such as `"30s"`; the frame's deadline when empty. With
                `"auto"` or `"auto, at most 30s"` a peer that takes longer than it and the others
                usually do is given up, and the gather waits at most so long for the rest: without
                `at most`, as long as the send over whose answers it gathers says.
            wait: `"all"` goes on waiting after the quorum, until all answered or the deadline.
            on_short: What happens when the quorum cannot be met: the frame fails, or goes on.
            on_late: `"run"` lets replies run that come after the gather fired.
            values: Also collect the values, in the order of the destinations. Of one that answered
                more than once (`replies=`) all are collected, in the order in which it sent them.
        """
        check_one_of("wait", wait, ("quorum", "all"))
        check_one_of("on_short", on_short, ("fail", "continue"))
        check_one_of("on_late", on_late, ("drop", "run"))
        value = self.own(value)
        attributes: dict[str, Any] = {
            "quorum": quorum_text(quorum), "wait": wait, "on_short": on_short, "on_late": on_late,
            "values": int(values),
        }  # fmt: skip
        if deadline:
            attributes |= read_deadline(deadline)
        if "auto" in attributes and on_late == "run":
            raise BadOption(
                f"on_late='run' with deadline={deadline!r}",
                expected="one of them: answers that are overdue are given up, and do not run",
                where=user_line(),
            )
        count = self._fresh("count", scalar("int64"))
        missing = self._fresh("missing", peers())
        back = self._fresh("senders", senders())
        collected = self._fresh("values", list_of(value.type)) if values else None
        outs = [count, missing, back, *([] if collected is None else [collected])]
        self._append(keys.SYSCALL, keys.GATHER, [value], [o.name for o in outs], attributes)
        return Gathered(count, missing, back, collected)

    def at(self, place: Output | str) -> AbstractContextManager[None]:
        """Place the ops recorded inside: where a value stands, or on a class.

        Ops after the block stand where they would stand without it.
        """
        if isinstance(place, Output):
            return self._placed(f"value:{self.own(place).name}")
        check_class(place)
        return self._placed(f"class:{place}")

    @contextmanager
    def _placed(self, place: str) -> Generator[None]:
        self._at.append(place)
        try:
            yield
        finally:
            self._at.pop()

    def constant(self, value: Any, dtype: str = "") -> Output:
        """Record a constant tensor: a number, nested lists, or an array.

        Without a dtype, numbers with a point become float32 and whole ones int64.
        """
        return self.constant_for(None, value, dtype)

    # What slots, values and the recording of parts call

    def tensor_op(self, op_type: str, *operands: Output | float) -> Output:
        """Record one ONNX op with one result on the Backend slot in scope.

        A number becomes a constant of the other operand's element type, where that stands.
        """
        slot = self._backend_slot()
        like = next(o for o in operands if isinstance(o, Output))
        dtype = like.type.dtype or "float32"
        ready = [
            o if isinstance(o, Output) else self.constant_for(like, o, dtype) for o in operands
        ]
        made = self.onnx_op(slot, op_type, ready, {}, 1)[0]
        # The compiler finds the shape; numbers that meet the result need its element type now.
        known = [o.type.dtype for o in operands if isinstance(o, Output) and o.type.dtype]
        made.type = self.types[made.name] = tensor(known[0] if known else "")
        return made

    def calculate(self, how: str, operands: Sequence[Output], result: Type) -> Output:
        """Record arithmetic, a comparison or logic on plain numbers and truth values."""
        out = self._fresh(how, result)
        self._append(keys.SYSCALL, "Calculate", operands, [out.name], {"how": how})
        return out

    def constant_for(self, user: Output | None, value: Any, dtype: str = "") -> Output:
        """Record a constant where the value stands that it is used with."""
        from onnx import numpy_helper

        array = to_array(value, dtype)
        kind = "string" if array.dtype == object else array.dtype.name
        slot = self._backend_slot()
        out = self._fresh("constant", tensor(kind, array.shape))
        data = {"value": numpy_helper.from_array(array)}
        node = self._append("", "Constant", [], [out.name], data)
        onnx_tools.set_meta(node, keys.SLOT, slot)
        if user is not None and not self._at:
            onnx_tools.set_meta(node, keys.AT, f"value:{user.name}")
        return out

    def onnx_op(
        self,
        slot: str,
        op_type: str,
        inputs: Sequence[Output | None],
        attributes: Mapping[str, Any],
        outputs: int,
    ) -> list[Output]:
        """Record one op of `ai.onnx` on a Backend slot; `None` leaves an optional input out."""
        own = [None if value is None else self.own(value) for value in inputs]
        outs = [self._fresh(op_type.lower(), tensor()) for _ in range(outputs)]
        node = self._append("", op_type, own, [o.name for o in outs], attributes)
        onnx_tools.set_meta(node, keys.SLOT, slot)
        return outs

    def role_op(
        self,
        role: str,
        slot: str,
        schema: OpSchema,
        inputs: Sequence[Output],
        attributes: Mapping[str, Any],
        *,
        after: Output | Sequence[Output] | None = None,
        types: Sequence[Type] = (),
    ) -> list[Output]:
        """Record one op of a role; returns one Output per result, a trigger when there is none."""
        own = [self.own(value) for value in inputs]
        names = self._listed(after)
        results = schema.results
        kinds = types or [port.type for port in results]
        outs = [self._fresh(p.name, t) for p, t in zip(results, kinds, strict=True)]
        node = self._append(
            keys.role_domain(role), schema.name, own, [o.name for o in outs], attributes
        )
        onnx_tools.set_meta(node, keys.SLOT, slot)
        onnx_tools.set_meta(node, keys.AFTER, names)
        if role_op(node.domain, schema.name) is None:
            onnx_tools.set_meta(node, keys.SCHEMA, schema.text())
        return outs

    def plugin_op(
        self,
        domain: str,
        schema: OpSchema,
        inputs: Sequence[Output],
        attributes: Mapping[str, Any],
        *,
        after: Output | Sequence[Output] | None = None,
    ) -> list[Output]:
        """Record one op that a plugin adds; returns one Output per result.

        Plugins offer functions of their own that call this: `clip(g, x, limit=1.0)`.

        Args:
            domain: The plugin's op domain.
            schema: The op.
            inputs: The values that it is given.
            attributes: Its attributes by name; floats of ONNX attributes have 32 bits.
            after: What must have been done before.

        Raises:
            BadOption: The domain is not a plugin's, or the op cannot take what it is given.
        """
        own = [self.own(value) for value in inputs]
        found = types_of_results(domain, schema, own, attributes)
        names = self._listed(after)
        outs = [self._fresh(p.name, t) for p, t in zip(schema.results, found, strict=True)]
        node = self._append(domain, schema.name, own, [o.name for o in outs], attributes)
        onnx_tools.set_meta(node, keys.AFTER, names)
        onnx_tools.set_meta(node, keys.SCHEMA, schema.text())
        return outs

    def slot_name(self, owner: Module, name: str, role: str, facts: Mapping[str, str]) -> str:
        """Return the name of a slot as seen from the root Module, and remember it."""
        path = self.path_of(owner)
        full = f"{path}.{name}" if path else name
        self.slots.setdefault(full, {"role": role, **facts})
        return full

    def class_name(self, of: str, owner: Module) -> str:
        """Return the class that `@self` means in the root Module; parts learn it when placed."""
        if of == keys.SELF_CLASS and owner is self.root.module:
            return owner.peer_class or type(owner).__name__
        return of

    def declare_slots(self) -> None:
        """Remember the slots of this Module that no op uses, so that they may be bound."""
        for handle in self.module.slots_of():
            handle.full_name(self)

    def path_of(self, part: Module) -> str:
        """Return the attributes that lead from the root Module to a part: the shortest way."""
        root = self.root
        if id(part) not in root._paths:  # noqa: SLF001  # same class
            root._paths = _paths(root.module)  # noqa: SLF001  # same class
        path = root._paths.get(id(part))  # noqa: SLF001  # same class
        if path is None:
            name = type(part).__name__
            raise UnnamedModule(
                f"{name} is no part of {type_name(root)}",
                expected="every Module whose slots are used is an attribute of another",
                fix=f"keep it: self.{name.lower()} = {name}(...)",
                where=user_line(),
            )
        return path

    def twin(self) -> Graph:
        """Return a graph for another function of the same Module: edges and calls stay apart."""
        graph = Graph(self.module, self.path)
        graph.functions, graph.slots = self.functions, self.slots
        graph._edges, graph._calls = self._edges, self._calls
        graph._named_at = self._named_at
        return graph

    def call_scope(self, attribute: str) -> str:
        """Return a name for one more call of a sub-module: its attribute, and which call it is."""
        self._calls[attribute] = self._calls.get(attribute, 0) + 1
        nth = self._calls[attribute]
        return attribute if nth == 1 else f"{attribute}~{nth}"

    def append_call(
        self, function: str, scope: str, actuals: Sequence[Output], results: Mapping[str, Output]
    ) -> dict[str, Output]:
        """Append the call node of a recorded sub-module."""
        outs = {name: self._fresh(name, value.type) for name, value in results.items()}
        names = [o.name for o in outs.values()] or [self._fresh("done", TRIGGER).name]
        node = self._append(keys.MODULE, function, actuals, names)
        onnx_tools.set_meta(node, keys.SCOPE, scope)
        return outs

    # Inside

    def _backend_slot(self) -> str:
        if not self._backend:
            self._backend = self._find_backend_slot()
        return self._backend

    def has_backend(self) -> bool:
        """Whether tensor maths here has a Backend slot, or several."""
        graph: Graph | None = self
        while graph is not None:
            if graph.module.slots_of("backend"):
                return True
            graph = graph.parent
        return False

    def _find_backend_slot(self) -> str:
        graph: Graph | None = self
        while graph is not None:
            found = graph.module.slots_of("backend")
            if len(found) == 1:
                return found[0].full_name(graph)
            if len(found) > 1:
                names = ", ".join(slot.name for slot in found)
                raise NoBackendInScope(
                    f"{type_name(graph)} has several Backend slots: {names}",
                    fix=f"call the op on one of them: self.{found[0].name}.add(g, a, b)",
                    where=user_line(),
                )
            graph = graph.parent
        raise NoBackendInScope(
            f"{type_name(self)} has no Backend slot for tensor maths",
            fix="add `backend = bb.slots.Backend()` to the class and bind it",
            where=user_line(),
        )


def _paths(root: Module) -> dict[int, str]:
    """Return the shortest way of attributes from a Module to each of its parts, by identity."""
    found = {id(root): ""}
    waiting = deque([root])
    while waiting:
        owner = waiting.popleft()
        for name, part in owner.submodules().items():
            if id(part) not in found:
                above = found[id(owner)]
                found[id(part)] = f"{above}.{name}" if above else name
                waiting.append(part)
    return found
