"""The hooks a plugin may implement. These docstrings are the reference for plugin authors."""

from __future__ import annotations

from bb_roles._hooks import hookspec
from bb_roles.spec import ComponentSpec, OpsSpec, StageSpec, TypeSpec


@hookspec(firstresult=True)
def bb_component() -> ComponentSpec:
    """Return the declaration of a component.

    Called when a user binds the entry point `<role>.<name>`, once per process. The module that
    holds the hook must be light: no numpy, no torch. The class it names is imported later, when
    the component is built. Do no work here; return a constant.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def bb_ops() -> OpsSpec:
    """Return the declaration of an op domain.

    Called at install when an artifact uses the domain of the entry point `op.<domain>`, where
    `ai.bytesandbrains.` is left out of the domain. Functions named in it must be pure: no state,
    no I/O, no clock, no randomness.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def bb_type() -> TypeSpec:
    """Return the declaration of a type of values, in one version.

    Called at install when an artifact takes or sends values of the type, once per process. The
    entry point is `type.<name>.<version>`, so `type.acme.graph.1` for `acme.graph/1`; compiling
    reads this name and does not call the hook. Each version has a module and a hook of its own,
    and several may be installed side by side: they are different types. Like that of a component,
    the module must be light; the classes it names are imported when a Node is installed.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def bb_stage() -> StageSpec:
    """Return the declaration of a stage of the compiler.

    Called when somebody inserts the stage by the name of its entry point, `stage.<name>`, once per
    process; to be installed is not enough for a stage to run. The module must be light. The
    function that it names is imported at the same time and called once for each program that is
    compiled: a pure function from model to model, without I/O, clock or randomness. To refuse a
    program it raises a `bb_ir.errors.BytesAndBrainsError` that says what was found, what was
    expected, the fix, and where in the user's files.
    """
    raise NotImplementedError
