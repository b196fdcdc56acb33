"""The driver: bindings in, passes in order, artifact out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self

from onnx import ModelProto

from bb_compiler.errors import CompileError, UnknownStage
from bb_compiler.passes import CANONICAL, Pass
from bb_ir import keys, onnx_tools
from bb_roles.contracts import CONTRACTS, Component
from bb_roles.registry import component_spec

__all__ = ["Compiler"]

_FORBIDDEN = frozenset("/|#")


class Compiler:
    """Turns a recorded Module into an artifact.

    A component is named as plugins are (`"fedavg"`), or handed in as a class. Bindings are
    checked when the program is compiled; a component that is not installed is reported at once.
    """

    def __init__(self) -> None:
        self._bindings: list[dict[str, Any]] = []
        self._stages: list[tuple[str, Pass]] = [(stage.__name__, stage) for stage in CANONICAL]

    def bind(
        self, slot: str, component: str | type[Component], *, role: str = "", on: str = ""
    ) -> Self:
        """Bind a slot to a component.

        Args:
            slot: Name of the slot, `<part>.<slot>` for one of a sub-module.
            component: Name of an installed component, or a class.
            role: Role of the component; needed for a name, known for a class.
            on: Peer class for which the binding is made; all when empty.

        Raises:
            PluginError: No installed plugin provides the component, or it is broken.
            CompileError: The class fills no role, or cannot be found again by an installer.
        """
        if isinstance(component, str):
            if not role:
                raise CompileError(
                    f"the role of component {component!r} for slot {slot!r} is not said",
                    fix=f'use bind_<role>("{slot}", "{component}") or bind(..., role=...)',
                )
            spec = component_spec(role, component)
            name, depends = spec.name, dict(spec.depends)
        else:
            role, name, depends = _describe_class(component, role)
        self._bindings = [
            row for row in self._bindings if (row["slot"], row["on"]) != (slot, on)
        ]
        row = {"slot": slot, "role": role, "component": name, "on": on, "depends": depends}
        self._bindings.append(row)
        return self

    def bind_backend(self, slot: str, component: str | type[Component], *, on: str = "") -> Self:
        """Bind a Backend slot."""
        return self.bind(slot, component, role="backend", on=on)

    def bind_model(self, slot: str, component: str | type[Component], *, on: str = "") -> Self:
        """Bind a Model slot."""
        return self.bind(slot, component, role="model", on=on)

    def bind_index(self, slot: str, component: str | type[Component], *, on: str = "") -> Self:
        """Bind an Index slot."""
        return self.bind(slot, component, role="index", on=on)

    def bind_aggregator(self, slot: str, component: str | type[Component], *, on: str = "") -> Self:
        """Bind an Aggregator slot."""
        return self.bind(slot, component, role="aggregator", on=on)

    def bind_codec(self, slot: str, component: str | type[Component], *, on: str = "") -> Self:
        """Bind a Codec slot."""
        return self.bind(slot, component, role="codec", on=on)

    def bind_data_source(
        self, slot: str, component: str | type[Component], *, on: str = ""
    ) -> Self:
        """Bind a DataSource slot."""
        return self.bind(slot, component, role="data_source", on=on)

    def bind_peer_selector(
        self, slot: str, component: str | type[Component], *, on: str = ""
    ) -> Self:
        """Bind a PeerSelector slot."""
        return self.bind(slot, component, role="peer_selector", on=on)

    def bind_protocol(self, slot: str, component: str | type[Component], *, on: str = "") -> Self:
        """Bind a Protocol slot."""
        return self.bind(slot, component, role="protocol", on=on)

    def insert_stage(self, stage: Pass, *, before: str = "", after: str = "") -> Self:
        """Add a stage of your own: a pure function from model to model.

        Raises:
            UnknownStage: Neither or both of `before` and `after` are given, or not in the list.
        """
        if bool(before) == bool(after):
            raise UnknownStage("a stage needs a place", expected="either before= or after=")
        at = self._stage(before or after) + (1 if after else 0)
        self._stages.insert(at, (getattr(stage, "__name__", type(stage).__name__), stage))
        return self

    def without_stage(self, name: str) -> Self:
        """Leave a stage out.

        Raises:
            UnknownStage: There is no such stage.
        """
        del self._stages[self._stage(name)]
        return self

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages in the order in which they run."""
        return tuple(name for name, _ in self._stages)

    def compile(self, model: ModelProto) -> ModelProto:
        """Return the artifact of a recorded model; `model` is left as it is.

        Raises:
            CompileError: The program breaks a rule; several errors of one pass come as
                `SeveralErrors`.
        """
        current = ModelProto()
        current.CopyFrom(model)
        onnx_tools.set_meta(current, keys.BINDINGS, json.dumps(self._bindings, sort_keys=True))
        for _, stage in self._stages:
            current = stage(current)
        onnx_tools.set_meta(current, keys.STAGES, ",".join(self.stages))
        return current

    def _stage(self, name: str) -> int:
        if name not in self.stages:
            raise UnknownStage(f"there is no stage {name!r}", expected=", ".join(self.stages))
        return self.stages.index(name)


def _describe_class(cls: type[Component], role: str) -> tuple[str, str, dict[str, str]]:
    """Return role, installable name and dependencies of a component class."""
    roles = [r for r, contract in CONTRACTS.items() if issubclass(cls, contract)]
    if not roles and not role:
        raise CompileError(
            f"{cls.__qualname__} fills no role",
            expected=f"a subclass of one of {', '.join(c.__name__ for c in CONTRACTS.values())}",
        )
    name = f"{cls.__module__}:{cls.__qualname__}"
    if "<locals>" in name or _FORBIDDEN & set(name):
        raise CompileError(
            f"{cls.__qualname__} cannot be found again when the artifact is installed",
            fix="define the class at the top level of a module",
        )
    return roles[0] if roles else role, name, _dependencies(cls.depends)


def _dependencies(depends: Mapping[str, type]) -> dict[str, str]:
    contracts = {contract: role for role, contract in CONTRACTS.items()}
    return {slot: contracts[contract] for slot, contract in depends.items()}
