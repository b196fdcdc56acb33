"""What a plugin declares about itself, without importing its implementation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from bb_ir import keys

if TYPE_CHECKING:
    from bb_ir.ops import OpSchema

__all__ = [
    "API",
    "CommandSpec",
    "ComponentSpec",
    "ExecutorSpec",
    "OpsSpec",
    "PlannerSpec",
    "StageSpec",
    "TransportSpec",
    "TypeSpec",
]

#: Version of the contract that this package speaks: (major, minor).
API: tuple[int, int] = (1, 0)


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """One component of a plugin.

    Attributes:
        role: One of the roles in `bb_ir.keys.ROLES`.
        name: The name users bind it by; with the role it is the entry point's name.
        cls: The class as `module:Class`; imported only when the component is bound.
        api: Version of the contract it was written for.
        summary: One line for `bb plugins`.
        depends: Sibling slots it needs: slot name to role.
        types: What is known of its values beyond its role: `<Op>.<port>`, as `bb_ir.ops` names
            them, to the text of a type, such as `{"Encode.encoded": "params"}`.
        ops: Ops it has beside those of its role, as `bb_ir.ops.ops` makes them; the class says the
            same in its attribute `ops`.
    """

    role: str
    name: str
    cls: str
    api: tuple[int, int] = API
    summary: str = ""
    depends: Mapping[str, str] = field(default_factory=dict[str, str])
    types: Mapping[str, str] = field(default_factory=dict[str, str])
    ops: Mapping[str, OpSchema] = field(default_factory=dict[str, "OpSchema"])

    @property
    def point(self) -> str:
        """The name of its entry point."""
        return f"{self.role}.{self.name}"


@dataclass(frozen=True, slots=True)
class OpsSpec:
    """The framework ops of one domain.

    Attributes:
        domain: The op domain, such as `ai.bytesandbrains.syscall`.
        ops: Op type to `module:function`; the function takes the op's inputs in order and its
            attributes as keywords, and returns its result, or a tuple for several.
        api: Version of the contract it was written for.
        summary: One line for `bb plugins`.
        schemas: Op type to what the op takes and gives, as `bb_ir.ops.ops` makes them; programs
            carry them, so the compiler checks what the ops are given and knows what they give.
            What a schema says of effects and rounds is for ops of components, and means nothing.
    """

    domain: str
    ops: Mapping[str, str]
    api: tuple[int, int] = API
    summary: str = ""
    schemas: Mapping[str, OpSchema] = field(default_factory=dict[str, "OpSchema"])

    @property
    def point(self) -> str:
        """The name of its entry point."""
        return f"op.{str(self.domain).removeprefix(keys.PREFIX)}"


@dataclass(frozen=True, slots=True)
class TypeSpec:
    """A type of values, in one version.

    Attributes:
        name: The type's name and version, such as `acme.graph/1`. What it means never changes;
            what has other bytes is another version.
        cls: The Python class of its values as `module:Class`; free to be renamed and moved.
        codec: The class of its codec as `module:Class`, a `bb_roles.TypeCodec`.
        max_bytes: Longest encoding of one value; longer ones are refused unread.
        api: Version of the contract it was written for.
        summary: One line for `bb plugins`.
    """

    name: str
    cls: str
    codec: str
    max_bytes: int = 1 << 20
    api: tuple[int, int] = API
    summary: str = ""

    @property
    def point(self) -> str:
        """The name of its entry point."""
        return f"type.{str(self.name).replace('/', '.')}"


@dataclass(frozen=True, slots=True)
class NamedSpec:
    """What has a kind of its own, and a name within that kind.

    Attributes:
        name: The name users know it by; with the kind and a dot before it, the entry point's name.
    """

    _kind: ClassVar[str]

    name: str

    @property
    def point(self) -> str:
        """The name of its entry point."""
        return f"{self._kind}.{self.name}"


@dataclass(frozen=True, slots=True)
class StageSpec(NamedSpec):
    """A stage of the compiler.

    Attributes:
        name: The name users insert it by; with `stage.` before it, the entry point's name.
        stage: The function as `module:function`; imported only when somebody inserts the stage.
            It takes an `onnx.ModelProto` and returns one, and changes neither its argument nor
            anything else.
        before: The stage before which it runs, unless whoever inserts it says otherwise.
        after: The stage after which it runs; exactly one of the two is given.
        summary: One line for `bb plugins`.
        api: Version of the contract it was written for.
    """

    _kind: ClassVar[str] = "stage"

    stage: str
    before: str = ""
    after: str = ""
    summary: str = ""
    api: tuple[int, int] = API


@dataclass(frozen=True, slots=True)
class CommandSpec(NamedSpec):
    """A command of `bb`.

    Attributes:
        name: What follows `bb` on the command line, such as `inspect`; with `command.` before it,
            the entry point's name.
        command: The `click.Command` as `module:name`; imported only when somebody runs it.
        summary: One line for `bb plugins`; `bb --help` imports nothing and shows who brings it.
        api: Version of the contract it was written for.
    """

    _kind: ClassVar[str] = "command"

    command: str
    summary: str = ""
    api: tuple[int, int] = API


@dataclass(frozen=True, slots=True)
class TransportSpec(NamedSpec):
    """A way in which envelopes get from Node to Node.

    Attributes:
        name: The name users choose it by; with `transport.` before it, the entry point's name.
        cls: The class as `module:Class`, a `bb_roles.Transport`; imported when a Node uses it.
        schemes: What an address holds that this transport serves, each the names of protocols of
            an address that stand after its host: `tcp`, `tcp/tls/ws`, `memory`.
        summary: One line for `bb plugins`.
        api: Version of the contract it was written for.
    """

    _kind: ClassVar[str] = "transport"

    cls: str
    schemes: tuple[str, ...]
    summary: str = ""
    api: tuple[int, int] = API


@dataclass(frozen=True, slots=True)
class PlannerSpec(NamedSpec):
    """Something that makes plans of data movements.

    Attributes:
        name: The name users choose it by; with `planner.` before it, the entry point's name.
        cls: The class as `module:Class`, a `bb_roles.Planner`; imported when a planner is built.
        plans: Which plans it makes: `swap`, `cache`, or both.
        summary: One line for `bb plugins`.
        api: Version of the contract it was written for.
    """

    _kind: ClassVar[str] = "planner"

    cls: str
    plans: tuple[str, ...]
    summary: str = ""
    api: tuple[int, int] = API


@dataclass(frozen=True, slots=True)
class ExecutorSpec(NamedSpec):
    """Something that carries plans of data movements out.

    Attributes:
        name: The name users choose it by; with `executor.` before it, the entry point's name.
        cls: The class as `module:Class`, a `bb_roles.Executor`; imported when one is built.
        moves: Which ops it carries out: names of `bb_ir.plan.TransferKind`, such as `STORAGE2H`.
        summary: One line for `bb plugins`.
        api: Version of the contract it was written for.
    """

    _kind: ClassVar[str] = "executor"

    cls: str
    moves: tuple[str, ...]
    summary: str = ""
    api: tuple[int, int] = API
