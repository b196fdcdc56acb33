"""What install and a running Node can object to. An error's code is the name of its class."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = [
    "ConfigTypeMismatch",
    "ConstructionFailed",
    "DeliveryError",
    "EmptyTargets",
    "IncompatibleCompiledVersion",
    "InstallError",
    "InvalidArtifact",
    "InvalidBindingTable",
    "InvalidInput",
    "MissingConfig",
    "NodeBroken",
    "NotAllowed",
    "NotCompiled",
    "OpError",
    "QuorumNotMet",
    "SlotBindingConflict",
    "UnknownTarget",
    "UnregisteredComponent",
    "UnresolvedOp",
]


class InstallError(BytesAndBrainsError):
    """An artifact that cannot become a Node here; nothing of it was kept."""


class InvalidArtifact(InstallError):
    """A file or message that is no ONNX model, or lacks what the compiler writes."""


class NotCompiled(InstallError):
    """A model without the compiler's passport."""


class IncompatibleCompiledVersion(InstallError):
    """An artifact of a compiler that this runtime does not understand."""


class EmptyTargets(InstallError):
    """No target was named."""


class UnknownTarget(InstallError):
    """A target that the artifact does not hold."""


class InvalidBindingTable(InstallError):
    """A row of the binding table that cannot be read."""


class SlotBindingConflict(InstallError):
    """Two rows for one slot of one target."""


class UnregisteredComponent(InstallError):
    """A component that is not installed here, or whose plugin is broken."""


class MissingConfig(InstallError):
    """A component needs a configuration value that was not given."""


class ConfigTypeMismatch(InstallError):
    """A configuration value has the wrong name or type."""


class ConstructionFailed(InstallError):
    """A component's constructor raised."""


class UnresolvedOp(InstallError):
    """An op that no component and no op plugin can carry out."""


class NotAllowed(InstallError):
    """The artifact binds a component that the operator did not allow."""


class DeliveryError(BytesAndBrainsError):
    """An envelope that cannot be delivered."""


class OpError(BytesAndBrainsError):
    """A failure inside a running frame, or a call that cannot start one."""


class InvalidInput(OpError):
    """Inputs of an invocation that do not fit the target."""


class QuorumNotMet(OpError):
    """Too few peers answered."""


class NodeBroken(OpError):
    """A Node through which something passed that is no `Exception`, such as Ctrl-C."""
