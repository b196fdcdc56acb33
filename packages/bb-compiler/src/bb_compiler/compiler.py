"""The driver: bindings in, passes in order, artifact out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from onnx import ModelProto

from bb_compiler._bind_lines import line_of_call, line_of_row, places
from bb_compiler._configs import configure
from bb_compiler._stages import CANONICAL_STAGES, Stage, own_stage, plugin_stage, unknown_stage
from bb_compiler.errors import (
    BadBinding,
    BadConfig,
    BoundTwice,
    ComponentTypeMisfit,
    MalformedRecording,
    UnknownStage,
)
from bb_compiler.passes import Pass
from bb_ir import keys, onnx_tools
from bb_ir.errors import SourceLine
from bb_roles.contracts import CONTRACTS, Component
from bb_roles.registry import bound_class, component_spec

if TYPE_CHECKING:
    from bb_compiler.explain import Explanation

__all__ = ["Compiler"]

_FORBIDDEN = frozenset("/|#")


class Compiler:
    """Turns a recorded Module into an artifact.

    A component is named as plugins are (`"fedavg"`), or handed in as a class. Bindings are
    checked when the program is compiled; a component that is not installed is reported at once.
    """

    def __init__(self) -> None:
        self._bindings: list[dict[str, Any]] = []
        self._stages = list(CANONICAL_STAGES)

    def bind(
        self,
        slot: str,
        component: str | type[Component],
        *,
        role: str = "",
        on: str = "",
        config: object = None,
        replace: bool = False,
    ) -> Self:
        """Bind a slot to a component.

        Args:
            slot: Name of the slot, `<part>.<slot>` for one of a sub-module.
            component: Name of an installed component, or a class.
            role: Role of the component; needed for a name, known for a class.
            on: Peer class for which the binding is made; all when empty.
            config: What the component is configured with unless `install` says otherwise, field
                by field: a mapping, or an instance of its `Config`. The artifact holds it as plain
                data, so it is no place for secrets. The component's class is imported, and the
                types that follow from the configuration are checked across the network.
            replace: The slot may be bound already, and is bound to this one from now on.

        Raises:
            PluginError: No installed plugin provides the component, or it is broken.
            CompileError: The slot is bound already; the class fills no role, or cannot be found
                again by an installer; or the configuration does not fit the component, or is no
                plain data.
        """
        line = line_of_call()
        if role and role not in keys.ROLES:
            raise BadBinding(
                f"there is no role {role!r}, as which slot {slot!r} is bound",
                expected=f"one of {', '.join(keys.ROLES)}",
                where=places(line),
            )
        if not replace:
            self._check_once(slot, component, on, line)
        if isinstance(component, str):
            if not role:
                raise BadBinding(
                    f"the role of component {component!r} for slot {slot!r} is not said",
                    fix=f'use bind_<role>("{slot}", "{component}") or bind(..., role=...)',
                    where=places(line),
                )
            spec = component_spec(role, component)
            name, depends, types = spec.name, dict(spec.depends), dict(spec.types)
            ops = spec.ops
        else:
            role, name, depends = _described(component, role, line)
            types, ops = dict(component.types), component.ops
        row: dict[str, Any] = {"slot": slot, "role": role, "component": name, "on": on}
        row |= {"depends": depends, "types": types, "line": "" if line is None else str(line)}
        row["ops"] = {op: schema.text() for op, schema in ops.items()}
        if config is not None:
            _add_config(row, component, config, line)
        self._bindings = [row for row in self._bindings if (row["slot"], row["on"]) != (slot, on)]
        self._bindings.append(row)
        return self

    def bind_backend(
        self, slot: str, component: str | type[Component], *, on: str = "", config: object = None
    ) -> Self:
        """Bind a Backend slot."""
        return self.bind(slot, component, role="backend", on=on, config=config)

    def bind_model(
        self, slot: str, component: str | type[Component], *, on: str = "", config: object = None
    ) -> Self:
        """Bind a Model slot."""
        return self.bind(slot, component, role="model", on=on, config=config)

    def bind_index(
        self, slot: str, component: str | type[Component], *, on: str = "", config: object = None
    ) -> Self:
        """Bind an Index slot."""
        return self.bind(slot, component, role="index", on=on, config=config)

    def bind_aggregator(
        self, slot: str, component: str | type[Component], *, on: str = "", config: object = None
    ) -> Self:
        """Bind an Aggregator slot."""
        return self.bind(slot, component, role="aggregator", on=on, config=config)

    def bind_codec(
        self, slot: str, component: str | type[Component], *, on: str = "", config: object = None
    ) -> Self:
        """Bind a Codec slot."""
        return self.bind(slot, component, role="codec", on=on, config=config)

    def bind_data_source(
        self, slot: str, component: str | type[Component], *, on: str = "", config: object = None
    ) -> Self:
        """Bind a DataSource slot."""
        return self.bind(slot, component, role="data_source", on=on, config=config)

    def bind_peer_selector(
        self, slot: str, component: str | type[Component], *, on: str = "", config: object = None
    ) -> Self:
        """Bind a PeerSelector slot."""
        return self.bind(slot, component, role="peer_selector", on=on, config=config)

    def bind_protocol(
        self, slot: str, component: str | type[Component], *, on: str = "", config: object = None
    ) -> Self:
        """Bind a Protocol slot."""
        return self.bind(slot, component, role="protocol", on=on, config=config)

    def insert_stage(self, stage: str | Pass, *, before: str = "", after: str = "") -> Self:
        """Add a stage: a pure function from model to model, or the name of an installed one.

        Args:
            stage: A function of your own, or the name that a plugin gives its stage. Stages of
                plugins run only when they are named here.
            before: The stage before which it runs.
            after: The stage after which it runs. For the stage of a plugin both may be left out;
                it then stands where the plugin says.

        Raises:
            UnknownStage: There is no such stage, or no such place; or both places are given, or
                neither for a function.
            BadStage: It is no stage, is there already, or has the name of a stage of the compiler.
            PluginError: The plugin that provides it is broken.
        """
        new = plugin_stage(stage, self.stages) if isinstance(stage, str) else own_stage(stage)
        at = self._place(before, after, new)
        self._stages.insert(at, new)
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
        return tuple(stage.name for stage in self._stages)

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
        for stage in self._stages:
            current = stage.run(current)
        onnx_tools.set_meta(current, keys.STAGES, ",".join(self.stages))
        for stage in self._stages:
            if stage.origin:
                onnx_tools.set_meta(current, keys.STAGE + stage.name, stage.origin)
        return current

    def _check_once(self, slot: str, component: object, on: str, line: SourceLine | None) -> None:
        """Check that a slot is not bound already: who reads the first line would be misled."""
        for row in self._bindings:
            if (row["slot"], row["on"]) == (slot, on):
                new = component if isinstance(component, str) else _label(component)
                place = f" on class {on!r}" if on else ""
                raise BoundTwice(
                    f"slot {slot!r} is bound to {new!r}{place}, and to {row['component']!r} before",
                    expected="one binding for each slot, or for each slot and class",
                    fix="leave one of them out; on=<class> binds one class only, and "
                    f"bind({slot!r}, ..., replace=True) another component than before",
                    where=places(line, line_of_row(row)),
                )

    def _place(self, before: str, after: str, new: Stage) -> int:
        """Return where a stage is inserted."""
        if before and after:
            raise UnknownStage(
                f"stage {new.name!r} is given two places", expected="either before= or after="
            )
        if before or after:
            return self._stage(before or after) + bool(after)
        if not (new.before or new.after):
            raise UnknownStage(
                f"stage {new.name!r} needs a place", expected="either before= or after="
            )
        wanted = new.before or new.after
        advice = f"{new.origin} wants its place there; say another with before= or after="
        return self._stage(wanted, advice) + bool(new.after)

    def _stage(self, name: str, fix: str = "") -> int:
        if name not in self.stages:
            raise unknown_stage(name, self.stages, fix)
        return self.stages.index(name)

    def explain(
        self,
        model: ModelProto,
        *,
        cohort: Mapping[str, int] | None = None,
        dims: Mapping[str, int] | None = None,
    ) -> Explanation:
        """Compile a recorded model, and say what each stage changed and what came out.

        Args:
            model: What `Module.build` returned.
            cohort: How many peers of a class one send addresses, by class; see
                `bb_compiler.explain.explain`.
            dims: Lengths of dimensions that the program leaves open, by name.

        Raises:
            CompileError: The program breaks a rule, or has no such class or dimension.
        """
        from bb_compiler.explain import explain, trace  # here, as compiling needs no drawings

        _check_recorded(model)
        begun = ModelProto()
        begun.CopyFrom(model)
        onnx_tools.set_meta(begun, keys.BINDINGS, json.dumps(self._bindings, sort_keys=True))
        artifact, ran = trace(begun, [(stage.name, stage.run) for stage in self._stages])
        stages = tuple(
            replace(told, origin=stage.origin)
            for told, stage in zip(ran, self._stages, strict=True)
        )
        return replace(explain(artifact, cohort=cohort, dims=dims), stages=stages)


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
            fix="bind the class, with config=... or a configuration given to install",
        )
    own = _role_of(cls)
    if not own:
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
    return own, name, depends


def _label(component: object) -> str:
    return getattr(component, "__qualname__", repr(component))


def _described(cls: Any, role: str, line: SourceLine | None) -> tuple[str, str, dict[str, str]]:
    """Return role, installable name and dependencies of a component class."""
    try:
        return _describe_class(cls, role)
    except BadBinding as error:
        error.where = places(line)
        raise


def _add_config(
    row: dict[str, Any], component: str | type[Component], config: object, line: SourceLine | None
) -> None:
    """Note in a binding what it is configured with, and the types that follow from it."""
    if isinstance(component, str):
        component = bound_class(row["role"], component)
    try:
        known = configure(component, config, row["slot"], row["component"])
    except (BadConfig, ComponentTypeMisfit) as error:
        error.where = (*(place for place in error.where if place), *places(line))
        raise
    row["config"] = known.text
    if known.types is not None:
        row["value_types"] = known.types
        row["types"] = {**row["types"], **known.types}
        if _function(component.infer_types) is not _function(Component.infer_types):
            row["infers"] = True  # only such classes are asked again when types are solved


def _function(method: Any) -> object:
    return getattr(method, "__func__", method)


def _role_of(cls: object) -> str:
    """Return the role of a component class or contract, or an empty text."""
    if not isinstance(cls, type):
        return ""
    return next((r for r, contract in CONTRACTS.items() if issubclass(cls, contract)), "")
