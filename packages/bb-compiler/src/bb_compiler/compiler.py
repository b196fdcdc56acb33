"""The driver: bindings in, passes in order, artifact out."""

from __future__ import annotations

import json
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, Self

from onnx import ModelProto

from bb_compiler.errors import BadBinding, MalformedRecording, UnknownStage
from bb_compiler.explain import Explanation, explain, trace
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
        if role and role not in keys.ROLES:
            raise BadBinding(
                f"there is no role {role!r}, as which slot {slot!r} is bound",
                expected=f"one of {', '.join(keys.ROLES)}",
            )
        if isinstance(component, str):
            if not role:
                raise BadBinding(
                    f"the role of component {component!r} for slot {slot!r} is not said",
                    fix=f'use bind_<role>("{slot}", "{component}") or bind(..., role=...)',
                )
            spec = component_spec(role, component)
            name, depends, types = spec.name, dict(spec.depends), dict(spec.types)
        else:
            role, name, depends = _describe_class(component, role)
            types = dict(component.types)
        self._bindings = [row for row in self._bindings if (row["slot"], row["on"]) != (slot, on)]
        row: dict[str, Any] = {"slot": slot, "role": role, "component": name, "on": on}
        row |= {"depends": depends, "types": types}
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
        _check_recorded(model)
        current = ModelProto()
        current.CopyFrom(model)
        onnx_tools.set_meta(current, keys.BINDINGS, json.dumps(self._bindings, sort_keys=True))
        for _, stage in self._stages:
            current = stage(current)
        onnx_tools.set_meta(current, keys.STAGES, ",".join(self.stages))
        return current

    def _stage(self, name: str) -> int:
        if name not in self.stages:
            close = get_close_matches(name, self.stages, n=1)
            raise UnknownStage(
                f"there is no stage {name!r}",
                expected=", ".join(self.stages),
                fix=f"did you mean {close[0]!r}?" if close else "",
            )
        return self.stages.index(name)

    def explain(self, model: ModelProto) -> Explanation:
        """Compile a recorded model, and say what each stage changed and what came out.

        Raises:
            CompileError: The program breaks a rule.
        """
        _check_recorded(model)
        begun = ModelProto()
        begun.CopyFrom(model)
        onnx_tools.set_meta(begun, keys.BINDINGS, json.dumps(self._bindings, sort_keys=True))
        artifact, stages = trace(begun, self._stages)
        return replace(explain(artifact), stages=stages)


def _check_recorded(given: Any) -> None:
    """Check that a model is given: people forget `.build()`, or to make an instance."""
    if isinstance(given, type):
        raise MalformedRecording(
            f"the class {given.__qualname__} is no recorded model",
            fix=f"compile {given.__qualname__}().build()",
        )
    if not isinstance(given, ModelProto):
        name = type(given).__name__
        raise MalformedRecording(
            f"a {name} is no recorded model", fix=f"compile {name}(...).build()"
        )


def _describe_class(cls: Any, role: str) -> tuple[str, str, dict[str, str]]:
    """Return role, installable name and dependencies of a component class."""
    names = ", ".join(c.__name__ for c in CONTRACTS.values())
    contract = CONTRACTS.get(role)
    if isinstance(cls, type) and contract and not _role_of(cls):
        raise BadBinding(
            f"{cls.__qualname__} does not inherit bb_roles.{contract.__name__}",
            fix=f"class {cls.__name__}(bb_roles.{contract.__name__}): ...",
        )
    if not isinstance(cls, type) or not issubclass(cls, Component):
        raise BadBinding(
            f"{cls!r} is bound to a slot",
            expected="the name of an installed component, or a component class",
            fix="bind the class; its configuration is given when a Node is installed",
        )
    own = _role_of(cls)
    if not own and role != "protocol":
        raise BadBinding(
            f"{cls.__qualname__} fills no role", expected=f"a subclass of one of {names}"
        )
    name = f"{cls.__module__}:{cls.__qualname__}"
    if "<locals>" in name or _FORBIDDEN & set(name):
        raise BadBinding(
            f"{cls.__qualname__} cannot be found again when the artifact is installed",
            fix="define the class at the top level of a module",
        )
    depends: dict[str, str] = {}
    for slot, needed in cls.depends.items():
        depends[slot] = _role_of(needed)
        if not depends[slot]:
            raise BadBinding(
                f"{cls.__qualname__} depends on {slot!r} as a {needed!r}",
                expected=f"one of {names}",
            )
    return own or role, name, depends


def _role_of(cls: object) -> str:
    """Return the role of a component class or contract, or an empty text."""
    if not isinstance(cls, type):
        return ""
    return next((r for r, contract in CONTRACTS.items() if issubclass(cls, contract)), "")
