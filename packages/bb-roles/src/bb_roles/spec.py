"""What a plugin declares about itself, without importing its implementation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["API", "ComponentSpec", "OpsSpec"]

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
    """

    role: str
    name: str
    cls: str
    api: tuple[int, int] = API
    summary: str = ""
    depends: Mapping[str, str] = field(default_factory=dict[str, str])
    types: Mapping[str, str] = field(default_factory=dict[str, str])


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
