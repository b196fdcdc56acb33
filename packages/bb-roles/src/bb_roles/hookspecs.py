"""The hooks a plugin may implement. These docstrings are the reference for plugin authors."""

from __future__ import annotations

from bb_roles._hooks import hookspec
from bb_roles.spec import (
    CommandSpec,
    ComponentSpec,
    ExecutorSpec,
    OpsSpec,
    PlannerSpec,
    StageSpec,
    TransportSpec,
    TypeSpec,
)


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


@hookspec(firstresult=True)
def bb_command() -> CommandSpec:
    """Return the declaration of a command of `bb`.

    Called when somebody runs `bb <name>`, for the entry point `command.<name>`; `bb --help` reads
    metadata and calls nothing. The module must be light, and the command that it names is imported
    right after it: a `click.Command`, or a group of them. A name that `bb` has itself is never
    asked for. What the command raises is shown as errors of `bb` are: a subclass of
    `bb_ir.errors.BytesAndBrainsError` with its fix, anything else as a defect of the plugin.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def bb_transport() -> TransportSpec:
    """Return the declaration of a transport.

    Called when a host of a Node is told to use the entry point `transport.<name>`, once per
    process. The module must be light; the class that it names is imported when the host builds it.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def bb_planner() -> PlannerSpec:
    """Return the declaration of a planner.

    Called when somebody asks for the planner of the entry point `planner.<name>`, once per process.
    The module must be light; the class that it names is imported when the planner is built.
    Provisional, as the contract of planners is: a minor version may change it.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def bb_executor() -> ExecutorSpec:
    """Return the declaration of an executor.

    Called when somebody asks for the executor of the entry point `executor.<name>`, once per
    process. The module must be light; the class that it names is imported when the executor is
    built. Provisional, as the contract of executors is: a minor version may change it.
    """
    raise NotImplementedError
