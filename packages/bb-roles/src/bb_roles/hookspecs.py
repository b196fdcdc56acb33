"""The hooks a plugin may implement. These docstrings are the reference for plugin authors."""

from __future__ import annotations

from bb_roles._hooks import hookspec
from bb_roles.spec import ComponentSpec, OpsSpec


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
