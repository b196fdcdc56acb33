"""What a plugin declares about itself, without importing its implementation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bb_ir.ops import OpSchema

__all__ = ["API", "ComponentSpec", "OpsSpec", "StageSpec", "TypeSpec"]

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


@dataclass(frozen=True, slots=True)
class OpsSpec:
    """The framework ops of one domain.

    Attributes:
        domain: The op domain, such as `ai.bytesandbrains.syscall`.
        ops: Op type to `module:function`; the function takes the op's inputs in order and its
            attributes as keywords, and returns its result, or a tuple for several.
        api: Version of the contract it was written for.
    """

    domain: str
    ops: Mapping[str, str]
    api: tuple[int, int] = API


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


@dataclass(frozen=True, slots=True)
class StageSpec:
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

    name: str
    stage: str
    before: str = ""
    after: str = ""
    summary: str = ""
    api: tuple[int, int] = API
